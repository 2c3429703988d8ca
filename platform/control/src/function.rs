//! A function as it is deployed: its settings, its code, its reservation and its URL.

use crate::image::{Image, ImageConfig, Pull};
use crate::package::{CodeLease, Location};
use crate::published::Published;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// MemorySize when none is given, in MB. Source: Lambda API reference, CreateFunction, published.
pub const DEFAULT_MEMORY_MB: u32 = 128;
/// Timeout when none is given. Source as above.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
/// EphemeralStorage when none is given, in MB. Source as above.
pub const DEFAULT_TMP_MB: u32 = 512;

/// One function at one version: `$LATEST`, or a published one. Immutable: every change makes a new value, so whoever holds one keeps the code
/// and settings that it was given, as an invocation in flight does on AWS.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// The bare name.
    pub name: String,
    /// The unqualified ARN.
    pub arn: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// A UUID, new with every change.
    pub revision_id: String,
    /// New with every change of code or configuration, never used twice, also not by another function or after a
    /// restart.
    pub version_key: u64,
    /// The runtime's id, `python3.13`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// What the runtime calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// MemorySize in MB of 1,024 KB: 128 to 10,240.
    pub memory_mb: u32,
    /// How long one invocation may take: 1 to 900 s.
    pub timeout: Duration,
    /// Size of `/tmp` in MB: 512 to 10,240.
    pub tmp_mb: u32,
    /// The user's variables; together at most 4 KB. May hold secrets: never logged.
    pub environment: BTreeMap<String, String>,
    /// Whether somebody said that there are no variables: then that is what is shown. Source: recorded on AWS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub empty_environment: bool,
    /// The folder that becomes `/var/task`.
    #[serde(skip)]
    pub code: PathBuf,
    /// Where the code lies, in a form that survives a move of the data folder.
    pub location: Location,
    /// Base64 SHA-256 of the zip; of a folder, of its listing.
    pub code_sha256: String,
    /// Bytes of the zip; of a folder, of its files.
    pub code_size: u64,
    /// Layers, lowest first: a later one hides files of an earlier one.
    pub layers: Vec<Layer>,
    /// The execution role's ARN; read, never assumed.
    pub role: String,
    /// For people.
    pub description: String,
    /// `x86_64` or `arm64`; exactly one.
    pub architectures: Vec<String>,
    /// The network that the function lives in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcConfig>,
    /// Reserved concurrency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u32>,
    /// Zip or image.
    pub package_type: PackageType,
    /// The container image that it runs, in place of code and runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// What takes the place of the image's own settings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_config: ImageConfig,
    /// `2025-11-24T23:08:11.000+0000`, UTC.
    pub last_modified: String,
    /// Whether it can be invoked.
    pub state: State,
    /// Why not, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<StateReason>,
    /// How the last change ended.
    pub last_update_status: LastUpdateStatus,
    /// Why it failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_reason: Option<StateReason>,
    /// The container image that is being fetched for it; what it has runs on meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// Where logs go and in which form.
    pub logging: Logging,
    /// Whether traces are sampled.
    pub tracing: TracingMode,
    /// Where failed asynchronous events go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_arn: Option<String>,
    /// The key that encrypts the environment on AWS; kept, not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_arn: Option<String>,
    /// SnapStart as asked for; kept, not used.
    pub snap_start: SnapStart,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The function URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<FunctionUrl>,
    /// Statements of the resource policy, in the order they were added.
    pub policy: Vec<PolicyStatement>,
    /// What becomes of asynchronous events, by qualifier: `$LATEST`, an alias or a version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub event_invoke: BTreeMap<String, EventInvokeConfig>,
    /// The name that the template gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logical_id: Option<String>,
    /// Versions, aliases, and what is set for them; empty in a published version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub published: Published,
    /// The version key of `$LATEST` when this version was published; 0 in `$LATEST`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source_key: u64,
    /// Keeps unpacked code on the disk as long as somebody may still run it.
    #[serde(skip)]
    pub lease: Option<Arc<CodeLease>>,
}

/// What a row need not say: whoever reads it, also an older Onrush, takes what is absent for this.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Function {
    /// A function with AWS's defaults that runs the code in `code`; the rest is for the caller to fill in.
    pub fn new(name: &str, code: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            arn: model::name::function_arn(model::era::DEFAULT_REGION, model::name::DEFAULT_ACCOUNT, name),
            version: model::name::LATEST.to_owned(),
            revision_id: String::new(),
            version_key: 0,
            runtime: None,
            handler: None,
            memory_mb: DEFAULT_MEMORY_MB,
            timeout: DEFAULT_TIMEOUT,
            tmp_mb: DEFAULT_TMP_MB,
            environment: BTreeMap::new(),
            empty_environment: false,
            location: Location::Folder(code.clone()),
            code,
            code_sha256: String::new(),
            code_size: 0,
            layers: Vec::new(),
            role: String::new(),
            description: String::new(),
            architectures: vec!["x86_64".to_owned()],
            vpc: None,
            reserved: None,
            package_type: PackageType::Zip,
            image: None,
            image_config: ImageConfig::default(),
            last_modified: String::new(),
            state: State::Active,
            state_reason: None,
            last_update_status: LastUpdateStatus::Successful,
            last_update_reason: None,
            pull: None,
            logging: Logging { group: model::name::default_log_group(name), ..Logging::default() },
            tracing: TracingMode::PassThrough,
            dead_letter_arn: None,
            kms_key_arn: None,
            snap_start: SnapStart::None,
            tags: BTreeMap::new(),
            url: None,
            policy: Vec::new(),
            event_invoke: BTreeMap::new(),
            logical_id: None,
            published: Published::default(),
            source_key: 0,
            lease: None,
        }
    }

    /// The last change is in force, and nothing more is on its way.
    pub(crate) fn settle(&mut self) {
        self.state = State::Active;
        self.state_reason = None;
        self.last_update_status = LastUpdateStatus::Successful;
        self.last_update_reason = None;
        self.pull = None;
    }

    /// The ARN with the version behind.
    pub fn qualified_arn(&self) -> String {
        model::name::qualified_arn(&self.arn, &self.version)
    }
}

impl fmt::Debug for Function {
    /// What tells functions and versions apart; never the values of the environment.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Function")
            .field("name", &self.name)
            .field("version_key", &self.version_key)
            .field("runtime", &self.runtime)
            .field("handler", &self.handler)
            .field("memory_mb", &self.memory_mb)
            .field("timeout", &self.timeout)
            .field("reserved", &self.reserved)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

/// One layer, ready to be merged into `/opt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The layer version's ARN.
    pub arn: String,
    /// The folder with its files.
    #[serde(skip)]
    pub path: PathBuf,
    /// Where that folder lies, in a form that survives a move of the data folder.
    pub location: Location,
    /// Base64 SHA-256 of the zip; of a folder, of its listing.
    pub sha256: String,
    /// Bytes of the zip; of a folder, of its files.
    pub code_size: u64,
    /// Keeps unpacked files on the disk as long as somebody may still need them.
    #[serde(skip)]
    pub lease: Option<Arc<CodeLease>>,
}

/// The network that a function lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcConfig {
    /// At most 16.
    pub subnet_ids: Vec<String>,
    /// At most 5.
    pub security_group_ids: Vec<String>,
    /// The VPC, when it is known.
    pub vpc_id: Option<String>,
    /// Outbound IPv6 in dual-stack subnets.
    pub ipv6_allowed_for_dual_stack: bool,
}

/// How code arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackageType {
    /// A zip archive, or a folder that is treated as its content.
    #[default]
    Zip,
    /// A container image.
    Image,
}

/// Whether a function can be invoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Being made.
    Pending,
    /// Can be invoked.
    #[default]
    Active,
    /// Its resources were taken back.
    Inactive,
    /// Cannot run.
    Failed,
}

/// Why a function is in its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReason {
    /// One of AWS's codes.
    pub code: String,
    /// For people.
    pub text: String,
}

/// How the last change ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastUpdateStatus {
    /// In force.
    #[default]
    Successful,
    /// The old code and configuration stay.
    Failed,
    /// The old code and configuration still answer.
    InProgress,
}

/// Where logs go and in which form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// Plain lines or JSON.
    pub format: LogFormat,
    /// Least level of the application's lines; only with JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_level: Option<String>,
    /// Least level of the platform's lines; only with JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_level: Option<String>,
    /// `/aws/lambda/NAME` unless told otherwise.
    pub group: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// Plain lines.
    #[default]
    Text,
    /// One JSON object a line.
    #[serde(rename = "JSON")]
    Json,
}

/// Whether traces are sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TracingMode {
    /// As the caller's header says.
    #[default]
    PassThrough,
    /// Sampled here.
    Active,
}

/// When SnapStart applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapStart {
    /// Never.
    #[default]
    None,
    /// To published versions.
    PublishedVersions,
}

/// A function's own web address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUrl {
    /// First label of the host name: 32 lower-case letters and digits, the same every time for one function.
    pub id: String,
    /// Who may call.
    pub auth_type: AuthType,
    /// Answers to browsers.
    pub cors: Option<Cors>,
    /// Whole or streamed answers.
    pub invoke_mode: InvokeMode,
    /// When it was made.
    pub created: String,
    /// When it was last changed.
    pub last_modified: String,
}

impl FunctionUrl {
    /// Keeps the times of the URL before, as far as nothing else differs.
    pub(crate) fn keep_times(&mut self, old: &FunctionUrl) {
        self.created.clone_from(&old.created);
        let modified = std::mem::replace(&mut self.last_modified, old.last_modified.clone());
        if self != old {
            self.last_modified = modified;
        }
    }
}

/// Who may call a function URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthType {
    /// Anybody.
    #[default]
    #[serde(rename = "NONE")]
    None,
    /// Signed requests.
    #[serde(rename = "AWS_IAM")]
    AwsIam,
}

/// How a function URL answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvokeMode {
    /// The whole answer at once, at most 6 MB.
    #[default]
    #[serde(rename = "BUFFERED")]
    Buffered,
    /// As it is written, at most 200 MB.
    #[serde(rename = "RESPONSE_STREAM")]
    ResponseStream,
}

/// Cross-origin settings of a function URL. Serialises as the API writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Cors {
    /// Whether cookies may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Headers a page may send; at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_headers: Option<Vec<String>>,
    /// Methods a page may use; at most 6, `*` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_methods: Option<Vec<String>>,
    /// Origins that may call; at most 100, `*` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_origins: Option<Vec<String>>,
    /// Headers a page may read; at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose_headers: Option<Vec<String>>,
    /// How long a browser may remember the answer, in seconds: 0 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
}

/// What becomes of the asynchronous events of a function, version or alias (FunctionEventInvokeConfig). What is absent
/// has Lambda's default. Source: Lambda API reference, PutFunctionEventInvokeConfig, published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInvokeConfig {
    /// How often a failed event is tried again: 0 to 2; 2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_retry_attempts: Option<u8>,
    /// How old an event may become, in seconds: 60 to 21,600; 21,600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_event_age: Option<u32>,
    /// ARN of the function, queue, topic or bus that hears of successes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// The same for failures; also a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// When it was last changed, in milliseconds since 1970.
    #[serde(default)]
    pub last_modified_ms: u64,
}

/// One statement of a function's resource policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyStatement {
    /// Its id, unique in the policy.
    pub id: String,
    /// The statement as GetPolicy writes it.
    pub document: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_a_function_shows_no_secret() {
        let mut function = Function::new("cart", PathBuf::from("/code"));
        function.environment.insert("TOKEN".to_owned(), "hunter2".to_owned());
        let text = format!("{function:?}");
        assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
    }
}
