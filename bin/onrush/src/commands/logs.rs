//! `onrush logs`.

use super::client::{block_on, page};
use crate::Stop;
use crate::arguments::{Logs, Output};
use anyhow::anyhow;
use std::io;
use std::io::Write as _;
use std::process::ExitCode;

pub fn run(arguments: &Logs) -> Result<ExitCode, Stop> {
    block_on(show(arguments))
}

async fn show(arguments: &Logs) -> Result<ExitCode, Stop> {
    let endpoint = &arguments.endpoint.endpoint;
    let name = super::client::function_name(endpoint, &arguments.function).await?;
    let mut after = 0;
    let mut wait = 0;
    let mut dropped = 0;
    loop {
        let news = page(endpoint, &format!("/_onrush/logs/{name}?after={after}&wait={wait}")).await;
        let news = match news {
            Err(Stop::Failed(error)) if wait > 0 && is_gone(&error) => {
                return Err(Stop::Failed(anyhow!("{endpoint} has stopped; the log ends here")));
            }
            news => news?,
        };
        let now_dropped = news["dropped"].as_u64().unwrap_or(0);
        if now_dropped > dropped {
            eprintln!("{} lines came too fast and were dropped", now_dropped - dropped);
            dropped = now_dropped;
        }
        let mut out = io::stdout().lock();
        for line in news["lines"].as_array().into_iter().flatten() {
            let written = match arguments.output {
                Output::Json => writeln!(out, "{line}"),
                Output::Text => {
                    let text = |key: &str| line[key].as_str().unwrap_or("").to_owned();
                    writeln!(out, "{} {}", text("time"), text("text"))
                }
            };
            if written.is_err() {
                // The reader went away, as `head` does.
                return Ok(ExitCode::SUCCESS);
            }
        }
        if out.flush().is_err() || !arguments.follow {
            return Ok(ExitCode::SUCCESS);
        }
        after = news["last"].as_u64().unwrap_or(after);
        wait = 20;
    }
}

/// Whether nobody answers any more, as opposed to an answer that says no.
fn is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<hyper::Error>() || cause.is::<io::Error>())
}
