//! What is set for versions and aliases: provisioned concurrency, asynchronous events; and what is stored only.

use super::functions::paged;
use super::input::Input;
use super::{Answer, Live, page};
use control::published::{Provisioned, RecursiveLoop};
use control::{Control, EventInvokeConfig, Function, RuntimeManagementSettings};
use http::StatusCode;
use invoke::{ProvisionedCounts, ProvisionedStatus};
use model::error::ApiError;
use model::name::{LATEST, qualified_arn};
use serde::Deserialize;
use serde_json::{Value, json};

const LIST_MAX: i64 = 50;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProvisionedSettings {
    provisioned_concurrent_executions: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventSettings {
    maximum_retry_attempts: Option<i64>,
    maximum_event_age_in_seconds: Option<i64>,
    destination_config: Option<Destinations>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destinations {
    on_success: Option<Destination>,
    on_failure: Option<Destination>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destination {
    destination: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Recursion {
    recursive_loop: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signing {
    code_signing_config_arn: Option<String>,
}

pub(super) fn put_provisioned(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let asked = input.body::<ProvisionedSettings>()?.provisioned_concurrent_executions;
    let (function, qualifier) = control.put_provisioned(input.label(0), input.query("Qualifier"), asked)?;
    let found = function.published.provisioned.get(&qualifier);
    // Nothing is allocated in the instant of asking.
    let body = found.map(|found| provisioned_shape(found, None));
    Ok(Answer { status: StatusCode::ACCEPTED, body })
}

pub(super) fn get_provisioned(
    control: &Control,
    live: Live<'_>,
    input: &Input<'_>,
) -> Result<Answer, ApiError> {
    let (function, qualifier, found) = control.get_provisioned(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::ok(provisioned_shape(&found, live.provisioned(&format!("{}:{qualifier}", function.name)))))
}

pub(super) fn delete_provisioned(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete_provisioned(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::nothing())
}

pub(super) fn list_provisioned(
    control: &Control,
    live: Live<'_>,
    input: &Input<'_>,
) -> Result<Answer, ApiError> {
    let function = control.resolve_unqualified(input.label(0))?;
    let all: Vec<_> = function.published.provisioned.iter().collect();
    let (all, next) = page::cut(input, LIST_MAX, all, |(qualifier, _)| qualifier)?;
    let shapes: Vec<Value> = all
        .into_iter()
        .map(|(qualifier, found)| {
            let mut shape =
                provisioned_shape(found, live.provisioned(&format!("{}:{qualifier}", function.name)));
            shape["FunctionArn"] = json!(qualified_arn(&function.arn, qualifier));
            shape
        })
        .collect();
    Ok(Answer::ok(paged("ProvisionedConcurrencyConfigs", &shapes, next.as_deref())))
}

fn provisioned_shape(asked: &Provisioned, counts: Option<ProvisionedCounts>) -> Value {
    let (allocated, available) = counts.map_or((0, 0), |counts| (counts.allocated, counts.available));
    let status = counts.map_or(ProvisionedStatus::InProgress, |counts| counts.status);
    let mut shape = json!({
        "RequestedProvisionedConcurrentExecutions": asked.requested,
        "AllocatedProvisionedConcurrentExecutions": allocated,
        "AvailableProvisionedConcurrentExecutions": available,
        "Status": match status {
            ProvisionedStatus::InProgress => "IN_PROGRESS",
            ProvisionedStatus::Ready => "READY",
            ProvisionedStatus::Failed => "FAILED",
        },
        "LastModified": asked.last_modified,
    });
    if status == ProvisionedStatus::Failed {
        shape["StatusReason"] = json!("FUNCTION_ERROR_INIT_FAILURE");
    }
    shape
}

pub(super) fn put_event_invoke(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    set_event_invoke(control, input, EventInvokeConfig::default())
}

pub(super) fn update_event_invoke(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.event_invoke_owner(input.label(0), input.query("Qualifier"))?;
    let before = control.get_event_invoke(input.label(0), input.query("Qualifier"))?.1;
    set_event_invoke(control, input, before)
}

fn set_event_invoke(
    control: &Control,
    input: &Input<'_>,
    mut config: EventInvokeConfig,
) -> Result<Answer, ApiError> {
    let asked = input.body::<EventSettings>()?;
    let is_empty = asked.maximum_retry_attempts.is_none()
        && asked.maximum_event_age_in_seconds.is_none()
        && asked.destination_config.is_none();
    if is_empty {
        return Err(ApiError::invalid(
            "You must specify at least one of error handling or destination setting.",
        ));
    }
    if let Some(retries) = asked.maximum_retry_attempts {
        config.maximum_retry_attempts = Some(clamped(retries, "maximumRetryAttempts", 0, 2)?);
    }
    if let Some(age) = asked.maximum_event_age_in_seconds {
        config.maximum_event_age = Some(clamped(age, "maximumEventAgeInSeconds", 60, 21_600)?);
    }
    if let Some(destinations) = asked.destination_config {
        let arn =
            |side: Option<Destination>| side.and_then(|side| side.destination).filter(|arn| !arn.is_empty());
        config.on_success = arn(destinations.on_success);
        config.on_failure = arn(destinations.on_failure);
    }
    let (label, beside) = (input.label(0), input.query("Qualifier"));
    control.put_event_invoke(label, beside, config)?;
    get_event_invoke(control, input)
}

/// A number in its range, small enough for its field.
fn clamped<T: TryFrom<i64>>(value: i64, member: &str, least: i64, most: i64) -> Result<T, ApiError> {
    let constraint = if value < least {
        format!("Member must have value greater than or equal to {least}")
    } else {
        format!("Member must have value less than or equal to {most}")
    };
    let number = (least..=most).contains(&value).then(|| T::try_from(value).ok()).flatten();
    number.ok_or_else(|| ApiError::validation(&value.to_string(), member, &constraint))
}

pub(super) fn get_event_invoke(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let (label, beside) = (input.label(0), input.query("Qualifier"));
    let (function, config) = control.get_event_invoke(label, beside)?;
    let qualifier = control.resolve_existing(label, beside)?.1;
    Ok(Answer::ok(event_shape(&function, qualifier.as_deref().unwrap_or(LATEST), &config)))
}

pub(super) fn delete_event_invoke(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete_event_invoke(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::nothing())
}

pub(super) fn list_event_invoke(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.event_invoke_owner(input.label(0), None)?;
    let function = control.resolve_unqualified(input.label(0))?;
    let all: Vec<_> = function.event_invoke.iter().collect();
    let (all, next) = page::cut(input, LIST_MAX, all, |(qualifier, _)| qualifier)?;
    let shapes: Vec<Value> =
        all.into_iter().map(|(qualifier, config)| event_shape(&function, qualifier, config)).collect();
    Ok(Answer::ok(paged("FunctionEventInvokeConfigs", &shapes, next.as_deref())))
}

fn event_shape(function: &Function, qualifier: &str, config: &EventInvokeConfig) -> Value {
    let side =
        |arn: &Option<String>| arn.as_ref().map_or_else(|| json!({}), |arn| json!({"Destination": arn}));
    let mut shape = json!({
        "FunctionArn": qualified_arn(&function.arn, qualifier),
        // Seconds since 1970: the service model's timestamps are numbers here.
        "LastModified": config.last_modified_ms as f64 / 1_000.0,
        "DestinationConfig": {"OnSuccess": side(&config.on_success), "OnFailure": side(&config.on_failure)},
    });
    if let Some(retries) = config.maximum_retry_attempts {
        shape["MaximumRetryAttempts"] = json!(retries);
    }
    if let Some(age) = config.maximum_event_age {
        shape["MaximumEventAgeInSeconds"] = json!(age);
    }
    shape
}

pub(super) fn put_runtime_management(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let settings = input.body::<RuntimeManagementSettings>()?;
    let (function, qualifier) =
        control.put_runtime_management(input.label(0), input.query("Qualifier"), settings)?;
    Ok(Answer::ok(runtime_management_shape(&function, &qualifier)))
}

pub(super) fn get_runtime_management(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let (function, qualifier) = control.resolve_existing(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::ok(runtime_management_shape(&function, qualifier.as_deref().unwrap_or(LATEST))))
}

fn runtime_management_shape(function: &Function, qualifier: &str) -> Value {
    let found = function.published.runtime_management.get(qualifier);
    let mut shape = json!({
        "FunctionArn": qualified_arn(&function.arn, qualifier),
        "UpdateRuntimeOn": found.map_or("Auto", |found| &found.update_runtime_on),
    });
    if let Some(arn) = found.and_then(|found| found.runtime_version_arn.as_ref()) {
        shape["RuntimeVersionArn"] = json!(arn);
    }
    shape
}

pub(super) fn put_recursion(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let asked = input.body::<Recursion>()?.recursive_loop;
    let recursive_loop = control.put_recursion(input.label(0), asked.as_deref())?;
    Ok(Answer::ok(json!({"RecursiveLoop": recursive_loop})))
}

pub(super) fn get_recursion(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let recursive_loop: RecursiveLoop = control.resolve_unqualified(input.label(0))?.published.recursive_loop;
    Ok(Answer::ok(json!({"RecursiveLoop": recursive_loop})))
}

pub(super) fn put_code_signing(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let Some(arn) = input.body::<Signing>()?.code_signing_config_arn else {
        return Err(ApiError::validations(&[model::error::Violation::missing("codeSigningConfigArn")]));
    };
    let function = control.put_code_signing(input.label(0), Some(arn))?;
    Ok(Answer::ok(code_signing_shape(&function)))
}

/// AWS answers a function without a configuration with its name alone. Terraform asks.
pub(super) fn get_code_signing(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    Ok(Answer::ok(code_signing_shape(&*control.resolve_unqualified(input.label(0))?)))
}

pub(super) fn delete_code_signing(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.put_code_signing(input.label(0), None)?;
    Ok(Answer::nothing())
}

fn code_signing_shape(function: &Function) -> Value {
    let mut shape = json!({"FunctionName": function.name});
    if let Some(arn) = &function.published.code_signing_config_arn {
        shape["CodeSigningConfigArn"] = json!(arn);
    }
    shape
}
