//! Events as they lie in the store: a row about each, one with its payload, and one with its response once it is settled
//! and somebody is to hear of it.

use limits::async_queue::Condition;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the keys of all rows about events begin with.
pub(crate) const EVENTS: &str = "event/";

/// The key of the row about an event.
pub(crate) fn event_key(number: u64) -> String {
    format!("{EVENTS}{number:016x}")
}

/// The key of an event's payload.
pub(crate) fn payload_key(number: u64) -> String {
    format!("payload/{number:016x}")
}

/// The key of the response that an event's function gave last.
pub(crate) fn response_key(number: u64) -> String {
    format!("response/{number:016x}")
}

/// The number in a key of [`event_key`].
pub(crate) fn number_of(key: &str) -> Option<u64> {
    u64::from_str_radix(key.strip_prefix(EVENTS)?, 16).ok()
}

/// One event. Times are of the wall clock: only another run reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// The function's name.
    pub function: Arc<str>,
    /// The function's unqualified ARN.
    pub arn: Arc<str>,
    /// The version or alias that the caller named.
    pub qualifier: Option<Arc<str>>,
    /// The same for every try.
    pub request_id: Arc<str>,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_ms: u64,
    /// Bytes of its payload.
    pub bytes: usize,
    /// The caller's client context, decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<Arc<str>>,
    /// The caller's X-Ray header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Arc<str>>,
    /// How often its function failed for it.
    #[serde(default)]
    pub failures: u8,
    /// When it is tried again, in milliseconds since 1970.
    #[serde(default)]
    pub due_ms: u64,
    /// How it ended, when somebody is still to hear of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<Settlement>,
}

impl Event {
    /// `$LATEST` unless the caller named another.
    pub fn qualifier(&self) -> &str {
        self.qualifier.as_deref().unwrap_or(model::name::LATEST)
    }

    pub fn to_row(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event holds nothing that JSON cannot")
    }
}

/// How an event ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settlement {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    pub ending: Ending,
    /// How often the function ran for it.
    pub invocations: u8,
    /// What the function said last, if it ran in this run of the platform.
    pub response: Option<Response>,
    /// Who has not heard of it yet.
    pub targets: Vec<Target>,
}

/// How an event ended, in the words of the invocation record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
}

impl Ending {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
        }
    }
}

impl From<Condition> for Ending {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Success => Self::Success,
            Condition::RetriesExhausted => Self::RetriesExhausted,
            Condition::EventAgeExceeded => Self::EventAgeExceeded,
        }
    }
}

/// What a function's last response was; its body is a row of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Response {
    /// Whether it is an error document.
    pub failed: bool,
    /// The version that ran.
    pub version: String,
}

/// Who is to hear of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// The event itself as a dead letter, or a record of what became of it.
    pub dead_letter: bool,
    /// A function, queue, topic, bus or bucket.
    pub arn: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_coming() {
        assert!(event_key(9) < event_key(10) && event_key(255) < event_key(u64::MAX));
        assert_eq!(number_of(&event_key(0xabc)), Some(0xabc));
        assert_eq!(number_of("payload/1"), None);
    }

    #[test]
    fn a_row_of_an_earlier_release_lacks_what_came_later() {
        let row = br#"{"function":"cart","arn":"arn:aws:lambda:us-east-1:000000000000:function:cart",
            "qualifier":null,"request_id":"r","accepted_ms":5,"bytes":2}"#;
        let event: Event = serde_json::from_slice(row).unwrap();
        assert_eq!((event.qualifier(), event.failures, &event.settlement), ("$LATEST", 0, &None));
        assert_eq!(serde_json::from_slice::<Event>(&event.to_row()).unwrap(), event);
    }
}
