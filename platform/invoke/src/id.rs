//! Identifiers that nobody can guess.

use std::cell::RefCell;
use std::sync::Arc;

/// A random UUID (version 4), as AWS's request ids look.
pub fn request_id() -> Arc<str> {
    let mut bytes = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        push_hex(&mut text, *byte);
    }
    text.into()
}

fn push_hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
    }
}

/// 32 hexadecimal digits, for log streams.
pub(crate) fn hex32() -> String {
    random().iter().fold(String::with_capacity(32), |mut text, byte| {
        push_hex(&mut text, *byte);
        text
    })
}

/// A new X-Ray trace header, not sampled. Source: AWS X-Ray Developer Guide, "Tracing header".
pub fn trace_header() -> String {
    trace_header_at(telemetry::unix_millis() / 1_000)
}

fn trace_header_at(unix_seconds: u64) -> String {
    let id = hex32();
    format!("Root=1-{unix_seconds:08x}-{};Parent={};Sampled=0", &id[..24], &hex32()[..16])
}

thread_local! {
    /// Random bytes fetched ahead: one system call for many identifiers. A byte is wiped when it is used.
    static AHEAD: RefCell<Ahead> = const { RefCell::new(Ahead { bytes: [0; AHEAD_BYTES], left: 0 }) };
}

/// Random bytes fetched at once.
const AHEAD_BYTES: usize = 1024;

struct Ahead {
    bytes: [u8; AHEAD_BYTES],
    left: usize,
}

fn random() -> [u8; 16] {
    AHEAD.with_borrow_mut(|ahead| {
        if ahead.left < 16 {
            // The kernel's generator fails only before it is seeded, at boot; a platform without it must not run.
            getrandom::fill(&mut ahead.bytes).expect("the operating system provides randomness");
            ahead.left = AHEAD_BYTES;
        }
        let start = ahead.left - 16;
        let mut taken = [0; 16];
        taken.copy_from_slice(&ahead.bytes[start..ahead.left]);
        ahead.bytes[start..ahead.left].fill(0);
        ahead.left = start;
        taken
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_and_differ() {
        let (one, two) = (request_id(), request_id());
        assert_ne!(one, two);
        let many: std::collections::BTreeSet<_> = (0..1_000).map(|_| request_id()).collect();
        assert_eq!(many.len(), 1_000);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
        assert!("89ab".contains(&one[19..20]), "{one}");
    }

    #[test]
    fn trace_headers_have_the_form_of_xray() {
        let header = trace_header_at(0x5759_e988);
        assert!(header.starts_with("Root=1-5759e988-"), "{header}");
        assert_eq!(
            header.len(),
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0".len()
        );
    }
}
