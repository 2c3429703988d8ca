//! Any bytes as a function's result, in both formats: an HTTP answer or malformed, never a panic.
#![no_main]

use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = doors::reply::decode(&bytes);
    let [http, rest, binary] = doors::untrusted::replies(&bytes);
    // Whoever is strict takes nothing that the other refuses.
    assert!(http.is_some() || binary.is_none());
    assert!(rest.is_some() || binary.is_none());
});
