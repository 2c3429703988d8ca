//! Any bytes as what extensions subscribe with and what functions print: problems by name, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for outcome in runtime_api::untrusted::subscribe(bytes) {
        assert!(outcome.is_ok() || outcome.is_err_and(|problems| !problems.is_empty()));
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = telemetry::Level::of_line(&text);
});
