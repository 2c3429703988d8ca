//! `onrush limits`: the limits board.

use super::client::{block_on, page};
use crate::Stop;
use crate::arguments::{Limits, Output};
use model::LimitId;
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

/// Rows below their titles, each column as wide as its widest cell; figures stand to the right.
struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    fn new(titles: [&str; COLUMNS]) -> Self {
        Self { rows: vec![titles.map(str::to_owned)] }
    }

    fn write(&self, text: &mut String) {
        let long = |cell: &String| cell.chars().count();
        let is_figure = |cell: &String| cell.bytes().all(|byte| byte.is_ascii_digit());
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let cells = || self.rows.iter().map(|row| &row[column]);
                let wide = cells().map(long).max().unwrap_or(0);
                let _ = match cells().skip(1).all(is_figure) {
                    true => write!(line, "{cell:>wide$}  "),
                    false => write!(line, "{cell:<wide$}  "),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
}

const FIGURES: [&str; 4] = ["max", "used", "peak", "refused"];

fn figures(row: &Value) -> [String; 4] {
    FIGURES.map(|key| row[key].as_u64().unwrap_or(0).to_string())
}

/// Each NAT gateway towards each of its busiest destinations: ports are counted so.
fn gateways(board: &Value, text: &mut String) {
    let [max, used, peak, refused] = FIGURES;
    let mut table = Table::new(["NAT gateway", "ports towards", max, used, peak, refused]);
    for gateway in board["gateways"].as_array().into_iter().flatten() {
        for row in gateway["destinations"].as_array().into_iter().flatten() {
            let mut to = row["destination"].as_str().unwrap_or("").to_owned();
            if let Some(name) = row["name"].as_str() {
                let _ = write!(to, " ({name})");
            }
            let [max, used, peak, refused] = figures(row);
            let name = gateway["name"].as_str().unwrap_or("").to_owned();
            table.rows.push([name, to, max, used, peak, refused]);
        }
    }
    if table.rows.len() > 1 {
        text.push('\n');
        table.write(text);
    }
}

fn table(board: &Value) -> String {
    let [max, used, peak, refused] = FIGURES;
    let mut table = Table::new(["limit", "of", max, used, peak, refused, "unit", "raisable", "source"]);
    for row in board["limits"].as_array().into_iter().flatten() {
        let word = |key: &str| row[key].as_str().unwrap_or("").to_owned();
        let id = word("id");
        let unit = LimitId::ALL.iter().find(|limit| limit.as_str() == id).map_or("", |limit| limit.unit());
        let [max, used, peak, refused] = figures(row);
        let (resource, raisable, source) = (word("resource"), word("raisable"), word("source"));
        table.rows.push([id, resource, max, used, peak, refused, unit.to_owned(), raisable, source]);
    }
    let mut text = String::new();
    table.write(&mut text);

    let titles = ["interface", "connections", "functions that share it (environments now)"];
    let mut interfaces = Table::new(titles);
    for row in board["interfaces"].as_array().into_iter().flatten() {
        let functions = row["environments"].as_object().into_iter().flatten();
        let functions: Vec<String> = functions.map(|(name, count)| format!("{name} ({count})")).collect();
        let count = row["connections"].as_u64().unwrap_or(0).to_string();
        interfaces.rows.push([row["name"].as_str().unwrap_or("").to_owned(), count, functions.join(", ")]);
    }
    if interfaces.rows.len() > 1 {
        text.push('\n');
        interfaces.write(&mut text);
    }
    gateways(board, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_figure_stands_below_its_title_with_its_unit() {
        let row = |id: &str, resource: &str, max: u64| json!({ "id": id, "resource": resource, "max": max, "used": 1, "peak": 20, "refused": 0, "raisable": "no", "source": "a guide" });
        let name = "eni-PrivateSubnetA-FunctionSecurityGroup";
        let board = json!({
            "limits": [row("eni.connections", name, 65_000), row("function.timeout", "cart", 30), row("apigw.integration-timeout", "Api $default", 30_000)],
            "interfaces": [{ "name": name, "connections": 7, "environments": { "cart": 2 } }],
        });
        assert_eq!(
            table(&board),
            "limit                      of                                          max  used  peak  refused  unit         raisable  source\n\
             eni.connections            eni-PrivateSubnetA-FunctionSecurityGroup  65000     1    20        0  connections  no        a guide\n\
             function.timeout           cart                                         30     1    20        0  s            no        a guide\n\
             apigw.integration-timeout  Api $default                              30000     1    20        0  ms           no        a guide\n\
             \n\
             interface                                 connections  functions that share it (environments now)\n\
             eni-PrivateSubnetA-FunctionSecurityGroup            7  cart (2)\n"
        );
    }
}
