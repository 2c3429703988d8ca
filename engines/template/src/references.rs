//! Checks every name that the template mentions, and resolves the resources in the order of their dependence.

use crate::graph;
use crate::identity::number_of_public_ip;
use crate::intrinsic::{Mention, mentions};
use crate::problem::{Cause, Problem, Problems, quoted};
use crate::resolve::{PSEUDO, Resolver, Resource};
use crate::suggest::did_you_mean;
use crate::yaml::{Entry, Kind, Mapping, Node, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Reports every mention of something that does not exist. Works on the text as written, so that each is told once and
/// where it stands, whatever the transform copied.
pub(crate) fn check(resolver: &mut Resolver<'_>, top: &Mapping, resources: &[Entry]) {
    let mut found = Vec::new();
    for entry in resources {
        if let Some(properties) = entry.value.get("Properties") {
            mentions(properties, &mut |mention| found.push(mention));
        }
        if let Some(condition) =
            entry.value.get("Condition").and_then(|node| Some((node.as_str()?, node.span)))
        {
            found.push(Mention::Condition(condition.0, condition.1));
        }
        let needed = entry.value.get("DependsOn");
        for node in
            needed.and_then(Node::as_sequence).or(needed.map(std::slice::from_ref)).unwrap_or_default()
        {
            if let Some(name) = node.as_str() {
                found.push(Mention::Attribute(name, String::new(), node.span));
            }
        }
    }
    if let Some(globals) = top.get("Globals") {
        mentions(globals, &mut |mention| found.push(mention));
    }
    if let Some(outputs) = top.get("Outputs").and_then(Node::as_mapping) {
        for entry in outputs.entries() {
            mentions(&entry.value, &mut |mention| found.push(mention));
            if let Some(node) = entry.value.get("Condition")
                && let Some(name) = node.as_str()
            {
                found.push(Mention::Condition(name, node.span));
            }
        }
    }
    name_hashed(resolver, &found, resources);
    for mention in found {
        check_one(resolver, &mention);
    }
    check_conditions(resolver, top);
}

/// How many digits of a hash SAM puts behind ids of what changes with its content (`LogicalIdGenerator` in AWS's SAM translator).
const HASH_DIGITS: usize = 10;

/// Lets `ServerlessRestApiDeployment0123456789` mean the deployment, and so with versions of functions and layers. Which hash is
/// today's is not looked at: it is of the text that SAM would make.
fn name_hashed(resolver: &mut Resolver<'_>, found: &[Mention<'_>], written: &[Entry]) {
    for mention in found {
        let (Mention::Ref(name, _) | Mention::Attribute(name, ..)) = mention else { continue };
        let name = name.split('.').next().unwrap_or_default();
        let Some((id, hash)) = name.split_at_checked(name.len().saturating_sub(HASH_DIGITS)) else {
            continue;
        };
        let is_hash = hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let names = &resolver.scope.names;
        let Some(&index) = names.get(id).filter(|_| is_hash && !names.contains_key(name)) else { continue };
        let by_hand = written.iter().find(|entry| &*entry.key == id);
        let by_hand = by_hand.and_then(|entry| entry.value.get("Type")).and_then(Node::as_str);
        let is_sams = by_hand.is_none_or(|kind| kind == "AWS::Serverless::LayerVersion");
        let kind = resolver.resources[index].kind.as_str();
        let has_hash = ["AWS::ApiGateway::Deployment", "AWS::Lambda::Version", "AWS::Lambda::LayerVersion"];
        if is_sams && has_hash.contains(&kind) {
            Rc::make_mut(&mut resolver.scope).names.insert(name.to_owned(), index);
        }
    }
}

/// Conditions may mention parameters and other conditions, but no resource.
fn check_conditions(resolver: &mut Resolver<'_>, top: &Mapping) {
    let Some(section) = top.get("Conditions") else { return };
    let mut found = Vec::new();
    mentions(section, &mut |mention| found.push(mention));
    for mention in found {
        match mention {
            Mention::Ref(name, span) | Mention::Attribute(name, _, span)
                if resolver.scope.names.contains_key(name) =>
            {
                let message = format!("a condition cannot depend on the resource {}", quoted(name));
                let span = span.narrow(resolver.text, name);
                resolver
                    .problems
                    .push(Problem::at(span, message).help("conditions see parameters and mappings only"));
            }
            mention => check_one(resolver, &mention),
        }
    }
    let mut names = Vec::new();
    crate::resolve::condition_names(section, &mut |name, span| names.push((name, span)));
    for (name, span) in names {
        check_one(resolver, &Mention::Condition(name, span));
    }
}

fn check_one(resolver: &mut Resolver<'_>, mention: &Mention<'_>) {
    let (what, name, span) = match mention {
        Mention::Ref(name, span) => {
            let id = name.split('.').next().unwrap_or_default();
            let known = PSEUDO.contains(name)
                || resolver.scope.parameters.contains_key(*name)
                || resolver.scope.names.contains_key(*name)
                || (id != *name && resolver.scope.names.contains_key(id));
            if known {
                return;
            }
            let what = if name.contains('.') { "the resource" } else { "the parameter or resource" };
            (what, if name.contains('.') { id } else { name }, *span)
        }
        Mention::Attribute(id, attribute, span) => {
            if resolver.scope.names.contains_key(*id) {
                return;
            }
            if resolver.scope.parameters.contains_key(*id) && !attribute.is_empty() {
                let message =
                    format!("{} is a parameter, and has no attribute {}", quoted(id), quoted(attribute));
                resolver.problems.push(Problem::at(*span, message).help("use Ref"));
                return;
            }
            ("the resource", *id, *span)
        }
        Mention::Condition(name, span) => {
            if resolver.scope.conditions.contains_key(*name) {
                return;
            }
            ("the condition", *name, *span)
        }
    };
    if resolver.problems.is_full() {
        resolver.problems.drop_one();
        return;
    }
    let span = span.narrow(resolver.text, name);
    let help = match mention {
        Mention::Condition(..) => did_you_mean(name, resolver.scope.conditions.keys().map(String::as_str)),
        _ => {
            let candidates =
                resolver.scope.names.keys().chain(resolver.scope.parameters.keys()).map(String::as_str);
            did_you_mean(name, candidates.chain(PSEUDO.iter().copied()))
        }
    };
    let cause = Cause::Unknown { what, name: name.to_owned() };
    resolver.problems.push(Problem::new(span, cause).maybe_help(help));
}

/// Finds the order of dependence, reports circles, and resolves each resource's properties and name.
pub(crate) fn resolve_all(resolver: &mut Resolver<'_>) {
    let mut needs: Vec<BTreeMap<usize, Span>> =
        (0..resolver.resources.len()).map(|at| needs_of(resolver, at)).collect();
    for (at, needs) in needs.iter_mut().enumerate() {
        for (needed, span) in resolver.needed_by_imports(at) {
            needs.entry(needed).or_insert(span);
        }
    }
    need_clusters(resolver, &mut needs);
    let edges: Vec<Vec<usize>> = needs.iter().map(|needs| needs.keys().copied().collect()).collect();
    let order = graph::sort(&edges);
    for circle in &order.circles {
        report_circle(resolver, circle, &needs);
    }
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for resource in &mut resolver.resources {
        let conditions = &resolver.scopes[resource.stack].conditions;
        let condition = resource.condition.as_ref();
        resource.active = condition.is_none_or(|(name, _)| conditions.get(name).copied().unwrap_or(true));
        if resource.active {
            let number = numbers.entry(numbered_with(resource)).or_default();
            resource.number = *number;
            *number += 1;
        }
    }
    number_elastic_ips(resolver);
    let mut sorted = vec![false; edges.len()];
    order.sorted.iter().for_each(|at| sorted[*at] = true);
    // What stands in a circle is resolved too, as far as it goes, to report what else is wrong.
    let rest: Vec<usize> = (0..edges.len()).filter(|at| !sorted[*at]).collect();
    for at in order.sorted.into_iter().chain(rest) {
        if resolver.resources[at].active {
            resolver.enter(resolver.resources[at].stack);
            let properties = Rc::clone(&resolver.resources[at].properties);
            resolver.resources[at].resolved = resolver.value(&properties).map(Rc::new);
            resolver.resources[at].reference = resolver.identity(at).reference();
        }
    }
    resolver.enter(0);
}

/// Elastic IPs keep the addresses that they have; the others get the next ones that nobody has or had.
fn number_elastic_ips(resolver: &mut Resolver<'_>) {
    let known = &resolver.scope.inputs.elastic_ips;
    let taken: BTreeSet<usize> = known.values().filter_map(|address| number_of_public_ip(*address)).collect();
    let mut free = (0_usize..).filter(|number| !taken.contains(number));
    for resource in &mut resolver.resources {
        if resource.active && resource.kind == "AWS::EC2::EIP" {
            let own = known.get(&resource.id).and_then(|address| number_of_public_ip(*address));
            resource.number = own.or_else(|| free.next()).unwrap_or_default();
        }
    }
}

/// What a resource is numbered among: those of its type in its stack; versions, among those of their function.
fn numbered_with(resource: &Resource) -> String {
    let function = (resource.kind == "AWS::Lambda::Version")
        .then(|| resource.properties.get("FunctionName"))
        .flatten()
        .and_then(first_text);
    let function = function.map_or("", |text| text.split('.').next().unwrap_or(text));
    format!("{} {} {function}", resource.stack, resource.kind)
}

/// The first text in a value: of `!Ref Cart` and `!GetAtt Cart.Arn` in all their spellings, what starts with `Cart`.
fn first_text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(_) => node.as_str(),
        Kind::Sequence(items) => items.first().and_then(first_text),
        Kind::Mapping(mapping) => mapping.entries().first().and_then(|entry| first_text(&entry.value)),
    }
}

/// The resources that one needs, and where it says so.
fn needs_of(resolver: &Resolver<'_>, at: usize) -> BTreeMap<usize, Span> {
    let resource = &resolver.resources[at];
    let scope = &resolver.scopes[resource.stack];
    let mut needs = BTreeMap::new();
    let mut need = |name: &str, span: Span| {
        let found = scope.names.get(name).or_else(|| scope.names.get(name.split('.').next()?));
        if let Some(index) = found.filter(|_| !scope.parameters.contains_key(name)) {
            needs.entry(*index).or_insert(span);
        }
    };
    mentions(&resource.properties, &mut |mention| match mention {
        Mention::Ref(name, span) | Mention::Attribute(name, _, span) => need(name, span),
        Mention::Condition(..) => {}
    });
    for (name, span) in &resource.depends_on {
        need(name, *span);
    }
    needs
}

/// Instances need the clusters that they name, though neither speaks of the other's logical id: the port is the cluster's.
fn need_clusters(resolver: &mut Resolver<'_>, needs: &mut [BTreeMap<usize, Span>]) {
    let mut of_kind = |kind: &str| -> Vec<(usize, Option<Rc<Node>>, Option<String>)> {
        let found = (0..needs.len()).filter(|at| resolver.resources[*at].kind == kind).collect::<Vec<_>>();
        let named = found.into_iter().map(|at| {
            resolver.enter(resolver.resources[at].stack);
            let properties = Rc::clone(&resolver.resources[at].properties);
            let node = properties.get("DBClusterIdentifier");
            let name = match node {
                Some(node) => early(resolver, node),
                None => Some(resolver.identity(at).reference()),
            };
            (at, node.cloned().map(Rc::new), name)
        });
        named.collect()
    };
    let (instances, clusters) = (of_kind("AWS::RDS::DBInstance"), of_kind("AWS::RDS::DBCluster"));
    for (instance, node, name) in &instances {
        let Some(node) = node else { continue };
        let is_of = |(_, other, called): &&(usize, Option<Rc<Node>>, Option<String>)| match (name, called) {
            (Some(name), Some(called)) => name == called,
            _ => other.as_ref().is_some_and(|other| is_written_as(node, other)),
        };
        for (cluster, ..) in clusters.iter().filter(is_of) {
            needs[*instance].entry(*cluster).or_insert(node.span);
        }
    }
}

/// A text that is known before any resource is; what is wrong with it is told when it is resolved in its turn.
pub(crate) fn early(resolver: &mut Resolver<'_>, node: &Node) -> Option<String> {
    let mut is_early = true;
    mentions(node, &mut |mention| {
        if let Mention::Ref(name, _) | Mention::Attribute(name, ..) = mention {
            is_early &= resolver.scope.parameters.contains_key(name) || PSEUDO.contains(&name);
        }
    });
    if !is_early {
        return None;
    }
    let problems = std::mem::replace(&mut resolver.problems, Problems::new());
    // What it took counts, for it may be asked for as often as there are resources.
    let before = resolver.first_unknown;
    let value = resolver.value(node);
    resolver.problems = problems;
    resolver.first_unknown = before;
    value?.as_str().map(str::to_owned)
}

/// Whether two values are written alike, wherever they stand.
fn is_written_as(one: &Node, other: &Node) -> bool {
    let is_same = match (&one.kind, &other.kind) {
        (Kind::Scalar(one), Kind::Scalar(other)) => one.value == other.value,
        (Kind::Sequence(one), Kind::Sequence(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_written_as(one, other))
        }
        (Kind::Mapping(one), Kind::Mapping(other)) => {
            let is_in =
                |entry: &Entry| other.get(&entry.key).is_some_and(|found| is_written_as(&entry.value, found));
            one.len() == other.len() && one.entries().iter().all(is_in)
        }
        _ => false,
    };
    is_same && one.tag == other.tag
}

fn report_circle(resolver: &mut Resolver<'_>, circle: &[usize], needs: &[BTreeMap<usize, Span>]) {
    let mut path: Vec<String> = circle.iter().map(|at| resolver.resources[*at].id.clone()).collect();
    path.extend(path.first().cloned());
    let Some(first) = circle.first() else { return };
    let next_of = |position: usize| circle[(position + 1) % circle.len()];
    let place = needs[*first].get(&next_of(0)).copied().unwrap_or(resolver.resources[*first].place);
    let place = place.narrow(resolver.text, &resolver.resources[next_of(0)].id);
    let mut problem = Problem::new(place, Cause::Cycle { what: "resources", path })
        .label(format!("{} needs {}", resolver.resources[*first].id, resolver.resources[next_of(0)].id))
        .help(
            "one of these must go without the other: split a rule or permission into a resource of its own",
        );
    for (position, at) in circle.iter().enumerate().skip(1) {
        if let Some(span) = needs[*at].get(&next_of(position)) {
            let label =
                format!("{} needs {}", resolver.resources[*at].id, resolver.resources[next_of(position)].id);
            let span = span.narrow(resolver.text, &resolver.resources[next_of(position)].id);
            problem = problem.related(span, label);
        }
    }
    resolver.problems.push(problem);
}
