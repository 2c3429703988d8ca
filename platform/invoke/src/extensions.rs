//! Which extensions a function has: every file in `/opt/extensions`, by name.
//!
//! Source: Lambda Developer Guide, "Lambda extensions", published; that also a file which cannot be executed counts, and fails,
//! as the public Runtime Interface Emulator has it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where extensions lie inside.
pub(crate) const FOLDER: &str = "/opt/extensions";
/// Most files that are looked at: more extensions than may be are an error anyhow.
const FILES_MAX: usize = 1_000;

/// Names of the extensions in the folders that become `/opt`, one over the other, lowest first, as an overlay shows them; in
/// order.
///
/// # Errors
/// A folder is there but cannot be read.
pub(crate) fn list(opts: &[PathBuf]) -> io::Result<Vec<Arc<str>>> {
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    for opt in opts {
        let folder = opt.join("extensions");
        if is_opaque(opt) || is_opaque(&folder) {
            names.clear();
        }
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                names.clear();
                continue;
            }
            entries => entries?,
        };
        for entry in entries.take(FILES_MAX) {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name: Arc<str> = entry.file_name().to_string_lossy().into();
            // What a layer hides of those below is a device there. A link counts as what it leads to, which may be
            // nowhere on this side.
            if kind.is_char_device() || kind.is_dir() || entry.path().is_dir() {
                names.remove(&name);
            } else {
                names.insert(name);
            }
        }
    }
    Ok(names.into_iter().collect())
}

/// Whether nothing of lower layers shows in a folder.
fn is_opaque(folder: &Path) -> bool {
    let marked = |name: &str| {
        let mut value = [0_u8; 1];
        rustix::fs::getxattr(folder, name, &mut value) == Ok(1) && value == *b"y"
    };
    marked("trusted.overlay.opaque") || marked("user.overlay.opaque")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_one_and_folders_are_none() {
        let opt = std::env::temp_dir().join(format!("onrush-extensions-{}", std::process::id()));
        fs::create_dir_all(opt.join("extensions/lib")).unwrap();
        for name in ["b", "a", "10"] {
            fs::write(opt.join("extensions").join(name), "").unwrap();
        }
        // A layer above replaces one by a folder and adds another.
        fs::create_dir_all(opt.join("above/extensions/b")).unwrap();
        fs::write(opt.join("above/extensions/c"), "").unwrap();
        let found = list(std::slice::from_ref(&opt));
        let both = list(&[opt.clone(), opt.join("above")]);
        fs::remove_dir_all(&opt).unwrap();
        assert_eq!(found.unwrap(), ["10".into(), "a".into(), Arc::<str>::from("b")]);
        assert_eq!(both.unwrap(), ["10".into(), "a".into(), Arc::<str>::from("c")]);
        assert!(list(&[opt]).unwrap().is_empty() && list(&[]).unwrap().is_empty());
    }
}
