//! The `Conditions` section: evaluated once, those first on which others depend.

use super::Resolver;
use crate::graph;
use crate::intrinsic::{Call, Mention, mentions};
use crate::problem::{Cause, Problem};
use crate::yaml::{Kind, Mapping, Node, Span};
use std::collections::BTreeMap;
use std::rc::Rc;

impl Resolver<'_> {
    /// Evaluates all conditions; one that cannot be is false, and reported.
    pub(crate) fn evaluate_conditions(&mut self, section: &Mapping) {
        let entries = section.entries();
        let numbers: BTreeMap<&str, usize> =
            entries.iter().enumerate().map(|(at, entry)| (&*entry.key, at)).collect();
        let edges: Vec<Vec<usize>> = entries
            .iter()
            .map(|entry| {
                let mut needed = Vec::new();
                condition_names(&entry.value, &mut |name, _| {
                    needed.extend(numbers.get(name).copied());
                });
                needed
            })
            .collect();
        let order = graph::sort(&edges);
        for circle in &order.circles {
            let mut path: Vec<String> = circle.iter().map(|at| entries[*at].key.to_string()).collect();
            path.extend(path.first().cloned());
            let place = entries[circle[0]].key_span;
            self.problems.push(Problem::new(place, Cause::Cycle { what: "conditions", path }));
        }
        for entry in entries {
            Rc::make_mut(&mut self.scope).conditions.insert(entry.key.to_string(), false);
        }
        for at in order.sorted {
            let met = self.condition(&entries[at].value).unwrap_or(false);
            Rc::make_mut(&mut self.scope).conditions.insert(entries[at].key.to_string(), met);
        }
    }

    /// Whether a condition is met.
    fn condition(&mut self, node: &Node) -> Option<bool> {
        let Some(call) = condition_call(node) else {
            self.problems
                .push(Problem::wrong_type(node, "Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition"));
            return None;
        };
        let span = node.span;
        match call.name {
            "Condition" => {
                let Some(name) = call.argument.as_str() else {
                    self.problems.push(Problem::wrong_type(call.argument, "the name of a condition"));
                    return None;
                };
                self.scope.conditions.get(name).copied()
            }
            "Equals" => {
                let Some([left, right]) = call.items() else {
                    self.misused(call, span, "[value, value]");
                    return None;
                };
                let (left, right) = (self.value(left)?, self.value(right)?);
                Some(equal(&left, &right))
            }
            "Not" => {
                let Some([inner]) = call.items() else {
                    self.misused(call, span, "[condition]");
                    return None;
                };
                self.condition(inner).map(|met| !met)
            }
            "And" | "Or" => {
                let Some(items) = call.items().filter(|items| (2..=10).contains(&items.len())) else {
                    self.misused(call, span, "2 to 10 conditions");
                    return None;
                };
                let met: Option<Vec<bool>> = items.iter().map(|item| self.condition(item)).collect();
                let wanted_all = call.name == "And";
                met.map(
                    |met| if wanted_all { met.iter().all(|one| *one) } else { met.iter().any(|one| *one) },
                )
            }
            _ => {
                self.problems
                    .push(Problem::wrong_type(node, "Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition"));
                None
            }
        }
    }
}

/// Within conditions `{Condition: Name}` is a call, which it is nowhere else.
fn condition_call(node: &Node) -> Option<Call<'_>> {
    if let Some(call) = Call::of(node) {
        return Some(call);
    }
    let [entry] = node.as_mapping()?.entries() else { return None };
    (&*entry.key == "Condition").then_some(Call { name: "Condition", argument: &entry.value, tagged: false })
}

/// The names of all conditions that a condition mentions.
pub(crate) fn condition_names<'node>(node: &'node Node, visit: &mut dyn FnMut(&'node str, Span)) {
    mentions(node, &mut |mention| {
        if let Mention::Condition(name, span) = mention {
            visit(name, span);
        }
    });
    long_form(node, visit);
}

fn long_form<'node>(node: &'node Node, visit: &mut dyn FnMut(&'node str, Span)) {
    match &node.kind {
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => items.iter().for_each(|item| long_form(item, visit)),
        Kind::Mapping(mapping) => {
            for entry in mapping.entries() {
                if &*entry.key == "Condition"
                    && let Some(name) = entry.value.as_str()
                {
                    visit(name, entry.value.span);
                }
                long_form(&entry.value, visit);
            }
        }
    }
}

/// Equal as CloudFormation compares: by text, whatever the spelling.
fn equal(left: &Node, right: &Node) -> bool {
    match (&left.kind, &right.kind) {
        (Kind::Scalar(left), Kind::Scalar(right)) => left.value == right.value,
        (Kind::Sequence(left), Kind::Sequence(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        _ => left.kind == right.kind,
    }
}
