//! The storefront's cart: an unmodified `lambda_runtime` function.

mod cache;
mod cart;
mod shop;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use shop::Shop;
use tokio::sync::Mutex;

// One invocation at a time runs in an environment, so one thread is all it needs.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let shop = Mutex::new(Shop::from_environment());
    let shop = &shop;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        Ok::<Value, Error>(shop.lock().await.answer(&event.payload).await)
    }))
    .await
}
