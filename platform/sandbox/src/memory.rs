//! How much memory this host can still give: the machine's, and that of every control group which the platform runs in.

use crate::cgroup::{Hierarchies, discover};
use std::fs;
use std::path::{Path, PathBuf};

const MEBIBYTE: u64 = 1 << 20;
/// Limits above this are none: version 1 writes a number near 2^63 for "no limit".
const NO_LIMIT: u64 = 1 << 60;

/// Memory in bytes, of the machine or of the control group that has the least left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What could still be given, without swapping: free, or page cache that can be dropped.
    pub available: u64,
}

impl Memory {
    /// In use, in MB.
    pub fn used_mb(self) -> u64 {
        self.total.saturating_sub(self.available) / MEBIBYTE
    }

    /// All there is, in MB.
    pub fn total_mb(self) -> u64 {
        self.total / MEBIBYTE
    }
}

/// Where to read it: `/proc/meminfo`, and the groups with a limit of their own.
#[derive(Debug)]
pub struct HostMemory {
    meminfo: PathBuf,
    groups: Vec<Group>,
}

/// A control group whose memory is limited.
#[derive(Debug)]
struct Group {
    limit: PathBuf,
    usage: PathBuf,
    stat: PathBuf,
    /// The words of `stat` for page cache that can be dropped.
    cache: [&'static str; 2],
}

impl HostMemory {
    /// Of this process, where it runs now.
    pub fn of_this_process() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let hierarchies = discover(Path::new("/"), &read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        Self::new(PathBuf::from("/proc/meminfo"), &hierarchies)
    }

    fn new(meminfo: PathBuf, hierarchies: &Hierarchies) -> Self {
        let mut groups = Vec::new();
        for mount in &hierarchies.version_one {
            if mount.controllers.iter().any(|controller| controller == "memory") {
                // A limit above holds here as well; the files end where the mount does.
                groups.extend(mount.own.ancestors().map(|folder| Group {
                    limit: folder.join("memory.limit_in_bytes"),
                    usage: folder.join("memory.usage_in_bytes"),
                    stat: folder.join("memory.stat"),
                    cache: ["total_inactive_file", "total_active_file"],
                }));
            }
        }
        if let Some(unified) = &hierarchies.unified {
            groups.extend(unified.own.ancestors().map(|folder| Group {
                limit: folder.join("memory.max"),
                usage: folder.join("memory.current"),
                stat: folder.join("memory.stat"),
                cache: ["inactive_file", "active_file"],
            }));
        }
        groups.retain(|group| group.limit.is_file() && group.usage.is_file());
        Self { meminfo, groups }
    }

    /// What is left now; `None` where nothing can be read. Reads one file, and three more for each group with a limit: some
    /// 20 us.
    pub fn read(&self) -> Option<Memory> {
        let machine = fs::read_to_string(&self.meminfo).ok().and_then(|text| of_machine(&text));
        let groups = self.groups.iter().filter_map(Group::read);
        machine.into_iter().chain(groups).min_by_key(|memory| memory.available)
    }
}

impl Group {
    fn read(&self) -> Option<Memory> {
        let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        // "max" is no number.
        let total = number(&self.limit).filter(|limit| *limit < NO_LIMIT)?;
        let usage = number(&self.usage)?;
        let stat = fs::read_to_string(&self.stat).unwrap_or_default();
        let cache: u64 = self.cache.iter().filter_map(|word| field(&stat, word)).sum();
        Some(Memory { total, available: total.saturating_sub(usage.saturating_sub(cache)) })
    }
}

fn of_machine(meminfo: &str) -> Option<Memory> {
    let kilobytes = |word| field(meminfo, word)?.checked_mul(1024);
    Some(Memory { total: kilobytes("MemTotal:")?, available: kilobytes("MemAvailable:")? })
}

/// The number after a word that begins a line.
fn field(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(word))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str =
        "MemTotal:       1048576 kB\nMemFree:          1024 kB\nMemAvailable:    524288 kB\n";

    #[test]
    fn the_tightest_of_machine_and_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("a/b");
        fs::create_dir_all(&own).unwrap();
        let write = |folder: &Path, file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
        write(folder.path(), "meminfo", MEMINFO);
        // The group itself has no limit, the one above has.
        write(&own, "memory.max", "max\n");
        write(&own, "memory.current", "1\n");
        let above = folder.path().join("a");
        write(&above, "memory.max", "104857600\n");
        write(&above, "memory.current", "94371840\n");
        write(&above, "memory.stat", "anon 5\ninactive_file 20971520\nactive_file 10485760\n");
        let unified = crate::cgroup::UnifiedMount { top: folder.path().to_owned(), own };
        let hierarchies = Hierarchies { version_one: Vec::new(), unified: Some(unified) };
        let memory = HostMemory::new(folder.path().join("meminfo"), &hierarchies);
        let read = memory.read().unwrap();
        assert_eq!((read.total_mb(), read.used_mb()), (100, 60));
        write(&above, "memory.max", "max\n");
        let read = memory.read().unwrap();
        assert_eq!((read.total_mb(), read.used_mb()), (1_024, 512));
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let memory = HostMemory::new(PathBuf::from("/nowhere"), &Hierarchies::default());
        assert_eq!(memory.read(), None);
        assert_eq!(of_machine("MemTotal: many kB"), None);
    }
}
