//! Tags of functions and code signing configurations.

use super::Control;
use super::pull::check_settled;
use crate::validate::{self, Violations};
use model::error::{ApiError, ErrorCode, Violation};
use std::collections::BTreeMap;

impl Control {
    /// The tags of the function or code signing configuration with that ARN.
    ///
    /// # Errors
    /// There is nothing of that ARN.
    pub fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>, ApiError> {
        if is_signing(arn) {
            return Ok(self.signing_config(arn)?.tags.clone());
        }
        Ok(self.tagged(arn)?.tags.clone())
    }

    /// Adds tags, or changes their values.
    ///
    /// # Errors
    /// There is nothing of that ARN, or a tag is not as it must be, or there would be too many.
    pub fn tag(&self, arn: &str, tags: Option<BTreeMap<String, String>>) -> Result<(), ApiError> {
        let tags = tags.ok_or_else(|| ApiError::validations(&[Violation::missing("tags")]))?;
        let mut violations = Violations::default();
        validate::check_tags(&tags, &mut violations);
        violations.finish()?;
        if tags.is_empty() {
            // Recorded so.
            return Err(ApiError::invalid("An error occurred and the request cannot be processed."));
        }
        if is_signing(arn) {
            return self.tag_signing_config(arn, |all| all.extend(tags));
        }
        let name = self.tagged(arn)?.name.clone();
        self.change_around(&name, |function| {
            check_settled(function)?;
            function.tags.extend(tags);
            validate::check_tag_rules(&function.tags)
        })?;
        Ok(())
    }

    /// Takes tags away; those that are not there do not matter.
    ///
    /// # Errors
    /// There is nothing of that ARN.
    pub fn untag(&self, arn: &str, keys: &[String]) -> Result<(), ApiError> {
        let mut violations = Violations::default();
        validate::check_tag_keys(keys, &mut violations);
        violations.finish()?;
        if is_signing(arn) {
            return self.tag_signing_config(arn, |all| all.retain(|key, _| !keys.contains(key)));
        }
        let name = self.tagged(arn)?.name.clone();
        self.change_around(&name, |function| {
            check_settled(function)?;
            function.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })?;
        Ok(())
    }

    fn tagged(&self, arn: &str) -> Result<std::sync::Arc<crate::Function>, ApiError> {
        let kind = arn.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(4));
        if let Some("event-source-mapping" | "layer") = kind {
            let message = "The resource you requested does not exist.";
            return Err(ApiError::new(ErrorCode::ResourceNotFound, message));
        }
        if kind != Some("function") {
            return Err(ApiError::validation(
                &arn.escape_debug().to_string(),
                "resource",
                r"Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*):lambda:[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12})",
            ));
        }
        if self.reference(arn, None)?.1.is_some() {
            // Recorded so.
            return Err(ApiError::invalid(
                "Tags on function aliases and versions are not supported. Please specify a function ARN.",
            ));
        }
        self.resolve_unqualified(arn)
    }
}

fn is_signing(arn: &str) -> bool {
    arn.starts_with("arn:") && arn.split(':').nth(5) == Some("code-signing-config")
}
