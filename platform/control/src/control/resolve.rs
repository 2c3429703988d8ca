//! Finds the function that a caller means, by any form of its name.

use super::Control;
use crate::function::Function;
use model::error::{ApiError, ErrorCode};
use model::name::{self, FUNCTION_REFERENCE_MAX, FunctionReference, LATEST};
use std::sync::Arc;

impl Control {
    /// The version that `text` names in any form, with `qualifier` from beside it: `$LATEST`, a number, or an alias.
    /// Cost for a bare name without a qualifier: a lookup, nothing is allocated.
    ///
    /// # Errors
    /// The name fits no form, names another Region, or disagrees with the qualifier; or there is no such function. A
    /// function of another account is answered as one that does not exist.
    pub fn resolve(&self, text: &str, qualifier: Option<&str>) -> Result<Arc<Function>, ApiError> {
        if matches!(qualifier, None | Some(LATEST))
            && let Some(function) = self.function(text)
        {
            return Ok(function);
        }
        let (reference, qualifier) = self.reference(text, qualifier)?;
        let found = self.own(&reference);
        let found = found.and_then(|function| function.qualified(qualifier.as_deref().unwrap_or(LATEST)));
        found.ok_or_else(|| self.not_found(&reference, qualifier.as_deref()))
    }

    /// The function that `text` names, and the qualifier that was given with it or beside it; what that names is not
    /// looked for.
    ///
    /// # Errors
    /// As [`Control::resolve`].
    pub fn resolve_with_qualifier(
        &self,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, Option<String>), ApiError> {
        let (reference, qualifier) = self.reference(text, qualifier)?;
        match self.own(&reference) {
            Some(function) => Ok((function, qualifier)),
            None => Err(self.not_found(&reference, qualifier.as_deref())),
        }
    }

    /// The same, and what the qualifier names must exist.
    ///
    /// # Errors
    /// As [`Control::resolve`].
    pub fn resolve_existing(
        &self,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, Option<String>), ApiError> {
        let (function, qualifier) = self.resolve_with_qualifier(text, qualifier)?;
        match &qualifier {
            Some(missing) if function.qualified(missing).is_none() => {
                Err(self.not_found(&FunctionReference::bare(&function.name), Some(missing)))
            }
            _ => Ok((function, qualifier)),
        }
    }

    /// The function that `text` names, for operations that work on the function as a whole.
    ///
    /// # Errors
    /// As [`Control::resolve`]; or there is a qualifier.
    pub fn resolve_unqualified(&self, text: &str) -> Result<Arc<Function>, ApiError> {
        let (reference, qualifier) = self.reference(text, None)?;
        if qualifier.is_some() {
            return Err(ApiError::invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.",
            ));
        }
        self.own(&reference).ok_or_else(|| self.not_found(&reference, None))
    }

    /// The function that a reference names; none when it names another account's.
    pub(super) fn own(&self, reference: &FunctionReference) -> Option<Arc<Function>> {
        let own = reference.account.as_ref().is_none_or(|account| *account == self.options.account_id);
        self.function(&reference.name).filter(|_| own)
    }

    /// Reads a name in any form, and the one qualifier that counts.
    ///
    /// # Errors
    /// As AWS words them.
    pub(super) fn reference(
        &self,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<(FunctionReference, Option<String>), ApiError> {
        if text.len() > FUNCTION_REFERENCE_MAX {
            let constraint =
                format!("Member must have length less than or equal to {FUNCTION_REFERENCE_MAX}");
            return Err(ApiError::validation(&shown(text), "functionName", &constraint));
        }
        let reference = FunctionReference::parse(text)
            .map_err(|bad| ApiError::validation(&shown(text), "functionName", &bad.to_string()))?;
        if let Some(region) = reference.region.as_ref().filter(|region| **region != self.options.region) {
            return Err(ApiError::new(
                ErrorCode::ResourceNotFound,
                format!(
                    "Functions from '{region}' are not reachable in this region ('{}')",
                    self.options.region
                ),
            ));
        }
        if let Some(beside) = qualifier {
            check_qualifier(beside)?;
            if reference.qualifier.as_ref().is_some_and(|derived| derived != beside) {
                return Err(ApiError::invalid(
                    "The derived qualifier from the function name does not match the specified qualifier.",
                ));
            }
        }
        let qualifier = qualifier.map(str::to_owned).or_else(|| reference.qualifier.clone());
        Ok((reference, qualifier))
    }

    pub(super) fn not_found(&self, reference: &FunctionReference, qualifier: Option<&str>) -> ApiError {
        let account = reference.account.as_deref().unwrap_or(&self.options.account_id);
        let mut arn = name::function_arn(&self.options.region, account, &reference.name);
        if let Some(qualifier) = qualifier {
            arn = name::qualified_arn(&arn, qualifier);
        }
        ApiError::new(ErrorCode::ResourceNotFound, format!("Function not found: {arn}"))
    }
}

/// Checks what names a version or an alias beside a function's name.
///
/// # Errors
/// It fits no pattern of the API's.
pub fn check_qualifier(text: &str) -> Result<(), ApiError> {
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_$.".contains(&byte));
    if !text.is_empty() && text.len() <= 128 && fits {
        return Ok(());
    }
    let pattern = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+";
    let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
    Err(ApiError::validation(&shown(text), "qualifier", &constraint))
}

/// A caller's text for an error: bounded, control characters escaped.
fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 256;
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}
