//! Changes of a text at places: a template or a load, YAML or JSON, whose other lines stay as they are.

use std::ops::Range;
use template::yaml::{self, Entry, Kind, Mapping, Node};

/// A piece of the text, and what stands there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Bytes of the old text; empty for an insertion.
    pub at: Range<usize>,
    /// What comes there.
    pub text: String,
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word or number, without quotes where the language allows.
    Word(String),
    /// `Ref`.
    Ref(String),
    /// `Fn::GetAtt`.
    Attribute(String, &'static str),
    /// A list, on one line.
    List(Vec<Value>),
    /// Keys and values.
    Map(Vec<(&'static str, Value)>),
}

/// A text and its tree.
#[derive(Debug)]
pub struct Sheet<'text> {
    text: &'text str,
    root: Node,
}

/// Puts edits into a text; `None` if they overlap.
pub fn patch(text: &str, edits: &[Edit]) -> Option<String> {
    let mut sorted: Vec<&Edit> = edits.iter().collect();
    sorted.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut out = String::with_capacity(text.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut from = 0;
    for edit in sorted {
        out += text.get(from..edit.at.start)?;
        out += &edit.text;
        from = edit.at.end;
    }
    out += text.get(from..)?;
    Some(out)
}

impl<'text> Sheet<'text> {
    /// Reads a text that was read before; `None` if it cannot be.
    pub fn read(text: &'text str) -> Option<Self> {
        Some(Self { text, root: yaml::parse("", text).ok()?.root })
    }

    /// The value at a path of keys.
    pub fn get(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, key| node.get(key))
    }

    /// The key at a path, with its value.
    pub fn entry(&self, path: &[&str]) -> Option<&Entry> {
        let (last, parents) = path.split_last()?;
        self.get(parents)?.as_mapping()?.entry(last)
    }

    /// The text between two bytes.
    pub fn slice(&self, at: Range<usize>) -> &'text str {
        self.text.get(at).unwrap_or_default()
    }

    /// Sets the value at a path. What is missing of the path is made; a value that does not stand on one line is not touched.
    pub fn set(&self, path: &[&str], value: &Value) -> Option<Edit> {
        if let Some(entry) = self.entry(path) {
            let at = self.value_range(entry)?;
            return Some(Edit { at, text: self.flow(value) });
        }
        let depth = (1..path.len()).rev().find(|depth| self.get(&path[..*depth]).is_some())?;
        let mapping = self.get(&path[..depth])?.as_mapping()?;
        let [key, inner @ ..] = &path[depth..] else { return None };
        let rest: Vec<&str> = inner.to_vec();
        self.append(mapping, key, &rest, value)
    }

    /// Sets a key of a mapping that stands anywhere, also within a list.
    pub fn set_in(&self, node: &Node, key: &str, value: &Value) -> Option<Edit> {
        let mapping = node.as_mapping()?;
        match mapping.entry(key) {
            Some(entry) => Some(Edit { at: self.value_range(entry)?, text: self.flow(value) }),
            None => self.append(mapping, key, &[], value),
        }
    }

    /// Adds a key after the last one of a mapping that has any.
    fn append(&self, mapping: &Mapping, key: &str, inner: &[&str], value: &Value) -> Option<Edit> {
        let last = mapping.entries().last()?;
        if self.in_flow(last) {
            let nested = inner
                .iter()
                .rev()
                .fold(self.flow(value), |text, key| format!("{{{}: {text}}}", self.key(key)));
            let end = self.value_range(last)?.end;
            let lead = self.flow_lead(last);
            return Some(Edit { at: end..end, text: format!(",{lead}{}: {nested}", self.key(key)) });
        }
        let column = self.column(last.key_span.offset as usize);
        let mut text = format!("{:column$}{key}:", "");
        let mut indent = column;
        for key in inner {
            indent += 2;
            text += &format!("\n{:indent$}{key}:", "");
        }
        text += &self.block(value, indent + 2);
        let at = self.entry_lines(last).end;
        Some(Edit { at: at..at, text: self.as_line(at, &text) })
    }

    /// Adds a resource after another one.
    pub fn resource_after(
        &self,
        sibling: &str,
        id: &str,
        kind: &'static str,
        properties: Vec<(&'static str, Value)>,
    ) -> Option<Edit> {
        let entry = self.entry(&["Resources", sibling])?;
        let mut body = vec![("Type", Value::Word(kind.to_owned()))];
        if !properties.is_empty() {
            body.push(("Properties", Value::Map(properties)));
        }
        if self.in_flow(entry) {
            let end = self.value_range(entry)?.end;
            let text =
                format!(",{}{}: {}", self.flow_lead(entry), self.key(id), self.flow(&Value::Map(body)));
            return Some(Edit { at: end..end, text });
        }
        let column = self.column(entry.key_span.offset as usize);
        let text = format!("\n{:column$}{id}:{}", "", self.block(&Value::Map(body), column + 2));
        let at = self.entry_lines(entry).end;
        Some(Edit { at: at..at, text: self.as_line(at, &text) })
    }

    /// Adds a copy of a resource after it, under another id, with other values at places inside it.
    pub fn copy_after(&self, sibling: &str, after: &str, id: &str, changes: &[Edit]) -> Option<Edit> {
        let entry = self.entry(&["Resources", sibling])?;
        let place = self.entry(&["Resources", after])?;
        let key = self.key_range(entry);
        let flow = self.in_flow(entry);
        let whole = if flow { key.start..self.value_range(entry)?.end } else { self.entry_lines(entry) };
        let mut inside =
            vec![Edit { at: key.start - whole.start..key.end - whole.start, text: self.key(id) }];
        for change in changes {
            let (start, end) =
                (change.at.start.checked_sub(whole.start)?, change.at.end.checked_sub(whole.start)?);
            inside.push(Edit { at: start..end, text: change.text.clone() });
        }
        let copy = patch(self.slice(whole), &inside)?;
        if flow {
            let end = self.value_range(place)?.end;
            return Some(Edit { at: end..end, text: format!(",{}{copy}", self.flow_lead(place)) });
        }
        let at = self.entry_lines(place).end;
        let text = format!("\n{}", copy.trim_end_matches('\n'));
        Some(Edit { at: at..at, text: self.as_line(at, &text) })
    }

    /// Adds items to the list at a path.
    pub fn push(&self, path: &[&str], items: &[Value]) -> Option<Edit> {
        let entry = self.entry(path)?;
        let list = entry.value.as_sequence()?;
        if entry.value.tag.is_some() || list.is_empty() {
            return None;
        }
        let start = self.value_start(entry)?;
        let texts: Vec<String> = items.iter().map(|item| self.flow(item)).collect();
        if self.slice(start..self.text.len()).starts_with('[') {
            let close = flow_end(self.text, start)? - 1;
            let before = self.text[..close].trim_end().len();
            return Some(Edit { at: before..before, text: format!(", {}", texts.join(", ")) });
        }
        let column = self.dash_column(start)?;
        let lines: Vec<String> = texts.iter().map(|text| format!("{:column$}- {text}", "")).collect();
        let at = self.entry_lines(entry).end;
        Some(Edit { at: at..at, text: self.as_line(at, &lines.join("\n")) })
    }

    /// The value of an entry on one line, and its tag.
    pub fn value_range(&self, entry: &Entry) -> Option<Range<usize>> {
        let start = self.value_start(entry)?;
        let end = value_end(self.text, start, self.in_flow(entry))?;
        let is_one_line_or_flow = match &entry.value.kind {
            Kind::Scalar(_) => !self.slice(start..end).contains('\n'),
            Kind::Sequence(_) | Kind::Mapping(_) => self.slice(start..end).ends_with([']', '}']),
        };
        is_one_line_or_flow.then_some(start..end)
    }

    /// The scalar of a node, with its quotes.
    pub fn scalar_range(&self, node: &Node) -> Option<Range<usize>> {
        matches!(node.kind, Kind::Scalar(_)).then_some(node.span.offset as usize..node.span.end())
    }

    /// The whole lines of an entry of a block mapping, without blank lines and comments after it.
    pub fn entry_lines(&self, entry: &Entry) -> Range<usize> {
        let at = entry.key_span.offset as usize;
        let column = self.column(at);
        let start = self.line_start(at);
        let mut end = self.line_end(at);
        let mut next = end;
        let in_list = matches!(entry.value.kind, Kind::Sequence(_));
        while next < self.text.len() {
            let line_end = self.line_end(next);
            let line = &self.text[next..line_end];
            let body = line.trim_start_matches(' ');
            let indent = line.len() - body.len();
            let blank = body.trim().is_empty() || body.starts_with('#');
            let inside = indent > column || in_list && indent == column && body.starts_with("- ");
            if !blank && !inside {
                break;
            }
            if !blank {
                end = line_end;
            }
            next = line_end;
        }
        start..end
    }

    /// Whether the entry stands between braces, as in JSON.
    fn in_flow(&self, entry: &Entry) -> bool {
        let at = self.key_range(entry).start;
        let before = self.text[self.line_start(at)..at].trim_start();
        // A block's key stands first on its line, or behind the dash of a list.
        if !before.is_empty() && !before.trim_start_matches(['-', ' ']).is_empty() {
            return true;
        }
        let before = self.text[..at].trim_end();
        before.ends_with(['{', ',']) || self.is_json()
    }

    fn is_json(&self) -> bool {
        self.text.trim_start().starts_with('{')
    }

    /// What stands between a comma and a key in this entry's mapping: a space, or a new line and its indent.
    fn flow_lead(&self, entry: &Entry) -> String {
        let at = self.key_range(entry).start;
        let line = self.line_start(at);
        match self.text[line..at].trim().is_empty() {
            true => format!("\n{}", &self.text[line..at]),
            false => " ".to_owned(),
        }
    }

    fn key_range(&self, entry: &Entry) -> Range<usize> {
        let (start, end) = (entry.key_span.offset as usize, entry.key_span.end());
        let quoted = |at: usize| matches!(self.text.as_bytes().get(at), Some(b'"' | b'\''));
        match start.checked_sub(1) {
            Some(before) if quoted(before) && quoted(end) && !quoted(start) => before..end + 1,
            _ => start..end,
        }
    }

    fn value_start(&self, entry: &Entry) -> Option<usize> {
        let after = self.key_range(entry).end;
        let colon = after + self.text.get(after..)?.find(':')? + 1;
        let rest = self.text.get(colon..)?;
        Some(colon + rest.len() - rest.trim_start().len())
    }

    /// The column of the dash before the first item of a block list that begins near `start`.
    fn dash_column(&self, start: usize) -> Option<usize> {
        let line = self.line_start(start);
        let body = &self.text[line..self.line_end(start)];
        let dash = body.find("- ")?;
        body[..dash].trim().is_empty().then_some(dash)
    }

    fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// One past the line's end, its newline included.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    /// Lines to be put at the begin of a line, or after a last line without newline.
    fn as_line(&self, at: usize, text: &str) -> String {
        if at == 0 || self.text[..at].ends_with('\n') { format!("{text}\n") } else { format!("\n{text}") }
    }

    fn key(&self, key: &str) -> String {
        if self.is_json() { format!("\"{key}\"") } else { key.to_owned() }
    }

    /// A value on one line.
    pub fn flow(&self, value: &Value) -> String {
        let json = self.is_json();
        match value {
            Value::Word(word) if json && word.parse::<u64>().is_err() => format!("\"{word}\""),
            Value::Word(word) => word.clone(),
            Value::Ref(id) if json => format!("{{\"Ref\": \"{id}\"}}"),
            Value::Ref(id) => format!("!Ref {id}"),
            Value::Attribute(id, name) if json => format!("{{\"Fn::GetAtt\": [\"{id}\", \"{name}\"]}}"),
            Value::Attribute(id, name) => format!("!GetAtt {id}.{name}"),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| self.flow(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", self.key(key), self.flow(value)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    /// A value after `key:`, on lines of its own where it is a mapping.
    fn block(&self, value: &Value, indent: usize) -> String {
        match value {
            Value::Map(entries) => entries
                .iter()
                .map(|(key, value)| format!("\n{:indent$}{key}:{}", "", self.block(value, indent + 2)))
                .collect(),
            other => format!(" {}", self.flow(other)),
        }
    }
}

/// One past the end of a value that begins at `start`, with its tag.
fn value_end(text: &str, start: usize, in_flow: bool) -> Option<usize> {
    let mut at = start;
    if text.get(at..)?.starts_with('!') {
        let rest = &text[at..];
        let tag = rest.find([' ', '\n']).unwrap_or(rest.len());
        at += tag + (rest[tag..].len() - rest[tag..].trim_start_matches(' ').len());
    }
    match text.as_bytes().get(at)? {
        b'[' | b'{' => flow_end(text, at),
        quote @ (b'"' | b'\'') => quoted_end(text, at, *quote),
        _ => {
            let rest = &text[at..];
            let line = rest.find('\n').unwrap_or(rest.len());
            let mut end = line;
            if let Some(comment) = rest[..line].find(" #") {
                end = comment;
            }
            if in_flow && let Some(stop) = rest[..end].find([',', '}', ']']) {
                end = stop;
            }
            Some(at + rest[..end].trim_end().len())
        }
    }
}

fn quoted_end(text: &str, start: usize, quote: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' if quote == b'"' => at += 2,
            b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 2,
            byte if *byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// One past the bracket that closes the one at `start`.
fn flow_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, start);
    loop {
        match bytes.get(at)? {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            quote @ (b'"' | b'\'') => {
                at = quoted_end(text, at, *quote)?;
                continue;
            }
            b'#' if at > 0 && matches!(bytes[at - 1], b' ' | b'\n') => {
                at += text[at..].find('\n')?;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(text: &str) -> Value {
        Value::Word(text.into())
    }

    fn edited(text: &str, edit: impl Fn(&Sheet<'_>) -> Option<Edit>) -> String {
        let sheet = Sheet::read(text).unwrap();
        let patched = patch(text, &[edit(&sheet).unwrap()]).unwrap();
        yaml::parse("t", &patched).unwrap_or_else(|problems| panic!("{problems:?}\n{patched}"));
        patched
    }

    const BLOCK: &str = "Resources:
  A:
    Type: X
    Properties:
      Size: 1   # one
      List: [!Ref B, c]
      Names:
        - a
        - b

  # The next one.
  B: {Type: Y, Properties: {Size: 1}}
";

    #[test]
    fn a_value_is_replaced_and_nothing_else() {
        let path = ["Resources", "A", "Properties", "Size"];
        let text = edited(BLOCK, |sheet| sheet.set(&path, &word("22")));
        assert_eq!(text, BLOCK.replace("Size: 1   #", "Size: 22   #"));
        let path = ["Resources", "B", "Properties", "Size"];
        let text = edited(BLOCK, |sheet| sheet.set(&path, &word("22")));
        assert_eq!(text, BLOCK.replace("Properties: {Size: 1}", "Properties: {Size: 22}"));
        let path = ["Resources", "A", "Properties", "List"];
        let text = edited(BLOCK, |sheet| sheet.set(&path, &Value::List(vec![Value::Ref("Z".into())])));
        assert_eq!(text, BLOCK.replace("[!Ref B, c]", "[!Ref Z]"));
    }

    #[test]
    fn what_is_missing_is_added_at_the_end_of_its_mapping() {
        let path = ["Resources", "A", "Properties", "Config", "Inner"];
        let text = edited(BLOCK, |sheet| sheet.set(&path, &word("9")));
        assert_eq!(text, BLOCK.replace("        - b\n", "        - b\n      Config:\n        Inner: 9\n"));
        let path = ["Resources", "B", "Properties", "Config", "Inner"];
        let text = edited(BLOCK, |sheet| sheet.set(&path, &word("9")));
        assert_eq!(text, BLOCK.replace("{Size: 1}", "{Size: 1, Config: {Inner: 9}}"));
    }

    #[test]
    fn lists_grow_in_their_own_form() {
        let more = [Value::Ref("D".into()), word("e")];
        let text = edited(BLOCK, |sheet| sheet.push(&["Resources", "A", "Properties", "List"], &more));
        assert_eq!(text, BLOCK.replace("[!Ref B, c]", "[!Ref B, c, !Ref D, e]"));
        let text = edited(BLOCK, |sheet| sheet.push(&["Resources", "A", "Properties", "Names"], &more));
        assert_eq!(text, BLOCK.replace("        - b\n", "        - b\n        - !Ref D\n        - e\n"));
    }

    #[test]
    fn resources_are_added_and_copied() {
        let properties = || vec![("Of", Value::Attribute("A".into(), "Id"))];
        let text = edited(BLOCK, |sheet| sheet.resource_after("A", "A2", "Z", properties()));
        let added = "        - b\n\n  A2:\n    Type: Z\n    Properties:\n      Of: !GetAtt A.Id\n";
        assert_eq!(text, BLOCK.replace("        - b\n", added));
        let text = edited(BLOCK, |sheet| {
            let at = sheet.value_range(sheet.entry(&["Resources", "B", "Type"])?)?;
            sheet.copy_after("B", "B", "B2", &[Edit { at, text: "Q".into() }])
        });
        assert!(
            text.ends_with("B: {Type: Y, Properties: {Size: 1}}\n\n  B2: {Type: Q, Properties: {Size: 1}}\n"),
            "{text}"
        );
    }

    #[test]
    fn json_stays_json() {
        let json = "{\n  \"Resources\": {\n    \"A\": {\n      \"Type\": \"X\",\n      \"Properties\": {\"List\": [\"a\"]}\n    }\n  }\n}\n";
        let text = edited(json, |sheet| sheet.set(&["Resources", "A", "Properties", "Size"], &word("5")));
        assert_eq!(text, json.replace("[\"a\"]", "[\"a\"], \"Size\": 5"));
        let text = edited(json, |sheet| {
            sheet.push(&["Resources", "A", "Properties", "List"], &[Value::Ref("B".into())])
        });
        assert_eq!(text, json.replace("[\"a\"]", "[\"a\", {\"Ref\": \"B\"}]"));
        let text = edited(json, |sheet| sheet.resource_after("A", "B", "Y", Vec::new()));
        assert!(text.contains("    },\n    \"B\": {\"Type\": \"Y\"}\n"), "{text}");
        let text = edited(json, |sheet| sheet.copy_after("A", "A", "B", &[]));
        assert!(text.contains("    },\n    \"B\": {\n      \"Type\": \"X\","), "{text}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:\\[\\]{}'\" ,#!&*\\n-]{0,60}") {
            if let Some(sheet) = Sheet::read(&text) {
                for path in [&["a"][..], &["a", "b"], &["b", "c"]] {
                    let _ = (sheet.set(path, &word("1")), sheet.push(path, &[word("1")]));
                    let _ = (sheet.copy_after("a", "a", "x", &[]), sheet.entry(path).map(|entry| sheet.entry_lines(entry)));
                }
            }
        }
    }
}
