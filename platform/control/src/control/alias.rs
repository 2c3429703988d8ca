//! Aliases: names for versions, with a share for a second one.

use super::{Control, Edit, Fresh};
use crate::function::Function;
use crate::published::Alias;
use crate::validate::{DESCRIPTION_MAX, Violations};
use model::error::{ApiError, ErrorCode};
use model::name::{ALIAS_NAME_MAX, FunctionReference, LATEST, qualified_arn};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Aliases of one function. Ours.
const ALIASES_MAX: usize = 1_000;
/// Characters of a version in a request.
const VERSION_MAX: usize = 1_024;

/// `CreateAlias` and `UpdateAlias`; the function's name comes with the path, the alias's with it or in the body.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AliasSettings {
    /// The alias.
    pub name: Option<String>,
    /// What it stands for.
    pub function_version: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// A second version.
    pub routing_config: Option<RoutingSettings>,
    /// Only change this revision.
    pub revision_id: Option<String>,
}

/// A second version and its share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RoutingSettings {
    /// At most one version, 0.0 to 1.0; none takes it away.
    pub additional_version_weights: Option<BTreeMap<String, f64>>,
}

impl Control {
    /// Makes an alias; its function comes back with it.
    ///
    /// # Errors
    /// It exists, a version does not, or the weights make no sense.
    pub fn create_alias(
        &self,
        function: &str,
        settings: AliasSettings,
    ) -> Result<(Arc<Function>, Alias), ApiError> {
        let mut violations = Violations::default();
        match &settings.name {
            Some(name) => check_name(name, "name", &mut violations),
            None => violations.missing("name"),
        }
        if settings.function_version.is_none() {
            violations.missing("functionVersion");
        }
        check(&settings, &mut violations);
        violations.finish()?;
        let name = settings.name.clone().unwrap_or_default();
        let alias = Alias {
            version: settings.function_version.clone().unwrap_or_default(),
            description: String::new(),
            routing: None,
            revision_id: String::new(),
            name: name.clone(),
        };
        self.change_alias(function, &name, |function, before| {
            if before.is_some() {
                let arn = qualified_arn(&function.arn, &name);
                return Err(ApiError::new(
                    ErrorCode::ResourceConflict,
                    format!("Alias already exists: {arn}"),
                ));
            }
            if function.published.aliases.len() >= ALIASES_MAX {
                return Err(ApiError::new(
                    ErrorCode::ResourceConflict,
                    format!(
                        "A function has at most {ALIASES_MAX} aliases; delete those that are not needed."
                    ),
                ));
            }
            self.settle(function, alias, settings)
        })
    }

    /// Changes an alias; what is absent stays.
    ///
    /// # Errors
    /// There is none, it is at another revision, a version does not exist, or the weights make no sense.
    pub fn update_alias(
        &self,
        function: &str,
        name: &str,
        settings: AliasSettings,
    ) -> Result<(Arc<Function>, Alias), ApiError> {
        let mut violations = Violations::default();
        check_name(name, "name", &mut violations);
        check(&settings, &mut violations);
        violations.finish()?;
        self.change_alias(function, name, |function, before| {
            let Some(before) = before else {
                let arn = qualified_arn(&function.arn, name);
                return Err(ApiError::new(ErrorCode::ResourceNotFound, format!("Alias not found: {arn}")));
            };
            if settings.revision_id.as_ref().is_some_and(|asked| *asked != before.revision_id) {
                return Err(stale());
            }
            let alias = self.settle(function, before, settings)?;
            check_still_provisionable(function, &alias)?;
            Ok(alias)
        })
    }

    /// Takes an alias away, and what was set for it; one that is not there does not matter.
    ///
    /// # Errors
    /// There is no such function.
    pub fn delete_alias(&self, function: &str, name: &str) -> Result<(), ApiError> {
        let mut violations = Violations::default();
        check_name(name, "name", &mut violations);
        violations.finish()?;
        self.change_around(function, |function| {
            if function.published.aliases.remove(name).is_some() {
                function.published.forget(name);
                function.event_invoke.remove(name);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// An alias and its function.
    ///
    /// # Errors
    /// There is no such function or alias.
    pub fn alias(&self, function: &str, name: &str) -> Result<(Arc<Function>, Alias), ApiError> {
        let mut violations = Violations::default();
        check_name(name, "name", &mut violations);
        violations.finish()?;
        let function = self.resolve_unqualified(function)?;
        match function.published.aliases.get(name).cloned() {
            Some(alias) => Ok((function, alias)),
            None => Err(no_alias(&function, name)),
        }
    }

    /// Checks an alias with its new settings against the function's versions.
    fn settle(
        &self,
        function: &Function,
        mut alias: Alias,
        settings: AliasSettings,
    ) -> Result<Alias, ApiError> {
        alias.version = settings.function_version.unwrap_or(alias.version);
        alias.description = settings.description.unwrap_or(alias.description);
        if let Some(weights) = settings.routing_config.map(|routing| routing.additional_version_weights) {
            let mut weights = weights.unwrap_or_default();
            if weights.len() > 1 {
                return Err(ApiError::invalid(
                    "Number of items in AdditionalVersionWeights cannot be greater than 1",
                ));
            }
            alias.routing = weights.pop_first();
        }
        settle_routing(self, function, &alias)?;
        alias.revision_id = self.fresh_id()?;
        Ok(alias)
    }

    fn must_exist(&self, function: &Function, version: &str) -> Result<(), ApiError> {
        let exists = version == LATEST
            || crate::published::number(version)
                .is_some_and(|number| function.published.versions.contains_key(&number));
        if exists {
            return Ok(());
        }
        Err(self.not_found(&FunctionReference::bare(&function.name), Some(version)))
    }

    fn change_alias(
        &self,
        function: &str,
        name: &str,
        edit: impl FnOnce(&Function, Option<Alias>) -> Result<Alias, ApiError>,
    ) -> Result<(Arc<Function>, Alias), ApiError> {
        let owner = self.resolve_unqualified(function)?.name.clone();
        let function = self.change(|functions| {
            let before = functions.get(&owner).ok_or_else(|| self.missing(&owner))?;
            let alias = edit(before, before.published.aliases.get(name).cloned())?;
            let mut function = Function::clone(before);
            function.published.aliases.insert(name.to_owned(), alias);
            Ok(Edit::Put(Box::new(function), Fresh::Around))
        })?;
        let alias = function.published.aliases.get(name).cloned();
        alias.map(|alias| (Arc::clone(&function), alias)).ok_or_else(|| no_alias(&function, name))
    }
}

/// Checks that an alias's versions exist and may share its invocations.
pub(super) fn settle_routing(control: &Control, function: &Function, alias: &Alias) -> Result<(), ApiError> {
    control.must_exist(function, &alias.version)?;
    let Some((other, _)) = &alias.routing else { return Ok(()) };
    if alias.version == LATEST {
        return Err(ApiError::invalid(
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ));
    }
    if *other == alias.version {
        return Err(ApiError::invalid(format!(
            "Invalid function version {other}. Function version {other} is already included in routing configuration."
        )));
    }
    control.must_exist(function, other)
}

/// Checks that what an alias has provisioned can be had where it leads now: environments of `$LATEST` are not kept ready, and
/// a version is provisioned by itself or through an alias. The texts are PutProvisionedConcurrencyConfig's.
fn check_still_provisionable(function: &Function, alias: &Alias) -> Result<(), ApiError> {
    let provisioned = &function.published.provisioned;
    if !provisioned.contains_key(&alias.name) {
        return Ok(());
    }
    if alias.version == LATEST {
        return Err(ApiError::invalid(
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        ));
    }
    if provisioned.contains_key(&alias.version) {
        return Err(ApiError::new(
            ErrorCode::ResourceConflict,
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
        ));
    }
    Ok(())
}

pub(super) fn no_alias(function: &Function, name: &str) -> ApiError {
    let arn = qualified_arn(&function.arn, name);
    ApiError::new(ErrorCode::ResourceNotFound, format!("Cannot find alias arn: {arn}"))
}

fn stale() -> ApiError {
    ApiError::new(
        ErrorCode::PreconditionFailed,
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
}

fn check_name(name: &str, member: &str, violations: &mut Violations) {
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        && !name.bytes().all(|byte| byte.is_ascii_digit());
    violations.length(name, member, ALIAS_NAME_MAX);
    violations.pattern(fits, &name.escape_debug().to_string(), member, "(?!^[0-9]+$)([a-zA-Z0-9-_]+)");
}

/// Checks what both operations have in common against the service model.
fn check(settings: &AliasSettings, violations: &mut Violations) {
    if let Some(version) = &settings.function_version {
        let fits =
            version == LATEST || (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()));
        violations.length(version, "functionVersion", VERSION_MAX);
        violations.pattern(
            fits,
            &version.escape_debug().to_string(),
            "functionVersion",
            r"(\$LATEST|[0-9]+)",
        );
    }
    if let Some(description) = &settings.description {
        violations.length(description, "description", DESCRIPTION_MAX);
    }
    let weights =
        settings.routing_config.as_ref().and_then(|routing| routing.additional_version_weights.as_ref());
    let Some(weights) = weights else { return };
    let shown = || {
        let pairs: Vec<String> =
            weights.iter().map(|(version, weight)| format!("{}={weight}", version.escape_debug())).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    let member = "routingConfig.additionalVersionWeights";
    if weights.keys().any(|version| {
        version.is_empty()
            || version.len() > VERSION_MAX
            || !version.bytes().all(|byte| byte.is_ascii_digit())
    }) {
        violations.add(
            shown(),
            member,
            "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, Member must not be null]",
        );
    }
    if weights.values().any(|weight| !(0.0..=1.0).contains(weight)) {
        violations.add(
            shown(),
            member,
            "Map value must satisfy constraint: [Member must have value greater than or equal to 0.0, Member must have value less than or equal to 1.0, Member must not be null]",
        );
    }
}
