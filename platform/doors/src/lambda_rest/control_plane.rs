//! Functions and their settings over HTTP: finds the operation, reads its members, asks [`control`], writes the answer.
//!
//! One file per group of operations; [`operation`] is the table of all of Lambda's, so that those which are not run
//! yet are refused by their name.

mod around;
mod configuration;
mod functions;
mod input;
mod layers;
mod operation;
mod page;
mod settings;
mod signing;
mod versions;

use bytes::Bytes;
use control::Control;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use input::Input;
use invoke::{Invoker, Preparation, ProvisionedCounts};
use model::error::{ApiError, ErrorCode};
use operation::Operation;
use serde_json::{Value, json};

/// Answers one request of the control plane. Call it where blocking is allowed: code is unpacked and the store synced.
/// `None` when the path belongs to no operation of Lambda's.
pub fn handle(control: &Control, live: Live<'_>, head: &Parts, body: &Bytes) -> Option<Response<Bytes>> {
    let (operation, path) =
        operation::find(&head.method, head.uri.path(), head.uri.query().unwrap_or_default())?;
    let options = control.options();
    let scope = format!("{}/{}", options.account_id, options.region);
    let answer =
        Input::read(head, &scope, path, body).and_then(|input| run(control, live, operation, &input));
    Some(match answer {
        Ok(Answer { status, body: Some(mut body) }) => {
            show_preparation(live, &mut body);
            respond(status, Some(body.to_string().into()))
        }
        Ok(Answer { status, body }) => respond(status, body.map(|value| value.to_string().into())),
        Err(error) => {
            // The text may repeat what the caller sent, secrets included: the log gets the code alone.
            tracing::debug!(operation = operation.name, code = %error.code, "refused");
            refuse(&error)
        }
    })
}

/// How what was asked for fares, by key: `cart:live`, `cart:3`.
pub trait Standing {
    /// Its provisioned concurrency, if it has any.
    fn provisioned(&self, key: &str) -> Option<ProvisionedCounts>;
    /// How far SnapStart is with it.
    fn preparation(&self, key: &str) -> Preparation;
}

impl Standing for Invoker {
    fn provisioned(&self, key: &str) -> Option<ProvisionedCounts> {
        self.provisioned(key)
    }

    fn preparation(&self, key: &str) -> Preparation {
        self.preparation(key)
    }
}

/// Who is asked.
pub type Live<'a> = &'a dyn Standing;

/// What an operation answers.
struct Answer {
    status: StatusCode,
    body: Option<Value>,
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body: Some(body) }
    }

    fn created(body: Value) -> Self {
        Self { status: StatusCode::CREATED, body: Some(body) }
    }

    fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }
}

fn run(
    control: &Control,
    live: Live<'_>,
    operation: &Operation,
    input: &Input<'_>,
) -> Result<Answer, ApiError> {
    match operation.name {
        "CreateFunction" => functions::create(control, input),
        "GetFunction" => functions::get(control, input),
        "GetFunctionConfiguration" => functions::get_configuration(control, input),
        "ListFunctions" => functions::list(control, input),
        "ListVersionsByFunction" => versions::list(control, input),
        "PublishVersion" => versions::publish(control, input),
        "CreateAlias" => versions::create_alias(control, live, input),
        "GetAlias" => versions::get_alias(control, input),
        "UpdateAlias" => versions::update_alias(control, live, input),
        "DeleteAlias" => versions::delete_alias(control, input),
        "ListAliases" => versions::list_aliases(control, input),
        "UpdateFunctionCode" => functions::update_code(control, input),
        "UpdateFunctionConfiguration" => functions::update_configuration(control, input),
        "DeleteFunction" => functions::delete(control, input),
        "PutFunctionConcurrency" => around::put_concurrency(control, input),
        "GetFunctionConcurrency" => around::get_concurrency(control, input),
        "DeleteFunctionConcurrency" => around::delete_concurrency(control, input),
        "GetAccountSettings" => Ok(around::account_settings(control)),
        "ListTags" => around::list_tags(control, input),
        "TagResource" => around::tag(control, input),
        "UntagResource" => around::untag(control, input),
        "CreateFunctionUrlConfig" => around::create_url(control, input),
        "GetFunctionUrlConfig" => around::get_url(control, input),
        "UpdateFunctionUrlConfig" => around::update_url(control, input),
        "DeleteFunctionUrlConfig" => around::delete_url(control, input),
        "ListFunctionUrlConfigs" => around::list_urls(control, input),
        "AddPermission" => around::add_permission(control, input),
        "RemovePermission" => around::remove_permission(control, input),
        "GetPolicy" => around::policy(control, input),
        "GetFunctionCodeSigningConfig" => settings::get_code_signing(control, input),
        "PutFunctionCodeSigningConfig" => settings::put_code_signing(control, input),
        "DeleteFunctionCodeSigningConfig" => settings::delete_code_signing(control, input),
        "CreateCodeSigningConfig" => signing::create(control, input),
        "GetCodeSigningConfig" => signing::get(control, input),
        "UpdateCodeSigningConfig" => signing::update(control, input),
        "DeleteCodeSigningConfig" => signing::delete(control, input),
        "ListCodeSigningConfigs" => signing::list(control, input),
        "ListFunctionsByCodeSigningConfig" => signing::functions(control, input),
        "PutProvisionedConcurrencyConfig" => settings::put_provisioned(control, input),
        "GetProvisionedConcurrencyConfig" => settings::get_provisioned(control, live, input),
        "DeleteProvisionedConcurrencyConfig" => settings::delete_provisioned(control, input),
        "ListProvisionedConcurrencyConfigs" => settings::list_provisioned(control, live, input),
        "PutFunctionEventInvokeConfig" => settings::put_event_invoke(control, input),
        "UpdateFunctionEventInvokeConfig" => settings::update_event_invoke(control, input),
        "GetFunctionEventInvokeConfig" => settings::get_event_invoke(control, input),
        "DeleteFunctionEventInvokeConfig" => settings::delete_event_invoke(control, input),
        "ListFunctionEventInvokeConfigs" => settings::list_event_invoke(control, input),
        "PutRuntimeManagementConfig" => settings::put_runtime_management(control, input),
        "GetRuntimeManagementConfig" => settings::get_runtime_management(control, input),
        "PutFunctionRecursionConfig" => settings::put_recursion(control, input),
        "GetFunctionRecursionConfig" => settings::get_recursion(control, input),
        "PublishLayerVersion" => layers::publish(control, input),
        "GetLayerVersion" => layers::get(control, input),
        "GetLayerVersionByArn" => layers::get_by_arn(control, input),
        "DeleteLayerVersion" => layers::delete(control, input),
        "ListLayers" => layers::list(control, input),
        "ListLayerVersions" => layers::list_versions(control, input),
        "AddLayerVersionPermission" => layers::add_permission(control, input),
        "RemoveLayerVersionPermission" => layers::remove_permission(control, input),
        "GetLayerVersionPolicy" => layers::policy(control, input),
        "ListEventSourceMappings" => around::list_mappings(control, input),
        "GetEventSourceMapping" | "UpdateEventSourceMapping" | "DeleteEventSourceMapping" => {
            let message = "The resource you requested does not exist.";
            Err(ApiError::new(ErrorCode::ResourceNotFound, message))
        }
        "CreateEventSourceMapping" => {
            let message = "Event source mappings are not run here: Onrush has no poller of queues or streams. Invoke the function with the event instead.";
            Err(ApiError::new(ErrorCode::NotImplemented, message))
        }
        name => Err(ApiError::new(ErrorCode::NotImplemented, format!("{name} is not run by Onrush yet."))),
    }
}

/// A version with SnapStart is pending until its first environment is prepared, and failed where none could be.
///
/// Source: Developer Guide, "Improving startup performance with Lambda SnapStart".
fn show_preparation(live: Live<'_>, body: &mut Value) {
    let shape = if body.get("Configuration").is_some() { &mut body["Configuration"] } else { body };
    let is_on = shape.pointer("/SnapStart/OptimizationStatus").is_some_and(|status| status == "On");
    let key = match (&shape["FunctionName"], &shape["Version"]) {
        (Value::String(name), Value::String(version)) if is_on => format!("{name}:{version}"),
        _ => return,
    };
    let (state, reason, code) = match live.preparation(&key) {
        Preparation::Done => return,
        Preparation::Running => ("Pending", json!("The function is being created."), json!("Creating")),
        Preparation::Failed(reason) => ("Failed", json!(reason.text), json!(reason.code)),
    };
    shape["State"] = json!(state);
    shape["StateReason"] = reason;
    shape["StateReasonCode"] = code;
}

fn refuse(error: &ApiError) -> Response<Bytes> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(error).unwrap_or_default();
    let mut response = respond(status, Some(body.into()));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(error.code.as_str()));
    response
}

fn respond(status: StatusCode, body: Option<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.unwrap_or_default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(&invoke::request_id()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

#[cfg(test)]
mod tests;
