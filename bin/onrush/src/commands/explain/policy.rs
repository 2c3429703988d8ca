//! What the policy of a VPC endpoint lets through: it is shown, and the statement that would refuse is named. Packets do not
//! meet it: AWS's service answers `AccessDenied` where it says no.
//!
//! Source: AWS PrivateLink Guide, "Control access to VPC endpoints using endpoint policies" (without one, everything is
//! allowed); IAM User Guide, "Policy evaluation logic" (a denial outweighs; what nothing allows is denied); published.

use model::wildcard::is_like;
use serde_json::Value;

/// Statements that are shown of a policy.
const SHOWN_MAX: usize = 20;
/// Characters of a statement that are shown.
const SHOWN_CHARS: usize = 160;

/// The lines that tell of a policy.
pub(super) fn lines(policy: Option<&str>) -> Vec<String> {
    let Some(policy) = policy else {
        return vec!["policy: none, so everybody may do everything".to_owned()];
    };
    let Some(document) = read(policy) else {
        return vec!["policy: not readable".to_owned()];
    };
    let statements: Vec<&Value> = many(&document["Statement"]).collect();
    let mut lines: Vec<String> = statements
        .iter()
        .enumerate()
        .take(SHOWN_MAX)
        .map(|(index, statement)| format!("policy: {}", in_words(index, statement)))
        .collect();
    if statements.len() > SHOWN_MAX {
        lines.push(format!("policy: and {} statements more", statements.len() - SHOWN_MAX));
    }
    lines
}

/// Why the service would refuse whatever is asked of it through the endpoint; `resource`: the ARN that is asked about, if it
/// is known. Only what is certain: a condition may not hold.
pub(super) fn refuses(policy: Option<&str>, service: &str, resource: Option<&str>) -> Option<String> {
    let document = policy.and_then(read)?;
    let statements: Vec<(usize, &Value)> = many(&document["Statement"]).enumerate().collect();
    let is = |statement: &Value, effect: &str| statement["Effect"].as_str() == Some(effect);
    let denied = statements.iter().find(|(_, statement)| {
        is(statement, "Deny")
            && statement["Condition"].is_null()
            && everybody(statement)
            && covers_all_actions(statement, service)
            && may_mean(&statement["Resource"], &statement["NotResource"], resource, true)
    });
    if let Some((index, statement)) = denied {
        return Some(in_words(*index, statement));
    }
    let allowed = statements.iter().any(|(_, statement)| {
        is(statement, "Allow")
            && may_mean_actions(statement, service)
            && may_mean(&statement["Resource"], &statement["NotResource"], resource, false)
    });
    let what = resource.unwrap_or(service);
    (!allowed).then(|| format!("no statement allows anything of {what}"))
}

/// What actions of an endpoint's service begin with; `None` where that is not known, and so nothing is certain.
pub(super) fn prefix(service_name: &str) -> Option<&str> {
    // Services whose endpoints are called as their actions are (Service Authorization Reference).
    const SAME: &[&str] = &[
        "dynamodb",
        "ecs",
        "events",
        "execute-api",
        "kms",
        "lambda",
        "logs",
        "s3",
        "secretsmanager",
        "sns",
        "sqs",
        "ssm",
        "states",
        "sts",
    ];
    match service_name.rsplit('.').next()? {
        "kinesis-streams" => Some("kinesis"),
        "monitoring" => Some("cloudwatch"),
        short => SAME.contains(&short).then_some(short),
    }
}

fn read(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// The items of a list, or the one thing that stands in its place.
fn many(value: &Value) -> impl Iterator<Item = &Value> {
    let list = value.as_array().map(Vec::as_slice);
    list.unwrap_or_else(|| std::slice::from_ref(value)).iter().filter(|value| !value.is_null())
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    many(value).filter_map(Value::as_str)
}

/// Whether a statement speaks of everybody.
fn everybody(statement: &Value) -> bool {
    let principal = &statement["Principal"];
    principal.as_str() == Some("*") || texts(&principal["AWS"]).any(|who| who == "*")
}

/// Whether a statement speaks of every action of a service.
fn covers_all_actions(statement: &Value, service: &str) -> bool {
    let all = format!("{service}:*");
    texts(&statement["Action"]).any(|action| action == "*" || action.eq_ignore_ascii_case(&all))
}

/// Whether a statement may speak of some action of a service.
fn may_mean_actions(statement: &Value, service: &str) -> bool {
    let own = |action: &str| {
        let (prefix, _) = action.split_once(':').unwrap_or((action, ""));
        prefix.contains(['*', '?']) || prefix.eq_ignore_ascii_case(service)
    };
    match &statement["Action"] {
        Value::Null => !statement["NotAction"].is_null(),
        actions => texts(actions).any(own),
    }
}

/// Whether a statement's resources mean `resource` or something below it. Of an unknown one only `*` is `certain`.
fn may_mean(resources: &Value, others: &Value, resource: Option<&str>, certain: bool) -> bool {
    if resources.is_null() {
        return !others.is_null() && !certain;
    }
    texts(resources).any(|pattern| {
        let Some(arn) = resource else { return !certain || pattern == "*" };
        // A bucket's policy speaks of the bucket or of what it holds.
        let below = |pattern: &str| pattern.strip_prefix(arn).is_some_and(|rest| rest.starts_with('/'));
        let (itself, content) = (fits(pattern, arn), fits(pattern, &format!("{arn}/x")));
        // Of these services an endpoint is asked for what a resource holds, too.
        let holds = arn.contains(":s3:") || arn.contains(":dynamodb:");
        if certain { itself && (content || !holds) } else { itself || content || below(pattern) }
    })
}

/// Whether a pattern with `*` and `?` means a text.
fn fits(pattern: &str, text: &str) -> bool {
    is_like(pattern.as_bytes(), text.as_bytes())
}

/// A statement in a line: `statement 2 (OnlyOrders): Allow s3:GetObject on arn:…, under a condition`.
fn in_words(index: usize, statement: &Value) -> String {
    let list = |key: &str| {
        let listed: Vec<&str> = texts(&statement[key]).collect();
        (!listed.is_empty()).then(|| listed.join(", "))
    };
    let either = |key: &str, not: &str, none: &str| {
        list(key).or_else(|| Some(format!("all but {}", list(not)?))).unwrap_or_else(|| none.to_owned())
    };
    let name = statement["Sid"].as_str().map(|name| format!(" ({name})")).unwrap_or_default();
    let effect = statement["Effect"].as_str().unwrap_or("nothing");
    let actions = either("Action", "NotAction", "no action");
    let resources = either("Resource", "NotResource", "*");
    let whom = if everybody(statement) { "" } else { ", for some principals" };
    let condition = if statement["Condition"].is_null() { "" } else { ", under a condition" };
    let text = format!("statement {}{name}: {effect} {actions} on {resources}{whom}{condition}", index + 1);
    if text.chars().count() <= SHOWN_CHARS {
        return text;
    }
    text.chars().take(SHOWN_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(statements: &Value, resource: Option<&str>) -> Option<String> {
        refuses(Some(&json!({"Statement": statements}).to_string()), "s3", resource)
    }

    #[test]
    fn the_statement_that_refuses_is_named_and_doubt_refuses_nothing() {
        let bucket = Some("arn:aws:s3:::orders");
        let all = json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"});
        let deny =
            json!({"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"});
        assert_eq!(refuses(None, "s3", bucket), None);
        assert_eq!(refused(&json!([all]), bucket), None);
        assert_eq!(refused(&json!([all, deny]), bucket).unwrap(), "statement 2 (No): Deny s3:* on *");
        for (key, value) in [
            ("Condition", json!({"Bool": {"aws:SecureTransport": "false"}})),
            ("Principal", json!({"AWS": "arn:aws:iam::1:role/x"})),
            ("Action", json!("s3:PutObject")),
            ("Resource", json!("arn:aws:s3:::other/*")),
        ] {
            let mut some = deny.clone();
            some[key] = value;
            assert_eq!(refused(&json!([all, some]), bucket), None, "{key}");
        }
        for (resource, allowed) in [
            ("arn:aws:s3:::orders", true),
            ("arn:aws:s3:::orders/*", true),
            ("arn:aws:s3:::ord*", true),
            ("arn:aws:s3:::orders-2/*", false),
            ("arn:aws:s3:::other", false),
        ] {
            let some =
                json!({"Effect": "Allow", "Principal": "*", "Action": "s3:Get*", "Resource": resource});
            assert_eq!(refused(&json!(some), bucket).is_none(), allowed, "{resource}");
            assert_eq!(refused(&json!(some), None), None, "of which bucket is not known");
        }
        let other = json!({"Effect": "Allow", "Principal": "*", "Action": "dynamodb:*", "Resource": "*"});
        assert_eq!(refused(&json!(other), None).unwrap(), "no statement allows anything of s3");
    }

    #[test]
    fn policies_are_shown_in_bounded_lines() {
        assert_eq!(lines(None), ["policy: none, so everybody may do everything"]);
        let long = json!({"Effect": "Allow", "Action": vec!["s3:GetObject"; 99], "Resource": "*"});
        let found = lines(Some(&json!({"Statement": vec![long; 30]}).to_string()));
        assert_eq!(found.len(), SHOWN_MAX + 1);
        assert!(found[0].chars().count() < SHOWN_CHARS + 10 && found[0].ends_with('…'));
        assert_eq!(found[SHOWN_MAX], "policy: and 10 statements more");
        assert_eq!(lines(Some("{")).len(), 1);
    }
}
