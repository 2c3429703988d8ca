//! Routes out of an OpenAPI body, as API Gateway imports it.

use super::api::keyed_route;
use super::{Builder, Fields, place};
use model::stack::ApiRoute;

/// Keys of a path that are methods.
const METHODS: &[&str] =
    &["get", "put", "post", "delete", "options", "head", "patch", "trace", "x-amazon-apigateway-any-method"];

/// The extension that holds an integration.
const INTEGRATION: &str = "x-amazon-apigateway-integration";

impl Builder<'_, '_> {
    /// The routes of a body; `timeout_ms` is what the gateway waits when the body does not say.
    pub(super) fn open_api(&mut self, body: &Fields<'_>, timeout_ms: u32) -> Vec<ApiRoute> {
        let mut routes = Vec::new();
        let Some(paths) = body.inner("paths", &mut self.problems) else { return routes };
        for path in paths.mapping().entries() {
            let Some(methods) = path.value.mapping(&mut self.problems) else { continue };
            for method in methods.entries().iter().filter(|method| METHODS.contains(&&*method.key)) {
                let Some(operation) = method.value.mapping(&mut self.problems) else { continue };
                let owner = format!("{} {}", method.key, path.key);
                let operation = Fields::new(operation, owner, method.value.span);
                let integration = operation.inner(INTEGRATION, &mut self.problems);
                let integration = integration.and_then(|fields| self.integration(&fields, timeout_ms));
                let name =
                    if method.key.starts_with("x-") { "ANY".to_owned() } else { method.key.to_uppercase() };
                let key = match &*path.key {
                    "$default" | "/$default" => "$default".to_owned(),
                    path => format!("{name} {path}"),
                };
                let mut route = keyed_route("", place(method.key_span), &key, integration);
                let security = operation.items("security", &mut self.problems);
                route.api_key_required = security.iter().any(|one| one.get("api_key").is_some());
                routes.push(route);
            }
        }
        routes
    }
}
