//! A function that misbehaves on request: `{"do": WHAT, …}` in the event, or `ROGUE_INIT` during init: WHAT, or a whole
//! event.
//!
//! | what | does |
//! |---|---|
//! | `exit0`, `exit1`, `panic`, `segv`, `kill` | ends the process so |
//! | `sleep`, `spin` | waits, or burns, `ms` (default: for ever) and answers |
//! | `allocate` | touches `mb` of memory, answers, and keeps it |
//! | `tmp`, `files` | writes `mb` to /tmp, or makes `count` files there |
//! | `fork_bomb` | forks until it cannot, the children spin; answers how many |
//! | `log` | writes `bytes` to standard output in lines of 1,000 |
//! | `respond` | answers with a JSON string of `bytes` in all |
//! | `answer_twice`, `answer_other` | the Runtime API's rules broken; the next answer tells what it said |
//! | `never_next` | answers and never asks again |
//! | `error` | an error body with `type` and `message` |
//! | `env`, `fds`, `whoami` | what it sees: variables, descriptors, /proc/self/status |
//! | `children` | leaves a child of a child behind that counts in /tmp/heartbeat every 5 ms |
//! | `heartbeat` | the count in /tmp/heartbeat |
//! | `write`, `read` | `text` to, or from, `path` |
//! | `connect` | tries TCP to `to` within `ms` |
//!
//! Everything else is echoed with the number of invocations this process has had.

mod api;
mod deeds;

use std::io;

use api::Api;
use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let init = std::env::var("ROGUE_INIT").unwrap_or_default();
    if !init.is_empty() {
        deeds::perform(&serde_json::from_str(&init).unwrap_or_else(|_| json!({ "do": init })));
    }
    let mut api = Api::connect()?;
    let mut count = 0u64;
    // What the platform said to the last broken rule, told with the next answer.
    let mut told = Value::Null;
    loop {
        let invocation = api.next()?;
        count += 1;
        let event: Value = serde_json::from_slice(&invocation.event).unwrap_or(Value::Null);
        let id = invocation.id.as_str();
        match event["do"].as_str() {
            Some("answer_twice") => {
                api.respond(id, b"\"first\"")?;
                told = said(api.respond(id, b"\"second\""));
            }
            Some("answer_other") => {
                told = said(api.respond("00000000-0000-4000-8000-000000000000", b"\"not mine\""));
                api.respond(id, told.to_string().as_bytes())?;
            }
            Some("never_next") => {
                api.respond(id, b"\"the last\"")?;
                deeds::perform(&json!({ "do": "sleep" }));
            }
            Some("respond") => {
                let bytes = deeds::number(&event, "bytes", 2);
                let mut body = vec![b'a'; bytes.max(2)];
                body[0] = b'"';
                *body.last_mut().expect("two or more") = b'"';
                told = said(api.respond(id, &body));
            }
            Some("error") => {
                let kind = event["type"].as_str().unwrap_or("Rogue.Error");
                let body = json!({ "errorMessage": event["message"], "errorType": kind, "stackTrace": [] });
                api.fail(id, kind, body.to_string().as_bytes())?;
            }
            _ => {
                let seen = deeds::perform(&event);
                let answer = json!({ "count": count, "told": told, "event": event, "seen": seen });
                api.respond(id, answer.to_string().as_bytes())?;
                told = Value::Null;
            }
        }
    }
}

fn said(answer: io::Result<(u16, String)>) -> Value {
    match answer {
        Ok((status, body)) => json!({ "status": status, "body": body }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}
