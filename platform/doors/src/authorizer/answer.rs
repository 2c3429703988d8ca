//! What an authorizer's function answers: yes or no, or a policy; and what it hands on.

use super::{Question, Stopped};
use invoke::Invoked;
use model::stack::Authorizer;
use model::wildcard::{is_like, is_like_within};
use serde_json::{Map, Value};
use std::time::Duration;

/// What a policy is asked for.
const ACTION: &str = "execute-api:Invoke";
/// Letters that a policy's patterns are compared with at most for one request: 10 to 20 ms. A policy of as much as 6 MB is taken,
/// one that was made to take long is none.
const STEPS_MAX: u64 = 20_000_000;
/// What a function fails with to have a REST API answer 401.
const UNAUTHORIZED: &str = "Unauthorized";

/// What an authorizer said, for as many requests as it holds.
#[derive(Debug)]
pub(super) struct Decision {
    verdict: Verdict,
    passed: Passed,
}

#[derive(Debug)]
enum Verdict {
    /// Simple responses: about every request.
    Simple(bool),
    /// About those that its statements name.
    Policy(Vec<Statement>),
}

#[derive(Debug, PartialEq, Eq)]
struct Statement {
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
}

/// What the function behind the route is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    principal: Option<String>,
    context: Option<Map<String, Value>>,
    /// The API key that the request counts as.
    pub(crate) usage_identifier_key: Option<String>,
    latency: Duration,
}

/// An answer that is none; the text goes to the log.
struct Malformed(&'static str);

impl Decision {
    /// Reads a function's result.
    pub(super) fn read(
        invoked: &Invoked,
        authorizer: &Authorizer,
        is_rest: bool,
        latency: Duration,
    ) -> Result<Self, Stopped> {
        let result: Value = serde_json::from_slice(&invoked.payload).unwrap_or_default();
        if invoked.failed {
            if is_rest && result["errorMessage"] == UNAUTHORIZED {
                return Err(Stopped::Unauthorized);
            }
            tracing::info!(authorizer = authorizer.name, "the authorizer's function failed");
            return Err(Stopped::Failed(invoked.limit.as_deref().cloned().map(super::Cause::Limit)));
        }
        let simple = authorizer.simple_responses && !is_rest;
        decision(&result, simple, is_rest, latency).map_err(|Malformed(reason)| {
            tracing::info!(authorizer = authorizer.name, reason, "the authorizer's answer is none");
            Stopped::Failed(None)
        })
    }

    /// What it says to one request.
    pub(super) fn of(&self, question: &Question<'_>) -> Result<Passed, Stopped> {
        match &self.verdict {
            Verdict::Simple(true) => Ok(self.passed.clone()),
            Verdict::Simple(false) => Err(Stopped::Denied { explicit: false }),
            Verdict::Policy(statements) => {
                judge(statements, &question.arn(), &question.canonical_arn()).map(|()| self.passed.clone())
            }
        }
    }
}

fn decision(result: &Value, simple: bool, is_rest: bool, latency: Duration) -> Result<Decision, Malformed> {
    let result = result.as_object().ok_or(Malformed("it is no object"))?;
    let context = match result.get("context") {
        None | Some(Value::Null) => None,
        Some(Value::Object(context)) if is_rest => Some(texts(context)?),
        Some(Value::Object(context)) => Some(context.clone()),
        Some(_) => return Err(Malformed("context is no object")),
    };
    let key = result.get("usageIdentifierKey").and_then(Value::as_str).map(str::to_owned);
    let mut passed = Passed { principal: None, context, usage_identifier_key: key, latency };
    if simple {
        let yes = result.get("isAuthorized").and_then(Value::as_bool);
        let yes = yes.ok_or(Malformed("isAuthorized is not true or false"))?;
        return Ok(Decision { verdict: Verdict::Simple(yes), passed });
    }
    let principal = result.get("principalId").and_then(Value::as_str);
    passed.principal = Some(principal.ok_or(Malformed("principalId is no text"))?.to_owned());
    let document = result.get("policyDocument").ok_or(Malformed("policyDocument is missing"))?;
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => return Err(Malformed("policyDocument has no Statement")),
    };
    let statements = statements.into_iter().map(statement).collect::<Result<Vec<_>, _>>()?;
    Ok(Decision { verdict: Verdict::Policy(statements), passed })
}

/// REST APIs hand on texts, numbers and truth values, all as texts.
fn texts(context: &Map<String, Value>) -> Result<Map<String, Value>, Malformed> {
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.as_str().into())),
        Value::Number(_) | Value::Bool(_) => Ok((key.clone(), value.to_string().into())),
        _ => Err(Malformed("context has a value that is no text, number or truth value")),
    };
    context.iter().map(text).collect()
}

fn statement(statement: &Value) -> Result<Statement, Malformed> {
    let allows = match statement["Effect"].as_str() {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err(Malformed("a statement's Effect is neither Allow nor Deny")),
    };
    let list = |key: &str| match &statement[key] {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(all) => {
            let all = all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            all.ok_or(Malformed("a statement has an Action or Resource that is no text"))
        }
        _ => Err(Malformed("a statement lacks Action or Resource")),
    };
    let (actions, resources) = (list("Action")?, list("Resource")?);
    if allows && !statement["Condition"].is_null() {
        // Conditions are not looked at: what they would allow is not, what they would deny is.
        tracing::warn!(
            "a statement of an authorizer's policy allows something on a condition, which is not run: it allows nothing"
        );
        return Ok(Statement { allows, actions: Vec::new(), resources });
    }
    Ok(Statement { allows, actions, resources })
}

/// Whatever denies it wins.
///
/// `arn` has the path as the client spelled it and `canonical` as the route's function understands it: what denies either
/// counts, and both have to be allowed, or `/cart//7` and `/cart/%37` would slip past what is said of `/cart/7`. Who allows
/// the very `arn`, as functions do that hand `methodArn` back, means this request.
fn judge(statements: &[Statement], arn: &str, canonical: &str) -> Result<(), Stopped> {
    let lower = ACTION.to_ascii_lowercase();
    let acts = |statement: &&Statement| {
        let action = |word: &String| is_like(word.to_ascii_lowercase().as_bytes(), lower.as_bytes());
        statement.actions.iter().any(action)
    };
    let mut steps = STEPS_MAX;
    let mut names = |statement: &Statement, arn: &str| {
        for word in &statement.resources {
            match is_like_within(word.as_bytes(), arn.as_bytes(), &mut steps) {
                Some(false) => {}
                Some(true) => return Ok(true),
                None => return Err(Stopped::Failed(None)),
            }
        }
        Ok(false)
    };
    let about = |allows| statements.iter().filter(acts).filter(move |statement| statement.allows == allows);
    for statement in about(false) {
        if names(statement, arn)? || names(statement, canonical)? {
            return Err(Stopped::Denied { explicit: true });
        }
    }
    if about(true).any(|statement| statement.resources.iter().any(|word| word == arn)) {
        return Ok(());
    }
    for arn in [arn, canonical] {
        let mut is_named = false;
        for statement in about(true) {
            is_named = is_named || names(statement, arn)?;
        }
        if !is_named {
            return Err(Stopped::Denied { explicit: false });
        }
    }
    Ok(())
}

/// What an answer says of a request to `arn`, whose canonical spelling is the other: `None` if it is no answer.
pub(crate) fn verdict(
    result: &[u8],
    simple: bool,
    is_rest: bool,
    arn: &str,
    canonical: &str,
) -> Option<bool> {
    let result: Value = serde_json::from_slice(result).unwrap_or_default();
    let decision = decision(&result, simple && !is_rest, is_rest, Duration::ZERO).ok()?;
    // What is handed on is written down in both formats, whoever passes.
    let _ = (decision.passed.v1().to_string(), decision.passed.v2().to_string());
    match &decision.verdict {
        Verdict::Simple(yes) => Some(*yes),
        Verdict::Policy(statements) => match judge(statements, arn, canonical) {
            Ok(()) => Some(true),
            Err(Stopped::Denied { .. }) => Some(false),
            Err(_) => None,
        },
    }
}

impl Passed {
    /// `requestContext.authorizer` of payload format 1.0.
    pub(crate) fn v1(&self) -> Value {
        let mut all = self.context.clone().unwrap_or_default();
        if let Some(principal) = &self.principal {
            all.insert("principalId".to_owned(), principal.as_str().into());
        }
        let latency = u64::try_from(self.latency.as_millis()).unwrap_or(u64::MAX);
        all.insert("integrationLatency".to_owned(), latency.into());
        all.into()
    }

    /// `requestContext.authorizer.lambda` of payload format 2.0.
    pub(crate) fn v2(&self) -> Value {
        self.context.clone().map_or(Value::Null, Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ARN: &str = "arn:aws:execute-api:us-east-1:000000000000:abc/Prod/GET/cart/7";

    fn policy(statements: &Value) -> Value {
        json!({"principalId": "me", "policyDocument": {"Version": "2012-10-17", "Statement": statements}})
    }

    fn judged(statements: &Value) -> &'static str {
        judged_at(statements, "/cart/7")
    }

    /// The same of a path, however it is spelled.
    fn judged_at(statements: &Value, path: &str) -> &'static str {
        let arn = |path: &str| ARN.replace("/cart/7", path);
        let decision = decision(&policy(statements), false, true, Duration::ZERO);
        let Ok(Decision { verdict: Verdict::Policy(statements), .. }) = decision else { return "malformed" };
        match judge(&statements, &arn(path), &arn(&crate::routes::canonical(path))) {
            Ok(()) => "allowed",
            Err(Stopped::Denied { explicit: true }) => "denied",
            Err(_) => "not named",
        }
    }

    #[test]
    fn a_statement_that_denies_wins() {
        let says = |effect: &str, action: &str, resource: &str| json!({"Effect": effect, "Action": action, "Resource": resource});
        let all = "arn:aws:execute-api:us-east-1:000000000000:abc/Prod/*";
        let (yes, no) = (says("Allow", ACTION, all), says("Deny", ACTION, ARN));
        assert_eq!(judged(&json!([yes])), "allowed");
        assert_eq!(judged(&yes), "allowed", "one statement may stand alone");
        assert_eq!(judged(&json!([yes, no])), "denied");
        assert_eq!(judged(&json!([no, yes])), "denied");
        assert_eq!(judged(&json!([says("Allow", "execute-api:*", "*")])), "allowed");
        assert_eq!(judged(&json!([says("Allow", "EXECUTE-API:invoke", "*")])), "allowed");
        assert_eq!(judged(&json!([says("Allow", "s3:GetObject", "*")])), "not named");
        assert_eq!(judged(&json!([says("Allow", ACTION, &ARN.replace("GET", "PUT"))])), "not named");
        assert_eq!(judged(&json!([])), "not named");
        let lists = json!([{"Effect": "Allow", "Action": ["a:b", ACTION], "Resource": ["x", all]}]);
        assert_eq!(judged(&lists), "allowed");
    }

    #[test]
    fn another_spelling_of_a_path_evades_no_statement() {
        let says = |effect: &str, path: &str| json!({"Effect": effect, "Action": ACTION, "Resource": ARN.replace("/cart/7", path)});
        let but_seven = json!([says("Allow", "/*"), says("Deny", "/cart/7")]);
        let spellings = ["/cart/7", "//cart/7", "/cart//7", "/cart/7/", "/cart/%37", "/c%61rt/7"];
        for path in spellings {
            assert_eq!(judged_at(&but_seven, path), "denied", "{path}");
        }
        assert_eq!(judged_at(&but_seven, "/cart/8/"), "allowed");
        let below = json!([says("Allow", "/cart/*")]);
        assert_eq!((judged_at(&below, "/cart/"), judged_at(&below, "/cart/a%20b")), ("not named", "allowed"));
        for path in spellings {
            assert_eq!(
                judged_at(&json!([says("Allow", path)]), path),
                "allowed",
                "methodArn handed back: {path}"
            );
            assert_eq!(judged_at(&json!([says("Deny", path)]), path), "denied", "{path}");
        }
    }

    #[test]
    fn a_policy_that_takes_long_to_compare_is_none() {
        let long = "*".to_owned() + &"a".repeat(4000) + "b";
        let slow =
            policy(&json!([{"Effect": "Allow", "Action": "*", "Resource": vec![long; 50]}])).to_string();
        let arn = ARN.to_owned() + &"a".repeat(9000);
        assert_eq!(verdict(slow.as_bytes(), false, true, &arn, &arn), None);
        assert_eq!(verdict(slow.as_bytes(), false, true, ARN, ARN), Some(false), "a short path is compared");
        let many: Vec<_> = (0..100_000).map(|number| format!("{ARN}/{number}")).collect();
        let statement = json!([{"Effect": "Allow", "Action": "*", "Resource": many}, {"Effect": "Allow", "Action": "*", "Resource": "*"}]);
        assert_eq!(judged(&statement), "allowed", "a large one that is plain is compared");
    }

    #[test]
    fn conditions_allow_nothing_and_deny_all_the_same() {
        let says = |effect: &str| json!([{"Effect": effect, "Action": ACTION, "Resource": "*", "Condition": {"IpAddress": {}}}]);
        assert_eq!((judged(&says("Allow")), judged(&says("Deny"))), ("not named", "denied"));
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        for (result, simple) in [
            (json!(null), true),
            (json!("yes"), true),
            (json!({"isAuthorized": "true"}), true),
            (json!({"isAuthorized": true, "context": 1}), true),
            (json!({"isAuthorized": true}), false),
            (json!({"principalId": "me"}), false),
            (json!({"principalId": 7, "policyDocument": {"Statement": []}}), false),
            (policy(&json!([{"Effect": "allow", "Action": "*", "Resource": "*"}])), false),
            (policy(&json!([{"Effect": "Allow", "Action": "*"}])), false),
            (policy(&json!([{"Effect": "Allow", "Action": [1], "Resource": "*"}])), false),
        ] {
            assert!(decision(&result, simple, true, Duration::ZERO).is_err(), "{result}");
        }
    }

    #[test]
    fn a_context_is_texts_at_rest_apis_and_anything_at_http_apis() {
        let mut result = policy(&json!([]));
        result["context"] = json!({"number": 1, "truth": true, "text": "x"});
        let told = |result: &Value, is_rest| {
            decision(result, false, is_rest, Duration::from_millis(7)).map(|found| found.passed)
        };
        let Ok(passed) = told(&result, true) else { panic!("an answer") };
        let expected = json!({"number": "1", "truth": "true", "text": "x", "principalId": "me", "integrationLatency": 7});
        assert_eq!(passed.v1(), expected);
        result["context"]["list"] = json!([1]);
        assert!(told(&result, true).is_err());
        let Ok(passed) = told(&result, false) else { panic!("an answer") };
        assert_eq!(passed.v2(), json!({"number": 1, "truth": true, "text": "x", "list": [1]}));
    }
}
