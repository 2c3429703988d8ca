//! Parser events into the tree, within the bounds.

use super::json;
use super::node::{Entry, Kind, Mapping, Node, Scalar, Style};
use super::place::{Bytes, Span};
use super::{MAX_ALIAS_BYTES, MAX_DEPTH, MAX_LINE_BYTES, MAX_NODES, MAX_TEXT_BYTES, MAX_YAML_BYTES};
use crate::problem::{Cause, Problem, Problems};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The root of the text's one document.
pub(super) fn read(text: &str) -> Result<(Node, Problems), Vec<Problem>> {
    let start = Span { offset: 0, len: 0, line: 1, column: 1 };
    if text.len() > MAX_TEXT_BYTES {
        let cause = Cause::TooLarge { bytes: text.len(), max: MAX_TEXT_BYTES };
        return Err(vec![Problem::new(start, cause).help("is this really the template?")]);
    }
    // The parser takes NUL for the end of the text and would silently read only what stands before it.
    if let Some(at) = text.find('\0') {
        let before = &text[..at];
        let line = before.matches('\n').count() as u32 + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
        return Err(vec![Problem::new(Span { offset: at as u32, len: 1, line, column }, Cause::NotText)]);
    }
    // JSON is almost YAML, but for surrogate pairs (`\ud83d\ude00`), which only a JSON reader joins. What is not
    // strict JSON may still be YAML's flow style.
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        match json::read(text) {
            Ok(root) => return Ok((root, Problems::new())),
            Err(json::Unread::NotJson) => {}
            Err(json::Unread::TooManyNodes(span)) => {
                return Err(vec![Problem::new(span, Cause::TooManyNodes { max: MAX_NODES })]);
            }
            Err(json::Unread::TooDeep(span)) => {
                return Err(vec![Problem::new(span, Cause::TooDeep { max: MAX_DEPTH })]);
            }
        }
    }
    if text.len() > MAX_YAML_BYTES {
        let cause = Cause::TooLarge { bytes: text.len(), max: MAX_YAML_BYTES };
        return Err(vec![Problem::new(start, cause).help("strict JSON may be larger")]);
    }
    // The scanner keeps all tokens of a line in hand while a bracket at its start may still turn out to be a key.
    if let Some((number, line)) = text.split('\n').enumerate().find(|(_, line)| line.len() > MAX_LINE_BYTES) {
        let offset = line.as_ptr() as usize - text.as_ptr() as usize;
        let span = Span { offset: offset as u32, len: 0, line: number as u32 + 1, column: 1 };
        let cause = Cause::LongLine { bytes: line.len(), max: MAX_LINE_BYTES };
        return Err(vec![Problem::new(span, cause).help("break the line, or write strict JSON")]);
    }
    let mut reader = Reader {
        text,
        bytes: Bytes::new(text),
        open: Vec::new(),
        root: None,
        anchors: BTreeMap::new(),
        nodes: 0,
        alias_bytes: 0,
        problems: Problems::new(),
        twice: Problems::new(),
    };
    if let Err(fatal) = reader.run() {
        return Err(vec![*fatal]);
    }
    match reader.root {
        _ if !reader.problems.is_empty() => Err(reader.problems.into_vec()),
        Some(root) if !root.is_null() => Ok((root, reader.twice)),
        _ => Err(vec![Problem::new(start, Cause::Empty)]),
    }
}

/// Boxed because it is large and rare.
type Fatal = Box<Problem>;

/// A list or mapping whose end has not come.
struct Open {
    anchor: usize,
    tag: Option<Box<str>>,
    start: Span,
    inside: Inside,
}

enum Inside {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<(Box<str>, Span)> },
}

/// What an anchor names; `None` while its end has not come.
struct Anchored {
    node: Node,
    nodes: usize,
    bytes: usize,
}

struct Reader<'text> {
    text: &'text str,
    bytes: Bytes<'text>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    alias_bytes: usize,
    problems: Problems,
    twice: Problems,
}

impl<'text> Reader<'text> {
    /// What helps where a bracket in the middle of a word stopped the parser: `{Path: /carts/{id}}`.
    fn unquoted(&self, at: Span) -> Option<String> {
        let (before, rest) = self.text.split_at_checked(at.offset as usize)?;
        let goes_on = |last: char| !last.is_whitespace() && !"{}[],:".contains(last);
        (rest.starts_with(['{', '[']) && before.ends_with(goes_on))
            .then(|| "between brackets, a text that has some stands in quotes: `'/carts/{id}'`".to_owned())
    }

    fn run(&mut self) -> Result<(), Fatal> {
        let mut parser = Parser::<'text, StrInput<'text>>::new_from_str(self.text);
        while let Some(event) = parser.next_event() {
            let (event, place) = event.map_err(|error| {
                let at = self.span(*error.marker(), *error.marker());
                // The scanner reads ahead of us, and stops at 255 brackets.
                if error.info() == "recursion limit exceeded" {
                    return Box::new(Problem::new(at, Cause::TooDeep { max: MAX_DEPTH }));
                }
                let cause = Cause::Syntax { language: "YAML", info: error.info().to_owned() };
                Box::new(Problem::new(at, cause).maybe_help(self.unquoted(at)))
            })?;
            let span = self.span(place.start, place.end);
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(_) if self.root.is_some() => {
                    return fatal(span, Cause::SeveralDocuments);
                }
                Event::DocumentStart(_) => {}
                Event::Scalar(value, style, anchor, tag) => {
                    self.scalar(value, style, anchor, tag.as_deref(), span)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.begin(anchor, tag.as_deref(), span, Inside::Sequence(Vec::new()))?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.begin(
                        anchor,
                        tag.as_deref(),
                        span,
                        Inside::Mapping { entries: Vec::new(), key: None },
                    )?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
                Event::Alias(anchor) => self.alias(anchor, span)?,
            }
        }
        Ok(())
    }

    fn span(&self, start: Marker, end: Marker) -> Span {
        let (from, to) = (self.bytes.of(start.index()), self.bytes.of(end.index()));
        Span {
            offset: from as u32,
            len: to.saturating_sub(from) as u32,
            line: start.line() as u32,
            column: start.col() as u32 + 1,
        }
    }

    fn scalar(
        &mut self,
        value: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Fatal> {
        self.count(span)?;
        let (tag, forced) = short(tag);
        let style = if style == ScalarStyle::Plain && !forced { Style::Plain } else { Style::Quoted };
        let node = Node { kind: Kind::Scalar(Scalar { value: value.into(), style }), tag, span };
        self.put(node, anchor)
    }

    fn begin(&mut self, anchor: usize, tag: Option<&Tag>, start: Span, inside: Inside) -> Result<(), Fatal> {
        self.count(start)?;
        if self.open.len() >= MAX_DEPTH {
            return fatal(start, Cause::TooDeep { max: MAX_DEPTH });
        }
        self.open.push(Open { anchor, tag: short(tag).0, start, inside });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), Fatal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let span = self.first_line(open.start, end);
        let kind = match open.inside {
            Inside::Sequence(items) => Kind::Sequence(items),
            Inside::Mapping { entries, .. } => {
                let mut entries = self.merge(entries);
                self.keep_last(&mut entries);
                Kind::Mapping(Mapping::new(entries))
            }
        };
        self.put(Node { kind, tag: open.tag, span }, open.anchor)
    }

    /// A list or mapping is shown by its first line; all of it would be an excerpt of pages.
    fn first_line(&self, start: Span, end: Span) -> Span {
        let from = start.offset as usize;
        let rest = self.text.get(from..end.end().max(from)).unwrap_or_default();
        let line = rest.split(['\n', '\r']).next().unwrap_or_default().trim_end();
        Span { len: line.len() as u32, ..start }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fatal> {
        let Some(anchored) = self.anchors.get(&anchor) else { return fatal(span, Cause::RecursiveAlias) };
        let (nodes, bytes) = (anchored.nodes, anchored.bytes);
        self.spend(nodes, bytes, span)?;
        let Some(anchored) = self.anchors.get(&anchor) else { return Ok(()) };
        let node = anchored.node.clone();
        if self.open.len() + height(&node) > MAX_DEPTH {
            return fatal(span, Cause::TooDeep { max: MAX_DEPTH });
        }
        self.put(node, 0)
    }

    /// Accounts for a copy before it is made.
    fn spend(&mut self, nodes: usize, bytes: usize, span: Span) -> Result<(), Fatal> {
        self.nodes += nodes;
        self.alias_bytes += bytes;
        if self.nodes > MAX_NODES {
            return fatal(span, Cause::TooManyNodes { max: MAX_NODES });
        }
        if self.alias_bytes > MAX_ALIAS_BYTES {
            return fatal(span, Cause::TooMuchText { max: MAX_ALIAS_BYTES });
        }
        Ok(())
    }

    /// Gives a finished value to what is open around it.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Fatal> {
        if anchor > 0 {
            let (nodes, bytes) = weight(&node);
            self.spend(nodes, bytes, node.span)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, bytes });
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::Sequence(items)) => items.push(node),
            Some(Inside::Mapping { entries, key }) => match key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                None => match node.kind {
                    Kind::Scalar(scalar) => *key = Some((scalar.value, node.span)),
                    _ => {
                        let cause = Cause::BadKey { found: node.describe() };
                        self.problems.push(Problem::new(node.span, cause));
                        *key = Some(("".into(), node.span));
                    }
                },
            },
        }
        Ok(())
    }

    /// `<<: *defaults` and `<<: [*a, *b]`: keys that are not there yet are taken over.
    fn merge(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        if !entries.iter().any(|entry| &*entry.key == "<<") {
            return entries;
        }
        let mut present: BTreeSet<Box<str>> = entries.iter().map(|entry| entry.key.clone()).collect();
        let (merges, mut own): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| &*entry.key == "<<");
        for merge in merges {
            let sources = match merge.value.kind {
                Kind::Sequence(items) => items,
                _ => vec![merge.value],
            };
            for source in sources {
                let span = source.span;
                let Kind::Mapping(mapping) = source.kind else {
                    let cause =
                        Cause::WrongType { expected: "a mapping to merge".into(), found: source.describe() };
                    self.problems.push(Problem::new(span, cause));
                    continue;
                };
                own.extend(
                    mapping.into_entries().into_iter().filter(|entry| present.insert(entry.key.clone())),
                );
            }
        }
        own
    }

    /// Of keys that stand twice the last is kept, and each one after the first is told.
    fn keep_last(&mut self, entries: &mut Vec<Entry>) {
        let mut first: BTreeMap<&str, Span> = BTreeMap::new();
        for entry in entries.iter() {
            if let Some(before) = first.get(&*entry.key) {
                let cause = Cause::DuplicateKey { key: entry.key.to_string() };
                let problem = Problem::new(entry.key_span, cause).label("again here");
                self.twice.push(problem.related(*before, "first here"));
            } else {
                first.insert(&entry.key, entry.key_span);
            }
        }
        if first.len() < entries.len() {
            let mut later = BTreeSet::new();
            entries.reverse();
            entries.retain(|entry| later.insert(entry.key.clone()));
            entries.reverse();
        }
    }

    fn count(&mut self, span: Span) -> Result<(), Fatal> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { fatal(span, Cause::TooManyNodes { max: MAX_NODES }) } else { Ok(()) }
    }
}

fn fatal(span: Span, cause: Cause) -> Result<(), Fatal> {
    Err(Box::new(Problem::new(span, cause)))
}

/// The tag as it is kept, and whether it says that a bare scalar is text.
fn short(tag: Option<&Tag>) -> (Option<Box<str>>, bool) {
    match tag {
        None => (None, false),
        Some(tag) if tag.is_yaml_core_schema() => (None, tag.suffix == "str"),
        Some(tag) if tag.suffix.is_empty() && tag.handle.trim_matches('!').is_empty() => (None, true),
        Some(tag) => (Some(format!("{}{}", tag.handle.trim_start_matches('!'), tag.suffix).into()), false),
    }
}

/// How many nodes and bytes of text a copy of `node` takes. Depth is bounded by [`MAX_DEPTH`].
pub(crate) fn weight(node: &Node) -> (usize, usize) {
    let add = |(nodes, bytes): (usize, usize), child: (usize, usize)| (nodes + child.0, bytes + child.1);
    match &node.kind {
        Kind::Scalar(scalar) => (1, scalar.value.len()),
        Kind::Sequence(items) => items.iter().map(weight).fold((1, 0), add),
        Kind::Mapping(mapping) => {
            mapping.entries().iter().map(|e| add(weight(&e.value), (0, e.key.len()))).fold((1, 0), add)
        }
    }
}

/// How many levels of lists and mappings `node` has.
pub(crate) fn height(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 0,
        Kind::Sequence(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Kind::Mapping(mapping) => 1 + mapping.entries().iter().map(|e| height(&e.value)).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, Vec<Problem>> {
        let (root, twice) = super::read(text)?;
        if twice.is_empty() { Ok(root) } else { Err(twice.into_vec()) }
    }

    fn first_problem(text: &str) -> Problem {
        read(text).expect_err(text).remove(0)
    }

    /// Every scalar's span must hold what was written, whatever characters stand before it.
    fn check_spans(node: &Node, text: &str) {
        match &node.kind {
            Kind::Scalar(scalar) if scalar.style == Style::Plain && node.tag.is_none() => {
                assert_eq!(node.span.of(text), &*scalar.value);
            }
            Kind::Scalar(_) => assert!(!node.span.of(text).is_empty()),
            Kind::Sequence(items) => items.iter().for_each(|item| check_spans(item, text)),
            Kind::Mapping(mapping) => {
                for entry in mapping.entries() {
                    assert_eq!(entry.key_span.of(text).trim_matches('"'), &*entry.key);
                    check_spans(&entry.value, text);
                }
            }
        }
    }

    #[test]
    fn spans_are_bytes_of_the_text() {
        for text in [
            "a: b\nc:\n  - d\n  - e\n",
            "\u{feff}a: b\nc: d\n",
            "# ä€😀\nname: é😀x\nnext: [ü, y]\nlast: z\n",
            "{\"a\": {\"ä\": [1, 2, true]}, \"b\": 5}",
            "a: b\r\nc: d\r\n",
        ] {
            check_spans(&read(text).unwrap(), text);
        }
    }

    #[test]
    fn cloudformation_tags_are_kept() {
        let root = read("a: !Ref Vpc\nb: !GetAtt [X, Arn]\nc: !Sub |\n  hello\nd: !!str 5\ne: !If\n  - x\n")
            .unwrap();
        let tag = |key: &str| root.get(key).and_then(|node| node.tag.as_deref());
        assert_eq!(
            [tag("a"), tag("b"), tag("c"), tag("d"), tag("e")],
            [Some("Ref"), Some("GetAtt"), Some("Sub"), None, Some("If")]
        );
    }

    #[test]
    fn bare_words_may_be_nothing_and_quoted_ones_are_text() {
        let root = read("[~, null, '', 'null', !!str null, ! null]").unwrap();
        let nulls: Vec<bool> = root.as_sequence().unwrap().iter().map(Node::is_null).collect();
        assert_eq!(nulls, [true, true, false, false, false, false]);
    }

    #[test]
    fn anchors_aliases_and_merge_keys_are_expanded() {
        let root = read("base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\nlist: [*b]\n").unwrap();
        let mine = root.get("mine").unwrap();
        assert_eq!(mine.get("x").and_then(Node::as_str), Some("1"));
        assert_eq!(mine.get("y").and_then(Node::as_str), Some("3"));
        assert_eq!(
            root.get("list").unwrap().as_sequence().unwrap()[0].get("y").and_then(Node::as_str),
            Some("2")
        );
    }

    #[test]
    fn braces_in_a_text_between_brackets_are_told_to_want_quotes() {
        for text in ["a: {Path: /carts/{id}, Method: get}", "- [/ä/{id}]", "a: {b: x[0]}"] {
            let help = first_problem(text).help.unwrap_or_default();
            assert!(help.contains("stands in quotes"), "{text}: {help}");
        }
        assert_eq!(read("a: /carts/{id}").unwrap().get("a").and_then(Node::as_str), Some("/carts/{id}"));
        for text in ["a: {b: c", "a: {b: 'c' {}}", "a: [1, 2}", "a: b: {}"] {
            assert_eq!(first_problem(text).help, None, "{text}");
        }
    }

    #[test]
    fn bad_texts_are_refused_with_a_place() {
        let bomb = {
            let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
            for level in 1..12 {
                let alias = format!("*a{}", level - 1);
                text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(","));
            }
            text
        };
        let wide_bomb = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1000].join(","));
        let deep_block = "- ".repeat(5000) + "x";
        for (text, line, expected) in [
            ("a: b\n c: d: e\n".to_owned(), 2, "not valid YAML"),
            ("a: [1, 2\nb: 3\n".to_owned(), 2, "not valid YAML"),
            ("a: \"unclosed\n".to_owned(), 1, "not valid YAML"),
            (bomb, 6, "counting each use of an alias"),
            (wide_bomb, 2, "the aliases expand to more than"),
            ("[".repeat(5000), 1, "nested more than 100 deep"),
            (deep_block, 1, "nested more than 100 deep"),
            ("a: &a [*a]\n".to_owned(), 1, "inside the value it names"),
            ("a: 1\nb: 2\na: 3\n".to_owned(), 3, "the key `a` stands here a second time"),
            ("? [x]\n: y\n".to_owned(), 1, "a key must be text"),
            ("a: 1\n---\nb: 2\n".to_owned(), 2, "a second document"),
            ("a: \u{0} b".to_owned(), 1, "NUL"),
            (format!("a: 1\nb: [{}]\n", "x,".repeat(MAX_LINE_BYTES / 2)), 2, "this line has 262149 bytes"),
            (String::new(), 1, "the file is empty"),
            ("# only a comment\n".to_owned(), 1, "the file is empty"),
            ("x\n".repeat(MAX_YAML_BYTES / 2 + 1), 1, "is the most that is read"),
            ("x".repeat(MAX_TEXT_BYTES + 1), 1, "is the most that is read"),
        ] {
            let problem = first_problem(&text);
            let start: String = text.chars().take(40).collect();
            assert!(problem.message().contains(expected), "{start}: {problem}");
            assert_eq!(problem.span.line, line, "{start}: {problem}");
            assert!(problem.span.end() <= text.len() + 1, "{start}: {problem:?}");
        }
    }

    #[test]
    fn every_duplicate_is_reported() {
        let problems = read("a: 1\nb: {x: 1, x: 2}\na: 2\n").unwrap_err();
        let lines: Vec<u32> = problems.iter().map(|problem| problem.span.line).collect();
        assert_eq!(lines, [2, 3]);
        assert_eq!(problems[1].related[0].span.line, 1);
    }

    #[test]
    fn json_as_tools_write_it() {
        for text in [
            "{\n\t\"a\": {\n\t\t\"b\": [\n\t\t\t1,\n\t\t\t\"x\"\n\t\t]\n\t}\n}\n",
            "{\"a\":{\"b\":[1,\"x\"]}}",
            "{\r\n  \"a\" : { \"b\" : [ 1 , \"x\" ] }\r\n}",
        ] {
            let root = read(text).unwrap_or_else(|problems| panic!("{text}: {}", problems[0]));
            let items = root.get("a").and_then(|a| a.get("b")).and_then(Node::as_sequence).unwrap();
            assert_eq!(items.len(), 2);
        }
        let root =
            read(r#"{"a": "\ud83d\ude00 \/ \u00e9"}"#).unwrap_or_else(|problems| panic!("{}", problems[0]));
        assert_eq!(root.get("a").and_then(Node::as_str), Some("😀 / é"));
    }
}
