//! SSM Parameter Store: reading the template's parameters, and putting some.
//!
//! Source: AWS Systems Manager API Reference, "GetParameter" and its neighbours; protocol JSON 1.1.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::name::partition_of;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::answer::{Refused, page, seconds, switch, text};
use crate::vault::{Parameter, PutError, Vault};

/// Names in one `GetParameters`. Source: its reference, 10.
const NAMES_MAX: usize = 10;
/// Parameters in one answer of `GetParametersByPath`, and of `DescribeParameters`. Source: their references.
const PATH_PAGE_MAX: usize = 10;
const DESCRIBE_PAGE_MAX: usize = 50;
/// Largest value of a standard and of an advanced parameter. Source: Parameter Store quotas.
const STANDARD_BYTES_MAX: usize = 4_096;
const ADVANCED_BYTES_MAX: usize = 8_192;
const NAME_CHARACTERS_MAX: usize = 1_011;
const LEVELS_MAX: usize = 15;

pub(crate) struct Ssm<'a> {
    pub vault: &'a Vault,
    pub region: &'a str,
    pub account_id: &'a str,
}

impl Ssm<'_> {
    pub(crate) fn answer(&self, operation: &str, request: &Value) -> Result<Value, Refused> {
        match operation {
            "GetParameter" => self.get(request),
            "GetParameters" => self.get_several(request),
            "GetParametersByPath" => self.get_by_path(request),
            "DescribeParameters" => self.describe(request),
            "PutParameter" => self.put(request),
            other => Err(Refused::unknown_operation("ssm", other)),
        }
    }

    fn get(&self, request: &Value) -> Result<Value, Refused> {
        let name = required(request, "Name")?;
        let found = self.find(name)?;
        let (parameter, selector) = found.ok_or_else(|| not_found(name))?;
        Ok(json!({ "Parameter": self.shown(&parameter, selector, switch(request, "WithDecryption")?) }))
    }

    fn get_several(&self, request: &Value) -> Result<Value, Refused> {
        let names = request.get("Names").and_then(Value::as_array);
        let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
        if names.is_empty() || names.len() > NAMES_MAX {
            return Err(invalid(
                "names",
                &format!("{names:?}"),
                "Member must have length less than or equal to 10, and greater than or equal to 1",
            ));
        }
        let decrypt = switch(request, "WithDecryption")?;
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for name in BTreeSet::from_iter(names) {
            match self.find(name) {
                Ok(Some((parameter, selector))) => found.push(self.shown(&parameter, selector, decrypt)),
                _ => unknown.push(name),
            }
        }
        Ok(json!({ "Parameters": found, "InvalidParameters": unknown }))
    }

    fn get_by_path(&self, request: &Value) -> Result<Value, Refused> {
        let path = required(request, "Path")?;
        if !path.starts_with('/') {
            return Err(Refused::new(
                "ValidationException",
                format!(
                    "The parameter path must begin with a slash, and it must be a fully qualified name: \"{path}\" is none."
                ),
            ));
        }
        let (recursive, decrypt) = (switch(request, "Recursive")?, switch(request, "WithDecryption")?);
        let folder = format!("{}/", path.trim_end_matches('/'));
        let below = |name: &str| {
            let rest = match folder.as_str() {
                "/" => Some(name.strip_prefix('/').unwrap_or(name)),
                folder => name.strip_prefix(folder),
            };
            rest.is_some_and(|rest| recursive || !rest.contains('/'))
        };
        let (rows, next) = page(request, self.vault.parameters(below), PATH_PAGE_MAX)?;
        let rows: Vec<Value> = rows.iter().map(|parameter| self.shown(parameter, "", decrypt)).collect();
        Ok(with_next(json!({ "Parameters": rows }), next))
    }

    fn describe(&self, request: &Value) -> Result<Value, Refused> {
        let filters =
            request.get("ParameterFilters").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let matches = |parameter: &Parameter| filters.iter().all(|filter| passes(filter, parameter));
        let all = self.vault.parameters(|_| true).into_iter().filter(matches).collect();
        let (rows, next) = page(request, all, DESCRIBE_PAGE_MAX)?;
        let rows: Vec<Value> = rows
            .iter()
            .map(|parameter| {
                json!({
                    "Name": parameter.name,
                    "ARN": self.arn(&parameter.name),
                    "Type": parameter.kind,
                    "LastModifiedDate": seconds(parameter.changed_ms),
                    "LastModifiedUser": format!("arn:{}:iam::{}:root", partition_of(self.region), self.account_id),
                    "Version": parameter.version,
                    "Tier": tier(&parameter.value),
                    "Policies": [],
                    "DataType": "text",
                })
            })
            .collect();
        Ok(with_next(json!({ "Parameters": rows }), next))
    }

    fn put(&self, request: &Value) -> Result<Value, Refused> {
        let (name, value) = (required(request, "Name")?, required(request, "Value")?);
        let kind = text(request, "Type")?;
        check_name(name)?;
        if let Some(kind) = kind.filter(|kind| !["String", "StringList", "SecureString"].contains(kind)) {
            return Err(invalid(
                "type",
                kind,
                "Member must satisfy enum value set: [SecureString, StringList, String]",
            ));
        }
        if value.is_empty() || value.len() > ADVANCED_BYTES_MAX {
            let message = format!(
                "Standard tier parameters support a maximum parameter value of {STANDARD_BYTES_MAX} characters, advanced \
                 ones {ADVANCED_BYTES_MAX}."
            );
            return Err(Refused::new("ValidationException", message));
        }
        if kind.is_none() && self.vault.parameter(name).is_none() {
            let message = "A parameter type is required when you create a parameter.";
            return Err(Refused::new("ValidationException", message));
        }
        match self.vault.put_parameter(name, kind, value, switch(request, "Overwrite")?) {
            Ok(version) => Ok(json!({ "Version": version, "Tier": tier(value) })),
            Err(PutError::Exists) => Err(Refused::new(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
            )),
            Err(PutError::Full) => Err(Refused::new(
                "ParameterLimitExceeded",
                "You have exceeded the number of parameters for this AWS account.",
            )),
            Err(error) => Err(Refused::new("InternalServerError", error.to_string())),
        }
    }

    /// The parameter that a name, a name with `:VERSION`, an ARN, or a reference to a secret means, and the selector.
    fn find<'n>(&self, wanted: &'n str) -> Result<Option<(Parameter, &'n str)>, Refused> {
        if let Some(id) = wanted.strip_prefix("/aws/reference/secretsmanager/") {
            let secret = self.vault.secret(id);
            return Ok(secret.map(|secret| {
                let (value, changed_ms) = (secret.current.value, secret.current.created_ms);
                let (name, kind) = (wanted.to_owned(), "SecureString".to_owned());
                (Parameter { name, kind, value, version: 0, changed_ms }, "")
            }));
        }
        let plain = match wanted.strip_prefix("arn:") {
            // arn:aws:ssm:REGION:ACCOUNT:parameter/NAME, where a name that begins with a slash has it once.
            Some(arn) => match arn.splitn(5, ':').last().and_then(|rest| rest.strip_prefix("parameter")) {
                Some(name) => name,
                None => return Ok(None),
            },
            None => wanted,
        };
        let (name, selector) = plain.split_once(':').unwrap_or((plain, ""));
        let found = self.vault.parameter(name);
        let found =
            found.or_else(|| self.vault.parameter(name.strip_prefix('/').filter(|_| plain != wanted)?));
        let Some(parameter) = found else { return Ok(None) };
        if !selector.is_empty() && selector.parse() != Ok(parameter.version) {
            let message = format!(
                "Systems Manager could not find version {selector} of {name}. Verify the version and try again."
            );
            return Err(Refused::new("ParameterVersionNotFound", message));
        }
        Ok(Some((parameter, &plain[name.len()..])))
    }

    fn shown(&self, parameter: &Parameter, selector: &str, decrypt: bool) -> Value {
        let value = match parameter.kind.as_str() {
            "SecureString" if !decrypt => encrypted(&parameter.value),
            _ => parameter.value.clone(),
        };
        let mut shown = json!({
            "Name": parameter.name,
            "Type": parameter.kind,
            "Value": value,
            "Version": parameter.version,
            "LastModifiedDate": seconds(parameter.changed_ms),
            "ARN": self.arn(&parameter.name),
            "DataType": "text",
        });
        if !selector.is_empty() {
            shown["Selector"] = selector.into();
        }
        shown
    }

    fn arn(&self, name: &str) -> String {
        let slash = if name.starts_with('/') { "" } else { "/" };
        let Self { region, account_id, .. } = self;
        format!("arn:{}:ssm:{region}:{account_id}:parameter{slash}{name}", partition_of(region))
    }
}

/// What a value looks like to somebody who does not ask for decryption: the same each time, and not to be read.
fn encrypted(value: &str) -> String {
    let digest = Sha256::digest(value.as_bytes());
    format!("AQICAH{}", STANDARD.encode([digest.as_slice(), digest.as_slice()].concat()))
}

fn tier(value: &str) -> &'static str {
    if value.len() > STANDARD_BYTES_MAX { "Advanced" } else { "Standard" }
}

fn required<'a>(request: &'a Value, name: &str) -> Result<&'a str, Refused> {
    text(request, name)?.filter(|text| !text.is_empty()).ok_or_else(|| {
        let member = name[..1].to_ascii_lowercase() + &name[1..];
        let message = format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        );
        Refused::new("ValidationException", message)
    })
}

fn invalid(member: &str, value: &str, constraint: &str) -> Refused {
    let message = format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
    );
    Refused::new("ValidationException", message)
}

fn not_found(name: &str) -> Refused {
    Refused::new("ParameterNotFound", format!("Parameter {name} not found."))
}

fn check_name(name: &str) -> Result<(), Refused> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
    let levels = name.trim_start_matches('/').split('/').count();
    if levels > LEVELS_MAX {
        let message = format!("Parameter name exceeds the maximum of {LEVELS_MAX} levels.");
        return Err(Refused::new("HierarchyLevelLimitExceededException", message));
    }
    let qualified = name.starts_with('/') || !name.contains('/');
    match name.len() <= NAME_CHARACTERS_MAX && name.bytes().all(sound) && qualified {
        true => Ok(()),
        false => Err(Refused::new(
            "ValidationException",
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist of \
             sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following \
             3 symbols .-_",
        )),
    }
}

/// Filters by name, type and path, as `DescribeParameters` has them; others let everything pass.
fn passes(filter: &Value, parameter: &Parameter) -> bool {
    let values: Vec<&str> =
        filter["Values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let option = filter["Option"].as_str().unwrap_or("Equals");
    match filter["Key"].as_str() {
        Some("Name") => values.iter().any(|value| match option {
            "BeginsWith" => parameter.name.starts_with(value),
            "Contains" => parameter.name.contains(value),
            _ => parameter.name == *value,
        }),
        Some("Type") => values.contains(&parameter.kind.as_str()),
        Some("Path") => values.iter().any(|value| {
            let rest = parameter.name.strip_prefix(value.trim_end_matches('/'));
            let rest = rest.and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| option == "Recursive" || !rest.contains('/'))
        }),
        _ => true,
    }
}

fn with_next(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(operation: &str, request: &Value) -> Result<Value, Refused> {
        let vault = Vault::open(Some(&crate::vault::tests::stack("db.test")), None).unwrap();
        Ssm { vault: &vault, region: "us-east-1", account_id: "000000000000" }.answer(operation, request)
    }

    #[test]
    fn a_parameter_is_read_by_name_version_and_arn() {
        let arn = "arn:aws:ssm:us-east-1:000000000000:parameter/shop/db/host";
        for name in ["/shop/db/host", "/shop/db/host:1", arn] {
            let answer = ask("GetParameter", &json!({ "Name": name })).unwrap();
            let parameter = &answer["Parameter"];
            assert_eq!(
                (parameter["Value"].as_str(), parameter["ARN"].as_str()),
                (Some("db.test"), Some(arn)),
                "{name}"
            );
        }
        let refused = |name: &str| ask("GetParameter", &json!({ "Name": name })).unwrap_err().code;
        assert_eq!(refused("/no"), "ParameterNotFound");
        assert_eq!(refused("/shop/db/host:9"), "ParameterVersionNotFound");
        assert_eq!(refused(""), "ValidationException");
        assert_eq!(refused("arn:aws:s3:::x"), "ParameterNotFound");
        let secret = ask(
            "GetParameter",
            &json!({ "Name": "/aws/reference/secretsmanager/plain", "WithDecryption": true }),
        );
        assert_eq!(secret.unwrap()["Parameter"]["Value"], "text");
    }

    #[test]
    fn secure_strings_are_shown_only_when_asked_for() {
        let value = |decrypt: bool| {
            let request = json!({ "Name": "/shop/db/key", "WithDecryption": decrypt });
            ask("GetParameter", &request).unwrap()["Parameter"]["Value"].as_str().unwrap().to_owned()
        };
        assert_eq!(value(true), "s3cret");
        assert!(value(false).starts_with("AQICAH"));
    }

    #[test]
    fn several_are_read_and_unknown_ones_named() {
        let answer = ask("GetParameters", &json!({ "Names": ["/shop/zones", "/x", "/shop/zones"] })).unwrap();
        assert_eq!(
            (answer["Parameters"].as_array().unwrap().len(), &answer["InvalidParameters"]),
            (1, &json!(["/x"]))
        );
        assert!(ask("GetParameters", &json!({ "Names": [] })).is_err());
    }

    #[test]
    fn a_path_is_read_page_by_page() {
        let names = |request: Value| -> Vec<String> {
            let answer = ask("GetParametersByPath", &request).unwrap();
            let rows = answer["Parameters"].as_array().unwrap();
            rows.iter().map(|row| row["Name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(json!({ "Path": "/shop" })), ["/shop/url", "/shop/zones"]);
        assert_eq!(names(json!({ "Path": "/shop/", "Recursive": true })).len(), 4);
        assert_eq!(names(json!({ "Path": "/", "Recursive": true })).len(), 4);
        assert_eq!(names(json!({ "Path": "/sho", "Recursive": true })).len(), 0);
        let first =
            ask("GetParametersByPath", &json!({ "Path": "/", "Recursive": true, "MaxResults": 3 })).unwrap();
        let next =
            json!({ "Path": "/", "Recursive": true, "MaxResults": 3, "NextToken": first["NextToken"] });
        assert_eq!(names(next), ["/shop/zones"]);
        assert!(ask("GetParametersByPath", &json!({ "Path": "/", "MaxResults": 11 })).is_err());
    }

    #[test]
    fn a_parameter_is_put_and_not_overwritten_by_mistake() {
        let vault = Vault::open(None, None).unwrap();
        let ssm = Ssm { vault: &vault, region: "us-east-1", account_id: "000000000000" };
        let put = |request: Value| ssm.answer("PutParameter", &request);
        assert_eq!(put(json!({ "Name": "a", "Value": "1" })).unwrap_err().code, "ValidationException");
        assert_eq!(put(json!({ "Name": "a", "Value": "1", "Type": "String" })).unwrap()["Version"], 1);
        let again = put(json!({ "Name": "a", "Value": "2", "Type": "String" })).unwrap_err();
        assert_eq!(again.code, "ParameterAlreadyExists");
        assert_eq!(put(json!({ "Name": "a", "Value": "2", "Overwrite": true })).unwrap()["Version"], 2);
        assert!(put(json!({ "Name": "a b", "Value": "2", "Type": "String" })).is_err());
        assert!(put(json!({ "Name": "a", "Value": "x".repeat(9_000), "Overwrite": true })).is_err());
        assert_eq!(ssm.answer("Nonsense", &json!({})).unwrap_err().code, "UnknownOperationException");
    }
}
