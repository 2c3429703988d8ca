//! Provisioned concurrency as asked for, for versions and aliases; how far it is, the dispatcher knows.

use super::alias::no_alias;
use super::{Control, Edit, Fresh};
use crate::function::{Function, SnapStart};
use crate::published::{self, Provisioned};
use model::error::{ApiError, ErrorCode, Violation};
use model::name::{FunctionReference, LATEST};
use std::sync::Arc;

impl Control {
    /// Asks for environments that are kept ready for a version or alias. The function comes back with the qualifier.
    ///
    /// # Errors
    /// There is no such function, version or alias, the number is out of range, or concurrency does not allow it.
    pub fn put_provisioned(
        &self,
        function: &str,
        qualifier: Option<&str>,
        requested: Option<i64>,
    ) -> Result<(Arc<Function>, String), ApiError> {
        let mut violations = Vec::new();
        if qualifier.is_none() {
            violations.push(Violation::missing("qualifier"));
        }
        let member = "provisionedConcurrentExecutions";
        match requested {
            None => violations.push(Violation::missing(member)),
            Some(number) if number < 1 => violations.push(Violation::of(
                number.to_string(),
                member,
                "Member must have value greater than or equal to 1",
            )),
            Some(_) => {}
        }
        if !violations.is_empty() {
            return Err(ApiError::validations(&violations));
        }
        let (found, qualifier) = self.resolve_with_qualifier(function, qualifier)?;
        let qualifier = qualifier.unwrap_or_default();
        if qualifier == LATEST {
            return Err(ApiError::invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
            ));
        }
        let requested = u32::try_from(requested.unwrap_or_default()).unwrap_or(u32::MAX);
        let name = found.name.clone();
        let function = self.change(|functions| {
            let before = functions.get(&name).ok_or_else(|| self.missing(&name))?;
            self.check_qualifier(before, &qualifier)?;
            check_snap_start(before, &qualifier)?;
            self.check_provisioned(functions, before, &qualifier, requested)?;
            let mut function = Function::clone(before);
            function.published.provisioned.insert(qualifier.clone(), now_requested(requested));
            Ok(Edit::Put(Box::new(function), Fresh::Around))
        })?;
        Ok((function, qualifier))
    }

    /// Checks that a version or alias may have so many environments kept ready.
    pub(super) fn check_provisioned(
        &self,
        functions: &super::Functions,
        function: &Function,
        qualifier: &str,
        requested: u32,
    ) -> Result<(), ApiError> {
        check_shared(function, qualifier)?;
        let old = function.published.provisioned.get(qualifier).map_or(0, |found| found.requested);
        let whole = u64::from(provisioned_of(function)) - u64::from(old) + u64::from(requested);
        match function.reserved {
            Some(reserved) if whole > u64::from(reserved) => Err(ApiError::invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
            )),
            Some(_) => Ok(()),
            None => self.check_unreserved(functions, &function.name, whole),
        }
    }

    /// What was asked for.
    ///
    /// # Errors
    /// There is no such function, version or alias, or it has none.
    pub fn get_provisioned(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, String, Provisioned), ApiError> {
        let (function, qualifier) = self.provisionable(function, qualifier)?;
        match function.published.provisioned.get(&qualifier).cloned() {
            Some(provisioned) => Ok((function, qualifier, provisioned)),
            None => Err(ApiError::new(
                ErrorCode::ProvisionedConcurrencyConfigNotFound,
                "No Provisioned Concurrency Config found for this function",
            )),
        }
    }

    /// Takes it away; where there is none that does not matter.
    ///
    /// # Errors
    /// There is no such function, version or alias.
    pub fn delete_provisioned(&self, function: &str, qualifier: Option<&str>) -> Result<(), ApiError> {
        let (found, qualifier) = self.provisionable(function, qualifier)?;
        self.change_around(&found.name, |function| {
            function.published.provisioned.remove(&qualifier);
            Ok(())
        })?;
        Ok(())
    }

    fn provisionable(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, String), ApiError> {
        if qualifier.is_none() {
            return Err(ApiError::validations(&[Violation::missing("qualifier")]));
        }
        let (function, qualifier) = self.resolve_with_qualifier(function, qualifier)?;
        let qualifier = qualifier.unwrap_or_default();
        if qualifier == LATEST {
            return Err(ApiError::invalid(
                "The function resource provided must be an alias or a published version.",
            ));
        }
        self.check_qualifier(&function, &qualifier)?;
        Ok((function, qualifier))
    }

    /// Checks that a version or alias exists.
    pub(super) fn check_qualifier(&self, function: &Function, qualifier: &str) -> Result<(), ApiError> {
        let exists = match published::number(qualifier) {
            Some(number) => function.published.versions.contains_key(&number),
            None => qualifier == LATEST || function.published.aliases.contains_key(qualifier),
        };
        if exists {
            return Ok(());
        }
        Err(match qualifier.bytes().all(|byte| byte.is_ascii_digit()) {
            true => self.not_found(&FunctionReference::bare(&function.name), Some(qualifier)),
            false => no_alias(function, qualifier),
        })
    }

    /// Checks that enough stays unreserved when a function without a reservation has so many provisioned.
    fn check_unreserved(&self, functions: &super::Functions, name: &str, whole: u64) -> Result<(), ApiError> {
        let others: u64 = functions.known().filter(|other| other.name != name).map(allocated).sum();
        let floor = self.options.unreserved_minimum;
        let left = u64::from(self.options.account_concurrency).saturating_sub(others);
        if whole > left {
            return Err(ApiError::invalid(format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}]."
            )));
        }
        if left - whole < u64::from(floor) {
            return Err(ApiError::invalid(format!(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{floor}]."
            )));
        }
        Ok(())
    }
}

/// So many, asked for now.
pub(super) fn now_requested(requested: u32) -> Provisioned {
    Provisioned { requested, last_modified: crate::clock::now_in_seconds() }
}

/// Environments provisioned for all versions and aliases of a function.
pub(super) fn provisioned_of(function: &Function) -> u32 {
    function
        .published
        .provisioned
        .values()
        .fold(0, |sum, provisioned| sum.saturating_add(provisioned.requested))
}

/// What a function takes from the account's concurrency for good: its reservation, or what is provisioned without one.
///
/// Source: Lambda Developer Guide, "Monitoring concurrency", published.
pub(super) fn allocated(function: &Arc<Function>) -> u64 {
    u64::from(function.reserved.unwrap_or_else(|| provisioned_of(function)))
}

/// Source: Developer Guide, "Improving startup performance with Lambda SnapStart": not together; the words are unconfirmed.
fn check_snap_start(function: &Arc<Function>, qualifier: &str) -> Result<(), ApiError> {
    let version = function.route_by(qualifier, || 1.0).map(|route| route.version);
    if version.is_some_and(|version| version.snap_start == SnapStart::PublishedVersions) {
        return Err(ApiError::invalid(
            "Provisioned Concurrency is not supported for SnapStart enabled function versions.",
        ));
    }
    Ok(())
}

/// A version is provisioned by itself or through an alias, not both.
fn check_shared(function: &Function, qualifier: &str) -> Result<(), ApiError> {
    let published = &function.published;
    let conflict = |message: &str| Err(ApiError::new(ErrorCode::ResourceConflict, message));
    if let Some(alias) = published.aliases.get(qualifier) {
        if published.provisioned.contains_key(&alias.version) {
            return conflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
            );
        }
        if alias.version == LATEST {
            return Err(ApiError::invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
            ));
        }
        return Ok(());
    }
    let by_alias = published
        .aliases
        .values()
        .any(|alias| alias.version == qualifier && published.provisioned.contains_key(&alias.name));
    if by_alias { conflict("Version is pointed by a Provisioned Concurrency alias") } else { Ok(()) }
}
