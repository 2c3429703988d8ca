//! Code signing configurations: kept, not used.

use super::functions::paged;
use super::input::Input;
use super::{Answer, page};
use control::{CodeSigningConfig, CodeSigningSettings, Control};
use model::error::ApiError;
use serde_json::{Value, json};

const LIST_MAX: i64 = 10_000;

/// What the API shows of one: all but its tags.
fn shape(config: &CodeSigningConfig) -> Value {
    let mut shape = json!(config);
    if let Value::Object(members) = &mut shape {
        members.remove("Tags");
    }
    shape
}

pub(super) fn create(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let config = control.create_signing_config(input.body::<CodeSigningSettings>()?)?;
    Ok(Answer::created(json!({"CodeSigningConfig": shape(&config)})))
}

pub(super) fn get(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let config = control.signing_config(input.label(0))?;
    Ok(Answer::ok(json!({"CodeSigningConfig": shape(&config)})))
}

pub(super) fn update(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let config = control.update_signing_config(input.label(0), input.body::<CodeSigningSettings>()?)?;
    Ok(Answer::ok(json!({"CodeSigningConfig": shape(&config)})))
}

pub(super) fn delete(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete_signing_config(input.label(0))?;
    Ok(Answer::nothing())
}

pub(super) fn list(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let configs = control.signing_configs();
    let (found, next) = page::cut(input, LIST_MAX, configs.iter().collect(), |(arn, _)| arn)?;
    let shapes: Vec<Value> = found.into_iter().map(|(_, config)| shape(config)).collect();
    Ok(Answer::ok(paged("CodeSigningConfigs", &shapes, next.as_deref())))
}

pub(super) fn functions(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.signing_config(input.label(0))?;
    let functions = control.functions_signed_by(input.label(0));
    let (functions, next) = page::cut(input, LIST_MAX, functions, |function| &function.name)?;
    let arns: Vec<Value> = functions.iter().map(|function| json!(function.arn)).collect();
    Ok(Answer::ok(paged("FunctionArns", &arns, next.as_deref())))
}
