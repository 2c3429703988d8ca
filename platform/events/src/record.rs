//! What others hear of an event: the invocation record for destinations, the event itself for dead letters.
//!
//! Source: AWS Lambda Developer Guide, "Retaining records of asynchronous invocations", published. That `responseContext`
//! and `responsePayload` are left out when the function never ran is assumed.

use crate::row::{Event, Settlement};
use model::name::qualified_arn;
use serde_json::{Value, json};

/// Longest error message of a dead letter, in bytes. Source: as above, "the first 1 KB".
const ERROR_MESSAGE_MAX: usize = 1_024;

/// The record of an invocation, as JSON.
pub(crate) fn invocation_record(
    event: &Event,
    settlement: &Settlement,
    payload: &[u8],
    response: Option<&[u8]>,
) -> String {
    let context = json!({
        "requestId": event.request_id,
        "functionArn": qualified_arn(&event.arn, event.qualifier()),
        "condition": settlement.ending.as_str(),
        "approximateInvokeCount": settlement.invocations,
    });
    let mut record = format!(
        "{{\"version\":\"1.0\",\"timestamp\":\"{}\",\"requestContext\":{context},\"requestPayload\":{}",
        telemetry::iso_time(settlement.at_ms),
        as_json(payload)
    );
    if let Some(about) = &settlement.response {
        let mut context = json!({ "statusCode": 200, "executedVersion": about.version });
        if about.failed {
            context["functionError"] = "Unhandled".into();
        }
        record += &format!(",\"responseContext\":{context}");
        if let Some(response) = response {
            record += &format!(",\"responsePayload\":{}", as_json(response));
        }
    }
    record.push('}');
    record
}

/// JSON as it is, so that no number and no order changes; anything else as a string.
fn as_json(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => text.into_owned(),
        Err(_) => Value::from(text).to_string(),
    }
}

/// The attributes of a dead letter; its body is the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub request_id: String,
    /// An HTTP status.
    pub error_code: u16,
    pub error_message: String,
}

pub(crate) fn attributes(event: &Event, settlement: &Settlement, response: Option<&[u8]>) -> Attributes {
    let (error_code, message) = match (&settlement.response, response) {
        (Some(_), Some(response)) => (200, error_message(response)),
        // It never ran: a reservation of 0, or throttled until it was too old.
        _ => (429, "Rate Exceeded.".to_owned()),
    };
    let mut end = message.len().min(ERROR_MESSAGE_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    Attributes {
        request_id: event.request_id.to_string(),
        error_code,
        error_message: message[..end].to_owned(),
    }
}

fn error_message(response: &[u8]) -> String {
    match serde_json::from_slice::<Value>(response) {
        Ok(Value::Object(document)) => match document.get("errorMessage") {
            Some(Value::String(message)) => message.clone(),
            _ => Value::Object(document).to_string(),
        },
        _ => String::from_utf8_lossy(response).into_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::row::{Ending, Response};

    pub(crate) fn event() -> Event {
        Event {
            function: "my-function".into(),
            arn: "arn:aws:lambda:us-east-1:123456789012:function:my-function".into(),
            qualifier: None,
            request_id: "e4b46cbf-b738-xmpl-8880-a18cdf61200e".into(),
            accepted_ms: 1_573_755_000_000,
            bytes: 2,
            client_context: None,
            trace_id: None,
            failures: 0,
            due_ms: 0,
            settlement: None,
        }
    }

    pub(crate) fn settlement(ending: Ending, response: Option<Response>) -> Settlement {
        Settlement { at_ms: 1_573_755_365_568, ending, invocations: 3, response, targets: Vec::new() }
    }

    #[test]
    fn a_record_has_the_shape_of_lambdas_own() {
        let response = Response { failed: true, version: "$LATEST".to_owned() };
        let settlement = settlement(Ending::RetriesExhausted, Some(response));
        let said = br#"{"errorMessage":"RequestId: e4b46cbf Process exited before completing request"}"#;
        let record = invocation_record(&event(), &settlement, br#"{"n": 1.10}"#, Some(said));
        assert_eq!(
            record,
            concat!(
                r#"{"version":"1.0","timestamp":"2019-11-14T18:16:05.568Z","requestContext":{"#,
                r#""requestId":"e4b46cbf-b738-xmpl-8880-a18cdf61200e","#,
                r#""functionArn":"arn:aws:lambda:us-east-1:123456789012:function:my-function:$LATEST","#,
                r#""condition":"RetriesExhausted","approximateInvokeCount":3},"#,
                r#""requestPayload":{"n": 1.10},"#,
                r#""responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"#,
                r#""responsePayload":{"errorMessage":"RequestId: e4b46cbf Process exited before completing request"}}"#
            )
        );
    }

    #[test]
    fn what_never_ran_has_no_response_and_what_is_no_json_is_text() {
        let never = invocation_record(&event(), &settlement(Ending::EventAgeExceeded, None), b"{}", None);
        let never: Value = serde_json::from_str(&never).unwrap();
        assert!(never.get("responseContext").is_none() && never.get("responsePayload").is_none());
        let response = Response { failed: false, version: "3".to_owned() };
        let odd = settlement(Ending::Success, Some(response));
        let record = invocation_record(&event(), &odd, b"{}", Some(b"plain \"text\""));
        let record: Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["responsePayload"], "plain \"text\"");
        assert_eq!(record["responseContext"], json!({"statusCode": 200, "executedVersion": "3"}));
    }

    #[test]
    fn dead_letters_say_why() {
        let response = Response { failed: true, version: "$LATEST".to_owned() };
        let failed = settlement(Ending::RetriesExhausted, Some(response));
        let long = json!({"errorMessage": "ä".repeat(2_000)}).to_string();
        let said = attributes(&event(), &failed, Some(long.as_bytes()));
        assert_eq!((said.error_code, said.error_message.len()), (200, 1_024));
        let throttled = attributes(&event(), &settlement(Ending::RetriesExhausted, None), None);
        assert_eq!((throttled.error_code, &*throttled.error_message), (429, "Rate Exceeded."));
    }
}
