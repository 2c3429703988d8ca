//! What `up` prints when it serves: what runs, where, what is not enforced, what to try.

use crate::commands::doctor::{cures, word};
use control::{Control, Function};
use model::Era;
use model::stack::{ApiRoute, Integration, IntegrationKind, Stack};
use sandbox::{Abilities, AbilityState};
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Functions that are listed for people: more than that nobody reads at each start.
const LISTED_MAX: usize = 100;

/// What there is to say.
pub struct Summary<'a> {
    pub base: &'a str,
    pub control: &'a Control,
    /// Those that something hangs on; see [`Control::known_functions`].
    pub functions: Vec<Arc<Function>>,
    pub doors: Vec<(String, String)>,
    pub abilities: &'a Abilities,
    pub stack: Option<&'a Stack>,
    pub era: &'a Era,
    pub took: Duration,
    /// Whether the APIs are at the root.
    pub front: bool,
    /// Whether signatures are verified.
    pub verifies: bool,
    /// Whether authorizers are not asked.
    pub lets_everybody_in: bool,
    /// What there is of a network; `None`: loopback alone.
    pub network: Option<&'a str>,
}

impl Summary<'_> {
    /// What a template asks for and is not run: said here, never skipped silently.
    fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        // What environments have in its place is said of `network-interface`.
        if self.network.is_none() && self.functions.iter().any(|function| function.vpc.is_some()) {
            gaps.push("network: the template's VPC carries no packets".to_owned());
        }
        if let Some(stack) = self.stack {
            let http = stack.http_apis.iter().flat_map(|api| &api.routes);
            let open: Vec<_> = http
                .chain(stack.rest_apis.iter().flat_map(|api| &api.routes))
                .filter(|route| !matches!(route.authorization_type.as_str(), "NONE" | "AWS_IAM"))
                .filter(|route| self.lets_everybody_in || route.authorization_type != "CUSTOM")
                .map(|route| format!("{} ({})", route.route_key, route.authorization_type))
                .collect();
            if !open.is_empty() && self.lets_everybody_in {
                gaps.push(format!("authorizers: whoever reaches this port may call {}", open.join(", ")));
            } else if !open.is_empty() {
                gaps.push(format!(
                    "authorizers other than Lambda ones answer 501, unless with --disable-authorizer: {}",
                    open.join(", ")
                ));
            }
            let http = stack.http_apis.iter().map(|api| (&api.id, &api.routes));
            let rest = stack.rest_apis.iter().map(|api| (&api.id, &api.routes));
            let is_run = |integration: &Integration| match integration.kind {
                IntegrationKind::AwsProxy => integration.function.is_some(),
                _ => integration.mock.is_some(),
            };
            let others: Vec<_> = http
                .chain(rest)
                .flat_map(|(api, routes)| routes.iter().map(move |route| (api, route)))
                .filter_map(|(api, route)| Some((api, route, route.integration.as_ref()?)))
                .filter(|(_, _, integration)| !is_run(integration))
                .map(|(api, route, other)| format!("{api} {} ({})", route.route_key, other.kind.as_str()))
                .collect();
            if !others.is_empty() {
                gaps.push(format!(
                    "integrations other than Lambda proxies answer 501: {}",
                    others.join(", ")
                ));
            }
        }
        let signed = self
            .functions
            .iter()
            .filter(|function| function.urls().any(|(_, url)| url.auth_type == control::AuthType::AwsIam));
        let mut signed: Vec<_> = signed.map(|function| function.name.as_str()).collect();
        if let Some(stack) = self.stack {
            let http = stack.http_apis.iter().flat_map(|api| &api.routes);
            let routes = http.chain(stack.rest_apis.iter().flat_map(|api| &api.routes));
            let of_iam = routes.filter(|route| route.authorization_type == "AWS_IAM");
            signed.extend(of_iam.map(|route| route.route_key.as_str()));
        }
        if !signed.is_empty() && !self.verifies {
            gaps.push(format!(
                "signatures: what asks for AWS_IAM takes any without --credentials: {}",
                signed.join(", ")
            ));
        }
        gaps
    }

    /// A function to try: the app's own, where another does not but serve a deployment, as those that the CDK adds.
    fn function_to_try(&self) -> Option<Arc<Function>> {
        let is_provider = |function: &&Arc<Function>| {
            let id = function.logical_id.as_ref();
            self.stack.zip(id).is_some_and(|(stack, id)| stack.providers.contains(id))
        };
        let own = self.functions.iter().find(|function| !is_provider(function));
        let known = own.or(self.functions.first()).cloned();
        known.or_else(|| self.control.functions_from("", 1).pop())
    }

    /// A door to try, and a path that a function answers there: of an API a route that asks for nothing and takes a GET.
    fn answering_door(&self) -> Option<(&(String, String), String)> {
        self.doors.iter().find_map(|door| Some((door, self.path_to_try(&door.0)?)))
    }

    fn path_to_try(&self, door: &str) -> Option<String> {
        let stack = self.stack?;
        let http = stack.http_apis.iter().find(|api| api.id == door).map(|api| &api.routes);
        let rest = stack.rest_apis.iter().find(|api| api.id == door).map(|api| &api.routes);
        let Some(routes) = http.or(rest) else {
            let function = self.functions.iter().find(|one| one.logical_id.as_deref() == Some(door))?;
            let open = function.urls().any(|(_, url)| url.auth_type != control::AuthType::AwsIam);
            return open.then(String::new);
        };
        path_that_answers(routes)
    }

    fn not_enforced(&self) -> impl Iterator<Item = &sandbox::Ability> {
        self.abilities.items.iter().filter(|item| item.state != AbilityState::Enforced)
    }
}

/// The path of a route that takes a GET, asks for nothing and leads to a function: the one with the fewest placeholders.
fn path_that_answers(routes: &[ApiRoute]) -> Option<String> {
    let answers = |route: &&ApiRoute| {
        let leads = route.integration.as_ref().is_some_and(|integration| integration.function.is_some());
        leads
            && matches!(&*route.method, "GET" | "ANY" | "$default")
            && route.authorization_type == "NONE"
            && !route.api_key_required
    };
    let route = routes.iter().filter(answers).min_by_key(|route| route.path.matches('{').count())?;
    Some(route.path.replace(['{', '}', '+'], ""))
}

/// The stage before a REST API's paths.
fn stage(url: &str) -> &str {
    url.splitn(4, '/').nth(3).unwrap_or("")
}

/// For people; the `ready` line stands alone.
pub fn text(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    let Summary { base, control, doors, era, took, .. } = summary;
    let of_template: Vec<_> =
        summary.functions.iter().filter(|function| function.logical_id.is_some()).cloned().collect();
    let functions = match control.count() {
        ..=LISTED_MAX => control.functions(),
        _ if of_template.is_empty() => control.functions_from("", LISTED_MAX),
        _ => of_template,
    };
    let _ = writeln!(text, "Functions (era {}: {})", era.name, era.summary);
    for function in &functions {
        let word = function.logical_id.as_ref().unwrap_or(&function.name);
        let runtime = function.runtime.as_deref().unwrap_or("image");
        let reserved = function.reserved.map(|n| format!(", {n} reserved")).unwrap_or_default();
        let seconds = function.timeout.as_secs();
        let name = if *word == function.name { String::new() } else { format!("  as {}", function.name) };
        let _ = writeln!(
            text,
            "  {word:<24} {runtime:<18} {} MB, {seconds} s{reserved}{name}",
            function.memory_mb
        );
    }
    let others = control.count().saturating_sub(functions.len());
    if others > 0 {
        let _ = writeln!(text, "  and {others} more: aws lambda list-functions --endpoint-url {base}");
    }
    if functions.is_empty() {
        let _ = writeln!(text, "  none yet: aws lambda create-function --endpoint-url {base} …");
    }
    if !doors.is_empty() {
        let _ = writeln!(text, "Doors");
        for (id, url) in doors {
            let _ = writeln!(text, "  {id:<24} {url}");
            let _ = writeln!(text, "  {:<24} {base}/_onrush/door/{id}/{}", "", stage(url));
        }
    }
    if summary.front {
        let apis = summary.stack.map_or(0, |stack| stack.http_apis.len() + stack.rest_apis.len());
        let what = if apis == 0 { "the template has no API" } else { "the template's APIs" };
        let _ = writeln!(text, "At the root\n  {:<24} {base}/", what);
    }
    if let Some(network) = summary.network {
        let _ = writeln!(text, "Network\n  {network}");
    }
    let _ = writeln!(text, "Not enforced here");
    if summary.gaps().is_empty() && summary.not_enforced().next().is_none() {
        let _ = writeln!(text, "  nothing: this host has all that it takes");
    }
    for gap in summary.gaps() {
        let _ = writeln!(text, "  {gap}");
    }
    for item in summary.not_enforced() {
        let _ = writeln!(text, "  {}: {}, {}", item.name, word(item.state), item.detail);
    }
    for cure in cures(summary.not_enforced()) {
        let _ = writeln!(text, "  cure: {cure}");
    }
    if let Some(function) = summary.function_to_try() {
        let word = function.logical_id.as_ref().unwrap_or(&function.name);
        let endpoint =
            if *base == "http://127.0.0.1:4566" { String::new() } else { format!(" --endpoint {base}") };
        let _ = writeln!(text, "Try");
        let _ = writeln!(text, "  onrush invoke {word}{endpoint}");
        match summary.answering_door().or_else(|| Some((doors.first()?, String::new()))) {
            Some(((id, url), path)) => {
                let path = format!("{}{path}", stage(url));
                let _ = writeln!(text, "  curl {base}/_onrush/door/{id}/{}", path.trim_start_matches('/'));
            }
            None => {
                let _ = writeln!(text, "  aws lambda list-functions --endpoint-url {base}");
            }
        }
        let _ = writeln!(text, "  onrush logs {word} -f{endpoint}");
    }
    let _ = writeln!(text, "serving after {} ms", took.as_millis());
    let _ = writeln!(text, "ready {base}");
    text
}

/// For scripts: one line. Made without values in between, since functions may be ten thousand.
pub fn json(summary: &Summary<'_>) -> String {
    let doors = summary.doors.iter();
    let page = Page {
        schema: 1,
        ready: summary.base,
        era: &summary.era.name,
        functions: Names(summary.control),
        doors: doors
            .map(|(id, url)| OneDoor {
                id,
                url,
                path_url: format!("{}/_onrush/door/{id}/{}", summary.base, stage(url)),
            })
            .collect(),
        network: summary.network,
        not_enforced: summary
            .not_enforced()
            .map(|item| json!({ "capability": item.name, "state": word(item.state), "detail": item.detail, "cure": item.cure }))
            .collect(),
        gaps: summary.gaps(),
        took_ms: summary.took.as_millis() as u64,
    };
    serde_json::to_string(&page).expect("it holds nothing that JSON cannot") + "\n"
}

#[derive(Serialize)]
struct Page<'a> {
    schema: u32,
    ready: &'a str,
    era: &'a str,
    functions: Names<'a>,
    doors: Vec<OneDoor<'a>>,
    network: Option<&'a str>,
    not_enforced: Vec<Value>,
    gaps: Vec<String>,
    took_ms: u64,
}

/// Every function.
struct Names<'a>(&'a Control);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut done = Ok(());
        self.0.each_name(|name, arn, logical_id| {
            if done.is_ok() {
                done = list.serialize_element(&OneFunction { name, logical_id, arn });
            }
        });
        done?;
        list.end()
    }
}

#[derive(Serialize)]
struct OneFunction<'a> {
    name: &'a str,
    logical_id: Option<&'a str>,
    arn: &'a str,
}

#[derive(Serialize)]
struct OneDoor<'a> {
    id: &'a str,
    url: &'a str,
    path_url: String,
}

#[cfg(test)]
mod tests {
    use super::path_that_answers;

    fn path(events: &str) -> Option<String> {
        let text = format!(
            "Transform: AWS::Serverless-2016-10-31
Resources:
  Shop:
    Type: AWS::Serverless::Function
    Properties: {{InlineCode: x, Handler: index.handler, Runtime: python3.13, Events: {{{events}}}}}
"
        );
        let stack = template::read("t", &text, &template::Inputs::default()).stack.unwrap();
        let api = stack.rest_apis.first().map(|api| &api.routes);
        path_that_answers(api.or(stack.http_apis.first().map(|api| &api.routes)).unwrap())
    }

    #[test]
    fn the_path_to_try_is_one_that_a_function_answers() {
        let put = "P: {Type: Api, Properties: {Path: /items, Method: put}}";
        let signed = "S: {Type: Api, Properties: {Path: /mine, Method: get, Auth: {Authorizer: AWS_IAM}}}";
        let one = "G: {Type: Api, Properties: {Path: '/items/{id}', Method: get}}";
        assert_eq!(path(put), None);
        assert_eq!(path(&format!("{put}, {signed}, {one}")).as_deref(), Some("/items/id"));
        let all = "A: {Type: Api, Properties: {Path: /all, Method: any}}";
        assert_eq!(path(&format!("{put}, {one}, {all}")).as_deref(), Some("/all"));
        assert_eq!(path("H: {Type: HttpApi}").as_deref(), Some(""), "the catch-all takes the root");
    }
}
