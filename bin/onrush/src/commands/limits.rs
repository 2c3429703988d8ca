//! `onrush limits`: the limits board.

use super::client::{block_on, page};
use crate::Stop;
use crate::arguments::{Limits, Output};
use model::LimitId;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
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
            let clear = if arguments.watch && std::io::stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "" };
            format!("{clear}{}", table(&board, width()))
        };
        if std::io::stdout().write_all(text.as_bytes()).is_err() || !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Characters of the terminal's lines; what is no terminal takes any.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(usize::MAX, |size| if size.ws_col == 0 { usize::MAX } else { size.ws_col.into() })
}

/// Between two columns.
const GAP: usize = 2;

/// Rows below their titles, each column as wide as its widest cell; figures stand to the right.
struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    fn new(titles: [&str; COLUMNS]) -> Self {
        Self { rows: vec![titles.map(str::to_owned)] }
    }

    /// In lines of at most so many characters: columns behind the first `needed` are left out where there is no room, the last one
    /// first, and then the ends of the second one's cells, unless these are figures.
    fn write(&self, text: &mut String, width: usize, needed: usize) {
        let long = |cell: &String| cell.chars().count();
        let is_figure = |cell: &String| cell.bytes().all(|byte| byte.is_ascii_digit());
        let cells = |column: usize| self.rows.iter().map(move |row| &row[column]);
        let mut wide: Vec<usize> =
            (0..COLUMNS).map(|column| cells(column).map(long).max().unwrap_or(0)).collect();
        let line = |wide: &[usize]| wide.iter().map(|column| column + GAP).sum::<usize>() - GAP;
        while wide.len() > needed && line(&wide) > width {
            wide.pop();
        }
        if !cells(1).skip(1).all(is_figure) {
            wide[1] = wide[1].saturating_sub(line(&wide).saturating_sub(width)).max(GAP);
        }
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &wide)) in row.iter().zip(&wide).enumerate() {
                let cell = match long(cell) > wide {
                    true => &format!("{}…", cell.chars().take(wide - 1).collect::<String>()),
                    false => cell,
                };
                let _ = match cells(column).skip(1).all(is_figure) {
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
fn gateways(board: &Value, text: &mut String, width: usize) {
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
        table.write(text, width, 6);
    }
}

/// The board in lines of at most so many characters, as far as names allow.
fn table(board: &Value, width: usize) -> String {
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
    table.write(&mut text, width, 6);
    interfaces(board, &mut text, width);
    gateways(board, &mut text, width);
    text
}

/// Each shared interface with its functions: in one line, or each in a line of its own where there is no room.
fn interfaces(board: &Value, text: &mut String, width: usize) {
    let mut table = Table::new(["interface", "connections", "shared by (environments)"]);
    let rows = || board["interfaces"].as_array().into_iter().flatten();
    let name = |row: &Value| row["name"].as_str().unwrap_or("").to_owned();
    let longest = rows().map(|row| name(row).chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(longest + GAP + "connections".len() + GAP);
    for row in rows() {
        let functions = row["environments"].as_object().into_iter().flatten();
        let functions: Vec<String> = functions.map(|(name, count)| format!("{name} ({count})")).collect();
        let count = row["connections"].as_u64().unwrap_or(0).to_string();
        let whole = functions.join(", ").chars().count() <= room;
        let lines = if whole || functions.is_empty() { vec![functions.join(", ")] } else { functions };
        let mut before = [name(row), count];
        for functions in lines {
            let [name, count] = std::mem::take(&mut before);
            table.rows.push([name, count, functions]);
        }
    }
    if table.rows.len() > 1 {
        text.push('\n');
        table.write(text, width, 3);
    }
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
            table(&board, usize::MAX),
            "limit                      of                                          max  used  peak  refused  unit         raisable  source\n\
             eni.connections            eni-PrivateSubnetA-FunctionSecurityGroup  65000     1    20        0  connections  no        a guide\n\
             function.timeout           cart                                         30     1    20        0  s            no        a guide\n\
             apigw.integration-timeout  Api $default                              30000     1    20        0  ms           no        a guide\n\
             \n\
             interface                                 connections  shared by (environments)\n\
             eni-PrivateSubnetA-FunctionSecurityGroup            7  cart (2)\n"
        );
    }

    #[test]
    fn on_a_narrow_terminal_figures_and_interfaces_stay_whole() {
        let row = |id: &str, resource: &str| json!({ "id": id, "resource": resource, "max": 1_048_576, "used": 65_000, "peak": 65_000, "refused": 405_006, "raisable": "no", "source": "a guide" });
        let name = "eni-PrivateSubnetA-FunctionSecurityGroup";
        let board = json!({
            "limits": [row("eni.connections", name), row("apigw.integration-timeout", "StorefrontApi GET /recommendations")],
            "interfaces": [
                { "name": name, "connections": 65_000, "environments": { "storefront-cart": 18, "storefront-order": 1 } },
                { "name": "eni-A-Group", "connections": 2, "environments": { "storefront-mail": 1, "storefront-page": 1 } },
            ],
            "gateways": [{ "name": "NatGateway", "destinations": [
                { "destination": "198.19.192.1:443", "name": "cache.example.com:443", "max": 55_000, "used": 1, "peak": 1, "refused": 0 },
            ] }],
        });
        let text = table(&board, 80);
        assert_eq!(
            text,
            "limit                      of                         max   used   peak  refused\n\
             eni.connections            eni-PrivateSubnetA-F…  1048576  65000  65000   405006\n\
             apigw.integration-timeout  StorefrontApi GET /r…  1048576  65000  65000   405006\n\
             \n\
             interface                                 connections  shared by (environments)\n\
             eni-PrivateSubnetA-FunctionSecurityGroup        65000  storefront-cart (18)\n\
             \x20                                                      storefront-order (1)\n\
             eni-A-Group                                         2  storefront-mail (1)\n\
             \x20                                                      storefront-page (1)\n\
             \n\
             NAT gateway  ports towards                              max  used  peak  refused\n\
             NatGateway   198.19.192.1:443 (cache.example.com:44…  55000     1     1        0\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }
}
