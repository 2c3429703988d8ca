//! Creating, showing, changing and deleting functions.

use super::input::Input;
use super::{Answer, configuration, page};
use control::{Control, CreateFunction, UpdateFunctionCode, UpdateFunctionConfiguration};
use model::error::ApiError;
use serde_json::{Value, json};

const LIST_MAX: i64 = 10_000;

pub(super) fn create(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let function = control.create(input.body::<CreateFunction>()?)?;
    Ok(Answer::created(configuration::of(&function, false)))
}

pub(super) fn get(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let qualifier = input.query("Qualifier");
    let function = control.resolve(input.label(0), qualifier)?;
    let mut answer = json!({
        "Configuration": configuration::of(&function, is_qualified(input)),
        "Code": {"RepositoryType": "S3"},
    });
    if !function.tags.is_empty() {
        answer["Tags"] = json!(function.tags);
    }
    if let Some(reserved) = function.reserved {
        answer["Concurrency"] = json!({"ReservedConcurrentExecutions": reserved});
    }
    Ok(Answer::ok(answer))
}

pub(super) fn get_configuration(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let function = control.resolve(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::ok(configuration::of(&function, is_qualified(input))))
}

pub(super) fn list(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    if let Some(version) = input.query("FunctionVersion").filter(|version| *version != "ALL") {
        let constraint = "Member must satisfy enum value set: [ALL]";
        return Err(ApiError::validation(&version.escape_debug().to_string(), "functionVersion", constraint));
    }
    let (functions, next) = page::cut(input, LIST_MAX, control.functions(), |function| &function.name)?;
    // Asked for all versions, AWS names each by its qualified ARN.
    let qualified = input.query("FunctionVersion").is_some();
    let shapes: Vec<Value> =
        functions.iter().map(|function| configuration::of(function, qualified)).collect();
    Ok(Answer::ok(paged("Functions", &shapes, next.as_deref())))
}

pub(super) fn list_versions(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let function = control.resolve_unqualified(input.label(0))?;
    let (versions, next) = page::cut(input, LIST_MAX, vec![function], |function| &function.version)?;
    let shapes: Vec<Value> = versions.iter().map(|function| configuration::of(function, true)).collect();
    Ok(Answer::ok(paged("Versions", &shapes, next.as_deref())))
}

pub(super) fn update_code(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let function = control.update_code(input.label(0), input.body::<UpdateFunctionCode>()?)?;
    Ok(Answer::ok(configuration::of(&function, false)))
}

pub(super) fn update_configuration(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let request = input.body::<UpdateFunctionConfiguration>()?;
    let function = control.update_configuration(input.label(0), request)?;
    Ok(Answer::ok(configuration::of(&function, false)))
}

pub(super) fn delete(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete(input.label(0), input.query("Qualifier"))?;
    Ok(Answer { status: http::StatusCode::OK, body: None })
}

/// Whether the caller named a version, beside the name or within it.
fn is_qualified(input: &Input<'_>) -> bool {
    let within = model::name::FunctionReference::parse(input.label(0)).ok().and_then(|found| found.qualifier);
    input.query("Qualifier").is_some() || within.is_some()
}

pub(super) fn paged(member: &str, shapes: &[Value], next: Option<&str>) -> Value {
    let mut answer = json!({ member: shapes });
    if let Some(next) = next {
        answer["NextMarker"] = json!(next);
    }
    answer
}
