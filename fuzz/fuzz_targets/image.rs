//! Any bytes as an archive of images, as a layer, or as an image's documents: refused or unpacked inside the store.
#![no_main]

use images::{Architecture, Digest, Options, Place, Store};
use std::path::Path;
use std::sync::LazyLock;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static STORE: LazyLock<Store> =
    LazyLock::new(|| Store::open(&FOLDER.path().join("store"), Options::default()).unwrap());

/// A layout with one image; its digests are right, so that the bytes are looked at.
fn layout(folder: &Path, manifest: Option<&[u8]>, layer: &[u8]) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let layer = put(layer);
    let config = put(format!(r#"{{"rootfs":{{"diff_ids":["{layer}"]}}}}"#).as_bytes());
    let own = format!(r#"{{"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}}]}}"#);
    let manifest = put(manifest.unwrap_or(own.as_bytes()));
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{manifest}"}}]}}"#);
    std::fs::write(folder.join("index.json"), index).unwrap();
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let path = FOLDER.path().join("input");
    let _ = std::fs::remove_dir_all(&path);
    match kind % 3 {
        0 => layout(&path, None, bytes),
        1 => layout(&path, Some(bytes), b""),
        _ => {
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("archive"), bytes).unwrap();
        }
    }
    let path = if kind % 3 == 2 { path.join("archive") } else { path };
    let _ = STORE.add(&Place::Path { path, tag: None }, Architecture::Amd64, &|_| (), &|| true);
});
