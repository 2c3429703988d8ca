//! Checks what callers ask for, with AWS's limits and in AWS's words.
//!
//! Source of figures and texts: the Lambda service model (published) and answers recorded on AWS; where the service
//! model is wider than what functions may have (memory to 32,768 MB, timeout to 5,400 s are for managed instances), the
//! function's own limit counts.

mod environment;
mod runtime;
pub mod snap_start;

pub use environment::{ENVIRONMENT_MAX, RESERVED_VARIABLES};
pub use runtime::{RUNTIMES, check_runtime, is_known};

use crate::function::{Cors, Function, LogFormat, PackageType, SnapStart, TracingMode, VpcConfig};
use crate::image::{IMAGE_LIST_MAX, WORKING_DIRECTORY_MAX};
use crate::request::{Settings, VpcSettings};
use model::error::{ApiError, ErrorCode, Violation};
use model::settings::is_role_arn;
use std::collections::BTreeMap;
use std::time::Duration;

/// MemorySize in MB.
pub const MEMORY_MB: (i64, i64) = (128, 10_240);
/// Timeout in seconds.
pub const TIMEOUT_S: (i64, i64) = (1, 900);
/// EphemeralStorage in MB.
pub const TMP_MB: (i64, i64) = (512, 10_240);
const HANDLER_MAX: usize = 128;
/// Characters of a description.
pub const DESCRIPTION_MAX: usize = 256;
const SUBNETS_MAX: usize = 16;
const SECURITY_GROUPS_MAX: usize = 5;
/// Layers of one function.
pub const LAYERS_MAX: usize = 5;
/// Tags of one resource. Source: Lambda Developer Guide, "Using tags", published.
pub const TAGS_MAX: usize = 50;
const TAG_KEY_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;
/// Architectures that an error repeats.
const ARCHITECTURES_SHOWN_MAX: usize = 8;
/// Tags that an error repeats.
const TAGS_SHOWN_MAX: usize = 8;
/// What keys and values of tags consist of.
const TAG_PATTERN: &str = r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$";
/// Keys that begin so, whatever the case, are AWS's own.
const TAG_RESERVED: &str = "aws:";
const CORS_LIST_MAX: usize = 100;
const CORS_METHODS_MAX: usize = 6;
const CORS_AGE_MAX_S: u32 = 86_400;
const CORS_HEADER_MAX: usize = 1_024;
const CORS_ORIGIN_MAX: usize = 253;
const ARN_MAX: usize = 10_000;
/// Characters of a refused value that an answer repeats.
const SHOWN_MAX: usize = 256;
const ROLE_PATTERN: &str = r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+";

/// Gathers everything that breaks the service model, so that one answer names all of it.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// A required member that is not there.
    pub fn missing(&mut self, member: &str) {
        self.0.push(Violation::missing(member));
    }

    /// A value that breaks a constraint.
    pub fn add(&mut self, value: impl Into<String>, member: &str, constraint: impl Into<String>) {
        self.0.push(Violation::of(value, member, constraint));
    }

    pub(crate) fn length(&mut self, value: &str, member: &str, max: usize) {
        if value.chars().count() > max {
            self.add(value, member, format!("Member must have length less than or equal to {max}"));
        }
    }

    pub(crate) fn range(&mut self, value: Option<i64>, member: &str, (min, max): (i64, i64)) {
        let Some(value) = value else { return };
        if value > max {
            self.add(
                value.to_string(),
                member,
                format!("Member must have value less than or equal to {max}"),
            );
        } else if value < min {
            self.add(
                value.to_string(),
                member,
                format!("Member must have value greater than or equal to {min}"),
            );
        }
    }

    pub(crate) fn pattern(&mut self, fits: bool, value: &str, member: &str, pattern: &str) {
        if !fits {
            self.add(value, member, format!("Member must satisfy regular expression pattern: {pattern}"));
        }
    }

    /// A member that must have at least one character, and at most `max`.
    pub(crate) fn some_length(&mut self, value: &str, member: &str, max: usize) {
        if value.is_empty() {
            self.add(value, member, "Member must have length greater than or equal to 1");
        }
        self.length(value, member, max);
    }

    /// An ARN of any service, or nothing: such a member is taken away with an empty text.
    pub(crate) fn any_arn(&mut self, value: Option<&str>, member: &str) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        let fits = is_any_arn(value) && value.len() <= ARN_MAX;
        self.pattern(fits, &shown(value), member, r"(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()");
    }

    pub(crate) fn one_of(&mut self, value: Option<&str>, member: &str, set: &[&str]) {
        if let Some(value) = value.filter(|value| !set.contains(value)) {
            self.add(value, member, format!("Member must satisfy enum value set: [{}]", set.join(", ")));
        }
    }

    /// The one error for all of it.
    ///
    /// # Errors
    /// If there is anything.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::validations(&self.0)) }
    }
}

/// Checks settings against the service model.
pub fn check_settings(settings: &Settings, violations: &mut Violations) {
    if let Some(role) = &settings.role {
        violations.pattern(is_role_arn(role), role, "role", ROLE_PATTERN);
    }
    if let Some(handler) = &settings.handler {
        violations.length(handler, "handler", HANDLER_MAX);
        // A NUL fits AWS's pattern, and no process can be given one.
        let fits = !handler.is_empty() && !handler.contains(|c: char| c.is_whitespace() || c == '\0');
        violations.pattern(fits, &shown(handler), "handler", r"[^\s]+");
    }
    if let Some(description) = &settings.description {
        violations.length(description, "description", DESCRIPTION_MAX);
    }
    let dead_letter = settings.dead_letter_config.as_ref().and_then(|config| config.target_arn.as_deref());
    violations.any_arn(dead_letter, "deadLetterConfig.targetArn");
    violations.any_arn(settings.kms_key_arn.as_deref(), "kMSKeyArn");
    violations.range(settings.timeout, "timeout", TIMEOUT_S);
    violations.range(settings.memory_size, "memorySize", MEMORY_MB);
    if let Some(storage) = &settings.ephemeral_storage {
        match storage.size {
            Some(size) => violations.range(Some(size), "ephemeralStorage.size", TMP_MB),
            None => violations.missing("ephemeralStorage.size"),
        }
    }
    if let Some(vpc) = &settings.vpc_config {
        check_vpc(vpc, violations);
    }
    if let Some(image) = &settings.image_config {
        for (list, member) in
            [(&image.entry_point, "imageConfig.entryPoint"), (&image.command, "imageConfig.command")]
        {
            if let Some(list) = list.as_ref().filter(|list| list.len() > IMAGE_LIST_MAX) {
                let constraint = format!("Member must have length less than or equal to {IMAGE_LIST_MAX}");
                violations.add(format!("[{} items]", list.len()), member, constraint);
            }
        }
        if let Some(folder) = &image.working_directory {
            violations.length(folder, "imageConfig.workingDirectory", WORKING_DIRECTORY_MAX);
        }
    }
    if let Some(tracing) = &settings.tracing_config {
        violations.one_of(tracing.mode.as_deref(), "tracingConfig.mode", &["Active", "PassThrough"]);
    }
    if let Some(snap_start) = &settings.snap_start {
        violations.one_of(
            snap_start.apply_on.as_deref(),
            "snapStart.applyOn",
            &["PublishedVersions", "None"],
        );
    }
    if let Some(logging) = &settings.logging_config {
        let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
        let application = logging.application_log_level.as_deref();
        violations.one_of(logging.log_format.as_deref(), "loggingConfig.logFormat", &["JSON", "Text"]);
        violations.one_of(application, "loggingConfig.applicationLogLevel", &levels);
        violations.one_of(
            logging.system_log_level.as_deref(),
            "loggingConfig.systemLogLevel",
            &["DEBUG", "INFO", "WARN"],
        );
        if let Some(group) = &logging.log_group {
            let fits = !group.is_empty()
                && group.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte));
            violations.length(group, "loggingConfig.logGroup", 512);
            violations.pattern(fits, group, "loggingConfig.logGroup", r"[\.\-_/#A-Za-z0-9]+");
        }
    }
    if let Some(variables) =
        settings.environment.as_ref().and_then(|environment| environment.variables.as_ref())
    {
        environment::check_names(variables, violations);
    }
}

/// Puts checked settings into a function; what is absent stays as it is.
///
/// # Errors
/// What the service model allows but Lambda refuses, and what Onrush does not run yet.
pub fn apply_settings(settings: Settings, function: &mut Function) -> Result<(), ApiError> {
    refuse_what_is_not_run(&settings)?;
    if let Some(runtime) = settings.runtime {
        check_runtime(&runtime)?;
        function.runtime = Some(runtime);
    }
    if let Some(image_config) = settings.image_config {
        if function.package_type == PackageType::Zip && !image_config.is_empty() {
            return Err(ApiError::invalid("ImageConfig cannot be set for functions with packageType Zip."));
        }
        function.image_config = image_config;
    }
    if let Some(environment) = settings.environment {
        let variables = environment.variables.unwrap_or_default();
        environment::check_values(&variables)?;
        function.empty_environment = variables.is_empty();
        function.environment = variables;
    }
    function.role = settings.role.unwrap_or_else(|| std::mem::take(&mut function.role));
    function.handler = settings.handler.or(function.handler.take());
    function.description = settings.description.unwrap_or_else(|| std::mem::take(&mut function.description));
    if let Some(seconds) = settings.timeout {
        function.timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    }
    if let Some(memory) = settings.memory_size {
        function.memory_mb = u32::try_from(memory).unwrap_or_default();
    }
    if let Some(size) = settings.ephemeral_storage.and_then(|storage| storage.size) {
        function.tmp_mb = u32::try_from(size).unwrap_or_default();
    }
    if let Some(vpc) = settings.vpc_config {
        function.vpc = vpc_of(vpc, function.vpc.take())?;
    }
    if let Some(mode) = settings.tracing_config.and_then(|tracing| tracing.mode) {
        function.tracing = if mode == "Active" { TracingMode::Active } else { TracingMode::PassThrough };
    }
    if let Some(dead_letter) = settings.dead_letter_config {
        let target = dead_letter.target_arn.filter(|arn| !arn.is_empty());
        if let Some(arn) = target.as_deref().filter(|arn| !takes_letters(arn)) {
            // Published: a standard queue or a standard topic; the words are ours.
            return Err(ApiError::invalid(format!(
                "The provided dead letter target {arn} is invalid: it must be a standard queue of SQS or a standard topic of SNS."
            )));
        }
        function.dead_letter_arn = target;
    }
    if let Some(key) = settings.kms_key_arn {
        function.kms_key_arn = Some(key).filter(|key| !key.is_empty());
    }
    if let Some(apply_on) = settings.snap_start.and_then(|snap_start| snap_start.apply_on) {
        function.snap_start =
            if apply_on == "PublishedVersions" { SnapStart::PublishedVersions } else { SnapStart::None };
    }
    if let Some(logging) = settings.logging_config {
        let format =
            logging.log_format.map(|format| if format == "JSON" { LogFormat::Json } else { LogFormat::Text });
        function.logging.format = format.unwrap_or(function.logging.format);
        function.logging.group =
            logging.log_group.unwrap_or_else(|| std::mem::take(&mut function.logging.group));
        let levels = (logging.application_log_level, logging.system_log_level);
        if function.logging.format == LogFormat::Text {
            if levels.0.is_some() || levels.1.is_some() {
                return Err(ApiError::invalid(
                    "Log level is not supported when LogFormat is set to Text. Remove log level from your request or change the LogFormat to JSON and try again.",
                ));
            }
            (function.logging.application_level, function.logging.system_level) = (None, None);
        } else {
            let info = || Some("INFO".to_owned());
            function.logging.application_level =
                levels.0.or(function.logging.application_level.take()).or_else(info);
            function.logging.system_level = levels.1.or(function.logging.system_level.take()).or_else(info);
        }
    }
    Ok(())
}

/// Checks what a package needs, a runtime and a handler, and that an image has neither, nor layers.
///
/// # Errors
/// AWS's own text if one is missing; ours if one is too many.
pub fn check_mandatory(function: &Function) -> Result<(), ApiError> {
    if function.package_type == PackageType::Image {
        let members = [
            ("Runtime", function.runtime.is_some()),
            ("Handler", function.handler.is_some()),
            ("Layers", !function.layers.is_empty()),
        ];
        return match members.iter().find(|(_, given)| *given) {
            Some((member, _)) => Err(ApiError::invalid(format!(
                "{member} cannot be set for functions with packageType Image: the image brings all of it."
            ))),
            None => Ok(()),
        };
    }
    if function.package_type == PackageType::Zip && (function.runtime.is_none() || function.handler.is_none())
    {
        return Err(ApiError::invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ));
    }
    Ok(())
}

/// Checks tags against the service model.
///
/// Source: an answer of TagResource on AWS (its text and the pattern of values), seen 2018; the pattern of keys is that of
/// the API reference, TagResource, published.
pub fn check_tags(tags: &BTreeMap<String, String>, violations: &mut Violations) {
    let fits = |text: &str, (least, most): (usize, usize)| {
        (least..=most).contains(&text.chars().count()) && text.chars().all(is_of_a_tag)
    };
    let sides = [("keys", (1, TAG_KEY_MAX)), ("value", (0, TAG_VALUE_MAX))];
    for (side, (least, most)) in sides {
        let is_bad =
            |(key, value): (&String, &String)| !fits(if side == "keys" { key } else { value }, (least, most));
        let bad: Vec<String> = tags
            .iter()
            .filter(|tag| is_bad(*tag))
            .take(TAGS_SHOWN_MAX)
            .map(|(key, value)| format!("{}={}", shown(key), shown(value)))
            .collect();
        if !bad.is_empty() {
            let constraint = format!(
                "Map {side} must satisfy constraint: [Member must have length less than or equal to {most}, Member must have length greater than or equal to {least}, Member must satisfy regular expression pattern: {TAG_PATTERN}]"
            );
            violations.add(format!("{{{}}}", bad.join(", ")), "tags", constraint);
        }
    }
}

/// Checks what Lambda says of tags beyond the service model: how many a resource has, and whose the prefix `aws:` is.
///
/// # Errors
/// The first text is recorded on AWS. The second is what CloudFormation and other services answer; Lambda's own is unconfirmed.
pub fn check_tag_rules(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        return Err(ApiError::invalid("Number of tags exceeds resource tag limit."));
    }
    let is_reserved = |key: &String| {
        key.get(..TAG_RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(TAG_RESERVED))
    };
    if tags.keys().any(is_reserved) {
        return Err(ApiError::invalid("aws: prefixed tag key names are not allowed for external use."));
    }
    Ok(())
}

/// Whether a character fits [`TAG_PATTERN`]: a letter, a number, a separator, or one of a few signs.
fn is_of_a_tag(character: char) -> bool {
    character.is_alphanumeric()
        || character.is_whitespace() && !character.is_control()
        || "_.:/=+-@".contains(character)
}

/// Checks the cross-origin settings of a function URL.
pub fn check_cors(cors: &Cors, violations: &mut Violations) {
    let lists = [
        (&cors.allow_headers, "cors.allowHeaders", CORS_LIST_MAX, CORS_HEADER_MAX),
        (&cors.allow_methods, "cors.allowMethods", CORS_METHODS_MAX, CORS_HEADER_MAX),
        (&cors.allow_origins, "cors.allowOrigins", CORS_LIST_MAX, CORS_ORIGIN_MAX),
        (&cors.expose_headers, "cors.exposeHeaders", CORS_LIST_MAX, CORS_HEADER_MAX),
    ];
    for (list, member, max, longest) in lists {
        let Some(list) = list else { continue };
        if list.len() > max {
            let shown = format!("[{}]", list.join(", "));
            violations.add(shown, member, format!("Member must have length less than or equal to {max}"));
        }
        if list.iter().any(|item| item.chars().count() > longest) {
            let constraint = format!(
                "Member must satisfy constraint: [Member must have length less than or equal to {longest}]"
            );
            violations.add(format!("[{} items]", list.len()), member, constraint);
        }
        if member == "cors.allowOrigins" && list.iter().any(String::is_empty) {
            let constraint =
                "Member must satisfy constraint: [Member must have length greater than or equal to 1]";
            violations.add(format!("[{}]", list.join(", ")), member, constraint);
        }
        for item in list.iter().filter(|item| item.contains(char::is_control)) {
            violations.add(
                item.escape_default().to_string(),
                member,
                "Member must not hold control characters",
            );
        }
    }
    let methods = cors.allow_methods.iter().flatten();
    for method in methods.filter(|method| {
        !matches!(method.as_str(), "*" | "GET" | "PUT" | "HEAD" | "POST" | "PATCH" | "DELETE")
    }) {
        violations.add(
            method,
            "cors.allowMethods",
            "Member must satisfy enum value set: [GET, PUT, HEAD, POST, PATCH, DELETE, *]",
        );
    }
    violations.range(cors.max_age.map(i64::from), "cors.maxAge", (0, i64::from(CORS_AGE_MAX_S)));
}

/// Checks the architectures of a request. Source: recorded on AWS, answers of CreateFunction.
pub fn check_architectures(architectures: Option<&[String]>, violations: &mut Violations) {
    let Some(architectures) = architectures else { return };
    let known = ["x86_64", "arm64"];
    let constraint = if architectures.is_empty() {
        "Member must have length greater than or equal to 1"
    } else if architectures.len() > 1 {
        "Member must have length less than or equal to 1"
    } else if !known.contains(&architectures[0].as_str()) {
        "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"
    } else {
        return;
    };
    let first = architectures.iter().take(ARCHITECTURES_SHOWN_MAX).map(|found| shown(found));
    violations.add(format!("[{}]", first.collect::<Vec<_>>().join(", ")), "architectures", constraint);
}

/// Whether a text is an ARN of some service: `arn:aws:sqs:…`.
pub fn is_any_arn(text: &str) -> bool {
    let mut parts = text.splitn(4, ':');
    let (scheme, partition, service, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    let is_partition = |text: &str| {
        text.is_empty()
            || text
                .strip_prefix("aws")
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
    };
    let is_service = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        !text.is_empty() && text.bytes().all(fits)
    };
    scheme == Some("arn")
        && partition.is_some_and(is_partition)
        && service.is_some_and(is_service)
        && rest.is_some()
}

/// Whether dead letters can go there. Source: Lambda Developer Guide, "Retaining records of asynchronous invocations",
/// published: queues of SQS and topics of SNS, first-in-first-out ones not.
fn takes_letters(arn: &str) -> bool {
    matches!(arn.split(':').nth(2), Some("sqs" | "sns")) && !is_fifo(arn)
}

/// Whether a queue or topic keeps its order: its name says so.
pub(crate) fn is_fifo(arn: &str) -> bool {
    matches!(arn.split(':').nth(2), Some("sqs" | "sns")) && arn.ends_with(".fifo")
}

/// The start of a value that is refused, printable.
pub(crate) fn shown(value: &str) -> String {
    value.chars().take(SHOWN_MAX).collect::<String>().escape_debug().to_string()
}

/// Checks the keys of tags that are to be taken away.
pub fn check_tag_keys(keys: &[String], violations: &mut Violations) {
    for key in keys {
        violations.some_length(key, "tagKeys", TAG_KEY_MAX);
    }
}

/// Checks the package type of a request.
pub fn check_package_type(package_type: Option<&str>, violations: &mut Violations) {
    violations.one_of(package_type, "packageType", &["Zip", "Image"]);
}

/// The error for what AWS has and Onrush does not run yet.
pub fn not_run(what: &str) -> ApiError {
    ApiError::new(ErrorCode::NotImplemented, format!("{what} is not run by Onrush yet."))
}

fn check_vpc(vpc: &VpcSettings, violations: &mut Violations) {
    let lists = [
        (&vpc.subnet_ids, "vpcConfig.subnetIds", "subnet-", "subnet-[0-9a-z]*", SUBNETS_MAX),
        (
            &vpc.security_group_ids,
            "vpcConfig.securityGroupIds",
            "sg-",
            "sg-[0-9a-zA-Z]*",
            SECURITY_GROUPS_MAX,
        ),
    ];
    for (list, member, prefix, pattern, max) in lists {
        let Some(list) = list else { continue };
        let fits = |id: &String| {
            let rest = id.strip_prefix(prefix);
            id.len() <= 1024
                && rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
                && (prefix == "sg-" || !id.bytes().any(|byte| byte.is_ascii_uppercase()))
        };
        let shown = || format!("[{}]", list.join(", "));
        if list.len() > max {
            violations.add(shown(), member, format!("Member must have length less than or equal to {max}"));
        }
        if !list.iter().all(fits) {
            violations.add(
                shown(),
                member,
                format!(
                    "Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: {pattern}]"
                ),
            );
        }
    }
}

/// The network after a change: an absent list stays, an empty one takes the function out of its VPC.
fn vpc_of(asked: VpcSettings, before: Option<VpcConfig>) -> Result<Option<VpcConfig>, ApiError> {
    let mut vpc = before.unwrap_or_default();
    vpc.subnet_ids = asked.subnet_ids.unwrap_or(vpc.subnet_ids);
    vpc.security_group_ids = asked.security_group_ids.unwrap_or(vpc.security_group_ids);
    vpc.ipv6_allowed_for_dual_stack =
        asked.ipv6_allowed_for_dual_stack.unwrap_or(vpc.ipv6_allowed_for_dual_stack);
    match (vpc.subnet_ids.is_empty(), vpc.security_group_ids.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(vpc)),
        _ => Err(ApiError::invalid("SubnetIds and SecurityIds must coexist or be both empty list.")),
    }
}

fn refuse_what_is_not_run(settings: &Settings) -> Result<(), ApiError> {
    let given = |value: &Option<serde_json::Value>| match value {
        None | Some(serde_json::Value::Null) => false,
        Some(serde_json::Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    };
    let members = [
        ("FileSystemConfigs", given(&settings.file_system_configs)),
        (
            "CodeSigningConfigArn",
            settings.code_signing_config_arn.as_ref().is_some_and(|arn| !arn.is_empty()),
        ),
        ("TenancyConfig", given(&settings.tenancy_config)),
        ("CapacityProviderConfig", given(&settings.capacity_provider_config)),
        ("DurableConfig", given(&settings.durable_config)),
        ("AcceleratorConfig", given(&settings.accelerator_config)),
        ("RuntimeConfig", given(&settings.runtime_config)),
        ("PublishTo", given(&settings.publish_to)),
    ];
    match members.iter().find(|(_, given)| *given) {
        Some((member, _)) => Err(not_run(&format!("The member {member}"))),
        None => Ok(()),
    }
}
