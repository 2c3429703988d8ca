//! Routes and authorizers out of an OpenAPI body, as API Gateway imports it.

use super::api::keyed_route;
use super::{Builder, Fields, place};
use model::stack::{ApiRoute, Authorizer};
use std::collections::BTreeMap;

/// Keys of a path that are methods.
const METHODS: &[&str] =
    &["get", "put", "post", "delete", "options", "head", "patch", "trace", "x-amazon-apigateway-any-method"];

/// The extension that holds an integration.
const INTEGRATION: &str = "x-amazon-apigateway-integration";
/// The extension that holds an authorizer.
const AUTHORIZER: &str = "x-amazon-apigateway-authorizer";
/// The extension that says what a scheme without an authorizer is.
const AUTH_TYPE: &str = "x-amazon-apigateway-authtype";
/// The extension that says who may call a method.
const AUTH: &str = "x-amazon-apigateway-auth";

/// What a security scheme asks for.
enum Scheme {
    Key,
    Iam,
    Authorizer,
}

impl Builder<'_, '_> {
    /// What the body of an API has; `timeout_ms` is what the gateway waits when the body does not say.
    pub(super) fn open_api(
        &mut self,
        api: &str,
        body: &Fields<'_>,
        timeout_ms: u32,
    ) -> (Vec<ApiRoute>, Vec<Authorizer>) {
        let (mut routes, mut authorizers) = (Vec::new(), Vec::new());
        let schemes = self.schemes(api, body, timeout_ms, &mut authorizers);
        let of_all = body.get("security").is_some().then(|| body.items("security", &mut self.problems));
        let Some(paths) = body.inner("paths", &mut self.problems) else { return (routes, authorizers) };
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
                let own = operation.get("security").is_some();
                let own = own.then(|| operation.items("security", &mut self.problems));
                let asked = own.as_ref().or(of_all.as_ref());
                for one in asked.into_iter().flatten().filter_map(|one| one.as_mapping()) {
                    for entry in one.entries() {
                        match schemes.get(&*entry.key) {
                            Some(Scheme::Iam) => route.authorization_type = "AWS_IAM".to_owned(),
                            Some(Scheme::Authorizer) => route.authorizer = Some(entry.key.to_string()),
                            Some(Scheme::Key) => route.api_key_required = true,
                            None => route.api_key_required |= &*entry.key == "api_key",
                        }
                    }
                }
                let auth = operation.inner(AUTH, &mut self.problems);
                if let Some(kind) = auth.and_then(|auth| auth.string("type", &mut self.problems)) {
                    route.authorization_type = kind;
                }
                routes.push(route);
            }
        }
        (routes, authorizers)
    }

    /// The schemes of OpenAPI 3 and of Swagger 2, and the authorizers in them.
    fn schemes(
        &mut self,
        api: &str,
        body: &Fields<'_>,
        timeout_ms: u32,
        authorizers: &mut Vec<Authorizer>,
    ) -> BTreeMap<String, Scheme> {
        let components = body.inner("components", &mut self.problems);
        let all = match components {
            Some(components) => components.inner("securitySchemes", &mut self.problems),
            None => body.inner("securityDefinitions", &mut self.problems),
        };
        let mut schemes = BTreeMap::new();
        for entry in all.iter().flat_map(|all| all.mapping().entries()) {
            let Some(scheme) = entry.value.mapping(&mut self.problems) else { continue };
            let owner = format!("the security scheme {}", entry.key);
            let scheme = Fields::new(scheme, owner, entry.value.span);
            let header = scheme.string("name", &mut self.problems);
            let iam = scheme.string(AUTH_TYPE, &mut self.problems);
            let kind = if let Some(fields) = scheme.inner(AUTHORIZER, &mut self.problems) {
                let found = self.body_authorizer((api, &entry.key), &fields, header.as_deref(), timeout_ms);
                authorizers.extend(found);
                Scheme::Authorizer
            } else if iam.is_some_and(|kind| kind.eq_ignore_ascii_case("awsSigv4")) {
                Scheme::Iam
            } else if header.is_some_and(|name| name.eq_ignore_ascii_case("x-api-key")) {
                Scheme::Key
            } else {
                continue;
            };
            schemes.insert(entry.key.to_string(), kind);
        }
        schemes
    }
}
