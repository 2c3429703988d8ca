//! Parts of a template that lie in files of their own: what `AWS::Include` inserts, and the OpenAPI definitions of APIs.
//!
//! Sources: CloudFormation Template Reference, "`AWS::Include` transform" and "Fn::Transform"; AWS CLI Command Reference,
//! "cloudformation package", which takes local paths for S3's; AWS SAM Developer Guide, "AWS::Serverless::Api", all published.
//! What a file holds bears the place where the template names it.

use crate::intrinsic::{Call, FUNCTIONS};
use crate::problem::{Cause, Problem, Problems, quoted};
use crate::yaml::{Document, Entry, Kind, MAX_DEPTH, MAX_NODES, MAX_TEXT_BYTES, Mapping, Node, Span};
use crate::yaml::{height, parse, parse_as_aws, weight};
use crate::{Inputs, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// How many files a template may take parts from; further ones are not read.
const MAX_FILES: usize = 100;
/// The transform that inserts a file.
const INCLUDE: &str = "AWS::Include";
/// What a template with such parts holds, to spare others the walk.
const SIGNS: [&str; 5] = ["Fn::Transform", "!Transform", INCLUDE, "DefinitionUri", "BodyS3Location"];
/// Types whose definition may be a file: the property that names it, and the one that it becomes.
const DEFINITIONS: &[(&str, &str, &str)] = &[
    ("AWS::Serverless::Api", "DefinitionUri", "DefinitionBody"),
    ("AWS::Serverless::HttpApi", "DefinitionUri", "DefinitionBody"),
    ("AWS::ApiGateway::RestApi", "BodyS3Location", "Body"),
    ("AWS::ApiGatewayV2::Api", "BodyS3Location", "Body"),
];
const RELATIVE: &str = "paths are relative to the template";
/// How deep in a template a definition stands.
const DEFINITION_DEPTH: usize = 4;

/// The local files that a template takes parts from, as it names them: paths are relative to its folder. The caller reads them
/// into [`Inputs::files`]. At most 100.
pub fn files_of(text: &str) -> BTreeSet<String> {
    let none = BTreeMap::new();
    let mut parts = Parts { asked: Some(BTreeSet::new()), ..Parts::of(&none) };
    if let Some((document, _)) = has_parts(text).then(|| parse_as_aws("", text).ok()).flatten() {
        parts.join(document);
    }
    parts.asked.unwrap_or_default()
}

/// Puts the parts where they belong; what is wrong with them is for [`Parts::tell`] to say.
pub(crate) fn join<'a>(document: Document, text: &str, inputs: &'a Inputs) -> (Document, Parts<'a>) {
    let mut parts = Parts::of(&inputs.files);
    let document = if has_parts(text) { parts.join(document) } else { document };
    (document, parts)
}

fn has_parts(text: &str) -> bool {
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// What a file holds, measured once however often it is put in.
struct Part {
    node: Node,
    height: usize,
    nodes: usize,
    bytes: usize,
}

impl Part {
    fn of(node: Node) -> Self {
        let (nodes, bytes) = weight(&node);
        Self { height: height(&node), nodes, bytes, node }
    }
}

/// The parts of one template.
pub(crate) struct Parts<'a> {
    files: &'a BTreeMap<String, Result<String, String>>,
    /// What is named, where that is the question.
    asked: Option<BTreeSet<String>>,
    read: BTreeMap<String, Option<Part>>,
    /// Where which file was put in.
    places: BTreeMap<Span, String>,
    nodes: usize,
    bytes: usize,
    problems: Problems,
    warnings: Problems,
}

impl<'a> Parts<'a> {
    fn of(files: &'a BTreeMap<String, Result<String, String>>) -> Self {
        Self {
            files,
            asked: None,
            read: BTreeMap::new(),
            places: BTreeMap::new(),
            nodes: 0,
            bytes: 0,
            problems: Problems::new(),
            warnings: Problems::new(),
        }
    }

    /// Adds what is wrong with the parts, and the file's name to what is wrong inside one.
    pub(crate) fn tell(self, outcome: &mut Outcome) {
        for problem in outcome.problems.iter_mut().chain(&mut outcome.warnings) {
            let Some(file) = self.places.get(&problem.span) else { continue };
            let help = problem.help.take().map(|help| format!("{help}; ")).unwrap_or_default();
            problem.help = Some(format!("{help}in {file}"));
        }
        if !self.problems.is_empty() {
            outcome.stack = None;
        }
        outcome.problems.extend(self.problems.into_vec());
        outcome.warnings.extend(self.warnings.into_vec());
        outcome.problems.sort_by_key(|problem| problem.span.offset);
        outcome.warnings.sort_by_key(|problem| problem.span.offset);
    }

    fn join(&mut self, document: Document) -> Document {
        let Document { name, mut root } = document;
        self.definitions(&mut root);
        let included = self.at_the_top(&mut root);
        // A template of nothing else is told to lack its sections.
        let span = root.span;
        let empty = || Node { kind: Kind::Mapping(Mapping::default()), tag: None, span };
        let mut root = self.node(root, 0).unwrap_or_else(empty);
        for part in included {
            merge(&mut root, part, 2);
        }
        Document { name, root }
    }

    /// `Transform: {Name: AWS::Include, …}`, alone or among others: its file's sections join the template's.
    fn at_the_top(&mut self, root: &mut Node) -> Vec<Node> {
        let Some(transform) = value_of(root, "Transform") else { return Vec::new() };
        let is_include = |node: &Node| node.get("Name").and_then(Node::as_str) == Some(INCLUDE);
        let asked: Vec<Node> = if is_include(transform) {
            vec![std::mem::replace(transform, Node::list(Vec::new(), transform.span))]
        } else if let Kind::Sequence(items) = &mut transform.kind {
            items.extract_if(.., |item| is_include(item)).collect()
        } else {
            Vec::new()
        };
        asked.iter().filter_map(|argument| self.part(argument, argument.span, 0)).collect()
    }

    /// Definitions of APIs.
    fn definitions(&mut self, root: &mut Node) {
        let Some(Kind::Mapping(resources)) = value_of(root, "Resources").map(|node| &mut node.kind) else {
            return;
        };
        for resource in resources.entries_mut() {
            let kind = resource.value.get("Type").and_then(Node::as_str).unwrap_or_default();
            let Some((_, from, to)) = DEFINITIONS.iter().find(|(known, ..)| *known == kind) else { continue };
            let Some(properties) = value_of(&mut resource.value, "Properties") else { continue };
            let Kind::Mapping(properties) = &mut properties.kind else { continue };
            if properties.get(to).is_some() {
                continue;
            }
            let Some(at) = properties.entries().iter().position(|entry| &*entry.key == *from) else {
                continue;
            };
            let value = &properties.entries()[at].value;
            let Some(location) = local(value) else {
                // SAM's own are told of when they are transformed.
                if *to == "Body" && !is_no_value(value) {
                    let message =
                        "the API's definition is in S3, which is not read: it has no routes from there";
                    let help = format!("{from}: FILE takes a local file; or write it into Body");
                    self.warnings.push(Problem::at(value.span, message).help(help));
                }
                continue;
            };
            let span = properties.entries_mut().remove(at).value.span;
            if let Some(Err(why)) = self.files.get(&location) {
                // What a build step has yet to make, as `sam local` takes it.
                let message = format!("{why}: the API has no routes from there");
                self.warnings.push(Problem::at(span, message).help(RELATIVE));
                continue;
            }
            let Some(mut body) = self.file(&location, span, DEFINITION_DEPTH) else { continue };
            without_models(&mut body);
            if calls_functions(&body) {
                let message =
                    format!("AWS takes a file of {from} as it is: functions in it are not resolved there");
                let help =
                    "DefinitionBody: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: FILE}}}";
                self.warnings.push(Problem::at(span, message).help(help));
            }
            properties.entries_mut().push(Entry { key: (*to).into(), key_span: span, value: body });
        }
    }

    /// The node with its parts in place; nothing when it is itself a part that is left out.
    fn node(&mut self, node: Node, depth: usize) -> Option<Node> {
        let Node { kind, tag, span } = node;
        if tag.as_deref() == Some("Transform") {
            return self.part(&Node { kind, tag: None, span }, span, depth);
        }
        let kind = match kind {
            Kind::Scalar(scalar) => Kind::Scalar(scalar),
            Kind::Sequence(items) => {
                Kind::Sequence(items.into_iter().filter_map(|item| self.node(item, depth + 1)).collect())
            }
            Kind::Mapping(mapping) => {
                let is_call = mapping.len() == 1;
                let (mut entries, mut included) = (Vec::with_capacity(mapping.len()), Vec::new());
                for Entry { key, key_span, value } in mapping.into_entries() {
                    if &*key == "Fn::Transform" {
                        let part = self.part(&value, key_span, depth);
                        if is_call {
                            return part;
                        }
                        included.extend(part);
                    } else if let Some(value) = self.node(value, depth + 1) {
                        entries.push(Entry { key, key_span, value });
                    }
                }
                let mut whole = Node { kind: Kind::Mapping(Mapping::new(entries)), tag: None, span };
                for part in included {
                    merge(&mut whole, part, 1);
                }
                whole.kind
            }
        };
        Some(Node { kind, tag, span })
    }

    /// What a transform with this argument inserts; nothing when it is left out, which is told.
    fn part(&mut self, argument: &Node, span: Span, depth: usize) -> Option<Node> {
        let argument = match argument.as_sequence() {
            Some([only]) => only,
            _ => argument,
        };
        match argument.get("Name").and_then(Node::as_str) {
            Some(INCLUDE) => {}
            name => {
                let name = name.map_or_else(|| argument.describe(), quoted);
                let message = format!("the transform {name} is not run: what it makes is left out");
                self.warnings.push(Problem::at(span, message));
                return None;
            }
        }
        let Some(node) = argument.get("Parameters").and_then(|parameters| parameters.get("Location")) else {
            let cause = Cause::Missing { key: "Location".into(), owner: INCLUDE.into() };
            self.problems.push(Problem::new(span, cause).help("Parameters: {Location: ./part.yaml}"));
            return None;
        };
        match local(node) {
            Some(location) => self.file(&location, span, depth),
            None => {
                let message = format!("{} is not read: what it holds is left out", node.describe());
                self.warnings
                    .push(Problem::at(span, message).help("a local file is: `Location: ./part.yaml`"));
                None
            }
        }
    }

    /// What a file holds, as though it stood at `span`; unknown where it cannot be had, which is a problem; nothing where nobody
    /// read it.
    fn file(&mut self, location: &str, span: Span, depth: usize) -> Option<Node> {
        if let Some(asked) = &mut self.asked {
            if asked.len() < MAX_FILES {
                asked.insert(location.to_owned());
            }
            return None;
        }
        let name = quoted(location);
        if !self.read.contains_key(location) {
            let read = match self.files.get(location) {
                None => {
                    let message = format!("the file {name} is not read: what it holds is left out");
                    let help = format!("{MAX_FILES} files are the most");
                    let help = (self.files.len() >= MAX_FILES).then_some(help);
                    self.warnings.push(Problem::at(span, message).maybe_help(help));
                    None
                }
                Some(Err(why)) => {
                    self.problems.push(Problem::at(span, why).help(RELATIVE));
                    Some(Part::of(Node::unknown(span)))
                }
                Some(Ok(text)) => Some(Part::of(match parse(location, text) {
                    Ok(document) => document.root,
                    Err(found) => {
                        for problem in found {
                            self.problems.push(Problem::at(span, problem.one_line(location)));
                        }
                        Node::unknown(span)
                    }
                })),
            };
            self.read.insert(location.to_owned(), read);
        }
        let read = self.read.get(location)?.as_ref()?;
        self.nodes = self.nodes.saturating_add(read.nodes);
        self.bytes = self.bytes.saturating_add(read.bytes);
        let cause = if depth + read.height > MAX_DEPTH {
            Cause::TooDeep { max: MAX_DEPTH }
        } else if self.nodes > MAX_NODES {
            Cause::TooManyNodes { max: MAX_NODES }
        } else if self.bytes > MAX_TEXT_BYTES {
            Cause::TooLarge { bytes: self.bytes, max: MAX_TEXT_BYTES }
        } else {
            self.places.insert(span, location.to_owned());
            return Some(placed(&read.node, span));
        };
        self.problems.push(Problem::new(span, cause).help(format!("with {name}")));
        Some(Node::unknown(span))
    }
}

/// The path that names a local file; nothing for what S3 or the web holds, and for what is computed.
fn local(node: &Node) -> Option<String> {
    let path = node.as_str().filter(|_| node.tag.is_none())?;
    (!path.is_empty() && !path.contains("://")).then(|| path.to_owned())
}

/// Whether it is as if the property were not there.
fn is_no_value(node: &Node) -> bool {
    Call::of(node).is_some_and(|call| call.name == "Ref" && call.argument.as_str() == Some("AWS::NoValue"))
}

fn value_of<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Kind::Mapping(mapping) = &mut node.kind else { return None };
    mapping.entries_mut().iter_mut().find(|entry| &*entry.key == key).map(|entry| &mut entry.value)
}

/// Adds the keys of `part` that `whole` has not; those of mappings that both have, too, `levels` deep.
fn merge(whole: &mut Node, part: Node, levels: usize) {
    let (Kind::Mapping(into), Kind::Mapping(part)) = (&mut whole.kind, part.kind) else { return };
    let into = into.entries_mut();
    let known: BTreeMap<Box<str>, usize> = into.iter().map(|entry| entry.key.clone()).zip(0..).collect();
    for entry in part.into_entries() {
        match known.get(&entry.key) {
            None => into.push(entry),
            Some(&at) if levels > 1 => merge(&mut into[at].value, entry.value, levels - 1),
            Some(_) => {}
        }
    }
}

/// A copy that stands at `span` as a whole.
fn placed(node: &Node, span: Span) -> Node {
    let kind = match &node.kind {
        Kind::Scalar(scalar) => Kind::Scalar(scalar.clone()),
        Kind::Sequence(items) => Kind::Sequence(items.iter().map(|item| placed(item, span)).collect()),
        Kind::Mapping(mapping) => {
            let place = |entry: &Entry| Entry {
                key: entry.key.clone(),
                key_span: span,
                value: placed(&entry.value, span),
            };
            Kind::Mapping(Mapping::new(mapping.entries().iter().map(place).collect()))
        }
    };
    Node { kind, tag: node.tag.clone(), span }
}

/// Takes models out of an OpenAPI definition, which nothing here is made of: a property of theirs may be called `Ref`.
fn without_models(body: &mut Node) {
    remove(body, "definitions");
    if let Some(components) = value_of(body, "components") {
        remove(components, "schemas");
    }
}

fn remove(node: &mut Node, key: &str) {
    if let Kind::Mapping(mapping) = &mut node.kind {
        mapping.entries_mut().retain(|entry| &*entry.key != key);
    }
}

fn calls_functions(node: &Node) -> bool {
    Call::of(node).is_some_and(|call| FUNCTIONS.contains(&call.name))
        || match &node.kind {
            Kind::Scalar(_) => false,
            Kind::Sequence(items) => items.iter().any(calls_functions),
            Kind::Mapping(mapping) => mapping.entries().iter().any(|entry| calls_functions(&entry.value)),
        }
}
