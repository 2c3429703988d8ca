//! Any bytes as an authorizer's answer about a request whose path they begin with: yes, no, or none, never a panic; who adds
//! that all is denied lets nobody in.
#![no_main]

use doors::untrusted::authorizer;
use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let path = format!("/{}", String::from_utf8_lossy(&bytes[..at]));
    let answer = bytes.get(at + 1..).unwrap_or_default();
    for (simple, is_rest) in [(false, false), (true, false), (false, true)] {
        let said = authorizer(answer, simple, is_rest, &path);
        assert_eq!(said, authorizer(answer, simple, is_rest, &path));
    }
    let Ok(mut policy) = serde_json::from_slice::<Value>(answer) else { return };
    let Some(Value::Array(statements)) = policy.pointer_mut("/policyDocument/Statement") else { return };
    statements.push(json!({"Effect": "Deny", "Action": "execute-api:Invoke", "Resource": "*"}));
    assert_ne!(authorizer(policy.to_string().as_bytes(), false, true, &path), Some(true));
});
