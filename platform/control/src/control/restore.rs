//! After a deployment that failed: functions and layers as they were before it.
//!
//! Source: CloudFormation User Guide, "Stack failure options": a failed update rolls back all resources to the last stable
//! state; published, read 2026-11. A code folder of the user's own that is bound and not copied is as it is now.

use super::{Control, Edit, Fresh};
use crate::function::Function;
use crate::layer::Layers;
use model::error::ApiError;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Control {
    /// Makes templates' functions be as they were in `before`: those that came since are gone, those that changed or went have
    /// their code, settings and versions again. Functions that came through the API stay as they are. Environments of a function
    /// whose code and configuration were not touched stay.
    ///
    /// # Errors
    /// A change cannot be stored; what was put back before it stays so.
    pub fn restore(&self, before: &[Arc<Function>]) -> Result<(), ApiError> {
        let known: BTreeSet<&str> = before.iter().map(|function| &*function.name).collect();
        let here = self.functions();
        let of_templates = here.iter().filter(|function| function.logical_id.is_some());
        for made in of_templates.filter(|function| !known.contains(&*function.name)) {
            self.delete(&made.name, None)?;
        }
        for old in before {
            let restored = self.restore_one(old)?;
            if restored.revision_id != old.revision_id && restored.pull.is_some() {
                self.pull(&restored, None);
            }
        }
        Ok(())
    }

    fn restore_one(&self, old: &Arc<Function>) -> Result<Arc<Function>, ApiError> {
        self.change(|functions| {
            let now = functions.get(&old.name);
            let by_a_template = now.map_or(old, |now| now).logical_id.is_some();
            if !by_a_template || now.is_some_and(|now| now.revision_id == old.revision_id) {
                return Ok(Edit::Keep(Arc::clone(now.unwrap_or(old))));
            }
            let mut function = Function::clone(old);
            let last = now.map_or(0, |now| now.published.last_version);
            // Numbers of versions are never used twice.
            function.published.last_version = function.published.last_version.max(last);
            let same = now.is_some_and(|now| now.version_key == old.version_key);
            Ok(Edit::Put(Box::new(function), if same { Fresh::Around } else { Fresh::Again }))
        })
    }

    /// Makes the versions that templates published of their layers be those of `before`.
    ///
    /// # Errors
    /// A change cannot be stored.
    pub fn restore_layers(&self, before: &Layers) -> Result<(), ApiError> {
        for (name, layer) in &*self.layers() {
            let old = before.get(name);
            if old.is_some_and(|old| Arc::ptr_eq(old, layer)) {
                continue;
            }
            self.change_layer(name, |layer| {
                let of_old = |number: &u64| old.is_some_and(|old| old.versions.contains_key(number));
                layer.versions.retain(|number, version| !version.from_template || of_old(number));
                let all = old.into_iter().flat_map(|old| &old.versions);
                for (number, version) in all.filter(|(_, version)| version.from_template) {
                    layer.versions.entry(*number).or_insert_with(|| version.clone());
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
