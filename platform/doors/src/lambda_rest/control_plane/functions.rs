//! Creating, showing, changing and deleting functions.

use super::input::Input;
use super::{Answer, configuration, page};
use crate::downloads::{Of, location};
use control::{Control, CreateFunction, Function, UpdateFunctionCode, UpdateFunctionConfiguration};
use model::error::ApiError;
use model::name::{LATEST, qualified_arn};
use serde_json::{Value, json};
use std::sync::Arc;

const LIST_MAX: i64 = 10_000;

pub(super) fn create(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let mut request = input.body::<CreateFunction>()?;
    request.code.iter_mut().for_each(|code| code.in_session = input.in_session());
    let function = control.create(request)?;
    // Recorded so: with `Publish` the version's number, and the function's ARN.
    Ok(Answer::created(configuration::pending(&function, false)))
}

pub(super) fn get(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let version = control.resolve(input.label(0), input.query("Qualifier"))?;
    let code = match (&version.image, &version.pull) {
        (Some(image), _) => {
            json!({"RepositoryType": "ECR", "ImageUri": image.uri, "ResolvedImageUri": image.resolved_uri()})
        }
        (None, Some(pull)) => {
            let mut code = json!({"RepositoryType": "ECR", "ImageUri": pull.uri});
            if let Some(resolved) = pull.resolved_uri() {
                code["ResolvedImageUri"] = json!(resolved);
            }
            code
        }
        (None, None) => {
            let of = Of::Function(&version.name, &version.version);
            json!({"RepositoryType": "S3", "Location": location(control, input.host(), of, &version.code_sha256)})
        }
    };
    let mut answer = json!({"Configuration": qualified(control, input)?, "Code": code});
    // Tags and reservation belong to the function as a whole.
    let (function, _) = control.resolve_with_qualifier(input.label(0), input.query("Qualifier"))?;
    if !function.tags.is_empty() {
        answer["Tags"] = json!(function.tags);
    }
    if let Some(reserved) = function.reserved {
        answer["Concurrency"] = json!({"ReservedConcurrentExecutions": reserved});
    }
    Ok(Answer::ok(answer))
}

pub(super) fn get_configuration(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    Ok(Answer::ok(qualified(control, input)?))
}

pub(super) fn list(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    if let Some(version) = input.query("FunctionVersion").filter(|version| *version != "ALL") {
        let constraint = "Member must satisfy enum value set: [ALL]";
        return Err(ApiError::validation(&version.escape_debug().to_string(), "functionVersion", constraint));
    }
    if let Some(region) = input.query("MasterRegion").filter(|region| !is_master_region(region)) {
        let pattern = r"Member must satisfy regular expression pattern: ALL|(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}";
        return Err(ApiError::validation(&region.escape_debug().to_string(), "masterRegion", pattern));
    }
    // Asked for all versions, AWS names each by its qualified ARN.
    let qualified = input.query("FunctionVersion").is_some();
    let (size, after) = (page::size(input, LIST_MAX)?, page::after(input)?);
    let key = |function: &Function| format!("{}/{}", function.name, page::number_key(&function.version));
    let last = after.as_deref().unwrap_or_default();
    let last = last.split_once('/').unwrap_or((last, ""));
    // The one that came last, whose versions may be still to come, and one that says whether there are more.
    let functions = control.functions_from(last.0, size + 2).into_iter().flat_map(|latest| {
        let published = latest.published.versions.values().filter(|_| qualified).cloned();
        let published: Vec<_> = published.collect();
        std::iter::once(latest).chain(published)
    });
    let is_new = |function: &Arc<Function>| {
        (function.name.as_str(), page::number_key(&function.version).as_str()) > last
    };
    let mut functions: Vec<_> = functions.filter(is_new).take(size + 1).collect();
    let more = functions.len() > size;
    functions.truncate(size);
    let next = functions.last().filter(|_| more).map(|function| page::marker(input, &key(function)));
    let shapes: Vec<Value> =
        functions.iter().map(|function| configuration::listed(function, qualified)).collect();
    Ok(Answer::ok(paged("Functions", &shapes, next.as_deref())))
}

/// Functions have no copies in other Regions: whichever is named, all are listed.
fn is_master_region(text: &str) -> bool {
    text == "ALL" || model::name::is_region(text)
}

pub(super) fn update_code(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let mut request = input.body::<UpdateFunctionCode>()?;
    request.code.in_session = input.in_session();
    let dry_run = request.dry_run == Some(true);
    let function = control.update_code(input.label(0), request)?;
    let is_version = function.version != LATEST;
    Ok(Answer::ok(match (dry_run, is_version) {
        (true, _) => configuration::of(&function, false),
        (false, true) => configuration::pending(&function, true),
        (false, false) => configuration::updating(&function),
    }))
}

pub(super) fn update_configuration(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let request = input.body::<UpdateFunctionConfiguration>()?;
    let function = control.update_configuration(input.label(0), request)?;
    Ok(Answer::ok(configuration::updating(&function)))
}

/// 204, although the service model says 200: there the status is a member of the answer, 202 for what Onrush does not run.
///
/// Source: measured on AWS by others (floci-io/floci#2824), read 2026-11.
pub(super) fn delete(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::nothing())
}

/// The version that the caller named, beside the name or within it, under the ARN that it was named by.
fn qualified(control: &Control, input: &Input<'_>) -> Result<Value, ApiError> {
    let (label, beside) = (input.label(0), input.query("Qualifier"));
    let version = control.resolve(label, beside)?;
    let (function, qualifier) = control.resolve_with_qualifier(label, beside)?;
    let mut shape = configuration::of(&version, false);
    if let Some(qualifier) = qualifier {
        shape["FunctionArn"] = json!(qualified_arn(&function.arn, &qualifier));
    }
    Ok(shape)
}

pub(super) fn paged(member: &str, shapes: &[Value], next: Option<&str>) -> Value {
    let mut answer = json!({ member: shapes });
    if let Some(next) = next {
        answer["NextMarker"] = json!(next);
    }
    answer
}
