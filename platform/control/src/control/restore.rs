//! After a deployment that failed: what it did to functions and layers is undone, and nothing else.
//!
//! Source: CloudFormation User Guide, "Stack failure options": a failed update rolls back all resources to the last stable
//! state; published, read 2026-11. A code folder of the user's own that is bound and not copied is as it is now.

use super::deploy::only_reserved;
use super::{Control, Edit, Fresh};
use crate::function::{Function, Layer};
use crate::layer::LayerVersions;
use crate::package::Location;
use crate::request::{Deploy, DeployLayer};
use model::error::ApiError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one deployment did, so that [`Control::restore`] can undo it. What comes through the API meanwhile is no part of it.
#[derive(Debug, Default)]
pub struct Deployment {
    functions: BTreeMap<String, Step<Function>>,
    layers: BTreeMap<String, Step<LayerVersions>>,
}

/// Something before a deployment, and what came of it there; `None`: it is not there.
#[derive(Clone, Debug)]
struct Step<T> {
    before: Option<Arc<T>>,
    after: Option<Arc<T>>,
}

/// What came of a rollback.
#[derive(Debug, Default)]
pub struct Restored {
    /// Functions that somebody else changed after the deployment did: they stay as they are.
    pub left: Vec<String>,
    /// What could not be put back, and why.
    pub refused: Vec<(String, ApiError)>,
}

impl Deployment {
    /// [`Control::deploy`], noted.
    ///
    /// # Errors
    /// As it.
    pub fn deploy(&mut self, control: &Control, request: Deploy) -> Result<Arc<Function>, ApiError> {
        let (before, after) = control.deploy_noted(request)?;
        note(&mut self.functions, &after.name, before, Some(Arc::clone(&after)));
        Ok(after)
    }

    /// [`Control::delete`] of a whole function, noted.
    ///
    /// # Errors
    /// As it.
    pub fn delete(&mut self, control: &Control, name: &str) -> Result<(), ApiError> {
        let before = control.delete(name, None)?;
        note(&mut self.functions, name, before, None);
        Ok(())
    }

    /// [`Control::deploy_layer`], noted.
    ///
    /// # Errors
    /// As it.
    pub fn deploy_layer(&mut self, control: &Control, request: &DeployLayer) -> Result<Layer, ApiError> {
        let name = control.layer_name(&request.name)?;
        let before = control.layers().get(&name).cloned();
        let layer = control.deploy_layer(request)?;
        note(&mut self.layers, &name, before, control.layers().get(&name).cloned());
        Ok(layer)
    }
}

/// What stood before the first step is what comes back, if what came of the last one still stands.
fn note<T: PartialEq>(
    all: &mut BTreeMap<String, Step<T>>,
    name: &str,
    before: Option<Arc<T>>,
    after: Option<Arc<T>>,
) {
    if let Some(step) = all.get_mut(name) {
        step.after = after;
    } else if before != after {
        all.insert(name.to_owned(), Step { before, after });
    }
}

impl Control {
    /// Undoes a deployment: functions that it made are gone, those that it changed or removed have their code, settings and
    /// versions again, and so have layers. What somebody else changed since stays. Environments of a function whose code and
    /// configuration were not touched stay. One that cannot be put back keeps none of the others from it.
    pub fn restore(&self, deployment: &Deployment) -> Restored {
        let mut restored = Restored::default();
        let mut wanted: Vec<_> = deployment.functions.iter().collect();
        // A reservation may fit only once another one is back.
        loop {
            let before = wanted.len();
            restored.refused.clear();
            wanted.retain(|(name, step)| match self.restore_function(name, step) {
                Ok(is_left) => {
                    restored.left.extend(is_left.then(|| (*name).clone()));
                    false
                }
                Err(error) => {
                    restored.refused.push(((*name).clone(), error));
                    true
                }
            });
            if wanted.is_empty() || wanted.len() == before {
                break;
            }
        }
        for (name, step) in &deployment.layers {
            if let Err(error) = self.restore_layer(name, step) {
                restored.refused.push((format!("layer {name}"), error));
            }
        }
        restored
    }

    /// Whether it was left as it is, because somebody else changed it.
    fn restore_function(&self, name: &str, step: &Step<Function>) -> Result<bool, ApiError> {
        let mut is_left = false;
        let Some(any) = step.before.as_ref().or(step.after.as_ref()) else { return Ok(false) };
        let restored = self.change(|functions| {
            let now = functions.get(name);
            if !stands(now, step.after.as_ref()) {
                // One that it made and that is gone needs nothing more.
                is_left = now.is_some() || step.before.is_some();
                return Ok(Edit::Keep(Arc::clone(now.unwrap_or(any))));
            }
            let Some(old) = &step.before else {
                return Ok(Edit::Remove(Arc::clone(now.unwrap_or(any))));
            };
            if let Some(reserved) = old.reserved.filter(|_| now.and_then(|now| now.reserved) != old.reserved)
            {
                self.check_room(functions, name, reserved)?;
            }
            let mut function = Function::clone(old);
            let Some(now) = now else { return Ok(Edit::Put(Box::new(function), Fresh::Again)) };
            // Numbers of versions are never used twice.
            function.published.last_version = function.published.last_version.max(now.published.last_version);
            if only_reserved(now, &function) {
                return Ok(Edit::Reserve(Box::new(function)));
            }
            let same = now.version_key == old.version_key;
            Ok(Edit::Put(Box::new(function), if same { Fresh::Around } else { Fresh::Again }))
        })?;
        if let Some(old) = &step.before
            && !is_left
            && restored.revision_id != old.revision_id
            && restored.pull.is_some()
        {
            self.pull(&restored, None);
        }
        Ok(is_left)
    }

    /// Takes back the versions that were published, and puts back those that went for them.
    fn restore_layer(&self, name: &str, step: &Step<LayerVersions>) -> Result<(), ApiError> {
        let numbers = |layer: &Option<Arc<LayerVersions>>| -> BTreeMap<u64, _> {
            let all = layer.iter().flat_map(|layer| &layer.versions);
            all.filter(|(_, version)| version.from_template)
                .map(|(number, version)| (*number, version.clone()))
                .collect()
        };
        let (before, after) = (numbers(&step.before), numbers(&step.after));
        self.change_layer(name, |layer| {
            layer.versions.retain(|number, _| before.contains_key(number) || !after.contains_key(number));
            for (number, version) in before.iter().filter(|(number, _)| !after.contains_key(*number)) {
                layer.versions.entry(*number).or_insert_with(|| version.clone());
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Whether a function still is what came of its deployment. What follows from that by itself is no change: an image that has
/// come, and an edit of the folder that it is bound to.
fn stands(now: Option<&Arc<Function>>, after: Option<&Arc<Function>>) -> bool {
    let (Some(now), Some(after)) = (now, after) else { return now.is_none() && after.is_none() };
    if now == after || after.pull.is_some() {
        return true;
    }
    if !matches!(now.location, Location::Folder(_)) {
        return false;
    }
    let as_it_was = Function {
        code: after.code.clone(),
        code_sha256: after.code_sha256.clone(),
        code_size: after.code_size,
        lease: after.lease.clone(),
        version_key: after.version_key,
        revision_id: after.revision_id.clone(),
        last_modified: after.last_modified.clone(),
        ..Function::clone(now)
    };
    as_it_was == **after
}
