//! Functions and what belongs to them: code, URLs, aliases, layers, permissions, roles.

use super::{Cors, Link, Place};
use serde::Serialize;
use std::collections::BTreeMap;

/// Where a function's or layer's code is, as the template says; finding the files is the caller's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Code {
    /// A folder or zip file, relative to the template.
    Local {
        /// As written.
        path: String,
    },
    /// An object in a bucket: what `package` commands leave behind.
    S3 {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// Object version.
        version: Option<String>,
    },
    /// The source itself, to be stored as `index.EXTENSION`.
    Inline {
        /// The source.
        text: String,
    },
    /// A container image.
    Image {
        /// Its address, if the template has one.
        uri: Option<String>,
        /// How to build it, if the template says so.
        docker: Option<DockerBuild>,
    },
}

/// How SAM builds an image: the function's `Metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DockerBuild {
    /// `DockerContext`.
    pub context: Option<String>,
    /// `Dockerfile`.
    pub dockerfile: Option<String>,
    /// `DockerTag`.
    pub tag: Option<String>,
    /// `DockerBuildArgs`.
    pub build_args: BTreeMap<String, String>,
    /// `DockerBuildTarget`.
    pub target: Option<String>,
}

/// How code is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum PackageType {
    /// Files.
    #[default]
    Zip,
    /// A container image.
    Image,
}

/// The processor that the function asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Architecture {
    /// `x86_64`.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    /// `arm64`.
    #[serde(rename = "arm64")]
    Arm64,
}

/// Overrides of an image's own settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageConfig {
    /// `EntryPoint`.
    pub entry_point: Vec<String>,
    /// `Command`.
    pub command: Vec<String>,
    /// `WorkingDirectory`.
    pub working_directory: Option<String>,
}

/// The function's way into a VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VpcConfig {
    /// 1 to 16 subnets.
    pub subnets: Vec<Link>,
    /// 1 to 5 security groups.
    pub security_groups: Vec<Link>,
    /// `Ipv6AllowedForDualStack`.
    pub ipv6: bool,
}

/// What happens to asynchronous invocations.
///
/// Source: Lambda Developer Guide, "Asynchronous invocation": 60 to 21,600 s, 0 to 2 retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventInvokeConfig {
    /// `$LATEST` or an alias.
    pub qualifier: String,
    /// How old an event may become, seconds.
    pub maximum_event_age_s: u32,
    /// How often a failed event is tried again.
    pub maximum_retry_attempts: u32,
    /// ARN that hears of successes.
    pub on_success: Option<String>,
    /// ARN that hears of failures.
    pub on_failure: Option<String>,
}

/// A Lambda function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `FunctionName`, or a name made from the stack's and the logical id.
    pub name: String,
    /// Unqualified ARN.
    pub arn: String,
    /// `Description`.
    pub description: String,
    /// Where the code is.
    pub code: Code,
    /// Where the template says so.
    pub code_place: Place,
    /// `Metadata: aws:asset:path`, which `cdk synth` leaves: relative to the template.
    pub asset_path: Option<String>,
    /// `Metadata: BuildMethod` of SAM (`rust-cargolambda`, `makefile`, …).
    pub build_method: Option<String>,
    /// `Metadata: BuildProperties: Binary` of SAM: which of a Rust package's programs it is.
    pub build_binary: Option<String>,
    /// Zip or Image.
    pub package_type: PackageType,
    /// `python3.13`, `provided.al2023`, …; none for images.
    pub runtime: Option<String>,
    /// `Handler`; none for images.
    pub handler: Option<String>,
    /// Overrides of the image's settings.
    pub image_config: Option<ImageConfig>,
    /// `MemorySize`, 128 to 10,240 MB.
    pub memory_mb: u32,
    /// `Timeout`, 1 to 900 s.
    pub timeout_s: u32,
    /// Size of `/tmp`, 512 to 10,240 MB.
    pub ephemeral_storage_mb: u32,
    /// Environment variables; a value may hold [dynamic references](super::DynamicReference).
    pub environment: BTreeMap<String, String>,
    /// Processor.
    pub architecture: Architecture,
    /// At most five layer versions, bottom first.
    pub layers: Vec<Link>,
    /// Its way into a VPC.
    pub vpc: Option<VpcConfig>,
    /// ARN of its execution role.
    pub role: Option<String>,
    /// `ReservedConcurrentExecutions`.
    pub reserved_concurrency: Option<u32>,
    /// What happens to asynchronous invocations, per qualifier.
    pub event_invoke: Vec<EventInvokeConfig>,
    /// ARN of the dead-letter queue or topic.
    pub dead_letter_target: Option<String>,
    /// Whether X-Ray tracing is `Active`.
    pub tracing: bool,
    /// Whether published versions have SnapStart.
    pub snap_start: bool,
    /// `LoggingConfig.LogFormat` is `JSON`.
    pub json_logs: bool,
    /// `LoggingConfig.ApplicationLogLevel`.
    pub application_log_level: Option<String>,
    /// `LoggingConfig.SystemLogLevel`.
    pub system_log_level: Option<String>,
    /// `LoggingConfig.LogGroup`, or `/aws/lambda/NAME`.
    pub log_group: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A function, perhaps at a version or alias.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FunctionTarget {
    /// The function.
    pub function: Link,
    /// Version or alias.
    pub qualifier: Option<String>,
}

/// A published version that the template names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Version {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Of which function.
    pub function: Link,
    /// The number it gets on the first deployment: 1 for a function's first version in the template, then 2, …
    pub version: String,
    /// `Description`.
    pub description: Option<String>,
    /// Made by `AutoPublishAlias`: published anew whenever the function changed.
    pub follows: bool,
    /// Environments kept ready.
    pub provisioned_concurrency: Option<u32>,
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alias {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Of which function.
    pub function: Link,
    /// Its name.
    pub name: String,
    /// The version it points at, by the number that [`Version::version`] gives it, or `$LATEST`.
    pub version: String,
    /// `Description`.
    pub description: String,
    /// `RoutingConfig`: other versions and their shares, 0 to 1; AWS takes one.
    pub weights: BTreeMap<String, f64>,
    /// Environments kept ready.
    pub provisioned_concurrency: Option<u32>,
}

/// Who may call a function URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AuthType {
    /// Anyone.
    #[serde(rename = "NONE")]
    None,
    /// Signed requests.
    #[serde(rename = "AWS_IAM")]
    AwsIam,
}

/// Whether a response is sent whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum InvokeMode {
    /// When it is complete.
    #[default]
    #[serde(rename = "BUFFERED")]
    Buffered,
    /// As it comes.
    #[serde(rename = "RESPONSE_STREAM")]
    ResponseStream,
}

/// A function URL.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionUrl {
    /// Logical id; `{Function}Url` when it comes from `FunctionUrlConfig`.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// What it calls.
    pub target: FunctionTarget,
    /// First label of its host name, 32 letters and digits.
    pub url_id: String,
    /// Where it answers here.
    pub url: String,
    /// Who may call it.
    pub auth_type: AuthType,
    /// Buffered or streamed.
    pub invoke_mode: InvokeMode,
    /// Cross-origin rules.
    pub cors: Option<Cors>,
}

/// A layer version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `LayerName`.
    pub name: String,
    /// Versioned ARN.
    pub arn: String,
    /// Where its content is.
    pub code: Code,
    /// Where the template says so.
    pub code_place: Place,
    /// `Metadata: aws:asset:path`.
    pub asset_path: Option<String>,
    /// `Metadata: BuildMethod` of SAM.
    pub build_method: Option<String>,
    /// `CompatibleRuntimes`; empty means any.
    pub compatible_runtimes: Vec<String>,
    /// `CompatibleArchitectures`; empty means any.
    pub compatible_architectures: Vec<String>,
    /// `Description`.
    pub description: String,
    /// `LicenseInfo`.
    pub license_info: Option<String>,
}

/// One statement of a function's resource policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Permission {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `lambda:InvokeFunction` and the like.
    pub action: String,
    /// Service or account.
    pub principal: String,
    /// To call what.
    pub target: FunctionTarget,
    /// Only on behalf of this ARN.
    pub source_arn: Option<String>,
    /// Only on behalf of this account.
    pub source_account: Option<String>,
    /// Only through URLs of this kind: `NONE` or `AWS_IAM`.
    pub function_url_auth_type: Option<String>,
    /// Only through a function URL.
    pub invoked_via_function_url: Option<bool>,
    /// Only with this token.
    pub event_source_token: Option<String>,
    /// Only from this organisation.
    pub principal_org_id: Option<String>,
}

/// A role: read, not evaluated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Role {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// ARNs of managed policies.
    pub managed_policies: Vec<String>,
    /// `AssumeRolePolicyDocument`, as JSON.
    pub assume_role_policy: Option<String>,
    /// Inline policies by name, as JSON.
    pub policies: BTreeMap<String, String>,
}
