//! Layers, merged in order into the one folder that becomes `/opt`.
//!
//! Source: Lambda Developer Guide, "Adding layers to functions": later layers overwrite files of earlier ones. A single layer is
//! used as it is; several are linked (or copied, over file systems) into a folder of their own, once per
//! combination.

use control::Layer;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

/// Deepest folder in a layer. Archives are bounded more tightly already; a folder of the user's is not.
const DEPTH_MAX: usize = 64;

/// The folder for `/opt`; `None` without layers.
///
/// # Errors
/// The files cannot be linked or copied.
pub(crate) fn merge(layers: &[Layer], into: &Path) -> io::Result<Option<PathBuf>> {
    let (first, rest) = match layers.split_first() {
        None => return Ok(None),
        Some((first, [])) => return Ok(Some(first.path.clone())),
        Some(split) => split,
    };
    // Fixed keys: the same layers find the same folder after a restart. The place counts, too: links into a folder of the
    // user's show its edits, and a published version has a copy of it that does not.
    let mut hasher = DefaultHasher::new();
    for layer in layers {
        (&layer.sha256, &layer.arn, &layer.location).hash(&mut hasher);
    }
    let merged = into.join(format!("{:016x}", hasher.finish()));
    if merged.is_dir() {
        return Ok(Some(merged));
    }
    fs::create_dir_all(into)?;
    let staging = into.join(format!(".{:016x}-{}", hasher.finish(), crate::id::hex32()));
    let done = std::iter::once(first)
        .chain(rest)
        .try_for_each(|layer| lay(&layer.path, &staging, 0))
        .and_then(|()| match fs::rename(&staging, &merged) {
            // Another start of the same function was quicker.
            Err(_) if merged.is_dir() => Ok(()),
            renamed => renamed,
        });
    if staging.exists() {
        let _ = fs::remove_dir_all(&staging);
    }
    done.map(|()| Some(merged))
}

fn lay(from: &Path, onto: &Path, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("{} is nested too deeply", from.display())));
    }
    fs::create_dir_all(onto)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), onto.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if target.is_symlink() || target.is_file() {
                fs::remove_file(&target)?;
            }
            lay(&source, &target, depth + 1)?;
            continue;
        }
        if target.is_dir() && !target.is_symlink() {
            fs::remove_dir_all(&target)?;
        } else if target.is_symlink() || target.exists() {
            fs::remove_file(&target)?;
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win_and_folders_are_joined() {
        let root = std::env::temp_dir().join(format!("onrush-layers-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/bin/tool", "old");
        write("a/only", "a");
        write("b/bin/tool", "new");
        write("b/bin/more", "b");
        let (one, two, onto) = (root.join("a"), root.join("b"), root.join("opt"));
        lay(&one, &onto, 0).unwrap();
        lay(&two, &onto, 0).unwrap();
        let read = |path: &str| fs::read_to_string(onto.join(path)).unwrap();
        let found = (read("bin/tool"), read("bin/more"), read("only"));
        let untouched = fs::read_to_string(one.join("bin/tool")).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, ("new".to_owned(), "b".to_owned(), "a".to_owned()));
        assert_eq!(untouched, "old");
    }
}
