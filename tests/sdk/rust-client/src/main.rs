//! AWS's SDK for Rust as it is published: what it saw, as JSON. Driven by `tests/sdk/test_other_sdks.py`, and inside a function of
//! a VPC by `tests/vpc/test_clients.py`.

use aws_credential_types::Credentials;
use aws_sdk_lambda::client::Waiters as _;
use aws_sdk_lambda::config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::create_function::CreateFunctionOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    FunctionCode, InvocationType, InvokeWithResponseStreamResponseEvent as Event, LogType, Runtime,
};
use aws_sdk_lambda::{Client, Config};
use aws_smithy_http_client::tls;
use serde_json::{Value, json};
use std::error::Error;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, function] = words.as_slice()
        && word == "inside"
    {
        return inside(function).await;
    }
    let [endpoint, role, echo, rogue, streams] = words.as_slice() else { return Err("five words".into()) };
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("test", "test", None))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);
    let mut seen = json!({});

    let made = create(&client, role, "rust-cart", echo).await?;
    let package = made.package_type().map(|kind| kind.as_str());
    seen["made"] = json!([made.function_name(), made.version(), package, made.timeout()]);
    client.wait_until_function_active_v2().function_name("rust-cart").wait(WAIT).await?;
    let ran = client
        .invoke()
        .function_name("rust-cart")
        .payload(blob(r#"{"hello": "wörld"}"#))
        .log_type(LogType::Tail);
    let ran = ran.send().await?;
    let log = aws_smithy_types::base64::decode(ran.log_result().unwrap_or_default())?;
    let is_whole = String::from_utf8_lossy(&log).contains("REPORT RequestId: ");
    seen["invoked"] = json!([
        ran.status_code(),
        text(ran.payload()),
        ran.executed_version(),
        ran.function_error(),
        is_whole
    ]);
    let queued =
        client.invoke().function_name("rust-cart").invocation_type(InvocationType::Event).payload(blob("{}"));
    seen["queued"] = json!(queued.send().await?.status_code());

    let update =
        client.update_function_code().function_name("rust-cart").zip_file(Blob::new(std::fs::read(rogue)?));
    update.send().await?;
    client.wait_until_function_updated_v2().function_name("rust-cart").wait(WAIT).await?;
    let failed =
        client.invoke().function_name("rust-cart").payload(blob(r#"{"do": "exit1"}"#)).send().await?;
    let document: Value = serde_json::from_str(&text(failed.payload()))?;
    seen["failed"] = json!([failed.status_code(), failed.function_error(), document["errorType"]]);

    create(&client, role, "rust-streams", streams).await?;
    client.wait_until_function_active_v2().function_name("rust-streams").wait(WAIT).await?;
    let order = json!({"pieces": ["one,", "two,", "three"], "pause_ms": 20}).to_string();
    let streamed =
        client.invoke_with_response_stream().function_name("rust-streams").payload(blob(&order)).send();
    let mut stream = streamed.await?.event_stream;
    let mut whole = String::new();
    while let Some(event) = stream.recv().await? {
        match event {
            Event::PayloadChunk(chunk) => whole += &text(chunk.payload()),
            Event::InvokeComplete(end) => seen["complete"] = json!(end.error_code()),
            other => return Err(format!("{other:?}").into()),
        }
    }
    seen["streamed"] = json!(whole);

    let mut names = Vec::new();
    let mut pages = client.list_functions().into_paginator().page_size(1).send();
    while let Some(page) = pages.next().await {
        names.extend(
            page?.functions().iter().map(|found| found.function_name().unwrap_or_default().to_owned()),
        );
    }
    seen["listed"] = json!(names);

    let reserve =
        client.put_function_concurrency().function_name("rust-cart").reserved_concurrent_executions(0);
    reserve.send().await?;
    let refused = client.invoke().function_name("rust-cart").send().await.expect_err("nothing is reserved");
    let status = status(&refused);
    seen["throttled"] = match refused.into_service_error() {
        aws_sdk_lambda::operation::invoke::InvokeError::TooManyRequestsException(error) => {
            json!([status, error.reason().map(|reason| reason.as_str())])
        }
        other => json!(other.to_string()),
    };
    for name in ["rust-cart", "rust-streams"] {
        client.delete_function().function_name(name).send().await?;
    }
    let missing = client.get_function().function_name("rust-cart").send().await.expect_err("it is deleted");
    let status = self::status(&missing);
    let missing = missing.into_service_error();
    seen["missing"] = match missing.is_resource_not_found_exception() {
        true => json!([status, missing.meta().message()]),
        false => json!(missing.to_string()),
    };
    println!("{seen}");
    Ok(())
}

/// As programs in functions do: everything but the client's cryptography from the environment, the service at its usual name.
async fn inside(function: &str) -> Result<(), Box<dyn Error>> {
    let of = std::env::var;
    let (key, secret) = (of("AWS_ACCESS_KEY_ID")?, of("AWS_SECRET_ACCESS_KEY")?);
    let credentials = Credentials::new(key, secret, of("AWS_SESSION_TOKEN").ok(), None, "environment");
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(of("AWS_REGION")?))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().tls_provider(tls).build_https())
        .build();
    let ran =
        Client::from_conf(config).invoke().function_name(function).payload(blob(r#"{"from": "inside"}"#));
    let ran = ran.send().await?;
    println!("{}", json!([ran.status_code(), text(ran.payload())]));
    Ok(())
}

async fn create(
    client: &Client,
    role: &str,
    name: &str,
    zip: &str,
) -> Result<CreateFunctionOutput, Box<dyn Error>> {
    let code = FunctionCode::builder().zip_file(Blob::new(std::fs::read(zip)?)).build();
    let request = client.create_function().function_name(name).role(role).runtime(Runtime::Providedal2023);
    Ok(request.handler("bootstrap").code(code).timeout(10).send().await?)
}

fn blob(text: &str) -> Blob {
    Blob::new(text.as_bytes())
}

fn text(payload: Option<&Blob>) -> String {
    String::from_utf8_lossy(payload.map(AsRef::as_ref).unwrap_or_default()).into_owned()
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
