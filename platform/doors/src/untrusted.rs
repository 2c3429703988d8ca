//! What doors make of bytes that anybody sends, by the parsers that are served: for fuzzing.

use crate::routes::{Resource, Routes};
use crate::{Answer, authorizer, event, event_v1, reply_v1, routes};
use bytes::Bytes;
use http::request::Parts;
use model::stack::ApiRoute;
use std::collections::BTreeMap;

/// Types whose bodies a REST API hands on in base64.
const BINARY: &str = "image/*";

/// An API, read as both kinds.
#[derive(Debug)]
pub struct Api {
    http: Routes,
    rest: Routes,
}

/// What both kinds of API make of a request.
#[derive(Debug)]
pub struct Seen {
    /// The HTTP API's route, and what its path stands for.
    pub http: Option<(String, BTreeMap<String, String>)>,
    /// The REST API's method, the same.
    pub rest: Option<(String, BTreeMap<String, String>)>,
    /// Events, JSON: format 2.0, 1.0 of an HTTP API, 1.0 of a REST API.
    pub events: [Bytes; 3],
}

impl Api {
    /// With these routes.
    pub fn new(routes: &[ApiRoute]) -> Self {
        Self { http: Routes::of_http(routes), rest: Routes::of_rest(routes) }
    }

    /// Finds the route of a request, and writes the events that its function would get.
    pub fn read(&self, head: &Parts, body: &Bytes) -> Seen {
        let (method, path) = (head.method.as_str(), head.uri.path());
        let http =
            self.http.find(method, path).map(|found| (found.route.route_key.clone(), found.parameters));
        let rest = match self.rest.resource(method, path) {
            Resource::Method(found) => Some((found.route.route_key.clone(), found.parameters)),
            Resource::Other(_) | Resource::None => None,
        };
        let incoming = event::Incoming {
            method,
            raw_path: path,
            raw_query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            source_ip: [192, 0, 2, 1].into(),
            port: 4566,
            request_id: "id",
            trace_id: "Root=1",
            now_ms: 0,
            body,
        };
        let nothing = BTreeMap::new();
        let (route_key, parameters) =
            http.as_ref().map_or(("", &nothing), |(key, found)| (key.as_str(), found));
        let door = event::Door {
            account_id: "000000000000",
            api_id: "a",
            domain_name: "a.execute-api.us-east-1.localhost",
            route_key,
            stage: "$default",
            path_parameters: Some(parameters),
            stage_variables: None,
            signer: None,
            authorizer: None,
            nulls: false,
        };
        let binary = [BINARY.to_owned()];
        let of_http = event_v1::Api {
            account_id: door.account_id,
            api_id: door.api_id,
            domain_name: door.domain_name,
            resource: route_key,
            resource_id: None,
            deployment_id: None,
            extended_request_id: "x",
            stage: door.stage,
            whole_path: path,
            path_parameters: parameters,
            stage_variables: None,
            api_key: None,
            binary_media_types: None,
            version: Some("1.0"),
            signer: None,
            authorizer: None,
        };
        let of_rest = event_v1::Api { binary_media_types: Some(&binary), version: None, ..of_http };
        let events = [
            event::encode(&door, &incoming),
            event_v1::encode(&of_http, &incoming),
            event_v1::encode(&of_rest, &incoming),
        ];
        Seen { http, rest, events }
    }
}

/// What a result of format 1.0 stands for, to an HTTP API, a REST API, and one whose client takes binary; `None` is malformed.
pub fn replies(result: &Bytes) -> [Option<Answer>; 3] {
    let readings = [(false, true), (true, false), (true, true)];
    readings.map(|(strict, decodes)| reply_v1::decode(result, reply_v1::Reading { strict, decodes }).ok())
}

/// What an authorizer's answer says of `GET` with that path at an API of this account: `None` if it is no answer. `simple` where the
/// API takes yes or no.
pub fn authorizer(answer: &[u8], simple: bool, is_rest: bool, path: &str) -> Option<bool> {
    let arn = |path: &str| format!("arn:aws:execute-api:us-east-1:000000000000:abc/Prod/GET{path}");
    authorizer::verdict(answer, simple, is_rest, &arn(path), &arn(&routes::canonical(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::samples::routes;
    use serde_json::Value;

    #[test]
    fn a_request_is_routed_and_written_down_as_both_kinds_would() {
        let api = Api::new(&routes(&["GET /cart/{id}", "ANY /{proxy+}"]));
        let request = http::Request::get("/cart/a%20b?x=1").header("host", "h").body(()).unwrap();
        let seen = api.read(&request.into_parts().0, &Bytes::from_static(b"\xff"));
        let (key, parameters) = seen.http.unwrap();
        assert_eq!((key.as_str(), parameters["id"].as_str()), ("GET /cart/{id}", "a b"));
        assert_eq!(seen.rest.unwrap().0, key);
        let events = seen.events.map(|event| serde_json::from_slice::<Value>(&event).unwrap());
        assert_eq!(events[0]["rawQueryString"], "x=1");
        assert_eq!(events[1]["version"], "1.0");
        assert_eq!(events[2]["body"], "\u{fffd}", "no binary type: text, as well as it can be");
    }

    #[test]
    fn an_authorizers_answer_is_judged() {
        let policy = br#"{"principalId":"me","policyDocument":{"Statement":{"Effect":"Allow","Action":"*","Resource":"*/GET/cart/7"}}}"#;
        let simple = br#"{"isAuthorized":false}"#;
        assert_eq!(
            authorizer(policy, false, true, "/cart/%37"),
            Some(false),
            "the client's spelling counts as well"
        );
        assert_eq!(authorizer(policy, false, true, "/cart/7"), Some(true));
        assert_eq!(
            (authorizer(simple, true, false, "/"), authorizer(simple, true, true, "/")),
            (Some(false), None)
        );
        assert_eq!(authorizer(b"{", false, true, "/"), None);
    }

    #[test]
    fn a_reply_is_read_in_three_ways() {
        let text = br#"{"statusCode":200,"body":"YQ==","isBase64Encoded":true,"more":1}"#;
        assert!(replies(&Bytes::from_static(text)).map(|reply| reply.is_some()) == [true, false, false]);
    }
}
