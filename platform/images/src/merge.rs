//! All layers of an image in one folder, by hard links: for hosts on which overlays cannot be mounted.
//!
//! Each folder is entered only after it was seen to be one and no link, from the top down, so nothing leads out.

use crate::layer::Facts;
use crate::tree::DEPTH_MAX;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What a merged folder must have at its top: places for what the sandbox mounts.
#[derive(Clone, Debug, Default)]
pub struct Scaffold {
    /// Paths below the top, made with the folders above them; what is there and no folder goes.
    pub folders: Vec<PathBuf>,
    /// The same for empty files.
    pub files: Vec<PathBuf>,
}

/// Lays the layers over each other, lowest first.
pub(crate) fn merge(layers: &[(PathBuf, Facts)], scaffold: &Scaffold, onto: &Path) -> io::Result<()> {
    make(onto)?;
    for (layer, facts) in layers {
        for gone in &facts.gone {
            if let Some(path) = beneath(onto, gone) {
                remove(&path)?;
            }
        }
        for opaque in &facts.opaque {
            if let Some(path) = beneath(onto, opaque) {
                remove(&path)?;
            }
        }
        lay(layer, onto, 0)?;
    }
    let parts = |path: &Path| path.components().count();
    for folder in &scaffold.folders {
        stand(onto, folder, parts(folder))?;
    }
    for file in &scaffold.files {
        stand(onto, file, parts(file) - 1)?;
        let path = onto.join(file);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            remove(&path)?;
        }
        // Its content is covered; and it may be another layer's file, which must not change.
        remove(&path)?;
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Makes the first `count` parts of a path be folders.
fn stand(onto: &Path, path: &Path, count: usize) -> io::Result<()> {
    let mut at = onto.to_owned();
    for part in path.components().take(count) {
        at.push(part);
        if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
            remove(&at)?;
            make(&at)?;
        }
    }
    Ok(())
}

/// A path of an archive below a folder; `None` if a link is on the way, behind which nothing of ours lies.
fn beneath(onto: &Path, text: &str) -> Option<PathBuf> {
    let mut at = onto.to_owned();
    let mut parts = text.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
    while let Some(part) = parts.next() {
        if part == ".." {
            return None;
        }
        at.push(part);
        if parts.peek().is_some() && !fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
            return None;
        }
    }
    (at != onto).then_some(at)
}

fn lay(from: &Path, onto: &Path, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), onto.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_char_device() {
            // A whiteout: what it hides is gone already.
            continue;
        }
        let is_folder = fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir());
        if kind.is_dir() {
            if !is_folder {
                remove(&target)?;
                make(&target)?;
            }
            lay(&source, &target, depth + 1)?;
            fs::set_permissions(&target, fs::symlink_metadata(&source)?.permissions())?;
            continue;
        }
        remove(&target)?;
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            // Another file system, or as many names as the inode can have.
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Removes whatever is at a path, links themselves and not what they lead to.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
