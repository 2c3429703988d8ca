//! `onrush doctor`: what this host can enforce, what not, and the cure.

use crate::Stop;
use crate::arguments::{Doctor, Output};
use sandbox::{Abilities, Ability, AbilityState};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

pub fn run(arguments: &Doctor) -> Result<ExitCode, Stop> {
    // What `up` could enforce is what is asked for, and it would enter.
    super::scope::enter();
    let abilities = sandbox::probe(&arguments.data_dir.join("run"));
    if arguments.json || arguments.output == Output::Json {
        super::print(&format!("{}\n", page(&abilities)))?;
    } else {
        super::print(&table(&abilities, super::colour()))?;
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
    }
    let cures = cures(&abilities.items);
    if !cures.is_empty() {
        let _ = writeln!(text, "Cures");
        for cure in cures {
            let _ = writeln!(text, "  {cure}");
        }
    }
    text
}

/// Each cure once, with what it cures, in a text's words: several capabilities often lack the same.
pub fn cures<'a>(items: impl IntoIterator<Item = &'a Ability>) -> Vec<String> {
    let mut cures: Vec<(&str, Vec<&str>)> = Vec::new();
    for item in items {
        let Some(cure) = item.cure.as_deref() else { continue };
        match cures.iter_mut().find(|(known, _)| *known == cure) {
            Some((_, names)) => names.push(item.name),
            None => cures.push((cure, vec![item.name])),
        }
    }
    cures.iter().map(|(cure, names)| format!("{cure}   for {}", names.join(", "))).collect()
}

/// The word for a state, in text and JSON alike.
pub fn word(state: AbilityState) -> &'static str {
    match state {
        AbilityState::Enforced => "enforced",
        AbilityState::Loose => "loose",
        AbilityState::Missing => "missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_is_said_once() {
        let ability = |name, cure: &str| Ability {
            name,
            state: AbilityState::Missing,
            detail: String::new(),
            cure: Some(cure.to_owned()),
        };
        let items = [ability("a", "run as root"), ability("b", "x"), ability("c", "run as root")];
        assert_eq!(cures(&items), ["run as root   for a, c", "x   for b"]);
    }
}
