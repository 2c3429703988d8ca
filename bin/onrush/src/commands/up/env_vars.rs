//! Values of functions' variables from outside the template: SAM's JSON file, and a `.env` beside the template.

use crate::Stop;
use crate::stack::{Read, read_text};
use model::stack::Stack;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use template::variables::{self, Variables, VariablesError};

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
pub struct EnvVars(Variables);

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
    pub async fn read(&self, read: &Read) -> Result<EnvVars, Stop> {
        // Whatever they lie on, or whoever writes them: a signal is heard meanwhile.
        let (files, folder) = (self.clone(), read.folder().to_owned());
        tokio::task::spawn_blocking(move || files.read_beside(&folder)).await?
    }

    fn read_beside(&self, folder: &Path) -> Result<EnvVars, Stop> {
        let mut all = Variables::default();
        let beside = folder.join(".env");
        let dotenv = self.env_file.as_deref().or_else(|| beside.is_file().then_some(beside.as_path()));
        if let Some(path) = dotenv {
            all.everyone = variables::read_dotenv(&read_text(path)?).map_err(|error| wrong(path, &error))?;
        }
        if let Some(path) = &self.env_vars {
            let text = read_text(path)?;
            let wrong = |error| wrong(path, &error);
            // A `.env` file has no brace at its start.
            if text.trim_start().starts_with(['{', '['])
                || path.extension().is_some_and(|kind| kind == "json")
            {
                let given = variables::read_json(&text).map_err(wrong)?;
                all.everyone.extend(given.everyone);
                all.functions = given.functions;
            } else {
                all.everyone.extend(variables::read_dotenv(&text).map_err(wrong)?);
            }
        }
        Ok(EnvVars(all))
    }
}

fn wrong(path: &Path, error: &VariablesError) -> Stop {
    let place = match error {
        VariablesError::NoPair { line, .. } => format!("{}:{line}", path.display()),
        _ => path.display().to_string(),
    };
    Stop::Usage(format!("{place}: {error}"))
}

impl EnvVars {
    /// A name that nothing has is most likely a slip, and SAM would swallow it.
    pub fn warn_of_typos(&self, stack: &Stack) {
        for (word, variables) in &self.0.functions {
            let Some(function) = stack.find_function(word) else {
                let known = stack.functions.iter().map(|function| function.id.as_str());
                let near = template::yaml::did_you_mean(word, known.clone());
                let near =
                    near.unwrap_or_else(|| format!("there is: {}", known.collect::<Vec<_>>().join(", ")));
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
        let own = self.0.functions.get(id).or_else(|| self.0.functions.get(name));
        for (key, value) in variables.iter_mut() {
            let replaced = own.and_then(|own| own.get(key)).or_else(|| self.0.everyone.get(key));
            if let Some(replaced) = replaced {
                value.clone_from(replaced);
            }
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
        let env_vars = EnvVars(Variables {
            everyone: [("B".to_owned(), "z".to_owned())].into(),
            functions: [("Cart".to_owned(), own)].into(),
        });
        env_vars.apply("Cart", "stack-Cart", &mut variables);
        assert_eq!((variables["A"].as_str(), variables["B"].as_str(), variables.len()), ("x", "z", 2));
    }
}
