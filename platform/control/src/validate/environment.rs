//! A function's own variables: names, size, and those that belong to Lambda.

use super::Violations;
use model::error::ApiError;
pub use model::settings::RESERVED_VARIABLES;
use std::collections::BTreeMap;

/// Bytes of all names and values together, as JSON without spaces. Source: Lambda quotas, "Environment variables 4 KB",
/// published; how they are measured: recorded on AWS, 4,096 passed and 4,097 did not.
pub const ENVIRONMENT_MAX: usize = 4_096;

/// Characters of the variables that the error about their size repeats.
const MEASURED_MAX: usize = 4 * ENVIRONMENT_MAX;

const NAME_PATTERN: &str = "[a-zA-Z]([a-zA-Z0-9_])+";

/// Checks names: two characters at least, a letter first, letters, digits and `_` only.
pub fn check_names(variables: &BTreeMap<String, String>, violations: &mut Violations) {
    // A reserved name may begin with `_`; it gets the clearer answer of `check_values`.
    let bad = variables.keys().any(|name| !is_name(name) && !RESERVED_VARIABLES.contains(&name.as_str()));
    if bad {
        let names: Vec<&str> = variables.keys().map(String::as_str).collect();
        violations.add(
            // Names only: a value may be a secret.
            format!("{{{}}}", names.join(", ")).escape_debug().to_string(),
            "environment.variables",
            format!("Map keys must satisfy constraint: [Member must satisfy regular expression pattern: {NAME_PATTERN}]"),
        );
    }
}

/// Checks what Lambda refuses beyond the service model.
///
/// # Errors
/// AWS's own texts for reserved names and for more than 4 KB; a text of ours for a NUL, which no process can be given.
pub fn check_values(variables: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let start = "Lambda was unable to configure your environment variables because the environment variables you have provided";
    let reserved: Vec<&str> =
        variables.keys().map(String::as_str).filter(|name| RESERVED_VARIABLES.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(ApiError::invalid(format!(
            "{start} contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        )));
    }
    let mut measured = serde_json::to_string(variables).unwrap_or_default();
    if measured.len() > ENVIRONMENT_MAX {
        if let Some((end, _)) = measured.char_indices().nth(MEASURED_MAX) {
            measured.truncate(end);
            measured.push('…');
        }
        return Err(ApiError::invalid(format!(
            "{start} exceeded the 4KB limit. String measured: {measured}"
        )));
    }
    if let Some((name, _)) = variables.iter().find(|(_, value)| value.contains('\0')) {
        return Err(ApiError::invalid(format!("{start} contain a NUL byte in the value of {name}.")));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_follow_the_pattern() {
        for (name, fits) in [
            ("AB", true),
            ("a_1", true),
            ("A", false),
            ("_A", false),
            ("1A", false),
            ("A-B", false),
            ("Ä1", false),
            ("A\nB", false),
            ("", false),
        ] {
            let mut violations = Violations::default();
            check_names(&variables(&[(name, "secret")]), &mut violations);
            let answer = violations.finish();
            assert_eq!(answer.is_ok(), fits, "{name}");
            assert!(answer.is_ok() || !answer.unwrap_err().message.contains("secret"));
        }
    }

    #[test]
    fn reserved_names_are_named() {
        let error =
            check_values(&variables(&[("AWS_REGION", "x"), ("FINE", "y"), ("_HANDLER", "z")])).unwrap_err();
        assert!(
            error.message.ends_with("Reserved keys used in this request: AWS_REGION, _HANDLER"),
            "{error}"
        );
    }

    #[test]
    fn four_kilobytes_are_enough() {
        let around = r#"{"AB":""}"#.len();
        assert!(check_values(&variables(&[("AB", &"x".repeat(ENVIRONMENT_MAX - around))])).is_ok());
        let error =
            check_values(&variables(&[("AB", &"x".repeat(ENVIRONMENT_MAX - around + 1))])).unwrap_err();
        assert!(error.message.contains("exceeded the 4KB limit. String measured: {\"AB\":\"xx"));
        // As recorded: two variables, 4,097 bytes as JSON and fewer by themselves.
        let two = |bytes: usize| variables(&[("SMALL_VAR", "ok"), ("LARGE_VAR", &"x".repeat(bytes))]);
        assert!(check_values(&two(4_063)).is_ok() && check_values(&two(4_064)).is_err());
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(check_values(&variables(&[("AB", "x\0y")])).is_err());
    }
}
