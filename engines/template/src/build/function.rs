//! `AWS::Lambda::Function`: settings within their limits, code, environment, the way into a VPC.

use super::{Builder, Fields, Item, bad_name, choice, place};
use crate::problem::{Problem, quoted};
use crate::suggest::did_you_mean;
use crate::yaml::{Kind, Node};
use model::settings::{RESERVED_VARIABLES, RUNTIMES, is_role_arn, is_runtime};
use model::stack::{Architecture, Code, DockerBuild, Function, ImageConfig, PackageType, VpcConfig};
use std::collections::BTreeMap;

/// Limits of a function's settings (Lambda API reference, "CreateFunction").
mod limits {
    pub(super) const MEMORY_MB: std::ops::RangeInclusive<u32> = 128..=10_240;
    pub(super) const TIMEOUT_S: std::ops::RangeInclusive<u32> = 1..=900;
    pub(super) const STORAGE_MB: std::ops::RangeInclusive<u32> = 512..=10_240;
    pub(super) const LAYERS: usize = 5;
    pub(super) const SUBNETS: usize = 16;
    pub(super) const SECURITY_GROUPS: usize = 5;
    pub(super) const NAME: usize = 64;
    pub(super) const HANDLER: usize = 128;
    pub(super) const DESCRIPTION: usize = 256;
    pub(super) const ENVIRONMENT_BYTES: usize = 4096;
    pub(super) const INLINE_BYTES: usize = 4 * 1024 * 1024;
}

/// Memory, timeout and storage of a function that does not say (Lambda API reference, "CreateFunction").
const DEFAULT_MEMORY_MB: u32 = 128;
const DEFAULT_TIMEOUT_S: u32 = 3;
const DEFAULT_STORAGE_MB: u32 = 512;

/// Properties of `AWS::Lambda::Function` that are read, to find slips among the others.
const KNOWN: &[&str] = &[
    "Architectures",
    "Code",
    "CodeSigningConfigArn",
    "DeadLetterConfig",
    "Description",
    "Environment",
    "EphemeralStorage",
    "FileSystemConfigs",
    "FunctionName",
    "Handler",
    "ImageConfig",
    "KmsKeyArn",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "PackageType",
    "RecursiveLoop",
    "ReservedConcurrentExecutions",
    "Role",
    "Runtime",
    "RuntimeManagementConfig",
    "SnapStart",
    "Tags",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
];

impl Builder<'_, '_> {
    pub(super) fn lambda_function(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        self.warn_of_slips(item);
        let identity = self.resolver.identity(item.index);
        let (name, arn) = (identity.name(), identity.arn());
        if let Some(node) = fields.get("FunctionName") {
            let fits = name.len() <= limits::NAME
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !fits {
                self.problems.push(bad_name(node, "the function name", "1 to 64 of a-z, A-Z, 0-9, - and _"));
            }
        }
        const PACKAGES: &[(&str, PackageType)] = &[("Zip", PackageType::Zip), ("Image", PackageType::Image)];
        let package = fields.get("PackageType").and_then(|node| choice(node, PACKAGES, &mut self.problems));
        let docker = item.metadata.filter(|metadata| {
            metadata.get("DockerContext").is_some() || metadata.get("Dockerfile").is_some()
        });
        let code_node = fields.get("Code");
        let code = match (code_node, docker) {
            (None, Some(metadata)) => Some(Code::Image { uri: None, docker: Some(docker_build(metadata)) }),
            (None, None) => {
                let problem = Problem::at(item.span, format!("{} has no code", item.id));
                self.problems.push(problem.help("give CodeUri (SAM) or Code"));
                None
            }
            (Some(node), _) => self.code(node, item),
        };
        let is_image = package == Some(PackageType::Image) || matches!(code, Some(Code::Image { .. }));
        let package_type = if is_image { PackageType::Image } else { PackageType::Zip };
        let (mut runtime, mut handler) = (None, None);
        for (key, value) in [("Runtime", &mut runtime), ("Handler", &mut handler)] {
            let node = if is_image { fields.get(key) } else { fields.require(key, &mut self.problems) };
            *value = node.and_then(|node| node.string(&mut self.problems).map(str::to_owned));
        }
        if let Some(node) = fields.get("Runtime").filter(|_| runtime.as_deref().is_some_and(is_no_runtime)) {
            let runtime = quoted(runtime.as_deref().unwrap_or_default());
            // The latest of those that are as near.
            let near = did_you_mean(node.as_str().unwrap_or_default(), RUNTIMES.iter().rev().copied());
            let problem = Problem::at(node.span, format!("{runtime} is no runtime of Lambda's"));
            self.problems
                .push(problem.help(near.unwrap_or_else(|| format!("one of {}", RUNTIMES.join(", ")))));
        }
        let role = fields.string("Role", &mut self.problems);
        if let Some(node) = fields.get("Role").filter(|_| role.as_deref().is_some_and(is_no_role)) {
            let problem = Problem::at(node.span, "this is not the ARN of a role");
            let help = "!GetAtt ROLE.Arn, or arn:aws:iam::123456789012:role/NAME";
            self.problems.push(problem.label(quoted(role.as_deref().unwrap_or_default())).help(help));
        }
        let unfit = |text: &String| text.len() > limits::HANDLER || text.contains(char::is_whitespace);
        if let Some(node) = fields.get("Handler").filter(|_| handler.as_ref().is_some_and(unfit)) {
            self.problems.push(bad_name(node, "the handler", "at most 128 characters, and no spaces"));
        }
        let description = fields.string("Description", &mut self.problems).unwrap_or_default();
        if description.chars().count() > limits::DESCRIPTION {
            let message = format!("the description is longer than {} characters", limits::DESCRIPTION);
            self.problems
                .push(Problem::at(fields.get("Description").map_or(item.span, |node| node.span), message));
        }
        let storage = fields.inner("EphemeralStorage", &mut self.problems);
        let storage =
            storage.and_then(|storage| storage.number("Size", "MB", limits::STORAGE_MB, &mut self.problems));
        let environment = fields.inner("Environment", &mut self.problems);
        let environment =
            environment.map(|it| it.string_map("Variables", &mut self.problems)).unwrap_or_default();
        self.check_environment(&environment, item);
        const ARCHITECTURES: &[(&str, Architecture)] =
            &[("x86_64", Architecture::X86_64), ("arm64", Architecture::Arm64)];
        let architecture = fields.items("Architectures", &mut self.problems).first().copied();
        let architecture = architecture.and_then(|node| choice(node, ARCHITECTURES, &mut self.problems));
        let layers = self.links_to(fields, "Layers", "AWS::Lambda::LayerVersion");
        self.check_count(layers.len(), limits::LAYERS, "layers", "Layers", item);
        let vpc = self.vpc_config(item);
        const TRACING: &[(&str, bool)] = &[("PassThrough", false), ("Active", true)];
        let tracing = fields.inner("TracingConfig", &mut self.problems);
        let tracing = tracing
            .and_then(|tracing| tracing.get("Mode"))
            .and_then(|node| choice(node, TRACING, &mut self.problems));
        const SNAP_START: &[(&str, bool)] = &[("None", false), ("PublishedVersions", true)];
        let snap_start = fields.inner("SnapStart", &mut self.problems);
        let snap_start = snap_start
            .and_then(|snap_start| snap_start.get("ApplyOn"))
            .and_then(|node| choice(node, SNAP_START, &mut self.problems));
        let logging = fields.inner("LoggingConfig", &mut self.problems);
        let log = |key: &str, builder: &mut Self| {
            logging.as_ref().and_then(|it| it.string(key, &mut builder.problems))
        };
        const FORMATS: &[(&str, bool)] = &[("JSON", true), ("Text", false)];
        const APPLICATION_LEVELS: &[&str] = &["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
        const SYSTEM_LEVELS: &[&str] = &["DEBUG", "INFO", "WARN"];
        let format = logging.as_ref().and_then(|it| it.get("LogFormat"));
        let json_logs = format.and_then(|node| choice(node, FORMATS, &mut self.problems)).unwrap_or_default();
        let level = |key: &str, levels: &[&'static str], builder: &mut Self| {
            let node = logging.as_ref().and_then(|it| it.get(key))?;
            node.one_of(levels, &mut builder.problems).map(str::to_owned)
        };
        let dead_letter = fields.inner("DeadLetterConfig", &mut self.problems);
        let image = fields.inner("ImageConfig", &mut self.problems);
        let memory = fields.number("MemorySize", "MB", limits::MEMORY_MB, &mut self.problems);
        let timeout = fields.number("Timeout", "seconds", limits::TIMEOUT_S, &mut self.problems);
        let reserved =
            fields.number("ReservedConcurrentExecutions", "", 0..=i32::MAX as u32, &mut self.problems);
        let Some(code) = code else { return };
        let function = Function {
            id: item.id.to_owned(),
            place: item.place(),
            arn,
            description,
            code,
            code_place: place(code_node.map_or(item.span, |node| node.span)),
            asset_path: metadata_text(item, "aws:asset:path"),
            build_method: build_method(item),
            build_binary: self.build_binary(item),
            package_type,
            runtime,
            handler,
            image_config: image.map(|image| ImageConfig {
                entry_point: image.strings("EntryPoint", &mut self.problems),
                command: image.strings("Command", &mut self.problems),
                working_directory: image.string("WorkingDirectory", &mut self.problems),
            }),
            memory_mb: memory.unwrap_or(DEFAULT_MEMORY_MB),
            timeout_s: timeout.unwrap_or(DEFAULT_TIMEOUT_S),
            ephemeral_storage_mb: storage.unwrap_or(DEFAULT_STORAGE_MB),
            environment,
            architecture: architecture.unwrap_or_default(),
            layers,
            vpc,
            role,
            reserved_concurrency: reserved,
            event_invoke: Vec::new(),
            dead_letter_target: dead_letter.and_then(|it| it.string("TargetArn", &mut self.problems)),
            tracing: tracing.unwrap_or(false),
            snap_start: snap_start.unwrap_or(false),
            json_logs,
            application_log_level: level("ApplicationLogLevel", APPLICATION_LEVELS, self),
            system_log_level: level("SystemLogLevel", SYSTEM_LEVELS, self),
            log_group: log("LogGroup", self).unwrap_or_else(|| format!("/aws/lambda/{name}")),
            tags: fields.string_map("Tags", &mut self.problems),
            name,
        };
        self.stack.functions.push(function);
    }

    /// What SAM's `BuildProperties` name. Source: AWS SAM Developer Guide, "Building Rust Lambda functions with Cargo Lambda",
    /// published.
    fn build_binary(&mut self, item: &Item<'_>) -> Option<String> {
        let properties = item.metadata?.get("BuildProperties")?;
        let cargo = build_method(item).is_some_and(|method| method == "rust-cargolambda");
        if let Some(flags) = properties.get("Flags").filter(|_| cargo) {
            let message =
                format!("{} is built without these flags: plain cargo is run, not cargo-lambda", item.id);
            let help = "features go into Cargo.toml's `default`; or run `sam build` and take .aws-sam/build/template.yaml";
            self.warnings.push(Problem::at(flags.span, message).help(help));
        }
        properties.get("Binary")?.as_str().map(str::to_owned)
    }

    fn warn_of_slips(&mut self, item: &Item<'_>) {
        let entries = item.fields.mapping().entries();
        for entry in entries.iter().filter(|entry| !KNOWN.contains(&&*entry.key)) {
            let near = did_you_mean(&entry.key, KNOWN.iter().copied());
            if let Some(help) = near {
                let message = format!("a function has no property `{}`; it is not read", entry.key);
                self.warnings.push(Problem::at(entry.key_span, message).help(help));
            }
        }
        let mounts = item.fields.get("FileSystemConfigs").and_then(Node::as_sequence).unwrap_or_default();
        for mount in mounts {
            let path = mount.get("LocalMountPath").and_then(Node::as_str).unwrap_or("its path");
            let message = format!("a file system is not run: {} finds nothing at {path}", item.id);
            self.warnings.push(Problem::at(mount.span, message));
        }
    }

    fn check_environment(&mut self, environment: &BTreeMap<String, String>, item: &Item<'_>) {
        let node = item.fields.get("Environment");
        let span = node.map_or(item.span, |node| node.span);
        let bytes: usize = environment.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > limits::ENVIRONMENT_BYTES {
            let message = format!(
                "the environment variables have {bytes} bytes, and {} is the most",
                limits::ENVIRONMENT_BYTES
            );
            self.problems.push(Problem::at(span, message));
        }
        let variables = node.and_then(|node| node.get("Variables")).and_then(Node::as_mapping);
        for entry in variables.map(crate::yaml::Mapping::entries).unwrap_or_default() {
            let mut letters = entry.key.bytes();
            let fits = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
                && letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && entry.key.len() >= 2;
            if RESERVED_VARIABLES.contains(&&*entry.key) {
                let message = format!("{} belongs to Lambda, which sets it itself", quoted(&entry.key));
                self.problems.push(Problem::at(entry.key_span, message).help("take another name"));
            } else if !fits {
                let message =
                    format!("{} is not a name that an environment variable may have", quoted(&entry.key));
                let problem = Problem::at(entry.key_span, message);
                self.problems
                    .push(problem.help("a letter, then letters, digits and _; at least two characters"));
            }
        }
    }

    fn vpc_config(&mut self, item: &Item<'_>) -> Option<VpcConfig> {
        let fields = item.fields.inner("VpcConfig", &mut self.problems)?;
        let subnets = self.links_to(&fields, "SubnetIds", "AWS::EC2::Subnet");
        let security_groups = self.links_to(&fields, "SecurityGroupIds", "AWS::EC2::SecurityGroup");
        self.check_count(subnets.len(), limits::SUBNETS, "subnets", "VpcConfig", item);
        self.check_count(
            security_groups.len(),
            limits::SECURITY_GROUPS,
            "security groups",
            "VpcConfig",
            item,
        );
        let given = |key: &str| {
            fields.get(key).is_some_and(|node| node.as_sequence().is_none_or(|items| !items.is_empty()))
        };
        if given("SubnetIds") != given("SecurityGroupIds") {
            let problem =
                Problem::at(fields.span, "a VPC configuration needs both subnets and security groups");
            self.problems.push(problem.help("give SubnetIds and SecurityGroupIds, or neither"));
        }
        let ipv6 = fields.boolean("Ipv6AllowedForDualStack", false, &mut self.problems);
        (!subnets.is_empty()).then_some(VpcConfig { subnets, security_groups, ipv6 })
    }

    fn check_count(&mut self, count: usize, max: usize, what: &str, key: &str, item: &Item<'_>) {
        if count > max {
            let span = item.fields.get(key).map_or(item.span, |node| node.span);
            self.problems.push(Problem::at(span, format!("{count} {what}, and {max} is the most")));
        }
    }

    /// Code as a path, an object, a text or an image.
    pub(super) fn code(&mut self, node: &Node, item: &Item<'_>) -> Option<Code> {
        let Kind::Mapping(mapping) = &node.kind else {
            let path = node.string(&mut self.problems)?;
            let object = path.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
            return Some(match object {
                Some((bucket, key)) => Code::S3 { bucket: bucket.into(), key: key.into(), version: None },
                None => Code::Local { path: path.to_owned() },
            });
        };
        let fields = Fields::new(mapping, format!("the code of {}", item.id), node.span);
        let problems = &mut self.problems;
        if let Some(text) = fields.string("ZipFile", problems) {
            if text.len() > limits::INLINE_BYTES {
                let message =
                    format!("the source has {} bytes, and {} is the most", text.len(), limits::INLINE_BYTES);
                problems.push(Problem::at(node.span, message));
            }
            return Some(Code::Inline { text });
        }
        if let Some(uri) = fields.string("ImageUri", problems) {
            let says_how = |metadata: &&Node| {
                ["DockerContext", "aws:asset:path"].iter().any(|key| metadata.get(key).is_some())
            };
            let docker = item.metadata.filter(says_how);
            return Some(Code::Image { uri: Some(uri), docker: docker.map(docker_build) });
        }
        let is_given = |key: &str| fields.get(key).is_some();
        let either = |one: &'static str, other: &'static str| if is_given(one) { one } else { other };
        let (bucket_key, key_key) = (either("S3Bucket", "Bucket"), either("S3Key", "Key"));
        let bucket = fields.string(bucket_key, problems);
        let key = fields.string(key_key, problems);
        let (Some(bucket), Some(key)) = (bucket, key) else {
            // What is given and cannot be read has its problem already.
            let is_told =
                is_given("ZipFile") || is_given("ImageUri") || is_given(bucket_key) && is_given(key_key);
            if !is_told {
                let message = format!("the code of {} cannot be found this way", item.id);
                let problem = Problem::at(node.span, message);
                problems.push(problem.help("give a path, or S3Bucket and S3Key, or ZipFile, or ImageUri"));
            }
            return None;
        };
        let version = fields.string(either("S3ObjectVersion", "Version"), problems);
        Some(Code::S3 { bucket, key, version })
    }
}

/// Whether a text cannot be what it should; a value of Parameter Store or Secrets Manager is known only later.
fn is_no_runtime(text: &str) -> bool {
    !is_runtime(text) && !is_dynamic(text)
}

/// See [`is_no_runtime`].
fn is_no_role(text: &str) -> bool {
    !is_role_arn(text) && !is_dynamic(text)
}

pub(super) fn is_dynamic(text: &str) -> bool {
    text.contains("{{resolve:")
}

pub(super) fn metadata_text(item: &Item<'_>, key: &str) -> Option<String> {
    item.metadata?.get(key)?.as_str().map(str::to_owned)
}

/// SAM's `BuildMethod`, unless `sam build` wrote the template: it leaves the method, names each resource in `SamResourceId`, and
/// has built them.
pub(super) fn build_method(item: &Item<'_>) -> Option<String> {
    let is_built = item.metadata.is_some_and(|metadata| metadata.get("SamResourceId").is_some());
    metadata_text(item, "BuildMethod").filter(|_| !is_built)
}

/// How an image is built: in SAM's words, or in those of `cdk synth`.
fn docker_build(metadata: &Node) -> DockerBuild {
    let node = |sam: &str, cdk: &str| metadata.get(sam).or_else(|| metadata.get(cdk));
    let text = |sam: &str, cdk: &str| node(sam, cdk).and_then(Node::as_str).map(str::to_owned);
    let arguments = node("DockerBuildArgs", "aws:asset:docker-build-args").and_then(Node::as_mapping);
    let arguments = arguments.map(crate::yaml::Mapping::entries).unwrap_or_default().iter();
    DockerBuild {
        context: text("DockerContext", "aws:asset:path"),
        dockerfile: text("Dockerfile", "aws:asset:dockerfile-path"),
        tag: text("DockerTag", ""),
        target: text("DockerBuildTarget", "aws:asset:docker-build-target"),
        build_args: arguments
            .filter_map(|entry| Some((entry.key.to_string(), entry.value.as_str()?.to_owned())))
            .collect(),
    }
}
