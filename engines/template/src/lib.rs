//! CloudFormation and SAM text in, one [`model::stack::Stack`] out, every problem with its place.
//!
//! The way of a template: [`yaml`] makes a tree with positions; `include` puts parts in that lie in files of their own;
//! `parameters` and `resolve/conditions` give it values; `sam` turns the serverless types into plain ones, as the SAM
//! transform does; `references` checks every name and finds the order of dependence; `resolve` evaluates the intrinsic
//! functions in that order; `build` reads the plain types into the stack. [`app`] joins the stacks of an app before
//! `resolve`. Nothing here opens a file or a socket: the caller hands the text in, and renders the [`Problem`]s.
//!
//! [`yaml`] knows nothing of CloudFormation and also serves other files that people write, such as `load.yaml`. [`samconfig`]
//! and [`variables`] read what SAM's users keep beside their template.

pub mod app;
mod build;
mod graph;
mod identity;
mod include;
mod intrinsic;
mod loops;
mod parameters;
pub mod problem;
mod references;
mod resolve;
mod sam;
pub mod samconfig;
mod sections;
pub mod suggest;
pub mod variables;
pub mod yaml;

pub use include::files_of;
pub use problem::{Cause, Problem, Problems, Related};
pub use yaml::Span;

use model::stack::Stack;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// What the template does not say itself.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Parameters by name: `--parameter-overrides`.
    pub parameters: BTreeMap<String, String>,
    /// What parameters were given when the stack was deployed before, by name: `UsePreviousValue` for those that the template
    /// still has and nobody gives another value. Empty for a template that is read for the first time.
    pub previous: BTreeMap<String, String>,
    /// Exports of other stacks by name: `--import`.
    pub imports: BTreeMap<String, String>,
    /// `us-east-1` and the like.
    pub region: String,
    /// Twelve digits.
    pub account_id: String,
    /// The stack's name, from which ids are made.
    pub stack_name: String,
    /// Whether resource types that are not run are problems rather than warnings.
    pub strict: bool,
    /// The Region's zones; empty for those that AWS has there.
    pub availability_zones: Vec<String>,
    /// The port under which doors answer on this machine.
    pub port: u16,
    /// Addresses that elastic IPs have already, by logical id, those of removed ones among them: each keeps its own, and no
    /// other gets it. Empty for a template that is read for the first time.
    pub elastic_ips: BTreeMap<String, Ipv4Addr>,
    /// Texts of the files that [`files_of`] asks for, by the name given there, or why one cannot be read. What is not here is left
    /// out of the template, and told.
    pub files: BTreeMap<String, Result<String, String>>,
}

impl Default for Inputs {
    fn default() -> Self {
        Self {
            parameters: BTreeMap::new(),
            previous: BTreeMap::new(),
            imports: BTreeMap::new(),
            region: "us-east-1".into(),
            account_id: "000000000000".into(),
            stack_name: "onrush".into(),
            strict: false,
            availability_zones: Vec::new(),
            port: 4566,
            elastic_ips: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }
}

/// What became of a template.
#[derive(Debug)]
pub struct Outcome {
    /// The stack; none if there is any problem.
    pub stack: Option<Stack>,
    /// What is wrong, by place.
    pub problems: Vec<Problem>,
    /// What is worth saying, by place: resource types that are not run, misspelt properties.
    pub warnings: Vec<Problem>,
}

/// Reads a template, or the templates of an app that [`app::join`] made one text of. All problems that can be found are reported
/// at once; never panics, whatever the text.
///
/// `file_name` is for messages only. Cost: about linear in the text, each template's bounded by [`yaml::MAX_TEXT_BYTES`].
pub fn read(file_name: &str, text: &str, inputs: &Inputs) -> Outcome {
    let stacks = app::parts(text);
    if let Some(part) = stacks.get(app::MAX_STACKS) {
        let span = Span { offset: part.offset as u32, len: 0, line: 1, column: 1 };
        let message = format!(
            "there are {} stacks, and {} is the most that are read together",
            stacks.len(),
            app::MAX_STACKS
        );
        return Outcome { stack: None, problems: vec![Problem::at(span, message)], warnings: Vec::new() };
    }
    let own = app::inputs_of(&stacks, inputs);
    let mut texts: Vec<_> =
        stacks.iter().zip(&own).map(|(part, own)| (part.text, part.offset, own)).collect();
    if texts.is_empty() {
        texts.push((text, 0, inputs));
    }
    let (mut documents, mut all_parts) = (Vec::new(), Vec::new());
    let (mut problems, mut twice) = (Vec::new(), Vec::new());
    for (text, offset, inputs) in texts {
        match yaml::parse_as_aws(file_name, text) {
            Ok((mut document, found)) => {
                twice.extend(found.into_iter().map(|problem| problem.moved(offset as u32)));
                if offset > 0 {
                    document.root.shift(offset as u32);
                }
                let (mut document, parts) = include::join(document, text, inputs);
                problems.extend(loops::expand(&mut document.root, text, inputs));
                documents.push((document, inputs));
                all_parts.push(parts);
            }
            Err(found) => problems.extend(found.into_iter().map(|problem| problem.moved(offset as u32))),
        }
    }
    if inputs.strict {
        problems.append(&mut twice);
    }
    if !problems.is_empty() {
        return Outcome { stack: None, problems, warnings: Vec::new() };
    }
    let sources: Vec<_> =
        documents.iter().map(|(document, inputs)| sections::Source { document, inputs }).collect();
    let mut outcome = sections::read(&sources, text);
    // Source: what validate-template and get-template-summary answered others (github.com/go-to-k/cdk-real-drift, issue 1074;
    // measured by them 2026-07).
    let told = twice.into_iter().map(|problem| problem.help("CloudFormation takes the last, without a word"));
    outcome.warnings.extend(told);
    outcome.warnings.sort_by_key(|problem| problem.span.offset);
    all_parts.into_iter().for_each(|parts| parts.tell(&mut outcome));
    outcome
}

/// The names of the parameters that a template declares, or those of an app.
pub fn parameters_of(text: &str) -> BTreeSet<String> {
    let stacks = app::parts(text);
    if !stacks.is_empty() {
        return stacks.iter().flat_map(|part| parameters_of(part.text)).collect();
    }
    let document = yaml::parse_as_aws("", text).ok();
    let declared = document.as_ref().and_then(|(document, _)| document.root.get("Parameters")?.as_mapping());
    declared.into_iter().flat_map(|all| all.entries()).map(|entry| entry.key.to_string()).collect()
}

/// Where a template gives a property of a resource, or of `Globals: Function`; for what is found wrong only when a function is
/// deployed. Nothing when the text gives it nowhere, as when a transform made it.
///
/// `at` is where the resource stands, which tells the stack of an app.
pub fn place_of(text: &str, at: Span, resource: &str, property: &str) -> Option<Span> {
    if let Some(part) = app::part_at(text, at.offset) {
        let own = resource.strip_prefix(&*sam::letters(part.stack));
        let found = place_of(part.text, at, resource, property);
        let found = found.or_else(|| place_of(part.text, at, own?, property));
        return found.map(|span| span.moved(part.offset as u32));
    }
    let (document, _) = yaml::parse_as_aws("", text).ok()?;
    let within = |path: &[&str]| {
        let node = path.iter().try_fold(&document.root, |node, key| node.get(key))?;
        Some(node.span)
    };
    within(&["Resources", resource, "Properties", property])
        .or_else(|| within(&["Globals", "Function", property]))
}

/// The zones of a Region. Source: "AWS Global Infrastructure" (how many, published; that an account's have the first letters,
/// assumed; of Regions with two of them three).
fn default_zones(region: &str) -> Vec<String> {
    let last = match region {
        "us-east-1" => 'f',
        "us-west-2" | "ap-northeast-2" => 'd',
        _ => 'c',
    };
    ('a'..=last).map(|letter| format!("{region}{letter}")).collect()
}
