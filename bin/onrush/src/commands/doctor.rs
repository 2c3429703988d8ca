//! `onrush doctor`: what this host can enforce, what not, and the cure.

use crate::Stop;
use crate::arguments::{Doctor, Output};
use sandbox::{Abilities, Ability, AbilityState};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// At most so many interpreters below one folder are named.
const SHOWN_MAX: usize = 3;

pub fn run(arguments: &Doctor) -> Result<ExitCode, Stop> {
    // What `up` could enforce is what is asked for, and it would enter.
    super::scope::enter();
    let mut abilities = sandbox::probe(&arguments.data_dir.join("run"));
    // Where environments have roots of their own, interpreters are bound into them from wherever they lie.
    let walls = abilities
        .items
        .iter()
        .any(|item| item.name == "mount-namespace" && item.state == AbilityState::Enforced);
    if !walls && rustix::process::geteuid().is_root() {
        abilities.items.extend(interpreters(&runtimes::closed_to_others()));
    }
    if arguments.json || arguments.output == Output::Json {
        super::print(&format!("{}\n", page(&abilities)))?;
    } else {
        super::print(&table(&abilities, super::colour()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The interpreters that root's `--isolation process` cannot run functions on, one capability for each folder that is closed.
fn interpreters(closed: &BTreeMap<PathBuf, Vec<PathBuf>>) -> Vec<Ability> {
    let told = |(folder, programs): (&PathBuf, &Vec<PathBuf>)| {
        let shown: Vec<_> =
            programs.iter().take(SHOWN_MAX).map(|program| program.display().to_string()).collect();
        let more = programs.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let folder = folder.display();
        Ability {
            name: "interpreters",
            state: AbilityState::Loose,
            detail: format!(
                "with --isolation process functions run as other users, who may not enter {folder}: not on {}{more}",
                shown.join(", ")
            ),
            cure: Some(format!("chmod o+x {folder}")),
        }
    };
    closed.iter().map(told).collect()
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
    fn a_closed_folder_is_named_with_what_is_below_and_its_cure() {
        let programs = (9..14).map(|minor| PathBuf::from(format!("/root/v/3.{minor}/bin/python3.{minor}")));
        let told = interpreters(&BTreeMap::from([(PathBuf::from("/root"), programs.collect())]));
        assert_eq!(cures(&told), ["chmod o+x /root   for interpreters"]);
        let detail = &told[0].detail;
        assert!(
            detail.contains("may not enter /root: not on /root/v/3.9/") && detail.ends_with(" and 2 more"),
            "{detail}"
        );
    }

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
