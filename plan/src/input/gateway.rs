//! What the planner needs to know of API Gateway: stages with their throttles and caches.

use super::{DoorInput, DoorKind, RouteInput};
use crate::report::Assumption;
use limits::gateway::{self, MethodSettings};
use model::stack::{ApiRoute, Authorizer, HttpApi, RestApi, Stack, Stage};

/// The doors of all APIs: one for each stage. The first stage of an API goes by the API's logical id, the others by their own.
pub(super) fn doors(
    stack: &Stack,
    function: impl Fn(&ApiRoute) -> Option<(usize, Option<usize>)>,
) -> Vec<DoorInput> {
    let http = stack.http_apis.iter().flat_map(|api| http_doors(api, &function));
    let rest = stack.rest_apis.iter().flat_map(|api| rest_doors(api, &function));
    http.chain(rest).collect()
}

/// What is assumed of the functions that authorizers ask.
pub(super) fn unasked(stack: &Stack) -> Vec<Assumption> {
    let http = stack.http_apis.iter().map(|api| (&api.id, &api.authorizers, &api.routes));
    let rest = stack.rest_apis.iter().map(|api| (&api.id, &api.authorizers, &api.routes));
    let mut rows = Vec::new();
    for (api, authorizers, routes) in http.chain(rest) {
        let is_used = |authorizer: &&Authorizer| {
            routes.iter().any(|route| route.authorizer.as_deref() == Some(&*authorizer.id))
        };
        for authorizer in authorizers.iter().filter(is_used) {
            let Some(function) = &authorizer.function else { continue };
            let function = function.function.as_str();
            rows.push(Assumption::new(
                format!("the authorizer {} of {api}", authorizer.name),
                "runs nothing",
                format!("a first step `call: {{function: {function}}}` of the function behind it counts its environments"),
            ));
        }
    }
    rows
}

/// Stages to plan with; an API without one is planned as if it had one without settings.
fn stages(stages: &[Stage]) -> Vec<Option<&Stage>> {
    if stages.is_empty() { vec![None] } else { stages.iter().map(Some).collect() }
}

fn door_id(api: &str, index: usize, stage: Option<&Stage>) -> String {
    stage.filter(|_| index > 0).map_or(api, |stage| &stage.id).to_owned()
}

fn http_doors(
    api: &HttpApi,
    function: &impl Fn(&ApiRoute) -> Option<(usize, Option<usize>)>,
) -> Vec<DoorInput> {
    let door = |(index, stage): (usize, Option<&Stage>)| {
        let route = |route: &ApiRoute| {
            let (function, provisioned) = function(route)?;
            Some(RouteInput {
                method: route.method.clone(),
                path: route.path.clone(),
                function,
                provisioned,
                timeout: gateway::integration_timeout(route),
                throttle: stage.map(|stage| gateway::route_throttle(stage, route)).unwrap_or_default(),
                key_required: false,
                cache: None,
            })
        };
        DoorInput {
            id: door_id(&api.id, index, stage),
            kind: DoorKind::HttpApi,
            api: api.id.clone(),
            stage: stage.map_or_else(|| "$default".to_owned(), |stage| stage.name.clone()),
            cache_size: None,
            routes: api.routes.iter().filter_map(route).collect(),
        }
    };
    stages(&api.stages).into_iter().enumerate().map(door).collect()
}

fn rest_doors(
    api: &RestApi,
    function: &impl Fn(&ApiRoute) -> Option<(usize, Option<usize>)>,
) -> Vec<DoorInput> {
    let door = |(index, stage): (usize, Option<&Stage>)| {
        let size = stage.and_then(gateway::cache_bytes);
        let route = |route: &ApiRoute| {
            let settings = stage.map(|stage| MethodSettings::of(stage, route)).unwrap_or_default();
            let (function, provisioned) = function(route)?;
            Some(RouteInput {
                method: route.method.clone(),
                path: route.path.clone(),
                function,
                provisioned,
                timeout: gateway::integration_timeout(route),
                throttle: settings.throttle,
                key_required: route.api_key_required,
                cache: size.and_then(|_| settings.cache(route)),
            })
        };
        DoorInput {
            id: door_id(&api.id, index, stage),
            kind: DoorKind::RestApi,
            api: api.id.clone(),
            stage: stage.map(|stage| stage.name.clone()).unwrap_or_default(),
            cache_size: size,
            routes: api.routes.iter().filter_map(route).collect(),
        }
    };
    stages(&api.stages).into_iter().enumerate().map(door).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorizer_in_use_is_an_assumption() {
        let text = "
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
  Guard:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.guard, CodeUri: guard/}
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: cart/
      Events:
        Show: {Type: Api, Properties: {RestApiId: !Ref Api, Method: GET, Path: /cart}}
";
        let outcome = template::read("template.yaml", text, &template::Inputs::default());
        let rows = unasked(&outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems)));
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((&*row.what, &*row.value), ("the authorizer Token of Api", "runs nothing"));
        assert!(row.why.contains("call: {function: Guard}"), "{}", row.why);
    }
}
