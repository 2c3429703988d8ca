//! What the settings of a function may be, wherever they are given: in a template, or through the API.

/// Runtimes that functions may have here: AWS's list of 2026 less those that need more than the host's interpreters.
pub const RUNTIMES: &[&str] = &[
    "nodejs16.x",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "provided.al2",
    "provided.al2023",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
];

/// Runtimes that AWS has, or has had, and that do not run here; a plan takes them. Source: Lambda service model, shape
/// `Runtime`, published.
pub const RUNTIMES_ELSEWHERE: &[&str] = &[
    "nodejs",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "java8",
    "java8.al2",
    "java11",
    "java17",
    "java21",
    "java25",
    "python2.7",
    "python3.6",
    "python3.7",
    "python3.8",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "dotnet6",
    "dotnet8",
    "dotnet10",
    "go1.x",
    "ruby2.5",
    "ruby2.7",
    "ruby3.2",
    "ruby3.3",
    "ruby3.4",
    "provided",
];

/// Variables that Lambda sets itself. Source: Lambda Developer Guide, "Defined runtime environment variables", reserved
/// ones, published.
pub const RESERVED_VARIABLES: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// Whether AWS knows this runtime, whether it runs here or not.
pub fn is_runtime(text: &str) -> bool {
    RUNTIMES.contains(&text) || RUNTIMES_ELSEWHERE.contains(&text)
}

/// Whether a text is the ARN of a role, as the Lambda service model's pattern has it.
pub fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let &["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let name = resource.strip_prefix("role").map(|rest| rest.strip_prefix('/').unwrap_or(rest));
    (partition.is_empty() || partition.starts_with("aws"))
        && crate::name::is_account(account)
        && name.is_some_and(|name| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_/".contains(&byte))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_known_by_their_arn() {
        for arn in ["arn:aws:iam::123456789012:role/cart", "arn:aws-cn:iam::123456789012:role/a/b+c"] {
            assert!(is_role_arn(arn), "{arn}");
        }
        for text in ["cart", "arn:aws:iam::12:role/cart", "arn:aws:iam::123456789012:user/cart", ""] {
            assert!(!is_role_arn(text), "{text}");
        }
    }

    #[test]
    fn a_runtime_stands_in_one_list() {
        assert!(RUNTIMES.iter().all(|runtime| !RUNTIMES_ELSEWHERE.contains(runtime)));
        assert!(is_runtime("python3.13") && is_runtime("java21") && !is_runtime("python3.31"));
    }
}
