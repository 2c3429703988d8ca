//! Folders that functions cannot enter where they run as other users and see this host's own: `--isolation process` of root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder's mode lets everybody pass.
const PASSABLE: u32 = 0o001;

/// The outermost folder above `path` that no other user may enter.
pub fn barrier(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    let is_closed =
        |folder: &&Path| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & PASSABLE == 0);
    path.ancestors().skip(1).filter(is_closed).last().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_closed_folder_is_named() {
        let home = tempfile::tempdir().unwrap();
        let code = home.path().join("private/project/code");
        fs::create_dir_all(&code).unwrap();
        let mode =
            |path: &str, mode| fs::set_permissions(home.path().join(path), fs::Permissions::from_mode(mode));
        mode("", 0o755).unwrap();
        assert_eq!(barrier(&code), None);
        mode("private/project", 0o700).unwrap();
        mode("private", 0o750).unwrap();
        let private = fs::canonicalize(home.path().join("private")).unwrap();
        assert_eq!(barrier(&code), Some(private.clone()));
        mode("private", 0o711).unwrap();
        assert_eq!(barrier(&code), Some(private.join("project")));
        assert_eq!(barrier(&private.join("project")), None, "its own mode is for another to judge");
        assert_eq!(barrier(Path::new("/nothing/is/here")), None);
    }
}
