//! A function as the API shows it: the shape `FunctionConfiguration`.

use control::{Function, LogFormat, SnapStart, State};
use model::name::LATEST;
use ring::digest;
use serde_json::{Value, json};

/// A function or version that was just made. It can be invoked when this is read: the next look shows it Active.
///
/// Source: recorded on AWS, answers of CreateFunction and PublishVersion.
pub fn pending(function: &Function, qualified: bool) -> Value {
    let mut shape = of(function, qualified);
    if !qualified && function.version == LATEST && function.state == State::Active {
        shape["RevisionId"] = passing_revision();
    }
    shape["State"] = json!("Pending");
    shape["StateReason"] = json!("The function is being created.");
    shape["StateReasonCode"] = json!("Creating");
    if let Some(members) = shape.as_object_mut() {
        members.remove("LastUpdateStatus");
    }
    shape
}

/// A function that was just changed; the next look shows the change done.
///
/// Source: recorded on AWS, answers of UpdateFunctionConfiguration and UpdateFunctionCode.
pub fn updating(function: &Function) -> Value {
    let mut shape = of(function, false);
    match &function.pull {
        None => shape["RevisionId"] = passing_revision(),
        // What its image will be, where that has to be fetched.
        Some(pull) => pull.digest.iter().for_each(|digest| shape["CodeSha256"] = json!(digest)),
    }
    shape["LastUpdateStatus"] = json!("InProgress");
    shape["LastUpdateStatusReason"] = json!("The function is being created.");
    shape["LastUpdateStatusReasonCode"] = json!("Creating");
    shape
}

/// A revision that nobody finds again: AWS gives a function another one when its creation or update is done, and whoever locks with
/// the answer's is refused.
///
/// Source: recorded on AWS, a function's revisions from its creation on; a version's stays.
fn passing_revision() -> Value {
    json!(invoke::request_id().as_ref())
}

/// The configuration as lists show it: how a function fares and on what it runs, GetFunction alone tells.
///
/// Source: recorded on AWS, answers of ListFunctions and ListVersionsByFunction; Lambda API reference, ListFunctions, published.
pub fn listed(function: &Function, qualified: bool) -> Value {
    const LEFT_OUT: [&str; 7] = [
        "State",
        "StateReason",
        "StateReasonCode",
        "LastUpdateStatus",
        "LastUpdateStatusReason",
        "LastUpdateStatusReasonCode",
        "RuntimeVersionConfig",
    ];
    let mut shape = of(function, qualified);
    if let Some(members) = shape.as_object_mut() {
        members.retain(|member, _| !LEFT_OUT.contains(&member.as_str()));
    }
    shape
}

/// What runs a function, in the form of AWS's ARNs: of a runtime, at the version that INIT_START names. It is this host's,
/// whatever PutRuntimeManagementConfig asked for.
fn runtime_version_arn(function: &Function, runtime: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{runtime}.onrush").as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let parts: Vec<&str> = function.arn.split(':').collect();
    let (partition, region) = (parts.get(1).unwrap_or(&"aws"), parts.get(3).unwrap_or(&""));
    format!("arn:{partition}:lambda:{region}::runtime:{hex}")
}

/// The configuration as most operations answer it; `qualified` puts the version into the ARN.
pub fn of(function: &Function, qualified: bool) -> Value {
    let arn = if qualified { function.qualified_arn() } else { function.arn.clone() };
    let mut shape = json!({
        "FunctionName": function.name,
        "FunctionArn": arn,
        "Role": function.role,
        "CodeSize": function.code_size,
        "Description": function.description,
        "Timeout": function.timeout.as_secs(),
        "MemorySize": function.memory_mb,
        "LastModified": function.last_modified,
        "CodeSha256": function.code_sha256,
        "Version": function.version,
        "TracingConfig": {"Mode": function.tracing},
        "RevisionId": function.revision_id,
        "State": function.state,
        "PackageType": function.package_type,
        "Architectures": function.architectures,
        "EphemeralStorage": {"Size": function.tmp_mb},
        "SnapStart": {"ApplyOn": function.snap_start, "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": function.logging.format, "LogGroup": function.logging.group},
    });
    let mut add = |member: &str, value: Option<Value>| {
        if let Some(value) = value {
            shape[member] = value;
        }
    };
    // Recorded so: what has never been there has not been updated.
    let was_there = function.state != State::Pending;
    add("LastUpdateStatus", was_there.then(|| json!(function.last_update_status)));
    add("Runtime", function.runtime.as_ref().map(|runtime| json!(runtime)));
    let runtime = function.runtime.as_deref().map(|runtime| runtime_version_arn(function, runtime));
    add("RuntimeVersionConfig", runtime.map(|arn| json!({"RuntimeVersionArn": arn})));
    add("Handler", function.handler.as_ref().map(|handler| json!(handler)));
    let variables = &function.environment;
    let is_said = !variables.is_empty() || function.empty_environment;
    add("Environment", is_said.then(|| json!({"Variables": variables})));
    add("KMSKeyArn", function.kms_key_arn.as_ref().map(|arn| json!(arn)));
    add("DeadLetterConfig", function.dead_letter_arn.as_ref().map(|arn| json!({"TargetArn": arn})));
    add("StateReason", function.state_reason.as_ref().map(|reason| json!(reason.text)));
    add("StateReasonCode", function.state_reason.as_ref().map(|reason| json!(reason.code)));
    add("LastUpdateStatusReason", function.last_update_reason.as_ref().map(|reason| json!(reason.text)));
    add("LastUpdateStatusReasonCode", function.last_update_reason.as_ref().map(|reason| json!(reason.code)));
    let layer = |layer: &control::Layer| json!({"Arn": layer.arn, "CodeSize": layer.code_size});
    let layers: Vec<Value> = function.layers.iter().map(layer).collect();
    add("Layers", (!layers.is_empty()).then(|| json!(layers)));
    let vpc = function.vpc.as_ref().map(|vpc| {
        json!({
            "SubnetIds": vpc.subnet_ids,
            "SecurityGroupIds": vpc.security_group_ids,
            "VpcId": vpc.vpc_id.as_deref().unwrap_or_default(),
            "Ipv6AllowedForDualStack": vpc.ipv6_allowed_for_dual_stack,
        })
    });
    add("VpcConfig", vpc);
    if !function.image_config.is_empty() {
        shape["ImageConfigResponse"] = json!({"ImageConfig": function.image_config});
    }
    if function.logging.format == LogFormat::Json {
        shape["LoggingConfig"]["ApplicationLogLevel"] = json!(function.logging.application_level);
        shape["LoggingConfig"]["SystemLogLevel"] = json!(function.logging.system_level);
    }
    if function.snap_start == SnapStart::PublishedVersions && function.version != LATEST {
        shape["SnapStart"]["OptimizationStatus"] = json!("On");
    }
    shape
}
