//! `onrush limits`: the limits board.

use super::client::{block_on, page};
use crate::Stop;
use crate::arguments::{Limits, Output};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

pub fn run(arguments: &Limits) -> Result<ExitCode, Stop> {
    block_on(show(arguments))
}

async fn show(arguments: &Limits) -> Result<ExitCode, Stop> {
    loop {
        let board = page(&arguments.endpoint.endpoint, "/_onrush/limits").await?;
        let text = if arguments.json || arguments.output == Output::Json {
            format!("{board}\n")
        } else {
            let clear = if arguments.watch && super::colour() { "\x1b[2J\x1b[H" } else { "" };
            format!("{clear}{}", table(&board))
        };
        if std::io::stdout().write_all(text.as_bytes()).is_err() || !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Each NAT gateway towards each of its busiest destinations: ports are counted so.
fn gateways(board: &Value, text: &mut String) {
    let mut rows = Vec::new();
    for gateway in board["gateways"].as_array().into_iter().flatten() {
        for row in gateway["destinations"].as_array().into_iter().flatten() {
            rows.push((gateway["name"].as_str().unwrap_or(""), row));
        }
    }
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<30} {:<44} {:>9} {:>9} {:>9} {:>9}",
        "NAT gateway", "ports towards", "max", "used", "peak", "refused"
    );
    for (gateway, row) in rows {
        let mut to = row["destination"].as_str().unwrap_or("").to_owned();
        if let Some(name) = row["name"].as_str() {
            let _ = write!(to, " ({name})");
        }
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        let [max, used, peak, refused] = ["max", "used", "peak", "refused"].map(number);
        let _ = writeln!(text, "{gateway:<30} {to:<44} {max:>9} {used:>9} {peak:>9} {refused:>9}");
    }
}

fn table(board: &Value) -> String {
    let mut text = format!(
        "{:<30} {:<28} {:>9} {:>9} {:>9} {:>9}  {:<8}  {}\n",
        "limit", "of", "max", "used", "peak", "refused", "raisable", "source"
    );
    for row in board["limits"].as_array().into_iter().flatten() {
        let word = |key: &str| row[key].as_str().unwrap_or("").to_owned();
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        let _ = writeln!(
            text,
            "{:<30} {:<28} {:>9} {:>9} {:>9} {:>9}  {:<8}  {}",
            word("id"),
            word("resource"),
            number("max"),
            number("used"),
            number("peak"),
            number("refused"),
            word("raisable"),
            word("source")
        );
    }
    let interfaces = board["interfaces"].as_array().map_or(&[][..], Vec::as_slice);
    if !interfaces.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<44} {:>11}  functions that share it (environments now)",
            "interface", "connections"
        );
    }
    for row in interfaces {
        let functions = row["environments"].as_object().into_iter().flatten();
        let functions: Vec<String> = functions.map(|(name, count)| format!("{name} ({count})")).collect();
        let (name, count) = (row["name"].as_str().unwrap_or(""), row["connections"].as_u64().unwrap_or(0));
        let _ = writeln!(text, "{name:<44} {count:>11}  {}", functions.join(", "));
    }
    gateways(board, &mut text);
    text
}
