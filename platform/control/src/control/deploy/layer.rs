//! A template's layers: a version for each state of their content.

use super::super::Control;
use super::super::layer::LayerMembers;
use crate::function::Layer;
use crate::package::Location;
use crate::request::DeployLayer;
use model::error::ApiError;

/// Versions that are kept of a template's layer. Ours: AWS keeps all, but here every save may make one.
const VERSIONS_KEPT: usize = 10;

impl Control {
    /// Publishes a layer of a template, unless its latest version is the same; what functions use comes back. A folder is
    /// bound as it is, not copied: its versions before, whose files are gone, go with it.
    ///
    /// # Errors
    /// The content cannot be read or unpacked, or a member breaks a constraint.
    pub fn deploy_layer(&self, request: &DeployLayer) -> Result<Layer, ApiError> {
        let members = LayerMembers {
            description: request.description.clone(),
            license_info: request.license_info.clone(),
            compatible_runtimes: request.compatible_runtimes.clone(),
            compatible_architectures: request.compatible_architectures.clone(),
        };
        members.check()?;
        let name = self.layer_name(&request.name)?;
        let package = self.code_of_deploy(&request.code, None)?;
        let latest = self.layers().get(&name).and_then(|layer| layer.versions.values().next_back().cloned());
        if let Some(latest) = latest
            && latest.layer.location == package.location
            && latest.layer.sha256 == package.sha256
            && LayerMembers::of(&latest) == members
        {
            return Ok(latest.layer);
        }
        let location = package.location.clone();
        let is_folder = matches!(location, Location::Folder(_));
        let version = self.add_layer_version(&name, package, members, true, |layer| {
            layer.versions.retain(|_, version| !is_folder || version.layer.location != location);
            let ours = layer.versions.iter().filter(|(_, version)| version.from_template);
            let old: Vec<u64> = ours.map(|(number, _)| *number).rev().skip(VERSIONS_KEPT - 1).collect();
            old.iter().for_each(|number| drop(layer.versions.remove(number)));
        })?;
        Ok(version.layer)
    }
}
