//! Nodes that the transform makes; each bears the place of what it was made from.

use crate::yaml::{Entry, Kind, Mapping, Node, Scalar, Span, Style};

/// Text.
pub(super) fn text(value: &str, span: Span) -> Node {
    Node::text(value, span)
}

/// A mapping.
pub(super) fn mapping(entries: Vec<(&str, Node)>, span: Span) -> Node {
    let entries =
        entries.into_iter().map(|(key, value)| Entry { key: key.into(), key_span: span, value }).collect();
    Node { kind: Kind::Mapping(Mapping::new(entries)), tag: None, span }
}

/// `{Ref: id}`.
pub(super) fn reference(id: &str, span: Span) -> Node {
    mapping(vec![("Ref", text(id, span))], span)
}

/// `{Fn::GetAtt: [id, attribute]}`.
pub(super) fn attribute(id: &str, attribute: &str, span: Span) -> Node {
    mapping(vec![("Fn::GetAtt", Node::list(vec![text(id, span), text(attribute, span)], span))], span)
}

/// `true`.
pub(super) fn yes(span: Span) -> Node {
    Node { kind: Kind::Scalar(Scalar { value: "true".into(), style: Style::Plain }), tag: None, span }
}

/// Properties that are being rewritten.
pub(super) struct Properties {
    entries: Vec<Entry>,
}

impl Properties {
    pub(super) fn of(node: &Node) -> Self {
        Self { entries: node.as_mapping().map(|mapping| mapping.entries().to_vec()).unwrap_or_default() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries
            .iter()
            .find(|entry| &*entry.key == key)
            .map(|entry| &entry.value)
            .filter(|node| !node.is_null())
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Node> {
        let at = self.entries.iter().position(|entry| &*entry.key == key)?;
        Some(self.entries.remove(at).value).filter(|node| !node.is_null())
    }

    pub(super) fn set(&mut self, key: &str, value: Node) {
        self.take(key);
        self.entries.push(Entry { key: key.into(), key_span: value.span, value });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| &*entry.key == from) {
            entry.key = to.into();
        }
    }

    pub(super) fn default(&mut self, key: &str, value: impl FnOnce() -> Node) {
        if self.get(key).is_none() {
            self.set(key, value());
        }
    }

    pub(super) fn into_node(self, span: Span) -> Node {
        Node { kind: Kind::Mapping(Mapping::new(self.entries)), tag: None, span }
    }
}
