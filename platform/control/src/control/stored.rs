//! Settings that are kept and answered: runtime management and code signing, which change nothing here, and recursion.

use super::Control;
use crate::function::Function;
use crate::published::{RecursiveLoop, RuntimeManagement};
use crate::validate::Violations;
use model::error::{ApiError, ErrorCode, Violation};
use model::name::LATEST;
use serde::Deserialize;
use std::sync::Arc;

/// `PutRuntimeManagementConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuntimeManagementSettings {
    /// `Auto`, `FunctionUpdate` or `Manual`.
    pub update_runtime_on: Option<String>,
    /// The runtime's version, with `Manual`.
    pub runtime_version_arn: Option<String>,
}

impl Control {
    /// Says how updates of the runtime are to be taken. The function and the qualifier come back.
    ///
    /// # Errors
    /// There is no such function or version, or the members contradict each other.
    pub fn put_runtime_management(
        &self,
        function: &str,
        qualifier: Option<&str>,
        settings: RuntimeManagementSettings,
    ) -> Result<(Arc<Function>, String), ApiError> {
        let mut violations = Violations::default();
        if settings.update_runtime_on.is_none() {
            violations.missing("updateRuntimeOn");
        }
        let modes = ["Auto", "FunctionUpdate", "Manual"];
        violations.one_of(settings.update_runtime_on.as_deref(), "updateRuntimeOn", &modes);
        if let Some(arn) = &settings.runtime_version_arn {
            let length = arn.chars().count();
            if length < 26 {
                violations.add(
                    arn,
                    "runtimeVersionArn",
                    "Member must have length greater than or equal to 26",
                );
            }
            violations.length(arn, "runtimeVersionArn", 2_048);
            let fits = arn.starts_with("arn:aws") && arn.contains(":lambda:") && arn.contains("::runtime:");
            let pattern = r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}::runtime:.+";
            violations.pattern(fits, &arn.escape_debug().to_string(), "runtimeVersionArn", pattern);
        }
        violations.finish()?;
        let mode = settings.update_runtime_on.unwrap_or_default();
        if (mode == "Manual") != settings.runtime_version_arn.is_some() {
            return Err(ApiError::invalid(if mode == "Manual" {
                "Runtime Version ARN must be present with Manual update mode.".to_owned()
            } else {
                format!(
                    "Runtime Version ARN must not be present with {mode} update mode. Remove the runtime version ARN or choose Manual update mode."
                )
            }));
        }
        let (found, qualifier) = self.resolve_existing(function, qualifier)?;
        let qualifier = qualifier.unwrap_or_else(|| LATEST.to_owned());
        let management =
            RuntimeManagement { update_runtime_on: mode, runtime_version_arn: settings.runtime_version_arn };
        let function = self.change_around(&found.name, |function| {
            function.published.runtime_management.insert(qualifier.clone(), management);
            Ok(())
        })?;
        Ok((function, qualifier))
    }

    /// Says what happens to a function that calls itself over and over.
    ///
    /// # Errors
    /// There is no such function, or the value is none of the two.
    pub fn put_recursion(&self, function: &str, value: Option<&str>) -> Result<RecursiveLoop, ApiError> {
        let recursive_loop = match value {
            Some("Allow") => RecursiveLoop::Allow,
            Some("Terminate") => RecursiveLoop::Terminate,
            Some(other) => {
                return Err(ApiError::validation(
                    &other.escape_debug().to_string(),
                    "recursiveLoop",
                    "Member must satisfy enum value set: [Terminate, Allow]",
                ));
            }
            None => return Err(ApiError::validations(&[Violation::missing("recursiveLoop")])),
        };
        self.change_around(function, |function| {
            function.published.recursive_loop = recursive_loop;
            Ok(())
        })?;
        Ok(recursive_loop)
    }

    /// Joins a function to a code signing configuration, or (`None`) takes it away from it.
    ///
    /// # Errors
    /// There is no such function, or the ARN is none.
    pub fn put_code_signing(&self, function: &str, arn: Option<String>) -> Result<Arc<Function>, ApiError> {
        if let Some(arn) = &arn {
            check_signing_arn(arn)?;
            if !self.signing_configs().contains_key(arn) {
                let message = format!(
                    "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
                );
                return Err(ApiError::new(ErrorCode::CodeSigningConfigNotFound, message));
            }
        }
        self.change_around(function, |function| {
            function.published.code_signing_config_arn = arn;
            Ok(())
        })
    }
}

/// Checks the ARN of a code signing configuration.
///
/// # Errors
/// In the service model's words.
pub(super) fn check_signing_arn(arn: &str) -> Result<(), ApiError> {
    let parts: Vec<&str> = arn.split(':').collect();
    let fits = matches!(parts[..], ["arn", partition, "lambda", region, account, "code-signing-config", id]
        if partition.starts_with("aws") && model::name::is_region(region) && model::name::is_account(account)
            && id.len() == 21 && id.starts_with("csc-")
            && id[4..].bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    if fits && arn.len() <= 200 {
        return Ok(());
    }
    let pattern = r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:code-signing-config:csc-[a-z0-9]{17}";
    let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
    let shown: String = arn.chars().take(256).collect();
    Err(ApiError::validation(&shown.escape_debug().to_string(), "codeSigningConfigArn", &constraint))
}
