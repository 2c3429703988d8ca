//! Any text as a template: problems, never a panic.
#![no_main]


libfuzzer_sys::fuzz_target!(|text: &str| {
    // A template that names files takes itself for each.
    let files = template::files_of(text).into_iter().map(|name| (name, Ok(text.to_owned()))).collect();
    let inputs = template::Inputs { stack_name: "fuzz".to_owned(), files, ..template::Inputs::default() };
    let outcome = template::read("fuzz.yaml", text, &inputs);
    assert!(outcome.stack.is_some() || !outcome.problems.is_empty());
});
