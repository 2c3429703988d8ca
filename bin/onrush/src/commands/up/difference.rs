//! What a deployment changed, in words and as JSON.

use control::Function;
use doors::ApiParts;
use model::stack::Stack;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One function or API that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Logical id, or name.
    pub word: String,
    /// `created`, `updated` or `removed`.
    pub how: &'static str,
    /// What of it, for instance `code` or `memory 128 -> 256 MB`.
    pub what: Vec<String>,
}

impl Changed {
    /// For people: `CartFunction updated: code, timeout 3 -> 10 s`.
    pub fn line(&self) -> String {
        let what = self.what.join(", ");
        format!("{} {}{}{what}", self.word, self.how, if what.is_empty() { "" } else { ": " })
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({ "id": self.word, "change": self.how, "what": self.what })
    }
}

/// How the functions differ.
pub fn of_functions(before: &[Arc<Function>], after: &[Arc<Function>]) -> Vec<Changed> {
    let by_name = |all: &[Arc<Function>]| -> BTreeMap<String, Arc<Function>> {
        all.iter().map(|function| (function.name.clone(), function.clone())).collect()
    };
    let (before, after) = (by_name(before), by_name(after));
    let word = |function: &Function| function.logical_id.clone().unwrap_or_else(|| function.name.clone());
    let mut all = Vec::new();
    for (name, function) in &after {
        match before.get(name) {
            None => all.push(Changed { word: word(function), how: "created", what: Vec::new() }),
            Some(old) if old != function => {
                all.push(Changed { word: word(function), how: "updated", what: of_function(old, function) });
            }
            Some(_) => {}
        }
    }
    for (_, function) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        all.push(Changed { word: word(function), how: "removed", what: Vec::new() });
    }
    all
}

fn of_function(old: &Function, new: &Function) -> Vec<String> {
    let mut what = Vec::new();
    let mut differs = |is: bool, word: &str| {
        if is {
            what.push(word.to_owned());
        }
    };
    let code = |function: &Function| {
        let image = function.image.as_ref().map(|image| image.id.clone());
        (function.code_sha256.clone(), function.location.clone(), image, function.pull.clone())
    };
    differs(code(old) != code(new), "code");
    differs(old.runtime != new.runtime, "runtime");
    differs(old.handler != new.handler, "handler");
    if old.memory_mb != new.memory_mb {
        differs(true, &format!("memory {} -> {} MB", old.memory_mb, new.memory_mb));
    }
    if old.timeout != new.timeout {
        differs(true, &format!("timeout {} -> {} s", old.timeout.as_secs(), new.timeout.as_secs()));
    }
    if old.reserved != new.reserved {
        let figure = |reserved: Option<u32>| reserved.map_or_else(|| "none".to_owned(), |n| n.to_string());
        differs(true, &format!("reserved concurrency {} -> {}", figure(old.reserved), figure(new.reserved)));
    }
    // Names alone: values may be secrets.
    let names = old.environment.keys().chain(new.environment.keys());
    let mut variables: Vec<_> = names
        .filter(|name| old.environment.get(*name) != new.environment.get(*name))
        .map(String::as_str)
        .collect();
    variables.sort_unstable();
    variables.dedup();
    if !variables.is_empty() {
        differs(true, &format!("variables {}", variables.join(" ")));
    }
    differs(old.layers != new.layers, "layers");
    differs(old.vpc != new.vpc, "VPC");
    differs(old.url.is_some() != new.url.is_some(), "URL");
    differs(old.published.aliases != new.published.aliases, "aliases");
    if what.is_empty() {
        what.push("settings".to_owned());
    }
    what
}

/// How the APIs differ.
pub fn of_apis(before: &ApiParts, after: &ApiParts) -> Vec<Changed> {
    let (before, after) = (described(before), described(after));
    let find = |all: &[(String, Value)], id: &str| all.iter().find(|(known, _)| known == id).cloned();
    let mut all = Vec::new();
    for (id, api) in &after {
        match find(&before, id) {
            None => all.push(Changed { word: id.clone(), how: "created", what: Vec::new() }),
            Some((_, old)) if old != *api => {
                all.push(Changed { word: id.clone(), how: "updated", what: vec!["routes".to_owned()] });
            }
            Some(_) => {}
        }
    }
    for (id, _) in before.iter().filter(|(id, _)| find(&after, id).is_none()) {
        all.push(Changed { word: id.clone(), how: "removed", what: Vec::new() });
    }
    all
}

/// Whether anything of API Gateway's differs: then its limits begin anew.
pub fn of_gateway(before: &ApiParts, after: &ApiParts) -> bool {
    let plans = |parts: &ApiParts| {
        let plans = without_places(serde_json::to_value(&parts.usage_plans));
        (plans, without_places(serde_json::to_value(&parts.api_keys)))
    };
    described(before) != described(after) || plans(before) != plans(after)
}

/// Logical ids and all that the template says. Where in the template it stands is no difference.
fn described(parts: &ApiParts) -> Vec<(String, Value)> {
    let http = parts.http_apis.iter().map(|api| (api.id.clone(), without_places(serde_json::to_value(api))));
    let rest = parts.rest_apis.iter().map(|api| (api.id.clone(), without_places(serde_json::to_value(api))));
    http.chain(rest).collect()
}

/// What makes up a template's network.
const NETWORK: [&str; 24] = [
    "vpcs",
    "subnets",
    "route_tables",
    "routes",
    "route_table_associations",
    "internet_gateways",
    "nat_gateways",
    "elastic_ips",
    "security_groups",
    "vpc_endpoints",
    "network_acls",
    "network_acl_associations",
    "egress_only_gateways",
    "peerings",
    "prefix_lists",
    "flow_logs",
    "hosted_zones",
    "load_balancers",
    "db_instances",
    "db_subnet_groups",
    "db_parameter_groups",
    "db_proxies",
    "db_proxy_target_groups",
    "caches",
];

/// How the networks differ, by logical id, in the order of the kinds of things.
pub fn of_network(before: &Stack, after: &Stack) -> Vec<Changed> {
    let (before, after) = (serde_json::to_value(before), serde_json::to_value(after));
    let (before, after) = (without_places(before), without_places(after));
    let things = |stack: &Value, kind: &str| -> BTreeMap<String, Value> {
        let all = stack[kind].as_array().into_iter().flatten();
        all.map(|thing| (thing["id"].as_str().unwrap_or(kind).to_owned(), thing.clone())).collect()
    };
    let mut all = Vec::new();
    for kind in NETWORK {
        let (before, after) = (things(&before, kind), things(&after, kind));
        for (id, thing) in &after {
            let how = match before.get(id) {
                None => "created",
                Some(old) if old != thing => "updated",
                Some(_) => continue,
            };
            let empty = Value::Null;
            let old = before.get(id).unwrap_or(&empty);
            let differs = |name: &&String| how == "updated" && old[name.as_str()] != thing[name.as_str()];
            let names = thing.as_object().into_iter().flat_map(|thing| thing.keys());
            let what = names.filter(differs).map(|name| name.replace('_', " ")).collect();
            all.push(Changed { word: id.clone(), how, what });
        }
        let gone = before.keys().filter(|id| !after.contains_key(*id));
        all.extend(gone.map(|id| Changed { word: id.clone(), how: "removed", what: Vec::new() }));
    }
    all
}

/// What the template says of everything that is made once, at the start: parameters and secrets; the network, too, where
/// this host runs none. A change of it waits for the next start of `up`. Answers the names of the parts that differ.
pub fn of_the_rest(before: &Stack, after: &Stack, network_is_live: bool) -> Vec<String> {
    const LIVE: [&str; 12] = [
        "name",
        "description",
        "functions",
        "versions",
        "aliases",
        "function_urls",
        "layers",
        "permissions",
        "http_apis",
        "rest_apis",
        "usage_plans",
        "api_keys",
    ];
    // Written to no end but for the log, and read from the template; a role that a function got from SAM says nothing.
    const SILENT: [&str; 3] = ["roles", "outputs", "others"];
    let (before, after) = (serde_json::to_value(before), serde_json::to_value(after));
    let (before, after) = (without_places(before), without_places(after));
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return Vec::new() };
    let is_live = |name: &str| {
        LIVE.contains(&name) || SILENT.contains(&name) || network_is_live && NETWORK.contains(&name)
    };
    let differs = |name: &&String| !is_live(name) && before.get(*name) != after.get(*name);
    after.keys().filter(differs).map(|name| name.replace('_', " ")).collect()
}

fn without_places(value: serde_json::Result<Value>) -> Value {
    fn clear(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|name, _| name != "place" && !name.ends_with("_place"));
                map.values_mut().for_each(clear);
            }
            Value::Array(all) => all.iter_mut().for_each(clear),
            _ => {}
        }
    }
    let mut value = value.unwrap_or_default();
    clear(&mut value);
    value
}
