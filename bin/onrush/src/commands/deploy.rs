//! `onrush deploy`.

use super::client::{block_on, send};
use crate::Stop;
use crate::arguments::{Deploy, Output};
use crate::{samconfig, stack};
use anyhow::{Context as _, anyhow};
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

pub fn run(arguments: &Deploy) -> Result<ExitCode, Stop> {
    let endpoint = &arguments.endpoint.endpoint;
    let template = &mut arguments.template.clone();
    samconfig::apply(&arguments.sam_config, template, &["deploy"])?;
    let mut wanted = json!({
        "parameter_overrides": template.parameter_overrides,
        "imports": template.imports,
        "stack_name": template.stack_name,
    });
    if let Some(path) = stack::find(template) {
        // Its problems are shown here, where they are wanted, and nothing is asked of anybody.
        stack::check(&path, template, port_of(endpoint))?;
        let path = std::path::absolute(&path).context("this folder is gone")?;
        wanted["template"] = Value::String(path.to_string_lossy().into_owned());
    }
    block_on(deploy(arguments, &wanted))
}

async fn deploy(arguments: &Deploy, wanted: &Value) -> Result<ExitCode, Stop> {
    let endpoint = &arguments.endpoint.endpoint;
    let headers = [("content-type", "application/json")];
    let answer =
        send(endpoint, Method::POST, "/_onrush/deploy", &headers, wanted.to_string().into_bytes().into())
            .await?;
    let page: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{endpoint}/_onrush/deploy is no page of Onrush's"))?;
    if !answer.status.is_success() {
        return Err(anyhow!("{}", page["message"].as_str().unwrap_or("it did not say why")).into());
    }
    match arguments.output {
        Output::Json => super::print(&format!("{page}\n"))?,
        Output::Text => {
            let lines: Vec<_> =
                page["lines"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let text = if lines.is_empty() { "nothing changed".to_owned() } else { lines.join("\n") };
            super::print(&format!("{text}\n"))?;
            if let Some(waits) = page["waits"].as_str() {
                eprintln!("{waits}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The port that doors of the running Onrush answer on.
fn port_of(endpoint: &str) -> u16 {
    endpoint.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(80)
}
