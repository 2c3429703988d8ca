//! Whether a resource policy lets a caller in.
//!
//! Source: Lambda Developer Guide, "Viewing resource-based IAM policies in Lambda" and "Control access to Lambda function
//! URLs", published. A policy made by `AddPermission` holds `Allow` statements alone, with the conditions below.

use crate::function::{Function, PolicyStatement};
use model::wildcard::is_like;
use serde_json::Value;

/// Who asks for what, and on whose behalf.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// `lambda:InvokeFunction` and the like.
    pub action: &'a str,
    /// `apigateway.amazonaws.com`; `None` is anybody.
    pub service: Option<&'a str>,
    /// The account of a caller that signs, twelve digits.
    pub account: Option<&'a str>,
    /// What the service acts for.
    pub source_arn: Option<&'a str>,
    /// Whose that is.
    pub source_account: Option<&'a str>,
    /// `NONE` or `AWS_IAM`, when a function URL is called.
    pub function_url_auth_type: Option<&'a str>,
    /// Whether the call came through a function URL.
    pub via_function_url: bool,
}

impl Function {
    /// The statements for the function itself, or for one of its versions or aliases: each has a policy of its own.
    pub fn policy_of(&self, qualifier: Option<&str>) -> &[PolicyStatement] {
        match qualifier {
            Some(qualifier) => self.published.policies.get(qualifier).map_or(&[], Vec::as_slice),
            None => &self.policy,
        }
    }

    /// Whether anybody may call the URL of the function or of an alias. Two permissions, since October 2025.
    pub fn is_public_url(&self, alias: Option<&str>) -> bool {
        let question = Question {
            action: "lambda:InvokeFunctionUrl",
            function_url_auth_type: Some("NONE"),
            via_function_url: true,
            ..Question::default()
        };
        let policy = self.policy_of(alias);
        allows(policy, &question) && allows(policy, &Question { action: "lambda:InvokeFunction", ..question })
    }
}

/// Whether any statement allows it.
pub fn allows(policy: &[PolicyStatement], question: &Question<'_>) -> bool {
    policy.iter().any(|statement| statement_allows(&statement.document, question))
}

fn statement_allows(statement: &Value, question: &Question<'_>) -> bool {
    statement["Effect"] == "Allow"
        && action_fits(statement["Action"].as_str().unwrap_or_default(), question.action)
        && principal_fits(&statement["Principal"], question)
        && conditions_hold(&statement["Condition"], question)
}

fn action_fits(allowed: &str, asked: &str) -> bool {
    allowed == "*" || allowed.eq_ignore_ascii_case("lambda:*") || allowed.eq_ignore_ascii_case(asked)
}

fn principal_fits(allowed: &Value, question: &Question<'_>) -> bool {
    let is_account = |account: &str| {
        // The number itself, or the ARN of the account's root.
        let named = allowed["AWS"].as_str().unwrap_or_default();
        let root = || named.strip_prefix("arn:")?.split_once(":iam::").map(|(_, rest)| rest);
        named == account || root().is_some_and(|rest| rest.strip_suffix(":root") == Some(account))
    };
    allowed == "*"
        || allowed["AWS"] == "*"
        || question.service.is_some_and(|service| allowed["Service"] == service)
        || question.account.is_some_and(is_account)
}

/// A condition that is not known is one that does not hold.
fn conditions_hold(conditions: &Value, question: &Question<'_>) -> bool {
    let Value::Object(operators) = conditions else { return conditions.is_null() };
    operators.iter().all(|(operator, keys)| {
        keys.as_object().is_some_and(|keys| {
            keys.iter().all(|(key, wanted)| {
                let wanted = wanted.as_str().unwrap_or_default();
                let via = if question.via_function_url { "true" } else { "false" };
                let given = match key.to_ascii_lowercase().as_str() {
                    "aws:sourcearn" => question.source_arn,
                    "aws:sourceaccount" => question.source_account,
                    "lambda:functionurlauthtype" => question.function_url_auth_type,
                    "lambda:invokedviafunctionurl" => Some(via),
                    _ => None,
                };
                given.is_some_and(|given| match operator.as_str() {
                    "StringEquals" => given == wanted,
                    "ArnLike" | "StringLike" => arn_like(wanted, given),
                    "Bool" => given.eq_ignore_ascii_case(wanted),
                    _ => false,
                })
            })
        })
    })
}

/// Part by part, as far as the resource, in which colons are letters like others.
fn arn_like(pattern: &str, arn: &str) -> bool {
    let (patterns, parts) = (pattern.splitn(6, ':'), arn.splitn(6, ':'));
    patterns.clone().count() == parts.clone().count()
        && patterns.zip(parts).all(|(pattern, part)| is_like(pattern.as_bytes(), part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(documents: &[Value]) -> Vec<PolicyStatement> {
        let statement = |document: &Value| PolicyStatement { id: String::new(), document: document.clone() };
        documents.iter().map(statement).collect()
    }

    #[test]
    fn a_public_url_needs_both_permissions_in_the_right_policy() {
        let url = json!({"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunctionUrl",
            "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}});
        let invoke = json!({"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction",
            "Condition": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}});
        let mut function = Function::new("cart", Default::default());
        function.policy = policy(std::slice::from_ref(&url));
        assert!(!function.is_public_url(None));
        function.policy = policy(&[url.clone(), invoke.clone()]);
        assert!(function.is_public_url(None) && !function.is_public_url(Some("live")));
        function.published.policies.insert("live".to_owned(), policy(&[url.clone(), invoke.clone()]));
        assert!(function.is_public_url(Some("live")));
        let mut signed = url;
        signed["Condition"]["StringEquals"]["lambda:FunctionUrlAuthType"] = json!("AWS_IAM");
        function.policy = policy(&[signed, invoke]);
        assert!(!function.is_public_url(None));
        function.policy =
            policy(&[json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "lambda:*"})]);
        assert!(function.is_public_url(None));
    }

    #[test]
    fn another_account_is_let_in_by_its_number_or_its_root() {
        let question = Question {
            action: "lambda:InvokeFunction",
            account: Some("123456789012"),
            ..Question::default()
        };
        for (principal, fits) in [
            (json!({"AWS": "123456789012"}), true),
            (json!({"AWS": "arn:aws:iam::123456789012:root"}), true),
            (json!({"AWS": "arn:aws-cn:iam::123456789012:root"}), true),
            (json!({"AWS": "arn:aws:iam::123456789012:user/a"}), false),
            (json!({"AWS": "arn:aws:iam::210987654321:root"}), false),
            (json!({"AWS": "1234567890123"}), false),
            (json!({"Service": "123456789012"}), false),
        ] {
            let document =
                json!({"Effect": "Allow", "Action": "lambda:InvokeFunction", "Principal": principal});
            assert_eq!(allows(&policy(&[document]), &question), fits, "{principal}");
        }
    }

    #[test]
    fn a_service_is_let_in_for_its_source() {
        let arn = "arn:aws:execute-api:us-east-1:000000000000:abc/$default/GET/cart/{id}";
        let question = Question {
            action: "lambda:InvokeFunction",
            service: Some("apigateway.amazonaws.com"),
            source_arn: Some(arn),
            source_account: Some("000000000000"),
            ..Question::default()
        };
        let statement = |source: Option<&str>| {
            let mut document = json!({"Effect": "Allow", "Action": "lambda:InvokeFunction",
                "Principal": {"Service": "apigateway.amazonaws.com"}});
            if let Some(source) = source {
                document["Condition"] = json!({"ArnLike": {"AWS:SourceArn": source}});
            }
            policy(&[document])
        };
        for (source, fits) in [
            (None, true),
            (Some("arn:aws:execute-api:us-east-1:000000000000:abc/*/GET/cart/*"), true),
            (Some("arn:aws:execute-api:*:*:abc/*"), true),
            (Some("arn:aws:execute-api:us-east-1:000000000000:abc/*/POST/*"), false),
            (Some("arn:aws:execute-api:us-east-1:000000000000:other/*"), false),
            (Some("arn:aws:execute-api:us-east-1:abc/*"), false),
            (Some("arn:*"), false),
        ] {
            assert_eq!(allows(&statement(source), &question), fits, "{source:?}");
        }
        let other = Question { service: Some("events.amazonaws.com"), ..question };
        assert!(!allows(&statement(None), &other));
        let strange = json!({"Effect": "Allow", "Action": "*", "Principal": "*",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}});
        assert!(!allows(&policy(&[strange]), &question), "an organisation is nobody here");
    }

    #[test]
    fn stars_match_any_run() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c*e", "abcde", true),
            ("a*c", "abcd", false),
            ("?b*", "ab", true),
            ("", "a", false),
            ("*aab", "aaaab", true),
        ] {
            assert_eq!(is_like(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
