//! Evaluates intrinsic functions: a tree with calls in, a tree of plain values out, places kept.

mod conditions;
pub(crate) use conditions::condition_names;
mod functions;
pub(crate) use functions::json;

use crate::Inputs;
use crate::app::Export;
use crate::identity::{Attribute, Identity};
use crate::intrinsic::{self, Call, FUNCTIONS, Piece};
use crate::parameters::Values;
use crate::problem::{Cause, Problem, Problems, quoted};
use crate::suggest::did_you_mean;
use crate::yaml::{Entry, Kind, Mapping, Node, Span, weight};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A resource on its way from text to meaning.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Logical id.
    pub(crate) id: String,
    /// `AWS::EC2::Subnet` and the like.
    pub(crate) kind: String,
    /// Its key in the template.
    pub(crate) place: Span,
    /// Its properties, with calls.
    pub(crate) properties: Rc<Node>,
    /// Its metadata, with calls.
    pub(crate) metadata: Option<Rc<Node>>,
    /// The condition under which it exists.
    pub(crate) condition: Option<(String, Span)>,
    /// `DependsOn`, and what a transform knows it to need.
    pub(crate) depends_on: Vec<(String, Span)>,
    /// Whether it exists.
    pub(crate) active: bool,
    /// How many active resources of its type come before it in its stack; of an elastic IP, which address it has.
    pub(crate) number: usize,
    /// Its properties without calls, once resolved.
    pub(crate) resolved: Option<Rc<Node>>,
    /// What `Ref` gives, once resolved.
    pub(crate) reference: String,
    /// Which of the stacks that are read together it is of.
    pub(crate) stack: usize,
    /// Its logical id in its stack, where `id` has the stack's name in front.
    pub(crate) own_id: Option<String>,
}

/// What names mean in one stack.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    /// What the caller gave.
    pub(crate) inputs: &'a Inputs,
    /// Parameters by name.
    pub(crate) parameters: Values,
    /// The `Mappings` section.
    pub(crate) mappings: Option<&'a Mapping>,
    /// Conditions by name, once evaluated.
    pub(crate) conditions: BTreeMap<String, bool>,
    /// Resources by logical id, and by the dotted names that SAM gives to what it makes (`Function.Alias`).
    pub(crate) names: BTreeMap<String, usize>,
    /// The `Outputs` section.
    pub(crate) outputs: Option<&'a Mapping>,
}

/// What values are resolved against.
pub(crate) struct Resolver<'a> {
    /// The template's text, to point into it.
    pub(crate) text: &'a str,
    /// What names mean in the stack that is looked at: `scopes[stack]`.
    pub(crate) scope: Rc<Scope<'a>>,
    /// Which stack that is.
    pub(crate) stack: usize,
    /// The stacks that are read together, most often one.
    pub(crate) scopes: Vec<Rc<Scope<'a>>>,
    /// What they export, by name, where there are several.
    pub(crate) exports: BTreeMap<String, Export>,
    /// How many imports are being followed.
    pub(crate) steps: usize,
    /// The Region's zones.
    pub(crate) zones: Vec<String>,
    /// Resources in order.
    pub(crate) resources: Vec<Resource>,
    /// What is wrong.
    pub(crate) problems: Problems,
    /// The first value that could not be had: never may it be missing without a problem.
    pub(crate) first_unknown: Option<Span>,
    /// How many values functions gave so far.
    pub(crate) spent_nodes: usize,
    /// How much text functions gave so far.
    pub(crate) spent_bytes: usize,
}

/// How many values all functions of a template may give together.
const MAX_COMPUTED_NODES: usize = 2_000_000;
/// How much text all functions of a template may give together.
const MAX_COMPUTED_BYTES: usize = 32 * 1024 * 1024;

/// The pseudo parameters.
pub(crate) const PSEUDO: &[&str] = &[
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

impl<'a> Resolver<'a> {
    /// The value of `node`; nothing when it is `AWS::NoValue`. A value that cannot be had is reported, and unknown.
    pub(crate) fn value(&mut self, node: &Node) -> Option<Node> {
        match Call::of(node) {
            _ if node.is_unknown() => Some(node.clone()),
            Some(call) => self.call(call, node.span),
            None => self.plain(node),
        }
    }

    /// The same for the argument of a call.
    fn argument(&mut self, call: Call<'_>) -> Option<Node> {
        if !call.tagged {
            return self.value(call.argument);
        }
        match Call::of_kind(&call.argument.kind) {
            Some(inner) => self.call(inner, call.argument.span),
            None => self.plain(call.argument),
        }
    }

    /// A value that is no call, though calls may stand inside.
    fn plain(&mut self, node: &Node) -> Option<Node> {
        let kind = match &node.kind {
            Kind::Scalar(scalar) => Kind::Scalar(scalar.clone()),
            Kind::Sequence(items) => {
                Kind::Sequence(items.iter().filter_map(|item| self.value(item)).collect())
            }
            Kind::Mapping(mapping) => {
                let mut entries = Vec::with_capacity(mapping.len());
                for Entry { key, key_span, value } in mapping.entries() {
                    if let Some(value) = self.value(value) {
                        entries.push(Entry { key: key.clone(), key_span: *key_span, value });
                    }
                }
                Kind::Mapping(Mapping::new(entries))
            }
        };
        Some(Node { kind, tag: None, span: node.span })
    }

    fn call(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        match call.name {
            "Ref" if call.argument.as_str() == Some("AWS::NoValue") => None,
            // The branch that is taken may be no value.
            "If" => self.choose(call, span),
            _ => {
                let value = self.computed(call, span).filter(|value| self.spend(value, span));
                Some(value.unwrap_or_else(|| self.unknown(span)))
            }
        }
    }

    /// Whether there is room for one more computed value. A few lines can ask for terabytes.
    fn spend(&mut self, value: &Node, span: Span) -> bool {
        let (nodes, bytes) = weight(value);
        let before = self.is_spent();
        self.spent_nodes = self.spent_nodes.saturating_add(nodes);
        self.spent_bytes = self.spent_bytes.saturating_add(bytes);
        let after = self.is_spent();
        if !before && after {
            let problem = Problem::at(span, "here the template has become too large");
            self.problems.push(problem.help("its functions give far more text than it has itself"));
        }
        !after
    }

    /// Whether functions gave more than they may.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent_nodes > MAX_COMPUTED_NODES || self.spent_bytes > MAX_COMPUTED_BYTES
    }

    fn unknown(&mut self, span: Span) -> Node {
        self.first_unknown.get_or_insert(span);
        Node::unknown(span)
    }

    /// What a function gives; nothing when it cannot be had.
    fn computed(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        match call.name {
            "Ref" => self.reference(call, span),
            "GetAtt" => self.get_attribute(call, span),
            "Sub" => self.substitute(call, span),
            "Join" => self.join(call, span),
            "Split" => self.split(call, span),
            "Select" => self.select(call, span),
            "FindInMap" => self.find_in_map(call, span),
            "Base64" => self.base64(call, span),
            "Cidr" => self.cidr(call, span),
            "GetAZs" => self.zones(call, span),
            "ImportValue" => self.import_value(call, span),
            "Length" => self.length(call, span),
            "ToJsonString" => self.json_string(call, span),
            "And" | "Or" | "Not" | "Equals" | "Condition" => {
                let message =
                    format!("Fn::{} gives no value; it can stand in the Conditions section only", call.name);
                self.problems.push(Problem::at(span, message));
                None
            }
            "Transform" => {
                self.problems.push(Problem::at(span, "Fn::Transform is not run inside of an included file"));
                None
            }
            "GetStackOutput" => {
                let help = "make it a parameter: --parameter-overrides NAME=VALUE";
                self.problems.push(Problem::at(span, "Fn::GetStackOutput is not followed here").help(help));
                None
            }
            other => {
                let cause = Cause::Unknown { what: "the function", name: other.to_owned() };
                let help = did_you_mean(other, FUNCTIONS.iter().copied())
                    .unwrap_or_else(|| format!("known: {}", FUNCTIONS.join(", ")));
                self.problems.push(Problem::new(span, cause).help(help));
                None
            }
        }
    }

    fn reference(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let Some(name) = call.argument.as_str() else {
            self.problems.push(Problem::wrong_type(call.argument, "the name of a parameter or resource"));
            return None;
        };
        // Elsewhere than after `Ref` the dot leads to an attribute.
        if let Some((id, attribute)) =
            name.split_once('.').filter(|(id, _)| self.scope.names.contains_key(*id))
            && !self.scope.names.contains_key(name)
        {
            let help = match attribute {
                "Alias" | "Version" => format!("AutoPublishAlias of {id} would make it"),
                _ => format!("an attribute is had with Fn::GetAtt: !GetAtt {name}"),
            };
            let cause = Cause::Unknown { what: "the parameter or resource", name: name.to_owned() };
            self.problems.push(Problem::new(call.argument.span, cause).help(help));
            return None;
        }
        self.named(name, span)
    }

    /// What a bare name means. An unknown one was reported when all mentions were checked.
    fn named(&mut self, name: &str, span: Span) -> Option<Node> {
        if name == "AWS::NotificationARNs" {
            return Some(Node::list(Vec::new(), span));
        }
        if let Some(text) = self.pseudo(name) {
            return Some(Node::text(text, span));
        }
        if name.starts_with("AWS::") {
            return None;
        }
        if let Some(value) = self.scope.parameters.get(name) {
            return value.clone().map(|value| Node { span, ..value });
        }
        let index = *self.scope.names.get(name)?;
        if self.exists(index, span) {
            Some(Node::text(self.resources[index].reference.as_str(), span))
        } else {
            None
        }
    }

    fn pseudo(&self, name: &str) -> Option<String> {
        let Inputs { region, account_id, stack_name, .. } = self.scope.inputs;
        Some(match name {
            "AWS::AccountId" => account_id.clone(),
            "AWS::Partition" => model::name::partition_of(region).into(),
            "AWS::Region" => region.clone(),
            "AWS::StackName" => stack_name.clone(),
            "AWS::URLSuffix" => model::name::dns_suffix_of(region).into(),
            "AWS::StackId" => format!(
                "arn:{}:cloudformation:{region}:{account_id}:stack/{stack_name}/00000000-0000-0000-0000-000000000000",
                model::name::partition_of(region)
            ),
            _ => return None,
        })
    }

    /// Whether a resource exists; that it does not, though something needs it, is a problem.
    fn exists(&mut self, index: usize, span: Span) -> bool {
        let resource = &self.resources[index];
        if !resource.active {
            let condition = resource.condition.as_ref().map_or("?", |(name, _)| name.as_str());
            let message =
                format!("{} does not exist here: its condition {condition} is false", quoted(&resource.id));
            let problem = Problem::at(span, message).related(resource.place, "defined here");
            self.problems.push(problem.help(format!("use it inside `Fn::If` with {condition}")));
        }
        self.resources[index].active
    }

    fn get_attribute(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let (id, attribute) = match intrinsic::attribute_of(call.argument) {
            Some((id, attribute)) => (id.to_owned(), attribute),
            None => {
                // The attribute's name may itself be a call.
                let items = call.items().and_then(|items| items.split_first());
                let computed =
                    items.and_then(|(id, rest)| Some((id.as_str()?.to_owned(), self.value(rest.first()?)?)));
                let Some((id, Some(attribute))) =
                    computed.map(|(id, node)| (id, node.as_str().map(str::to_owned)))
                else {
                    let wanted = "the name of a resource and an attribute, as in `Table.Arn`";
                    self.problems.push(Problem::wrong_type(call.argument, wanted));
                    return None;
                };
                (id, attribute)
            }
        };
        self.attribute(&id, &attribute, span)
    }

    fn attribute(&mut self, id: &str, attribute: &str, span: Span) -> Option<Node> {
        // `Function.Version` is itself a name: then the attribute is what follows.
        if let Some((made, attribute)) = attribute.split_once('.')
            && let name = format!("{id}.{made}")
            && self.scope.names.contains_key(&name)
        {
            return self.attribute(&name, attribute, span);
        }
        let index = *self.scope.names.get(id)?;
        if !self.exists(index, span) {
            return None;
        }
        let of = if attribute == "Endpoint.Port" { self.cluster_of(index).unwrap_or(index) } else { index };
        match self.identity(of).attribute(attribute) {
            Attribute::Text(text) => Some(Node::text(text, span)),
            Attribute::List(items) => {
                Some(Node::list(items.into_iter().map(|item| Node::text(item, span)).collect(), span))
            }
            Attribute::Unknown(known) => {
                let kind = &self.resources[index].kind;
                let problem = Problem::at(span, format!("{kind} has no attribute {}", quoted(attribute)));
                let help = did_you_mean(attribute, known.iter().copied())
                    .unwrap_or_else(|| format!("it has {}", known.join(", ")));
                self.problems.push(problem.help(help));
                None
            }
        }
    }

    /// The template's database cluster that an instance is of, which says where it answers.
    fn cluster_of(&self, index: usize) -> Option<usize> {
        let instance = &self.resources[index];
        let properties = instance.resolved.as_deref().unwrap_or(&instance.properties);
        let cluster = properties.get("DBClusterIdentifier")?.as_str()?;
        let is = |found: &Resource| found.kind == "AWS::RDS::DBCluster" && found.reference == cluster;
        (instance.kind == "AWS::RDS::DBInstance").then(|| self.resources.iter().position(is))?
    }

    /// How a resource is named; its properties count as far as they are resolved.
    pub(crate) fn identity(&self, index: usize) -> Identity<'_> {
        let resource = &self.resources[index];
        Identity {
            inputs: self.scopes.get(resource.stack).unwrap_or(&self.scope).inputs,
            zones: &self.zones,
            id: resource.own_id.as_ref().unwrap_or(&resource.id),
            kind: &resource.kind,
            properties: resource.resolved.as_deref().unwrap_or(&resource.properties),
            number: resource.number,
        }
    }

    fn substitute(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let (template, local) = match call.items() {
            Some([template, local]) => (template, Some(local)),
            Some([template]) => (template, None),
            Some(_) => return self.misused(call, span, "text, or [text, {Name: value}]"),
            None => (call.argument, None),
        };
        let Some(text) = template.as_str() else {
            return self.misused(call, span, "text, or [text, {Name: value}]");
        };
        let mut locals = BTreeMap::new();
        match local.map(|local| (local, &local.kind)) {
            None => {}
            Some((_, Kind::Mapping(mapping))) => {
                for entry in mapping.entries() {
                    if let Some(value) = self.value(&entry.value) {
                        locals.insert(&*entry.key, value);
                    }
                }
            }
            Some((local, _)) => {
                self.problems.push(Problem::wrong_type(local, "a mapping of names to values"));
                return None;
            }
        }
        let mut result = String::with_capacity(text.len());
        for piece in intrinsic::pieces(text) {
            if result.len() > functions::MAX_RESULT_BYTES {
                return self.too_long(span);
            }
            match piece {
                Piece::Text(text) => result.push_str(text),
                Piece::Variable(name) => {
                    let (place, before) = (template.span, self.problems.len());
                    let value = match locals.get(name) {
                        Some(value) => Some(value.clone()),
                        None => self.dotted(name, place),
                    };
                    // Looked for only when there is something to say, for it costs the length of the text.
                    let text = self.text;
                    let narrow = |span: Span| if span == place { span.narrow(text, name) } else { span };
                    self.problems.move_from(before, narrow);
                    match value? {
                        unknown if unknown.is_unknown() => return None,
                        Node { kind: Kind::Scalar(scalar), .. } => result.push_str(&scalar.value),
                        other => {
                            let mut problem = Problem::wrong_type(&other, "text");
                            problem.span = narrow(place);
                            self.problems.push(problem.help("join the list with Fn::Join first"));
                            return None;
                        }
                    }
                }
            }
        }
        Some(Node::text(result, span))
    }

    /// `${Name}` or `${Name.Attribute}`.
    fn dotted(&mut self, name: &str, span: Span) -> Option<Node> {
        match name.split_once('.') {
            Some((id, attribute)) if !self.scope.names.contains_key(name) => {
                self.attribute(id, attribute, span)
            }
            _ => self.named(name, span),
        }
    }

    fn choose(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let Some([condition, yes, no]) = call.items() else {
            self.misused(call, span, "[condition, value if true, value if false]");
            return Some(self.unknown(span));
        };
        let Some(name) = condition.as_str() else {
            self.problems.push(Problem::wrong_type(condition, "the name of a condition"));
            return Some(self.unknown(span));
        };
        // An unknown condition was reported when all mentions were checked.
        match self.scope.conditions.get(name) {
            Some(true) => self.value(yes),
            Some(false) => self.value(no),
            None => Some(self.unknown(span)),
        }
    }

    fn too_long(&mut self, span: Span) -> Option<Node> {
        self.problems.push(Problem::at(span, "the text grows too long"));
        None
    }

    /// A function got something else than it takes.
    fn misused(&mut self, call: Call<'_>, span: Span, wanted: &str) -> Option<Node> {
        let found = match &call.argument.kind {
            Kind::Sequence(items) => format!("a list of {}", items.len()),
            Kind::Mapping(_) => "a mapping".to_owned(),
            Kind::Scalar(scalar) => quoted(&scalar.value),
        };
        let name = if call.name == "Ref" { "Ref".to_owned() } else { format!("Fn::{}", call.name) };
        let cause = Cause::WrongType { expected: format!("{name} to have {wanted}"), found };
        self.problems.push(Problem::new(span, cause));
        None
    }
}
