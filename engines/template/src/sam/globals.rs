//! SAM's `Globals`: what all functions or APIs have in common.
//!
//! Source: AWS SAM Developer Guide, "Globals section": single values of the resource win, mappings are merged, lists are
//! joined with the global items first.

use crate::intrinsic::Call;
use crate::problem::Problem;
use crate::resolve::{Resolver, Resource};
use crate::yaml::{Entry, Kind, Mapping, Node, weight};
use std::rc::Rc;

/// How much the globals may add up to when each resource has got its copy.
const MAX_COPIED_NODES: usize = 1_000_000;
const MAX_COPIED_BYTES: usize = 32 * 1024 * 1024;

/// Whether there is room for a copy of the globals in each resource that gets one.
pub(super) fn fit(globals: &Mapping, resolver: &mut Resolver<'_>) -> bool {
    let copies =
        resolver.resources.iter().filter(|resource| resource.kind.starts_with("AWS::Serverless::")).count();
    for entry in globals.entries() {
        let (nodes, bytes) = weight(&entry.value);
        if nodes.saturating_mul(copies) > MAX_COPIED_NODES || bytes.saturating_mul(copies) > MAX_COPIED_BYTES
        {
            let message = format!("the globals are too large to be copied into {copies} resources");
            resolver.problems.push(Problem::at(entry.key_span, message));
            return false;
        }
    }
    true
}

/// The resource with the section's values where it has none of its own.
pub(super) fn merge_into(resource: Resource, globals: Option<&Mapping>, section: &str) -> Resource {
    match globals.and_then(|globals| globals.get(section)) {
        Some(global) => {
            let properties = Rc::new(merge(global, &resource.properties));
            Resource { properties, ..resource }
        }
        None => resource,
    }
}

fn merge(global: &Node, local: &Node) -> Node {
    if Call::of(global).is_some() || Call::of(local).is_some() {
        return local.clone();
    }
    let kind = match (&global.kind, &local.kind) {
        (Kind::Sequence(global), Kind::Sequence(local)) => {
            Kind::Sequence(global.iter().chain(local).cloned().collect())
        }
        (Kind::Mapping(global), Kind::Mapping(local)) => Kind::Mapping(merge_mappings(global, local)),
        _ => return local.clone(),
    };
    Node { kind, tag: None, span: local.span }
}

fn merge_mappings(global: &Mapping, local: &Mapping) -> Mapping {
    let mut entries: Vec<Entry> = Vec::with_capacity(global.len() + local.len());
    for entry in global.entries() {
        entries.push(match local.entry(&entry.key) {
            Some(own) => Entry { value: merge(&entry.value, &own.value), ..own.clone() },
            None => entry.clone(),
        });
    }
    entries.extend(local.entries().iter().filter(|entry| global.entry(&entry.key).is_none()).cloned());
    Mapping::new(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    #[test]
    fn single_values_are_replaced_mappings_merged_and_lists_joined() {
        let node = |text: &str| parse("t", text).unwrap().root;
        let merged = merge(
            &node(
                "{Timeout: 5, Runtime: a, Layers: [x], Environment: {Variables: {A: 1, B: 2}}, Tags: !Ref T}",
            ),
            &node("{Timeout: 9, Layers: [y], Environment: {Variables: {B: 3, C: 4}}, Tags: {k: v}}"),
        );
        let text = |node: Option<&Node>| node.and_then(Node::as_str).map(str::to_owned);
        assert_eq!(text(merged.get("Timeout")).as_deref(), Some("9"));
        assert_eq!(text(merged.get("Runtime")).as_deref(), Some("a"));
        let layers = merged.get("Layers").unwrap().as_sequence().unwrap();
        assert_eq!(layers.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>(), ["x", "y"]);
        let variables = merged.get("Environment").unwrap().get("Variables").unwrap();
        let all: Vec<_> = variables
            .as_mapping()
            .unwrap()
            .entries()
            .iter()
            .map(|e| (&*e.key, e.value.as_str().unwrap()))
            .collect();
        assert_eq!(all, [("A", "1"), ("B", "3"), ("C", "4")]);
        assert_eq!(text(merged.get("Tags").unwrap().get("k")).as_deref(), Some("v"));
    }
}
