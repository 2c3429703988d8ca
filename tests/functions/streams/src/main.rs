//! Streams what the event asks for: `{"pieces": ["a", "b"], "pause_ms": 10}`, or `{"bytes": N, "piece": N}` as fast as it
//! goes. With `status` it answers over HTTP; with `clock` each piece is the time of its writing, in nanoseconds of Unix time;
//! with `fails` the body breaks off after its pieces.

use lambda_runtime::streaming::{Body, Response, channel};
use lambda_runtime::{Error, LambdaEvent, MetadataPrelude, service_fn};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(answer)).await
}

async fn answer(event: LambdaEvent<Value>) -> Result<Response<Body>, Error> {
    // An HTTP event's body is the order.
    let order = match event.payload["body"].as_str() {
        Some(body) => serde_json::from_str(body)?,
        None => event.payload,
    };
    let status = order["status"].as_u64().map(|status| status as u16);
    let (mut sender, body) = channel();
    tokio::spawn(async move {
        let pause = Duration::from_millis(order["pause_ms"].as_u64().unwrap_or(0));
        for piece in order["pieces"].as_array().into_iter().flatten() {
            let text = if order["clock"] == true { now() } else { piece.as_str().unwrap_or("").to_owned() };
            if sender.send_data(text.into()).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
        let mut left = order["bytes"].as_u64().unwrap_or(0) as usize;
        let piece: &'static [u8] = vec![b'x'; order["piece"].as_u64().unwrap_or(131_072) as usize].leak();
        while left > 0 {
            let next = left.min(piece.len());
            if sender.send_data(piece[..next].into()).await.is_err() {
                return;
            }
            left -= next;
        }
        if order["fails"] == true {
            sender.abort();
        }
    });
    let mut metadata_prelude = MetadataPrelude::default();
    if let Some(status) = status {
        metadata_prelude.status_code = status.try_into()?;
        metadata_prelude.headers.insert("x-kind", "streamed".parse()?);
        metadata_prelude.cookies.push("a=1".to_owned());
    }
    Ok(Response { metadata_prelude, stream: body })
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("{}\n", since.map_or(0, |since| since.as_nanos()))
}
