//! What the planner needs to know of API Gateway: stages with their throttles and caches.

use super::{DoorInput, DoorKind, RouteInput};
use limits::gateway::{self, MethodSettings};
use model::stack::{ApiRoute, HttpApi, RestApi, Stack, Stage};

/// The doors of all APIs: one for each stage. The first stage of an API goes by the API's logical id, the others by their own.
/// `authorizer` finds one by its API's and its own id.
pub(super) fn doors(
    stack: &Stack,
    function: impl Fn(&ApiRoute) -> Option<(usize, Option<usize>)>,
    authorizer: impl Fn(&str, &str) -> Option<usize>,
) -> Vec<DoorInput> {
    let http = stack.http_apis.iter().flat_map(|api| http_doors(api, &function, &authorizer));
    let rest = stack.rest_apis.iter().flat_map(|api| rest_doors(api, &function, &authorizer));
    http.chain(rest).collect()
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
    authorizer: &impl Fn(&str, &str) -> Option<usize>,
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
                authorizer: asked(&api.id, route, authorizer),
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
    authorizer: &impl Fn(&str, &str) -> Option<usize>,
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
                authorizer: asked(&api.id, route, authorizer),
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

/// As the live door asks: routes with a signature or none have no authorizer.
fn asked(api: &str, route: &ApiRoute, authorizer: &impl Fn(&str, &str) -> Option<usize>) -> Option<usize> {
    let id = route.authorizer.as_deref().filter(|_| route.authorization_type == "CUSTOM")?;
    authorizer(api, id)
}
