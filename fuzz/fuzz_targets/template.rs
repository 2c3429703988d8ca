//! Any text as a template: problems, never a panic.
#![no_main]


libfuzzer_sys::fuzz_target!(|text: &str| {
    let inputs = template::Inputs { stack_name: "fuzz".to_owned(), ..template::Inputs::default() };
    let outcome = template::read("fuzz.yaml", text, &inputs);
    assert!(outcome.stack.is_some() || !outcome.problems.is_empty());
});
