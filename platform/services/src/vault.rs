//! Parameters and secrets: those of the template, those that were made up for it, and those put by API calls.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use model::stack::{DynamicReference, DynamicService, Stack};

use crate::answer;
use crate::generate::{GenerateError, generate};
use crate::store::{Content, Store, Stored};

/// Most parameters and most secrets. Source: Parameter Store quotas, 10,000 standard parameters (published); the same for
/// secrets, of which AWS has 500,000.
const ENTRIES_MAX: usize = 10_000;

/// An SSM parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// `String`, `StringList` or `SecureString`.
    pub kind: String,
    /// Its value.
    pub value: String,
    /// Counts from 1.
    pub version: u64,
    /// Unix milliseconds.
    pub changed_ms: u64,
}

/// A version of a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// A UUID.
    pub id: String,
    /// `SecretString`.
    pub value: String,
    /// Unix milliseconds.
    pub created_ms: u64,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Its ARN, with the random end.
    pub arn: String,
    /// `AWSCURRENT`.
    pub current: SecretVersion,
    /// `AWSPREVIOUS`, of this run.
    pub previous: Option<SecretVersion>,
}

/// Why there is no vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Its file cannot be read or written.
    #[error("the file of stored parameters and secrets: {0}")]
    File(#[from] io::Error),
    /// A secret of the template cannot be made.
    #[error("{id}: {error}")]
    Generate {
        /// Logical id.
        id: String,
        /// Why.
        error: GenerateError,
    },
}

/// Why a value is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error("it exists already")]
    Exists,
    #[error("there is none of that name")]
    Unknown,
    #[error("there are {ENTRIES_MAX} already")]
    Full,
    #[error("it cannot be stored: {0}")]
    File(io::Error),
}

/// All of them.
#[derive(Debug)]
pub struct Vault {
    entries: RwLock<Entries>,
    /// Held over writing to the disk, so that writes do not overtake each other; readers do not wait for it.
    file: Mutex<(Store, Content)>,
}

#[derive(Debug, Default)]
struct Entries {
    parameters: BTreeMap<String, Parameter>,
    secrets: BTreeMap<String, Secret>,
    /// What the template says, to know later whether it says something else.
    templates: BTreeMap<String, String>,
}

impl Vault {
    /// The template's parameters and secrets with what is stored at `path`; secrets that are yet to be made are made and
    /// stored.
    ///
    /// # Errors
    /// When the file is damaged or cannot be written, or a secret cannot be made.
    pub fn open(stack: Option<&Stack>, path: Option<&Path>) -> Result<Self, VaultError> {
        let (store, mut content) = Store::open(path)?;
        let mut entries = Entries::default();
        let now = telemetry::unix_millis();
        let before = content.clone();
        for parameter in stack.iter().flat_map(|stack| &stack.ssm_parameters) {
            entries.templates.insert(parameter.name.clone(), parameter.value.clone());
            let stored = content.parameters.get(&parameter.name);
            let put = stored.filter(|stored| stored.template.as_ref() == Some(&parameter.value));
            let kept = put.cloned().unwrap_or_else(|| Stored {
                value: parameter.value.clone(),
                template: Some(parameter.value.clone()),
                kind: parameter.parameter_type.clone(),
                version: stored.map_or(1, |stored| stored.version + 1),
                version_id: String::new(),
                changed_ms: now,
            });
            content.parameters.insert(parameter.name.clone(), kept);
        }
        for secret in stack.iter().flat_map(|stack| &stack.secrets) {
            let stored = content.secrets.get(&secret.name);
            let put = stored.filter(|stored| stored.template == secret.value);
            let kept = match (put, &secret.value, &secret.generate) {
                (Some(stored), _, _) => stored.clone(),
                (None, value, wish) => {
                    let made = match (value, wish) {
                        (Some(value), _) => value.clone(),
                        (None, Some(wish)) => generate(wish)
                            .map_err(|error| VaultError::Generate { id: secret.id.clone(), error })?,
                        (None, None) => String::new(),
                    };
                    new_secret_value(made, secret.value.clone(), now)
                }
            };
            let version = version_of(&kept);
            content.secrets.insert(secret.name.clone(), kept);
            let (name, arn) = (secret.name.clone(), secret.arn.clone());
            entries.secrets.insert(name.clone(), Secret { name, arn, current: version, previous: None });
        }
        // Those that were put and are in no template.
        for (name, stored) in &content.parameters {
            let of_another_template = stored.template.is_some() && !entries.templates.contains_key(name);
            if !of_another_template {
                entries.parameters.insert(name.clone(), parameter_of(name, stored));
            }
        }
        if content != before {
            store.save(&content)?;
        }
        Ok(Self { entries: RwLock::new(entries), file: Mutex::new((store, content)) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, (Store, Content)> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parameter of that name, with references in its value looked up.
    pub fn parameter(&self, name: &str) -> Option<Parameter> {
        let mut parameter = self.read().parameters.get(name).cloned()?;
        parameter.value = self.resolve(&parameter.value);
        Some(parameter)
    }

    /// Every parameter whose name `wanted` accepts, by name.
    pub fn parameters(&self, wanted: impl Fn(&str) -> bool) -> Vec<Parameter> {
        let names: Vec<String> = self.read().parameters.keys().filter(|name| wanted(name)).cloned().collect();
        names.iter().filter_map(|name| self.parameter(name)).collect()
    }

    /// The secret with that name, ARN, or ARN without its random end.
    pub fn secret(&self, id: &str) -> Option<Secret> {
        let entries = self.read();
        let partial = |secret: &&Secret| {
            secret.arn == id || secret.arn.rsplit_once('-').is_some_and(|(beginning, _)| beginning == id)
        };
        let found = entries.secrets.get(id).or_else(|| entries.secrets.values().find(partial));
        let mut secret = found.cloned();
        drop(entries);
        let versions =
            secret.iter_mut().flat_map(|secret| [Some(&mut secret.current), secret.previous.as_mut()]);
        for version in versions.flatten() {
            version.value = self.resolve(&version.value);
        }
        secret
    }

    /// Every secret, by name.
    pub fn secrets(&self) -> Vec<Secret> {
        self.read().secrets.values().cloned().collect()
    }

    /// The text with every dynamic reference (`{{resolve:ssm:…}}`) to what is here replaced by its value. References to
    /// others, and within values, stay as they are.
    pub fn resolve(&self, text: &str) -> String {
        if !text.contains("{{resolve:") {
            return text.to_owned();
        }
        let mut resolved = String::with_capacity(text.len());
        let mut from = 0;
        for (range, reference) in DynamicReference::find_all(text) {
            resolved.push_str(&text[from..range.start]);
            match self.look_up(&reference) {
                Some(value) => resolved.push_str(&value),
                None => resolved.push_str(&text[range.clone()]),
            }
            from = range.end;
        }
        resolved.push_str(&text[from..]);
        resolved
    }

    /// References of a text that lead to nothing here, as they are written.
    pub fn unresolved(&self, text: &str) -> Vec<String> {
        let found = DynamicReference::find_all(text).into_iter();
        found
            .filter(|(_, reference)| self.look_up(reference).is_none())
            .map(|(range, _)| text[range].to_owned())
            .collect()
    }

    fn look_up(&self, reference: &DynamicReference) -> Option<String> {
        let entries = self.read();
        if reference.service != DynamicService::SecretsManager {
            let parameter = entries.parameters.get(&reference.name)?;
            let wanted = reference.version.is_none_or(|version| version == parameter.version);
            return wanted.then(|| parameter.value.clone());
        }
        let by_arn = |secret: &&Secret| {
            let beginning = secret.arn.rsplit_once('-').map(|(beginning, _)| beginning);
            secret.arn == reference.name || beginning == Some(&reference.name)
        };
        let secret =
            entries.secrets.get(&reference.name).or_else(|| entries.secrets.values().find(by_arn))?;
        let value = match reference.version_stage.as_deref() {
            None | Some("AWSCURRENT") => &secret.current.value,
            Some("AWSPREVIOUS") => &secret.previous.as_ref()?.value,
            Some(id) => [Some(&secret.current), secret.previous.as_ref()]
                .into_iter()
                .flatten()
                .find(|version| version.id == id)
                .map(|version| &version.value)?,
        };
        let Some(key) = &reference.json_key else { return Some(value.clone()) };
        let object: serde_json::Value = serde_json::from_str(value).ok()?;
        object.get(key).map(|field| field.as_str().map_or_else(|| field.to_string(), str::to_owned))
    }

    /// Stores a parameter, and says its version; durable when it returns.
    pub(crate) fn put_parameter(
        &self,
        name: &str,
        kind: Option<&str>,
        value: &str,
        overwrite: bool,
    ) -> Result<u64, PutError> {
        let mut file = self.file();
        let (template, there, count) = {
            let entries = self.read();
            let there = entries.parameters.get(name).cloned();
            (entries.templates.get(name).cloned(), there, entries.parameters.len())
        };
        match &there {
            Some(_) if !overwrite => return Err(PutError::Exists),
            None if count >= ENTRIES_MAX => return Err(PutError::Full),
            _ => {}
        }
        let kind = kind.or(there.as_ref().map(|there| there.kind.as_str())).unwrap_or("String").to_owned();
        let version = there.map_or(1, |there| there.version + 1);
        let changed_ms = telemetry::unix_millis();
        let stored = Stored {
            value: value.to_owned(),
            template,
            kind,
            version,
            version_id: String::new(),
            changed_ms,
        };
        let parameter = parameter_of(name, &stored);
        commit(&mut file, |content| drop(content.parameters.insert(name.to_owned(), stored)))?;
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.parameters.insert(name.to_owned(), parameter);
        Ok(version)
    }

    /// Stores another value of a secret; durable when it returns.
    pub(crate) fn put_secret(&self, id: &str, value: &str) -> Result<Secret, PutError> {
        let mut file = self.file();
        let mut secret = self.secret(id).ok_or(PutError::Unknown)?;
        let template = file.1.secrets.get(&secret.name).and_then(|stored| stored.template.clone());
        let stored = new_secret_value(value.to_owned(), template, telemetry::unix_millis());
        secret.previous = Some(std::mem::replace(&mut secret.current, version_of(&stored)));
        commit(&mut file, |content| drop(content.secrets.insert(secret.name.clone(), stored)))?;
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.secrets.insert(secret.name.clone(), secret.clone());
        Ok(secret)
    }
}

/// Changes what is stored, on the disk first.
fn commit(file: &mut (Store, Content), change: impl FnOnce(&mut Content)) -> Result<(), PutError> {
    let mut content = file.1.clone();
    change(&mut content);
    file.0.save(&content).map_err(PutError::File)?;
    file.1 = content;
    Ok(())
}

fn parameter_of(name: &str, stored: &Stored) -> Parameter {
    Parameter {
        name: name.to_owned(),
        kind: stored.kind.clone(),
        value: stored.value.clone(),
        version: stored.version,
        changed_ms: stored.changed_ms,
    }
}

fn new_secret_value(value: String, template: Option<String>, changed_ms: u64) -> Stored {
    Stored { value, template, kind: String::new(), version: 0, version_id: answer::request_id(), changed_ms }
}

fn version_of(stored: &Stored) -> SecretVersion {
    SecretVersion {
        id: stored.version_id.clone(),
        value: stored.value.clone(),
        created_ms: stored.changed_ms,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use model::stack::{GenerateSecret, Place, Secret as TemplateSecret, SsmParameter};

    pub(crate) fn stack(host: &str) -> Stack {
        let parameter = |name: &str, kind: &str, value: &str| SsmParameter {
            id: name.replace('/', ""),
            place: Place::default(),
            name: name.to_owned(),
            parameter_type: kind.to_owned(),
            value: value.to_owned(),
        };
        let secret = |name: &str, value: Option<&str>, generate: Option<GenerateSecret>| TemplateSecret {
            id: name.to_owned(),
            place: Place::default(),
            name: name.to_owned(),
            arn: format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}-AbCdEf"),
            value: value.map(str::to_owned),
            generate,
        };
        let wish = GenerateSecret {
            length: 24,
            exclude_characters: "\"@/\\".into(),
            exclude_punctuation: false,
            template: Some("{\"username\":\"orders\"}".into()),
            key: Some("password".into()),
        };
        Stack {
            ssm_parameters: vec![
                parameter("/shop/db/host", "String", host),
                parameter("/shop/db/key", "SecureString", "s3cret"),
                parameter("/shop/zones", "StringList", "a,b"),
                parameter("/shop/url", "String", "postgres://{{resolve:ssm:/shop/db/host}}/x"),
            ],
            secrets: vec![secret("orders", None, Some(wish)), secret("plain", Some("text"), None)],
            ..Stack::default()
        }
    }

    #[test]
    fn a_secret_is_made_once_and_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.json");
        let open = || Vault::open(Some(&stack("a")), Some(&path)).unwrap();
        let made = open().secret("orders").unwrap();
        assert!(made.current.value.contains("\"username\":\"orders\""), "{}", made.current.value);
        assert_eq!(open().secret(&made.arn).unwrap(), made);
        assert_eq!(open().secret(made.arn.strip_suffix("-AbCdEf").unwrap()).unwrap(), made);
        let put = open().put_secret("orders", "new").unwrap();
        assert_eq!((put.current.value.as_str(), put.previous.unwrap().value), ("new", made.current.value));
        assert_eq!(open().secret("orders").unwrap().current.value, "new");
    }

    #[test]
    fn what_was_put_stays_until_the_template_says_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.json");
        let open = |host| Vault::open(Some(&stack(host)), Some(&path)).unwrap();
        assert_eq!(open("a").put_parameter("/shop/db/host", None, "b", true).unwrap(), 2);
        assert_eq!(open("a").put_parameter("/own", Some("String"), "mine", false).unwrap(), 1);
        let vault = open("a");
        let host = vault.parameter("/shop/db/host").unwrap();
        assert_eq!((host.value.as_str(), host.version), ("b", 2));
        assert!(matches!(vault.put_parameter("/own", None, "x", false), Err(PutError::Exists)));
        let vault = open("c");
        let host = vault.parameter("/shop/db/host").unwrap();
        assert_eq!((host.value.as_str(), host.version), ("c", 3));
        assert_eq!(vault.parameter("/own").unwrap().value, "mine");
        assert_eq!(vault.parameter("/shop/url").unwrap().value, "postgres://c/x");
        let another = Vault::open(None, Some(&path)).unwrap();
        assert_eq!(another.parameter("/shop/db/host"), None, "another template's");
        std::fs::write(&path, "{").unwrap();
        assert!(Vault::open(None, Some(&path)).is_err(), "what is damaged is not overwritten");
    }

    #[test]
    fn references_are_looked_up() {
        let vault = Vault::open(Some(&stack("h")), None).unwrap();
        let text = "{{resolve:ssm:/shop/db/host:1}} {{resolve:secretsmanager:orders:SecretString:username}} {{resolve:ssm:/no}}";
        assert_eq!(vault.resolve(text), "h orders {{resolve:ssm:/no}}");
        assert_eq!(vault.unresolved(text), ["{{resolve:ssm:/no}}"]);
        assert_eq!(vault.resolve("{{resolve:secretsmanager:plain}}"), "text");
        assert_eq!(vault.unresolved("{{resolve:ssm:/shop/db/host:7}}").len(), 1);
    }
}
