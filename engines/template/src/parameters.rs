//! The `Parameters` section: types, defaults, the user's values, and what a value must look like.

use crate::Inputs;
use crate::problem::{Cause, Problem, Problems, quoted};
use crate::suggest::did_you_mean;
use crate::yaml::{Entry, Mapping, Node, Scalar, Span, Style};
use std::collections::BTreeMap;

/// What a parameter's definition may hold.
const KEYS: &[&str] = &[
    "Type",
    "Default",
    "AllowedValues",
    "AllowedPattern",
    "ConstraintDescription",
    "Description",
    "MaxLength",
    "MaxValue",
    "MinLength",
    "MinValue",
    "NoEcho",
];

/// A pattern larger than this when compiled is not checked.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Values by name; `None` for a parameter that has none, which has been reported.
pub(crate) type Values = BTreeMap<String, Option<Node>>;

/// Reads the section and joins it with the user's values.
pub(crate) fn read(
    section: Option<&Mapping>,
    root: Span,
    inputs: &Inputs,
    problems: &mut Problems,
) -> Values {
    let entries = section.map(Mapping::entries).unwrap_or_default();
    let mut values = Values::new();
    for entry in entries {
        let value =
            entry.value.mapping(problems).and_then(|definition| one(entry, definition, inputs, problems));
        values.insert(entry.key.to_string(), value);
    }
    let place = entries.first().map_or(root, |entry| entry.key_span);
    for name in inputs.parameters.keys().filter(|name| !values.contains_key(*name)) {
        let cause = Cause::Unknown { what: "the parameter", name: name.clone() };
        let help = did_you_mean(name, values.keys().map(String::as_str))
            .unwrap_or_else(|| "a value was given for it, but the template does not define it".to_owned());
        problems.push(Problem::new(place, cause).help(help));
    }
    values
}

fn one(entry: &Entry, definition: &Mapping, inputs: &Inputs, problems: &mut Problems) -> Option<Node> {
    definition.only(KEYS, problems);
    let owner = format!("the parameter {}", quoted(&entry.key));
    let kind = definition.require("Type", &owner, entry.key_span, problems)?.string(problems)?;
    let given = inputs.parameters.get(&*entry.key).or_else(|| inputs.previous.get(&*entry.key));
    let given = given.map(|value| Node::text(value.as_str(), entry.key_span));
    let default = definition.entry("Default").map(|entry| &entry.value);
    let Some(value) = given.or_else(|| default.map(|node| text_of(node, problems))) else {
        let problem = Problem::new(entry.key_span, Cause::NoValue { owner });
        problems.push(problem.help(format!("--parameter-overrides {}=VALUE", entry.key)));
        return None;
    };
    let text = value.as_str().unwrap_or_default().to_owned();
    let place = value.span;
    if kind.starts_with("AWS::SSM::Parameter::Value<") {
        return Some(from_ssm(kind, &text, place));
    }
    let is_list = kind == "CommaDelimitedList" || kind.starts_with("List<");
    check_type(kind, definition, problems);
    if !is_list {
        check(&owner, kind, &text, place, definition, problems);
        let style = if kind == "Number" { Style::Plain } else { Style::Quoted };
        let scalar = Scalar { value: text.into(), style };
        return Some(Node { kind: crate::yaml::Kind::Scalar(scalar), tag: None, span: place });
    }
    let items: Vec<&str> =
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() };
    for item in &items {
        let inner = if kind == "List<Number>" { "Number" } else { "String" };
        check(&owner, inner, item, place, definition, problems);
    }
    Some(Node::list(items.into_iter().map(|item| Node::text(item, place)).collect(), place))
}

/// A default may be a list in YAML where CloudFormation wants `a,b`.
fn text_of(node: &Node, problems: &mut Problems) -> Node {
    if let Some(items) = node.as_sequence() {
        let items: Vec<&str> = items.iter().filter_map(|item| item.string(problems)).collect();
        return Node::text(items.join(","), node.span);
    }
    if node.as_mapping().is_some() || node.tag.is_some() {
        problems.push(Problem::wrong_type(node, "text without functions"));
    }
    Node::text(node.as_str().unwrap_or_default(), node.span)
}

/// The value is the name of an SSM parameter: it is kept as a reference for whoever runs the resource.
fn from_ssm(kind: &str, name: &str, place: Span) -> Node {
    let reference = Node::text(format!("{{{{resolve:ssm:{name}}}}}"), place);
    if kind.contains("List<") || kind.contains("CommaDelimitedList") {
        Node::list(vec![reference], place)
    } else {
        reference
    }
}

fn check_type(kind: &str, definition: &Mapping, problems: &mut Problems) {
    const PLAIN: &[&str] = &["String", "Number", "List<Number>", "List<String>", "CommaDelimitedList"];
    if PLAIN.contains(&kind) || kind.starts_with("AWS::") || kind.starts_with("List<AWS::") {
        return;
    }
    if let Some(node) = definition.get("Type") {
        let cause = Cause::Unknown { what: "the parameter type", name: kind.to_owned() };
        let help = did_you_mean(kind, PLAIN.iter().copied()).unwrap_or_else(|| PLAIN.join(", "));
        problems.push(Problem::new(node.span, cause).help(help));
    }
}

fn check(owner: &str, kind: &str, value: &str, place: Span, definition: &Mapping, problems: &mut Problems) {
    let hint = definition.get("ConstraintDescription").and_then(Node::as_str).map(str::to_owned);
    let mut wrong = |message: String| problems.push(Problem::at(place, message).maybe_help(hint.clone()));
    let number = value.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    if kind == "Number" && number.is_none() {
        wrong(format!("{owner} is a number, and {} is not", quoted(value)));
    }
    if let Some(allowed) = definition.get("AllowedValues").and_then(Node::as_sequence) {
        let allowed: Vec<&str> = allowed.iter().filter_map(Node::as_str).collect();
        if !allowed.contains(&value) {
            wrong(format!("{owner} may be {}, and not {}", allowed.join(", "), quoted(value)));
        }
    }
    let bound =
        |key: &str| definition.get(key).and_then(Node::as_str).and_then(|text| text.parse::<f64>().ok());
    let length = value.chars().count() as f64;
    for (key, measured) in
        [("MinLength", Some(length)), ("MaxLength", Some(length)), ("MinValue", number), ("MaxValue", number)]
    {
        let (Some(bound), Some(measured)) = (bound(key), measured) else { continue };
        if (key.starts_with("Min") && measured < bound) || (key.starts_with("Max") && measured > bound) {
            wrong(format!("{owner} is {} with {key} {bound}", quoted(value)));
        }
    }
    let Some(pattern) = definition.get("AllowedPattern").and_then(Node::as_str) else { return };
    // The whole value must match. What this engine does not know (look-around of Java's) is not checked.
    let whole =
        regex_lite::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(MAX_PATTERN_BYTES).build();
    if whole.is_ok_and(|expression| !expression.is_match(value)) {
        wrong(format!("{owner} must match the pattern {}, and {} does not", quoted(pattern), quoted(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn run(section: &str, given: &[(&str, &str)]) -> (Values, Vec<String>) {
        let document = yaml::parse("t", section).unwrap();
        let parameters = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let inputs = Inputs { parameters, ..Inputs::default() };
        let mut problems = Problems::new();
        let values = read(document.root.as_mapping(), document.root.span, &inputs, &mut problems);
        (values, problems.into_vec().iter().map(|problem| problem.one_line("t")).collect())
    }

    #[test]
    fn defaults_overrides_and_lists() {
        let (values, problems) = run(
            "A: {Type: String, Default: x}\nB: {Type: Number, Default: 5}\n\
             C: {Type: CommaDelimitedList, Default: 'a, b'}\nD: {Type: 'AWS::SSM::Parameter::Value<String>', Default: /p}\n\
             E: {Type: 'List<AWS::EC2::Subnet::Id>', Default: ''}\nF: {Type: String, Default: ''}\n",
            &[("A", "given")],
        );
        assert_eq!(problems, Vec::<String>::new());
        let text = |name: &str| values[name].as_ref().and_then(Node::as_str).map(str::to_owned);
        assert_eq!(text("A").as_deref(), Some("given"));
        assert_eq!(text("B").as_deref(), Some("5"));
        assert_eq!(text("D").as_deref(), Some("{{resolve:ssm:/p}}"));
        assert_eq!(text("F").as_deref(), Some(""));
        assert_eq!(values["C"].as_ref().unwrap().as_sequence().unwrap()[1].as_str(), Some("b"));
        assert!(values["E"].as_ref().unwrap().as_sequence().unwrap().is_empty());
    }

    #[test]
    fn what_was_given_before_counts_where_nothing_else_is_given() {
        let document = yaml::parse("t", "A: {Type: String, Default: x}\nB: {Type: String}").unwrap();
        let texts = |all: &[(&str, &str)]| {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let inputs = Inputs {
            parameters: texts(&[("A", "now")]),
            previous: texts(&[("A", "before"), ("B", "before"), ("Gone", "before")]),
            ..Inputs::default()
        };
        let mut problems = Problems::new();
        let values = read(document.root.as_mapping(), document.root.span, &inputs, &mut problems);
        assert!(problems.into_vec().is_empty(), "a parameter that the template no longer has is no problem");
        let text = |name: &str| values[name].as_ref().and_then(Node::as_str).map(str::to_owned);
        assert_eq!((text("A").as_deref(), text("B").as_deref()), (Some("now"), Some("before")));
    }

    #[test]
    fn bad_values_say_what_is_allowed() {
        let (_, problems) = run(
            "A: {Type: String}\nB: {Type: String, AllowedValues: [dev, prod], Default: test}\n\
             C: {Type: Number, Default: x}\nD: {Type: String, AllowedPattern: '[a-z]+', Default: A1, ConstraintDescription: letters only}\n\
             E: {Type: Strng, Default: x}\nF: {Type: Number, MinValue: 1, MaxValue: 5, Default: 9}\n\
             G: {Type: String, MaxLength: 2, Default: abc}\nH: {Type: String, AllowedPattern: '(?=x)x', Default: y}\n",
            &[("Aa", "1")],
        );
        assert_eq!(
            problems,
            [
                "t:1:1: the parameter `A` has no value and no default (--parameter-overrides A=VALUE)",
                "t:1:1: the parameter `Aa` does not exist (did you mean `A`?)",
                "t:2:56: the parameter `B` may be dev, prod, and not `test`",
                "t:3:28: the parameter `C` is a number, and `x` is not",
                "t:4:54: the parameter `D` must match the pattern `[a-z]+`, and `A1` does not (letters only)",
                "t:5:11: the parameter type `Strng` does not exist (did you mean `String`?)",
                "t:6:54: the parameter `F` is `9` with MaxValue 5",
                "t:7:42: the parameter `G` is `abc` with MaxLength 2",
            ]
        );
    }
}
