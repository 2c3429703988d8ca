//! Runtime ids: those that run here, and the way out for the others.

use model::error::ApiError;
pub use model::settings::RUNTIMES;

/// Runtimes that AWS has, or has had, and that cannot run on the host's interpreters.
const ELSEWHERE: &[(&str, &str)] = &[
    ("java", "build the function as a container image (PackageType Image) with its Java base image"),
    ("dotnet", "build the function as a container image (PackageType Image) with its .NET base image"),
    ("ruby", "build the function as a container image (PackageType Image) with its Ruby base image"),
    ("go1.x", "compile the function as `bootstrap` for provided.al2023, or build it as a container image"),
    ("provided", "use provided.al2023"),
    ("nodejs", "use nodejs22.x, or build the function as a container image"),
    ("python", "use python3.13, or build the function as a container image"),
];

/// Checks that a runtime can run.
///
/// # Errors
/// For a runtime that AWS knows: the way out. For any other: AWS's text with the list of those that can.
pub fn check_runtime(runtime: &str) -> Result<(), ApiError> {
    if RUNTIMES.contains(&runtime) {
        return Ok(());
    }
    Err(ApiError::invalid(match elsewhere(runtime) {
        Some(way_out) => {
            format!("The runtime parameter of {runtime} is not supported by Onrush: {way_out}.")
        }
        None => format!(
            "Value {} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid ARN",
            runtime.escape_debug(),
            RUNTIMES.join(", ")
        ),
    }))
}

/// Whether Lambda has, or has had, a runtime of that id, wherever it can run.
pub fn is_known(runtime: &str) -> bool {
    RUNTIMES.contains(&runtime) || runtime == "nodejs" || elsewhere(runtime).is_some()
}

/// The way out for a runtime that AWS knows.
fn elsewhere(runtime: &str) -> Option<&'static str> {
    let known = ELSEWHERE.iter().find(|(family, _)| {
        let digits = runtime.strip_prefix(family);
        digits
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == 'c'))
            && runtime.len() <= 24
            && runtime.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    });
    known.map(|(_, way_out)| *way_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_that_cannot_run_name_the_way_out() {
        for runtime in ["java21", "java8.al2", "dotnet8", "dotnetcore3.1", "ruby3.4"] {
            let error = check_runtime(runtime).unwrap_err();
            assert!(error.message.contains(runtime) && error.message.contains("container image"), "{error}");
        }
        assert!(check_runtime("go1.x").unwrap_err().message.contains("provided.al2023"));
        assert!(check_runtime("python2.7").unwrap_err().message.contains("python3.13"));
    }

    #[test]
    fn unknown_runtimes_get_the_list() {
        for runtime in ["", "cobol", "python3.13 ", "pythonista"] {
            assert!(
                check_runtime(runtime).unwrap_err().message.contains("enum value set: [nodejs16.x, "),
                "{runtime}"
            );
        }
    }
}
