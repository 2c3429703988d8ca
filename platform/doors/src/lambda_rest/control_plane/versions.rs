//! Published versions and aliases.

use super::functions::paged;
use super::input::Input;
use super::{Answer, Live, configuration, page};
use control::{Alias, AliasSettings, Control, Function, PublishVersion, State};
use invoke::Preparation;
use model::error::{ApiError, ErrorCode};
use model::name::{LATEST, qualified_arn};
use serde_json::{Value, json};

const LIST_MAX: i64 = 10_000;
/// Characters of a version.
const VERSION_MAX: usize = 1_024;

pub(super) fn publish(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let version = control.publish(input.label(0), input.body::<PublishVersion>()?)?;
    Ok(Answer::created(configuration::pending(&version, true)))
}

pub(super) fn list(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let versions = control.versions(input.label(0))?;
    let order = |function: &Function| page::number_key(&function.version);
    let (versions, next) = page::cut_by(input, LIST_MAX, versions, |function| order(function))?;
    let shapes: Vec<Value> = versions.iter().map(|function| configuration::listed(function, true)).collect();
    Ok(Answer::ok(paged("Versions", &shapes, next.as_deref())))
}

pub(super) fn create_alias(control: &Control, live: Live<'_>, input: &Input<'_>) -> Result<Answer, ApiError> {
    let settings = input.body::<AliasSettings>()?;
    check_not_failed(control, live, input.label(0), &settings)?;
    let (function, alias) = control.create_alias(input.label(0), settings)?;
    Ok(Answer::created(alias_shape(&function, &alias)))
}

pub(super) fn update_alias(control: &Control, live: Live<'_>, input: &Input<'_>) -> Result<Answer, ApiError> {
    let settings = input.body::<AliasSettings>()?;
    check_not_failed(control, live, input.label(0), &settings)?;
    let (function, alias) = control.update_alias(input.label(0), input.label(1), settings)?;
    Ok(Answer::ok(alias_shape(&function, &alias)))
}

pub(super) fn get_alias(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let (function, alias) = control.alias(input.label(0), input.label(1))?;
    Ok(Answer::ok(alias_shape(&function, &alias)))
}

pub(super) fn delete_alias(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    control.delete_alias(input.label(0), input.label(1))?;
    Ok(Answer::nothing())
}

pub(super) fn list_aliases(control: &Control, input: &Input<'_>) -> Result<Answer, ApiError> {
    let function = control.resolve_unqualified(input.label(0))?;
    let version = input.query("FunctionVersion");
    let is_version =
        |text: &&str| *text == LATEST || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some(bad) = version.filter(|version| !is_version(version) || version.len() > VERSION_MAX) {
        let pattern = r"Member must satisfy regular expression pattern: (\$LATEST|[0-9]+)";
        return Err(ApiError::validation(&bad.escape_debug().to_string(), "functionVersion", pattern));
    }
    let stands_for = |alias: &&Alias| {
        version.is_none_or(|version| {
            alias.version == version || alias.routing.as_ref().is_some_and(|(other, _)| other == version)
        })
    };
    let aliases: Vec<&Alias> = function.published.aliases.values().filter(stands_for).collect();
    let (aliases, next) = page::cut(input, LIST_MAX, aliases, |alias| &alias.name)?;
    let shapes: Vec<Value> = aliases.iter().map(|alias| alias_shape(&function, alias)).collect();
    Ok(Answer::ok(paged("Aliases", &shapes, next.as_deref())))
}

/// Refuses aliases to a version whose INIT for SnapStart has failed; one that is pending still may have them.
///
/// Source: UpdateAlias on AWS, as hashicorp/terraform-provider-aws#49904 tells it, read 2026-11; that the text is Invoke's, and that
/// CreateAlias does the same, is assumed.
fn check_not_failed(
    control: &Control,
    live: Live<'_>,
    function: &str,
    settings: &AliasSettings,
) -> Result<(), ApiError> {
    // What else is wrong is said by whoever changes the alias.
    let Ok(function) = control.resolve_unqualified(function) else { return Ok(()) };
    let weights =
        settings.routing_config.iter().filter_map(|routing| routing.additional_version_weights.as_ref());
    let mut versions = settings.function_version.iter().chain(weights.flat_map(|weights| weights.keys()));
    let has_failed = |version: &String| {
        matches!(live.preparation(&format!("{}:{version}", function.name)), Preparation::Failed(_))
    };
    if versions.any(has_failed) {
        return Err(ApiError::new(ErrorCode::ResourceConflict, control::not_ready(State::Failed)));
    }
    Ok(())
}

fn alias_shape(function: &Function, alias: &Alias) -> Value {
    let mut shape = json!({
        "AliasArn": qualified_arn(&function.arn, &alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    });
    if let Some((version, weight)) = &alias.routing {
        shape["RoutingConfig"] = json!({"AdditionalVersionWeights": {version: weight}});
    }
    shape
}
