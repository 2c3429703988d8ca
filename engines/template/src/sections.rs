//! The template's sections, from its tree to the stack.

use crate::problem::{Cause, Problem, Problems, quoted};
use crate::resolve::{Resolver, Resource, Scope};
use crate::yaml::{Document, Entry, Mapping, Node, Span};
use crate::{Inputs, Outcome, app, build, default_zones, parameters, references, sam};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The sections of a template (CloudFormation User Guide, "Template sections"; `Globals` is SAM's).
const SECTIONS: &[&str] = &[
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Rules",
    "Mappings",
    "Conditions",
    "Transform",
    "Globals",
    "Resources",
    "Outputs",
    "Hooks",
];

/// What may stand beside a resource's properties.
const RESOURCE_KEYS: &[&str] = &[
    "Type",
    "Properties",
    "DependsOn",
    "Condition",
    "Metadata",
    "DeletionPolicy",
    "UpdateReplacePolicy",
    "CreationPolicy",
    "UpdatePolicy",
    "Version",
    "Connectors",
    "IgnoreGlobals",
];

/// How many resources a template may have. CloudFormation takes 500 (User Guide, "Quotas").
const MAX_RESOURCES: usize = 10_000;

/// The name of the SAM transform.
const SERVERLESS: &str = "AWS::Serverless-2016-10-31";

/// A template's tree, and what it is read with.
pub(crate) struct Source<'a> {
    pub(crate) document: &'a Document,
    pub(crate) inputs: &'a Inputs,
}

/// Reads a template's tree; of several stacks, the trees, whose places are all in `text`.
pub(crate) fn read(sources: &[Source<'_>], text: &str) -> Outcome {
    let mut warnings = Problems::new();
    let (mut resolvers, mut failed) = (Vec::with_capacity(sources.len()), Problems::new());
    for source in sources {
        match one(source, text, &mut warnings) {
            Ok(resolver) => resolvers.push(resolver),
            Err(problems) => problems.into_vec().into_iter().for_each(|problem| failed.push(problem)),
        }
    }
    let Some(mut resolver) = app::join_resolvers(resolvers) else {
        return Outcome { stack: None, problems: failed.into_vec(), warnings: Vec::new() };
    };
    failed.into_vec().into_iter().for_each(|problem| resolver.problems.push(problem));
    resolver.find_exports();
    references::resolve_all(&mut resolver);
    let description = sources[0].document.root.get("Description").and_then(Node::as_str);
    let stack = build::stack(&mut resolver, description, &mut warnings);
    let mut problems = resolver.problems;
    if let Some(span) = resolver.first_unknown.filter(|_| problems.is_empty()) {
        problems.push(Problem::at(span, "this value cannot be had"));
    }
    Outcome {
        stack: Some(stack).filter(|_| problems.is_empty()),
        problems: problems.into_vec(),
        warnings: warnings.into_vec(),
    }
}

/// One stack's resources, transformed, with the names that it mentions checked; problems alone when it is no template.
fn one<'a>(
    &Source { document, inputs }: &Source<'a>,
    text: &'a str,
    warnings: &mut Problems,
) -> Result<Resolver<'a>, Problems> {
    let mut problems = Problems::new();
    let root = &document.root;
    let Some(top) = root.mapping(&mut problems) else { return Err(problems) };
    top.only(SECTIONS, &mut problems);
    let section = |name: &str, problems: &mut Problems| top.get(name).and_then(|node| node.mapping(problems));
    let parameters = parameters::read(section("Parameters", &mut problems), root.span, inputs, &mut problems);
    let [mappings, conditions, outputs, globals] =
        ["Mappings", "Conditions", "Outputs", "Globals"].map(|name| section(name, &mut problems));
    let entries = top
        .require("Resources", "a template", root.span, &mut problems)
        .and_then(|node| node.mapping(&mut problems))
        .map(Mapping::entries)
        .unwrap_or_default();
    if let Some(entry) = entries.get(MAX_RESOURCES) {
        let message =
            format!("the template has {} resources, and {MAX_RESOURCES} is the most", entries.len());
        problems.push(Problem::at(entry.key_span, message).help("CloudFormation itself takes 500"));
    }
    let entries = &entries[..entries.len().min(MAX_RESOURCES)];
    let resources = entries.iter().filter_map(|entry| resource(entry, &mut problems)).collect();
    let zones = &inputs.availability_zones;
    let names = BTreeMap::new();
    let scope = Scope { inputs, parameters, mappings, conditions: BTreeMap::new(), names, outputs };
    let mut resolver = Resolver {
        text,
        scope: Rc::new(scope),
        stack: 0,
        scopes: Vec::new(),
        exports: BTreeMap::new(),
        steps: 0,
        zones: if zones.is_empty() { default_zones(&inputs.region) } else { zones.clone() },
        resources,
        problems,
        first_unknown: None,
        spent_nodes: 0,
        spent_bytes: 0,
    };
    if let Some(conditions) = conditions {
        resolver.evaluate_conditions(conditions);
    }
    transform(top, &mut resolver, globals, warnings);
    references::check(&mut resolver, top, entries);
    Ok(resolver)
}

fn resource(entry: &Entry, problems: &mut Problems) -> Option<Resource> {
    let owner = format!("the resource {}", quoted(&entry.key));
    if entry.key.is_empty() || !entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let problem =
            Problem::at(entry.key_span, format!("{owner} is not named by letters and digits alone"));
        problems.push(problem);
    }
    let mapping = entry.value.mapping(problems)?;
    mapping.only(RESOURCE_KEYS, problems);
    let kind = mapping.require("Type", &owner, entry.key_span, problems)?.string(problems)?;
    let properties = match mapping.get("Properties") {
        None => {
            Node { kind: crate::yaml::Kind::Mapping(Mapping::default()), tag: None, span: entry.key_span }
        }
        Some(node) => {
            node.mapping(problems)?;
            node.clone()
        }
    };
    let condition = mapping
        .get("Condition")
        .and_then(|node| node.string(problems).map(|name| (name.to_owned(), node.span)));
    Some(Resource {
        id: entry.key.to_string(),
        kind: kind.to_owned(),
        place: entry.key_span,
        properties: Rc::new(properties),
        metadata: mapping.get("Metadata").map(|node| Rc::new(node.clone())),
        condition,
        depends_on: depends_on(mapping.get("DependsOn"), problems),
        active: true,
        number: 0,
        resolved: None,
        reference: String::new(),
        stack: 0,
        own_id: None,
    })
}

/// One logical id, or a list of them.
fn depends_on(node: Option<&Node>, problems: &mut Problems) -> Vec<(String, Span)> {
    let Some(node) = node else { return Vec::new() };
    let one = std::slice::from_ref(node);
    let items = node.as_sequence().unwrap_or(one);
    items.iter().filter_map(|item| item.string(problems).map(|id| (id.to_owned(), item.span))).collect()
}

/// Applies the SAM transform when the template asks for it, and says so when it does not but should.
fn transform(top: &Mapping, resolver: &mut Resolver<'_>, globals: Option<&Mapping>, warnings: &mut Problems) {
    let node = top.get("Transform");
    let one = node.map(std::slice::from_ref);
    let names = node.and_then(Node::as_sequence).or(one).unwrap_or_default();
    for name in names {
        match name.as_str() {
            Some(SERVERLESS | "AWS::LanguageExtensions") => {}
            _ => {
                let cause = Cause::Other(format!("the transform {} is not run", name.describe()));
                warnings.push(Problem::new(name.span, cause));
            }
        }
    }
    let serverless =
        resolver.resources.iter().find(|resource| resource.kind.starts_with("AWS::Serverless::"));
    let asked = names.iter().any(|name| name.as_str() == Some(SERVERLESS));
    if let Some(resource) = serverless.filter(|_| !asked) {
        let problem = Problem::at(resource.place, format!("{} needs the SAM transform", resource.kind));
        warnings.push(problem.help(format!("add `Transform: {SERVERLESS}` at the top")));
    }
    sam::transform(resolver, globals, warnings);
}
