//! Problems: what is wrong, where, and how to cure it, in a form that a renderer can show with the source.

use crate::yaml::{Node, Span};
use std::fmt;

/// More problems than this are counted but not kept: nobody reads the hundredth.
pub const MAX_PROBLEMS: usize = 100;

/// Values quoted in a message are cut after this many characters.
const MAX_QUOTED_CHARS: usize = 60;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Cause {
    /// The text is larger than any real template.
    #[error("the file has {bytes} bytes, and {max} is the most that is read")]
    TooLarge {
        /// Size of the text.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A line of YAML is longer than any that is written.
    #[error("this line has {bytes} bytes, and {max} is the most that is read")]
    LongLine {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The text holds a byte that no text file has.
    #[error("this is not a text file: it holds a NUL character")]
    NotText,
    /// There is nothing in the file.
    #[error("the file is empty")]
    Empty,
    /// A second document begins.
    #[error("a second document begins here, and only one is read")]
    SeveralDocuments,
    /// The text is neither YAML nor JSON.
    #[error("this is not valid {language}: {info}")]
    Syntax {
        /// `YAML` or `JSON`.
        language: &'static str,
        /// What the parser says.
        info: String,
    },
    /// Lists and mappings are nested too deeply.
    #[error("lists and mappings are nested more than {max} deep")]
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// The file has too many values, counting each use of an alias.
    #[error("the file has more than {max} values, counting each use of an alias")]
    TooManyNodes {
        /// The bound.
        max: usize,
    },
    /// The aliases expand to too much text.
    #[error("the aliases expand to more than {max} bytes")]
    TooMuchText {
        /// The bound.
        max: usize,
    },
    /// An alias stands inside the value that it names.
    #[error("this alias stands inside the value it names")]
    RecursiveAlias,
    /// A key stands twice in one mapping.
    #[error("the key `{key}` stands here a second time")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key is not text.
    #[error("a key must be text, and this is {found}")]
    BadKey {
        /// What stands there.
        found: String,
    },
    /// A value has another type than is wanted.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What is wanted.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A key is missing.
    #[error("{owner} needs `{key}`")]
    Missing {
        /// The missing key.
        key: String,
        /// What needs it.
        owner: String,
    },
    /// A name that means nothing here.
    #[error("{what} `{name}` does not exist")]
    Unknown {
        /// What kind of name, in the singular: `the key`, `the parameter`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A number outside its range.
    #[error("{what} is {value}, and must be {min} to {max}")]
    OutOfRange {
        /// What is measured, with its unit.
        what: String,
        /// What was written.
        value: String,
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// A parameter that nobody gave a value.
    #[error("{owner} has no value and no default")]
    NoValue {
        /// Which.
        owner: String,
    },
    /// Things depend on each other in a circle.
    #[error("{what} depend on each other in a circle: {}", path.join(" -> "))]
    Cycle {
        /// `resources` or `conditions`.
        what: &'static str,
        /// The circle; the first name stands again at the end.
        path: Vec<String>,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// A second place that belongs to a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What stands there.
    pub label: String,
}

/// One thing that is wrong, its place, and its cure.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where; `span.offset` and `span.len` are bytes of the text.
    pub span: Span,
    /// What.
    pub cause: Cause,
    /// A few words to stand under the place; empty when the cause says all.
    pub label: String,
    /// The cure, or "did you mean".
    pub help: Option<String>,
    /// Other places worth showing.
    pub related: Vec<Related>,
}

impl Problem {
    /// The same where the text begins `by` bytes later.
    #[must_use]
    pub(crate) fn moved(mut self, by: u32) -> Self {
        self.span = self.span.moved(by);
        self.related.iter_mut().for_each(|related| related.span = related.span.moved(by));
        self
    }

    /// A problem in words.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self::new(span, Cause::Other(message.into()))
    }

    /// A problem of a known kind.
    pub fn new(span: Span, cause: Cause) -> Self {
        Self { span, cause, label: String::new(), help: None, related: Vec::new() }
    }

    /// "expected a number, found a list".
    pub fn wrong_type(node: &Node, expected: impl Into<String>) -> Self {
        Self::new(node.span, Cause::WrongType { expected: expected.into(), found: node.describe() })
    }

    /// Adds the cure.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the cure when there is one.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Sets the few words under the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Related { span, label: label.into() });
        self
    }

    /// The message without place.
    pub fn message(&self) -> String {
        self.cause.to_string()
    }

    /// `file:line:column: message (help)`, one line, for logs and scripts.
    pub fn one_line(&self, file_name: &str) -> String {
        let help = self.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{file_name}:{}:{}: {}{help}", self.span.line, self.span.column, self.cause)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.span.line, self.span.column, self.cause)
    }
}

impl std::error::Error for Problem {}

/// Problems in the order they were found, at most [`MAX_PROBLEMS`].
#[derive(Clone, Debug, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    dropped: usize,
}

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records one; one that is already there is not repeated.
    pub fn push(&mut self, problem: Problem) {
        if self.kept.len() >= MAX_PROBLEMS {
            self.dropped += 1;
        } else if !self.kept.iter().any(|kept| kept.span == problem.span && kept.cause == problem.cause) {
            self.kept.push(problem);
        }
    }

    /// Whether further problems are only counted; then finding their cure is wasted work.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= MAX_PROBLEMS
    }

    /// Counts a problem that is not worked out because no more are kept.
    pub(crate) fn drop_one(&mut self) {
        self.dropped += 1;
    }

    /// Moves the last problems to where `place` says, from the one numbered `from` on.
    pub(crate) fn move_from(&mut self, from: usize, place: impl Fn(Span) -> Span) {
        for problem in self.kept.iter_mut().skip(from) {
            problem.span = place(problem.span);
        }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many were found beyond the bound.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Those kept, by place; if some were dropped the last one says how many.
    pub fn into_vec(mut self) -> Vec<Problem> {
        self.kept.sort_by_key(|problem| problem.span.offset);
        if self.dropped > 0 {
            let span = self.kept.last().map(|problem| problem.span).unwrap_or_default();
            self.kept.push(Problem::at(span, format!("and {} more problems", self.dropped)));
        }
        self.kept
    }
}

/// A value for a message: in backticks, one line, cut when long.
pub fn quoted(value: &str) -> String {
    let mut text: String =
        value.chars().take(MAX_QUOTED_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if value.chars().nth(MAX_QUOTED_CHARS).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_bounded_sorted_and_not_repeated() {
        let mut problems = Problems::new();
        for offset in (0..150_u32).rev() {
            let span = Span { offset, len: 1, line: offset + 1, column: 1 };
            problems.push(Problem::at(span, "wrong"));
            problems.push(Problem::at(span, "wrong"));
        }
        assert_eq!(problems.len(), MAX_PROBLEMS);
        let list = problems.into_vec();
        assert_eq!(list.len(), MAX_PROBLEMS + 1);
        assert!(list.windows(2).take(99).all(|pair| pair[0].span.offset < pair[1].span.offset));
        assert!(list[MAX_PROBLEMS].message().ends_with("more problems"));
    }

    #[test]
    fn one_line_has_file_line_and_column() {
        let span = Span { offset: 10, len: 3, line: 2, column: 5 };
        let problem = Problem::at(span, "wrong").help("right");
        assert_eq!(problem.one_line("a.yaml"), "a.yaml:2:5: wrong (right)");
    }
}
