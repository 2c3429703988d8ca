//! Secrets Manager: the template's secrets, and new values of them.
//!
//! Source: AWS Secrets Manager API Reference, "GetSecretValue" and its neighbours; protocol JSON 1.1.

use serde_json::{Value, json};

use crate::answer::{Refused, page, seconds, text};
use crate::vault::{PutError, Secret, SecretVersion, Vault};

/// Secrets in one answer of `ListSecrets`. Source: its reference.
const PAGE_MAX: usize = 100;
/// Source: Secrets Manager quotas.
const VALUE_BYTES_MAX: usize = 65_536;

pub(crate) fn answer(vault: &Vault, operation: &str, request: &Value) -> Result<Value, Refused> {
    match operation {
        "GetSecretValue" => get(vault, request),
        "DescribeSecret" => Ok(described(&find(vault, request)?)),
        "ListSecrets" => list(vault, request),
        "PutSecretValue" => put(vault, request),
        other => Err(Refused::unknown_operation("secretsmanager", other)),
    }
}

fn find(vault: &Vault, request: &Value) -> Result<Secret, Refused> {
    let id = text(request, "SecretId")?.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refused::new("ValidationException", "You must specify a SecretId."))?;
    vault.secret(id).ok_or_else(not_found)
}

fn not_found() -> Refused {
    Refused::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

fn get(vault: &Vault, request: &Value) -> Result<Value, Refused> {
    let secret = find(vault, request)?;
    let (stage, id) = (text(request, "VersionStage")?, text(request, "VersionId")?);
    let fits = |(name, version): &(&str, &SecretVersion)| {
        let default = if id.is_none() { Some("AWSCURRENT") } else { None };
        stage.or(default).is_none_or(|stage| stage == *name) && id.is_none_or(|id| id == version.id)
    };
    let Some((stage, version)) = versions(&secret).into_iter().find(fits) else {
        let what = match (stage, id) {
            (Some(stage), _) => format!("staging label: {stage}"),
            (None, id) => format!("VersionId: {}", id.unwrap_or_default()),
        };
        let message = format!("Secrets Manager can't find the specified secret value for {what}");
        return Err(Refused::new("ResourceNotFoundException", message));
    };
    Ok(json!({
        "ARN": secret.arn,
        "Name": secret.name,
        "VersionId": version.id,
        "SecretString": version.value,
        "VersionStages": [stage],
        "CreatedDate": seconds(version.created_ms),
    }))
}

fn versions(secret: &Secret) -> Vec<(&'static str, &SecretVersion)> {
    let previous = secret.previous.as_ref().map(|version| ("AWSPREVIOUS", version));
    [Some(("AWSCURRENT", &secret.current)), previous].into_iter().flatten().collect()
}

fn described(secret: &Secret) -> Value {
    let stages: serde_json::Map<String, Value> =
        versions(secret).into_iter().map(|(stage, version)| (version.id.clone(), json!([stage]))).collect();
    json!({
        "ARN": secret.arn,
        "Name": secret.name,
        "LastChangedDate": seconds(secret.current.created_ms),
        "CreatedDate": seconds(secret.current.created_ms),
        "RotationEnabled": false,
        "Tags": [],
        "VersionIdsToStages": stages,
    })
}

fn list(vault: &Vault, request: &Value) -> Result<Value, Refused> {
    let (rows, next) = page(request, vault.secrets(), PAGE_MAX)?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|secret| {
            let mut row = described(secret);
            if let Some(stages) = row.as_object_mut().and_then(|row| row.remove("VersionIdsToStages")) {
                row["SecretVersionsToStages"] = stages;
            }
            row
        })
        .collect();
    let mut answer = json!({ "SecretList": rows });
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    Ok(answer)
}

fn put(vault: &Vault, request: &Value) -> Result<Value, Refused> {
    let secret = find(vault, request)?;
    let value = text(request, "SecretString")?;
    let value = value.ok_or_else(|| {
        Refused::new(
            "InvalidRequestException",
            "You must provide SecretString; Onrush keeps no SecretBinary.",
        )
    })?;
    if value.len() > VALUE_BYTES_MAX {
        let message = format!(
            "1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length \
             less than or equal to {VALUE_BYTES_MAX}"
        );
        return Err(Refused::new("ValidationException", message));
    }
    match vault.put_secret(&secret.name, value) {
        Ok(secret) => Ok(json!({
            "ARN": secret.arn,
            "Name": secret.name,
            "VersionId": secret.current.id,
            "VersionStages": ["AWSCURRENT"],
        })),
        Err(PutError::Unknown) => Err(not_found()),
        Err(error) => Err(Refused::new("InternalServiceError", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_name_arn_and_version() {
        let vault = Vault::open(Some(&crate::vault::tests::stack("h")), None).unwrap();
        let ask = |operation: &str, request: Value| answer(&vault, operation, &request);
        let first = ask("GetSecretValue", json!({ "SecretId": "plain" })).unwrap();
        assert_eq!(
            (first["SecretString"].as_str(), &first["VersionStages"]),
            (Some("text"), &json!(["AWSCURRENT"]))
        );
        assert_eq!(ask("GetSecretValue", json!({ "SecretId": first["ARN"] })).unwrap(), first);
        let put = ask("PutSecretValue", json!({ "SecretId": "plain", "SecretString": "new" })).unwrap();
        assert_ne!(put["VersionId"], first["VersionId"]);
        let get =
            |field: &str, value: &Value| ask("GetSecretValue", json!({ "SecretId": "plain", field: value }));
        assert_eq!(get("VersionStage", &json!("AWSPREVIOUS")).unwrap()["SecretString"], "text");
        assert_eq!(get("VersionId", &first["VersionId"]).unwrap()["SecretString"], "text");
        assert_eq!(get("VersionId", &put["VersionId"]).unwrap()["SecretString"], "new");
        assert_eq!(get("VersionStage", &json!("MINE")).unwrap_err().code, "ResourceNotFoundException");
        assert_eq!(
            ask("GetSecretValue", json!({ "SecretId": "no" })).unwrap_err().code,
            "ResourceNotFoundException"
        );
        assert_eq!(ask("ListSecrets", json!({})).unwrap()["SecretList"].as_array().unwrap().len(), 2);
        assert_eq!(ask("DescribeSecret", json!({ "SecretId": "plain" })).unwrap()["Name"], "plain");
        let large = json!({ "SecretId": "plain", "SecretString": "x".repeat(70_000) });
        assert_eq!(ask("PutSecretValue", large).unwrap_err().code, "ValidationException");
    }
}
