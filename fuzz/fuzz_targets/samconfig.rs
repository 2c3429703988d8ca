//! Any text as a `samconfig.toml` or `.yaml`: settings or what is wrong, never a panic.
#![no_main]

use std::path::Path;
use template::samconfig;

libfuzzer_sys::fuzz_target!(|text: &str| {
    for (environment, file) in [
        (None, "samconfig.toml"),
        (Some("default"), "samconfig.yaml"),
        (Some("ci"), "samconfig.toml"),
    ] {
        match samconfig::read(text, Path::new(file), environment, &["local_start_api", "deploy"]) {
            Ok(settings) => assert!(settings.template.is_none_or(|path| !path.as_os_str().is_empty())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
