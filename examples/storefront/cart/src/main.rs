//! The storefront's cart: an unmodified `lambda_runtime` function.

mod cart;

use std::cell::RefCell;

use cart::Carts;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

// One invocation at a time runs in an environment, so one thread is all it needs.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let carts = RefCell::new(Carts::default());
    let carts = &carts;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        Ok::<Value, Error>(carts.borrow_mut().answer(&event.payload))
    }))
    .await
}
