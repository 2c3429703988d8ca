//! An extension on the public crate: appends each event and all telemetry it gets to `/tmp/watcher`, where the function
//! reads it, and tells of its events on its output.

use lambda_extension::{
    Error, Extension, LambdaEvent, LambdaTelemetry, LogBuffering, NextEvent, SharedService, service_fn,
};
use std::fs::OpenOptions;
use std::io::Write;

fn note(line: &str) -> Result<(), Error> {
    let mut file = OpenOptions::new().create(true).append(true).open("/tmp/watcher")?;
    Ok(writeln!(file, "{line}")?)
}

async fn on_event(event: LambdaEvent) -> Result<(), Error> {
    let told = match event.next {
        NextEvent::Invoke(invoke) => format!("INVOKE {} {}", invoke.request_id, invoke.invoked_function_arn),
        NextEvent::Shutdown(shutdown) => format!("SHUTDOWN {}", shutdown.shutdown_reason),
    };
    println!("watcher: {told}");
    note(&told)
}

async fn on_telemetry(events: Vec<LambdaTelemetry>) -> Result<(), Error> {
    events.iter().try_for_each(|event| note(&serde_json::to_string(event)?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let buffering = LogBuffering { timeout_ms: 25, ..LogBuffering::default() };
    Extension::new()
        .with_events_processor(service_fn(on_event))
        .with_telemetry_processor(SharedService::new(service_fn(on_telemetry)))
        .with_telemetry_types(&["platform", "function"])
        .with_telemetry_buffering(buffering)
        .run()
        .await
}
