//! A resource's properties, read by type and with problems recorded.

use crate::problem::Problems;
use crate::yaml::{Kind, Mapping, Node, Span};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The properties of one resource, or of a part of one.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    mapping: &'a Mapping,
    /// `CartFunction (AWS::Lambda::Function)`, for messages.
    owner: String,
    /// Where a missing property is reported.
    pub(super) span: Span,
}

impl<'a> Fields<'a> {
    pub(super) fn new(mapping: &'a Mapping, owner: String, span: Span) -> Self {
        Self { mapping, owner, span }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.mapping.get(key)
    }

    pub(super) fn mapping(&self) -> &'a Mapping {
        self.mapping
    }

    pub(super) fn require(&self, key: &str, problems: &mut Problems) -> Option<&'a Node> {
        self.mapping.require(key, &self.owner, self.span, problems)
    }

    /// A property that is itself a mapping.
    pub(super) fn inner(&self, key: &str, problems: &mut Problems) -> Option<Fields<'a>> {
        let node = self.get(key)?;
        let mapping = node.mapping(problems)?;
        Some(Self { mapping, owner: format!("{key} of {}", self.owner), span: node.span })
    }

    /// A list of mappings.
    pub(super) fn inners(&self, key: &str, problems: &mut Problems) -> Vec<Fields<'a>> {
        let items = self.get(key).and_then(|node| node.sequence(problems)).unwrap_or_default();
        items
            .iter()
            .filter_map(|node| {
                let mapping = node.mapping(problems)?;
                Some(Self { mapping, owner: format!("{key} of {}", self.owner), span: node.span })
            })
            .collect()
    }

    pub(super) fn string(&self, key: &str, problems: &mut Problems) -> Option<String> {
        self.get(key)?.string(problems).map(str::to_owned)
    }

    pub(super) fn boolean(&self, key: &str, default: bool, problems: &mut Problems) -> bool {
        self.get(key).and_then(|node| node.boolean(problems)).unwrap_or(default)
    }

    /// A number within `range`; `unit` stands behind the property's name in messages.
    pub(super) fn number(
        &self,
        key: &str,
        unit: &str,
        range: RangeInclusive<u32>,
        problems: &mut Problems,
    ) -> Option<u32> {
        let what = if unit.is_empty() { key.to_owned() } else { format!("{key} in {unit}") };
        let range = i64::from(*range.start())..=i64::from(*range.end());
        u32::try_from(self.get(key)?.integer(&what, range, problems)?).ok()
    }

    /// A list of texts; a single text counts as a list of one.
    pub(super) fn strings(&self, key: &str, problems: &mut Problems) -> Vec<String> {
        self.items(key, problems)
            .into_iter()
            .filter_map(|node| node.string(problems).map(str::to_owned))
            .collect()
    }

    /// A list's items; a single text counts as a list of one.
    pub(super) fn items(&self, key: &str, problems: &mut Problems) -> Vec<&'a Node> {
        match self.get(key) {
            None => Vec::new(),
            Some(node) if matches!(node.kind, Kind::Scalar(_)) => vec![node],
            Some(node) => node.sequence(problems).unwrap_or_default().iter().collect(),
        }
    }

    /// A mapping of texts; `[{Key: k, Value: v}]`, as tags are written, counts too.
    pub(super) fn string_map(&self, key: &str, problems: &mut Problems) -> BTreeMap<String, String> {
        let Some(node) = self.get(key) else { return BTreeMap::new() };
        if let Some(items) = node.as_sequence() {
            let pair = |item: &Node| {
                let text = |key: &str| item.get(key).and_then(Node::as_str).map(str::to_owned);
                Some((text("Key")?, text("Value").unwrap_or_default()))
            };
            return items.iter().filter_map(pair).collect();
        }
        let Some(mapping) = node.mapping(problems) else { return BTreeMap::new() };
        let texts = mapping.entries().iter().filter_map(|entry| {
            let value = if entry.value.is_null() { Some("") } else { entry.value.string(problems) };
            Some((entry.key.to_string(), value?.to_owned()))
        });
        texts.collect()
    }
}
