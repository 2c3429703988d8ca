//! Strict JSON into the same tree, in one pass over the bytes.
//!
//! What is not strict JSON is read as YAML by the caller, which finds and words the problem.

use super::node::{Entry, Kind, Mapping, Node, Scalar, Style};
use super::{MAX_DEPTH, MAX_NODES, Span};
use std::collections::BTreeSet;

/// Why there is no tree.
#[derive(Debug)]
pub(super) enum Unread {
    /// The text is not strict JSON, or has a key twice.
    NotJson,
    /// It has more than [`MAX_NODES`] values; this one is too many.
    TooManyNodes(Span),
    /// It is nested more than [`MAX_DEPTH`] deep, here.
    TooDeep(Span),
}

use Unread::NotJson;

/// The root of a JSON text.
pub(super) fn read(text: &str) -> Result<Node, Unread> {
    let mut reader = Reader { text, at: 0, line: 1, line_start: 0, nodes: 0 };
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
        reader.line_start = reader.at;
    }
    let root = reader.value(0)?;
    reader.space();
    if reader.at == text.len() { Ok(root) } else { Err(NotJson) }
}

struct Reader<'text> {
    text: &'text str,
    at: usize,
    line: u32,
    line_start: usize,
    nodes: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.at += 1;
            if byte == b'\n' {
                self.line += 1;
                self.line_start = self.at;
            }
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// A span of one byte here.
    fn here(&self) -> Span {
        let before = self.text.get(self.line_start..self.at).unwrap_or_default();
        // Most lines are ASCII, and counting their characters would make one very long line cost its square.
        let column = if before.len() > MAX_COUNTED_BYTES { before.len() } else { before.chars().count() };
        Span { offset: self.at as u32, len: 1, line: self.line, column: column as u32 + 1 }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Unread> {
        self.space();
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Unread::TooManyNodes(self.here()));
        }
        if depth > MAX_DEPTH {
            return Err(Unread::TooDeep(self.here()));
        }
        let start = self.here();
        let kind = match self.peek().ok_or(NotJson)? {
            b'{' => Kind::Mapping(self.mapping(depth)?),
            b'[' => Kind::Sequence(self.sequence(depth)?),
            b'"' => Kind::Scalar(Scalar { value: self.string()?, style: Style::Quoted }),
            _ => Kind::Scalar(Scalar { value: self.word()?, style: Style::Plain }),
        };
        let whole = self.text.get(start.offset as usize..self.at).ok_or(NotJson)?;
        let first_line = whole.split(['\n', '\r']).next().unwrap_or_default();
        Ok(Node { kind, tag: None, span: Span { len: first_line.len() as u32, ..start } })
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, Unread> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.take(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take(b']') {
                return Ok(items);
            }
            if !self.take(b',') {
                return Err(NotJson);
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Mapping, Unread> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        self.space();
        if self.take(b'}') {
            return Ok(Mapping::default());
        }
        loop {
            self.space();
            let start = self.here();
            if self.peek() != Some(b'"') {
                return Err(NotJson);
            }
            let key = self.string()?;
            let key_span = Span { len: (self.at - start.offset as usize) as u32, ..start };
            self.space();
            if !self.take(b':') {
                return Err(NotJson);
            }
            entries.push(Entry { key, key_span, value: self.value(depth + 1)? });
            self.space();
            if self.take(b'}') {
                break;
            }
            if !self.take(b',') {
                return Err(NotJson);
            }
        }
        let distinct: BTreeSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
        if distinct.len() < entries.len() { Err(NotJson) } else { Ok(Mapping::new(entries)) }
    }

    /// `true`, `false`, `null` or a number.
    fn word(&mut self) -> Result<Box<str>, Unread> {
        let rest = self.text.get(self.at..).ok_or(NotJson)?;
        let len = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        let word = &rest[..len];
        let number =
            word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && word.parse::<f64>().is_ok();
        if !number && !matches!(word, "true" | "false" | "null") {
            return Err(NotJson);
        }
        self.at += len;
        Ok(word.into())
    }

    fn string(&mut self) -> Result<Box<str>, Unread> {
        self.at += 1;
        let mut value = String::new();
        loop {
            let rest = self.text.get(self.at..).ok_or(NotJson)?;
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').ok_or(NotJson)?;
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' if value.is_empty() => return Ok(rest[..plain].into()),
                b'"' => {
                    value.push_str(&rest[..plain]);
                    return Ok(value.into());
                }
                b'\\' => {
                    value.push_str(&rest[..plain]);
                    value.push(self.escape()?);
                }
                _ => return Err(NotJson),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Unread> {
        let byte = self.peek().ok_or(NotJson)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hexadecimal()?;
                if (0xd800..0xdc00).contains(&first) {
                    // Two halves of one character: 10 bits each, above the first 65,536.
                    if !(self.take(b'\\') && self.take(b'u')) {
                        return Err(NotJson);
                    }
                    let second = self
                        .hexadecimal()?
                        .checked_sub(0xdc00)
                        .filter(|half| *half < 0x400)
                        .ok_or(NotJson)?;
                    char::from_u32(0x10000 + ((first - 0xd800) << 10) + second).ok_or(NotJson)?
                } else {
                    char::from_u32(first).ok_or(NotJson)?
                }
            }
            _ => return Err(NotJson),
        })
    }

    fn hexadecimal(&mut self) -> Result<u32, Unread> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(NotJson)?;
        self.at += 4;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotJson);
        }
        u32::from_str_radix(digits, 16).map_err(|_| NotJson)
    }
}

/// Columns beyond this are counted in bytes.
const MAX_COUNTED_BYTES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_json_is_read_and_all_else_is_left_to_yaml() {
        let root = read(r#" {"a": "\ud83d\ude00 \/ \u00e9\n", "n": [-1.5e3, true, null]} "#).unwrap();
        assert_eq!(root.get("a").and_then(Node::as_str), Some("😀 / é\n"));
        assert_eq!(root.get("n").unwrap().as_sequence().unwrap()[0].as_str(), Some("-1.5e3"));
        for text in [
            "{",
            "{a: 1}",
            r#"{"a" 1}"#,
            r#"{"a": 1,}"#,
            r#"{"a": "\ud83d"}"#,
            r#"{"a": "\x"}"#,
            r#"{"a": nan}"#,
            r#"{"a": 1} x"#,
            r#"{"a": 1, "a": 2}"#,
            r#"{"a": "\u12"#,
            "{\"a\": \"\n\"}",
            r#"{"a": inf}"#,
            r#"{"a": "\u+123"}"#,
        ] {
            assert!(matches!(read(text), Err(NotJson)), "{text}");
        }
        assert!(matches!(read(&"[".repeat(MAX_DEPTH + 2)), Err(Unread::TooDeep(_))));
        let many = format!("[{}1]", "1,".repeat(MAX_NODES));
        assert!(matches!(read(&many), Err(Unread::TooManyNodes(_))));
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "{\n  \"ä\": {\"b\":\n    \"x\"}\n}";
        let root = read(text).unwrap();
        let entry = &root.as_mapping().unwrap().entries()[0];
        assert_eq!((entry.key_span.of(text), entry.key_span.line, entry.key_span.column), ("\"ä\"", 2, 3));
        assert_eq!(entry.value.span.of(text), "{\"b\":");
        let inner = entry.value.get("b").unwrap().span;
        assert_eq!((inner.of(text), inner.line, inner.column), ("\"x\"", 3, 5));
    }
}
