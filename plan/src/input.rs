//! What the planner needs to know of a stack: its functions, and which door leads to which.

use crate::load::{Load, Name, Phase, Work};
use crate::report::Assumption;
use limits::Network;
use model::stack::{ApiRoute, FunctionTarget, PackageType, Stack};
use std::time::Duration;
use template::yaml::{Cause, Problem, Problems, did_you_mean};

/// Functions and doors, in the template's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanInput {
    /// Functions that a load may send requests to.
    pub functions: Vec<FunctionInput>,
    /// Doors that lead to them.
    pub doors: Vec<DoorInput>,
    /// Where the functions are, and the ways out.
    pub network: Network,
    /// What of the stack is not simulated, for the report.
    pub assumptions: Vec<Assumption>,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionInput {
    /// Logical id: the name that loads and reports use.
    pub id: String,
    /// Its name at AWS; loads may use it too.
    pub name: String,
    /// Reserved concurrency.
    pub reserved: Option<u32>,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Memory in MB.
    pub memory_mb: u32,
    /// Whether INIT was billed even before August 2025: custom runtimes and images.
    pub init_always_billed: bool,
}

/// What kind of door it is; it decides the status that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorKind {
    /// A function URL.
    FunctionUrl,
    /// An API Gateway v2 API.
    HttpApi,
    /// An API Gateway v1 API.
    RestApi,
}

/// A door with its routes to functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorInput {
    /// Logical id.
    pub id: String,
    /// Its kind.
    pub kind: DoorKind,
    /// Routes that lead to functions of this input.
    pub routes: Vec<RouteInput>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInput {
    /// `GET`, `ANY` or `$default`.
    pub method: String,
    /// `/cart/{id}`, `/{proxy+}`; empty for `$default`.
    pub path: String,
    /// Index of the function.
    pub function: usize,
}

/// Where a phase's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index of the function.
    pub function: usize,
    /// The door before it; `None` for a direct invocation.
    pub door: Option<DoorKind>,
}

impl PlanInput {
    /// What the planner uses of a stack.
    pub fn from_stack(stack: &Stack) -> Self {
        let functions: Vec<FunctionInput> = stack.functions.iter().map(function_input).collect();
        let index = |target: &FunctionTarget| {
            let word = target.function.as_str();
            stack
                .functions
                .iter()
                .position(|found| found.id == word || found.name == word || found.arn == word)
        };
        let routes = |routes: &[ApiRoute]| -> Vec<RouteInput> {
            let leads = |route: &ApiRoute| index(route.integration.as_ref()?.function.as_ref()?);
            let inputs = routes.iter().filter_map(|route| {
                let (method, path) = (route.method.clone(), route.path.clone());
                Some(RouteInput { method, path, function: leads(route)? })
            });
            inputs.collect()
        };
        let urls = stack.function_urls.iter().filter_map(|url| {
            let all =
                RouteInput { method: "$default".into(), path: String::new(), function: index(&url.target)? };
            Some(DoorInput { id: url.id.clone(), kind: DoorKind::FunctionUrl, routes: vec![all] })
        });
        let http = stack.http_apis.iter().map(|api| (&api.id, DoorKind::HttpApi, &api.routes));
        let rest = stack.rest_apis.iter().map(|api| (&api.id, DoorKind::RestApi, &api.routes));
        let apis = http.chain(rest).map(|(id, kind, found)| DoorInput {
            id: id.clone(),
            kind,
            routes: routes(found),
        });
        let provisioned = stack.versions.iter().map(|version| version.provisioned_concurrency);
        let provisioned = provisioned.chain(stack.aliases.iter().map(|alias| alias.provisioned_concurrency));
        let provisioned: u64 = provisioned.flatten().map(u64::from).sum();
        let mut assumptions = Vec::new();
        if provisioned > 0 {
            assumptions.push(Assumption::new(
                "provisioned concurrency",
                format!("{provisioned} environments are left out"),
                "not simulated yet: every environment starts on demand",
            ));
        }
        let network = Network::from_stack(stack);
        Self { functions, doors: urls.chain(apis).collect(), network, assumptions }
    }

    /// Which function a phase's requests reach; otherwise a problem at its target or request.
    pub(crate) fn target(&self, phase: &Phase, problems: &mut Problems) -> Option<Target> {
        let word = &phase.target;
        if let Some(function) = self.find(&word.text) {
            return Some(Target { function, door: None });
        }
        let Some(door) = self.doors.iter().find(|door| door.id == word.text) else {
            problems.push(self.unknown(word, "the target"));
            return None;
        };
        let found = match &phase.request {
            Some(request) => door.route(request).ok_or_else(|| Box::new(door.no_route(request))),
            None => door.only_function().ok_or_else(|| Box::new(door.no_only_function(word))),
        };
        match found {
            Ok(function) => Some(Target { function, door: Some(door.kind) }),
            Err(problem) => {
                problems.push(*problem);
                None
            }
        }
    }

    /// The function that a load means by `name`; otherwise a problem.
    pub(crate) fn function(&self, name: &Name, problems: &mut Problems) -> Option<usize> {
        let found = self.find(&name.text);
        if found.is_none() {
            problems.push(self.unknown(name, "the function"));
        }
        found
    }

    /// Checks every name of the load against this input.
    ///
    /// # Errors
    /// A problem for each name that means nothing here.
    pub fn check(&self, load: &Load) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::new();
        for phase in &load.phases {
            self.target(phase, &mut problems);
            if let Work::Replay { file, recording: None, .. } = &phase.work {
                problems.push(Problem::at(file.span, format!("`{}` was not read", file.text)));
            }
        }
        let initial = load.initial.iter().map(|initial| &initial.function);
        for name in initial.chain(load.behaviour.iter().map(|behaviour| &behaviour.function)) {
            self.function(name, &mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into_vec()) }
    }

    fn find(&self, word: &str) -> Option<usize> {
        self.functions.iter().position(|function| function.id == word || function.name == word)
    }

    fn unknown(&self, name: &Name, what: &'static str) -> Problem {
        let functions = self.functions.iter().map(|function| &*function.id);
        let known: Vec<&str> = functions.chain(self.doors.iter().map(|door| &*door.id)).collect();
        let help = did_you_mean(&name.text, known.iter().copied());
        let help = help.unwrap_or_else(|| format!("there are {}", known.join(", ")));
        Problem::new(name.span, Cause::Unknown { what, name: name.text.clone() }).help(help)
    }
}

fn function_input(function: &model::stack::Function) -> FunctionInput {
    let custom = function.runtime.as_deref().is_some_and(|runtime| runtime.starts_with("provided"));
    FunctionInput {
        id: function.id.clone(),
        name: function.name.clone(),
        reserved: function.reserved_concurrency,
        timeout: Duration::from_secs(u64::from(function.timeout_s)),
        memory_mb: function.memory_mb,
        init_always_billed: custom || function.package_type == PackageType::Image,
    }
}

impl DoorInput {
    /// The function that every route leads to.
    fn only_function(&self) -> Option<usize> {
        let first = self.routes.first()?;
        self.routes.iter().all(|route| route.function == first.function).then_some(first.function)
    }

    fn no_only_function(&self, target: &Name) -> Problem {
        let Some(first) = self.routes.first() else {
            let message = format!("no route of `{}` leads to a function of the template", self.id);
            return Problem::at(target.span, message);
        };
        let message = format!("`{}` leads to several functions; say which with `request`", self.id);
        Problem::at(target.span, message).help(format!("for example request: {}", first.example()))
    }

    /// The most specific route wins: fixed segments before `{id}` before `{proxy+}` before `$default`.
    fn route(&self, request: &Name) -> Option<usize> {
        let (method, path) = request.text.split_once(' ').unwrap_or((&request.text, "/"));
        let path = path.split('?').next().unwrap_or(path);
        let fits =
            self.routes.iter().filter_map(|route| Some((route.matches(method, path)?, route.function)));
        fits.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, function)| function)
    }

    fn no_route(&self, request: &Name) -> Problem {
        let routes: Vec<String> = self.routes.iter().map(RouteInput::example).collect();
        let message = format!("no route of `{}` takes `{}`", self.id, request.text);
        Problem::at(request.span, message).help(format!("it has {}", routes.join(", ")))
    }
}

impl RouteInput {
    fn example(&self) -> String {
        match &*self.method {
            "$default" => "$default".to_owned(),
            method => format!("{method} {}", self.path),
        }
    }

    /// How well the route fits a request, to compare; `None` if it does not. One figure per segment, from the left:
    /// 3 fixed, 2 a parameter, 1 the rest; at the end 1 for the very method.
    fn matches(&self, method: &str, path: &str) -> Option<Vec<u8>> {
        if self.method == "$default" {
            return Some(Vec::new());
        }
        let same_method = self.method == method;
        if !same_method && self.method != "ANY" {
            return None;
        }
        let mut fit = Vec::new();
        let mut segments = path.trim_matches('/').split('/').filter(|segment| !segment.is_empty());
        for wanted in self.path.trim_matches('/').split('/').filter(|segment| !segment.is_empty()) {
            let found = segments.next()?;
            if wanted.starts_with('{') && wanted.ends_with("+}") {
                fit.extend([1, u8::from(same_method)]);
                return Some(fit);
            }
            if wanted.starts_with('{') && wanted.ends_with('}') {
                fit.push(2);
            } else if wanted == found {
                fit.push(3);
            } else {
                return None;
            }
        }
        if segments.next().is_some() {
            return None;
        }
        fit.push(u8::from(same_method));
        Some(fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(key: &str, function: usize) -> RouteInput {
        let (method, path) = key.split_once(' ').unwrap_or((key, ""));
        RouteInput { method: method.into(), path: path.into(), function }
    }

    fn name(text: &str) -> Name {
        Name { text: text.into(), span: Default::default() }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let keys = ["$default", "ANY /{proxy+}", "GET /cart/{id}", "GET /cart/top", "ANY /cart/top", "GET /"];
        let routes = keys.iter().enumerate().map(|(index, key)| route(key, index)).collect();
        let door = DoorInput { id: "Api".into(), kind: DoorKind::HttpApi, routes };
        for (request, expected) in [
            ("GET /cart/top", 3),
            ("POST /cart/top", 4),
            ("GET /cart/7?x=1", 2),
            ("POST /cart/7", 1),
            ("GET /", 5),
            ("POST /", 0),
            ("GET /a/b/c", 1),
        ] {
            assert_eq!(door.route(&name(request)), Some(expected), "{request}");
        }
    }

    #[test]
    fn a_door_to_several_functions_needs_a_request() {
        let routes = vec![route("GET /cart", 0), route("GET /pay", 1)];
        let mut door = DoorInput { id: "Api".into(), kind: DoorKind::HttpApi, routes };
        assert_eq!(door.only_function(), None);
        assert!(door.no_only_function(&name("Api")).message().contains("several functions"));
        assert_eq!(door.route(&name("GET /tea")), None);
        assert_eq!(door.no_route(&name("GET /tea")).help.unwrap(), "it has GET /cart, GET /pay");
        door.routes.pop();
        assert_eq!(door.only_function(), Some(0));
        door.routes.pop();
        assert_eq!(door.only_function(), None);
        assert!(door.no_only_function(&name("Api")).message().contains("no route of `Api` leads"));
    }

    #[test]
    fn a_template_says_which_function_a_door_reaches() {
        let template = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Api: {Type: AWS::Serverless::HttpApi}
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: provided.al2023
      Handler: bootstrap
      CodeUri: cart/
      MemorySize: 256
      Timeout: 7
      ReservedConcurrentExecutions: 20
      FunctionUrlConfig: {AuthType: NONE}
      Events:
        Show: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: '/cart/{id}'}}
  Pay:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: pay/
      AutoPublishAlias: live
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 4}
      Events:
        Pay: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: POST, Path: /pay}}
";
        let outcome = template::read("template.yaml", template, &template::Inputs::default());
        let input = PlanInput::from_stack(&outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems)));
        let cart = &input.functions[0];
        assert_eq!(
            (&*cart.id, cart.reserved, cart.timeout.as_secs(), cart.memory_mb),
            ("Cart", Some(20), 7, 256)
        );
        assert_eq!((cart.init_always_billed, input.functions[1].init_always_billed), (true, false));
        assert_eq!(input.assumptions.len(), 1, "provisioned concurrency is left out and said so");
        let load = |target: &str| {
            let text = format!("{{version: 1, phases: [{{target: {target}, users: 1, requests: 1}}]}}");
            Load::read("load.yaml", &text).unwrap()
        };
        let target = |target: &str| {
            let mut problems = Problems::new();
            let found = input.target(&load(target).phases[0], &mut problems);
            found.map(|found| (found.function, found.door))
        };
        assert_eq!(target("CartUrl"), Some((0, Some(DoorKind::FunctionUrl))));
        assert_eq!(target("Api, request: GET /cart/5"), Some((0, Some(DoorKind::HttpApi))));
        assert_eq!(target("Api, request: POST /pay"), Some((1, Some(DoorKind::HttpApi))));
        assert_eq!(target("Pay"), Some((1, None)));
        assert_eq!(target("Api"), None);
    }
}
