//! What the planner needs to know of a stack: its functions, and which door leads to which.

mod authorizers;
mod calls;
mod events;
mod gateway;
mod load_balancer;
mod qualifiers;

pub use authorizers::{AuthorizerInput, Identity};
pub use events::EventInput;
pub use qualifiers::{ProvisionedInput, QualifierInput};

use crate::cost::Inventory;
use crate::load::{Behaviour, Load, Name, Phase, Work};
use crate::report::Assumption;
use limits::Network;
use limits::api_throttle::Throttle;
use limits::gateway::{MethodCache, PlanKey, plan_keys};
use model::stack::{ApiRoute, FunctionTarget, PackageType, Stack};
use std::time::Duration;
use template::yaml::{Cause, Problem, Problems, did_you_mean};

/// Functions and doors, in the template's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanInput {
    /// Functions that a load may send requests to.
    pub functions: Vec<FunctionInput>,
    /// Their versions and aliases; a load may send requests to these as `Function:qualifier`.
    pub qualifiers: Vec<QualifierInput>,
    /// What is provisioned for them.
    pub provisioned: Vec<ProvisionedInput>,
    /// What becomes of asynchronous events, where the stack says so.
    pub events: Vec<EventInput>,
    /// Indices of the functions that have dead letters.
    pub dead_letters: Vec<usize>,
    /// Doors that lead to them.
    pub doors: Vec<DoorInput>,
    /// Who says whether a request may pass, at routes that ask.
    pub authorizers: Vec<AuthorizerInput>,
    /// API keys of usage plans, for REST APIs.
    pub clients: Vec<PlanKey>,
    /// Where the functions are, and the ways out.
    pub network: Network,
    /// What of the stack costs something; a plan without it has no bill.
    pub inventory: Option<Inventory>,
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
    /// An application load balancer.
    LoadBalancer,
}

/// A door with its routes to functions: a function URL, or a stage of an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorInput {
    /// Logical id.
    pub id: String,
    /// Its kind.
    pub kind: DoorKind,
    /// Logical id of the API whose stage it is; empty for a function URL.
    pub api: String,
    /// The stage's name; empty for a function URL.
    pub stage: String,
    /// Bytes of the stage's cache.
    pub cache_size: Option<u64>,
    /// Routes that lead to functions of this input.
    pub routes: Vec<RouteInput>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteInput {
    /// `GET`, `ANY` or `$default`.
    pub method: String,
    /// `/cart/{id}`, `/{proxy+}`; empty for `$default`.
    pub path: String,
    /// Index of the function.
    pub function: usize,
    /// Index of the provisioned concurrency that its requests use.
    pub provisioned: Option<usize>,
    /// How long the door waits for it; `None`: as long as it runs.
    pub timeout: Option<Duration>,
    /// The stage's throttle for it.
    pub throttle: Throttle,
    /// Whether it asks for an API key.
    pub key_required: bool,
    /// What is cached of it.
    pub cache: Option<MethodCache>,
    /// Index of the authorizer that is asked before it.
    pub authorizer: Option<usize>,
}

/// Where a phase's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index of the function.
    pub function: usize,
    /// Index of the provisioned concurrency that requests use.
    pub provisioned: Option<usize>,
    /// The door before it; `None` for a direct invocation.
    pub door: Option<DoorKind>,
    /// Indices of the door and of its route.
    pub route: Option<(usize, usize)>,
    /// Index of the client whose API key is sent and looked at.
    pub client: Option<usize>,
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
        let (qualifiers, provisioned) = qualifiers::of_stack(stack, index);
        let qualified = |target: &FunctionTarget| {
            let function = index(target)?;
            let name = target.qualifier.as_deref();
            let found =
                qualifiers.iter().find(|found| found.function == function && Some(&*found.name) == name);
            Some((function, found.and_then(|found| found.provisioned)))
        };
        let urls = stack.function_urls.iter().filter_map(|url| {
            let (function, provisioned) = qualified(&url.target)?;
            let all =
                RouteInput { method: "$default".into(), function, provisioned, ..RouteInput::default() };
            Some(DoorInput {
                id: url.id.clone(),
                kind: DoorKind::FunctionUrl,
                api: String::new(),
                stage: String::new(),
                cache_size: None,
                routes: vec![all],
            })
        });
        let leads = |route: &ApiRoute| qualified(route.integration.as_ref()?.function.as_ref()?);
        let (authorizers, assumptions) = authorizers::of_stack(stack, qualified);
        let apis = gateway::doors(stack, leads, |api, id| {
            authorizers.iter().position(|found| found.api == api && found.id == id)
        });
        let balancers = load_balancer::doors(stack, qualified);
        let doors = urls.chain(apis).chain(balancers).collect();
        let network = Network::from_stack(stack);
        let clients = plan_keys(&stack.usage_plans, &stack.api_keys);
        let inventory = Some(Inventory::of(stack));
        let events = events::of_stack(stack);
        let with_letters = stack.functions.iter().enumerate();
        let with_letters = with_letters.filter(|(_, function)| function.dead_letter_target.is_some());
        let dead_letters = with_letters.map(|(index, _)| index).collect();
        Self {
            functions,
            qualifiers,
            provisioned,
            events,
            dead_letters,
            doors,
            authorizers,
            clients,
            network,
            inventory,
            assumptions,
        }
    }

    /// Which function a phase's requests reach; otherwise a problem at its target or request.
    pub(crate) fn target(&self, phase: &Phase, problems: &mut Problems) -> Option<Target> {
        let word = &phase.target;
        if let Some((function, provisioned)) = self.callee(&word.text) {
            if let Some(client) = &phase.asks.client {
                problems.push(no_keys(client, &word.text));
            }
            return Some(Target { function, provisioned, door: None, route: None, client: None });
        }
        let Some(at) = self.doors.iter().position(|door| door.id == word.text) else {
            problems.push(self.unknown(word, "the target"));
            return None;
        };
        let door = &self.doors[at];
        if phase.event {
            let message =
                format!("`mode: event` invokes a function, and `{}` is a door, which waits", word.text);
            problems.push(Problem::at(word.span, message).help("target the function itself"));
            return None;
        }
        let found = match &phase.request {
            Some(request) => door.route(request).ok_or_else(|| Box::new(door.no_route(request))),
            None => door.only_route().ok_or_else(|| Box::new(door.no_only_function(word))),
        };
        let found = found.and_then(|route| Ok((route, self.client(phase, door, &door.routes[route])?)));
        match found {
            Ok((route, client)) => {
                let RouteInput { function, provisioned, .. } = door.routes[route];
                Some(Target {
                    function,
                    provisioned,
                    door: Some(door.kind),
                    route: Some((at, route)),
                    client,
                })
            }
            Err(problem) => {
                problems.push(*problem);
                None
            }
        }
    }

    /// The client whose API key counts; a key that the gateway would answer with 403 is a problem.
    fn client(
        &self,
        phase: &Phase,
        door: &DoorInput,
        route: &RouteInput,
    ) -> Result<Option<usize>, Box<Problem>> {
        let place = phase.request.as_ref().unwrap_or(&phase.target);
        let Some(name) = &phase.asks.client else {
            if !route.key_required {
                return Ok(None);
            }
            let message = format!("`{}` of `{}` asks for an API key", route.example(), door.id);
            let keys: Vec<&str> = self
                .clients
                .iter()
                .filter(|client| door.takes(client, route).is_some())
                .map(|client| &*client.key)
                .collect();
            let help = match keys.first() {
                Some(key) => format!("client: {key}"),
                None => "the template has no usage plan with a key for it".to_owned(),
            };
            return Err(Box::new(Problem::at(place.span, message).help(help)));
        };
        if door.kind != DoorKind::RestApi {
            return Err(Box::new(no_keys(name, &door.id)));
        }
        let of_key = self.clients.iter().enumerate().filter(|(_, client)| client.key == name.text);
        let of_key: Vec<(usize, &PlanKey)> = of_key.collect();
        if of_key.is_empty() {
            let keys: Vec<&str> = self.clients.iter().map(|client| &*client.key).collect();
            let help = did_you_mean(&name.text, keys.iter().copied());
            let help = help.unwrap_or_else(|| match keys.is_empty() {
                true => "no usage plan of the template has a key".to_owned(),
                false => format!("there are {}", keys.join(", ")),
            });
            let cause = Cause::Unknown { what: "the API key", name: name.text.clone() };
            return Err(Box::new(Problem::new(name.span, cause).help(help)));
        }
        if !route.key_required {
            return Ok(None);
        }
        let Some((index, client)) =
            of_key.into_iter().find(|(_, client)| door.takes(client, route).is_some())
        else {
            let message = format!(
                "the key `{}` is in no usage plan for the stage `{}` of `{}`: API Gateway answers 403",
                name.text, door.stage, door.api
            );
            return Err(Box::new(Problem::at(name.span, message)));
        };
        if !client.enabled {
            let message = format!("the key `{}` is not enabled: API Gateway answers 403", name.text);
            return Err(Box::new(Problem::at(name.span, message).help("Enabled: true")));
        }
        Ok(Some(index))
    }

    /// The function that a load means by `name`; otherwise a problem.
    pub(crate) fn function(&self, name: &Name, problems: &mut Problems) -> Option<usize> {
        let found = self.find(&name.text);
        if found.is_none() {
            problems.push(self.unknown(name, "the function"));
        }
        found
    }

    /// The port of the database or database proxy that a query means; otherwise a problem.
    fn database(&self, name: &Name, problems: &mut Problems) {
        if self.network.database_port(&name.text).is_some() {
            return;
        }
        let known: Vec<&str> = self.network.database_names().collect();
        let help = did_you_mean(&name.text, known.iter().copied());
        let help = help.unwrap_or_else(|| match &known[..] {
            [] => "the stack has neither an AWS::RDS::DBInstance nor an AWS::RDS::DBProxy".to_owned(),
            known => format!("there are {}", known.join(", ")),
        });
        let what = "the database or database proxy";
        problems.push(Problem::new(name.span, Cause::Unknown { what, name: name.text.clone() }).help(help));
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
        calls::check(self, load, &mut problems);
        for query in load.behaviour.iter().flat_map(Behaviour::queries) {
            self.database(&query.database, &mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into_vec()) }
    }

    /// A function, or one of its versions and aliases: `Cart`, `Cart:live`, or the alias's logical id. Its index, and that
    /// of its provisioned concurrency.
    fn callee(&self, word: &str) -> Option<(usize, Option<usize>)> {
        if let Some(found) = self.qualifiers.iter().find(|found| found.id == word) {
            return Some((found.function, found.provisioned));
        }
        let (name, qualifier) = word.split_once(':').map_or((word, None), |(name, word)| (name, Some(word)));
        let function = self.find(name)?;
        let Some(qualifier) = qualifier.filter(|qualifier| *qualifier != "$LATEST") else {
            return Some((function, None));
        };
        let mut own = self.qualifiers.iter().filter(|found| found.function == function);
        own.find(|found| found.name == qualifier).map(|found| (function, found.provisioned))
    }

    pub(crate) fn find(&self, word: &str) -> Option<usize> {
        self.functions.iter().position(|function| function.id == word || function.name == word)
    }

    fn unknown(&self, name: &Name, what: &'static str) -> Problem {
        let functions = self.functions.iter().map(|function| &*function.id);
        let known: Vec<&str> = functions.chain(self.doors.iter().map(|door| &*door.id)).collect();
        let qualified =
            |found: &QualifierInput| format!("{}:{}", self.functions[found.function].id, found.name);
        let qualified: Vec<String> = self.qualifiers.iter().map(qualified).collect();
        let words = known.iter().copied().chain(qualified.iter().map(String::as_str));
        let help = did_you_mean(&name.text, words);
        let help = help.unwrap_or_else(|| match known[..] {
            [] => "the template has no function".to_owned(),
            _ => format!("there are {}", known.join(", ")),
        });
        Problem::new(name.span, Cause::Unknown { what, name: name.text.clone() }).help(help)
    }
}

/// A client where nobody looks at API keys.
fn no_keys(client: &Name, target: &str) -> Problem {
    let message = format!("`{target}` takes no API keys; only methods of REST APIs do");
    Problem::at(client.span, message)
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
    /// The stage as messages have it: `Api/prod`, or `Api` for an HTTP API's default stage.
    /// The key's own throttle for a route of this door, where its plan holds there.
    pub(crate) fn takes(&self, client: &PlanKey, route: &RouteInput) -> Option<Throttle> {
        client.at(&self.api, &self.stage, &route.path, &route.method)
    }

    pub(crate) fn stage_name(&self) -> String {
        match &*self.stage {
            "" | "$default" => self.api.clone(),
            stage => format!("{}/{stage}", self.api),
        }
    }

    /// The first route, if all lead to one function.
    fn only_route(&self) -> Option<usize> {
        let first = self.routes.first()?;
        self.routes.iter().all(|route| route.function == first.function).then_some(0)
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
        let routes = self.routes.iter().enumerate();
        let fits = routes.filter_map(|(index, route)| Some((route.matches(method, path)?, index)));
        fits.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, index)| index)
    }

    fn no_route(&self, request: &Name) -> Problem {
        let routes: Vec<String> = self.routes.iter().map(RouteInput::example).collect();
        let message = format!("no route of `{}` takes `{}`", self.id, request.text);
        Problem::at(request.span, message).help(format!("it has {}", routes.join(", ")))
    }
}

impl RouteInput {
    /// As API Gateway writes it.
    pub(crate) fn example(&self) -> String {
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
        RouteInput { method: method.into(), path: path.into(), function, ..RouteInput::default() }
    }

    fn door(routes: Vec<RouteInput>) -> DoorInput {
        DoorInput {
            id: "Api".into(),
            kind: DoorKind::HttpApi,
            api: "Api".into(),
            stage: "$default".into(),
            cache_size: None,
            routes,
        }
    }

    fn name(text: &str) -> Name {
        Name { text: text.into(), span: Default::default() }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let keys = ["$default", "ANY /{proxy+}", "GET /cart/{id}", "GET /cart/top", "ANY /cart/top", "GET /"];
        let routes = keys.iter().enumerate().map(|(index, key)| route(key, index)).collect();
        let door = door(routes);
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
        let mut door = door(routes);
        assert_eq!(door.only_route(), None);
        assert!(door.no_only_function(&name("Api")).message().contains("several functions"));
        assert_eq!(door.route(&name("GET /tea")), None);
        assert_eq!(door.no_route(&name("GET /tea")).help.unwrap(), "it has GET /cart, GET /pay");
        door.routes.pop();
        assert_eq!(door.only_route(), Some(0));
        door.routes.pop();
        assert_eq!(door.only_route(), None);
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
      EventInvokeConfig: {MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60}
      DeadLetterQueue: {Type: SQS, TargetArn: 'arn:aws:sqs:us-east-1:123456789012:letters'}
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
        let provisioned = ProvisionedInput { function: 1, qualifier: "live".into(), environments: 4 };
        assert_eq!(input.provisioned, [provisioned]);
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
        let provisioned = |target: &str| {
            let mut problems = Problems::new();
            let found = input.target(&load(target).phases[0], &mut problems);
            found.ok_or_else(|| problems.into_vec().remove(0).help).map(|found| found.provisioned)
        };
        // SAM binds events to the alias; a bare name is $LATEST, which nothing is provisioned for.
        assert_eq!(provisioned("Api, request: POST /pay"), Ok(Some(0)));
        assert_eq!(provisioned("'Pay:live'"), Ok(Some(0)));
        assert_eq!((provisioned("Pay"), provisioned("'Pay:$LATEST'")), (Ok(None), Ok(None)));
        let events = |word: &str| {
            let figures = input.events_of(1, word);
            (figures.resource.to_string(), figures.maximum_age.as_secs(), figures.maximum_retries)
        };
        assert_eq!(events("Pay:live"), ("Pay:live".to_owned(), 60, 0));
        assert_eq!(events("Pay"), ("Pay".to_owned(), 21_600, 2));
        assert!(input.events_of(1, "Pay").dead_letter && !input.events_of(0, "Cart").dead_letter);
        assert_eq!(target("Api, request: POST /pay, mode: event"), None);
        assert_eq!(provisioned("'Pay:lives'"), Err(Some("did you mean `Pay:live`?".to_owned())));
    }
}
