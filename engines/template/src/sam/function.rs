//! `AWS::Serverless::Function` and what comes with it: role, version, alias, URL, permissions, events.

use super::make::{Properties, attribute, mapping, reference, text};
use super::{FOLLOWS, Output, events};
use crate::problem::{Cause, Problem, Problems};
use crate::resolve::{Resolver, Resource};
use crate::suggest::did_you_mean;
use crate::yaml::{Kind, Node, Span};
use std::rc::Rc;

/// Properties of the serverless function (AWS SAM Developer Guide, "AWS::Serverless::Function"), to find slips.
const KNOWN: &[&str] = &[
    "Architectures",
    "AssumeRolePolicyDocument",
    "AutoPublishAlias",
    "AutoPublishAliasAllProperties",
    "AutoPublishCodeSha256",
    "CodeSigningConfigArn",
    "CodeUri",
    "DeadLetterQueue",
    "DeploymentPreference",
    "Description",
    "Environment",
    "EphemeralStorage",
    "EventInvokeConfig",
    "Events",
    "FileSystemConfigs",
    "FunctionName",
    "FunctionUrlConfig",
    "Handler",
    "ImageConfig",
    "ImageUri",
    "InlineCode",
    "KmsKeyArn",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "PackageType",
    "PermissionsBoundary",
    "Policies",
    "PropagateTags",
    "ProvisionedConcurrencyConfig",
    "RecursiveLoop",
    "ReservedConcurrentExecutions",
    "Role",
    "RolePath",
    "Runtime",
    "RuntimeManagementConfig",
    "SnapStart",
    "SourceKMSKeyArn",
    "Tags",
    "Timeout",
    "Tracing",
    "VersionDescription",
    "VpcConfig",
];

pub(super) fn transform(
    resource: Resource,
    resolver: &mut Resolver<'_>,
    output: &mut Output,
    warnings: &mut Problems,
) {
    let (id, span, condition) = (resource.id.clone(), resource.place, resource.condition.clone());
    let mut properties = Properties::of(&resource.properties);
    warn_of_slips(&resource, warnings);
    let made =
        |id: &str, kind: &str, properties: Node| Resource::made(id, kind, properties, condition.clone());

    if let Some(uri) = properties.take("CodeUri") {
        properties.default("Code", || uri);
    }
    if let Some(source) = properties.take("InlineCode") {
        properties.set("Code", mapping(vec![("ZipFile", source)], span));
    }
    if let Some(uri) = properties.take("ImageUri") {
        properties.set("Code", mapping(vec![("ImageUri", uri)], span));
        properties.default("PackageType", || text("Image", span));
    }
    if let Some(mode) = properties.take("Tracing") {
        properties.set("TracingConfig", mapping(vec![("Mode", mode)], span));
    }
    if let Some(queue) = properties.take("DeadLetterQueue")
        && let Some(target) = queue.get("TargetArn")
    {
        properties.set("DeadLetterConfig", mapping(vec![("TargetArn", target.clone())], queue.span));
    }
    let [policies, events_node, alias, provisioned, invoke, url, description] = [
        "Policies",
        "Events",
        "AutoPublishAlias",
        "ProvisionedConcurrencyConfig",
        "EventInvokeConfig",
        "FunctionUrlConfig",
        "VersionDescription",
    ]
    .map(|key| properties.take(key));
    for key in
        ["AutoPublishAliasAllProperties", "AutoPublishCodeSha256", "DeploymentPreference", "PropagateTags"]
    {
        properties.take(key);
    }
    let boundary = properties.take("PermissionsBoundary");
    let assume = properties.take("AssumeRolePolicyDocument");
    if properties.get("Role").is_none() {
        let role = format!("{id}Role");
        properties.set("Role", attribute(&role, "Arn", span));
        let in_vpc = properties.get("VpcConfig").is_some();
        let role_properties = role_properties(policies, boundary, assume, in_vpc, span);
        output.push_new(made(&role, "AWS::IAM::Role", role_properties));
    }

    // The qualifier that URLs, events and destinations are bound to.
    let alias = alias.and_then(|node| {
        let name = resolver.value(&node)?;
        Some(Alias { name: name.string(&mut resolver.problems)?.to_owned(), span: node.span })
    });
    if let Some(alias) = &alias {
        let version = format!("{id}Version");
        let mut fields = vec![("FunctionName", reference(&id, span)), (FOLLOWS, text("true", span))];
        fields.extend(description.map(|node| ("Description", node)));
        output.push_new(made(&version, "AWS::Lambda::Version", mapping(fields, alias.span)));
        let alias_id = alias.id(&id);
        let mut fields = vec![
            ("Name", text(&alias.name, alias.span)),
            ("FunctionName", reference(&id, span)),
            ("FunctionVersion", attribute(&version, "Version", span)),
        ];
        fields.extend(provisioned.clone().map(|node| ("ProvisionedConcurrencyConfig", node)));
        output.push_new(made(&alias_id, "AWS::Lambda::Alias", mapping(fields, alias.span)));
        output.dotted.push((format!("{id}.Version"), version));
        output.dotted.push((format!("{id}.Alias"), alias_id));
    } else if let Some(node) = provisioned {
        let cause =
            Cause::Missing { key: "AutoPublishAlias".into(), owner: "ProvisionedConcurrencyConfig".into() };
        resolver.problems.push(Problem::new(node.span, cause).help("AutoPublishAlias: live"));
    }
    if let Some(node) = invoke {
        let mut fields = Properties::of(&node);
        fields.set("FunctionName", reference(&id, span));
        fields.set("Qualifier", text(alias.as_ref().map_or("$LATEST", |alias| &alias.name), span));
        if let Some(destinations) = fields.get("DestinationConfig").filter(|node| node.as_mapping().is_some())
        {
            let destinations = with_destinations(&id, &destinations.clone(), condition.as_ref(), output);
            fields.set("DestinationConfig", destinations);
        }
        let config = fields.into_node(node.span);
        output.push_new(made(&format!("{id}EventInvokeConfig"), "AWS::Lambda::EventInvokeConfig", config));
    }
    if let Some(node) = url {
        let mut fields = Properties::of(&node);
        if fields.get("AuthType").and_then(Node::as_str) == Some("NONE") {
            // Both, since October 2025 (Lambda Developer Guide, "Control access to Lambda function URLs").
            let conditions = [
                ("UrlPublicPermissions", "lambda:InvokeFunctionUrl", "FunctionUrlAuthType", "NONE"),
                ("URLInvokeAllowPublicAccess", "lambda:InvokeFunction", "InvokedViaFunctionUrl", "true"),
            ];
            for (suffix, action, condition, value) in conditions {
                let permission = mapping(
                    vec![
                        ("Action", text(action, span)),
                        ("Principal", text("*", span)),
                        ("FunctionName", events::target(&id, alias.as_ref(), span)),
                        (condition, text(value, span)),
                    ],
                    node.span,
                );
                output.push_new(made(&format!("{id}{suffix}"), "AWS::Lambda::Permission", permission));
            }
        }
        fields.set("TargetFunctionArn", reference(&id, node.span));
        if let Some(alias) = &alias {
            fields.set("Qualifier", text(&alias.name, node.span));
        }
        output.push_new(made(&format!("{id}Url"), "AWS::Lambda::Url", fields.into_node(node.span)));
    }
    if let Some(node) = events_node {
        events::transform(&id, &node, alias.as_ref(), condition.as_ref(), resolver, output, warnings);
    }
    let node = properties.into_node(resource.properties.span);
    output.push(Resource { kind: "AWS::Lambda::Function".into(), properties: Rc::new(node), ..resource });
}

/// An alias that `AutoPublishAlias` makes.
pub(super) struct Alias {
    pub(super) name: String,
    span: Span,
}

impl Alias {
    /// Its logical id, as SAM documents it.
    pub(super) fn id(&self, function: &str) -> String {
        let letters: String = self.name.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{function}Alias{letters}")
    }
}

/// `DestinationConfig`, with the queues and topics that SAM makes where a type is given and no destination.
fn with_destinations(
    function: &str,
    written: &Node,
    condition: Option<&(String, Span)>,
    output: &mut Output,
) -> Node {
    let mut fields = Properties::of(written);
    for when in ["OnSuccess", "OnFailure"] {
        let Some(one) = fields.get(when).filter(|one| one.get("Destination").is_none()) else { continue };
        let (span, kind) = (one.span, one.get("Type").and_then(Node::as_str));
        let (word, kind) = match kind {
            Some("SQS") => ("Queue", "AWS::SQS::Queue"),
            Some("SNS") => ("Topic", "AWS::SNS::Topic"),
            _ => continue,
        };
        let id = format!("{function}EventInvokeConfig{when}{word}");
        output.push_new(Resource::made(&id, kind, mapping(Vec::new(), span), condition.cloned()));
        let arn = if word == "Queue" { attribute(&id, "Arn", span) } else { reference(&id, span) };
        fields.set(when, mapping(vec![("Destination", arn)], span));
        output.dotted.push((format!("{function}.Destination{word}"), id));
    }
    fields.into_node(written.span)
}

/// What SAM gives the role of a function in a VPC.
const VPC_ACCESS: &str = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole";

fn role_properties(
    policies: Option<Node>,
    boundary: Option<Node>,
    assume: Option<Node>,
    in_vpc: bool,
    span: Span,
) -> Node {
    let policies = match policies {
        Some(Node { kind: Kind::Sequence(items), tag: None, .. }) => items,
        Some(node) => vec![node],
        None => Vec::new(),
    };
    let is_document = |node: &Node| node.get("Statement").is_some();
    let mut inline = Vec::new();
    let mut managed: Vec<Node> = Vec::new();
    for policy in policies {
        if is_document(&policy) {
            let name = format!("Policy{}", inline.len());
            let span = policy.span;
            inline.push(mapping(vec![("PolicyName", text(&name, span)), ("PolicyDocument", policy)], span));
        } else if policy.as_mapping().is_none() || crate::intrinsic::Call::of(&policy).is_some() {
            managed.push(policy);
        }
        // What is left are SAM's policy templates; roles are read, not evaluated, so they say nothing here.
    }
    let is_there = |node: &Node| node.as_str().is_some_and(|name| VPC_ACCESS.ends_with(name));
    if in_vpc && !managed.iter().any(is_there) {
        managed.push(text(VPC_ACCESS, span));
    }
    let mut fields =
        vec![("ManagedPolicyArns", Node::list(managed, span)), ("Policies", Node::list(inline, span))];
    fields.extend(boundary.map(|node| ("PermissionsBoundary", node)));
    fields.extend(assume.map(|node| ("AssumeRolePolicyDocument", node)));
    mapping(fields, span)
}

fn warn_of_slips(resource: &Resource, warnings: &mut Problems) {
    let Some(properties) = resource.properties.as_mapping() else { return };
    for entry in properties.entries().iter().filter(|entry| !KNOWN.contains(&&*entry.key)) {
        if let Some(help) = did_you_mean(&entry.key, KNOWN.iter().copied()) {
            let message = format!("a function has no property `{}`; it is not read", entry.key);
            warnings.push(Problem::at(entry.key_span, message).help(help));
        }
    }
}
