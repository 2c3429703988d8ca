//! Layers as the API publishes them: numbered versions of files for `/opt`.

use crate::function::{Layer, PolicyStatement};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All versions of one layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerVersions {
    /// 1 to 140 of `[a-zA-Z0-9-_]`.
    pub name: String,
    /// The number of the latest version that was ever published; numbers are never used twice.
    pub last_version: u64,
    /// Versions that were not deleted.
    pub versions: BTreeMap<u64, LayerVersion>,
}

/// One version of a layer; its files never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// Its number.
    pub version: u64,
    /// Its files, as functions use them.
    pub layer: Layer,
    /// For people.
    pub description: String,
    /// An SPDX identifier, an address, or the text.
    pub license_info: Option<String>,
    /// Runtimes that it says it suits; not checked.
    pub compatible_runtimes: Vec<String>,
    /// Architectures that it says it suits; not checked.
    pub compatible_architectures: Vec<String>,
    /// `2025-11-24T23:08:11.000+0000`, UTC.
    pub created: String,
    /// Who may use it: kept, not evaluated, since there is one account.
    pub policy: Vec<PolicyStatement>,
    /// A UUID, new with every change of the policy.
    pub revision_id: String,
    /// Whether a template published it.
    #[serde(default)]
    pub from_template: bool,
}

/// Every layer, by name.
pub type Layers = BTreeMap<String, Arc<LayerVersions>>;
