//! Where the host's control groups are mounted and which group is ours, read from two texts of `/proc`.

use std::path::{Path, PathBuf};

/// One version 1 hierarchy: its controllers and the folder of our own group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionOneMount {
    pub controllers: Vec<String>,
    pub own: PathBuf,
}

/// The version 2 tree: its top as mounted, and the folder of our own group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnifiedMount {
    pub top: PathBuf,
    pub own: PathBuf,
}

/// Everything mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    pub version_one: Vec<VersionOneMount>,
    pub unified: Option<UnifiedMount>,
}

impl Hierarchies {
    /// The folders in which sessions make theirs.
    pub fn parents(&self) -> Vec<PathBuf> {
        let mut parents: Vec<PathBuf> = self.version_one.iter().map(|mount| mount.own.clone()).collect();
        if let Some(unified) = &self.unified {
            parents.extend([unified.top.clone(), unified.own.clone()]);
        }
        parents
    }

    /// Every folder that a session of that name may make.
    pub fn possible_folders(&self, session: &str) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> =
            self.version_one.iter().map(|mount| mount.own.join(session)).collect();
        if let Some(unified) = &self.unified {
            folders.push(unified.top.join(session));
            folders.push(unified.own.join(session));
        }
        folders
    }
}

/// Reads `mountinfo` (`/proc/self/mountinfo`) and `membership` (`/proc/self/cgroup`). Paths come out below
/// `top`, `/` on a real host. Lines that make no sense are passed over.
pub(crate) fn discover(top: &Path, mountinfo: &str, membership: &str) -> Hierarchies {
    let mut found = Hierarchies::default();
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut fields = mount.split(' ').skip(3);
        let (Some(mount_root), Some(mount_point)) = (fields.next(), fields.next()) else { continue };
        let mut fields = filesystem.split(' ');
        let kind = fields.next();
        let options = fields.nth(1).unwrap_or("");
        let mount_point = below(top, &unescape(mount_point));
        let mount_root = unescape(mount_root);
        if kind == Some("cgroup2") && found.unified.is_none() {
            let Some(path) = membership.lines().find_map(|line| line.strip_prefix("0::")) else { continue };
            let own = own_folder(&mount_point, &mount_root, path);
            found.unified = Some(UnifiedMount { top: mount_point, own });
        } else if kind == Some("cgroup") {
            let member = membership.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                let mounted = |name: &str| options.split(',').any(|option| option == name);
                (!controllers.is_empty() && controllers.split(',').all(mounted))
                    .then_some((controllers, path))
            });
            let Some((controllers, path)) = member else { continue };
            let controllers: Vec<String> = controllers.split(',').map(str::to_owned).collect();
            if found.version_one.iter().any(|mount| mount.controllers == controllers) {
                continue;
            }
            let own = own_folder(&mount_point, &mount_root, path);
            found.version_one.push(VersionOneMount { controllers, own });
        }
    }
    found
}

/// A container may see only a part of the tree: then the mount's root is taken off our path.
fn own_folder(mount_point: &Path, mount_root: &str, path: &str) -> PathBuf {
    let path = Path::new(path);
    let inside = path.strip_prefix(mount_root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
    below(mount_point, &inside.to_string_lossy())
}

fn below(top: &Path, path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    if path.is_empty() { top.to_path_buf() } else { top.join(path) }
}

/// Undoes the octal escapes of mountinfo (`\040` is a space).
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match (bytes[at], octal.and_then(|digits| u8::from_str_radix(digits, 8).ok())) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                at += 4;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 30 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/cpu\\040x rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
34 31 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
garbage
35 31 - cgroup";

    #[test]
    fn finds_both_versions_and_our_own_folders() {
        let found = discover(Path::new("/"), HYBRID, "5:memory:/a/b\n2:cpu,cpuacct:/\n0::/\n");
        let unified = PathBuf::from("/sys/fs/cgroup/unified");
        assert_eq!(found.unified, Some(UnifiedMount { top: unified.clone(), own: unified }));
        assert_eq!(found.version_one.len(), 2);
        assert_eq!(found.version_one[0].own, Path::new("/sys/fs/cgroup/cpu x"));
        assert_eq!(found.version_one[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found.version_one[1].own, Path::new("/sys/fs/cgroup/memory/a/b"));
    }

    #[test]
    fn a_container_that_sees_a_part_finds_itself_at_the_top() {
        let text = "33 31 0:29 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let found = discover(Path::new("/fake"), text, "0::/docker/x/child\n");
        assert_eq!(found.unified.unwrap().own, Path::new("/fake/sys/fs/cgroup/child"));
    }

    #[test]
    fn nothing_mounted_is_no_hierarchy() {
        assert_eq!(discover(Path::new("/"), "", ""), Hierarchies::default());
    }
}
