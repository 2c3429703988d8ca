//! YAML and JSON text into a tree whose every value knows its place.
//!
//! Tags are kept as written (`!Ref` is the tag `Ref`), anchors, aliases and merge keys (`<<`) are expanded, a key
//! that stands twice is a problem, in a template a warning. Everything is bounded: text, depth, values and what aliases expand to.
//!
//! ```
//! use template::{Problems, yaml};
//! let document = yaml::parse("load.yaml", "users: 500\nthink: 0s\n").unwrap();
//! let mut problems = Problems::new();
//! let top = document.root.mapping(&mut problems).unwrap();
//! top.only(&["users", "think"], &mut problems);
//! let users = top.require("users", "a phase", document.root.span, &mut problems);
//! assert_eq!(users.and_then(|node| node.unsigned(&mut problems)), Some(500));
//! assert!(problems.is_empty());
//! ```

mod json;
mod node;
mod place;
mod reader;

pub use crate::problem::{Cause, Problem, Problems, Related};
pub use crate::suggest::{did_you_mean, nearest};
pub use node::{Entry, Kind, Mapping, Node, Scalar, Style};
pub use place::Span;
pub(crate) use reader::{height, weight};

/// The largest JSON that is read. CloudFormation itself takes 1 MB.
pub const MAX_TEXT_BYTES: usize = 8 * 1024 * 1024;
/// The largest YAML that is read. In bad cases the scanner takes a hundred bytes of memory for one of text.
pub const MAX_YAML_BYTES: usize = 2 * 1024 * 1024;
/// The longest line of YAML. Strict JSON may be all on one line.
pub const MAX_LINE_BYTES: usize = 256 * 1024;
/// How deep lists and mappings may be nested.
pub const MAX_DEPTH: usize = 100;
/// How many values a document may have after aliases are expanded.
pub const MAX_NODES: usize = 400_000;
/// How many bytes of text the aliases may expand to.
pub const MAX_ALIAS_BYTES: usize = 8 * 1024 * 1024;

/// A file's one document.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's name, for messages.
    pub name: String,
    /// Its value.
    pub root: Node,
}

/// Reads one YAML or JSON document.
///
/// # Errors
/// The text is too large, empty, no YAML, nested too deeply or has too many values (then that is the only
/// problem), or some keys stand twice (then all of those). Never panics, whatever the text.
pub fn parse(name: &str, text: &str) -> Result<Document, Vec<Problem>> {
    let (document, twice) = parse_as_aws(name, text)?;
    if twice.is_empty() { Ok(document) } else { Err(twice) }
}

/// The same, as CloudFormation reads: of a key that stands twice the last counts, and the others come beside.
pub(crate) fn parse_as_aws(name: &str, text: &str) -> Result<(Document, Vec<Problem>), Vec<Problem>> {
    let (root, twice) = reader::read(text)?;
    Ok((Document { name: name.to_owned(), root }, twice.into_vec()))
}
