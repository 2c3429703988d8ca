//! `Auth` of SAM's APIs and of their events: authorizers, and who has which.
//!
//! Source: AWS SAM specification, "HttpApiAuth", "ApiAuth", "LambdaAuthorizer", "LambdaTokenAuthorizer",
//! "LambdaRequestAuthorizer", "CognitoAuthorizer", "OAuth2Authorizer". SAM writes them into the API's OpenAPI body; here they
//! are resources with ids of the form `Api.Name`.

use super::make::{Properties, mapping, reference, text};
use super::{AUTHORIZER, DEFAULT_AUTHORIZER, Output};
use crate::intrinsic::Call;
use crate::resolve::{Resolver, Resource};
use crate::yaml::{Entry, Kind, Node, Span};

/// Whose authorizers they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP APIs.
    Http,
    /// REST APIs.
    Rest,
}

/// What an `Auth` is: of `Fn::If` the branch that is taken, as it is written, since resources have no names yet. What is no
/// mapping is reported, never taken for an `Auth` that says nothing.
pub(super) fn chosen(auth: &Node, resolver: &mut Resolver<'_>) -> Option<Node> {
    let mut auth = auth;
    while let Some(call) = Call::of(auth).filter(|call| call.name == "If") {
        let Some([condition, yes, no]) = call.items() else { break };
        let Some(holds) = condition.as_str().and_then(|name| resolver.scope.conditions.get(name)) else {
            break;
        };
        auth = if *holds { yes } else { no };
    }
    let auth = if Call::of(auth).is_some() { resolver.value(auth)? } else { auth.clone() };
    if auth.is_null() {
        return None;
    }
    auth.mapping(&mut resolver.problems)?;
    Some(auth)
}

/// What an event says of who may call it.
pub(super) fn of_event(auth: &Node, resolver: &mut Resolver<'_>) -> Option<(&'static str, Node)> {
    let authorizer = resolver.value(auth.get("Authorizer")?)?;
    if authorizer.is_null() {
        return None;
    }
    let is_kind = matches!(authorizer.as_str(), Some("NONE" | "AWS_IAM"));
    // What is no text goes on, too: that is reported where it is read, and does not leave the route open.
    Some((if is_kind { "AuthorizationType" } else { AUTHORIZER }, authorizer))
}

/// Whom an API asks where a route says nothing.
pub(super) fn default_of(auth: &Node) -> Option<(&'static str, Node)> {
    Some((DEFAULT_AUTHORIZER, auth.get("DefaultAuthorizer")?.clone()))
}

/// The authorizers of an API, and what lets it ask their functions.
pub(super) fn of_api(
    api: &str,
    auth: &Node,
    version: Version,
    condition: Option<&(String, Span)>,
    resolver: &mut Resolver<'_>,
    output: &mut Output,
) {
    let Some(all) = auth.get("Authorizers") else { return };
    let Some(all) = all.mapping(&mut resolver.problems) else { return };
    for entry in all.entries() {
        let Some(written) = entry.value.mapping(&mut resolver.problems) else { continue };
        let written =
            Properties::of(&Node { kind: Kind::Mapping(written.clone()), tag: None, span: entry.value.span });
        let fields = match version {
            Version::Http => http(api, entry, &written),
            Version::Rest => rest(api, entry, &written),
        };
        let kind = match version {
            Version::Http => "AWS::ApiGatewayV2::Authorizer",
            Version::Rest => "AWS::ApiGateway::Authorizer",
        };
        let id = format!("{api}.{}", entry.key);
        output.push(Resource::made(&id, kind, mapping(fields, entry.key_span), condition.cloned()));
        let asked = match version {
            Version::Http => {
                let asked = written.get("EnableFunctionDefaultPermissions");
                asked.and_then(|node| node.boolean(&mut resolver.problems)) == Some(true)
            }
            Version::Rest => written.get("FunctionInvokeRole").is_none(),
        };
        if let Some(function) = written.get("FunctionArn").filter(|_| asked) {
            let permission = permission(
                reference(api, entry.key_span),
                "/authorizers/*",
                function.clone(),
                entry.key_span,
            );
            let id = format!("{api}{}AuthorizerPermission", entry.key);
            output.push_new(Resource::made(&id, "AWS::Lambda::Permission", permission, condition.cloned()));
        }
    }
}

fn http(api: &str, entry: &Entry, written: &Properties) -> Vec<(&'static str, Node)> {
    let span = entry.key_span;
    let mut fields = vec![("ApiId", reference(api, span)), ("Name", text(&entry.key, span))];
    let Some(function) = written.get("FunctionArn") else {
        fields.push(("AuthorizerType", text("JWT", span)));
        return fields;
    };
    fields.push(("AuthorizerType", text("REQUEST", span)));
    fields.push(("AuthorizerUri", function.clone()));
    for (from, to) in [
        ("AuthorizerPayloadFormatVersion", "AuthorizerPayloadFormatVersion"),
        ("EnableSimpleResponses", "EnableSimpleResponses"),
        ("FunctionInvokeRole", "AuthorizerCredentialsArn"),
    ] {
        fields.extend(written.get(from).cloned().map(|node| (to, node)));
    }
    if let Some(identity) = written.get("Identity") {
        let starts = [
            ("Headers", "$request.header."),
            ("QueryStrings", "$request.querystring."),
            ("StageVariables", "$stageVariables."),
            ("Context", "$context."),
        ];
        fields.push(("IdentitySource", sources(identity, &starts)));
        fields.extend(ttl(identity));
    }
    fields
}

fn rest(api: &str, entry: &Entry, written: &Properties) -> Vec<(&'static str, Node)> {
    let span = entry.key_span;
    let mut fields = vec![("RestApiId", reference(api, span)), ("Name", text(&entry.key, span))];
    let Some(function) = written.get("FunctionArn") else {
        fields.push(("Type", text("COGNITO_USER_POOLS", span)));
        return fields;
    };
    let kind = written.get("FunctionPayloadType").and_then(Node::as_str).unwrap_or("TOKEN");
    fields.push(("Type", text(kind, span)));
    fields.push(("AuthorizerUri", function.clone()));
    fields.extend(written.get("FunctionInvokeRole").cloned().map(|node| ("AuthorizerCredentials", node)));
    let Some(identity) = written.get("Identity") else { return fields };
    if kind == "TOKEN" {
        let header = identity.get("Header").and_then(Node::as_str).unwrap_or("Authorization");
        fields.push(("IdentitySource", text(&format!("method.request.header.{header}"), identity.span)));
        let validation = identity.get("ValidationExpression").cloned();
        fields.extend(validation.map(|node| ("IdentityValidationExpression", node)));
    } else {
        let starts = [
            ("Headers", "method.request.header."),
            ("QueryStrings", "method.request.querystring."),
            ("StageVariables", "stageVariables."),
            ("Context", "context."),
        ];
        fields.push(("IdentitySource", sources(identity, &starts)));
    }
    fields.extend(ttl(identity));
    fields
}

fn ttl(identity: &Node) -> Option<(&'static str, Node)> {
    Some(("AuthorizerResultTtlInSeconds", identity.get("ReauthorizeEvery")?.clone()))
}

fn sources(identity: &Node, starts: &[(&str, &str)]) -> Node {
    let all = starts.iter().flat_map(|(key, start)| {
        let names = identity.get(key).and_then(Node::as_sequence).unwrap_or_default();
        names.iter().filter_map(move |node| Some(text(&format!("{start}{}", node.as_str()?), node.span)))
    });
    Node::list(all.collect(), identity.span)
}

/// The properties of the permission that SAM makes for a function that an API calls; `below`: of the API's resources which.
pub(super) fn permission(api: Node, below: &str, function: Node, span: Span) -> Node {
    let parts = vec![
        text("arn:", span),
        reference("AWS::Partition", span),
        text(":execute-api:", span),
        reference("AWS::Region", span),
        text(":", span),
        reference("AWS::AccountId", span),
        text(":", span),
        api,
        text(below, span),
    ];
    let joined = Node::list(vec![text("", span), Node::list(parts, span)], span);
    mapping(
        vec![
            ("Action", text("lambda:InvokeFunction", span)),
            ("Principal", text("apigateway.amazonaws.com", span)),
            ("FunctionName", function),
            ("SourceArn", mapping(vec![("Fn::Join", joined)], span)),
        ],
        span,
    )
}
