//! A template's Rust function, built by plain cargo.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use runtimes::{BuildError, Runtimes};

/// A package without dependencies, so that building needs no network.
fn package(folder: &Path, greeting: &str) {
    fs::create_dir_all(folder.join("src")).expect("made");
    let manifest = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest).expect("written");
    fs::write(folder.join("src/main.rs"), format!("fn main() {{ println!(\"{greeting}\") }}\n"))
        .expect("written");
}

fn build_rust(folder: &Path, binary: Option<&str>, progress: &dyn Fn(&str)) -> Result<PathBuf, BuildError> {
    let data = tempfile::tempdir().expect("a folder");
    Runtimes::open(data.path(), false).build_rust(folder, binary, progress)
}

fn build(folder: &Path) -> (Result<PathBuf, BuildError>, Vec<String>) {
    let lines = Mutex::new(Vec::new());
    let built = build_rust(folder, None, &|line| lines.lock().expect("not poisoned").push(line.to_owned()));
    (built, lines.into_inner().expect("not poisoned"))
}

fn says(folder: &Path) -> String {
    let output = loop {
        match Command::new(folder.join("bootstrap")).output() {
            // Whatever a test beside this one starts holds our descriptors until it executes, that of the copy's writing, too.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
            output => break output.expect("runs"),
        }
    };
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_function_is_built_when_its_source_is_newer() {
    let folder = tempfile::tempdir().expect("a folder");
    package(folder.path(), "one");
    let (built, lines) = build(folder.path());
    let built = built.expect("built");
    assert_eq!(built, folder.path().join("target/onrush/hello"));
    assert_eq!(says(&built), "one");
    assert!(lines[0].contains("building hello"), "{lines:?}");

    let (again, lines) = build(folder.path());
    assert_eq!(again.expect("fresh"), built);
    assert!(lines.is_empty(), "nothing to do: {lines:?}");

    package(folder.path(), "two");
    let later = SystemTime::now() + Duration::from_secs(10);
    let source = fs::File::options().write(true).open(folder.path().join("src/main.rs")).expect("open");
    source.set_modified(later).expect("set");
    assert_eq!(says(&build(folder.path()).0.expect("built")), "two");
}

#[test]
fn what_does_not_build_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(build(folder.path()).0, Err(BuildError::NoManifest { .. })));
    package(folder.path(), "one");
    fs::write(folder.path().join("src/main.rs"), "fn main() { oh no }\n").expect("written");
    let error = build(folder.path()).0.expect_err("broken").to_string();
    assert!(error.contains("src/main.rs:1:") || error.contains("error: expected"), "{error}");
    fs::write(folder.path().join("Cargo.toml"), "[package\n").expect("written");
    assert!(matches!(build(folder.path()).0, Err(BuildError::Cargo { .. })));
    fs::remove_file(folder.path().join("src/main.rs")).expect("removed");
    fs::write(folder.path().join("src/lib.rs"), "").expect("written");
    let library = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), library).expect("written");
    assert!(matches!(build(folder.path()).0, Err(BuildError::Binaries { .. })));
}

#[test]
fn of_several_binaries_the_named_one_is_built_of_the_package_or_its_workspace() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    };
    let named = |name: &str| build_rust(folder.path(), Some(name), &|_| ());
    let manifest =
        |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    let print = |word: &str| format!("fn main() {{ println!(\"{word}\") }}\n");
    write("Cargo.toml", &(manifest("orders") + "[workspace]\nmembers = [\"carts\"]\n"));
    write("src/bin/put.rs", &print("put"));
    write("src/bin/get.rs", &print("get"));
    write("carts/Cargo.toml", &manifest("carts"));
    write("carts/src/main.rs", &print("carts"));
    let several = build(folder.path()).0.expect_err("which?").to_string();
    assert!(
        several.contains("2 binaries (get, put)") && several.contains("BuildProperties: {Binary: NAME}"),
        "{several}"
    );
    for name in ["get", "put", "carts"] {
        assert_eq!(says(&named(name).expect("built")), name);
        assert!(build(folder.path()).0.is_err(), "which one is meant is not said by what is built already");
    }
    let absent = named("delete").expect_err("absent").to_string();
    assert!(absent.contains("(get, put, carts)"), "{absent}");
    // A workspace without a package of its own.
    fs::remove_dir_all(folder.path().join("src")).expect("removed");
    write("Cargo.toml", "[workspace]\nmembers = [\"carts\"]\nresolver = \"3\"\n");
    assert_eq!(says(&named("carts").expect("built")), "carts");
    // Of two packages' binaries of one name none is guessed.
    write("Cargo.toml", "[workspace]\nmembers = [\"carts\", \"twins\"]\nresolver = \"3\"\n");
    let twins = "[[bin]]\nname = \"carts\"\npath = \"src/main.rs\"\n";
    write("twins/Cargo.toml", &(manifest("twins") + twins));
    write("twins/src/main.rs", &print("twins"));
    let twice = named("carts").expect_err("whose?").to_string();
    assert!(twice.contains("2 binaries (carts, carts)"), "{twice}");
}
