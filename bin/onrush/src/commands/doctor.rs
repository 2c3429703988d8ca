//! `onrush doctor`: what this host can enforce, what not, and the cure.

use crate::Stop;
use crate::arguments::{Doctor, Output};
use sandbox::{Abilities, AbilityState};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

pub fn run(arguments: &Doctor) -> Result<ExitCode, Stop> {
    let abilities = sandbox::probe(&arguments.data_dir.join("run"));
    if arguments.json || arguments.output == Output::Json {
        super::print(&format!("{}\n", page(&abilities)));
    } else {
        super::print(&table(&abilities, super::colour()));
    }
    Ok(ExitCode::SUCCESS)
}

fn page(abilities: &Abilities) -> Value {
    let items: Vec<_> = abilities
        .items
        .iter()
        .map(|item| {
            json!({ "capability": item.name, "state": word(item.state), "detail": item.detail, "cure": item.cure })
        })
        .collect();
    json!({ "schema": 1, "capabilities": items })
}

fn table(abilities: &Abilities, colour: bool) -> String {
    let mut text = String::new();
    for item in &abilities.items {
        let (mark, code) = match item.state {
            AbilityState::Enforced => ("enforced", "32"),
            AbilityState::Loose => ("loose", "33"),
            AbilityState::Missing => ("missing", "31"),
        };
        let mark = if colour { format!("\x1b[{code}m{mark:<9}\x1b[0m") } else { format!("{mark:<9}") };
        let _ = writeln!(text, "{:<22} {mark} {}", item.name, item.detail);
        if let Some(cure) = &item.cure {
            let _ = writeln!(text, "{:<22} {:<9} cure: {cure}", "", "");
        }
    }
    text
}

/// The word for a state, in text and JSON alike.
pub fn word(state: AbilityState) -> &'static str {
    match state {
        AbilityState::Enforced => "enforced",
        AbilityState::Loose => "loose",
        AbilityState::Missing => "missing",
    }
}
