//! What is asked of whoever keeps the platform as its template says: `POST /_onrush/…`.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// Orders that wait; what comes above is refused.
pub const ORDERS_MAX: usize = 16;

/// Something to be done with the whole platform.
#[derive(Debug)]
pub enum Order {
    /// Deploy a template again, or another one: the request's body, an object.
    Deploy(Value),
}

/// An order, and where its outcome goes.
#[derive(Debug)]
pub struct Ordered {
    /// What is to be done.
    pub order: Order,
    /// Who waits for it.
    pub reply: oneshot::Sender<Outcome>,
}

/// A page for the caller, or why it could not be done.
pub type Outcome = Result<Value, Refusal>;

/// Why an order could not be carried out.
#[derive(Debug)]
pub struct Refusal {
    /// In words, for people.
    pub message: String,
    /// What is wrong with the template, if that is why: `file:line:column: message` each.
    pub problems: Vec<String>,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message, problems: Vec::new() }
    }
}

/// The end that takes orders.
pub type Orders = mpsc::Receiver<Ordered>;

/// A way to give orders, and the end that takes them.
pub fn channel() -> (mpsc::Sender<Ordered>, Orders) {
    mpsc::channel(ORDERS_MAX)
}
