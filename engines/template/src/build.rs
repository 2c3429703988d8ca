//! From resolved resources of plain types to the stack.

mod acl;
mod api;
mod authorizer;
mod availability_zones;
mod cache;
mod database;
mod fields;
mod flow_log;
mod function;
mod gateways;
mod lambda;
mod links;
mod load_balancer;
mod mock;
mod network;
mod network_properties;
mod one_vpc;
mod openapi;
mod role;
mod routing;
mod security_group;
mod stages;
mod zones;

use crate::problem::{Cause, Problem, Problems, quoted};
use crate::resolve::Resolver;
use crate::sam::letters;
use crate::suggest::nearest_within;
use crate::yaml::{Mapping, Node, Span};
use fields::Fields;
use links::Links;
use model::stack::{OtherResource, Output, Place, Stack};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is said of WebSocket APIs, whose type is that of HTTP APIs.
const WEB_SOCKETS: &str = "AWS::ApiGatewayV2::Api with ProtocolType WEBSOCKET";
/// What polls queues and streams for functions.
const MAPPING: &str = "AWS::Lambda::EventSourceMapping";

/// Types that are taken note of and need nothing done: what they say matters to AWS alone.
const QUIET: &[&str] = &[
    "AWS::ApiGateway::Account",
    "AWS::ApiGateway::Deployment",
    "AWS::ApiGateway::GatewayResponse",
    "AWS::ApiGateway::Model",
    "AWS::ApiGateway::RequestValidator",
    "AWS::ApiGatewayV2::Deployment",
    "AWS::CDK::Metadata",
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::RolePolicy",
    "AWS::Logs::LogGroup",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::SecretsManager::SecretTargetAttachment",
];

/// Warnings name at most this many resources of a type.
const MAX_NAMED: usize = 5;

/// A resolved resource, as the builders see it.
pub(crate) struct Item<'a> {
    /// Its number in the resolver.
    index: usize,
    /// Logical id.
    id: &'a str,
    /// Type.
    kind: &'a str,
    /// Its key.
    span: Span,
    /// What `Ref` gives.
    reference: &'a str,
    /// Its properties.
    fields: Fields<'a>,
    /// Its metadata, as written.
    metadata: Option<&'a Node>,
}

/// Types that a template is about: one that is written wrongly is CloudFormation's error, and without a word here nothing
/// would be served. All others of AWS's are further away than a slip.
const OFTEN_MEANT: [&str; 6] = [
    "AWS::Serverless::Function",
    "AWS::Serverless::HttpApi",
    "AWS::Serverless::Api",
    "AWS::Lambda::Function",
    "AWS::Lambda::Url",
    "AWS::ApiGatewayV2::Api",
];
const SLIP_EDITS_MAX: usize = 2;

impl Item<'_> {
    fn place(&self) -> Place {
        place(self.span)
    }
}

/// What the builders share.
pub(crate) struct Builder<'a, 'text> {
    /// For names and attributes.
    resolver: &'a Resolver<'text>,
    /// From ids back to resources.
    links: Links,
    /// What is made.
    stack: Stack,
    /// What is wrong.
    problems: Problems,
    /// What is worth saying.
    warnings: Problems,
}

/// Builds the stack; problems go to the resolver's.
pub(crate) fn stack(
    resolver: &mut Resolver<'_>,
    description: Option<&str>,
    warnings: &mut Problems,
) -> Stack {
    let outputs = resolve_outputs(resolver);
    let problems = std::mem::take(&mut resolver.problems);
    let inputs = resolver.scope.inputs;
    let mut builder = Builder {
        resolver,
        links: Links::of(resolver),
        stack: Stack {
            name: inputs.stack_name.clone(),
            region: inputs.region.clone(),
            account_id: inputs.account_id.clone(),
            description: description.map(str::to_owned),
            availability_zones: resolver.zones.clone(),
            ..Stack::default()
        },
        problems,
        warnings: std::mem::take(warnings),
    };
    builder.run();
    builder.add_outputs(outputs);
    let Builder { stack, problems, warnings: said, .. } = builder;
    resolver.problems = problems;
    *warnings = said;
    stack
}

impl Builder<'_, '_> {
    fn run(&mut self) {
        let resolver = self.resolver;
        let resolved: Vec<(usize, Rc<Node>)> = resolver
            .resources
            .iter()
            .enumerate()
            .filter_map(|(index, resource)| Some((index, Rc::clone(resource.resolved.as_ref()?))))
            .collect();
        let mut items = Vec::with_capacity(resolved.len());
        for (index, properties) in &resolved {
            let resource = &resolver.resources[*index];
            let Some(mapping) = properties.mapping(&mut self.problems) else { continue };
            items.push(Item {
                index: *index,
                id: &resource.id,
                kind: &resource.kind,
                span: resource.place,
                reference: &resource.reference,
                fields: Fields::new(mapping, format!("{} ({})", resource.id, resource.kind), resource.place),
                metadata: resource.metadata.as_deref(),
            });
        }
        self.stack.types = items.iter().map(|item| (item.id.to_owned(), item.kind.to_owned())).collect();
        let mut others: BTreeMap<&str, Vec<&Item<'_>>> = BTreeMap::new();
        for item in &items {
            if item.kind.starts_with("Custom::") || item.kind == "AWS::CloudFormation::CustomResource" {
                let token = item.fields.get("ServiceToken").and_then(Node::as_str);
                let provider = token.map(|token| self.links.function(token).function);
                self.stack.providers.extend(provider.and_then(|link| link.logical().map(str::to_owned)));
            }
            let done = self.network(item)
                || self.lambda(item)
                || self.api(item)
                || self.database(item)
                || cache::is_cache(item);
            if !done && !QUIET.contains(&item.kind) && item.fields.get(crate::sam::EVENT).is_none() {
                others.entry(item.kind).or_default().push(item);
            }
        }
        self.join_network(&items);
        self.join_zones(&items);
        self.join_functions(&items);
        self.check_vpc_roles(&items);
        self.check_network_properties(&items);
        self.join_apis(&items);
        for id in self.set_aside_web_sockets() {
            others.entry(WEB_SOCKETS).or_default().extend(items.iter().find(|item| item.id == id));
        }
        for index in self.join_clusters(&items) {
            let Some(item) = items.iter().find(|item| item.index == index) else { continue };
            others.entry(item.kind).or_default().push(item);
        }
        self.join_load_balancers(&items);
        self.join_caches(&items);
        self.check_one_vpc();
        self.check_availability_zones(&items);
        self.check_flow_logs();
        self.report_others(&others);
    }

    /// One warning a type, at its first resource.
    fn report_others(&mut self, others: &BTreeMap<&str, Vec<&Item<'_>>>) {
        for (kind, items) in others {
            let names: Vec<&str> = items.iter().take(MAX_NAMED).map(|item| item.id).collect();
            let more = if items.len() > MAX_NAMED { ", …" } else { "" };
            let message = format!("{kind} is not run: {}{more}", names.join(", "));
            let Some(first) = items.first() else { continue };
            let problem = Problem::at(first.span, message);
            let problem = match *kind {
                MAPPING => problem.help(
                    "send its function an event of its source, for example: `onrush generate-event sqs receive-message | onrush invoke FUNCTION -e -`",
                ),
                load_balancer::LOAD_BALANCER => problem.help(format!(
                    "its name and addresses stand in the VPC; `--attach {}=HOST:PORT` puts a server behind them",
                    first.id
                )),
                _ => problem.maybe_help(
                    nearest_within(kind, SLIP_EDITS_MAX, OFTEN_MEANT).map(|near| format!("did you mean `{near}`?")),
                ),
            };
            if self.resolver.scope.inputs.strict {
                let mut why = "strict reading takes only types that are run".to_owned();
                if let Some(help) = &problem.help {
                    why = format!("{why}; {help}");
                }
                self.problems.push(problem.help(why));
            } else {
                self.warnings.push(problem);
            }
        }
        let mut all: Vec<&&Item<'_>> = others.values().flatten().collect();
        all.sort_by_key(|item| item.index);
        self.stack.others = all
            .into_iter()
            .map(|item| OtherResource {
                id: item.id.to_owned(),
                resource_type: item.kind.to_owned(),
                physical_id: item.reference.to_owned(),
                place: item.place(),
            })
            .collect();
    }

    fn add_outputs(&mut self, mut outputs: Vec<Output>) {
        let http = self.stack.http_apis.iter().map(|api| (api.api_id.as_str(), api.url.as_str()));
        let rest = self.stack.rest_apis.iter().map(|api| (api.api_id.as_str(), api.url.as_str()));
        let doors: BTreeMap<&str, &str> = http.chain(rest).collect();
        let end =
            format!(".execute-api.{}.{}", self.stack.region, model::name::dns_suffix_of(&self.stack.region));
        for output in &mut outputs {
            let host =
                output.value.split_once(&end).map(|(before, _)| before).and_then(|it| it.rsplit_once("://"));
            if let Some((_, id)) = host
                && let Some(url) = doors.get(id)
            {
                output.local_url = Some(output.value.replace(&format!("https://{id}{end}"), url));
            } else if output.value.starts_with("http://") && output.value.contains(".localhost:") {
                output.local_url = Some(output.value.clone());
            }
        }
        self.stack.outputs = outputs;
    }
}

/// The outputs of all stacks; ids that several have get their stack's name in front.
fn resolve_outputs(resolver: &mut Resolver<'_>) -> Vec<Output> {
    let mut all: Vec<(usize, Output)> = Vec::new();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for stack in 0..resolver.scopes.len() {
        let before = resolver.enter(stack);
        if let Some(section) = resolver.scope.outputs {
            let found = outputs_of(section, resolver);
            found.iter().for_each(|output| *count.entry(output.id.clone()).or_default() += 1);
            all.extend(found.into_iter().map(|output| (stack, output)));
        }
        resolver.enter(before);
    }
    let named = |(stack, mut output): (usize, Output)| {
        if count.get(&output.id).is_some_and(|count| *count > 1) {
            output.id.insert_str(0, &letters(&resolver.scopes[stack].inputs.stack_name));
        }
        output
    };
    all.into_iter().map(named).collect()
}

fn outputs_of(section: &Mapping, resolver: &mut Resolver<'_>) -> Vec<Output> {
    let mut outputs = Vec::new();
    for entry in section.entries() {
        let Some(definition) = entry.value.mapping(&mut resolver.problems) else { continue };
        definition.only(&["Value", "Description", "Export", "Condition"], &mut resolver.problems);
        let condition = definition.get("Condition").and_then(Node::as_str);
        if condition.is_some_and(|name| resolver.scope.conditions.get(name) == Some(&false)) {
            continue;
        }
        let owner = format!("the output {}", quoted(&entry.key));
        let value = definition.require("Value", &owner, entry.key_span, &mut resolver.problems).cloned();
        let Some(value) = value.and_then(|node| resolver.value(&node)) else { continue };
        let Some(value) = value.string(&mut resolver.problems).map(str::to_owned) else { continue };
        let export = definition.get("Export").and_then(|export| export.get("Name")).cloned();
        let export = export.and_then(|node| resolver.value(&node));
        outputs.push(Output {
            id: entry.key.to_string(),
            value,
            local_url: None,
            description: definition.get("Description").and_then(Node::as_str).map(str::to_owned),
            export: export.as_ref().and_then(Node::as_str).map(str::to_owned),
            place: place(entry.key_span),
        });
    }
    outputs
}

/// A span as the stack keeps it.
fn place(span: Span) -> Place {
    Place { offset: span.offset, len: span.len, line: span.line, column: span.column }
}

/// Back from the stack's place to a span.
fn span(place: Place) -> Span {
    Span { offset: place.offset, len: place.len, line: place.line, column: place.column }
}

/// A value out of a small set of words.
fn choice<T: Copy>(node: &Node, words: &[(&'static str, T)], problems: &mut Problems) -> Option<T> {
    let names: Vec<&'static str> = words.iter().map(|(name, _)| *name).collect();
    let chosen = node.one_of(&names, problems)?;
    words.iter().find(|(name, _)| *name == chosen).map(|(_, value)| *value)
}

/// A name that breaks AWS's pattern.
fn bad_name(node: &Node, what: &str, rule: &str) -> Problem {
    let cause =
        Cause::Other(format!("{what} {} is not a name AWS takes", quoted(node.as_str().unwrap_or_default())));
    Problem::new(node.span, cause).help(rule)
}
