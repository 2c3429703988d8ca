//! Limits by control groups version 1: one tree per controller, joined by writing `0` to `tasks`.
//!
//! `cgroup.procs` is never written: that takes a global lock, 10 ms (measured).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::discover::VersionOneMount;
use super::{
    CPU_PERIOD_US, Limits, Offered, PROCESS_BYTES, is_full, make_folder, open_folder, read_key, read_number,
    read_pids,
};
use super::{Controls, SESSION_WEIGHT, remove_folder, write, write_to};

/// One folder per controller in use; controllers mounted together share a folder.
pub(super) struct VersionOne {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    processes: Option<PathBuf>,
    folders: Vec<PathBuf>,
    /// Whether swap is accounted for here, once it is known.
    swap: OnceLock<bool>,
    around: Around,
}

/// The groups around all environments. When one of them is out of memory the kernel tells it first and then all below it, each
/// group by its own bell (measured).
#[derive(Default)]
struct Around {
    bell: Option<OwnedFd>,
    rings: AtomicU64,
}

impl Around {
    fn new(memory: &Path) -> Around {
        Around { bell: bell(memory).ok(), rings: AtomicU64::new(0) }
    }

    /// How often it rang, so far.
    fn rings(&self) -> u64 {
        let mut count = [0; 8];
        let new = match self.bell.as_ref().map(|bell| rustix::io::read(bell, &mut count)) {
            Some(Ok(_)) => u64::from_ne_bytes(count),
            Some(Err(_)) | None => 0,
        };
        self.rings.fetch_add(new, Ordering::Relaxed) + new
    }
}

/// What rings when a group, or one around it, is out of memory, before anything is killed (measured).
fn bell(memory: &Path) -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{Mode, OFlags};
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let folder = open_folder(memory)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let control = rustix::fs::openat(&folder, "memory.oom_control", flags, Mode::empty())?;
    write(memory, "cgroup.event_control", format!("{} {}", bell.as_raw_fd(), control.as_raw_fd()))?;
    Ok(bell)
}

fn session_folder(mounts: &[VersionOneMount], controller: &str, session: &str) -> Option<PathBuf> {
    let mount = mounts.iter().find(|mount| mount.controllers.iter().any(|name| name == controller))?;
    Some(mount.own.join(session))
}

impl VersionOne {
    /// Makes the session's folders; `None` when no useful controller is mounted.
    ///
    /// # Errors
    /// When the first folder is refused, as it is to an ordinary user.
    pub fn open(mounts: &[VersionOneMount], session: &str, freezer: bool) -> io::Result<Option<VersionOne>> {
        let make = |controller: &str| -> io::Result<Option<PathBuf>> {
            let Some(folder) = session_folder(mounts, controller, session) else { return Ok(None) };
            make_folder(&folder)?;
            Ok(Some(folder))
        };
        let memory = make("memory")?;
        let cpu = make("cpu")?;
        let processes = make("pids")?;
        let freezer = if freezer { make("freezer")? } else { None };
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in [&memory, &cpu, &processes, &freezer].into_iter().flatten() {
            if !folders.contains(folder) {
                folders.push(folder.clone());
            }
        }
        if folders.is_empty() {
            return Ok(None);
        }
        if let Some(memory) = &memory {
            // So that the session's folder counts what its groups use; already so on most hosts.
            drop(write(memory, "memory.use_hierarchy", "1"));
        }
        if let Some(cpu) = &cpu {
            // All environments together would else weigh as much as one process of the host.
            drop(write(cpu, "cpu.shares", (1_024 * SESSION_WEIGHT).to_string()));
        }
        let around = memory.as_deref().map(Around::new).unwrap_or_default();
        Ok(Some(VersionOne { memory, cpu, processes, folders, swap: OnceLock::new(), around }))
    }

    /// Where `freezer.state` of the session's groups is found.
    pub fn freezer_folder(mounts: &[VersionOneMount], session: &str) -> Option<PathBuf> {
        session_folder(mounts, "freezer", session).filter(|folder| folder.is_dir())
    }
}

fn of(folder: &Option<PathBuf>, group: &str) -> io::Result<PathBuf> {
    folder.as_ref().map(|folder| folder.join(group)).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The limit that includes swap must never be below the one that does not, so the order depends on the
/// direction; absent where swap accounting is off.
fn set_memory(folder: &Path, bytes: u64, swap: &OnceLock<bool>) -> io::Result<()> {
    let value = bytes.to_string();
    let both = *swap.get_or_init(|| folder.join("memory.memsw.limit_in_bytes").exists());
    if both && write(folder, "memory.limit_in_bytes", &value).is_err() {
        write(folder, "memory.memsw.limit_in_bytes", &value)?;
        return write(folder, "memory.limit_in_bytes", &value);
    }
    if both {
        return write(folder, "memory.memsw.limit_in_bytes", &value);
    }
    write(folder, "memory.limit_in_bytes", &value)
}

impl Limits for VersionOne {
    fn offered(&self) -> Offered {
        Offered {
            memory: self.memory.is_some(),
            cpu: self.cpu.is_some(),
            processes: self.processes.is_some(),
        }
    }

    fn create(&self, group: &str) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| make_folder(&folder.join(group)))
    }

    fn remove(&self, group: &str) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| remove_folder(&folder.join(group)))
    }

    fn set_memory(&self, group: &str, bytes: u64) -> io::Result<()> {
        set_memory(&of(&self.memory, group)?, bytes, &self.swap)
    }

    fn set_processes(&self, group: &str, count: u32) -> io::Result<()> {
        write(&of(&self.processes, group)?, "pids.max", count.to_string())
    }

    fn set_cpu(&self, group: &str, quota_us: Option<u64>) -> io::Result<()> {
        let Some(quota_us) = quota_us else {
            // It has no quota yet, and each write takes a look at all groups of the host.
            return write(&of(&self.cpu, group)?, "cpu.cfs_period_us", CPU_PERIOD_US.to_string());
        };
        let (file, text) = self.cpu_quota(group, quota_us)?;
        write_to(&file, text)
    }

    fn cpu_quota(&self, group: &str, quota_us: u64) -> io::Result<(PathBuf, String)> {
        Ok((of(&self.cpu, group)?.join("cpu.cfs_quota_us"), quota_us.to_string()))
    }

    fn memory_peak(&self, group: &str) -> io::Result<(u64, u64)> {
        let folder = of(&self.memory, group)?;
        let peak = read_number(&folder, "memory.max_usage_in_bytes")?;
        Ok((peak, read_key(&folder, "memory.stat", "total_cache")?))
    }

    fn memory_mark(&self, group: &str) -> io::Result<fs::File> {
        fs::File::open(of(&self.memory, group)?.join("memory.max_usage_in_bytes"))
    }

    fn reset_memory_peak(&self, group: &str) -> io::Result<()> {
        write(&of(&self.memory, group)?, "memory.max_usage_in_bytes", "0")
    }

    fn memory_kills(&self, group: &str) -> io::Result<u64> {
        read_key(&of(&self.memory, group)?, "memory.oom_control", "oom_kill")
    }

    fn met_memory_limit(&self, group: &str) -> io::Result<bool> {
        let folder = of(&self.memory, group)?;
        is_full(&folder, "memory.max_usage_in_bytes", PROCESS_BYTES, "memory.limit_in_bytes")
    }

    fn shortages_around(&self) -> u64 {
        self.around.rings()
    }

    fn controls(&self, group: &str) -> io::Result<Option<Controls>> {
        let open = |folder: &Option<PathBuf>, file: &str, write: bool| {
            let open = |folder: &PathBuf| {
                fs::File::options().read(!write).write(write).open(folder.join(group).join(file))
            };
            folder.as_ref().map(open).transpose()
        };
        Ok(Some(Controls {
            memory_kills: open(&self.memory, "memory.oom_control", false)?,
            memory_peak: open(&self.memory, "memory.max_usage_in_bytes", true)?,
            cpu_quota: open(&self.cpu, "cpu.cfs_quota_us", true)?,
        }))
    }

    fn entrances(&self, group: &str) -> io::Result<Vec<OwnedFd>> {
        use rustix::fs::{Mode, OFlags};
        let open = |folder: &PathBuf| {
            rustix::fs::open(
                folder.join(group).join("tasks"),
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        Ok(self.folders.iter().map(open).collect::<Result<_, _>>()?)
    }

    fn memory_bell(&self, group: &str) -> io::Result<Option<OwnedFd>> {
        self.memory.as_ref().map(|memory| bell(&memory.join(group))).transpose()
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.folders.clone()
    }

    fn processes(&self, group: &str) -> io::Result<Vec<i32>> {
        let folder = self.folders.first().ok_or(io::ErrorKind::NotFound)?;
        read_pids(&folder.join(group))
    }

    fn is_crowded(&self, group: &str) -> io::Result<bool> {
        is_full(&of(&self.processes, group)?, "pids.current", 0, "pids.max")
    }

    fn is_out_of_memory(&self, group: &str) -> io::Result<bool> {
        let folder = of(&self.memory, group)?;
        is_full(&folder, "memory.usage_in_bytes", PROCESS_BYTES, "memory.limit_in_bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fake tree: the kernel makes the control files on mkdir, here the test does.
    fn fake(name: &str) -> (PathBuf, Vec<VersionOneMount>) {
        let top = std::env::temp_dir().join(format!("sandbox-v1-{}-{name}", std::process::id()));
        let mounts = ["memory", "cpu,cpuacct", "pids"].map(|controllers| {
            let own = top.join(controllers);
            fs::create_dir_all(&own).unwrap();
            VersionOneMount { controllers: controllers.split(',').map(str::to_owned).collect(), own }
        });
        (top, mounts.to_vec())
    }

    #[test]
    fn limits_land_in_the_files_of_their_controllers() {
        let (top, mounts) = fake("limits");
        let limits = VersionOne::open(&mounts, "session", false).unwrap().unwrap();
        assert_eq!(limits.offered(), Offered { memory: true, cpu: true, processes: true });
        limits.create("e1").unwrap();
        let file = |controller: &str, file: &str| top.join(controller).join("session/e1").join(file);
        for (controller, name) in [
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.memsw.limit_in_bytes"),
            ("cpu,cpuacct", "cpu.cfs_quota_us"),
            ("cpu,cpuacct", "cpu.cfs_period_us"),
            ("pids", "pids.max"),
        ] {
            fs::write(file(controller, name), "").unwrap();
        }
        limits.set_memory("e1", 134_217_728).unwrap();
        limits.set_processes("e1", 1_024).unwrap();
        limits.set_cpu("e1", None).unwrap();
        limits.set_cpu("e1", Some(1_447)).unwrap();
        let read = |controller: &str, name: &str| fs::read_to_string(file(controller, name)).unwrap();
        assert_eq!(read("memory", "memory.limit_in_bytes"), "134217728");
        assert_eq!(read("memory", "memory.memsw.limit_in_bytes"), "134217728");
        assert_eq!(read("cpu,cpuacct", "cpu.cfs_quota_us"), "1447");
        assert_eq!(read("cpu,cpuacct", "cpu.cfs_period_us"), "20000");
        assert_eq!(read("pids", "pids.max"), "1024");
        for (now, is_crowded) in [("1023", false), ("1024", true)] {
            fs::write(file("pids", "pids.current"), now).unwrap();
            assert_eq!(limits.is_crowded("e1").unwrap(), is_crowded, "{now}");
        }
        fs::write(file("pids", "pids.max"), "max").unwrap();
        assert!(!limits.is_crowded("e1").unwrap());
        for (now, is_out) in [("1048576", false), ("133693440", true), ("134217728", true)] {
            fs::write(file("memory", "memory.usage_in_bytes"), now).unwrap();
            assert_eq!(limits.is_out_of_memory("e1").unwrap(), is_out, "{now}");
            fs::write(file("memory", "memory.max_usage_in_bytes"), now).unwrap();
            assert_eq!(limits.met_memory_limit("e1").unwrap(), is_out, "{now}");
        }
        // So version 1 writes that there is no limit.
        fs::write(file("memory", "memory.limit_in_bytes"), "9223372036854771712").unwrap();
        assert!(!limits.is_out_of_memory("e1").unwrap());
        fs::write(file("memory", "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
            .unwrap();
        assert_eq!(limits.memory_kills("e1").unwrap(), 3);
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_host_without_controllers_offers_nothing() {
        assert!(VersionOne::open(&[], "session", true).unwrap().is_none());
    }
}
