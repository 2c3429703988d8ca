//! What callers ask for, as the API's JSON writes it; checked in [`crate::validate`].

use crate::control::AddPermission;
use crate::function::{AuthType, Cors, EventInvokeConfig, InvokeMode, Layer};
use crate::image::ImageConfig;
use base64::Engine;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// `CreateFunction`. Every member is optional here so that a missing one gets AWS's own answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateFunction {
    /// The new function's name.
    pub function_name: Option<String>,
    /// The code.
    pub code: Option<FunctionCode>,
    /// Zip or Image.
    pub package_type: Option<String>,
    /// `x86_64` or `arm64`.
    pub architectures: Option<Vec<String>>,
    /// Whether to publish version 1 at once.
    pub publish: Option<bool>,
    /// Tags.
    pub tags: Option<BTreeMap<String, String>>,
    /// All other settings.
    #[serde(flatten)]
    pub settings: Settings,
}

/// `UpdateFunctionConfiguration`; the name comes with the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateFunctionConfiguration {
    /// Only change this revision.
    pub revision_id: Option<String>,
    /// What changes; what is absent stays.
    #[serde(flatten)]
    pub settings: Settings,
}

/// `UpdateFunctionCode`; the name comes with the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateFunctionCode {
    /// Only change this revision.
    pub revision_id: Option<String>,
    /// Check, but change nothing.
    pub dry_run: Option<bool>,
    /// Whether to publish a version.
    pub publish: Option<bool>,
    /// Where, of functions with a capacity provider.
    pub publish_to: Option<serde_json::Value>,
    /// `x86_64` or `arm64`.
    pub architectures: Option<Vec<String>>,
    /// The code.
    #[serde(flatten)]
    pub code: FunctionCode,
}

/// Where the API's code comes from; exactly one way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionCode {
    /// The archive itself, base64 on the wire.
    pub zip_file: Option<Blob>,
    /// An archive in S3.
    pub s3_bucket: Option<String>,
    /// Its key.
    pub s3_key: Option<String>,
    /// Its version.
    pub s3_object_version: Option<String>,
    /// `COPY` or `REFERENCE`.
    pub s3_object_storage_mode: Option<String>,
    /// The key of the archive: checked, and nothing is encrypted with it.
    #[serde(rename = "SourceKMSKeyArn")]
    pub source_kms_key_arn: Option<String>,
    /// A container image.
    pub image_uri: Option<String>,
    /// Whether a session's key signed the request, as functions' own are: see [`Object::in_session`](crate::Object).
    #[serde(skip)]
    pub in_session: bool,
}

/// The settings that creating and updating share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    /// The runtime's id.
    pub runtime: Option<String>,
    /// The execution role's ARN.
    pub role: Option<String>,
    /// What the runtime calls.
    pub handler: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Seconds.
    pub timeout: Option<i64>,
    /// MB.
    pub memory_size: Option<i64>,
    /// `/tmp`.
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// The network.
    pub vpc_config: Option<VpcSettings>,
    /// Variables.
    pub environment: Option<Environment>,
    /// Layer versions, by ARN.
    pub layers: Option<Vec<String>>,
    /// Traces.
    pub tracing_config: Option<TracingSettings>,
    /// Where failed events go.
    pub dead_letter_config: Option<DeadLetterSettings>,
    /// The key of the environment.
    #[serde(rename = "KMSKeyArn")]
    pub kms_key_arn: Option<String>,
    /// Logs.
    pub logging_config: Option<LoggingSettings>,
    /// SnapStart.
    pub snap_start: Option<SnapStartSettings>,
    /// Shared file systems.
    pub file_system_configs: Option<serde_json::Value>,
    /// Overrides for images.
    pub image_config: Option<ImageConfig>,
    /// Code signing.
    pub code_signing_config_arn: Option<String>,
    /// One environment per tenant.
    pub tenancy_config: Option<serde_json::Value>,
    /// Managed instances.
    pub capacity_provider_config: Option<serde_json::Value>,
    /// Durable executions.
    pub durable_config: Option<serde_json::Value>,
    /// Accelerators.
    pub accelerator_config: Option<serde_json::Value>,
    /// A runtime of the customer's.
    pub runtime_config: Option<serde_json::Value>,
    /// Where a version is published, of functions with a capacity provider.
    pub publish_to: Option<serde_json::Value>,
}

/// Size of `/tmp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EphemeralStorage {
    /// MB.
    pub size: Option<i64>,
}

/// The network as asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VpcSettings {
    /// At most 16; none means no VPC.
    pub subnet_ids: Option<Vec<String>>,
    /// At most 5.
    pub security_group_ids: Option<Vec<String>>,
    /// Outbound IPv6.
    pub ipv6_allowed_for_dual_stack: Option<bool>,
}

/// Variables as asked for.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Environment {
    /// Name to value.
    pub variables: Option<BTreeMap<String, String>>,
}

impl fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.variables.iter().flat_map(BTreeMap::keys).collect();
        formatter.debug_struct("Environment").field("names", &names).finish()
    }
}

/// Traces as asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TracingSettings {
    /// PassThrough or Active.
    pub mode: Option<String>,
}

/// Where failed events go, as asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeadLetterSettings {
    /// A queue or topic; empty takes it away.
    pub target_arn: Option<String>,
}

/// Logs as asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoggingSettings {
    /// Text or JSON.
    pub log_format: Option<String>,
    /// Least level of the application's lines.
    pub application_log_level: Option<String>,
    /// Least level of the platform's lines.
    pub system_log_level: Option<String>,
    /// The group's name.
    pub log_group: Option<String>,
}

/// SnapStart as asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapStartSettings {
    /// PublishedVersions or None.
    pub apply_on: Option<String>,
}

/// A function URL as asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UrlSettings {
    /// The id to use; one is derived from the function's name if there is none. Never read from the wire.
    #[serde(skip)]
    pub id: Option<String>,
    /// Who may call; required when the URL is made.
    pub auth_type: Option<AuthType>,
    /// Answers to browsers.
    pub cors: Option<Cors>,
    /// Whole or streamed.
    pub invoke_mode: Option<InvokeMode>,
}

/// A template's function: created if it is new, updated if anything differs, left alone otherwise.
#[derive(Clone, Debug, Default)]
pub struct Deploy {
    /// The function's name.
    pub name: String,
    /// The name in the template.
    pub logical_id: Option<String>,
    /// Where the code is.
    pub code: DeployCode,
    /// `x86_64` or `arm64`; the first is the default.
    pub architecture: Option<String>,
    /// Settings; absent ones get AWS's default, also when an earlier deployment had set them. A role may be missing.
    /// Its `layers` are ignored: [`Deploy::layers`] says where they are.
    pub settings: Settings,
    /// Layers, lowest first, as [`crate::Control::deploy_layer`] or the API published them.
    pub layers: Vec<Layer>,
    /// Reserved concurrency.
    pub reserved: Option<u32>,
    /// The function URL.
    pub url: Option<UrlSettings>,
    /// What becomes of asynchronous events, by qualifier. A time of change is set here.
    pub event_invoke: BTreeMap<String, EventInvokeConfig>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Versions, aliases, permissions.
    pub around: Around,
}

/// What a template says around a function.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Versions to publish, in the template's order: aliases call them `1`, `2`, …
    pub versions: Vec<DeployVersion>,
    /// Aliases.
    pub aliases: Vec<DeployAlias>,
    /// Statements of the resource policies, each with its id, by version or alias; `None` is the function's own.
    pub permissions: Vec<(Option<String>, AddPermission)>,
    /// Function URLs of aliases.
    pub urls: BTreeMap<String, UrlSettings>,
}

/// A version that a template publishes.
#[derive(Clone, Debug, Default)]
pub struct DeployVersion {
    /// Its logical id: published once, whatever happens to the function afterwards.
    pub id: String,
    /// For people; the function's own if there is none.
    pub description: Option<String>,
    /// Whether it is published anew when the function changed (`AutoPublishAlias`).
    pub follows: bool,
    /// Environments kept ready.
    pub provisioned: Option<u32>,
}

/// An alias of a template.
#[derive(Clone, Debug, Default)]
pub struct DeployAlias {
    /// Its name.
    pub name: String,
    /// `$LATEST`, the place of a version in [`Around::versions`], from 1, or the number of one from before.
    pub version: String,
    /// For people.
    pub description: String,
    /// Another version and its share, 0 to 1.
    pub routing: Option<(String, f64)>,
    /// Environments kept ready.
    pub provisioned: Option<u32>,
}

/// Where the code of a template's function is.
#[derive(Clone, Debug)]
pub enum DeployCode {
    /// A folder, bound as it is and not copied, so that an edit is seen by the next environment.
    Folder(PathBuf),
    /// A folder, copied: no environment sees half of an edit.
    Copy(PathBuf),
    /// A zip archive on this machine; only its size limits as unpacked apply, as for code that comes from S3.
    ZipFile(PathBuf),
    /// A zip archive in memory; the limit of direct uploads applies.
    Zip(Vec<u8>),
    /// `ZipFile:` of CloudFormation: the source text of the one file `index`.
    Inline(String),
    /// A container image.
    Image {
        /// As the template has it.
        uri: String,
        /// Where it really is: the same, or a path of this machine.
        source: String,
    },
}

impl Default for DeployCode {
    fn default() -> Self {
        Self::Inline(String::new())
    }
}

/// A layer of a template.
#[derive(Clone, Debug, Default)]
pub struct DeployLayer {
    /// Its name.
    pub name: String,
    /// A folder or a zip archive.
    pub code: DeployCode,
    /// For people.
    pub description: String,
    /// Its licence.
    pub license_info: Option<String>,
    /// Runtimes that it suits.
    pub compatible_runtimes: Vec<String>,
    /// Architectures that it suits.
    pub compatible_architectures: Vec<String>,
}

/// Bytes that are base64 on the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Blob({} bytes)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;
        impl Visitor<'_> for Base64 {
            type Value = Blob;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("base64 text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Blob, E> {
                base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .map(Blob)
                    .map_err(|error| E::custom(format_args!("not base64: {error}")))
            }
        }
        deserializer.deserialize_str(Base64)
    }
}
