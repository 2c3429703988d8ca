//! Publishing, finding and deleting layers.

use super::code::{api_error, check_code};
use super::policy::{ORGANISATION_PATTERN, is_organisation};
use super::{Control, package, store_error};
use crate::function::{Layer, PolicyStatement};
use crate::layer::{LayerVersion, LayerVersions, Layers};
use crate::package::{Location, Package, PackageError, Packages, UNZIPPED_MAX};
use crate::request::FunctionCode;
use crate::store::Write;
use crate::validate::{DESCRIPTION_MAX, LAYERS_MAX, Violations, is_known, shown};
use model::error::{ApiError, ErrorCode, Violation};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

const LAYER_NAME_MAX: usize = 140;
/// Longest ARN of a function's layer. Source: recorded on AWS, see [`no_version`].
const VERSION_ARN_MAX: usize = 140;
const LICENSE_MAX: usize = 512;
const RUNTIMES_MAX: usize = 15;
const ARCHITECTURES_MAX: usize = 2;
/// Versions of one layer that are kept. Ours.
const LAYER_VERSIONS_MAX: usize = 1_000;
/// Layers of the account. Ours.
const LAYER_NAMES_MAX: usize = 10_000;

/// `PublishLayerVersion`; the layer's name comes with the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishLayer {
    /// The files.
    pub content: Option<FunctionCode>,
    /// For people.
    pub description: Option<String>,
    /// Its licence.
    pub license_info: Option<String>,
    /// Runtimes that it suits.
    pub compatible_runtimes: Option<Vec<String>>,
    /// Architectures that it suits.
    pub compatible_architectures: Option<Vec<String>>,
}

/// `AddLayerVersionPermission`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerPermission {
    /// Unique in the policy.
    pub statement_id: Option<String>,
    /// `lambda:GetLayerVersion`.
    pub action: Option<String>,
    /// An account, or `*`.
    pub principal: Option<String>,
    /// Only for this organisation.
    pub organization_id: Option<String>,
}

/// What a layer version says of itself.
#[derive(Debug, PartialEq)]
pub(super) struct LayerMembers {
    pub(super) description: String,
    pub(super) license_info: Option<String>,
    pub(super) compatible_runtimes: Vec<String>,
    pub(super) compatible_architectures: Vec<String>,
}

impl LayerMembers {
    pub(super) fn of(version: &LayerVersion) -> Self {
        Self {
            description: version.description.clone(),
            license_info: version.license_info.clone(),
            compatible_runtimes: version.compatible_runtimes.clone(),
            compatible_architectures: version.compatible_architectures.clone(),
        }
    }

    pub(super) fn check(&self) -> Result<(), ApiError> {
        let mut violations = Violations::default();
        self.check_into(&mut violations);
        violations.finish()
    }

    fn check_into(&self, violations: &mut Violations) {
        violations.length(&self.description, "description", DESCRIPTION_MAX);
        if let Some(license) = &self.license_info {
            violations.length(license, "licenseInfo", LICENSE_MAX);
        }
        let lists = [
            (&self.compatible_runtimes, "compatibleRuntimes", RUNTIMES_MAX),
            (&self.compatible_architectures, "compatibleArchitectures", ARCHITECTURES_MAX),
        ];
        for (list, member, max) in lists {
            if list.len() > max {
                let constraint = format!("Member must have length less than or equal to {max}");
                violations.add(format!("[{}]", list.join(", ")), member, constraint);
            }
        }
        for runtime in self.compatible_runtimes.iter().filter(|runtime| !is_known(runtime)) {
            let constraint = "Member must satisfy enum value set of Lambda's runtimes";
            violations.add(shown(runtime), "compatibleRuntimes", constraint);
        }
        for architecture in &self.compatible_architectures {
            violations.one_of(Some(architecture), "compatibleArchitectures", &["x86_64", "arm64"]);
        }
    }
}

impl Control {
    /// Every layer, by name. Cost: one pointer copy.
    pub fn layers(&self) -> Arc<Layers> {
        Arc::clone(&self.layers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ARN of a layer, without a version.
    pub fn layer_arn(&self, name: &str) -> String {
        let region = &self.options.region;
        format!(
            "arn:{}:lambda:{region}:{}:layer:{name}",
            model::name::partition_of(region),
            self.options.account_id
        )
    }

    /// Publishes the next version of a layer, which is made if it is new.
    ///
    /// # Errors
    /// A member breaks a constraint, or the archive cannot be unpacked.
    pub fn publish_layer(&self, name: &str, request: PublishLayer) -> Result<LayerVersion, ApiError> {
        let PublishLayer {
            content,
            description,
            license_info,
            compatible_runtimes,
            compatible_architectures,
        } = request;
        let members = LayerMembers {
            description: description.unwrap_or_default(),
            license_info,
            compatible_runtimes: compatible_runtimes.unwrap_or_default(),
            compatible_architectures: compatible_architectures.unwrap_or_default(),
        };
        let mut violations = Violations::default();
        if content.is_none() {
            violations.missing("content");
        }
        members.check_into(&mut violations);
        content.iter().for_each(|content| check_code(content, "content.", &mut violations));
        violations.finish()?;
        let name = self.layer_name(name)?;
        let package = self.code_of_request(&content.unwrap_or_default())?;
        self.add_layer_version(&name, package, members, false, |_| {})
    }

    /// Adds the next version of a layer, after `prepare` has looked at those before.
    pub(super) fn add_layer_version(
        &self,
        name: &str,
        package: Package,
        members: LayerMembers,
        from_template: bool,
        prepare: impl FnOnce(&mut LayerVersions),
    ) -> Result<LayerVersion, ApiError> {
        let arn = self.layer_arn(name);
        let revision_id = self.fresh_id()?;
        self.change_layer(name, move |layer| {
            prepare(layer);
            if layer.versions.len() >= LAYER_VERSIONS_MAX {
                let message = format!(
                    "A layer has at most {LAYER_VERSIONS_MAX} versions; delete those that are not needed."
                );
                return Err(ApiError::new(ErrorCode::CodeStorageExceeded, message));
            }
            layer.last_version += 1;
            let version = LayerVersion {
                version: layer.last_version,
                layer: Layer {
                    arn: format!("{arn}:{}", layer.last_version),
                    path: package.path,
                    location: package.location,
                    sha256: package.sha256,
                    code_size: package.size,
                    lease: package.lease,
                },
                description: members.description,
                license_info: members.license_info,
                compatible_runtimes: members.compatible_runtimes,
                compatible_architectures: members.compatible_architectures,
                created: crate::clock::now(),
                policy: Vec::new(),
                revision_id,
                from_template,
            };
            layer.versions.insert(layer.last_version, version.clone());
            Ok(version)
        })
    }

    /// One version of a layer.
    ///
    /// # Errors
    /// There is none.
    pub fn layer_version(&self, name: &str, version: &str) -> Result<LayerVersion, ApiError> {
        let name = self.layer_name(name)?;
        let number = layer_number(version)?;
        let layers = self.layers();
        let found = layers.get(&name).and_then(|layer| layer.versions.get(&number));
        found.cloned().ok_or_else(no_layer)
    }

    /// One version of a layer by its ARN.
    ///
    /// # Errors
    /// The ARN is none, or there is no such version.
    pub fn layer_by_arn(&self, arn: &str) -> Result<LayerVersion, ApiError> {
        let bad = || {
            let pattern = r"Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)";
            let shown: String = arn.chars().take(256).collect();
            ApiError::validation(&shown.escape_debug().to_string(), "arn", pattern)
        };
        // AWS's own, none of which is on this machine.
        if region_of(arn) == Some(None) {
            return Err(no_layer());
        }
        let (layer, version) = arn.rsplit_once(':').ok_or_else(bad)?;
        if !arn.starts_with("arn:")
            || version.is_empty()
            || !version.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(bad());
        }
        let parts: Vec<&str> = layer.split(':').collect();
        let &["arn", _, "lambda", region, account, "layer", name] = parts.as_slice() else {
            return Err(bad());
        };
        if region != self.options.region || account != self.options.account_id {
            return Err(no_layer());
        }
        self.layer_version(name, version)
    }

    /// One version of a layer, for its policy.
    ///
    /// # Errors
    /// There is none: its policy's operations say so in other words than its own. Source: recorded on AWS.
    pub fn layer_with_policy(&self, name: &str, version: &str) -> Result<LayerVersion, ApiError> {
        self.layer_version(name, version).map_err(|error| match error.code {
            ErrorCode::ResourceNotFound => self.no_policy_of(name, version),
            _ => error,
        })
    }

    fn no_policy_of(&self, name: &str, version: &str) -> ApiError {
        let layer = if name.starts_with("arn:") { name.to_owned() } else { self.layer_arn(name) };
        ApiError::new(ErrorCode::ResourceNotFound, format!("Layer version {layer}:{version} does not exist."))
    }

    /// Deletes one version; functions that use it keep their copy. One that is not there does not matter.
    ///
    /// # Errors
    /// The name or the number cannot be one.
    pub fn delete_layer(&self, name: &str, version: &str) -> Result<(), ApiError> {
        let name = self.layer_name(name)?;
        let number = layer_number(version)?;
        if !self.layers().contains_key(&name) {
            return Ok(());
        }
        self.change_layer(&name, |layer| {
            layer.versions.remove(&number);
            Ok(())
        })
    }

    /// Adds a statement to a layer version's policy; the statement and the revision come back.
    ///
    /// # Errors
    /// There is no such version, a member is missing, or the id is taken.
    pub fn add_layer_permission(
        &self,
        name: &str,
        version: &str,
        request: &LayerPermission,
        revision: Option<&str>,
    ) -> Result<(Value, String), ApiError> {
        let members = [
            ("statementId", &request.statement_id),
            ("action", &request.action),
            ("principal", &request.principal),
        ];
        let missing = members.iter().filter(|(_, value)| value.is_none());
        let missing: Vec<Violation> = missing.map(|(member, _)| Violation::missing(*member)).collect();
        if !missing.is_empty() {
            return Err(ApiError::validations(&missing));
        }
        let (id, action) = (text(&request.statement_id), text(&request.action));
        let mut violations = Violations::default();
        violations.length(id, "statementId", 100);
        let fits =
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        violations.pattern(fits, &id.escape_debug().to_string(), "statementId", "([a-zA-Z0-9-_]+)");
        let fits = action == "lambda:GetLayerVersion";
        violations.pattern(fits, &action.escape_debug().to_string(), "action", "lambda:GetLayerVersion");
        let principal = text(&request.principal);
        let fits = principal == "*" || model::name::is_account(principal) || principal.starts_with("arn:aws");
        let pattern = r"\d{12}|\*|arn:(aws[a-zA-Z-]*):iam::\d{12}:root";
        violations.pattern(fits, &principal.escape_debug().to_string(), "principal", pattern);
        if let Some(organisation) = &request.organization_id {
            let fits = is_organisation(organisation);
            violations.pattern(fits, &shown(organisation), "organizationId", ORGANISATION_PATTERN);
        }
        violations.finish()?;
        let found = self.layer_with_policy(name, version)?;
        let principal = match principal {
            "*" => json!("*"),
            account if model::name::is_account(account) => {
                json!({"AWS": super::policy::account_root(&found.layer.arn, account)})
            }
            other => json!({"AWS": other}),
        };
        let mut document = json!({"Sid": id, "Effect": "Allow", "Principal": principal, "Action": action, "Resource": found.layer.arn});
        if let Some(organisation) = &request.organization_id {
            document["Condition"] = json!({"StringEquals": {"aws:PrincipalOrgID": organisation}});
        }
        let statement = PolicyStatement { id: id.to_owned(), document: document.clone() };
        let revision_id = self.change_policy(name, version, revision, |policy| {
            if policy.iter().any(|other| other.id == statement.id) {
                return Err(ApiError::new(
                    ErrorCode::ResourceConflict,
                    format!("The statement id ({}) provided already exists. Please provide a new statement id, or remove the existing statement.", statement.id),
                ));
            }
            policy.push(statement);
            let bytes: usize = policy.iter().map(|other| other.document.to_string().len()).sum();
            if bytes > super::POLICY_MAX {
                let message = format!("The final policy size ({bytes}) is bigger than the limit ({}).", super::POLICY_MAX);
                return Err(ApiError::new(ErrorCode::PolicyLengthExceeded, message));
            }
            Ok(())
        })?;
        Ok((document, revision_id))
    }

    /// Takes a statement away from a layer version's policy.
    ///
    /// # Errors
    /// There is no such version or statement.
    pub fn remove_layer_permission(
        &self,
        name: &str,
        version: &str,
        id: &str,
        revision: Option<&str>,
    ) -> Result<(), ApiError> {
        self.change_policy(name, version, revision, |policy| {
            let before = policy.len();
            policy.retain(|statement| statement.id != id);
            if policy.len() == before {
                let message = format!("Statement {} is not found in resource policy.", id.escape_debug());
                return Err(ApiError::new(ErrorCode::ResourceNotFound, message));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The layers that a request names for a function; `None` when it says nothing of them.
    ///
    /// # Errors
    /// There are too many, or one does not exist.
    pub(super) fn layers_of(&self, arns: Option<&[String]>) -> Result<Option<Vec<Layer>>, ApiError> {
        let Some(arns) = arns else { return Ok(None) };
        if arns.len() > LAYERS_MAX {
            return Err(ApiError::invalid(format!("Cannot reference more than {LAYERS_MAX} layers.")));
        }
        let here = &self.options.region;
        let find = |arn: &String| {
            let region = region_of(arn).ok_or_else(|| no_version(arn))?;
            if region.is_some_and(|region| region != here) {
                return Err(ApiError::invalid(format!(
                    "Layers are not in the same region as the function. Layers are expected to be in region {here}."
                )));
            }
            match self.layer_by_arn(arn) {
                Ok(found) => Ok(found.layer),
                Err(error) if error.code == ErrorCode::ResourceNotFound => {
                    Err(ApiError::invalid(format!("Layer version {arn} does not exist.")))
                }
                Err(_) => Err(no_version(arn)),
            }
        };
        let layers = arns.iter().map(find).collect::<Result<_, _>>()?;
        check_distinct(arns.iter().map(String::as_str))?;
        Ok(Some(layers))
    }

    fn change_policy(
        &self,
        name: &str,
        version: &str,
        revision: Option<&str>,
        edit: impl FnOnce(&mut Vec<PolicyStatement>) -> Result<(), ApiError>,
    ) -> Result<String, ApiError> {
        self.layer_with_policy(name, version)?;
        let (name, number) = (self.layer_name(name)?, layer_number(version)?);
        let fresh = self.fresh_id()?;
        self.change_layer(&name, |layer| {
            let found = layer.versions.get_mut(&number);
            let found = found.ok_or_else(|| self.no_policy_of(&name, version))?;
            if revision.is_some_and(|asked| asked != found.revision_id) {
                return Err(ApiError::new(
                    ErrorCode::PreconditionFailed,
                    "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id",
                ));
            }
            edit(&mut found.policy)?;
            found.revision_id.clone_from(&fresh);
            Ok(fresh)
        })
    }

    /// Runs one change of a layer: on the newest state, durable, then shown.
    pub(super) fn change_layer<T>(
        &self,
        name: &str,
        edit: impl FnOnce(&mut LayerVersions) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.layers();
        let mut after = Layers::clone(&before);
        let mut layer = after.get(name).map_or_else(
            || LayerVersions { name: name.to_owned(), ..LayerVersions::default() },
            |layer| LayerVersions::clone(layer),
        );
        if !after.contains_key(name) && after.len() >= LAYER_NAMES_MAX {
            let message = format!("An account has at most {LAYER_NAMES_MAX} layers.");
            return Err(ApiError::new(ErrorCode::CodeStorageExceeded, message));
        }
        let packages_of = |layer: &LayerVersions| -> Vec<String> {
            layer
                .versions
                .values()
                .filter_map(|version| package(&version.layer.location))
                .map(str::to_owned)
                .collect()
        };
        let old = packages_of(&layer);
        let result = edit(&mut layer)?;
        let new = packages_of(&layer);
        // A layer without versions stays, so that its numbers are not used again.
        let row = super::record::put_layer(&layer);
        after.insert(name.to_owned(), Arc::new(layer));
        let batch: [Write; 1] = [row];
        self.store.commit(&batch).map_err(|error| store_error(&error))?;
        let [new, old] = [&new, &old].map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
        let gone = self.packages.refer(&new, &old);
        *self.layers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        drop(writer);
        drop(before);
        self.packages.collect(&gone);
        Ok(result)
    }

    /// The bare name of a layer, from it or from its ARN.
    ///
    /// # Errors
    /// It fits none, or is of another account or Region.
    pub fn layer_name(&self, text: &str) -> Result<String, ApiError> {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let shown: String = text.chars().take(256).collect();
        if text.len() > LAYER_NAME_MAX {
            let constraint = format!("Member must have length less than or equal to {LAYER_NAME_MAX}");
            return Err(ApiError::validation(&shown, "layerName", &constraint));
        }
        let bare = match text.strip_prefix(&self.layer_arn("")) {
            Some(name) => name,
            None if text.starts_with("arn:") && text.contains(":layer:") => return Err(no_layer()),
            None => text,
        };
        if is_name(bare) {
            return Ok(bare.to_owned());
        }
        let pattern = r"Member must satisfy regular expression pattern: (arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:layer:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+";
        Err(ApiError::validation(&shown.escape_debug().to_string(), "layerName", pattern))
    }
}

/// Checks that no layer comes twice.
///
/// # Errors
/// The text is recorded on AWS; it is the same for one version twice.
pub(super) fn check_distinct<'a>(arns: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
    let mut seen = BTreeMap::new();
    for arn in arns {
        let layer = arn.rsplit_once(':').map_or(arn, |(layer, _)| layer);
        if let Some(before) = seen.insert(layer, arn) {
            return Err(ApiError::invalid(format!(
                "Two different versions of the same layer are not allowed to be referenced in the same function. {before} and {arn} are versions of the same layer."
            )));
        }
    }
    Ok(())
}

/// Checks that code and layers are not too large together; without layers code was measured as it came. Cost: that of
/// [`Packages::unzipped`] for each of them.
///
/// # Errors
/// Source of both texts: answers of AWS, widely seen (the first one: bento-video/bento#1, read 2026-11).
pub(super) fn check_sizes(
    packages: &Packages,
    (location, code): (&Location, &Path),
    layers: &[Layer],
) -> Result<(), ApiError> {
    // What cannot be read is told where it is used.
    let bytes = |location: &Location, path: &Path| match packages.unzipped(location, path) {
        Ok(bytes) => Ok(bytes),
        Err(error @ PackageError::UnzippedTooLarge) => Err(api_error(&error)),
        Err(_) => Ok(0),
    };
    let of_layers = layers.iter().map(|layer| bytes(&layer.location, &layer.path)).sum::<Result<u64, _>>()?;
    if of_layers > UNZIPPED_MAX {
        let message = format!("Layers consume more than the available size of {UNZIPPED_MAX} bytes");
        return Err(ApiError::invalid(message));
    }
    let all = if layers.is_empty() { 0 } else { of_layers + bytes(location, code)? };
    if all > UNZIPPED_MAX {
        return Err(ApiError::invalid(format!(
            "Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_MAX} bytes. The actual size is {all} bytes."
        )));
    }
    Ok(())
}

/// The Region of a layer version's ARN, none for a layer of AWS's own (`arn:aws:lambda:::awslayer:NAME`); `None` where it is
/// no such ARN.
fn region_of(arn: &str) -> Option<Option<&str>> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts.as_slice() {
        ["arn", _, "lambda", region, _, "layer", _, _] => Some(Some(region)),
        ["arn", partition, "lambda", "", "", "awslayer", name] => {
            let is_word = |text: &str, more: &[u8]| {
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
            };
            (is_word(partition, b"-") && is_word(name, b"-_") && arn.len() <= VERSION_ARN_MAX).then_some(None)
        }
        _ => None,
    }
}

/// What a function's layer is that is no layer version's ARN. Source: recorded on AWS.
fn no_version(arn: &str) -> ApiError {
    let pattern = r"Member must satisfy constraint: [Member must have length less than or equal to 140, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: (arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+), Member must not be null]";
    ApiError::validation(&format!("[{}]", shown(arn)), "layers", pattern)
}

fn text(member: &Option<String>) -> &str {
    member.as_deref().unwrap_or_default()
}

fn layer_number(text: &str) -> Result<u64, ApiError> {
    crate::published::number(text).ok_or_else(|| ApiError::invalid("Layer Version Cannot be less than 1"))
}

fn no_layer() -> ApiError {
    ApiError::new(ErrorCode::ResourceNotFound, "The resource you requested does not exist.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn code_and_layers_are_measured_together() {
        let home = tempfile::tempdir().unwrap();
        let folder = |name: &str, bytes: u64| {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            File::create(path.join("file")).unwrap().set_len(bytes).unwrap();
            path
        };
        let layer = |path: &Path| Layer {
            arn: String::new(),
            path: path.to_owned(),
            location: Location::Folder(path.to_owned()),
            sha256: String::new(),
            code_size: 0,
            lease: None,
        };
        let packages = Packages::open(&home.path().join("data")).unwrap();
        let half = UNZIPPED_MAX / 2;
        let (a, b, one) = (folder("a", half), folder("b", half), folder("one", 1));
        let said = |code: &Path, layers: &[&Path]| {
            let layers: Vec<_> = layers.iter().map(|path| layer(path)).collect();
            let location = Location::Folder(code.to_owned());
            check_sizes(&packages, (&location, code), &layers).map_err(|error| error.message)
        };
        assert_eq!(said(&a, &[]), Ok(()));
        assert_eq!(said(&a, &[&b]), Ok(()), "just as many as may be");
        assert_eq!(said(&home.path().join("gone"), &[&a, &b]), Ok(()));
        let combined = "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes.";
        assert_eq!(said(&a, &[&b, &one]), Err(combined.to_owned()));
        let layers = "Layers consume more than the available size of 262144000 bytes";
        assert_eq!(said(&one, &[&a, &b, &one]), Err(layers.to_owned()));
    }
}
