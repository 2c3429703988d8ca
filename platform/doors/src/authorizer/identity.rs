//! Where a request says who is asking.

use super::Question;
use crate::rest_api;
use model::stack::IdentitySource;

/// A source's value; `None` if it is missing or empty.
pub(super) fn of(source: &IdentitySource, question: &Question<'_>) -> Option<String> {
    let head = question.arrival.head;
    let value = match source {
        IdentitySource::Header(name) => {
            let values = head.headers.get_all(name).iter();
            let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            values.join(",")
        }
        IdentitySource::Query(name) => {
            let all = crate::event_v1::query(head.uri.query().unwrap_or(""));
            all.get(name).map(|values| values.join(",")).unwrap_or_default()
        }
        IdentitySource::Stage(name) => question.stage?.variables.get(name)?.clone(),
        IdentitySource::Context(name) => context(name, question)?,
    };
    Some(value).filter(|value| !value.is_empty())
}

/// What an API knows of a request by itself. Source: API Gateway Developer Guide, "$context variables".
fn context(name: &str, question: &Question<'_>) -> Option<String> {
    let Question { arrival, doors, route, api_id: prefix, .. } = question;
    let header = |name: &str| arrival.head.headers.get(name).and_then(|value| value.to_str().ok());
    Some(match name {
        "routeKey" => route.route_key.clone(),
        "resourcePath" => route.path.clone(),
        "httpMethod" | "http.method" => arrival.head.method.to_string(),
        "path" | "http.path" => arrival.path.to_owned(),
        "protocol" | "http.protocol" => "HTTP/1.1".to_owned(),
        "identity.sourceIp" | "http.sourceIp" => arrival.peer.to_string(),
        "identity.userAgent" | "http.userAgent" => header("user-agent")?.to_owned(),
        "identity.apiKey" => header("x-api-key")?.to_owned(),
        "stage" => question.stage_name.to_owned(),
        "apiId" => question.api_id.to_owned(),
        "accountId" => doors.account_id.clone(),
        "requestId" => arrival.id.to_string(),
        "domainName" => doors.gateway_name(prefix),
        "domainPrefix" => (*prefix).to_owned(),
        "extendedRequestId" if question.is_rest => rest_api::extended_id(arrival.id),
        "extendedRequestId" => arrival.id.to_string(),
        // The template's reader warns of it, and knows the same names.
        _ => return None,
    })
}
