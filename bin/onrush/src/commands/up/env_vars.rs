//! Values of functions' variables from outside the template: SAM's JSON file, and a `.env` beside the template.

use crate::Stop;
use crate::stack::{Read, read_text};
use model::stack::Stack;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where they come from.
#[derive(Clone, Debug, Default)]
pub struct EnvFiles {
    /// `--env-vars`: JSON as `sam local` takes it, or a `.env` file.
    pub env_vars: Option<PathBuf>,
    /// `--env-file`; `None`: `.env` beside the template, if there is one.
    pub env_file: Option<PathBuf>,
}

/// The values.
#[derive(Debug, Default)]
pub struct EnvVars {
    everyone: BTreeMap<String, String>,
    functions: BTreeMap<String, BTreeMap<String, String>>,
}

impl EnvFiles {
    /// The files that are read, which need not exist.
    pub fn paths(&self, read: &Read) -> Vec<PathBuf> {
        let beside = || read.folder().join(".env");
        self.env_vars.iter().cloned().chain([self.env_file.clone().unwrap_or_else(beside)]).collect()
    }

    /// Reads them. What `--env-vars` says of a variable counts more than a `.env`.
    ///
    /// # Errors
    /// A file that was named cannot be read, or is not what it should be.
    pub fn read(&self, read: &Read) -> Result<EnvVars, Stop> {
        let mut all = EnvVars::default();
        let beside = read.folder().join(".env");
        let dotenv = self.env_file.as_deref().or_else(|| beside.is_file().then_some(beside.as_path()));
        if let Some(path) = dotenv {
            all.everyone = parse_dotenv(&read_text(path)?, path)?;
        }
        if let Some(path) = &self.env_vars {
            let text = read_text(path)?;
            // A `.env` file has no brace at its start.
            if text.trim_start().starts_with(['{', '['])
                || path.extension().is_some_and(|kind| kind == "json")
            {
                let given = parse_json(&text, path)?;
                all.everyone.extend(given.everyone);
                all.functions = given.functions;
            } else {
                all.everyone.extend(parse_dotenv(&text, path)?);
            }
        }
        Ok(all)
    }
}

impl EnvVars {
    /// A name that nothing has is most likely a slip, and SAM would swallow it.
    pub fn warn_of_typos(&self, stack: &Stack) {
        for (word, variables) in &self.functions {
            let Some(function) = stack.find_function(word) else {
                let known = stack.functions.iter().map(|function| function.id.as_str());
                let near = template::yaml::did_you_mean(word, known).unwrap_or_default();
                tracing::warn!("--env-vars: the template has no function {word}; {near}");
                continue;
            };
            for name in variables.keys().filter(|name| !function.environment.contains_key(*name)) {
                tracing::warn!(
                    "--env-vars: {word} declares no variable {name} in the template, so it is not set"
                );
            }
        }
    }

    /// As SAM does, only variables that the template names are replaced.
    pub fn apply(&self, id: &str, name: &str, variables: &mut BTreeMap<String, String>) {
        let own = self.functions.get(id).or_else(|| self.functions.get(name));
        for (key, value) in variables.iter_mut() {
            let replaced = own.and_then(|own| own.get(key)).or_else(|| self.everyone.get(key));
            if let Some(replaced) = replaced {
                value.clone_from(replaced);
            }
        }
    }
}

fn parse_json(text: &str, path: &Path) -> Result<EnvVars, Stop> {
    let bad = |why: &str| Stop::Usage(format!("{}: {why}", path.display()));
    let value: Value = serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?;
    let Value::Object(all) = value else { return Err(bad("expected an object of functions")) };
    let mut read = EnvVars::default();
    for (function, variables) in all {
        let Value::Object(variables) = variables else {
            return Err(bad(&format!("`{function}` must be an object of variables")));
        };
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let variables = variables.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        if function == "Parameters" {
            read.everyone = variables;
        } else {
            read.functions.insert(function, variables);
        }
    }
    Ok(read)
}

/// `NAME=value` a line, as the usual `.env` libraries read it: `export` before it, `#` comments, quotes; `\n`, `\"` and `\\` in double
/// quotes; a `$` means itself.
fn parse_dotenv(text: &str, path: &Path) -> Result<BTreeMap<String, String>, Stop> {
    let mut all = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let value =
            line.split_once('=').and_then(|(name, value)| Some((name.trim(), unquoted(value.trim())?)));
        match value {
            Some((name, value)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                all.insert(name.to_owned(), value);
            }
            _ => {
                let why = "is no NAME=value, or its quotes do not end";
                return Err(Stop::Usage(format!("{}:{}: `{line}` {why}", path.display(), number + 1)));
            }
        }
    }
    Ok(all)
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
    fn only_variables_of_the_template_are_replaced() {
        let mut variables: BTreeMap<_, _> =
            [("A", "1"), ("B", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let own: BTreeMap<_, _> = [("A".to_owned(), "x".to_owned()), ("C".to_owned(), "y".to_owned())].into();
        let env_vars = EnvVars {
            everyone: [("B".to_owned(), "z".to_owned())].into(),
            functions: [("Cart".to_owned(), own)].into(),
        };
        env_vars.apply("Cart", "stack-Cart", &mut variables);
        assert_eq!((variables["A"].as_str(), variables["B"].as_str(), variables.len()), ("x", "z", 2));
    }

    #[test]
    fn dotenv_lines_are_read_as_everybody_reads_them() {
        let text = "# all\n\nA=1\nexport B = two words # said\nC='a # $b'\nD=\"x\\n\\\"y\\\"\" # z\nE=\nF=a#b\nG=a=b\n";
        let read = parse_dotenv(text, Path::new(".env")).unwrap();
        let values: Vec<_> = read.values().map(String::as_str).collect();
        assert_eq!(values, ["1", "two words", "a # $b", "x\n\"y\"", "", "a#b", "a=b"]);
        for bad in ["A", "=1", "A='x", "A=\"x\\", "A B=1"] {
            let Err(Stop::Usage(message)) = parse_dotenv(&format!("\n{bad}"), Path::new(".env")) else {
                panic!("{bad}")
            };
            assert!(message.starts_with(&format!(".env:2: `{bad}`")), "{message}");
        }
    }
}
