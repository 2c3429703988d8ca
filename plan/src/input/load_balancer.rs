//! Load balancers before functions: they wait as long as the function may run, and have no throttle.

use super::{DoorInput, DoorKind, RouteInput};
use model::stack::{FunctionTarget, LoadBalancer, LoadBalancerRoute, Stack};

/// The doors of all load balancers that lead to functions. `function` says which one, and the provisioned concurrency of its
/// qualifier.
pub(super) fn doors(
    stack: &Stack,
    function: impl Fn(&FunctionTarget) -> Option<(usize, Option<usize>)>,
) -> Vec<DoorInput> {
    let route = |route: &LoadBalancerRoute| {
        let (function, provisioned) = function(&route.target)?;
        let (method, path) = match &route.path {
            None => ("$default", String::new()),
            // A star stands for any text; at the end it is a route's rest.
            Some(path) => (
                "ANY",
                path.strip_suffix('*').map_or_else(|| path.clone(), |path| format!("{path}{{rest+}}")),
            ),
        };
        Some(RouteInput { method: method.to_owned(), path, function, provisioned, ..RouteInput::default() })
    };
    let door = |balancer: &LoadBalancer| DoorInput {
        id: balancer.id.clone(),
        kind: DoorKind::LoadBalancer,
        api: String::new(),
        stage: String::new(),
        cache_size: None,
        routes: balancer.routes.iter().filter_map(route).collect(),
    };
    stack.load_balancers.iter().filter(|balancer| !balancer.routes.is_empty()).map(door).collect()
}
