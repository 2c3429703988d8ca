//! What a MOCK integration answers, as far as its templates are plain texts: cross-origin answers and health checks mostly.

use super::Fields;
use crate::problem::Problems;
use crate::yaml::Node;
use model::stack::MockResponse;
use std::collections::BTreeMap;

const STATUS_DEFAULT: u16 = 200;

/// The answer of an integration of type MOCK, by the spellings of CloudFormation and OpenAPI; none where a template has
/// expressions (`$`, `#`), which are not evaluated.
pub(super) fn response(fields: &Fields<'_>, problems: &mut Problems) -> Option<MockResponse> {
    let either = |fields: &Fields<'_>, one: &'static str, other: &'static str| {
        if fields.get(one).is_some() { one } else { other }
    };
    let requests = fields.string_map(either(fields, "RequestTemplates", "requestTemplates"), problems);
    let wanted = requests.values().next().map(String::as_str).and_then(status_of_request);
    // API Gateway answers 500 when the request's template names no status.
    let wanted = wanted.unwrap_or(STATUS_DEFAULT);
    let mut all = Vec::new();
    for one in fields.inners("IntegrationResponses", problems) {
        let pattern = one.string("SelectionPattern", problems).unwrap_or_default();
        all.push((pattern, one));
    }
    if let Some(by_pattern) = fields.inner("responses", problems) {
        for entry in by_pattern.mapping().entries() {
            let pattern = if entry.key.as_ref() == "default" { String::new() } else { entry.key.to_string() };
            if let Some(inner) = by_pattern.inner(&entry.key, problems) {
                all.push((pattern, inner));
            }
        }
    }
    let text = wanted.to_string();
    let chosen = all.iter().find(|(pattern, _)| *pattern == text);
    let chosen = chosen.or_else(|| all.iter().find(|(pattern, _)| pattern.is_empty()));
    let Some((_, chosen)) = chosen.or_else(|| all.first()) else {
        return Some(MockResponse { status: wanted, headers: BTreeMap::new(), body: String::new() });
    };
    let status = chosen.get(either(chosen, "StatusCode", "statusCode")).and_then(Node::as_str);
    let status = status.and_then(|status| status.parse().ok()).filter(|status| (200..600).contains(status));
    let parameters = either(chosen, "ResponseParameters", "responseParameters");
    let mut headers = BTreeMap::new();
    for (name, value) in chosen.string_map(parameters, problems) {
        let Some(name) = name.strip_prefix("method.response.header.") else { continue };
        // Static values stand in quotes of their own; the others are mapped from somewhere.
        let literal = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        if let Some(literal) = literal {
            headers.insert(name.to_owned(), literal.to_owned());
        }
    }
    let templates = chosen.string_map(either(chosen, "ResponseTemplates", "responseTemplates"), problems);
    let body = templates.get("application/json").or_else(|| templates.values().next()).cloned();
    let body = body.unwrap_or_default();
    let is_plain = !body.contains(['$', '#']);
    is_plain.then(|| MockResponse { status: status.unwrap_or(wanted), headers, body })
}

/// `{"statusCode": 200}`, also as CDK writes it, without quotes.
fn status_of_request(template: &str) -> Option<u16> {
    let (_, rest) = template.split_once("statusCode")?;
    let digits = rest.trim_start_matches(['"', '\'', ' ', ':', '\t', '\n', '\r']);
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok().filter(|status| (200..600).contains(status))
}
