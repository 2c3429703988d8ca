//! What lies around a function: concurrency, tags, URLs, policy; and the account's settings.

use super::functions::paged;
use super::input::Input;
use super::{Answer, page};
use control::package::{UNZIPPED_MAX, ZIPPED_MAX};
use control::validate::{Violations, is_any_arn};
use control::{AddPermission, AuthType, CODE_STORAGE_MAX, Control, Cors, Function, InvokeMode, UrlSettings};
use model::error::{ApiError, ErrorCode, Violation};
use model::name::qualified_arn;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const URLS_MAX: i64 = 50;
const MAPPINGS_MAX: i64 = 10_000;
/// The port of a URL when the caller did not say which one it used.
const DEFAULT_PORT: u16 = 4566;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Concurrency {
    reserved_concurrent_executions: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tags {
    tags: Option<BTreeMap<String, String>>,
}

pub(super) fn put_concurrency(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let asked = input.body::<Concurrency>()?.reserved_concurrent_executions;
    let function = control.put_concurrency(input.label(0), asked)?;
    Ok(Answer::ok(json!({"ReservedConcurrentExecutions": function.reserved})))
}

pub(super) fn get_concurrency(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    Ok(Answer::ok(match control.get_concurrency(input.label(0))? {
        Some(reserved) => json!({"ReservedConcurrentExecutions": reserved}),
        None => json!({}),
    }))
}

pub(super) fn delete_concurrency(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete_concurrency(input.label(0))?;
    Ok(Answer::nothing())
}

pub(super) fn account_settings(control: &Control) -> Answer {
    let used = control.code_bytes();
    Answer::ok(json!({
        "AccountLimit": {
            "TotalCodeSize": CODE_STORAGE_MAX,
            "CodeSizeUnzipped": UNZIPPED_MAX,
            "CodeSizeZipped": ZIPPED_MAX,
            "ConcurrentExecutions": control.options().account_concurrency,
            "UnreservedConcurrentExecutions": control.unreserved_concurrency(),
        },
        "AccountUsage": {"TotalCodeSize": used, "FunctionCount": control.count()},
    }))
}

pub(super) fn list_tags(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    Ok(Answer::ok(json!({"Tags": control.tags(input.label(0))?})))
}

pub(super) fn tag(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.tag(input.label(0), input.body::<Tags>()?.tags)?;
    Ok(Answer::nothing())
}

pub(super) fn untag(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let keys = input.queries("tagKeys");
    if keys.is_empty() {
        return Err(ApiError::validations(&[Violation::missing("tagKeys")]));
    }
    control.untag(input.label(0), &keys)?;
    Ok(Answer::nothing())
}

/// A URL's settings as they come: a word out of its set breaks a constraint, and not the JSON.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UrlBody {
    auth_type: Option<String>,
    cors: Option<Cors>,
    invoke_mode: Option<String>,
}

fn url_settings(input: &Input<'_>) -> Result<UrlSettings, ApiError> {
    const AUTH_TYPES: [(&str, AuthType); 2] = [("NONE", AuthType::None), ("AWS_IAM", AuthType::AwsIam)];
    const MODES: [(&str, InvokeMode); 2] =
        [("BUFFERED", InvokeMode::Buffered), ("RESPONSE_STREAM", InvokeMode::ResponseStream)];
    fn word<T: Copy>(
        asked: Option<String>,
        member: &str,
        set: &[(&str, T)],
        violations: &mut Violations,
    ) -> Option<T> {
        let asked = asked?;
        let found = set.iter().find(|(word, _)| *word == asked);
        if found.is_none() {
            let words: Vec<&str> = set.iter().map(|(word, _)| *word).collect();
            let constraint = format!("Member must satisfy enum value set: [{}]", words.join(", "));
            violations.add(asked.escape_debug().to_string(), member, constraint);
        }
        found.map(|(_, value)| *value)
    }
    let body = input.body::<UrlBody>()?;
    let mut violations = Violations::default();
    let settings = UrlSettings {
        id: None,
        auth_type: word(body.auth_type, "authType", &AUTH_TYPES, &mut violations),
        cors: body.cors,
        invoke_mode: word(body.invoke_mode, "invokeMode", &MODES, &mut violations),
    };
    violations.finish()?;
    Ok(settings)
}

pub(super) fn create_url(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let settings = url_settings(input)?;
    let (function, alias) = control.create_url(input.label(0), input.query("Qualifier"), settings)?;
    Ok(Answer::created(url_shape(control, &function, alias.as_deref(), input, Times::Created)))
}

pub(super) fn get_url(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let (function, alias) = control.get_url(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::ok(url_shape(control, &function, alias.as_deref(), input, Times::Both)))
}

pub(super) fn update_url(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let settings = url_settings(input)?;
    let (function, alias) = control.update_url(input.label(0), input.query("Qualifier"), settings)?;
    Ok(Answer::ok(url_shape(control, &function, alias.as_deref(), input, Times::Both)))
}

pub(super) fn delete_url(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete_url(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::nothing())
}

pub(super) fn list_urls(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let function = control.with_urls(input.label(0))?;
    let urls: Vec<Option<&str>> = function.urls().map(|(alias, _)| alias).collect();
    // The function's own comes first: no alias's name is empty.
    let (urls, next) = page::cut(input, URLS_MAX, urls, |alias| alias.unwrap_or_default())?;
    let shapes: Vec<Value> =
        urls.into_iter().map(|alias| url_shape(control, &function, alias, input, Times::Both)).collect();
    Ok(Answer::ok(paged("FunctionUrlConfigs", &shapes, next.as_deref())))
}

pub(super) fn add_permission(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let statement =
        control.add_permission(input.label(0), input.query("Qualifier"), &input.body::<AddPermission>()?)?;
    Ok(Answer::created(json!({"Statement": statement.to_string()})))
}

pub(super) fn remove_permission(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.remove_permission(
        input.label(0),
        input.query("Qualifier"),
        input.label(1),
        input.query("RevisionId"),
    )?;
    Ok(Answer::nothing())
}

pub(super) fn policy(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let (revision, policy) = control.policy(input.label(0), input.query("Qualifier"))?;
    Ok(Answer::ok(json!({"Policy": policy.to_string(), "RevisionId": revision})))
}

/// There are none; what is asked is checked all the same.
pub(super) fn list_mappings(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    page::size(input, MAPPINGS_MAX)?;
    page::after(input)?;
    if let Some(arn) = input.query("EventSourceArn").filter(|arn| !is_any_arn(arn)) {
        let constraint =
            "Member must satisfy regular expression pattern: arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\\-])+:.*";
        return Err(ApiError::validation(&arn.escape_debug().to_string(), "eventSourceArn", constraint));
    }
    // Whether there is such a function does not matter. Source: recorded on AWS.
    if let Some(function) = input.query("FunctionName")
        && let Err(error) = control.resolve_with_qualifier(function, None)
        && error.code != ErrorCode::ResourceNotFound
    {
        return Err(error);
    }
    Ok(Answer::ok(json!({"EventSourceMappings": []})))
}

/// Which times an answer has: making a URL tells only of the making.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Created,
    Both,
}

fn url_shape(
    control: &Control,
    function: &Function,
    alias: Option<&str>,
    input: &Input<'_>,
    times: Times,
) -> Value {
    let Some(url) = function.url_of(alias) else { return json!({}) };
    let port = input.port().unwrap_or(DEFAULT_PORT);
    let region = &control.options().region;
    let mut shape = json!({
        "FunctionUrl": format!("http://{}.lambda-url.{region}.localhost:{port}/", url.id),
        "FunctionArn": alias.map_or_else(|| function.arn.clone(), |alias| qualified_arn(&function.arn, alias)),
        "AuthType": url.auth_type,
        "CreationTime": url.created,
        "InvokeMode": url.invoke_mode,
    });
    if let Some(cors) = &url.cors {
        shape["Cors"] = json!(cors);
    }
    if times == Times::Both {
        shape["LastModifiedTime"] = json!(url.last_modified);
    }
    shape
}
