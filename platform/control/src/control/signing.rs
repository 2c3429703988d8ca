//! Code signing configurations: kept and answered; no signature of code is checked here.

use super::stored::check_signing_arn;
use super::{Control, record, store_error};
use crate::function::Function;
use crate::store::Write;
use crate::validate::{self, DESCRIPTION_MAX, Violations};
use model::error::{ApiError, ErrorCode, Violation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// Configurations of the account. Ours.
const CONFIGS_MAX: usize = 1_000;
/// Signing profiles of one configuration. Source: Lambda API reference, AllowedPublishers, published.
const PROFILES_MAX: usize = 20;
/// Letters of an id behind `csc-`. Source as above, CodeSigningConfigId.
const ID_LENGTH: usize = 17;

/// A configuration, as the API writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CodeSigningConfig {
    /// `csc-` and 17 letters and digits.
    pub code_signing_config_id: String,
    /// Its ARN.
    pub code_signing_config_arn: String,
    /// For people.
    pub description: String,
    /// Whose signatures count.
    pub allowed_publishers: AllowedPublishers,
    /// What becomes of other code.
    pub code_signing_policies: CodeSigningPolicies,
    /// `2025-11-24T23:08:11.000+0000`, UTC.
    pub last_modified: String,
    /// Kept with it, and no part of what the API shows of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AllowedPublishers {
    /// 1 to 20 ARNs of signing profile versions.
    #[serde(default)]
    pub signing_profile_version_arns: Option<Vec<String>>,
}

/// What becomes of code that nobody of those signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CodeSigningPolicies {
    /// `Warn` or `Enforce`.
    #[serde(default)]
    pub untrusted_artifact_on_deployment: Option<String>,
}

/// `CreateCodeSigningConfig` and `UpdateCodeSigningConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CodeSigningSettings {
    /// For people.
    pub description: Option<String>,
    /// Whose signatures count; required when it is made.
    pub allowed_publishers: Option<AllowedPublishers>,
    /// What becomes of other code; `Warn` by default.
    pub code_signing_policies: Option<CodeSigningPolicies>,
    /// Tags.
    pub tags: Option<BTreeMap<String, String>>,
}

/// Every configuration, by ARN.
pub type SigningConfigs = BTreeMap<String, Arc<CodeSigningConfig>>;

impl Control {
    /// Every code signing configuration, by ARN. Cost: one pointer copy.
    pub fn signing_configs(&self) -> Arc<SigningConfigs> {
        Arc::clone(&self.signing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One of them.
    ///
    /// # Errors
    /// There is none of that ARN.
    pub fn signing_config(&self, arn: &str) -> Result<Arc<CodeSigningConfig>, ApiError> {
        check_signing_arn(arn)?;
        self.signing_configs().get(arn).cloned().ok_or_else(|| no_config(arn))
    }

    /// Makes one.
    ///
    /// # Errors
    /// A member is missing or breaks a constraint.
    pub fn create_signing_config(
        &self,
        settings: CodeSigningSettings,
    ) -> Result<Arc<CodeSigningConfig>, ApiError> {
        if settings.allowed_publishers.is_none() {
            return Err(ApiError::validations(&[Violation::missing("allowedPublishers")]));
        }
        check(&settings)?;
        let id: String = self.fresh_id()?.chars().filter(|letter| *letter != '-').take(ID_LENGTH).collect();
        let region = &self.options.region;
        let config = CodeSigningConfig {
            code_signing_config_id: format!("csc-{id}"),
            code_signing_config_arn: format!(
                "arn:{}:lambda:{region}:{}:code-signing-config:csc-{id}",
                model::name::partition_of(region),
                self.options.account_id
            ),
            description: String::new(),
            allowed_publishers: AllowedPublishers::default(),
            code_signing_policies: CodeSigningPolicies {
                untrusted_artifact_on_deployment: Some("Warn".to_owned()),
            },
            last_modified: String::new(),
            tags: BTreeMap::new(),
        };
        self.put_signing_config(settings, |_| Ok(config))
    }

    /// Changes one; what is absent stays.
    ///
    /// # Errors
    /// There is none of that ARN, or a member breaks a constraint.
    pub fn update_signing_config(
        &self,
        arn: &str,
        settings: CodeSigningSettings,
    ) -> Result<Arc<CodeSigningConfig>, ApiError> {
        check_signing_arn(arn)?;
        check(&settings)?;
        self.put_signing_config(settings, |all| match all.get(arn) {
            Some(config) => Ok(CodeSigningConfig::clone(config)),
            None => Err(no_config(arn)),
        })
    }

    /// Takes one away.
    ///
    /// # Errors
    /// There is none of that ARN, or functions still use it.
    pub fn delete_signing_config(&self, arn: &str) -> Result<(), ApiError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.signing_config(arn)?;
        if let Some(function) = self.functions_signed_by(arn).first() {
            return Err(ApiError::new(
                ErrorCode::ResourceConflict,
                format!("The code signing configuration is still used by the function {}.", function.name),
            ));
        }
        let mut after = SigningConfigs::clone(&self.signing_configs());
        after.remove(arn);
        let row = Write::Remove(record::signing_key(&config.code_signing_config_id));
        self.store.commit(&[row]).map_err(|error| store_error(&error))?;
        *self.signing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        Ok(())
    }

    /// The functions that are joined to a configuration.
    pub fn functions_signed_by(&self, arn: &str) -> Vec<Arc<Function>> {
        // A plain function is joined to none.
        let mut all = self.known_functions();
        all.retain(|function| function.published.code_signing_config_arn.as_deref() == Some(arn));
        all
    }

    fn put_signing_config(
        &self,
        settings: CodeSigningSettings,
        base: impl FnOnce(&SigningConfigs) -> Result<CodeSigningConfig, ApiError>,
    ) -> Result<Arc<CodeSigningConfig>, ApiError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let after = SigningConfigs::clone(&self.signing_configs());
        let mut config = base(&after)?;
        config.description = settings.description.unwrap_or(config.description);
        config.allowed_publishers = settings.allowed_publishers.unwrap_or(config.allowed_publishers);
        let policy =
            settings.code_signing_policies.and_then(|policies| policies.untrusted_artifact_on_deployment);
        if policy.is_some() {
            config.code_signing_policies.untrusted_artifact_on_deployment = policy;
        }
        config.tags = settings.tags.unwrap_or(config.tags);
        config.last_modified = crate::clock::now();
        self.keep_signing_config(after, config)
    }

    /// Changes the tags of one.
    pub(super) fn tag_signing_config(
        &self,
        arn: &str,
        edit: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), ApiError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = CodeSigningConfig::clone(&*self.signing_config(arn)?);
        edit(&mut config.tags);
        validate::check_tag_rules(&config.tags)?;
        self.keep_signing_config(SigningConfigs::clone(&self.signing_configs()), config).map(drop)
    }

    /// Stores a configuration among the others; with the writer's lock held.
    fn keep_signing_config(
        &self,
        mut after: SigningConfigs,
        config: CodeSigningConfig,
    ) -> Result<Arc<CodeSigningConfig>, ApiError> {
        let config = Arc::new(config);
        after.insert(config.code_signing_config_arn.clone(), Arc::clone(&config));
        if after.len() > CONFIGS_MAX {
            let message = format!("An account has at most {CONFIGS_MAX} code signing configurations.");
            return Err(ApiError::invalid(message));
        }
        self.store.commit(&[record::put_signing(&config)]).map_err(|error| store_error(&error))?;
        *self.signing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        Ok(config)
    }
}

fn check(settings: &CodeSigningSettings) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    if let Some(description) = &settings.description {
        violations.length(description, "description", DESCRIPTION_MAX);
    }
    if let Some(publishers) = &settings.allowed_publishers {
        let member = "allowedPublishers.signingProfileVersionArns";
        match &publishers.signing_profile_version_arns {
            None => violations.missing(member),
            Some(arns) if arns.is_empty() => {
                violations.add("[]", member, "Member must have length greater than or equal to 1");
            }
            Some(arns) if arns.len() > PROFILES_MAX => {
                let constraint = format!("Member must have length less than or equal to {PROFILES_MAX}");
                violations.add(format!("[{} ARNs]", arns.len()), member, constraint);
            }
            Some(arns) => {
                for arn in arns {
                    let fits = arn.starts_with("arn:aws") && arn.splitn(6, ':').count() == 6;
                    let pattern = r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)";
                    let shown: String = arn.chars().take(256).collect();
                    violations.pattern(fits, &shown.escape_debug().to_string(), member, pattern);
                }
            }
        }
    }
    if let Some(policies) = &settings.code_signing_policies {
        let member = "codeSigningPolicies.untrustedArtifactOnDeployment";
        violations.one_of(policies.untrusted_artifact_on_deployment.as_deref(), member, &["Warn", "Enforce"]);
    }
    let tags = settings.tags.as_ref();
    validate::check_tags(tags.unwrap_or(&BTreeMap::new()), &mut violations);
    violations.finish()?;
    tags.map_or(Ok(()), validate::check_tag_rules)
}

fn no_config(arn: &str) -> ApiError {
    ApiError::new(
        ErrorCode::ResourceNotFound,
        format!("The Lambda code signing configuration {arn} can not be found."),
    )
}
