//! Recognises intrinsic functions in both spellings, and finds every name that a value mentions.

use crate::yaml::{Kind, Node, Span};

/// The functions that are resolved, without `Fn::`.
pub(crate) const FUNCTIONS: &[&str] = &[
    "Ref",
    "GetAtt",
    "Sub",
    "Join",
    "Split",
    "Select",
    "If",
    "And",
    "Or",
    "Not",
    "Equals",
    "Condition",
    "FindInMap",
    "Base64",
    "Cidr",
    "GetAZs",
    "ImportValue",
    "Length",
    "ToJsonString",
];

/// A call of an intrinsic function.
#[derive(Clone, Copy)]
pub(crate) struct Call<'node> {
    /// `Ref`, `GetAtt`, …: without `!` and `Fn::`.
    pub(crate) name: &'node str,
    /// The argument. When `tagged`, it is the call's own node, and its tag is the call.
    pub(crate) argument: &'node Node,
    /// `!Sub x` rather than `{Fn::Sub: x}`.
    pub(crate) tagged: bool,
}

impl<'node> Call<'node> {
    /// The call that `node` is, if it is one, known or not.
    pub(crate) fn of(node: &'node Node) -> Option<Self> {
        if let Some(tag) = node.tag.as_deref() {
            let name = tag.strip_prefix("Fn::").unwrap_or(tag);
            return Some(Self { name, argument: node, tagged: true });
        }
        Self::of_kind(&node.kind)
    }

    /// The same without regard to the tag: what stands behind a tag may be a call in the long spelling.
    pub(crate) fn of_kind(kind: &'node Kind) -> Option<Self> {
        let Kind::Mapping(mapping) = kind else { return None };
        let [entry] = mapping.entries() else { return None };
        let name = if &*entry.key == "Ref" { "Ref" } else { entry.key.strip_prefix("Fn::")? };
        Some(Self { name, argument: &entry.value, tagged: false })
    }

    /// The argument's list.
    pub(crate) fn items(&self) -> Option<&'node [Node]> {
        self.argument.as_sequence()
    }
}

/// A piece of the text of `Fn::Sub`.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'text> {
    /// To be taken as it is.
    Text(&'text str),
    /// What stands in `${…}`.
    Variable(&'text str),
}

/// Splits the text of `Fn::Sub`. `${!Name}` is the text `${Name}`.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(len) = rest[start + 2..].find('}') else { break };
        let inside = &rest[start + 2..start + 2 + len];
        if let Some(literal) = inside.strip_prefix('!') {
            found.push(Piece::Text(&rest[..start + 2]));
            found.push(Piece::Text(&rest[start + 2 + inside.len() - literal.len()..start + 3 + len]));
        } else {
            found.push(Piece::Text(&rest[..start]));
            found.push(Piece::Variable(inside.trim()));
        }
        rest = &rest[start + 3 + len..];
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    found
}

/// A name that a value mentions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mention<'node> {
    /// A parameter, pseudo parameter or resource by `Ref` or `${Name}`; or, with a dot in the name, what `${A.B}`
    /// means.
    Ref(&'node str, Span),
    /// A resource's attribute.
    Attribute(&'node str, String, Span),
    /// A condition.
    Condition(&'node str, Span),
}

/// Calls `visit` for every name that `node` mentions. The place of a name within `Fn::Sub` is that of the whole text;
/// [`Span::narrow`] finds the name in it.
pub(crate) fn mentions<'node>(node: &'node Node, visit: &mut dyn FnMut(Mention<'node>)) {
    let call = Call::of(node);
    match call {
        Some(Call { name: "Ref", argument, .. }) => {
            if let Some(name) = argument.as_str() {
                visit(Mention::Ref(name, argument.span));
            }
            return;
        }
        Some(Call { name: "Condition", argument, .. }) => {
            if let Some(name) = argument.as_str() {
                visit(Mention::Condition(name, argument.span));
            }
            return;
        }
        Some(Call { name: "GetAtt", argument, .. }) => {
            if let Some((id, attribute)) = attribute_of(argument) {
                visit(Mention::Attribute(id, attribute, argument.span));
            }
        }
        Some(Call { name: "Sub", argument, .. }) => {
            substitution(argument, visit);
            return;
        }
        Some(Call { name: "If", argument, .. }) => {
            if let Some(name) = argument.as_sequence().and_then(|items| items.first()).and_then(Node::as_str)
            {
                visit(Mention::Condition(
                    name,
                    argument.as_sequence().map_or(argument.span, |items| items[0].span),
                ));
            }
        }
        _ => {}
    }
    match &node.kind {
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => items.iter().for_each(|item| mentions(item, visit)),
        Kind::Mapping(mapping) => {
            mapping.entries().iter().for_each(|entry| mentions(&entry.value, visit));
        }
    }
}

/// `A.B.C` or `[A, B.C]`; nothing when the attribute's name is itself computed (then it is found when resolved).
pub(crate) fn attribute_of(argument: &Node) -> Option<(&str, String)> {
    match &argument.kind {
        Kind::Scalar(_) => {
            argument.as_str()?.split_once('.').map(|(id, attribute)| (id, attribute.to_owned()))
        }
        Kind::Sequence(items) => {
            let [id, attributes @ ..] = items.as_slice() else { return None };
            let names: Option<Vec<&str>> =
                attributes.iter().map(|item| item.as_str().filter(|_| Call::of(item).is_none())).collect();
            names.filter(|names| !names.is_empty()).and_then(|names| Some((id.as_str()?, names.join("."))))
        }
        Kind::Mapping(_) => None,
    }
}

fn substitution<'node>(argument: &'node Node, visit: &mut dyn FnMut(Mention<'node>)) {
    let (template, local) = match argument.as_sequence() {
        Some([template, local, ..]) => (template, Some(local)),
        Some([template]) => (template, None),
        _ => (argument, None),
    };
    if let Some(value) = template.as_str() {
        for piece in pieces(value) {
            if let Piece::Variable(name) = piece
                && local.and_then(Node::as_mapping).is_none_or(|mapping| mapping.entry(name).is_none())
            {
                visit(Mention::Ref(name, template.span));
            }
        }
    }
    if let Some(local) = local {
        mentions(local, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn substitutions_split() {
        use Piece::{Text, Variable};
        for (text, expected) in [
            ("a${B}c", vec![Text("a"), Variable("B"), Text("c")]),
            ("${A}${B.C}", vec![Variable("A"), Variable("B.C")]),
            ("x${!Y}z", vec![Text("x${"), Text("Y}"), Text("z")]),
            ("no $ {x} ${", vec![Text("no $ {x} ${")]),
            ("ä${ AWS::Region }", vec![Text("ä"), Variable("AWS::Region")]),
            ("", vec![]),
        ] {
            assert_eq!(pieces(text), expected, "{text}");
        }
    }

    #[test]
    fn mentions_are_found_in_both_spellings() {
        let text = "a: !Ref A\nb: {Ref: B}\nc: !GetAtt C.Arn\nd: {Fn::GetAtt: [D, X.Y]}\n\
                    e: !Sub ['${E}${L}', {L: !Ref M}]\nf: !If [Cond, !Ref F, 1]\ng: !Condition G\nh: {Condition: no}\n";
        let document = yaml::parse("t", text).unwrap();
        let mut found = Vec::new();
        mentions(&document.root, &mut |mention| found.push(mention));
        let names: Vec<String> = found
            .iter()
            .map(|mention| match mention {
                Mention::Ref(name, span) => format!("ref {name} {}", span.line),
                Mention::Attribute(id, attribute, span) => format!("att {id}.{attribute} {}", span.line),
                Mention::Condition(name, span) => format!("if {name} {}", span.line),
            })
            .collect();
        assert_eq!(
            names,
            [
                "ref A 1",
                "ref B 2",
                "att C.Arn 3",
                "att D.X.Y 4",
                "ref E 5",
                "ref M 5",
                "if Cond 6",
                "ref F 6",
                "if G 7"
            ]
        );
    }
}
