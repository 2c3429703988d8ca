//! A function's `Events`: routes of HTTP and REST APIs. Other types are not run yet, and said so.

use super::api::letters;
use super::function::Alias;
use super::make::{Properties, attribute, mapping, reference, text, yes};
use super::{EVENT, HTTP_API, INTEGRATION, Output, PATH, REST_API, auth};
use crate::intrinsic::Call;
use crate::problem::{Problem, Problems, quoted};
use crate::resolve::{Resolver, Resource};
use crate::yaml::{Entry, Mapping, Node, Span};

/// What SAM makes of an event of a type that is not run.
struct NotRun {
    kind: &'static str,
    /// What `onrush generate-event` calls an event of it.
    words: Option<&'static str>,
    /// The type of the resource `FunctionEvent`, if there is one.
    made: Option<&'static str>,
    /// Who `FunctionEventPermission` lets call the function, if anybody.
    principal: Option<&'static str>,
}

const fn not_run(
    kind: &'static str,
    words: Option<&'static str>,
    made: Option<&'static str>,
    principal: Option<&'static str>,
) -> NotRun {
    NotRun { kind, words, made, principal }
}

const RULE: Option<&str> = Some("AWS::Events::Rule");
const MAPPING: Option<&str> = Some("AWS::Lambda::EventSourceMapping");
const EVENTS: Option<&str> = Some("events.amazonaws.com");

/// Event types of SAM that are known but not run. Source: AWS SAM Developer Guide, "Generated CloudFormation resources when
/// AWS::Serverless::Function is specified", published.
const NOT_RUN: &[NotRun] = &[
    not_run("AlexaSkill", None, None, Some("alexa-appkit.amazon.com")),
    not_run("CloudWatchEvent", Some("eventbridge event"), RULE, EVENTS),
    not_run(
        "CloudWatchLogs",
        Some("cloudwatch logs"),
        Some("AWS::Logs::SubscriptionFilter"),
        Some("logs.amazonaws.com"),
    ),
    not_run("Cognito", Some("cognito pre-signup"), None, Some("cognito-idp.amazonaws.com")),
    not_run("DocumentDB", None, MAPPING, None),
    not_run("DynamoDB", Some("dynamodb update"), MAPPING, None),
    not_run("EventBridgeRule", Some("eventbridge event"), RULE, EVENTS),
    not_run("IoTRule", None, Some("AWS::IoT::TopicRule"), Some("iot.amazonaws.com")),
    not_run("Kinesis", Some("kinesis get-records"), MAPPING, None),
    not_run("MQ", None, MAPPING, None),
    not_run("MSK", None, MAPPING, None),
    not_run("S3", Some("s3 put"), None, Some("s3.amazonaws.com")),
    not_run("SNS", Some("sns notification"), Some("AWS::SNS::Subscription"), Some("sns.amazonaws.com")),
    not_run("SQS", Some("sqs receive-message"), MAPPING, None),
    not_run("Schedule", Some("cloudwatch scheduled-event"), RULE, EVENTS),
    not_run("ScheduleV2", Some("cloudwatch scheduled-event"), Some("AWS::Scheduler::Schedule"), None),
    not_run("SelfManagedKafka", None, MAPPING, None),
];

fn known(kind: &str) -> Option<&'static NotRun> {
    NOT_RUN.iter().find(|known| known.kind == kind)
}

/// What an event calls: the function, or its alias.
pub(super) fn target(function: &str, alias: Option<&Alias>, span: Span) -> Node {
    match alias {
        Some(alias) => reference(&alias.id(function), span),
        None => attribute(function, "Arn", span),
    }
}

pub(super) fn transform(
    function: &str,
    events: &Node,
    alias: Option<&Alias>,
    condition: Option<&(String, Span)>,
    resolver: &mut Resolver<'_>,
    output: &mut Output,
    warnings: &mut Problems,
) {
    let Some(events) = events.mapping(&mut resolver.problems) else { return };
    let mut left = Vec::new();
    for entry in events.entries() {
        let Some(event) = entry.value.mapping(&mut resolver.problems) else { continue };
        let owner = format!("the event {}", quoted(&entry.key));
        let kind = event.require("Type", &owner, entry.key_span, &mut resolver.problems);
        let Some(kind) = kind.and_then(|node| node.string(&mut resolver.problems)) else { continue };
        let one = One { function, entry, alias, condition, properties: entry.value.get("Properties") };
        match kind {
            "HttpApi" => one.http(resolver, output),
            "Api" => one.rest(resolver, output),
            other => {
                if let Some(known) = known(other) {
                    one.name_what_sam_makes(known, output);
                }
                left.push((other.to_owned(), entry.value.span));
            }
        }
    }
    let (not_run, unknown): (Vec<_>, Vec<_>) = left.into_iter().partition(|(kind, _)| known(kind).is_some());
    let words = |kind: &str| known(kind).and_then(|known| known.words);
    for (events, verdict) in [(not_run, "not run"), (unknown, "not known")] {
        if let Some(problem) = undelivered(function, &events, verdict, words) {
            warnings.push(problem);
        }
    }
}

/// One warning for all events of a function that nobody sends it, at the first of them.
fn undelivered(
    function: &str,
    events: &[(String, Span)],
    verdict: &str,
    words: impl Fn(&str) -> Option<&'static str>,
) -> Option<Problem> {
    let mut kinds: Vec<&str> = Vec::new();
    for (kind, _) in events {
        if !kinds.contains(&&**kind) {
            kinds.push(kind);
        }
    }
    let names = kinds.iter().map(|kind| quoted(kind)).collect::<Vec<_>>().join(", ");
    let subject = if kinds.len() == 1 { "type" } else { "types" };
    let are = if kinds.len() == 1 { "is" } else { "are" };
    let message = format!("the event {subject} {names} {are} {verdict}: {function} does not get its events");
    let mut generated: Vec<&str> = kinds.iter().filter_map(|kind| words(kind)).collect();
    generated.dedup();
    let help = match &generated[..] {
        [] => "HttpApi, Api and FunctionUrlConfig are run".to_owned(),
        [first, others @ ..] => {
            let others: Vec<String> = others.iter().map(|words| quoted(words)).collect();
            let more =
                if others.is_empty() { String::new() } else { format!("; others: {}", others.join(", ")) };
            format!("send one: `onrush generate-event {first} | onrush invoke {function} -e -`{more}")
        }
    };
    events.first().map(|(_, span)| Problem::at(*span, message).help(help))
}

/// One event on its way to a route.
struct One<'a> {
    function: &'a str,
    entry: &'a Entry,
    alias: Option<&'a Alias>,
    condition: Option<&'a (String, Span)>,
    properties: Option<&'a Node>,
}

impl One<'_> {
    fn http(&self, resolver: &mut Resolver<'_>, output: &mut Output) {
        let span = self.entry.key_span;
        let api = self.api("ApiId", HTTP_API, output);
        let key = match (self.text("Method", resolver), self.text("Path", resolver)) {
            (None, None) => "$default".to_owned(),
            (_, Some(path)) if path == "$default" => path,
            (method, path) => format!("{} {}", method_name(method), path.unwrap_or_else(|| "/".into())),
        };
        let mut integration = vec![
            ("IntegrationType", text("AWS_PROXY", span)),
            ("IntegrationUri", target(self.function, self.alias, span)),
            ("PayloadFormatVersion", self.get("PayloadFormatVersion").unwrap_or_else(|| text("2.0", span))),
        ];
        integration.extend(self.get("TimeoutInMillis").map(|node| ("TimeoutInMillis", node)));
        let mut route = vec![
            ("ApiId", api.clone()),
            ("RouteKey", text(&key, self.span_of("Method").or_else(|| self.span_of("Path")).unwrap_or(span))),
            (INTEGRATION, mapping(integration, span)),
        ];
        let auth = self.get("Auth").and_then(|auth| auth::chosen(&auth, resolver));
        route.extend(auth.and_then(|auth| auth::of_event(&auth, resolver)));
        self.finish(api, "AWS::ApiGatewayV2::Route", mapping(route, span), "", output);
    }

    fn rest(&self, resolver: &mut Resolver<'_>, output: &mut Output) {
        let span = self.entry.key_span;
        let api = self.api("RestApiId", REST_API, output);
        let owner = format!("the event {}", quoted(&self.entry.key));
        let properties = self.properties.and_then(Node::as_mapping).cloned().unwrap_or_default();
        for key in ["Path", "Method"] {
            properties.require(key, &owner, span, &mut resolver.problems);
        }
        let (method, path) = (self.text("Method", resolver), self.text("Path", resolver));
        let mut integration =
            vec![("Type", text("AWS_PROXY", span)), ("Uri", target(self.function, self.alias, span))];
        integration.extend(self.get("TimeoutInMillis").map(|node| ("TimeoutInMillis", node)));
        let mut fields = vec![
            ("RestApiId", api.clone()),
            ("HttpMethod", text(&method_name(method), self.span_of("Method").unwrap_or(span))),
            (PATH, text(&path.unwrap_or_else(|| "/".into()), span)),
            (INTEGRATION, mapping(integration, span)),
        ];
        let auth = self.get("Auth").and_then(|auth| auth::chosen(&auth, resolver));
        let key = auth.as_ref().and_then(|auth| auth.get("ApiKeyRequired").cloned());
        fields.extend(key.map(|node| ("ApiKeyRequired", node)));
        fields.extend(auth.as_ref().and_then(|auth| auth::of_event(auth, resolver)));
        let stage = stage_word(&api, output);
        self.finish(api, "AWS::ApiGateway::Method", mapping(fields, span), &stage, output);
    }

    /// What the event stands for is not run, but a template may name it.
    fn name_what_sam_makes(&self, known: &NotRun, output: &mut Output) {
        let (span, condition) = (self.entry.key_span, self.condition.cloned());
        let id = format!("{}{}", self.function, self.entry.key);
        if let Some(kind) = known.made {
            let mut properties = vec![(EVENT, yes(span))];
            properties.extend(self.get("Name").map(|name| ("Name", name)));
            output.push_new(Resource::made(&id, kind, mapping(properties, span), condition.clone()));
        }
        if known.kind == "ScheduleV2" && self.get("RoleArn").is_none() {
            output.push_new(role(&id, span, condition.clone()));
        }
        if let Some(principal) = known.principal {
            let mut properties = vec![
                ("Action", text("lambda:InvokeFunction", span)),
                ("Principal", text(principal, span)),
                ("FunctionName", target(self.function, self.alias, span)),
            ];
            if known.made == RULE {
                properties.push(("SourceArn", attribute(&id, "Arn", span)));
            }
            // One for all user pools (`Cognito.to_cloudformation` in AWS's SAM translator).
            let id = if known.kind == "Cognito" { format!("{}Cognito", self.function) } else { id };
            output.push_new(Resource::made(
                &format!("{id}Permission"),
                "AWS::Lambda::Permission",
                mapping(properties, span),
                condition,
            ));
        }
    }

    /// The API that the event names, or SAM's implicit one.
    fn api(&self, key: &str, implicit: &'static str, output: &mut Output) -> Node {
        match self.get(key) {
            // SAM takes the bare name of an API of the same template, too.
            Some(node) => {
                match node.as_str().filter(|name| node.tag.is_none() && output.names.contains_key(*name)) {
                    Some(name) => reference(name, node.span),
                    None => node,
                }
            }
            None => {
                if !output.names.contains_key(implicit) {
                    output.implicit.entry(implicit).or_insert(self.entry.key_span);
                }
                reference(implicit, self.entry.key_span)
            }
        }
    }

    fn finish(&self, api: Node, kind: &str, properties: Node, stage: &str, output: &mut Output) {
        let (span, condition) = (self.entry.key_span, self.condition.cloned());
        let id = format!("{}.{}", self.function, self.entry.key);
        output.push(Resource::made(&id, kind, properties, condition.clone()));
        if let Some(name) =
            Call::of(&api).filter(|call| call.name == "Ref").and_then(|call| call.argument.as_str())
        {
            output.needed.entry(name.to_owned()).or_default().push((self.function.to_owned(), span));
        }
        let permission = auth::permission(api, "/*", target(self.function, self.alias, span), span);
        let id = format!("{}{}Permission{stage}", self.function, self.entry.key);
        output.push_new(Resource::made(&id, "AWS::Lambda::Permission", permission, condition));
    }

    fn get(&self, key: &str) -> Option<Node> {
        self.properties.and_then(|properties| properties.get(key)).cloned()
    }

    /// Where the event says it.
    fn span_of(&self, key: &str) -> Option<Span> {
        Some(self.properties?.get(key)?.span)
    }

    fn text(&self, key: &str, resolver: &mut Resolver<'_>) -> Option<String> {
        let node = self.properties?.get(key)?;
        let value = resolver.value(node)?;
        value.string(&mut resolver.problems).map(str::to_owned)
    }
}

/// The role `OwnerRole` of what is not run.
fn role(owner: &str, span: Span, condition: Option<(String, Span)>) -> Resource {
    Resource::made(&format!("{owner}Role"), "AWS::IAM::Role", mapping(Vec::new(), span), condition)
}

/// A state machine is not run, but a template may name the role, rules and schedules that SAM makes beside it.
pub(super) fn name_what_a_state_machine_has(machine: &Resource, output: &mut Output) {
    let (id, condition) = (&machine.id, &machine.condition);
    if machine.properties.get("Role").is_none() {
        output.push_new(role(id, machine.place, condition.clone()));
    }
    let events = machine.properties.get("Events").and_then(Node::as_mapping);
    for entry in events.into_iter().flat_map(Mapping::entries) {
        let kind = entry.value.get("Type").and_then(Node::as_str).unwrap_or_default();
        let (id, span) = (format!("{id}{}", entry.key), entry.key_span);
        if let Some(made) = known(kind).and_then(|known| known.made) {
            let properties = mapping(vec![(EVENT, yes(span))], span);
            output.push_new(Resource::made(&id, made, properties, condition.clone()));
        }
        if entry.value.get("Properties").is_none_or(|all| all.get("RoleArn").is_none()) {
            output.push_new(role(&id, span, condition.clone()));
        }
    }
}

/// What the permission for a REST API is named after, behind `FunctionEventPermission`: the API's stage as it is written
/// (`Api.resources_to_link` in AWS's SAM translator). Of a name with other signs SAM takes a hash, here its letters.
fn stage_word(api: &Node, output: &Output) -> String {
    let name = Call::of(api).filter(|call| call.name == "Ref").and_then(|call| call.argument.as_str());
    match name.and_then(|name| output.stages.get(name)) {
        None if name == Some(REST_API) => "Prod".to_owned(),
        None => "AllStages".to_owned(),
        Some(None) => "Stage".to_owned(),
        Some(Some(stage)) => letters(stage),
    }
}

/// `any` and OpenAPI's word for it are `ANY`.
fn method_name(method: Option<String>) -> String {
    match method {
        None => "ANY".into(),
        Some(method) if method.eq_ignore_ascii_case("x-amazon-apigateway-any-method") => "ANY".into(),
        Some(method) => method.to_ascii_uppercase(),
    }
}

/// Marks every method of those APIs whose own `Auth` says `ApiKeyRequired`.
pub(super) fn require_keys(output: &mut Output) {
    let keyed = std::mem::take(&mut output.keyed);
    for resource in output.resources.iter_mut().filter(|resource| resource.kind == "AWS::ApiGateway::Method")
    {
        let mut properties = Properties::of(&resource.properties);
        let api = properties.get("RestApiId").and_then(Call::of).and_then(|call| call.argument.as_str());
        let keyed = api.and_then(|api| keyed.get(api)).copied();
        if let Some(span) = keyed.filter(|_| properties.get(PATH).is_some()) {
            properties.default("ApiKeyRequired", || yes(span));
            resource.properties = std::rc::Rc::new(properties.into_node(resource.properties.span));
        }
    }
}
