//! The tree, and accessors that record a problem when a value is not what is wanted.

use super::Span;
use crate::problem::{Cause, Problem, Problems, quoted};
use crate::suggest::{did_you_mean, nearest};
use std::ops::RangeInclusive;

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bare: may mean a number, a boolean or nothing.
    Plain,
    /// In single or double quotes, or as a block (`|`, `>`): always text.
    Quoted,
}

/// A single value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// The text, without quotes and with escapes resolved.
    pub value: Box<str>,
    /// How it was written.
    pub style: Style,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values.
    Mapping(Mapping),
}

/// The tag of a value that could not be had. No document can hold it, for a tag has no space.
const UNKNOWN: &str = "not known";

/// One value of the document, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it holds.
    pub kind: Kind,
    /// The tag without `!`: `Ref` for `!Ref`.
    pub tag: Option<Box<str>>,
    /// Where it stands. Of a list or mapping: its first line.
    pub span: Span,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Box<str>,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// Keys and values in the order they were written; no key stands twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    entries: Vec<Entry>,
}

impl Mapping {
    /// A mapping of these entries; the caller sees to it that no key stands twice.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// All entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All entries, to change; no key may stand twice.
    pub(crate) fn entries_mut(&mut self) -> &mut Vec<Entry> {
        &mut self.entries
    }

    /// All entries, in order, owned.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of `key`. Cost: linear.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| &*entry.key == key)
    }

    /// The value of `key`, if it is there and is not null. Cost: linear.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// The value of `key`; its absence is a problem at `place`, in which `owner` names what needs it.
    pub fn require(&self, key: &str, owner: &str, place: Span, problems: &mut Problems) -> Option<&Node> {
        let found = self.get(key);
        if found.is_none() {
            let cause = Cause::Missing { key: key.to_owned(), owner: owner.to_owned() };
            let keys = self.entries.iter().map(|entry| &*entry.key);
            let help =
                nearest(key, keys).map(|found| format!("`{found}` stands here: did you mean `{key}`?"));
            problems.push(Problem::new(place, cause).maybe_help(help));
        }
        found
    }

    /// Records a problem for each key that is not among `known`.
    pub fn only(&self, known: &[&str], problems: &mut Problems) {
        for entry in &self.entries {
            if !known.contains(&&*entry.key) {
                if problems.is_full() {
                    problems.drop_one();
                    continue;
                }
                let help = did_you_mean(&entry.key, known.iter().copied())
                    .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
                let cause = Cause::Unknown { what: "the key", name: entry.key.to_string() };
                problems.push(Problem::new(entry.key_span, cause).help(help));
            }
        }
    }
}

impl Node {
    /// A text value that stands where `span` says.
    pub fn text(value: impl Into<Box<str>>, span: Span) -> Self {
        Self { kind: Kind::Scalar(Scalar { value: value.into(), style: Style::Quoted }), tag: None, span }
    }

    /// A list that stands where `span` says.
    pub fn list(items: Vec<Node>, span: Span) -> Self {
        Self { kind: Kind::Sequence(items), tag: None, span }
    }

    /// Moves it, and all that is in it, to where the text begins `by` bytes later.
    pub(crate) fn shift(&mut self, by: u32) {
        self.span = self.span.moved(by);
        match &mut self.kind {
            Kind::Scalar(_) => {}
            Kind::Sequence(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Kind::Mapping(mapping) => {
                for entry in mapping.entries_mut() {
                    entry.key_span = entry.key_span.moved(by);
                    entry.value.shift(by);
                }
            }
        }
    }

    /// A value that could not be had, which has been reported: accessors give nothing for it, and say no more.
    pub(crate) fn unknown(span: Span) -> Self {
        let scalar = Scalar { value: "".into(), style: Style::Quoted };
        Self { kind: Kind::Scalar(scalar), tag: Some(UNKNOWN.into()), span }
    }

    /// Whether this is a value that could not be had.
    pub(crate) fn is_unknown(&self) -> bool {
        self.tag.as_deref() == Some(UNKNOWN)
    }

    /// Whether nothing was written, or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(Scalar { value, style: Style::Plain })
            if self.tag.is_none() && matches!(&**value, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar, however it was written; nothing for null, lists and mappings.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) if !self.is_null() && !self.is_unknown() => Some(&scalar.value),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The keys and values.
    pub fn as_mapping(&self) -> Option<&Mapping> {
        match &self.kind {
            Kind::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// The value of `key` when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?.get(key)
    }

    /// What stands here, for messages: "a list", "the text `abc`".
    pub fn describe(&self) -> String {
        let tag = self.tag.as_deref().map(|tag| format!(" tagged !{tag}")).unwrap_or_default();
        match &self.kind {
            _ if self.is_null() => "nothing".to_owned(),
            Kind::Sequence(_) => format!("a list{tag}"),
            Kind::Mapping(_) => format!("a mapping{tag}"),
            Kind::Scalar(scalar) if scalar.style == Style::Quoted => {
                format!("the text {}{tag}", quoted(&scalar.value))
            }
            Kind::Scalar(scalar) => format!("{}{tag}", quoted(&scalar.value)),
        }
    }

    /// Text; numbers and booleans count as the text they were written as.
    pub fn string(&self, problems: &mut Problems) -> Option<&str> {
        self.wanted("text", self.as_str(), problems)
    }

    /// A whole number from 0.
    pub fn unsigned(&self, problems: &mut Problems) -> Option<u64> {
        self.wanted(
            "a whole number from 0",
            self.as_str().and_then(|text| text.trim().parse().ok()),
            problems,
        )
    }

    /// A whole number within `range`; `what` names it with its unit ("the timeout in seconds").
    pub fn integer(&self, what: &str, range: RangeInclusive<i64>, problems: &mut Problems) -> Option<i64> {
        let value: i64 = self.wanted("a whole number", self.as_str().and_then(whole), problems)?;
        if range.contains(&value) {
            return Some(value);
        }
        let (min, max) = (*range.start(), *range.end());
        let cause = Cause::OutOfRange { what: what.to_owned(), value: value.to_string(), min, max };
        problems.push(Problem::new(self.span, cause));
        None
    }

    /// A number, finite.
    pub fn number(&self, problems: &mut Problems) -> Option<f64> {
        let value =
            self.as_str().and_then(|text| text.trim().parse::<f64>().ok()).filter(|value| value.is_finite());
        self.wanted("a number", value, problems)
    }

    /// `true` or `false`; YAML 1.1's `yes`, `no`, `on`, `off` count when bare.
    pub fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        let plain = matches!(&self.kind, Kind::Scalar(Scalar { style: Style::Plain, .. }));
        let value = match self.as_str() {
            Some("true" | "True" | "TRUE") => Some(true),
            Some("false" | "False" | "FALSE") => Some(false),
            Some("yes" | "Yes" | "YES" | "on" | "On" | "ON") if plain => Some(true),
            Some("no" | "No" | "NO" | "off" | "Off" | "OFF") if plain => Some(false),
            _ => None,
        };
        self.wanted("true or false", value, problems)
    }

    /// A list.
    pub fn sequence(&self, problems: &mut Problems) -> Option<&[Node]> {
        self.wanted("a list", self.as_sequence(), problems)
    }

    /// Keys and values.
    pub fn mapping(&self, problems: &mut Problems) -> Option<&Mapping> {
        self.wanted("a mapping", self.as_mapping(), problems)
    }

    /// One of some words; anything else is a problem that lists them.
    pub fn one_of<'words>(&self, words: &[&'words str], problems: &mut Problems) -> Option<&'words str> {
        let text = self.string(problems)?;
        let found = words.iter().copied().find(|word| *word == text);
        if found.is_none() {
            let cause =
                Cause::WrongType { expected: format!("one of {}", words.join(", ")), found: self.describe() };
            problems
                .push(Problem::new(self.span, cause).maybe_help(did_you_mean(text, words.iter().copied())));
        }
        found
    }

    fn wanted<T>(&self, expected: &str, value: Option<T>, problems: &mut Problems) -> Option<T> {
        if value.is_none() && !self.is_unknown() {
            problems.push(Problem::wrong_type(self, expected));
        }
        value
    }
}

/// A whole number as YAML and CloudFormation write it: `30`, `+30`, `30.0`.
fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_suffix(".0").unwrap_or(text);
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn accessors_say_what_they_wanted_and_what_they_found() {
        let document =
            parse("t", "list: [1]\ntext: abc\nquoted: '12'\nempty:\nyes: yes\nbig: 901\n").unwrap();
        let top = document.root.as_mapping().unwrap();
        let mut problems = Problems::new();
        let node = |key: &str| top.entry(key).map(|entry| &entry.value).unwrap();
        assert_eq!(node("quoted").unsigned(&mut problems), Some(12));
        assert_eq!(node("yes").boolean(&mut problems), Some(true));
        assert!(problems.is_empty());
        assert_eq!(node("list").number(&mut problems), None);
        assert_eq!(node("text").unsigned(&mut problems), None);
        assert_eq!(node("empty").string(&mut problems), None);
        assert_eq!(node("big").integer("the timeout in seconds", 1..=900, &mut problems), None);
        assert_eq!(node("text").one_of(&["abd", "xyz"], &mut problems), None);
        let said: Vec<String> = problems.into_vec().iter().map(|p| p.one_line("t")).collect();
        assert_eq!(
            said,
            [
                "t:1:7: expected a number, found a list",
                "t:2:7: expected a whole number from 0, found `abc`",
                "t:2:7: expected one of abd, xyz, found `abc` (did you mean `abd`?)",
                "t:4:6: expected text, found nothing",
                "t:6:6: the timeout in seconds is 901, and must be 1 to 900",
            ]
        );
    }

    #[test]
    fn unknown_and_missing_keys_are_named() {
        let document = parse("t", "usres: 5\nzzz: 1\n").unwrap();
        let mut problems = Problems::new();
        let top = document.root.mapping(&mut problems).unwrap();
        top.only(&["users", "rate"], &mut problems);
        assert!(top.require("users", "a phase", document.root.span, &mut problems).is_none());
        let said: Vec<String> = problems.into_vec().iter().map(|p| p.one_line("t")).collect();
        assert_eq!(said[0], "t:1:1: the key `usres` does not exist (did you mean `users`?)");
        assert!(said[1].starts_with("t:1:1: a phase needs `users`"), "{}", said[1]);
        assert_eq!(said[2], "t:2:1: the key `zzz` does not exist (known here: users, rate)");
    }
}
