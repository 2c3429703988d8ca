//! The SAM transform: serverless types become the plain ones that CloudFormation would see.
//!
//! Source: AWS SAM Developer Guide, "AWS SAM resource and property reference" and "Generated CloudFormation resources".
//! What SAM makes keeps the ids that SAM documents (`FunctionRole`, `ServerlessHttpApi`, …), so that references to them
//! hold; routes, which SAM writes into an OpenAPI body, get ids of the form `Function.Event`.

mod api;
mod auth;
mod events;
mod function;
mod globals;
mod make;

use crate::problem::Problems;
use crate::resolve::{Resolver, Resource};
use crate::yaml::{Mapping, Node, Span};
pub(crate) use api::letters;
use make::{mapping, text};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What `Globals` may hold (AWS SAM Developer Guide, "Globals section").
const GLOBALS: &[&str] = &[
    "Api",
    "CapacityProvider",
    "Function",
    "HttpApi",
    "LayerVersion",
    "SimpleTable",
    "StateMachine",
    "WebSocketApi",
];

/// The implicit HTTP API.
const HTTP_API: &str = "ServerlessHttpApi";
/// The implicit REST API.
const REST_API: &str = "ServerlessRestApi";

/// The property of what stands for an event that is not run, which is said where the event stands.
pub(crate) const EVENT: &str = "Onrush::Event";
/// The property of a route or method that holds its integration, where a plain template points at one.
pub(crate) const INTEGRATION: &str = "Onrush::Integration";
/// The property of a REST API that says that events add to the routes of its body.
pub(crate) const MERGE: &str = "Onrush::Merge";
/// The property of a method that holds its path, where a plain template points at a resource.
pub(crate) const PATH: &str = "Onrush::Path";
/// The property of a version that `AutoPublishAlias` makes, and that follows its function.
pub(crate) const FOLLOWS: &str = "Onrush::Follows";
/// The property of a route or method that holds the name of its authorizer, where a plain template points at one.
pub(crate) const AUTHORIZER: &str = "Onrush::Authorizer";
/// The property of an API that holds the authorizer of routes that name none.
pub(crate) const DEFAULT_AUTHORIZER: &str = "Onrush::DefaultAuthorizer";
/// The property of a REST API that holds SAM's `Cors`.
pub(crate) const CORS: &str = "Onrush::Cors";

/// Replaces the resolver's resources and fills its names.
pub(crate) fn transform(resolver: &mut Resolver<'_>, globals: Option<&Mapping>, warnings: &mut Problems) {
    if let Some(globals) = globals {
        globals.only(GLOBALS, &mut resolver.problems);
    }
    let globals = globals.filter(|globals| globals::fit(globals, resolver));
    let written = std::mem::take(&mut resolver.resources);
    let mut output = Output::default();
    for resource in &written {
        output.names.insert(resource.id.clone(), resource.kind.clone());
        if let Some(stage) =
            resource.properties.get("StageName").filter(|_| resource.kind == "AWS::Serverless::Api")
        {
            let written = stage.as_str().filter(|_| stage.tag.is_none());
            output.stages.insert(resource.id.clone(), written.map(str::to_owned));
        }
    }
    for resource in written {
        match resource.kind.as_str() {
            "AWS::Serverless::Function" => {
                let resource = globals::merge_into(resource, globals, "Function");
                function::transform(resource, resolver, &mut output, warnings);
            }
            "AWS::Serverless::HttpApi" => {
                api::http(globals::merge_into(resource, globals, "HttpApi"), resolver, &mut output, warnings);
            }
            "AWS::Serverless::Api" => {
                api::rest(globals::merge_into(resource, globals, "Api"), resolver, &mut output, warnings);
            }
            "AWS::Serverless::LayerVersion" => {
                output.push(layer(globals::merge_into(resource, globals, "LayerVersion")));
            }
            "AWS::Serverless::StateMachine" => {
                events::name_what_a_state_machine_has(&resource, &mut output);
                output.push(resource);
            }
            _ => output.push(resource),
        }
    }
    for (id, kind) in [(HTTP_API, "AWS::Serverless::HttpApi"), (REST_API, "AWS::Serverless::Api")] {
        let Some(span) = output.implicit.get(id).copied() else { continue };
        let stage = (id == REST_API).then(|| ("StageName", text("Prod", span)));
        let made = Resource::made(id, kind, mapping(stage.into_iter().collect(), span), None);
        let transform = if id == HTTP_API { api::http } else { api::rest };
        let section = if id == HTTP_API { "HttpApi" } else { "Api" };
        transform(globals::merge_into(made, globals, section), resolver, &mut output, warnings);
    }
    events::require_keys(&mut output);
    for resource in &mut output.resources {
        resource.depends_on.extend(output.needed.remove(&resource.id).unwrap_or_default());
    }
    resolver.resources = output.resources;
    let mut names: BTreeMap<String, usize> =
        resolver.resources.iter().enumerate().map(|(at, resource)| (resource.id.clone(), at)).collect();
    for (dotted, id) in output.dotted {
        if let Some(at) = names.get(&id).copied() {
            names.insert(dotted, at);
        }
    }
    Rc::make_mut(&mut resolver.scope).names = names;
}

/// What the transform makes.
#[derive(Default)]
struct Output {
    resources: Vec<Resource>,
    /// Types by logical id, of what the template itself defines.
    names: BTreeMap<String, String>,
    /// Stages of the template's REST APIs by logical id; nothing where the name is computed.
    stages: BTreeMap<String, Option<String>>,
    /// `Function.Alias` and the like.
    dotted: Vec<(String, String)>,
    /// Implicit APIs that an event needs, and the first such event.
    implicit: BTreeMap<&'static str, Span>,
    /// What an API needs because SAM writes its functions into its body: a function that mentions its own API closes a
    /// circle, here as in AWS.
    needed: BTreeMap<String, Vec<(String, Span)>>,
    /// Where the shared usage plan stands among the resources.
    shared_plan: Option<usize>,
    /// APIs all of whose methods need a key.
    keyed: BTreeMap<String, Span>,
}

impl Output {
    /// Adds a resource, unless the template itself defines one of that name.
    fn push(&mut self, resource: Resource) {
        self.resources.push(resource);
    }

    fn push_new(&mut self, resource: Resource) {
        if !self.names.contains_key(&resource.id) {
            self.resources.push(resource);
        }
    }
}

impl Resource {
    /// A resource that the template does not spell out.
    fn made(id: &str, kind: &str, properties: Node, condition: Option<(String, Span)>) -> Self {
        Self {
            id: id.to_owned(),
            kind: kind.to_owned(),
            place: properties.span,
            properties: Rc::new(properties),
            metadata: None,
            condition,
            depends_on: Vec::new(),
            active: true,
            number: 0,
            resolved: None,
            reference: String::new(),
            stack: 0,
            own_id: None,
        }
    }
}

fn layer(resource: Resource) -> Resource {
    let span = resource.place;
    let mut properties = make::Properties::of(&resource.properties);
    properties.rename("ContentUri", "Content");
    properties.default("LayerName", || text(&resource.id, span));
    Resource {
        kind: "AWS::Lambda::LayerVersion".into(),
        properties: Rc::new(properties.into_node(resource.properties.span)),
        ..resource
    }
}
