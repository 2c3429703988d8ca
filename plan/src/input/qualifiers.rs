//! Versions and aliases of a stack, and what is provisioned for them.

use super::PlanInput;
use model::stack::{FunctionTarget, Stack};

/// A version or alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualifierInput {
    /// Logical id.
    pub id: String,
    /// Index of its function.
    pub function: usize,
    /// `live`, `1`.
    pub name: String,
    /// Index of its provisioned concurrency; that of the version for an alias without its own.
    pub provisioned: Option<usize>,
}

/// Provisioned concurrency of a version or alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionedInput {
    /// Index of its function.
    pub function: usize,
    /// `live`, `1`.
    pub qualifier: String,
    /// Environments kept ready.
    pub environments: u32,
}

impl PlanInput {
    /// The same with this provisioned concurrency, each of an alias of its own.
    #[must_use]
    pub fn with_provisioned(mut self, provisioned: Vec<ProvisionedInput>) -> Self {
        let aliases = provisioned.iter().enumerate().map(|(index, found)| QualifierInput {
            id: String::new(),
            function: found.function,
            name: found.qualifier.clone(),
            provisioned: Some(index),
        });
        self.qualifiers.extend(aliases);
        self.provisioned = provisioned;
        self
    }
}

/// Every version and alias of the stack's functions, and every provisioned concurrency.
pub(super) fn of_stack(
    stack: &Stack,
    function: impl Fn(&FunctionTarget) -> Option<usize>,
) -> (Vec<QualifierInput>, Vec<ProvisionedInput>) {
    let (mut qualifiers, mut provisioned): (Vec<QualifierInput>, Vec<ProvisionedInput>) = Default::default();
    let versions = stack.versions.iter().map(|version| {
        (&version.id, &version.function, &version.version, None, version.provisioned_concurrency)
    });
    let aliases = stack.aliases.iter().map(|alias| {
        (&alias.id, &alias.function, &alias.name, Some(&alias.version), alias.provisioned_concurrency)
    });
    for (id, owner, name, version, environments) in versions.chain(aliases) {
        let target = FunctionTarget { function: owner.clone(), qualifier: None };
        let Some(function) = function(&target) else { continue };
        let own = environments.map(|environments| {
            provisioned.push(ProvisionedInput { function, qualifier: name.clone(), environments });
            provisioned.len() - 1
        });
        let of_version = || {
            let version = version?;
            qualifiers.iter().find(|other| (other.function, &other.name) == (function, version))?.provisioned
        };
        let provisioned = own.or_else(of_version);
        qualifiers.push(QualifierInput { id: id.clone(), function, name: name.clone(), provisioned });
    }
    (qualifiers, provisioned)
}
