//! Published versions: numbered, immutable, one for each state of code and configuration.

use super::function::check_revision;
use super::pull::check_settled;
use super::{Control, Edit, Fresh};
use crate::function::{Function, LastUpdateStatus};
use crate::package::{Location, Package};
use crate::published::{self, Published};
use crate::validate::{DESCRIPTION_MAX, Violations, not_run};
use model::error::{ApiError, ErrorCode};
use model::name::LATEST;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Published versions of one function. Ours: AWS bounds the stored bytes alone.
const VERSIONS_MAX: usize = 1_000;

/// `PublishVersion`; the function's name comes with the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishVersion {
    /// Only publish this code.
    pub code_sha256: Option<String>,
    /// For people; the function's own if there is none.
    pub description: Option<String>,
    /// Only publish this revision.
    pub revision_id: Option<String>,
    /// Where, of functions with a capacity provider: not run.
    pub publish_to: Option<serde_json::Value>,
}

impl Control {
    /// Publishes `$LATEST` under the next number; the version before if nothing has changed since.
    ///
    /// # Errors
    /// There is no such function, or its code or revision is not the one that was asked for.
    pub fn publish(&self, function: &str, request: PublishVersion) -> Result<Arc<Function>, ApiError> {
        let mut violations = Violations::default();
        if let Some(description) = &request.description {
            violations.length(description, "description", DESCRIPTION_MAX);
        }
        violations.finish()?;
        if request.publish_to.is_some() {
            return Err(not_run("The member PublishTo"));
        }
        let name = self.resolve_unqualified(function)?.name.clone();
        let copies =
            self.function(&name).map(|function| self.copies_of(&function)).transpose()?.unwrap_or_default();
        let latest = self.change(|functions| {
            let before = functions.get(&name).ok_or_else(|| self.missing(&name))?;
            check_settled(before)?;
            check_revision(before, request.revision_id.as_deref())?;
            let (asked, current) = (request.code_sha256.as_deref(), &before.code_sha256);
            if let Some(asked) = asked.filter(|asked| !asked.is_empty() && asked != current) {
                return Err(ApiError::invalid(format!(
                    "CodeSHA256 ({}) is different from current CodeSHA256 in $LATEST ({current}). Please try again with the CodeSHA256 in $LATEST.",
                    asked.escape_debug()
                )));
            }
            let mut function = Function::clone(before);
            if !publish_into(&mut function, request.description, &copies)? {
                return Ok(Edit::Keep(Arc::clone(before)));
            }
            Ok(Edit::Put(Box::new(function), Fresh::Around))
        })?;
        Ok(latest_version(&latest))
    }

    /// Every version of a function: `$LATEST`, then the published ones by number.
    ///
    /// # Errors
    /// There is no such function.
    pub fn versions(&self, function: &str) -> Result<Vec<Arc<Function>>, ApiError> {
        let latest = self.resolve_unqualified(function)?;
        let published = latest.published.versions.values().cloned();
        Ok(std::iter::once(Arc::clone(&latest)).chain(published).collect())
    }

    /// Deletes one published version, and what was set for it. One that is not there is no error.
    ///
    /// Source: measured on AWS by others (floci-io/floci#2824), read 2026-11.
    pub(super) fn delete_version(&self, name: &str, qualifier: &str) -> Result<(), ApiError> {
        self.change(|functions| {
            let before = functions.get(name).ok_or_else(|| self.missing(name))?;
            if before.published.aliases.contains_key(qualifier) {
                return Err(ApiError::invalid("Deletion of aliases is not currently supported."));
            }
            let mut function = Function::clone(before);
            let removed = published::number(qualifier).and_then(|n| function.published.versions.remove(&n));
            if removed.is_none() {
                return Ok(Edit::Keep(Arc::clone(before)));
            }
            let aliases = before.published.aliases.values().filter(|alias| {
                alias.version == qualifier
                    || alias.routing.as_ref().is_some_and(|(other, _)| other == qualifier)
            });
            let aliases: Vec<&str> = aliases.map(|alias| alias.name.as_str()).collect();
            if !aliases.is_empty() {
                let aliases = aliases.join(", ");
                return Err(ApiError::new(
                    ErrorCode::ResourceConflict,
                    format!(
                        "Unable to delete version because the following aliases reference it: [{aliases}]"
                    ),
                ));
            }
            function.published.forget(qualifier);
            function.event_invoke.remove(qualifier);
            Ok(Edit::Put(Box::new(function), Fresh::Around))
        })?;
        Ok(())
    }

    /// Copies of the folders of a function that may change, for a version that is to stay as it is.
    pub(super) fn copies_of(&self, function: &Function) -> Result<Copies, ApiError> {
        let copy = |location: &Location| match location {
            Location::Folder(path) => {
                self.packages.copy(path).map(Some).map_err(|error| super::code::api_error(&error))
            }
            Location::Package(_) | Location::Image(_) => Ok(None),
        };
        let mut layers = BTreeMap::new();
        for layer in &function.layers {
            if let Some(copied) = copy(&layer.location)? {
                layers.insert(layer.arn.clone(), copied);
            }
        }
        Ok(Copies { code: copy(&function.location)?, layers })
    }
}

/// What a version runs in place of the user's own folders.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    code: Option<Package>,
    /// By the ARN of the layer's version.
    layers: BTreeMap<String, Package>,
}

impl Published {
    /// Drops what was set for a version or alias that goes.
    pub(super) fn forget(&mut self, qualifier: &str) {
        self.provisioned.remove(qualifier);
        self.policies.remove(qualifier);
        self.urls.remove(qualifier);
        self.runtime_management.remove(qualifier);
    }
}

/// Adds the next version to a function, unless the latest is the same; whether it did. The version runs
/// `copies` in place of folders that may change.
pub(super) fn publish_into(
    function: &mut Function,
    description: Option<String>,
    copies: &Copies,
) -> Result<bool, ApiError> {
    let mut version = Function {
        published: Published::default(),
        source_key: function.version_key,
        version_key: 0,
        revision_id: String::new(),
        reserved: None,
        url: None,
        policy: Vec::new(),
        event_invoke: Default::default(),
        tags: Default::default(),
        last_modified: crate::clock::now(),
        // How an update ended says nothing of what is published.
        last_update_status: LastUpdateStatus::Successful,
        last_update_reason: None,
        ..function.clone()
    };
    if let (Some(package), Location::Folder(_)) = (copies.code.clone(), &function.location) {
        version.code = package.path;
        version.location = package.location;
        version.lease = package.lease;
    }
    for layer in &mut version.layers {
        if let Some(package) = copies.layers.get(&layer.arn).cloned() {
            layer.path = package.path;
            layer.location = package.location;
            layer.lease = package.lease;
        }
    }
    if let Some(before) = function.published.versions.get(&function.published.last_version)
        && is_same(before, &version)
    {
        return Ok(false);
    }
    version.description = description.unwrap_or(version.description);
    if function.published.versions.len() >= VERSIONS_MAX {
        return Err(ApiError::new(
            ErrorCode::CodeStorageExceeded,
            format!(
                "A function has at most {VERSIONS_MAX} published versions; delete those that are not needed."
            ),
        ));
    }
    let published = &mut function.published;
    published.last_version += 1;
    version.version = published.last_version.to_string();
    published.versions.insert(published.last_version, Arc::new(version));
    Ok(true)
}

/// The version that was published last; the function itself if that one is gone.
pub(super) fn latest_version(latest: &Arc<Function>) -> Arc<Function> {
    let published = &latest.published;
    Arc::clone(published.versions.get(&published.last_version).unwrap_or(latest))
}

/// Whether publishing would make a version that is there already.
fn is_same(before: &Function, candidate: &Function) -> bool {
    debug_assert_eq!(candidate.version, LATEST);
    if before.source_key == candidate.source_key {
        return true;
    }
    let mut candidate = candidate.clone();
    candidate.version.clone_from(&before.version);
    candidate.revision_id.clone_from(&before.revision_id);
    candidate.last_modified.clone_from(&before.last_modified);
    candidate.version_key = before.version_key;
    candidate.source_key = before.source_key;
    candidate == *before
}
