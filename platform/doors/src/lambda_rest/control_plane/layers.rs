//! Layers.

use super::functions::paged;
use super::input::Input;
use super::{Answer, page};
use crate::downloads::{Of, location};
use control::layer::LayerVersion;
use control::validate::{Violations, is_known};
use control::{Control, LayerPermission, PublishLayer};
use model::error::{ApiError, ErrorCode, Violation};
use serde_json::{Value, json};

const LIST_MAX: i64 = 50;

pub(super) fn publish(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let mut request = input.body::<PublishLayer>()?;
    request.content.iter_mut().for_each(|content| content.in_session = input.in_session());
    let version = control.publish_layer(input.label(0), request)?;
    Ok(Answer::created(whole(control, input, &version)))
}

pub(super) fn get(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    Ok(Answer::ok(whole(control, input, &control.layer_version(input.label(0), input.label(1))?)))
}

pub(super) fn get_by_arn(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let arn = input.query("Arn").ok_or_else(|| ApiError::validations(&[Violation::missing("arn")]))?;
    Ok(Answer::ok(whole(control, input, &control.layer_by_arn(arn)?)))
}

pub(super) fn delete(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete_layer(input.label(0), input.label(1))?;
    Ok(Answer::nothing())
}

pub(super) fn list(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    check_filter(input)?;
    let layers = control.layers();
    let latest = layers.values().filter_map(|layer| {
        let latest = layer.versions.values().rev().find(|version| suits(version, input))?;
        Some((&layer.name, latest))
    });
    let (found, next) = page::cut(input, LIST_MAX, latest.collect(), |(name, _)| name)?;
    let shapes: Vec<Value> = found
        .into_iter()
        .map(|(name, latest)| {
            let arn = control.layer_arn(name);
            json!({"LayerName": name, "LayerArn": arn, "LatestMatchingVersion": shape(latest)})
        })
        .collect();
    Ok(Answer::ok(paged("Layers", &shapes, next.as_deref())))
}

pub(super) fn list_versions(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    check_filter(input)?;
    let layers = control.layers();
    let name = control.layer_name(input.label(0))?;
    // The newest first, as AWS lists them.
    let versions = layers.get(&name).into_iter().flat_map(|layer| layer.versions.values().rev());
    let versions: Vec<&LayerVersion> = versions.filter(|version| suits(version, input)).collect();
    let key = |version: &&LayerVersion| format!("{:020}", u64::MAX - version.version);
    let (versions, next) = page::cut_by(input, LIST_MAX, versions, key)?;
    let shapes: Vec<Value> = versions.into_iter().map(shape).collect();
    Ok(Answer::ok(paged("LayerVersions", &shapes, next.as_deref())))
}

pub(super) fn add_permission(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let request = input.body::<LayerPermission>()?;
    let revision = input.query("RevisionId");
    let (statement, revision) =
        control.add_layer_permission(input.label(0), input.label(1), &request, revision)?;
    Ok(Answer::created(json!({"Statement": statement.to_string(), "RevisionId": revision})))
}

pub(super) fn remove_permission(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let revision = input.query("RevisionId");
    control.remove_layer_permission(input.label(0), input.label(1), input.label(2), revision)?;
    Ok(Answer::nothing())
}

pub(super) fn policy(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let version = control.layer_with_policy(input.label(0), input.label(1))?;
    if version.policy.is_empty() {
        let message = "No policy is associated with the given resource.";
        return Err(ApiError::new(ErrorCode::ResourceNotFound, message));
    }
    let statements: Vec<&Value> = version.policy.iter().map(|statement| &statement.document).collect();
    let document = json!({"Version": "2012-10-17", "Id": "default", "Statement": statements});
    Ok(Answer::ok(json!({"Policy": document.to_string(), "RevisionId": version.revision_id})))
}

/// What lists may be asked to leave out.
fn check_filter(input: &Input<'_>) -> Result<(), ApiError> {
    let runtime = input.query("CompatibleRuntime").filter(|runtime| !is_known(runtime));
    let architecture = input.query("CompatibleArchitecture");
    let architecture = architecture.filter(|asked| !matches!(*asked, "x86_64" | "arm64"));
    let mut violations = Violations::default();
    for (value, member, set) in [
        (runtime, "compatibleRuntime", "Member must satisfy enum value set of Lambda's runtimes"),
        (architecture, "compatibleArchitecture", "Member must satisfy enum value set: [x86_64, arm64]"),
    ] {
        if let Some(value) = value {
            violations.add(value.escape_debug().to_string(), member, set);
        }
    }
    violations.finish()
}

/// Whether a version suits what the query asks for: it names the runtime and the architecture.
fn suits(version: &LayerVersion, input: &Input<'_>) -> bool {
    let fits = |asked: Option<&str>, list: &[String]| {
        asked.is_none_or(|asked| list.iter().any(|found| found == asked))
    };
    fits(input.query("CompatibleRuntime"), &version.compatible_runtimes)
        && fits(input.query("CompatibleArchitecture"), &version.compatible_architectures)
}

fn shape(version: &LayerVersion) -> Value {
    let arn = &version.layer.arn;
    let mut shape = json!({
        "LayerVersionArn": arn,
        "Version": version.version,
        "Description": version.description,
        "CreatedDate": version.created,
    });
    if !version.compatible_runtimes.is_empty() {
        shape["CompatibleRuntimes"] = json!(version.compatible_runtimes);
    }
    if !version.compatible_architectures.is_empty() {
        shape["CompatibleArchitectures"] = json!(version.compatible_architectures);
    }
    if let Some(license) = &version.license_info {
        shape["LicenseInfo"] = json!(license);
    }
    shape
}

/// The same with its layer and where its files can be fetched, as the operations on one version answer it.
fn whole(control: &Control, input: &Input<'_>, version: &LayerVersion) -> Value {
    let (layer, mut shape) = (&version.layer, shape(version));
    let arn = layer.arn.rsplit_once(':').map_or(layer.arn.as_str(), |(layer, _)| layer);
    let name = arn.rsplit_once(':').map_or(arn, |(_, name)| name);
    shape["LayerArn"] = json!(arn);
    shape["Content"] = json!({
        "Location": location(control, input.host(), Of::Layer(name, version.version), &layer.sha256),
        "CodeSha256": layer.sha256,
        "CodeSize": layer.code_size,
    });
    shape
}
