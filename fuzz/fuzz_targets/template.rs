//! Any text as a template: problems, never a panic.
#![no_main]

use std::collections::BTreeMap;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let inputs = template::Inputs {
        parameters: BTreeMap::new(),
        imports: BTreeMap::new(),
        region: "us-east-1".to_owned(),
        account_id: "000000000000".to_owned(),
        stack_name: "fuzz".to_owned(),
        strict: false,
        availability_zones: Vec::new(),
        port: 4566,
    };
    let outcome = template::read("fuzz.yaml", text, &inputs);
    assert!(outcome.stack.is_some() || !outcome.problems.is_empty());
});
