//! The stacks of one app, read together: what one exports the others import, and their resources are one stack's.
//!
//! The texts of their templates travel as one, so that whoever keeps a template's text and its places needs to know of no
//! other: before each template stands a line that begins with U+001E and names stack and file. Where a template holds this sign
//! itself, which YAML has in no text, a blank takes its place.
//!
//! Sources: CloudFormation User Guide, "Get exports from a deployed CloudFormation stack" (a name is exported once in a
//! Region; neither it nor an import's can depend on a resource), and Template Reference, "Fn::ImportValue", published; the
//! wording of refusals is what CloudFormation answers.

use crate::graph;
use crate::intrinsic::{Call, Mention, mentions};
use crate::problem::{Cause, Problem, quoted};
use crate::references::early;
use crate::resolve::Resolver;
use crate::sam::letters;
use crate::yaml::{Kind, Mapping, Node, Span, height};
use crate::{Inputs, include, parameters_of};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How many stacks are read together.
pub const MAX_STACKS: usize = 200;
const MARK: char = '\u{1e}';
/// How many imports may lead to another before the value; levels of the values that they stand in count, too.
const MAX_STEPS: usize = 200;

/// One stack's template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'text> {
    /// The stack's name.
    pub stack: &'text str,
    /// The file's name.
    pub file: &'text str,
    /// The template.
    pub text: &'text str,
    /// Where it begins in the text of all.
    pub offset: usize,
}

/// One text of several templates, each with its stack's name and its file's.
pub fn join<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let mut whole = String::new();
    for (stack, file, text) in parts {
        whole.extend([MARK]);
        // What a file is called is nobody's choice here; a line is a line.
        whole.extend([stack, "\t", &file.replace(['\n', MARK], " "), "\n", &text.replace(MARK, " "), "\n"]);
    }
    whole
}

/// The templates of a text that [`join`] made, in order; none of any other text.
pub fn parts(whole: &str) -> Vec<Part<'_>> {
    let mut offset = 0;
    let mut found = Vec::new();
    for part in whole.strip_prefix(MARK).into_iter().flat_map(|rest| rest.split(MARK)) {
        let begin = offset + MARK.len_utf8();
        offset = begin + part.len();
        let Some((head, text)) = part.split_once('\n') else { continue };
        let (stack, file) = head.split_once('\t').unwrap_or((head, ""));
        found.push(Part { stack, file, text, offset: begin + head.len() + 1 });
    }
    found
}

/// The template in which something stands.
pub fn part_at(whole: &str, offset: u32) -> Option<Part<'_>> {
    parts(whole).into_iter().rev().find(|part| part.offset <= offset as usize)
}

/// What the reader of one stack is told: its own name, parameters and files. A parameter that no stack declares is the first's.
pub(crate) fn inputs_of(parts: &[Part<'_>], inputs: &Inputs) -> Vec<Inputs> {
    let declared: Vec<BTreeSet<String>> = parts.iter().map(|part| parameters_of(part.text)).collect();
    let of_one = |(at, part): (usize, &Part<'_>)| {
        let is_its_own = |name: &String| {
            declared[at].contains(name) || (at == 0 && !declared.iter().any(|names| names.contains(name)))
        };
        let given = inputs.parameters.iter().filter(|(name, _)| is_its_own(name));
        let files = inputs.files.iter().filter_map(|(name, text)| {
            Some((name.strip_prefix(part.stack)?.strip_prefix(MARK)?.to_owned(), text.clone()))
        });
        Inputs {
            parameters: given.map(|(name, value)| (name.clone(), value.clone())).collect(),
            stack_name: part.stack.to_owned(),
            files: files.collect(),
            // Field by field: the files of all, which may be large, are nobody's.
            previous: inputs.previous.clone(),
            imports: inputs.imports.clone(),
            region: inputs.region.clone(),
            account_id: inputs.account_id.clone(),
            strict: inputs.strict,
            availability_zones: inputs.availability_zones.clone(),
            port: inputs.port,
            elastic_ips: inputs.elastic_ips.clone(),
        }
    };
    parts.iter().enumerate().map(of_one).collect()
}

/// What [`Inputs::files`] calls a file that a stack's template names.
pub fn file_name(stack: &str, location: &str) -> String {
    format!("{stack}{MARK}{location}")
}

/// The files that the templates take parts from: stack and name, as [`include::files_of`] has it.
pub fn files_of<'a>(parts: &[Part<'a>]) -> Vec<(&'a str, String)> {
    let of_one =
        |part: &Part<'a>| include::files_of(part.text).into_iter().map(|file| (part.stack, file)).collect();
    parts.iter().flat_map(|part| -> Vec<_> { of_one(part) }).collect()
}

/// What a stack exports.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    /// Whose it is.
    pub(crate) stack: usize,
    /// Its value, with calls.
    pub(crate) value: Rc<Node>,
    place: Span,
}

/// Joins readers of one stack each to one of them all. Logical ids that several have get their stack's name in front.
pub(crate) fn join_resolvers(mut all: Vec<Resolver<'_>>) -> Option<Resolver<'_>> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for resource in all.iter().flat_map(|resolver| &resolver.resources) {
        *count.entry(resource.id.clone()).or_default() += 1;
    }
    let mut taken: BTreeSet<String> = count.keys().cloned().collect();
    let rest = all.split_off(all.len().min(1));
    let mut whole = all.pop()?;
    let (mut scopes, mut resources) = (Vec::new(), Vec::new());
    let mut parts = vec![(Rc::clone(&whole.scope), std::mem::take(&mut whole.resources))];
    for resolver in rest {
        whole.spent_nodes += resolver.spent_nodes;
        whole.spent_bytes += resolver.spent_bytes;
        whole.first_unknown = whole.first_unknown.or(resolver.first_unknown);
        resolver.problems.into_vec().into_iter().for_each(|problem| whole.problems.push(problem));
        parts.push((resolver.scope, resolver.resources));
    }
    for (stack, (mut scope, found)) in parts.into_iter().enumerate() {
        let before = resources.len();
        if before > 0 {
            Rc::make_mut(&mut scope).names.values_mut().for_each(|at| *at += before);
        }
        let name = letters(&scope.inputs.stack_name);
        for mut resource in found {
            resource.stack = stack;
            if count.get(&resource.id).is_some_and(|count| *count > 1) {
                let mut id = format!("{name}{}", resource.id);
                while !taken.insert(id.clone()) {
                    id.push('0');
                }
                resource.own_id = Some(std::mem::replace(&mut resource.id, id));
            }
            resources.push(resource);
        }
        scopes.push(scope);
    }
    whole.resources = resources;
    whole.scopes = scopes;
    Some(whole)
}

impl Resolver<'_> {
    /// Has names mean what they mean in a stack; answers where they had their meaning before.
    pub(crate) fn enter(&mut self, stack: usize) -> usize {
        if let Some(scope) = self.scopes.get(stack) {
            self.scope = Rc::clone(scope);
        }
        std::mem::replace(&mut self.stack, stack)
    }

    /// The name of one of the stacks.
    fn name_of(&self, stack: usize) -> &str {
        self.scopes.get(stack).map_or("", |scope| &scope.inputs.stack_name)
    }

    /// Finds what the stacks export, and refuses what cannot be deployed one stack after another.
    pub(crate) fn find_exports(&mut self) {
        if self.scopes.len() < 2 {
            return;
        }
        for stack in 0..self.scopes.len() {
            let before = self.enter(stack);
            let outputs = self.scope.outputs.map(Mapping::entries).unwrap_or_default();
            for output in outputs {
                let condition = output.value.get("Condition").and_then(Node::as_str);
                let is_there =
                    condition.is_none_or(|name| self.scope.conditions.get(name).copied().unwrap_or(true));
                let name = output.value.get("Export").and_then(|export| export.get("Name"));
                let (Some(value), Some(name), true) = (output.value.get("Value"), name, is_there) else {
                    continue;
                };
                let place = name.span;
                let Some(name) = early(self, name) else { continue };
                let export = Export { stack, value: Rc::new(value.clone()), place };
                if let Some(other) = self.exports.get(&name) {
                    let by = self.name_of(other.stack);
                    let message = format!("Export with name {name} is already exported by stack {by}");
                    self.problems.push(
                        Problem::at(place, message)
                            .related(other.place, "here")
                            .help("a name is exported once in a Region: give one of them another"),
                    );
                    continue;
                }
                self.exports.insert(name, export);
            }
            self.enter(before);
        }
        self.refuse_circles_of_stacks();
    }

    /// A stack that imports is deployed after the one that exports.
    fn refuse_circles_of_stacks(&mut self) {
        let mut needs: Vec<BTreeMap<usize, Span>> = vec![BTreeMap::new(); self.scopes.len()];
        for at in 0..self.resources.len() {
            let resource = &self.resources[at];
            let (stack, properties) = (resource.stack, Rc::clone(&resource.properties));
            let condition =
                resource.condition.as_ref().and_then(|(name, _)| self.scopes[stack].conditions.get(name));
            if condition == Some(&false) {
                continue;
            }
            for (name, span) in self.imports_in(&properties, stack) {
                if let Some(export) = self.exports.get(&name).filter(|export| export.stack != stack) {
                    needs[stack].entry(export.stack).or_insert(span);
                }
            }
        }
        let edges: Vec<Vec<usize>> = needs.iter().map(|needs| needs.keys().copied().collect()).collect();
        for circle in graph::sort(&edges).circles {
            let mut path: Vec<String> = circle.iter().map(|stack| self.name_of(*stack).to_owned()).collect();
            path.extend(path.first().cloned());
            let next = circle.get(1).or(circle.first());
            let place = circle.first().zip(next).and_then(|(stack, next)| needs[*stack].get(next).copied());
            let problem = Problem::new(place.unwrap_or_default(), Cause::Cycle { what: "stacks", path });
            self.problems.push(
                problem.help("neither can be deployed first: move what both need into a stack of its own"),
            );
        }
    }

    /// The names that a value of a stack imports, as far as they are known before any resource is.
    fn imports_in(&mut self, node: &Node, stack: usize) -> Vec<(String, Span)> {
        if self.exports.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        imports(node, &self.scopes[stack].conditions, &mut |argument| found.push(argument));
        let before = self.enter(stack);
        let names = found.iter().filter_map(|node| Some((early(self, node)?, node.span))).collect();
        self.enter(before);
        names
    }

    /// The resources of other stacks that a resource needs by what it imports.
    pub(crate) fn needed_by_imports(&mut self, at: usize) -> Vec<(usize, Span)> {
        let (stack, properties) = (self.resources[at].stack, Rc::clone(&self.resources[at].properties));
        let mut waiting: Vec<(usize, Rc<Node>, Option<Span>)> = vec![(stack, properties, None)];
        let (mut seen, mut needed) = (BTreeSet::new(), Vec::new());
        for _ in 0..MAX_STEPS {
            let Some((stack, node, span)) = waiting.pop() else { break };
            if let Some(span) = span {
                let names = &self.scopes[stack].names;
                mentions(&node, &mut |mention| {
                    if let Mention::Ref(name, _) | Mention::Attribute(name, ..) = mention {
                        let id = name.split('.').next().unwrap_or_default();
                        needed.extend(names.get(name).or_else(|| names.get(id)).map(|at| (*at, span)));
                    }
                });
            }
            for (name, place) in self.imports_in(&node, stack) {
                if let Some(export) = self.exports.get(&name).filter(|_| seen.insert(name)) {
                    waiting.push((export.stack, Rc::clone(&export.value), span.or(Some(place))));
                }
            }
        }
        needed
    }

    /// The value that another of the stacks exports under this name; nothing if none does.
    pub(crate) fn exported(&mut self, name: &str, span: Span) -> Option<Option<Node>> {
        let export = self.exports.get(name).filter(|export| export.stack != self.stack)?.clone();
        // Exports that name others twice would be followed without end.
        if self.is_spent() {
            return Some(None);
        }
        let steps = self.steps;
        self.steps += 1 + height(&export.value);
        if self.steps > MAX_STEPS {
            let message = format!("the export {} leads to itself, or through too many others", quoted(name));
            self.problems.push(Problem::at(span, message));
            self.steps = steps;
            return Some(None);
        }
        let before = self.enter(export.stack);
        let value = self.value(&export.value);
        self.enter(before);
        self.steps = steps;
        Some(value.map(|value| Node { span, ..value }))
    }
}

/// Calls `visit` for the argument of each `Fn::ImportValue`, but in branches that are not taken.
fn imports(node: &Node, conditions: &BTreeMap<String, bool>, visit: &mut dyn FnMut(Node)) {
    let call = Call::of(node);
    if let Some(call) = call.filter(|call| call.name == "ImportValue") {
        // Behind a tag the argument is the node that bears it.
        let tag = call.argument.tag.clone().filter(|_| !call.tagged);
        visit(Node { tag, ..call.argument.clone() });
    }
    if let Some([condition, yes, no]) = call.filter(|call| call.name == "If").and_then(|call| call.items())
        && let Some(holds) = condition.as_str().and_then(|name| conditions.get(name))
    {
        return imports(if *holds { yes } else { no }, conditions, visit);
    }
    match &node.kind {
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => items.iter().for_each(|item| imports(item, conditions, visit)),
        Kind::Mapping(mapping) => {
            mapping.entries().iter().for_each(|entry| imports(&entry.value, conditions, visit));
        }
    }
}
