//! `onrush deploy`.

use super::client::{block_on, send};
use crate::Stop;
use crate::arguments::{Deploy, Output};
use crate::samconfig;
use crate::stack::{self, Handed};
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
        "strict": template.strict,
    });
    let handed = stack::find(template).map(|path| Handed::look(&path, template, port_of(endpoint)));
    let handed = handed.transpose()?;
    if let Some(handed) = &handed {
        handed.print_warnings();
        wanted["template"] = Value::String(handed.path.to_string_lossy().into_owned());
        let more = template.more.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>();
        wanted["more"] =
            more.context("this folder is gone")?.iter().map(|path| path.to_string_lossy()).collect();
    }
    block_on(deploy(arguments, &wanted, handed.as_ref()))
}

async fn deploy(arguments: &Deploy, wanted: &Value, handed: Option<&Handed>) -> Result<ExitCode, Stop> {
    let endpoint = &arguments.endpoint.endpoint;
    let headers = [("content-type", "application/json")];
    let answer =
        send(endpoint, Method::POST, "/_onrush/deploy", &headers, wanted.to_string().into_bytes().into())
            .await?;
    let page: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{endpoint}/_onrush/deploy is no page of Onrush's"))?;
    if !answer.status.is_success() {
        let problems: Option<Vec<_>> =
            page["problems"].as_array().map(|all| all.iter().filter_map(Value::as_str).collect());
        return Err(match (problems, handed) {
            (Some(lines), Some(handed)) => {
                handed.print_problems(&lines);
                Stop::Reported
            }
            (Some(lines), None) => Stop::Problems(lines.into_iter().map(str::to_owned).collect()),
            (None, handed) => {
                let message = page["message"].as_str().unwrap_or("it did not say why");
                let hinted = || stack::hinted(message, "onrush deploy");
                anyhow!(handed.map_or_else(hinted, |_| message.to_owned())).into()
            }
        });
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
