//! Any text as a `.env` and as what `--env-vars` names: variables that a process can be given, or what is wrong, never a panic.
#![no_main]

use std::collections::BTreeMap;
use template::variables;

fn check(variables: &BTreeMap<String, String>, bytes: usize) {
    let whole: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(whole <= bytes, "nothing grows");
    assert!(variables.iter().all(|(name, value)| !name.contains('\0') && !value.contains('\0')));
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(read) = variables::read_dotenv(text) {
        check(&read, text.len());
        assert!(read.keys().all(|name| !name.is_empty() && !name.contains('=')));
    }
    if let Ok(read) = variables::read_json(text) {
        // Numbers are written anew: `1e9` as 1000000000.0.
        read.functions.values().chain([&read.everyone]).for_each(|all| check(all, 32 * text.len()));
    }
});
