//! Packages made to harm: each gets one clear error, nothing is written outside, nothing is left behind.

use crate::pack::{Item, Pack};
use control::package::Packages;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A place whose every change outside of the packages is noticed.
struct Range {
    folder: TempDir,
    packages: Packages,
}

impl Range {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("canary"), "alive").unwrap();
        let packages = Packages::open(&folder.path().join("data")).unwrap();
        Self { folder, packages }
    }

    /// Unpacks; whatever happens, nothing may be outside and nothing may be left in staging.
    fn unpack(&self, bytes: &[u8]) -> Result<PathBuf, String> {
        let answer = self.packages.unpack(bytes);
        let mut outside: Vec<_> = names(self.folder.path());
        outside.sort();
        assert_eq!(outside, ["canary", "data"]);
        assert_eq!(fs::read_to_string(self.folder.path().join("canary")).unwrap(), "alive");
        let mut inside = names(&self.folder.path().join("data"));
        inside.sort();
        assert_eq!(inside, ["archives", "code", "staging"]);
        assert!(names(&self.folder.path().join("data/staging")).is_empty());
        let kept = names(&self.folder.path().join("data/code")).len();
        assert_eq!(names(&self.folder.path().join("data/archives")).len(), kept);
        match answer {
            Ok(package) => {
                assert_eq!(kept, 1);
                check_inside(&package.path, &package.path.canonicalize().unwrap());
                let path = package.path.clone();
                // Without its lease the package would go before the test can look.
                std::mem::forget(package.lease);
                Ok(path)
            }
            Err(error) => {
                assert_eq!(kept, 0);
                Err(error.to_string())
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Only plain files and folders with plain modes, and links that stay.
fn check_inside(folder: &Path, root: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            assert!(path.canonicalize().map_or(true, |real| real.starts_with(root)), "{}", path.display());
        } else if metadata.is_dir() {
            assert_eq!(mode, 0o755);
            check_inside(&path, root);
        } else {
            assert!(metadata.is_file() && (mode == 0o644 || mode == 0o755), "{}", path.display());
        }
    }
}

fn refused(pack: &Pack) -> String {
    Range::new().unpack(&pack.bytes()).expect_err("must be refused")
}

fn with(items: Vec<Item>) -> Pack {
    Pack::new(items)
}

/// Name of the case, the archive, and what its error must say.
fn cases() -> Vec<(&'static str, Pack, &'static str)> {
    let file = || Item::file("index.py", "x = 1\n");
    let long = "n".repeat(256);
    let deep = vec!["d"; 65].join("/");
    let bad = |change: fn(&mut Item)| {
        let mut item = Item::deflated("index.py", &[b'a'; 1000]);
        change(&mut item);
        with(vec![item])
    };
    let bomb = vec![0_u8; 1_000_000];
    let mut lying_bomb = Item::deflated("zeros", &bomb);
    lying_bomb.size = 10;
    let declared: Vec<Item> = (0..3)
        .map(|index| {
            let mut item = Item::deflated(&format!("z{index}"), b"x");
            item.size = 100_000_000;
            item
        })
        .collect();
    let mut overlapping = vec![Item::file("a", [0_u8; 64]), Item::file("a", [0_u8; 64])];
    overlapping[1].name = b"b".to_vec();
    overlapping[1].header_at = Some(0);
    let mut nested = vec![Item::file("outer", Pack::of(&[("inner", "x")])), Item::file("inner", "x")];
    nested[1].header_at = Some(30 + 5);
    let mut dos = Item::file("..\\..\\evil", "x");
    dos.host = 0;
    let mut comment = Pack::of(&[("a", "x")]);
    comment.truncate(comment.len() - 22);
    vec![
        ("parent", with(vec![file(), Item::file("../PWNED", "x")]), "leads out of the package"),
        ("parent within", with(vec![Item::file("a/../../PWNED", "x")]), "leads out of the package"),
        ("parent that stays", with(vec![Item::file("a/../b", "x")]), "leads out of the package"),
        ("absolute", with(vec![Item::file("/tmp/PWNED", "x")]), "is absolute"),
        ("parent by backslash", with(vec![dos]), "leads out of the package"),
        ("NUL", with(vec![Item::file("a\0b", "x")]), "NUL"),
        ("empty name", with(vec![Item::file("", "x")]), "is empty"),
        ("dot", with(vec![Item::file("./.", "x")]), "is empty"),
        ("long name", with(vec![Item::file(&long, "x")]), "longer than 255"),
        ("long path", with(vec![Item::file(vec!["n".repeat(200); 20].join("/"), "x")]), "longer than 255"),
        ("deep", with(vec![Item::file(&deep, "x")]), "folders deep"),
        (
            "link out",
            with(vec![Item::link("l", "../../../etc/passwd")]),
            "symbolic link to `../../../etc/passwd`",
        ),
        ("link absolute", with(vec![Item::link("l", "/etc/passwd")]), "leads out of the package"),
        (
            "link out by a chain",
            with(vec![Item::link("a/b/up", ".."), Item::link("c", "a/b/up/up/../../..")]),
            "leads out of the package",
        ),
        (
            "links out step by step",
            with(vec![Item::link("d/x", ".."), Item::link("e", "d/x/.."), Item::link("f", "e/PWNED")]),
            "leads out of the package",
        ),
        (
            "through a link",
            with(vec![Item::link("l", "d"), Item::file("l/f", "x"), Item::file("d/f", "x")]),
            "occurs twice",
        ),
        (
            "through a link made later",
            with(vec![Item::file("l/f", "x"), Item::link("l", "..")]),
            "occurs twice",
        ),
        ("link in a circle", with(vec![Item::link("a", "b"), Item::link("b", "a")]), "leads nowhere"),
        ("link to itself", with(vec![Item::link("a", "a/a/a")]), "leads nowhere"),
        ("link without target", with(vec![Item::link("a", "")]), "leads nowhere"),
        ("link too long", with(vec![Item::link("a", &"x".repeat(5000))]), "leads nowhere"),
        ("device", with(vec![file().mode(0o060_666)]), "neither a file"),
        ("character device", with(vec![file().mode(0o020_666)]), "neither a file"),
        ("pipe", with(vec![file().mode(0o010_666)]), "neither a file"),
        ("socket", with(vec![file().mode(0o140_666)]), "neither a file"),
        ("folder with content", with(vec![file().mode(0o040_755)]), "neither a file"),
        ("twice", with(vec![file(), file()]), "occurs twice"),
        ("twice by another spelling", with(vec![file(), Item::file("./index.py", "y")]), "occurs twice"),
        ("file and folder", with(vec![Item::file("a", "x"), Item::file("a/b", "x")]), "occurs twice"),
        ("folder and file", with(vec![Item::file("a/b", "x"), Item::file("a", "x")]), "occurs twice"),
        ("encrypted", bad(|item| item.flags = 1), "is encrypted"),
        ("bzip2", bad(|item| item.method = 12), "compression method 12"),
        ("wrong checksum", bad(|item| item.checksum ^= 1), "is damaged"),
        ("damaged data", bad(|item| item.data[5] ^= 0xff), ""),
        ("size too small", bad(|item| item.size = 999), "does not have the 999 bytes"),
        ("size too large", bad(|item| item.size = 1001), "does not have the 1001 bytes"),
        ("bomb that lies", with(vec![lying_bomb]), "does not have the 10 bytes"),
        ("bomb that does not", with(declared), "Unzipped size must be smaller than 262144000 bytes"),
        (
            "other name inside",
            bad(|item| item.local_name = b"other.py".to_vec()),
            "another name in its own header",
        ),
        ("shared bytes", with(overlapping), "another name in its own header"),
        ("nested bytes", with(nested), ""),
        ("header outside", bad(|item| item.header_at = Some(1_000_000)), "reaches past the end"),
        ("data outside", bad(|item| item.compressed = 0x7fff_ffff), "reaches past the end"),
        ("too few entries", Pack { entries: Some(0), ..with(vec![file()]) }, "is damaged"),
        ("too many entries", Pack { entries: Some(9), ..with(vec![file()]) }, "is damaged"),
        (
            "directory too long",
            Pack { directory_size: Some(u32::MAX - 1), ..with(vec![file()]) },
            "is damaged",
        ),
        (
            "directory elsewhere",
            Pack { directory_at: Some(u32::MAX - 1), ..with(vec![file()]) },
            "is damaged",
        ),
        ("nothing in it", with(vec![]), "is empty"),
        ("only the package itself", with(vec![Item::file("./", "").mode(0o040_755)]), "is empty"),
    ]
}

#[test]
fn every_hostile_package_is_refused_by_what_is_wrong_with_it() {
    let cases = cases();
    assert!(cases.len() >= 45);
    for (name, pack, text) in &cases {
        let error = refused(pack);
        assert!(error.contains(text), "{name}: {error}");
        assert!(!error.contains('\0') && error.len() < 400, "{name}: {error:?}");
    }
}

#[test]
fn shared_bytes_are_refused_even_under_one_name() {
    let mut items = vec![Item::file("a", [0_u8; 64]), Item::file("a", [0_u8; 64])];
    items[1].header_at = Some(0);
    assert!(refused(&with(items)).contains("overlaps another"));
}

#[test]
fn more_entries_than_a_package_may_have_are_refused() {
    // Folders that only stand in names count as well: 50,001 files with a folder each.
    let items = (0..50_001).map(|index| Item::file(format!("{index}/f"), "")).collect();
    assert!(refused(&Pack::new(items)).contains("more than 100000 files and folders"));
}

#[test]
fn privileges_and_odd_modes_do_not_survive() {
    let range = Range::new();
    let pack = with(vec![
        Item::file("setuid", "x").mode(0o104_755),
        Item::file("hidden", "x").mode(0o100_000),
        Item::file("open", "x").mode(0o100_777),
        Item::file("sub/", "").mode(0o041_777),
    ]);
    let path = range.unpack(&pack.bytes()).unwrap();
    let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("setuid"), mode("hidden"), mode("open"), mode("sub")), (0o755, 0o644, 0o755, 0o755));
}

#[test]
fn links_that_stay_inside_are_kept() {
    let range = Range::new();
    let pack = with(vec![
        Item::link("lib/current", "v1"),
        Item::file("lib/v1/x.so", "library"),
        Item::link("x.so", "lib/current/../current/x.so"),
        Item::link("dangling", "not/there"),
        Item::link("here", "."),
    ]);
    let path = range.unpack(&pack.bytes()).unwrap();
    assert_eq!(fs::read_to_string(path.join("x.so")).unwrap(), "library");
    assert_eq!(fs::read_link(path.join("dangling")).unwrap(), Path::new("not/there"));
}

#[test]
fn what_stands_before_and_behind_an_archive_does_not_matter() {
    let pack = Pack {
        prefix: b"#!/bin/sh\n".to_vec(),
        comment: b"PK\x05\x06 is only a comment".to_vec(),
        ..with(vec![Item::deflated("a/b", b"text")])
    };
    let path = Range::new();
    let path = path.unpack(&pack.bytes()).map(|path| fs::read_to_string(path.join("a/b")).unwrap());
    assert_eq!(path.as_deref(), Ok("text"));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = with(vec![Item::deflated("a", b"some text, some text"), Item::file("b/c", "x")]).bytes();
    for length in 0..bytes.len() {
        assert!(Range::new().unpack(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn archives_of_other_writers_are_read() {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755).large_file(true);
    writer.add_directory("pkg", options).unwrap();
    writer.start_file("pkg/bootstrap", options).unwrap();
    writer.write_all(b"#!/bin/sh\n").unwrap();
    writer.add_symlink("bootstrap", "pkg/bootstrap", options).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let range = Range::new();
    let path = range.unpack(&bytes).unwrap();
    assert_eq!(fs::read_to_string(path.join("bootstrap")).unwrap(), "#!/bin/sh\n");
    assert_eq!(fs::metadata(path.join("bootstrap")).unwrap().permissions().mode() & 0o777, 0o755);
}

fn any_item() -> impl Strategy<Value = Item> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "a", "b", "a/b", "a/b/c", "b/", "../x", "/x", "l", "l/x", "a//b", ".", "a/./b"
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    let target = prop::sample::select(vec!["..", "a", "../..", "l/..", "/etc", "a/../..", "b/../l", "."]);
    (name, target, prop::collection::vec(any::<u8>(), 0..40), 0..6_u8, any::<u16>()).prop_map(
        |(name, target, data, kind, mode)| match kind {
            0 => Item { mode: 0o120_777, ..Item::file(name, target) },
            1 => Item { mode: u32::from(mode), ..Item::file(name, data) },
            2 => Item { local_name: name.clone(), name, ..Item::deflated("", &data) },
            _ => Item::file(name, data),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Range::new().unpack(&bytes).is_err());
    }

    #[test]
    fn arbitrary_entries_stay_inside(items in prop::collection::vec(any_item(), 0..8)) {
        let _ = Range::new().unpack(&Pack::new(items).bytes());
    }

    #[test]
    fn arbitrary_damage_stays_inside(
        items in prop::collection::vec(any_item(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = Pack::new(items).bytes();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Range::new().unpack(&bytes);
    }
}
