//! Places in the text: bytes for renderers, line and column for people.

/// A piece of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte, from the text's start.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
    /// Line of the first byte, from 1.
    pub line: u32,
    /// Column of the first byte in characters, from 1.
    pub column: u32,
}

impl Span {
    /// One past the last byte.
    pub fn end(self) -> usize {
        self.offset as usize + self.len as usize
    }

    /// The piece of `text`; empty when the span is not of this text.
    pub fn of(self, text: &str) -> &str {
        text.get(self.offset as usize..self.end()).unwrap_or_default()
    }

    /// The same place where the text begins `by` bytes later.
    #[must_use]
    pub(crate) fn moved(self, by: u32) -> Self {
        Self { offset: self.offset.saturating_add(by), ..self }
    }

    /// The place of `needle`'s first occurrence as a whole word inside this span, or the span itself when it is not
    /// there (it may be written with escapes or be folded). Cost: linear in the span.
    #[must_use]
    pub fn narrow(self, text: &str, needle: &str) -> Self {
        let source = self.of(text);
        let is_whole = |at: usize| {
            let inside = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
            let (before, after) = (&source[..at], &source[at + needle.len()..]);
            let cut_before = inside(needle.chars().next()) && inside(before.chars().next_back());
            let cut_after = inside(needle.chars().next_back()) && inside(after.chars().next());
            !cut_before && !cut_after
        };
        let whole = source.match_indices(needle).map(|(at, _)| at).find(|at| is_whole(*at));
        let Some(at) = whole.filter(|_| !needle.is_empty()) else { return self };
        let before = &source[..at];
        let lines = before.matches('\n').count() as u32;
        let tail = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32;
        let column = if lines == 0 { self.column + tail } else { tail + 1 };
        Self { offset: self.offset + at as u32, len: needle.len() as u32, line: self.line + lines, column }
    }
}

/// Turns the parser's character counts into byte offsets.
///
/// The parser counts characters; a table of every 64th character's byte keeps each question cheap, and ASCII
/// text needs no table.
pub(super) struct Bytes<'text> {
    text: &'text str,
    /// Byte of every `STEP`th character; empty for ASCII.
    steps: Vec<u32>,
}

const STEP: usize = 64;

impl<'text> Bytes<'text> {
    pub(super) fn new(text: &'text str) -> Self {
        let steps = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(STEP).map(|(byte, _)| byte as u32).collect()
        };
        Self { text, steps }
    }

    /// The byte at which the character numbered `character` starts; the text's end when there is none.
    pub(super) fn of(&self, character: usize) -> usize {
        if self.steps.is_empty() {
            return character.min(self.text.len());
        }
        let Some(start) = self.steps.get(character / STEP) else { return self.text.len() };
        let start = *start as usize;
        let rest = &self.text[start..];
        rest.char_indices().nth(character % STEP).map_or(self.text.len(), |(byte, _)| start + byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_found_in_any_text() {
        let text = "aä€😀".repeat(100);
        let bytes = Bytes::new(&text);
        for (number, (byte, _)) in text.char_indices().enumerate() {
            assert_eq!(bytes.of(number), byte);
        }
        assert_eq!(bytes.of(400), text.len());
        assert_eq!(bytes.of(usize::MAX), text.len());
        assert_eq!(Bytes::new("abc").of(2), 2);
    }

    #[test]
    fn a_span_narrows_to_a_word_inside_it() {
        let text = "x: !Sub |\n  hello\n  ${Nope}\n";
        let span = Span { offset: 3, len: 25, line: 1, column: 4 };
        let narrow = span.narrow(text, "${Nope}");
        assert_eq!((narrow.of(text), narrow.line, narrow.column), ("${Nope}", 3, 3));
        assert_eq!(span.narrow(text, "absent"), span);
        let line = Span { offset: 3, len: 6, line: 1, column: 4 };
        assert_eq!(line.narrow(text, "Sub").column, 5);
        assert_eq!(line.narrow(text, "Su"), line, "only whole words");
    }
}
