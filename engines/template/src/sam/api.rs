//! `AWS::Serverless::HttpApi` and `AWS::Serverless::Api`, with their stages, usage plans and keys.

use super::make::{Properties, mapping, reference, text, yes};
use super::{CORS, MERGE, Output, auth};
use crate::problem::{Problem, Problems};
use crate::resolve::{Resolver, Resource};
use crate::yaml::{Kind, Node, Span};
use std::rc::Rc;

pub(super) fn http(
    resource: Resource,
    resolver: &mut Resolver<'_>,
    output: &mut Output,
    warnings: &mut Problems,
) {
    let (id, span) = (resource.id.clone(), resource.place);
    let properties = Properties::of(&resource.properties);
    let name = stage_name(&properties, resolver).unwrap_or_else(|| "$default".into());
    let mut api = vec![
        ("Name", properties.get("Name").cloned().unwrap_or_else(|| reference("AWS::StackName", span))),
        ("ProtocolType", text("HTTP", span)),
    ];
    if let Some(cors) = properties.get("CorsConfiguration") {
        api.push(("CorsConfiguration", http_cors(cors)));
    }
    body(&properties, &mut api, warnings);
    if let Some(auth) = properties.get("Auth").and_then(|auth| auth::chosen(auth, resolver)) {
        let auth = &auth;
        auth::of_api(&id, auth, auth::Version::Http, resource.condition.as_ref(), resolver, output);
        api.extend(auth::default_of(auth));
    }
    let mut stage = vec![("ApiId", reference(&id, span)), ("StageName", text(&name, span))];
    for key in ["DefaultRouteSettings", "RouteSettings", "StageVariables"] {
        stage.extend(properties.get(key).cloned().map(|node| (key, node)));
    }
    let stage_id = if name == "$default" {
        format!("{id}ApiGatewayDefaultStage")
    } else {
        format!("{id}{}Stage", letters(&name))
    };
    let condition = resource.condition.clone();
    finish(resource, "AWS::ApiGatewayV2::Api", mapping(api, span), output);
    let stage = Resource::made(&stage_id, "AWS::ApiGatewayV2::Stage", mapping(stage, span), condition);
    push_stage(&id, stage, output);
}

pub(super) fn rest(
    resource: Resource,
    resolver: &mut Resolver<'_>,
    output: &mut Output,
    warnings: &mut Problems,
) {
    let (id, span) = (resource.id.clone(), resource.place);
    let properties = Properties::of(&resource.properties);
    let name = stage_name(&properties, resolver).unwrap_or_else(|| {
        let owner = "AWS::Serverless::Api".to_owned();
        let cause = crate::problem::Cause::Missing { key: "StageName".into(), owner };
        resolver.problems.push(Problem::new(span, cause).help("StageName: Prod"));
        "Prod".into()
    });
    let mut api =
        vec![("Name", properties.get("Name").cloned().unwrap_or_else(|| reference("AWS::StackName", span)))];
    if let Some(endpoint) = properties.get("EndpointConfiguration") {
        let kind = endpoint.get("Type").cloned().unwrap_or_else(|| endpoint.clone());
        api.push((
            "EndpointConfiguration",
            mapping(vec![("Types", Node::list(vec![kind], endpoint.span))], span),
        ));
    }
    for key in ["BinaryMediaTypes", "ApiKeySourceType", "Description"] {
        api.extend(properties.get(key).cloned().map(|node| (key, node)));
    }
    api.extend(properties.get("Cors").cloned().map(|node| (CORS, node)));
    api.extend(properties.get("MergeDefinitions").cloned().map(|node| (MERGE, node)));
    body(&properties, &mut api, warnings);
    let deployment = format!("{id}Deployment");
    let mut stage = vec![
        ("RestApiId", reference(&id, span)),
        ("DeploymentId", reference(&deployment, span)),
        ("StageName", text(&name, span)),
    ];
    for key in ["MethodSettings", "Variables", "CacheClusterEnabled", "CacheClusterSize"] {
        stage.extend(properties.get(key).cloned().map(|node| (key, node)));
    }
    let stage_id = format!("{id}{}Stage", letters(&name));
    if let Some(auth) = properties.get("Auth").and_then(|auth| auth::chosen(auth, resolver)) {
        let auth = &auth;
        if auth.get("ApiKeyRequired").and_then(|node| node.boolean(&mut resolver.problems)) == Some(true) {
            output.keyed.insert(id.clone(), auth.span);
        }
        auth::of_api(&id, auth, auth::Version::Rest, resource.condition.as_ref(), resolver, output);
        api.extend(auth::default_of(auth));
        usage_plan(&id, &stage_id, auth, resource.condition.as_ref(), output);
    }
    let condition = resource.condition.clone();
    let deployed = mapping(vec![("RestApiId", reference(&id, span))], span);
    finish(resource, "AWS::ApiGateway::RestApi", mapping(api, span), output);
    output.push_new(Resource::made(&deployment, "AWS::ApiGateway::Deployment", deployed, condition.clone()));
    output.dotted.push((format!("{id}.Deployment"), deployment));
    let stage = Resource::made(&stage_id, "AWS::ApiGateway::Stage", mapping(stage, span), condition);
    push_stage(&id, stage, output);
}

fn finish(resource: Resource, kind: &str, properties: Node, output: &mut Output) {
    output.push(Resource { kind: kind.into(), properties: Rc::new(properties), ..resource });
}

fn push_stage(api: &str, stage: Resource, output: &mut Output) {
    output.dotted.push((format!("{api}.Stage"), stage.id.clone()));
    output.push_new(stage);
}

fn stage_name(properties: &Properties, resolver: &mut Resolver<'_>) -> Option<String> {
    let node = properties.get("StageName")?.clone();
    let value = resolver.value(&node)?;
    value.string(&mut resolver.problems).map(str::to_owned)
}

/// What of a name may stand in a logical id.
pub(crate) fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn body(properties: &Properties, api: &mut Vec<(&str, Node)>, warnings: &mut Problems) {
    api.extend(properties.get("DefinitionBody").cloned().map(|body| ("Body", body)));
    if let Some(uri) = properties.get("DefinitionUri") {
        let message =
            "the API's definition is in another file, which is not read: it has no routes from there";
        warnings.push(Problem::at(uri.span, message).help("write it into DefinitionBody"));
    }
}

/// `true` and `'*'` allow every origin.
fn http_cors(node: &Node) -> Node {
    if matches!(node.kind, Kind::Mapping(_)) || node.tag.is_some() {
        return node.clone();
    }
    let origins = match node.as_str() {
        Some("true") | None => "*",
        Some("false") => return mapping(Vec::new(), node.span),
        Some(origin) => origin.trim_matches('\''),
    };
    mapping(vec![("AllowOrigins", Node::list(vec![text(origins, node.span)], node.span))], node.span)
}

/// SAM's `Auth: UsagePlan`: a plan, a key, and the two joined.
fn usage_plan(api: &str, stage: &str, auth: &Node, condition: Option<&(String, Span)>, output: &mut Output) {
    let Some(plan) = auth.get("UsagePlan") else { return };
    let span = plan.span;
    let owner = match plan.get("CreateUsagePlan").and_then(Node::as_str) {
        Some("PER_API") => api,
        Some("SHARED") => "Serverless",
        _ => return,
    };
    let api_stage = mapping(vec![("ApiId", reference(api, span)), ("Stage", reference(stage, span))], span);
    let (plan_id, key_id) = (format!("{owner}UsagePlan"), format!("{owner}ApiKey"));
    let is_shared = owner != api;
    if let Some(shared) = output.shared_plan.filter(|_| is_shared).and_then(|at| output.resources.get_mut(at))
    {
        let mut properties = Properties::of(&shared.properties);
        let mut stages =
            properties.take("ApiStages").and_then(|node| node.as_sequence().map(<[Node]>::to_vec));
        stages.get_or_insert_default().push(api_stage);
        properties.set("ApiStages", Node::list(stages.unwrap_or_default(), span));
        shared.properties = Rc::new(properties.into_node(span));
        return;
    }
    if is_shared && !output.names.contains_key(&plan_id) {
        output.shared_plan = Some(output.resources.len());
    }
    let mut fields = vec![("ApiStages", Node::list(vec![api_stage], span))];
    for (from, to) in [
        ("UsagePlanName", "UsagePlanName"),
        ("Quota", "Quota"),
        ("Throttle", "Throttle"),
        ("Description", "Description"),
    ] {
        fields.extend(plan.get(from).cloned().map(|node| (to, node)));
    }
    let key = mapping(vec![("Enabled", yes(span))], span);
    let joined = mapping(
        vec![
            ("KeyId", reference(&key_id, span)),
            ("KeyType", text("API_KEY", span)),
            ("UsagePlanId", reference(&plan_id, span)),
        ],
        span,
    );
    for (id, kind, properties) in [
        (plan_id.clone(), "AWS::ApiGateway::UsagePlan", mapping(fields, span)),
        (key_id, "AWS::ApiGateway::ApiKey", key),
        (format!("{plan_id}Key"), "AWS::ApiGateway::UsagePlanKey", joined),
    ] {
        output.push_new(Resource::made(&id, kind, properties, condition.cloned()));
    }
}
