//! What belongs to a function beside `$LATEST`: its published versions, its aliases, and what is set for each of them.

use crate::function::{Function, FunctionUrl, PolicyStatement};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything around a function that a qualifier can name. Versions are rows of their own in the store; the rest lies in
/// the function's row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Published {
    /// The number of the latest version that was ever published; numbers are never used twice.
    pub last_version: u64,
    /// Published versions by number, each a function that never changes.
    #[serde(skip)]
    pub versions: BTreeMap<u64, Arc<Function>>,
    /// Aliases by name.
    pub aliases: BTreeMap<String, Alias>,
    /// Provisioned concurrency by version or alias.
    pub provisioned: BTreeMap<String, Provisioned>,
    /// Statements of the resource policies of versions and aliases.
    pub policies: BTreeMap<String, Vec<PolicyStatement>>,
    /// Function URLs of aliases.
    pub urls: BTreeMap<String, FunctionUrl>,
    /// How runtime updates are to be taken, by version; kept, not used.
    pub runtime_management: BTreeMap<String, RuntimeManagement>,
    /// What happens to a function that calls itself over and over.
    pub recursive_loop: RecursiveLoop,
    /// The code signing configuration; kept, not used.
    pub code_signing_config_arn: Option<String>,
    /// What of all this a template said.
    pub template: FromTemplate,
}

/// What the template of the last deployment put around a function, so that the next one can take it away again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FromTemplate {
    /// The numbers of its versions, by logical id.
    pub versions: BTreeMap<String, u64>,
    /// Those of them that are published anew whenever the function changes (`AutoPublishAlias`).
    pub following: BTreeSet<u64>,
    /// All that were published so and are still there.
    pub followed: BTreeSet<u64>,
    /// Its aliases.
    pub aliases: BTreeSet<String>,
    /// Versions and aliases with provisioned concurrency.
    pub provisioned: BTreeSet<String>,
    /// Its statements: the version or alias whose policy they are in, and their ids.
    pub statements: BTreeSet<(Option<String>, String)>,
    /// Aliases with a URL.
    pub urls: BTreeSet<String>,
}

impl FromTemplate {
    /// Whether a template published the version of that number.
    pub fn made(&self, number: u64) -> bool {
        self.followed.contains(&number) || self.versions.values().any(|made| *made == number)
    }
}

/// A name for a version, or for two of them with weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    /// 1 to 128 of `[a-zA-Z0-9-_]`, no number.
    pub name: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// For people.
    pub description: String,
    /// Another version and its share of the invocations, 0 to 1.
    pub routing: Option<(String, f64)>,
    /// A UUID, new with every change.
    pub revision_id: String,
}

/// Provisioned concurrency as asked for; how far it is, the dispatcher knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    /// Environments to be kept ready.
    pub requested: u32,
    /// `2025-11-24T23:08:11+0000`, UTC.
    pub last_modified: String,
}

/// How updates of the runtime are to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeManagement {
    /// `Auto`, `FunctionUpdate` or `Manual`.
    pub update_runtime_on: String,
    /// The runtime's version, with `Manual`.
    pub runtime_version_arn: Option<String>,
}

/// What happens to a function that calls itself over and over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecursiveLoop {
    /// It is stopped.
    #[default]
    Terminate,
    /// It goes on.
    Allow,
}

/// Which version an invocation runs, and under which key the invoker knows what is to run.
#[derive(Clone, Debug)]
pub struct Route {
    /// The version.
    pub version: Arc<Function>,
    /// `cart`, `cart:3`, or `cart:live` when the alias has provisioned concurrency of its own.
    pub key: String,
}

impl Function {
    /// The version that a qualifier names, weights left aside: `$LATEST`, a number, or an alias. `None` if there is none.
    pub fn qualified(self: &Arc<Self>, qualifier: &str) -> Option<Arc<Function>> {
        match self.published.aliases.get(qualifier) {
            Some(alias) => self.version(&alias.version),
            None => self.version(qualifier),
        }
    }

    /// The version of that number, or `$LATEST`.
    pub fn version(self: &Arc<Self>, version: &str) -> Option<Arc<Function>> {
        if version == model::name::LATEST {
            return Some(Arc::clone(self));
        }
        self.published.versions.get(&number(version)?).cloned()
    }

    /// Where an invocation of that qualifier goes; an alias with weights draws lots. `None` if there is no such version
    /// or alias.
    pub fn route(self: &Arc<Self>, qualifier: &str) -> Option<Route> {
        self.route_by(qualifier, crate::clock::lot)
    }

    /// The same with lots from `lot`, at least 0 and less than 1.
    pub fn route_by(self: &Arc<Self>, qualifier: &str, lot: impl FnOnce() -> f64) -> Option<Route> {
        let alias = self.published.aliases.get(qualifier);
        let chosen = match alias {
            None => qualifier,
            Some(Alias { routing: Some((other, weight)), .. }) if lot() < *weight => other,
            Some(alias) => &alias.version,
        };
        let version = self.version(chosen)?;
        // An alias's provisioned concurrency is there for its first version.
        let of_alias = alias.is_some_and(|alias| alias.version == chosen)
            && self.published.provisioned.contains_key(qualifier);
        let key = match (of_alias, chosen) {
            (true, _) => format!("{}:{qualifier}", self.name),
            (false, model::name::LATEST) => self.name.clone(),
            (false, number) => format!("{}:{number}", self.name),
        };
        Some(Route { version, key })
    }
}

/// The number of a version as it is written: no sign, no leading zero.
pub fn number(text: &str) -> Option<u64> {
    let number = text.parse().ok()?;
    (number > 0 && text.as_bytes()[0].is_ascii_digit() && !text.starts_with('0')).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn function() -> Arc<Function> {
        let mut function = Function::new("cart", PathBuf::from("/code"));
        for number in [1, 2] {
            let version = Function { version: number.to_string(), ..function.clone() };
            function.published.versions.insert(number, Arc::new(version));
        }
        let alias = Alias {
            name: "live".to_owned(),
            version: "1".to_owned(),
            description: String::new(),
            routing: Some(("2".to_owned(), 0.25)),
            revision_id: String::new(),
        };
        function.published.aliases.insert("live".to_owned(), alias);
        Arc::new(function)
    }

    #[test]
    fn weights_share_invocations_between_two_versions() {
        let function = function();
        let key = |lot: f64| function.route_by("live", || lot).unwrap().key;
        assert_eq!([key(0.0), key(0.2499), key(0.25), key(0.999)], ["cart:2", "cart:2", "cart:1", "cart:1"]);
    }

    #[test]
    fn provisioned_concurrency_of_an_alias_is_for_its_first_version() {
        let mut function = Function::clone(&function());
        let provisioned = Provisioned { requested: 1, last_modified: String::new() };
        function.published.provisioned.insert("live".to_owned(), provisioned);
        let function = Arc::new(function);
        assert_eq!(function.route_by("live", || 0.9).unwrap().key, "cart:live");
        assert_eq!(function.route_by("live", || 0.1).unwrap().key, "cart:2");
        assert_eq!(function.route("1").unwrap().key, "cart:1");
        assert_eq!(function.route("$LATEST").unwrap().key, "cart");
        assert!(function.route("3").is_none() && function.route("gone").is_none());
    }

    #[test]
    fn numbers_of_versions_have_one_form() {
        assert_eq!(number("12"), Some(12));
        for text in ["", "0", "01", "+1", "-1", "1a", "99999999999999999999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
