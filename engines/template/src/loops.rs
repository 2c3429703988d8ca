//! `Fn::ForEach`: fragments of a template repeated for each value of a collection, before anything else is read.
//!
//! Source: CloudFormation Template Reference, "Fn::ForEach" (published): it needs the transform `AWS::LanguageExtensions` and
//! stands in `Conditions`, `Outputs` and `Resources` with all that is in them, in another too; `${Identifier}` and
//! `&{Identifier}`, this one without what is neither letter nor digit, are replaced in keys and values, as is a `Ref` to it.

use crate::Inputs;
use crate::intrinsic::Call;
use crate::parameters::{self, Values};
use crate::problem::{Problem, Problems, quoted};
use crate::yaml::{Entry, Kind, Mapping, Node, Scalar, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const SIGN: &str = "Fn::ForEach::";
const SECTIONS: [&str; 3] = ["Conditions", "Resources", "Outputs"];
const TRANSFORM: &str = "AWS::LanguageExtensions";
/// How many values, and how much text, all loops of a template may give together, in vain too.
const MAX_REPEATED_NODES: usize = 400_000;
const MAX_REPEATED_BYTES: usize = 32 * 1024 * 1024;
/// How many keys of a map are looked through in the time that a value takes.
const KEYS_A_VALUE: usize = 32;

/// Puts in the place of each loop what it gives. Says what is wrong with loops; these give nothing.
pub(crate) fn expand(root: &mut Node, text: &str, inputs: &Inputs) -> Vec<Problem> {
    let mut texts = inputs.files.values().flatten().map(String::as_str).chain([text]);
    if !texts.any(|text| text.contains(SIGN)) {
        return Vec::new();
    }
    let transform = root.get("Transform");
    let names = transform.and_then(Node::as_sequence).or(transform.map(std::slice::from_ref));
    let is_asked = names.unwrap_or_default().iter().any(|name| name.as_str() == Some(TRANSFORM));
    let declared = root.get("Parameters").and_then(Node::as_mapping);
    // What is wrong with them is told when they are read for their own sake.
    let mut parameters = parameters::read(declared, root.span, inputs, &mut Problems::new());
    for (name, value) in [("AWS::AccountId", &inputs.account_id), ("AWS::Region", &inputs.region)] {
        parameters.insert(name.to_owned(), Some(Node::text(value.as_str(), root.span)));
    }
    let resources =
        root.get("Resources").and_then(Node::as_mapping).map(Mapping::entries).unwrap_or_default();
    let known = Known {
        parameters,
        mappings: root.get("Mappings").cloned(),
        resources: resources.iter().map(|entry| entry.key.to_string()).collect(),
    };
    let mut loops = Loops {
        is_asked,
        known: &known,
        names: BTreeMap::new(),
        nodes: 0,
        bytes: 0,
        is_told: false,
        problems: Problems::new(),
    };
    if let Kind::Mapping(top) = &mut root.kind {
        for entry in top.entries_mut().iter_mut().filter(|entry| SECTIONS.contains(&&*entry.key)) {
            entry.value = loops.node(&entry.value, &[]);
        }
    }
    loops.problems.into_vec()
}

/// What a collection may depend on.
struct Known {
    /// With the pseudo parameters.
    parameters: Values,
    mappings: Option<Node>,
    /// Logical ids, as written.
    resources: BTreeSet<String>,
}

struct Loops<'known> {
    is_asked: bool,
    known: &'known Known,
    /// Where the loop of each name stands.
    names: BTreeMap<String, Span>,
    nodes: usize,
    bytes: usize,
    /// Whether it was said that this is too much.
    is_told: bool,
    problems: Problems,
}

/// What an identifier stands for in one turn of its loop.
#[derive(Clone)]
struct Bound<'a> {
    identifier: &'a str,
    value: Rc<str>,
}

impl<'known> Loops<'known> {
    /// The same with its loops run and identifiers replaced.
    fn node(&mut self, node: &Node, bound: &[Bound<'_>]) -> Node {
        if !bound.is_empty() {
            self.nodes += 1;
        }
        if self.is_spent(node.span) {
            return Node::unknown(node.span);
        }
        if let Some(value) = reference(node).and_then(|name| value_of(name, bound)) {
            self.bytes += value.len();
            return Node::text(&**value, node.span);
        }
        let kind = match &node.kind {
            Kind::Scalar(scalar) => {
                let value = self.replaced(&scalar.value, bound, node.span);
                Kind::Scalar(Scalar { value, ..scalar.clone() })
            }
            Kind::Sequence(items) => {
                Kind::Sequence(items.iter().map(|item| self.node(item, bound)).collect())
            }
            Kind::Mapping(mapping) => Kind::Mapping(self.mapping(mapping, bound)),
        };
        let made = Node { kind, tag: node.tag.clone(), span: node.span };
        if bound.is_empty() { made } else { spelled_out(made) }
    }

    fn mapping(&mut self, mapping: &Mapping, bound: &[Bound<'_>]) -> Mapping {
        let (mut entries, mut keys) = (Vec::with_capacity(mapping.len()), BTreeSet::new());
        self.entries(mapping, bound, &mut |entry, problems| {
            if keys.insert(entry.key.clone()) {
                entries.push(entry);
            } else {
                let message = format!("a loop gives the key {} twice", quoted(&entry.key));
                let help = "a key in a loop holds its identifier, as in `Table${Name}`";
                problems.push(Problem::at(entry.key_span, message).help(help));
            }
        });
        Mapping::new(entries)
    }

    fn entries(&mut self, mapping: &Mapping, bound: &[Bound<'_>], put: &mut dyn FnMut(Entry, &mut Problems)) {
        for entry in mapping.entries() {
            if let Some(name) = entry.key.strip_prefix(SIGN) {
                self.run(name, entry, bound, put);
                continue;
            }
            let key = self.replaced(&entry.key, bound, entry.key_span);
            let value = self.node(&entry.value, bound);
            put(Entry { key, key_span: entry.key_span, value }, &mut self.problems);
        }
    }

    fn run(
        &mut self,
        name: &str,
        entry: &Entry,
        bound: &[Bound<'_>],
        put: &mut dyn FnMut(Entry, &mut Problems),
    ) {
        self.nodes += 1;
        if self.is_spent(entry.key_span) {
            return;
        }
        let mut refuse = |message: String, help: &str| {
            self.problems.push(Problem::at(entry.key_span, message).help(help));
        };
        if !self.is_asked {
            let help = format!("add `Transform: {TRANSFORM}` at the top");
            return refuse(format!("Fn::ForEach needs the transform {TRANSFORM}"), &help);
        }
        // "The name must be unique within the template" (there, "Loop logical name"): of whichever section.
        if *self.names.entry(name.to_owned()).or_insert(entry.key_span) != entry.key_span {
            return refuse(format!("there are two loops {}", quoted(name)), "its name is a loop's alone");
        }
        // And it "can't conflict with any logical ID values in the Resources section".
        if self.known.resources.contains(name) {
            let message = format!("the loop {} has the name of a resource", quoted(name));
            return refuse(message, "its name is a loop's alone");
        }
        let Some([identifier, collection, fragment]) = entry.value.as_sequence() else {
            return refuse(
                format!("the loop {} is no list of three", quoted(name)),
                "[Identifier, [values], {key: value}]",
            );
        };
        let (Some(identifier), Some(fragment)) =
            (identifier.string(&mut self.problems), { fragment.mapping(&mut self.problems) })
        else {
            return;
        };
        let Some(values) = self.collection(collection, bound) else { return };
        if values.iter().any(|value| value.starts_with("{{resolve:")) {
            // `&{}` makes a name of it, of one turn for all; `${}` none.
            if self.is_in_key(fragment, &format!("${{{identifier}}}")) {
                let message = "the values of a loop are needed here, and these lie in AWS's parameter store";
                let help = "take a parameter of type CommaDelimitedList";
                return self.problems.push(Problem::at(collection.span, message).help(help));
            }
        }
        let mut bound = bound.to_vec();
        for value in values {
            if self.is_spent(entry.key_span) {
                return;
            }
            bound.push(Bound { identifier, value });
            self.entries(fragment, &bound, put);
            bound.pop();
        }
    }

    /// Whether a key that a fragment gives, by loops in it too, holds this text.
    fn is_in_key(&mut self, fragment: &Mapping, text: &str) -> bool {
        self.nodes += fragment.len() / KEYS_A_VALUE + 1;
        fragment.entries().iter().any(|entry| {
            let inner = entry.value.as_sequence().filter(|_| entry.key.starts_with(SIGN));
            let inner = inner.and_then(|parts| parts.get(2)?.as_mapping());
            entry.key.contains(text) || inner.is_some_and(|inner| self.is_in_key(inner, text))
        })
    }

    /// The values of a list, or of a parameter or a value in a map that is one.
    fn collection(&mut self, node: &Node, bound: &[Bound<'_>]) -> Option<Vec<Rc<str>>> {
        let items = self.list(node, bound).and_then(Node::as_sequence);
        let mut values = Vec::new();
        for item in items.into_iter().flatten() {
            self.nodes += 1;
            if self.is_spent(node.span) {
                return None;
            }
            let Some(text) = self.text(item, bound) else { break };
            values.push(Rc::from(self.replaced(text, bound, node.span)));
        }
        if items.is_none_or(|items| items.len() > values.len()) {
            let wanted = "a list of texts, or a Ref to a parameter of type CommaDelimitedList";
            self.problems.push(Problem::wrong_type(node, wanted));
            return None;
        }
        Some(values)
    }

    fn list<'a>(&mut self, node: &'a Node, bound: &[Bound<'_>]) -> Option<&'a Node>
    where
        'known: 'a,
    {
        let Some(call) = Call::of(node) else { return Some(node) };
        match (call.name, call.items()) {
            ("Ref", _) => self.known.parameters.get(call.argument.as_str()?)?.as_ref(),
            ("FindInMap", Some([keys @ .., last])) if keys.len() == 3 => {
                self.in_map(keys, bound).or_else(|| self.list(last.get("DefaultValue")?, bound))
            }
            ("FindInMap", Some(keys)) => self.in_map(keys, bound),
            _ => None,
        }
    }

    fn in_map(&mut self, keys: &[Node], bound: &[Bound<'_>]) -> Option<&'known Node> {
        keys.iter().try_fold(self.known.mappings.as_ref()?, |map, key| {
            self.nodes += map.as_mapping()?.len() / KEYS_A_VALUE;
            map.get(self.text(key, bound)?)
        })
    }

    /// A text, or what a `Ref` to an identifier or a parameter gives.
    fn text<'a>(&self, node: &'a Node, bound: &'a [Bound<'_>]) -> Option<&'a str>
    where
        'known: 'a,
    {
        match reference(node) {
            Some(name) => value_of(name, bound)
                .map(|value| &**value)
                .or_else(|| self.known.parameters.get(name)?.as_ref()?.as_str()),
            None => node.as_str().filter(|_| node.tag.is_none()),
        }
    }

    /// A text with `${Identifier}` and `&{Identifier}` replaced.
    fn replaced(&mut self, text: &str, bound: &[Bound<'_>], span: Span) -> Box<str> {
        if bound.is_empty() {
            return text.into();
        }
        let (mut result, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once('{') {
            let found = after.split_once('}').and_then(|(name, after)| Some((value_of(name, bound)?, after)));
            result.push_str(before);
            match (before.chars().last(), found) {
                (Some(sign @ ('$' | '&')), Some((value, after))) => {
                    result.pop();
                    let is_kept = |letter: &char| sign == '$' || letter.is_ascii_alphanumeric();
                    let start = result.len();
                    result.extend(value.chars().filter(is_kept));
                    // What is left out takes its time too.
                    self.bytes += value.len() - (result.len() - start);
                    rest = after;
                }
                _ => {
                    result.push('{');
                    rest = after;
                }
            }
            if self.bytes + result.len() > MAX_REPEATED_BYTES {
                break;
            }
        }
        result.push_str(rest);
        self.bytes += result.len();
        self.is_spent(span);
        result.into()
    }

    /// Whether loops gave more than they may, which is told once.
    fn is_spent(&mut self, span: Span) -> bool {
        let is_spent = self.nodes > MAX_REPEATED_NODES || self.bytes > MAX_REPEATED_BYTES;
        if is_spent && !self.is_told {
            self.is_told = true;
            self.problems.push(Problem::at(span, "here the template's loops have given too much"));
        }
        is_spent
    }
}

/// The same as plain text where it is, or its tag stands before, an `Fn::Sub` with nothing left to put in: the transform has
/// `Ref` and `Fn::GetAtt` take names from it.
fn spelled_out(node: Node) -> Node {
    let text = |call: Call<'_>| {
        let text = call.argument.as_str().filter(|text| call.name == "Sub" && !text.contains("${"))?;
        Some(Node::text(text, node.span))
    };
    match (Call::of(&node).and_then(text), Call::of_kind(&node.kind).and_then(text)) {
        (Some(text), _) => text,
        (None, Some(text)) => Node { tag: node.tag, ..text },
        (None, None) => node,
    }
}

/// The name in a `Ref`.
fn reference(node: &Node) -> Option<&str> {
    Call::of(node).filter(|call| call.name == "Ref").and_then(|call| call.argument.as_str())
}

/// What an identifier stands for; the innermost loop's comes first.
fn value_of<'a>(name: &str, bound: &'a [Bound<'_>]) -> Option<&'a Rc<str>> {
    bound.iter().rev().find(|bound| bound.identifier == name).map(|bound| &bound.value)
}
