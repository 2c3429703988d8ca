//! Any bytes as a function's result: an HTTP answer or malformed, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = doors::reply::decode(&bytes::Bytes::copy_from_slice(bytes));
});
