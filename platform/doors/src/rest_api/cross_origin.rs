//! Cross-origin answers of SAM's `Cors`: it adds a MOCK method OPTIONS to each resource.
//!
//! Source: SAM specification, "ApiCorsConfiguration": `AllowMethods` are by default those of the resource and OPTIONS; an
//! origin is sent as written. What functions answer is theirs: they send the headers themselves.

use super::answers::of_mock;
use crate::Answer;
use model::stack::{Cors, MockResponse};
use std::collections::{BTreeMap, BTreeSet};

/// What `ANY` stands for in SAM's default.
const ALL: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// The answer to OPTIONS of a resource that has these methods.
pub(super) fn preflight(rules: &Cors, methods: &[&str]) -> Answer {
    let mut headers = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            headers.insert(format!("access-control-{name}"), value);
        }
    };
    set("allow-origin", rules.allow_origins.join(","));
    set("allow-headers", rules.allow_headers.join(","));
    let allowed = if rules.allow_methods.is_empty() {
        let any = methods.contains(&"ANY");
        let own = if any { ALL.to_vec() } else { methods.to_vec() };
        let all: BTreeSet<&str> = own.into_iter().chain(["OPTIONS"]).collect();
        all.into_iter().collect::<Vec<_>>().join(",")
    } else {
        rules.allow_methods.join(",")
    };
    set("allow-methods", allowed);
    set("max-age", rules.max_age_s.map(|age| age.to_string()).unwrap_or_default());
    set("allow-credentials", if rules.allow_credentials { "true".to_owned() } else { String::new() });
    of_mock(&MockResponse { status: 200, headers, body: "{}\n".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_the_resources_own_unless_the_template_says() {
        let rules = Cors { allow_origins: vec!["*".to_owned()], ..Cors::default() };
        let methods = |rules: &Cors, own: &[&str]| {
            preflight(rules, own).headers()["access-control-allow-methods"].to_str().unwrap().to_owned()
        };
        assert_eq!(methods(&rules, &["POST", "GET"]), "GET,OPTIONS,POST");
        assert_eq!(methods(&rules, &["ANY"]), "DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT");
        let given = Cors { allow_methods: vec!["GET".to_owned()], ..rules };
        assert_eq!(methods(&given, &["ANY"]), "GET");
        assert!(preflight(&given, &[]).headers().get("access-control-max-age").is_none());
    }
}
