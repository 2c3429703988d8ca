//! What is acknowledged survives `kill -9`; one process at a time; a full disk harms nothing.

use crate::bench::{Bench, await_removals, create, open, options};
use control::{Control, ErrorCode, OpenError, PublishVersion};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

const FOLDER: &str = "ONRUSH_TEST_CONTROL_FOLDER";

/// Not a test of its own: the process that `acknowledged_functions_survive_being_killed` kills. It creates and deletes
/// functions until then, and says what it was told.
#[test]
#[ignore = "runs in a process of its own, started by the test of durability"]
fn writer_until_killed() {
    let folder = std::env::var_os(FOLDER).expect("started by the test of durability");
    println!("\nopening");
    let control = Control::open(options(Path::new(&folder)), Box::new(|_| {})).unwrap();
    println!("opened");
    let first = control.functions().len();
    for index in 0.. {
        let name = format!("f{}-{}-{index}", std::process::id(), first);
        control.create(create(&name, &format!("n = {}\n", index % 7))).unwrap();
        println!("created {name}");
        if index % 3 == 2 {
            println!("deleting {name}");
            control.delete(&name, None).unwrap();
            println!("deleted {name}");
        }
    }
}

struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "durability::writer_until_killed", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line begins so; all lines that were read.
    fn read_until(&mut self, start: &str) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let line = self.lines.next().expect("the writer goes on").unwrap();
            let last = line.starts_with(start);
            read.push(line);
            if last {
                return read;
            }
        }
    }

    /// SIGKILL; returns what it had still said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.map_while(Result::ok).collect()
    }
}

#[test]
fn acknowledged_functions_survive_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut alive = BTreeSet::new();
    let mut deleted: BTreeSet<String> = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for round in 0..10 {
        let mut said = Vec::new();
        if round % 3 == 1 {
            // Twice in a row: again while the store is being opened.
            let mut writer = Writer::start(folder.path());
            said.extend(writer.read_until("opening"));
            said.extend(writer.kill());
        }
        let mut writer = Writer::start(folder.path());
        for _ in 0..1 + round {
            said.extend(writer.read_until("created "));
        }
        said.extend(writer.kill());
        for line in said {
            match line.split_once(' ') {
                Some(("created", name)) => drop(alive.insert(name.to_owned())),
                // From here on it may be there or not.
                Some(("deleting", name)) => drop(alive.remove(name)),
                Some(("deleted", name)) => drop(deleted.insert(name.to_owned())),
                _ => {}
            }
        }
        let (control, _) = open(folder.path()).unwrap();
        let found: BTreeSet<String> =
            control.functions().iter().map(|function| function.name.clone()).collect();
        let lost: Vec<_> = alive.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        for function in control.functions() {
            assert!(function.code.join("index.py").is_file(), "{} has no code", function.name);
            keys.insert(function.version_key);
        }
        // A new key is larger than any that was ever seen.
        let probe = control.create(create(&format!("probe-{round}"), "probe")).unwrap();
        assert!(keys.iter().all(|key| *key < probe.version_key));
        keys.insert(probe.version_key);
        alive.insert(probe.name.clone());
        await_removals(folder.path());
        let back: Vec<_> = deleted.intersection(&found).collect();
        assert!(back.is_empty(), "deleted and there again: {back:?}");
    }
    assert!(alive.len() > 20);
}

#[test]
fn functions_are_the_same_after_a_restart() {
    let bench = Bench::new();
    let before = bench.control.create(create("cart", "one")).unwrap();
    bench.control.put_concurrency("cart", Some(7)).unwrap();
    let before_reserved = bench.control.function("cart").unwrap();
    let bench = bench.again();
    let after = bench.control.function("cart").unwrap();
    assert_eq!(*after, *before_reserved);
    assert_eq!(after.code, before.code);
    assert!(after.code.join("index.py").is_file());
    assert!(bench.heard().is_empty());
}

#[test]
fn what_nothing_hangs_on_is_understood_after_the_start_and_changes_like_any_other() {
    let bench = Bench::new();
    // Fewer are understood at the start.
    let plain: Vec<_> = (0..101).map(|n| format!("f{n:03}")).collect();
    for name in &plain {
        bench.control.create(create(name, "one")).unwrap();
    }
    for name in ["published", "reserved"] {
        bench.control.create(create(name, "one")).unwrap();
    }
    bench.control.put_concurrency("reserved", Some(7)).unwrap();
    bench.control.publish("published", PublishVersion::default()).unwrap();
    let (before, bytes) = (bench.control.functions(), bench.control.code_bytes());
    let bench = bench.again();
    let control = &bench.control;
    let mut names = Vec::new();
    control.each_name(|name, arn, logical_id| {
        names.push((name.to_owned(), arn.to_owned(), logical_id.is_some()));
    });
    let of = |function: &Arc<control::Function>| (function.name.clone(), function.arn.clone(), false);
    assert_eq!(names, before.iter().map(of).collect::<Vec<_>>());
    let known = |control: &Control| -> Vec<String> {
        control.known_functions().iter().map(|function| function.name.clone()).collect()
    };
    assert_eq!((known(control), control.plain_names()), (vec!["published".into(), "reserved".into()], plain));
    assert_eq!((control.count(), control.code_bytes(), control.unreserved_concurrency()), (103, bytes, 993));
    assert_eq!(control.functions_from("f099", 2).len(), 2);
    assert_eq!(control.functions(), before);
    assert!(before.iter().zip(control.functions()).all(|(before, after)| before.code == after.code));
    // Its package goes with the last that runs it.
    control.put_concurrency("f001", Some(1)).unwrap();
    assert_eq!((known(control).len(), control.unreserved_concurrency()), (3, 992));
    assert_eq!(control.create(create("f002", "two")).unwrap_err().code, ErrorCode::ResourceConflict);
    assert_eq!(bench.packages(), 1);
    let names: Vec<_> = before.iter().map(|function| function.name.clone()).collect();
    drop(before);
    names.iter().for_each(|name| drop(control.delete(name, None).unwrap()));
    assert_eq!((control.count(), control.code_bytes(), bench.packages()), (0, 0, 0));
}

#[test]
fn a_second_opener_is_told_who_is_there() {
    let bench = Bench::new();
    let error = open(bench.folder.path()).err().unwrap();
    assert!(
        matches!(&error, OpenError::InUse { process: Some(id), .. } if *id == std::process::id()),
        "{error}"
    );
    assert!(error.to_string().contains(&bench.folder.path().display().to_string()));
}

#[test]
fn a_missing_package_is_said_by_its_functions_alone() {
    let bench = Bench::new();
    // By name, functions of both packages take turns.
    for (name, code) in [("also", "two"), ("cart", "one"), ("desk", "one"), ("else", "two"), ("fair", "one")]
    {
        bench.control.create(create(name, code)).unwrap();
    }
    std::fs::remove_dir_all(&bench.control.function("cart").unwrap().code).unwrap();
    let bench = bench.again();
    for name in ["cart", "desk", "fair"] {
        let function = bench.control.function(name).unwrap();
        assert_eq!(function.state, control::State::Failed, "{name}");
        assert!(function.state_reason.as_ref().unwrap().text.contains("missing"));
        assert!(function.lease.is_none() && function.code.as_os_str().is_empty(), "{name}");
    }
    for name in ["also", "else"] {
        let function = bench.control.function(name).unwrap();
        assert_eq!(function.state, control::State::Active, "{name}");
        assert!(function.code.join("index.py").is_file() && function.lease.is_some(), "{name}");
    }
}

#[test]
fn a_newer_store_and_a_damaged_one_are_refused() {
    use control::store::{Embedded, Store, Write};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    store.commit(&[Write::Put("schema".to_owned(), b"99".to_vec())]).unwrap();
    drop(store);
    let error = open(folder.path()).err().unwrap();
    assert!(matches!(error, OpenError::NewerSchema { found: 99, .. }), "{error}");
    std::fs::write(&path, [7; 20_000]).unwrap();
    let error = open(folder.path()).err().unwrap();
    assert!(matches!(error, OpenError::Store(_)), "{error}");
}

/// A small file system of its own; `None` where mounting is not allowed.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::new("size=16m") else {
        eprintln!("skipped: this host does not let the test mount a small file system");
        return;
    };
    let folder = disk.0.path();
    let (control, _) = open(folder).unwrap();
    control.create(create("cart", "one")).unwrap();
    // Too large for what is left: the package.
    let ballast = folder.join("ballast");
    fill(&ballast, 64 * 1024);
    let big = "x".repeat(1024 * 1024);
    let error = control.create(create("big", &big)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Service);
    assert!(error.message.contains("Free some and try again"), "{error}");
    assert_eq!(std::fs::read_dir(folder.join("staging")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(folder.join("code")).unwrap().count(), 1);
    // No room at all: the store, until it must grow.
    fill(&folder.join("rest"), 0);
    let failed = (0..2_000).find_map(|index| {
        let tags = (0..40).map(|tag| (format!("t{tag}-{index}"), "v".repeat(200))).collect();
        control.untag(&control.function("cart").unwrap().arn, &[]).unwrap();
        control.update_configuration("cart", description(index)).err().or_else(|| {
            let arn = control.function("cart").unwrap().arn.clone();
            let keys: Vec<String> = control.function("cart").unwrap().tags.keys().cloned().collect();
            control.untag(&arn, &keys).err().or_else(|| control.tag(&arn, Some(tags)).err())
        })
    });
    // A store that never has to grow is as good as one that says so.
    let error = failed.expect("the store must grow at some time");
    assert_eq!(error.code, ErrorCode::Service, "{error}");
    assert!(error.message.starts_with("No space left for "), "{error}");
    // Reading goes on.
    assert!(control.function("cart").unwrap().code.join("index.py").is_file());
    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(folder.join("rest")).unwrap();
    control.create(create("big", &big)).unwrap();
    drop(control);
    let (control, _) = open(folder).unwrap();
    assert_eq!(control.functions().len(), 2);
}

#[test]
fn a_disk_without_inodes_refuses_the_package_whole() {
    let Some(disk) = SmallDisk::new("size=64m,nr_inodes=200") else {
        eprintln!("skipped: this host does not let the test mount a small file system");
        return;
    };
    let (control, _) = open(disk.0.path()).unwrap();
    let items = (0..1_000).map(|index| crate::pack::Item::file(format!("d/{index}"), "x")).collect();
    let mut request = create("many", "x");
    request.code.as_mut().unwrap().zip_file = Some(control::Blob(crate::pack::Pack::new(items).bytes()));
    let error = control.create(request).unwrap_err();
    assert_eq!(error.code, ErrorCode::Service);
    assert!(error.message.contains("inodes"), "{error}");
    control.create(create("small", "x")).unwrap();
}

fn description(index: usize) -> control::UpdateFunctionConfiguration {
    let settings = control::Settings { description: Some(format!("d{index}")), ..Default::default() };
    control::UpdateFunctionConfiguration { settings, ..Default::default() }
}

/// Fills the file system until `left` bytes remain.
fn fill(path: &Path, left: u64) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![0; 4096];
    while file.write_all(&block).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(left)).unwrap();
}

#[test]
fn nobody_but_the_owner_reads_what_is_stored_or_looks_around() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (folder, store) = (bench.folder.path().to_owned(), bench.folder.path().join("store.redb"));
    assert_eq!((mode(&folder), mode(&store)), (0o700, 0o600));
    // What an earlier Onrush left open to others is closed.
    for (path, open) in [(&folder, 0o755), (&store, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(open)).unwrap();
    }
    let _bench = bench.again();
    assert_eq!((mode(&folder), mode(&store)), (0o700, 0o600));
}

#[test]
fn code_signing_configurations_survive_a_restart() {
    use control::{AllowedPublishers, CodeSigningSettings};
    let bench = Bench::new();
    let profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abc".to_owned();
    let publishers = AllowedPublishers { signing_profile_version_arns: Some(vec![profile]) };
    let settings =
        CodeSigningSettings { allowed_publishers: Some(publishers), ..CodeSigningSettings::default() };
    let made = bench.control.create_signing_config(settings).unwrap();
    let arn = made.code_signing_config_arn.clone();
    bench.control.create(create("cart", "one")).unwrap();
    bench.control.put_code_signing("cart", Some(arn.clone())).unwrap();
    let bench = bench.again();
    assert_eq!(bench.control.signing_config(&arn).unwrap(), made);
    assert!(bench.control.delete_signing_config(&arn).is_err(), "a function still uses it");
    bench.control.put_code_signing("cart", None).unwrap();
    bench.control.delete_signing_config(&arn).unwrap();
    let bench = bench.again();
    assert!(bench.control.signing_configs().is_empty());
}
