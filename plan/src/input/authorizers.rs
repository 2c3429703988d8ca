//! Who says at an API whether a request may pass: Lambda authorizers, and what tells their askers apart.

use crate::report::Assumption;
use model::stack::{Authorizer, AuthorizerKind, FunctionTarget, IdentitySource, Stack};
use std::time::Duration;

/// A Lambda authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizerInput {
    /// Logical id of its API.
    pub api: String,
    /// Its own id, as routes name it.
    pub id: String,
    /// What the template calls it.
    pub name: String,
    /// Index of the function that is asked.
    pub function: usize,
    /// Index of the provisioned concurrency that is used.
    pub provisioned: Option<usize>,
    /// How long an answer is kept; zero: it is not.
    pub ttl: Duration,
    /// What tells those who ask apart.
    pub identity: Identity,
}

/// What tells those who ask apart, to what is kept of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Something that a caller brings along: a header, a parameter, an address.
    pub caller: bool,
    /// The route that is asked for.
    pub route: bool,
    /// The very request: no two are alike.
    pub request: bool,
}

/// Every authorizer that some route asks, and what is assumed of those that are not simulated.
pub(super) fn of_stack(
    stack: &Stack,
    function: impl Fn(&FunctionTarget) -> Option<(usize, Option<usize>)>,
) -> (Vec<AuthorizerInput>, Vec<Assumption>) {
    let http = stack.http_apis.iter().map(|api| (&api.id, &api.authorizers, &api.routes));
    let rest = stack.rest_apis.iter().map(|api| (&api.id, &api.authorizers, &api.routes));
    let (mut found, mut assumptions) = (Vec::new(), Vec::new());
    for (api, authorizers, routes) in http.chain(rest) {
        let is_used = |authorizer: &&Authorizer| {
            routes.iter().any(|route| route.authorizer.as_deref() == Some(&*authorizer.id))
        };
        for authorizer in authorizers.iter().filter(is_used) {
            let what = || format!("the authorizer {} of {api}", authorizer.name);
            let is_lambda = matches!(authorizer.kind, AuthorizerKind::Token | AuthorizerKind::Request);
            let target = authorizer.function.as_ref().filter(|_| is_lambda);
            match target.map(&function) {
                Some(Some((function, provisioned))) => found.push(AuthorizerInput {
                    api: api.clone(),
                    id: authorizer.id.clone(),
                    name: authorizer.name.clone(),
                    function,
                    provisioned,
                    ttl: Duration::from_secs(authorizer.ttl_s.into()),
                    identity: Identity::of(&authorizer.identity_sources),
                }),
                Some(None) => {
                    let why = "its function is not in the template";
                    assumptions.push(Assumption::new(what(), "lets everybody in", why));
                }
                None => {
                    let why = "API Gateway looks at the token itself, which costs no invocation";
                    assumptions.push(Assumption::new(what(), "lets everybody in", why));
                }
            }
        }
    }
    (found, assumptions)
}

impl Identity {
    fn of(sources: &[IdentitySource]) -> Self {
        let mut identity = Self::default();
        for source in sources {
            match source {
                IdentitySource::Header(_) | IdentitySource::Query(_) => identity.caller = true,
                // All requests of a stage have the same.
                IdentitySource::Stage(_) => {}
                IdentitySource::Context(name) => match name.as_str() {
                    "requestId" | "extendedRequestId" => identity.request = true,
                    "routeKey" | "resourcePath" | "httpMethod" | "http.method" | "path" | "http.path" => {
                        identity.route = true;
                    }
                    name if name.starts_with("identity.") => identity.caller = true,
                    "http.sourceIp" => identity.caller = true,
                    _ => {}
                },
            }
        }
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlanInput;

    const TEMPLATE: &str = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: Prod
      Auth:
        DefaultAuthorizer: Token
        Authorizers:
          Token: {FunctionArn: !GetAtt Guard.Arn}
          Idle: {FunctionArn: !GetAtt Guard.Arn}
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        Authorizers:
          Whole: {FunctionArn: !GetAtt Guard.Arn, AuthorizerPayloadFormatVersion: '2.0', Identity: {Headers: [Authorization], Context: [routeKey], ReauthorizeEvery: 60}}
          Jwt: {IdentitySource: $request.header.Authorization, JwtConfiguration: {issuer: 'https://a.example', audience: [b]}}
  Guard:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.handler, InlineCode: 'def handler(event, context): return 1'}
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      InlineCode: 'def handler(event, context): return 1'
      Events:
        Get: {Type: Api, Properties: {RestApiId: !Ref Api, Path: /cart, Method: get}}
        Free: {Type: Api, Properties: {RestApiId: !Ref Api, Path: /free, Method: get, Auth: {Authorizer: NONE}}}
        Put: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /cart, Method: put, Auth: {Authorizer: Whole}}}
        Del: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /cart, Method: delete, Auth: {Authorizer: Jwt}}}
";

    #[test]
    fn routes_ask_the_authorizers_that_the_template_gives_them() {
        let outcome = template::read("template.yaml", TEMPLATE, &template::Inputs::default());
        let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
        let input = PlanInput::from_stack(&stack);
        let told: Vec<_> = input
            .authorizers
            .iter()
            .map(|found| {
                (&*found.api, &*found.name, &*input.functions[found.function].id, found.ttl.as_secs())
            })
            .collect();
        assert_eq!(told, [("Http", "Whole", "Guard", 60), ("Api", "Token", "Guard", 300)]);
        let caller = Identity { caller: true, ..Identity::default() };
        assert_eq!(input.authorizers[0].identity, Identity { route: true, ..caller });
        assert_eq!(input.authorizers[1].identity, caller);
        let asked = |door: &str, method: &str, path: &str| {
            let door = input.doors.iter().find(|found| found.id == door).unwrap();
            let route = door.routes.iter().find(|found| found.method == method && found.path == path);
            route.unwrap().authorizer
        };
        assert_eq!((asked("Api", "GET", "/cart"), asked("Api", "GET", "/free")), (Some(1), None));
        assert_eq!((asked("Http", "PUT", "/cart"), asked("Http", "DELETE", "/cart")), (Some(0), None));
        let rows: Vec<_> = input.assumptions.iter().map(|row| (&*row.what, &*row.value)).collect();
        assert_eq!(rows, [("the authorizer Jwt of Http", "lets everybody in")]);
    }

    #[test]
    fn what_a_request_alone_has_tells_every_one_apart() {
        let of = |name: &str| Identity::of(&[IdentitySource::Context(name.to_owned())]);
        assert!(of("requestId").request && of("httpMethod").route && of("identity.sourceIp").caller);
        assert_eq!(of("stage"), Identity::default());
        assert_eq!(Identity::of(&[IdentitySource::Stage("word".to_owned())]), Identity::default());
    }
}
