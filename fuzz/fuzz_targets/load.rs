//! Any text as a load file: problems, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(problems) = plan::Load::read("load.yaml", text) {
        assert!(!problems.is_empty());
    }
});
