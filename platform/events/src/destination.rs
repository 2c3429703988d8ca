//! Dead letters and destinations: what is sent where, in each service's own protocol.
//!
//! Source: AWS Lambda Developer Guide, "Retaining records of asynchronous invocations"; the service models of SQS (JSON
//! 1.0), SNS (query), EventBridge (JSON 1.1) and S3 (REST); published. The authorization header names Region and service,
//! by which servers tell requests apart, and is no signature.

use crate::endpoint::Message;
use crate::record::Attributes;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The parts of an ARN that count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub service: &'a str,
    pub region: &'a str,
    pub account: &'a str,
    /// The rest: `queue`, `function:name:alias`, `event-bus/name`.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, _) = (parts.next()?, parts.next()?);
        let (service, region, account, resource) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (arn == "arn").then_some(Self { service, region, account, resource })
    }
}

/// What is sent: a record of an invocation, or a dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter<'a> {
    pub body: &'a str,
    /// Only with dead letters.
    pub attributes: Option<Attributes>,
    /// The function that the event was for, qualified.
    pub function_arn: &'a str,
    pub function: &'a str,
    pub succeeded: bool,
    pub request_id: &'a str,
    /// When the event was settled, in milliseconds since 1970.
    pub at_ms: u64,
}

/// The request that brings a letter to a queue, topic, bus or bucket; `None` for an ARN of another kind.
pub(crate) fn message(text: &str, letter: &Letter<'_>, authority: &str) -> Option<Message> {
    let arn = Arn::parse(text)?;
    match arn.service {
        "sqs" => Some(send_message(arn, letter, authority)),
        "sns" => Some(publish(text, arn, letter)),
        "events" => Some(put_events(text, arn, letter)),
        "s3" => Some(put_object(arn, letter)),
        _ => None,
    }
}

fn send_message(arn: Arn<'_>, letter: &Letter<'_>, authority: &str) -> Message {
    let mut body = json!({
        "QueueUrl": format!("http://{authority}/{}/{}", arn.account, arn.resource),
        "MessageBody": letter.body,
    });
    if let Some(attributes) = &letter.attributes {
        let attribute = |kind: &str, value: &str| json!({ "DataType": kind, "StringValue": value });
        body["MessageAttributes"] = json!({
            "RequestID": attribute("String", &attributes.request_id),
            "ErrorCode": attribute("Number", &attributes.error_code.to_string()),
            "ErrorMessage": attribute("String", &attributes.error_message),
        });
    }
    json_message(arn, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", &body)
}

fn put_events(text: &str, arn: Arn<'_>, letter: &Letter<'_>) -> Message {
    let outcome = if letter.succeeded { "Success" } else { "Failure" };
    let body = json!({ "Entries": [{
        "Source": "lambda",
        "DetailType": format!("Lambda Function Invocation Result \u{2013} {outcome}"),
        "Detail": letter.body,
        "Resources": [text, letter.function_arn],
        "EventBusName": arn.resource.strip_prefix("event-bus/").unwrap_or(arn.resource),
    }] });
    json_message(arn, "AWSEvents.PutEvents", "application/x-amz-json-1.1", &body)
}

fn json_message(arn: Arn<'_>, target: &'static str, content: &'static str, body: &Value) -> Message {
    let mut message = plain(arn, Method::POST, "/".to_owned(), content, body.to_string().into());
    message.headers.push((HeaderName::from_static("x-amz-target"), HeaderValue::from_static(target)));
    message
}

fn publish(text: &str, arn: Arn<'_>, letter: &Letter<'_>) -> Message {
    let mut form = String::from("Action=Publish&Version=2010-03-31");
    let mut field = |name: &str, value: &str| {
        let _ = write!(form, "&{name}={}", encoded(value));
    };
    field("TopicArn", text);
    field("Message", letter.body);
    if let Some(attributes) = &letter.attributes {
        let code = attributes.error_code.to_string();
        let rows = [
            ("RequestID", "String", &attributes.request_id),
            ("ErrorCode", "Number", &code),
            ("ErrorMessage", "String", &attributes.error_message),
        ];
        for (index, (name, kind, value)) in rows.into_iter().enumerate() {
            let entry = format!("MessageAttributes.entry.{}", index + 1);
            field(&format!("{entry}.Name"), name);
            field(&format!("{entry}.Value.DataType"), kind);
            field(&format!("{entry}.Value.StringValue"), value);
        }
    }
    let content = "application/x-www-form-urlencoded; charset=utf-8";
    plain(arn, Method::POST, "/".to_owned(), content, form.into())
}

/// Source: as above; the key is `aws/lambda/async/FUNCTION/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID`.
fn put_object(arn: Arn<'_>, letter: &Letter<'_>) -> Message {
    let time = telemetry::iso_time(letter.at_ms);
    let (day, clock) = (time[..10].replace('-', "/"), time[..19].replace(':', "."));
    let key = format!("aws/lambda/async/{}/{day}/{clock}-{}", letter.function, letter.request_id);
    let path = format!("/{}/{key}", encoded(arn.resource));
    plain(arn, Method::PUT, path, "application/json", letter.body.to_owned().into())
}

fn plain(arn: Arn<'_>, method: Method, path: String, content: &'static str, body: Bytes) -> Message {
    let region = if arn.region.is_empty() { model::era::DEFAULT_REGION } else { arn.region };
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=onrush/20260101/{region}/{}/aws4_request, SignedHeaders=host, Signature={:064}",
        arn.service, 0
    );
    let mut headers = vec![(http::header::CONTENT_TYPE, HeaderValue::from_static(content))];
    if let Ok(value) = HeaderValue::from_str(&authorization) {
        headers.push((http::header::AUTHORIZATION, value));
    }
    Message { method, path, headers, body }
}

/// Whether a server's 2xx says that it took the letter: EventBridge refuses entries one by one.
pub(crate) fn taken(service: &str, answer: &[u8]) -> Result<(), String> {
    if service != "events" {
        return Ok(());
    }
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    match answer["FailedEntryCount"].as_u64() {
        None | Some(0) => Ok(()),
        Some(_) => Err(format!("the bus refused the entry: {}", answer["Entries"])),
    }
}

/// Percent-encoding of everything but unreserved characters.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(attributes: bool) -> Letter<'static> {
        Letter {
            body: "{\"a\": \"b&c\"}",
            attributes: attributes.then(|| Attributes {
                request_id: "r".to_owned(),
                error_code: 200,
                error_message: "it broke".to_owned(),
            }),
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:cart:$LATEST",
            function: "cart",
            succeeded: false,
            request_id: "r",
            at_ms: 1_573_755_365_568,
        }
    }

    fn header<'a>(message: &'a Message, name: &str) -> &'a str {
        let found = message.headers.iter().find(|(header, _)| header == name);
        found.unwrap().1.to_str().unwrap()
    }

    #[test]
    fn a_dead_letter_to_a_queue_is_the_event_with_three_attributes() {
        let arn = "arn:aws:sqs:eu-west-1:000000000000:dead";
        let message = message(arn, &letter(true), "127.0.0.1:9324").unwrap();
        assert_eq!(header(&message, "x-amz-target"), "AmazonSQS.SendMessage");
        assert!(header(&message, "authorization").contains("/eu-west-1/sqs/aws4_request"));
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(body["QueueUrl"], "http://127.0.0.1:9324/000000000000/dead");
        assert_eq!(body["MessageBody"], "{\"a\": \"b&c\"}");
        let attributes = &body["MessageAttributes"];
        assert_eq!(attributes["ErrorCode"], json!({"DataType": "Number", "StringValue": "200"}));
        assert_eq!(attributes["ErrorMessage"]["StringValue"], "it broke");
    }

    #[test]
    fn a_record_to_a_topic_is_a_form() {
        let arn = "arn:aws:sns:us-east-1:000000000000:news";
        let message = message(arn, &letter(false), "h:1").unwrap();
        assert_eq!(
            std::str::from_utf8(&message.body).unwrap(),
            "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aus-east-1%3A000000000000%3Anews\
             &Message=%7B%22a%22%3A%20%22b%26c%22%7D"
        );
    }

    #[test]
    fn a_record_to_a_bus_says_how_it_went() {
        let arn = "arn:aws:events:us-east-1:000000000000:event-bus/default";
        let message = message(arn, &letter(false), "h:1").unwrap();
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let entry = &body["Entries"][0];
        assert_eq!(entry["DetailType"], "Lambda Function Invocation Result – Failure");
        assert_eq!((&entry["EventBusName"], &entry["Source"]), (&json!("default"), &json!("lambda")));
        assert!(taken("events", br#"{"FailedEntryCount":0}"#).is_ok());
        assert!(taken("events", br#"{"FailedEntryCount":1,"Entries":[{"ErrorCode":"x"}]}"#).is_err());
    }

    #[test]
    fn a_record_to_a_bucket_has_the_key_of_lambdas_own() {
        let message = message("arn:aws:s3:::failed", &letter(false), "h:1").unwrap();
        assert_eq!(
            (message.method, message.path.as_str()),
            (Method::PUT, "/failed/aws/lambda/async/cart/2019/11/14/2019-11-14T18.16.05-r")
        );
    }

    #[test]
    fn other_arns_are_nobody_here() {
        for arn in ["arn:aws:dynamodb:r:a:table/x", "sqs", "", "arn:aws:sqs"] {
            assert!(message(arn, &letter(false), "h:1").is_none(), "{arn}");
        }
    }
}
