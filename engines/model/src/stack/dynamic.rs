//! Dynamic references: values that are looked up when a resource is made, `{{resolve:ssm:/db/host}}`.
//!
//! The template reader keeps them as they are written; whoever runs the resource looks them up.

use serde::Serialize;
use std::ops::Range;

/// The service that a dynamic reference asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DynamicService {
    /// `ssm`: a plain parameter.
    Ssm,
    /// `ssm-secure`: an encrypted parameter.
    SsmSecure,
    /// `secretsmanager`: a secret.
    SecretsManager,
}

/// One `{{resolve:…}}`.
///
/// Source: CloudFormation User Guide, "Get values stored in other services using dynamic references".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DynamicReference {
    /// Whom to ask.
    pub service: DynamicService,
    /// The parameter's name, or the secret's name or ARN.
    pub name: String,
    /// The parameter's version, if one is given.
    pub version: Option<u64>,
    /// The key within the secret's JSON; without one, the whole secret.
    pub json_key: Option<String>,
    /// The secret's version stage (`AWSCURRENT` when absent) or version id.
    pub version_stage: Option<String>,
}

impl DynamicReference {
    /// Every well-formed reference in `text`, with its bytes.
    pub fn find_all(text: &str) -> Vec<(Range<usize>, Self)> {
        const OPEN: &str = "{{resolve:";
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(start) = text[from..].find(OPEN).map(|at| from + at) {
            let body = start + OPEN.len();
            let Some(end) = text[body..].find("}}").map(|at| body + at) else { break };
            if let Some(reference) = Self::read(&text[body..end]) {
                found.push((start..end + 2, reference));
            }
            from = end + 2;
        }
        found
    }

    /// What stands between `{{resolve:` and `}}`.
    fn read(body: &str) -> Option<Self> {
        let (service, rest) = body.split_once(':')?;
        let service = match service {
            "ssm" => DynamicService::Ssm,
            "ssm-secure" => DynamicService::SsmSecure,
            "secretsmanager" => DynamicService::SecretsManager,
            _ => return None,
        };
        let mut reference =
            Self { service, name: String::new(), version: None, json_key: None, version_stage: None };
        if service == DynamicService::SecretsManager {
            // A secret's ARN holds colons itself: arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME.
            let name_parts = if rest.starts_with("arn:") { 7 } else { 1 };
            let parts: Vec<&str> = rest.split(':').collect();
            reference.name = parts.get(..name_parts)?.join(":");
            let some = |index: usize| {
                parts.get(index).filter(|part| !part.is_empty()).map(|part| (*part).to_owned())
            };
            let kind = some(name_parts);
            if kind.as_deref().is_some_and(|kind| kind != "SecretString") {
                return None;
            }
            reference.json_key = some(name_parts + 1);
            reference.version_stage = some(name_parts + 2).or_else(|| some(name_parts + 3));
        } else {
            let (name, version) = match rest.rsplit_once(':').map(|(name, version)| (name, version.parse())) {
                Some((name, Ok(version))) => (name, Some(version)),
                _ => (rest, None),
            };
            reference.name = name.to_owned();
            reference.version = version;
        }
        (!reference.name.is_empty()).then_some(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_inside_text() {
        let text = "postgres://{{resolve:ssm:/db/user:3}}:{{resolve:secretsmanager:Db:SecretString:password}}@h {{resolve:x:y}}";
        let found = DynamicReference::find_all(text);
        assert_eq!(found.len(), 2);
        assert_eq!(&text[found[0].0.clone()], "{{resolve:ssm:/db/user:3}}");
        assert_eq!((found[0].1.name.as_str(), found[0].1.version), ("/db/user", Some(3)));
        assert_eq!((found[1].1.name.as_str(), found[1].1.json_key.as_deref()), ("Db", Some("password")));
    }

    #[test]
    fn a_secret_may_be_named_by_its_arn() {
        let text = "{{resolve:secretsmanager:arn:aws:secretsmanager:us-east-1:000000000000:secret:Db-abc:SecretString:user::}}";
        let reference = &DynamicReference::find_all(text)[0].1;
        assert_eq!(reference.name, "arn:aws:secretsmanager:us-east-1:000000000000:secret:Db-abc");
        assert_eq!(reference.json_key.as_deref(), Some("user"));
        assert!(DynamicReference::find_all("{{resolve:ssm").is_empty());
        assert!(DynamicReference::find_all("{{resolve:ssm:}}").is_empty());
    }
}
