//! Any bytes as requests for parameters, secrets and identities: answered or refused, never a panic, and nothing grows
//! beyond its bound. The input: requests behind bytes of 0, each an operation, a line's end and a body.
#![no_main]

use services::{Vault, untrusted::answer};

const REQUESTS_MAX: usize = 16;
const ANSWER_BYTES_MAX: usize = 16 << 20;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let vault = Vault::open(None, None).unwrap();
    for request in bytes.split(|byte| *byte == 0).take(REQUESTS_MAX) {
        let end = request.iter().position(|byte| *byte == b'\n').unwrap_or(request.len());
        let Ok(operation) = std::str::from_utf8(&request[..end]) else { continue };
        let body = request.get(end + 1..).unwrap_or_default();
        for service in ["ssm", "secretsmanager", "sts"] {
            let answer = answer(&vault, service, operation, body);
            assert!(answer.status().as_u16() < 500, "{answer:?}");
            assert!(answer.body().len() <= ANSWER_BYTES_MAX);
            if service != "sts" {
                serde_json::from_slice::<serde_json::Value>(answer.body()).unwrap();
            }
        }
    }
});
