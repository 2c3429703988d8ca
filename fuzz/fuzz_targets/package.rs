//! Any bytes as a zip archive: refused or unpacked inside its folder, never a panic.
#![no_main]

use std::sync::LazyLock;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static PACKAGES: LazyLock<control::package::Packages> =
    LazyLock::new(|| control::package::Packages::open(FOLDER.path()).unwrap());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = PACKAGES.unpack(bytes);
});
