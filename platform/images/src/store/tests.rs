//! Whole images through the store: what is kept, shared, merged and refused.

use super::*;
use crate::tar::tests::Writer;
use std::os::unix::fs::PermissionsExt as _;

/// Writes an OCI layout with these uncompressed layers.
fn layout(folder: &Path, layers: &[Vec<u8>]) -> Place {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest.to_string()
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = serde_json::json!({"rootfs": {"diff_ids": diff_ids}, "config": {"Cmd": ["/run"]}});
    let config = put(config.to_string().as_bytes());
    let packed = layers.iter().enumerate().map(|(index, layer)| match index % 3 {
        0 => gzip(layer),
        1 => layer.clone(),
        _ => ruzstd::encoding::compress_to_vec(&layer[..], ruzstd::encoding::CompressionLevel::Fastest),
    });
    let packed: Vec<_> = packed.map(|layer| serde_json::json!({"digest": put(&layer)})).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": {"digest": config}, "layers": packed});
    let manifest = put(manifest.to_string().as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"digest": manifest}]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    Place::Path { path: folder.to_owned(), tag: None }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn add(store: &Store, place: &Place) -> Result<Image, ImageError> {
    store.add(place, Architecture::Amd64, &|_| (), &|| true)
}

fn merging(folder: &Path) -> Store {
    let scaffold = Scaffold { folders: vec!["tmp".into()], files: vec!["etc/hosts".into()] };
    Store::open(folder, Options { overlay: false, scaffold, unpacker: None }).unwrap()
}

/// Three layers: whiteouts, an opaque folder, a folder in the place of a link.
fn three() -> [Vec<u8>; 3] {
    let mut low = Writer::default();
    low.folder("a").file("a/gone", b"low").file("a/kept", b"low").folder("b").file("b/hidden", b"low");
    low.link("tmp", "/etc").link("linked", "a").folder("etc").file("etc/hosts", b"image");
    low.add("a/second", b'1', 0o644, "a/kept", b"").add("a/run", b'0', 0o6755, "", b"program");
    let mut middle = Writer::default();
    middle.file("a/.wh.gone", b"").file("b/.wh..wh..opq", b"").file("b/new", b"middle").folder("linked");
    let mut high = Writer::default();
    high.file("linked/inside", b"high").file("a/.wh.absent", b"");
    [low.end(), middle.end(), high.end()]
}

#[test]
fn merged_layers_show_what_an_overlay_would() {
    let folder = tempfile::tempdir().unwrap();
    let place = layout(&folder.path().join("layout"), &three());
    let store = merging(&folder.path().join("store"));
    let image = add(&store, &place).unwrap();
    let [root] = &image.layers[..] else { panic!("one folder") };
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(
        (text("a/kept"), text("a/second"), text("b/new")),
        ("low".into(), "low".into(), "middle".into())
    );
    assert_eq!(text("linked/inside"), "high");
    for gone in ["a/gone", "b/hidden", "a/inside", "a/.wh.absent", "a/absent"] {
        assert!(fs::symlink_metadata(root.join(gone)).is_err(), "{gone}");
    }
    assert!(fs::symlink_metadata(root.join("tmp")).unwrap().is_dir(), "a place of the sandbox's is no link");
    // A place that is covered has no content of another layer's.
    assert_eq!(text("etc/hosts"), "");
    assert_eq!(fs::metadata(root.join("a/run")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(image.settings.command, ["/run"]);
}

#[test]
fn layers_are_unpacked_once_and_go_with_their_last_image() {
    let folder = tempfile::tempdir().unwrap();
    let [low, middle, high] = three();
    let one = layout(&folder.path().join("one"), &[low.clone(), middle]);
    let two = layout(&folder.path().join("two"), &[low, high]);
    let path = folder.path().join("store");
    let store = Store::open(&path, Options::default()).unwrap();
    let count = || names(&path.join("layers")).count();
    let unpacked = std::cell::Cell::new(0);
    let seen = |_: &str| unpacked.set(unpacked.get() + 1);
    let first = store.add(&one, Architecture::Arm64, &seen, &|| true).unwrap();
    let second = store.add(&two, Architecture::Arm64, &seen, &|| true).unwrap();
    assert_eq!((count(), unpacked.get()), (3, 3), "the lowest is shared");
    store.shelf.sweep();
    assert_eq!(count(), 3, "leases keep both");
    store.shelf.books().kept.insert(first.id.clone());
    store.shelf.books().leased.clear();
    store.shelf.sweep();
    assert_eq!(count(), 2);
    assert!(store.find(&first.id).is_some() && store.find(&second.id).is_none());
    assert!(store.find("../../etc").is_none());
}

#[test]
fn a_look_fetches_no_layer_and_a_pull_ends_when_nobody_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = layout(&folder.path().join("layout"), &three());
    let path = folder.path().join("store");
    let store = Store::open(&path, Options::default()).unwrap();
    let Look::Elsewhere { place: again, digest } = store.look(&place, Architecture::Amd64).unwrap() else {
        panic!("it is not there yet")
    };
    assert_eq!((again, names(&path.join("layers")).count()), (place.clone(), 0));
    let left = std::cell::Cell::new(2);
    let wanted = || left.replace(left.get().max(1) - 1) > 0;
    let given_up = store.add(&place, Architecture::Amd64, &|_| (), &wanted);
    assert!(matches!(given_up, Err(ImageError::Unwanted)), "{given_up:?}");
    assert_eq!(names(&path.join("staging")).count(), 0);
    let image = add(&store, &place).unwrap();
    assert_eq!(Some(&image.digest), digest.as_ref());
    let Look::Here(found) = store.look(&place, Architecture::Amd64).unwrap() else { panic!("it is there") };
    assert_eq!(found.id, image.id);
    // A sweep while another is made takes nothing, and is made up for.
    let making = Shelf::begin(&store.shelf);
    drop((image, found));
    store.shelf.sweep();
    assert_eq!(names(&path.join("layers")).count(), 3);
    drop(making);
    store.shelf.sweep();
    assert_eq!(names(&path.join("layers")).count(), 0);
}

#[test]
fn what_a_crash_left_half_made_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let place = layout(&folder.path().join("layout"), &three());
    let path = folder.path().join("store");
    let store = merging(&path);
    let image = add(&store, &place).unwrap();
    let id = image.id.clone();
    store.shelf.books().kept.insert(id.clone());
    // Killed while a layer was being made, and once more between a layer and its record.
    fs::create_dir_all(path.join("staging/7/root/etc")).unwrap();
    let again = merging(&path);
    assert_eq!(names(&path.join("staging")).count(), 0);
    // Removed by a thread.
    while path.join("left").exists() {
        std::thread::yield_now();
    }
    assert!(again.find(&id).is_some());
    let layer = names(&path.join("layers")).next().unwrap();
    fs::remove_file(path.join("layers").join(layer).join("facts")).unwrap();
    assert!(again.find(&id).is_none(), "a layer without its facts is none");
    fs::write(path.join("records").join(&id), "{").unwrap();
    assert!(again.find(&id).is_none());
}

#[test]
fn hostile_layers_are_refused_by_name_and_nothing_is_outside() {
    let mut deep = Writer::default();
    deep.file(&"d/".repeat(200), b"");
    let mut circle = Writer::default();
    circle.link("x", "y").link("y", "x").file("x/in", b"");
    let mut many = Writer::default();
    many.raw("huge", b'0', 0o644, "", 100 << 30, b"");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Writer::default().file("../out", b"x").end(), "leads out"),
        (Writer::default().file("a/../../out", b"x").end(), "leads out"),
        (Writer::default().add("h", b'1', 0o644, "../../../etc/passwd", b"").end(), "leads out"),
        (Writer::default().add("h", b'1', 0o644, "etc/passwd", b"").end(), "hard link"),
        (Writer::default().link("etc", "/").add("h", b'1', 0o644, "etc/passwd", b"").end(), "hard link"),
        (Writer::default().link("etc", "/etc").add("h", b'1', 0o644, "etc/passwd", b"").end(), "circle"),
        (Writer::default().file(".wh.", b"").end(), "names nothing"),
        (Writer::default().file("a/.wh...", b"").end(), "names nothing"),
        (Writer::default().link("/", "/etc").end(), "image's top"),
        (Writer::default().link("l", "").end(), "no target"),
        (Writer::default().add("odd", b'Z', 0o644, "", b"").end(), "of a kind"),
        (deep.end(), "too deeply"),
        (circle.end(), "circle"),
        (many.end(), "10 GB"),
        (Writer::default().raw("s", b'S', 0o644, "", 0, b"").end(), "sparse"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = merging(&path);
    for (number, (layer, words)) in cases.into_iter().enumerate() {
        let place = layout(&folder.path().join(number.to_string()), &[layer]);
        let error = add(&store, &place).unwrap_err().to_string();
        assert!(error.contains(words), "{error}: expected `{words}`");
        assert_eq!(names(&path.join("staging")).count() + names(&path.join("layers")).count(), 0, "{words}");
    }
    assert!(!folder.path().join("out").exists() && !path.join("out").exists());
}

#[test]
fn links_are_followed_within_the_layer_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut layer = Writer::default();
    layer
        .folder("usr")
        .link("lib", "usr/lib")
        .file("lib/one", b"1")
        .link("up", "../../../../usr")
        .file("up/two", b"2");
    layer.link("absolute", "/usr").file("absolute/three", b"3").file("usr/lib", b"late");
    let place = layout(&folder.path().join("layout"), &[layer.end()]);
    let store = Store::open(&folder.path().join("store"), Options::default()).unwrap();
    let image = add(&store, &place).unwrap();
    let root = image.layers.last().unwrap();
    assert_eq!(fs::read_to_string(root.join("usr/two")).unwrap(), "2");
    assert_eq!(fs::read_to_string(root.join("usr/three")).unwrap(), "3");
    assert_eq!(fs::read_to_string(root.join("usr/lib")).unwrap(), "late", "the later entry wins");
}

#[test]
fn changed_content_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let place = layout(&path, &[three()[1].clone()]);
    let store = merging(&folder.path().join("store"));
    for entry in fs::read_dir(path.join("blobs/sha256")).unwrap() {
        let blob = entry.unwrap().path();
        let good = fs::read(&blob).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs::write(&blob, bad).unwrap();
        assert!(add(&store, &place).is_err(), "{}", blob.display());
        fs::write(&blob, good).unwrap();
    }
    assert!(add(&store, &place).is_ok());
}
