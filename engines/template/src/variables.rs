//! Values of functions' variables from outside the template: SAM's JSON file, and a `.env`.
//!
//! Source: AWS SAM Developer Guide, "Environment variable file": an object of functions, `Parameters` for all of them.

use serde_json::Value;
use std::collections::BTreeMap;
use thiserror::Error;

/// The values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// Of every function.
    pub everyone: BTreeMap<String, String>,
    /// Of one function, by its logical id or name.
    pub functions: BTreeMap<String, BTreeMap<String, String>>,
}

/// Why a text cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VariablesError {
    /// It is no JSON.
    #[error("{0}")]
    NotJson(String),
    /// It is no object.
    #[error("expected an object of functions")]
    NoObject,
    /// A function has something else.
    #[error("`{0}` must be an object of variables")]
    NoVariables(String),
    /// A line says nothing.
    #[error("`{text}` is no NAME=value, or its quotes do not end")]
    NoPair {
        /// From 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// No process can be given such a variable.
    #[error("the variable {0:?} has a NUL character, which no process can be given")]
    Nul(String),
}

/// Reads what `sam local --env-vars` takes: `{"Cart": {"TABLE": "local"}, "Parameters": {}}`.
///
/// # Errors
/// What cannot be used.
pub fn read_json(text: &str) -> Result<Variables, VariablesError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| VariablesError::NotJson(error.to_string()))?;
    let Value::Object(all) = value else { return Err(VariablesError::NoObject) };
    let mut read = Variables::default();
    for (function, variables) in all {
        let Value::Object(variables) = variables else { return Err(VariablesError::NoVariables(function)) };
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let pairs = variables.into_iter().map(|(name, value)| checked(name, text(value)));
        let variables = pairs.collect::<Result<_, _>>()?;
        if function == "Parameters" {
            read.everyone = variables;
        } else {
            read.functions.insert(function, variables);
        }
    }
    Ok(read)
}

/// Reads a `.env`: `NAME=value` a line, as the usual libraries read it: `export` before it, `#` comments, quotes; `\n`, `\"` and `\\`
/// in double quotes; a `$` means itself.
///
/// # Errors
/// The first line that says nothing.
pub fn read_dotenv(text: &str) -> Result<BTreeMap<String, String>, VariablesError> {
    let mut all = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.strip_prefix("export ").unwrap_or(line);
        let pair =
            pair.split_once('=').and_then(|(name, value)| Some((name.trim(), unquoted(value.trim())?)));
        let pair = pair.filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace));
        let Some((name, value)) = pair else {
            return Err(VariablesError::NoPair { line: number + 1, text: line.to_owned() });
        };
        let (name, value) = checked(name.to_owned(), value)?;
        all.insert(name, value);
    }
    Ok(all)
}

fn checked(name: String, value: String) -> Result<(String, String), VariablesError> {
    let has_nul = name.contains('\0') || value.contains('\0');
    if has_nul { Err(VariablesError::Nul(name)) } else { Ok((name, value)) }
}

/// `None`: a quote does not end.
fn unquoted(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.split_once('\'').map(|(inside, _)| inside.to_owned());
    }
    let Some(rest) = value.strip_prefix('"') else {
        // A comment begins with a blank before it: values may have a `#`.
        return Some(value.split(" #").next().unwrap_or(value).trim_end().to_owned());
    };
    let mut inside = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(inside),
            '\\' => inside.push(match characters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => inside.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenv_lines_are_read_as_everybody_reads_them() {
        let text = "# all\n\nA=1\nexport B = two words # said\nC='a # $b'\nD=\"x\\n\\\"y\\\"\" # z\nE=\nF=a#b\nG=a=b\n";
        let read = read_dotenv(text).unwrap();
        let values: Vec<_> = read.values().map(String::as_str).collect();
        assert_eq!(values, ["1", "two words", "a # $b", "x\n\"y\"", "", "a#b", "a=b"]);
        for bad in ["A", "=1", "A='x", "A=\"x\\", "A B=1"] {
            let error = read_dotenv(&format!("\n{bad}")).unwrap_err();
            assert_eq!(error, VariablesError::NoPair { line: 2, text: bad.to_owned() });
        }
    }

    #[test]
    fn json_is_read_as_sam_reads_it() {
        let read = read_json(r#"{"Parameters": {"A": 1}, "Cart": {"B": "x", "C": true}}"#).unwrap();
        assert_eq!((read.everyone["A"].as_str(), read.functions["Cart"]["C"].as_str()), ("1", "true"));
        assert!(matches!(read_json("{"), Err(VariablesError::NotJson(_))));
        assert_eq!(read_json("[]").unwrap_err(), VariablesError::NoObject);
        assert_eq!(read_json(r#"{"Cart": 1}"#).unwrap_err(), VariablesError::NoVariables("Cart".to_owned()));
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        assert_eq!(read_dotenv("A=x\0").unwrap_err(), VariablesError::Nul("A".to_owned()));
        assert_eq!(
            read_json(r#"{"Cart": {"B": "\u0000"}}"#).unwrap_err(),
            VariablesError::Nul("B".to_owned())
        );
        assert_eq!(read_dotenv("A\0=x").unwrap_err(), VariablesError::Nul("A\u{0}".to_owned()));
    }
}
