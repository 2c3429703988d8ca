//! Control groups: one group per environment, on whichever versions the host has.
//!
//! Limits (memory, CPU, processes) come from version 1 or version 2 behind the [`Limits`] trait; freezing
//! comes from the version 2 tree whenever it is mounted, even without controllers, because there it takes
//! 12 us instead of 59 and does not delay a kill (measured).

mod discover;
mod version_one;
mod version_two;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(test)]
pub(crate) use discover::UnifiedMount;
pub(crate) use discover::{Hierarchies, discover};
use version_one::VersionOne;
use version_two::VersionTwo;

/// MemorySize that buys one core (AWS Lambda Developer Guide, "Configure Lambda function memory").
pub(crate) const MEMORY_MB_PER_CORE: u32 = 1769;
/// Period of the CPU quota, in microseconds, as Lambda is reported to have (unconfirmed).
const CPU_PERIOD_US: u64 = 20_000;
/// The kernel refuses a quota below 1 ms.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// What is said of a version 2 group with processes of others, after its name.
pub(crate) const CROWDED: &str = "holds other processes and so cannot hand controllers down";

/// Weight of all environments together when the host is busy, in weights of one process.
const SESSION_WEIGHT: u32 = 32;

/// Microseconds of CPU per period for a function of that memory. Rounds down; never below the kernel's floor.
pub(crate) fn cpu_quota_us(memory_mb: u32) -> u64 {
    (u64::from(memory_mb) * CPU_PERIOD_US / u64::from(MEMORY_MB_PER_CORE)).max(CPU_QUOTA_MIN_US)
}

/// Which limits a version of control groups offers here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    pub memory: bool,
    pub cpu: bool,
    pub processes: bool,
}

/// Limits of one group, whatever the version. Groups are named relative to the platform's own folder.
pub(crate) trait Limits: Send + Sync {
    /// What this version can limit here.
    fn offered(&self) -> Offered;
    /// Makes the group.
    fn create(&self, group: &str) -> io::Result<()>;
    /// Removes the empty group; a group that is not there is fine.
    fn remove(&self, group: &str) -> io::Result<()>;
    /// Limits memory, swap included.
    fn set_memory(&self, group: &str, bytes: u64) -> io::Result<()>;
    /// Limits processes and threads together.
    fn set_processes(&self, group: &str, count: u32) -> io::Result<()>;
    /// Limits CPU to `quota_us` of every 20 ms. `None` comes first, for a new group, which has no limit: it sets the period.
    fn set_cpu(&self, group: &str, quota_us: Option<u64>) -> io::Result<()>;
    /// The file that limits CPU, and what to write into it for `quota_us`.
    fn cpu_quota(&self, group: &str, quota_us: u64) -> io::Result<(PathBuf, String)>;
    /// Most memory used since the last reset, page cache included, and page cache now; bytes.
    fn memory_peak(&self, group: &str) -> io::Result<(u64, u64)>;
    /// The file whose number grows whenever the peak does: one read of it tells that nothing changed.
    fn memory_mark(&self, group: &str) -> io::Result<fs::File>;
    /// Starts a new peak.
    fn reset_memory_peak(&self, group: &str) -> io::Result<()>;
    /// How often the kernel killed for memory in the group, whether the group's had run out or that of one around it.
    fn memory_kills(&self, group: &str) -> io::Result<u64>;
    /// Whether the group itself was without memory, once or more. On version 1 page cache counts, and so does what was before: it
    /// tells only where [`shortages_around`](Limits::shortages_around) tells nothing.
    fn met_memory_limit(&self, group: &str) -> io::Result<bool>;
    /// How often memory ran out of a group around all of these, so far; 0 for ever where groups know for themselves.
    fn shortages_around(&self) -> u64 {
        0
    }
    /// What makes a used group as good as new; `None` where that cannot be done.
    fn controls(&self, group: &str) -> io::Result<Option<Controls>>;
    /// Files that a process writes `0` to so as to join, in place of being born inside.
    fn entrances(&self, group: &str) -> io::Result<Vec<OwnedFd>>;
    /// A descriptor that becomes readable when the group runs out of memory, where that must be asked for.
    fn memory_bell(&self, group: &str) -> io::Result<Option<OwnedFd>>;
    /// Folders that hold the groups, for the record of what to clean.
    fn folders(&self) -> Vec<PathBuf>;
    /// Takes this process back to where it was found, once the folders are gone.
    fn leave(&self) {}
    /// Pids in the group, as this process sees them.
    fn processes(&self, group: &str) -> io::Result<Vec<i32>>;
    /// Whether the group has as many processes and threads as it may.
    fn is_crowded(&self, group: &str) -> io::Result<bool>;
    /// Whether the group has so much memory that no process more fits.
    fn is_out_of_memory(&self, group: &str) -> io::Result<bool>;
}

/// Memory that counts for a process before it has done anything, and what processors keep of a group's for later. Ours. Cached
/// files count as used, but the kernel gives those up before it refuses a process.
const PROCESS_BYTES: u64 = 1 << 20;

/// How the processes of a group are frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Freezer {
    /// `cgroup.freeze` in this folder.
    Unified(PathBuf),
    /// `freezer.state` in this folder.
    VersionOne(PathBuf),
    /// No group: the supervisor stops its processes by signal.
    Signal,
}

impl Freezer {
    /// Stops every process of the group; `false` when signals must do it. 1 us, then 4 us until all stand.
    pub fn freeze(&self, group: &str) -> io::Result<bool> {
        self.set(group, "1", "FROZEN")
    }

    /// Lets every process of the group go on.
    pub fn thaw(&self, group: &str) -> io::Result<bool> {
        self.set(group, "0", "THAWED")
    }

    fn set(&self, group: &str, unified: &str, one: &str) -> io::Result<bool> {
        match self {
            Freezer::Unified(folder) => write(&folder.join(group), "cgroup.freeze", unified).map(|()| true),
            Freezer::VersionOne(folder) => write(&folder.join(group), "freezer.state", one).map(|()| true),
            Freezer::Signal => Ok(false),
        }
    }
}

/// The platform's own corner of the host's control groups.
pub(crate) struct ControlGroups {
    limits: Option<Box<dyn Limits>>,
    unified: Option<PathBuf>,
    freezer: Freezer,
}

/// A group made for one environment, with what a new process needs to join it.
pub(crate) struct Group {
    /// Name below the platform's folders.
    pub name: String,
    /// Folder of the version 2 tree to be born in.
    pub birthplace: Option<OwnedFd>,
    /// Version 1 files to write `0` to.
    pub entrances: Vec<OwnedFd>,
    /// Rings when memory runs out (version 1).
    pub bell: Option<OwnedFd>,
    /// What makes it as good as new; `None` where that cannot be done.
    pub controls: Option<Controls>,
    /// The memory limit in force, bytes; 0 for none.
    pub memory_bytes: u64,
}

/// Files of a group that stay open for as long as it goes round: opening them takes twice as long as using them
/// (measured: 60 us of 90).
pub(crate) struct Controls {
    pub memory_kills: Option<fs::File>,
    pub memory_peak: Option<fs::File>,
    pub cpu_quota: Option<fs::File>,
}

impl Group {
    /// Lets go of every descriptor, eight on a host with version 1. The group serves whoever is in it on, and cannot be used
    /// again.
    pub fn close(&mut self) {
        (self.birthplace, self.bell, self.controls) = (None, None, None);
        self.entrances = Vec::new();
    }
}

impl Controls {
    /// Starts a new peak and lifts the CPU quota.
    fn refresh(&self) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        if let Some(file) = &self.memory_kills {
            let mut text = [0; 256];
            let count = file.read_at(&mut text, 0)?;
            if key(&String::from_utf8_lossy(&text[..count]), "oom_kill") > 0 {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
        if let Some(file) = &self.memory_peak {
            file.write_all_at(b"0", 0)?;
        }
        if let Some(file) = &self.cpu_quota {
            file.write_all_at(b"-1", 0)?;
        }
        Ok(())
    }
}

impl ControlGroups {
    /// Takes a corner named `session` on every hierarchy that lets us. Never fails: what is refused is
    /// simply not offered, and the reasons come back for the abilities report.
    pub fn open(hierarchies: &Hierarchies, session: &str) -> (ControlGroups, Vec<String>) {
        let mut refusals = Vec::new();
        let mut unified = None;
        let mut limits: Option<Box<dyn Limits>> = None;
        let mut two = None;
        if let Some(parents) = &hierarchies.unified {
            match VersionTwo::open(parents, session) {
                Ok(version) => {
                    if let Some(crowded) = version.crowded() {
                        refusals.push(format!("{} {CROWDED}", crowded.display()));
                    }
                    unified = Some(version.folder().to_path_buf());
                    two = Some(version);
                }
                Err(error) => refusals.push(format!("control groups version 2: {error}")),
            }
        }
        match VersionOne::open(&hierarchies.version_one, session, unified.is_none()) {
            Ok(Some(one)) => limits = Some(Box::new(one)),
            Ok(None) => {}
            Err(error) => refusals.push(format!("control groups version 1: {error}")),
        }
        let freezer = match (&unified, &limits) {
            (Some(folder), _) => Freezer::Unified(folder.clone()),
            (None, Some(_)) => VersionOne::freezer_folder(&hierarchies.version_one, session)
                .map_or(Freezer::Signal, Freezer::VersionOne),
            (None, None) => Freezer::Signal,
        };
        // A version 2 tree with controllers serves alone; without, it only freezes and version 1 limits.
        if let Some(version) = two
            && limits.as_ref().is_none_or(|limits| limits.offered() == Offered::default())
        {
            limits = Some(Box::new(version));
        }
        (ControlGroups { limits, unified, freezer }, refusals)
    }

    /// No groups at all.
    pub fn none() -> ControlGroups {
        ControlGroups { limits: None, unified: None, freezer: Freezer::Signal }
    }

    pub fn offered(&self) -> Offered {
        self.limits.as_ref().map_or(Offered::default(), |limits| limits.offered())
    }

    pub fn limits(&self) -> Option<&dyn Limits> {
        self.limits.as_deref()
    }

    pub fn freezer(&self) -> &Freezer {
        &self.freezer
    }

    /// Every folder the platform owns, children not included.
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders = self.limits.as_ref().map_or_else(Vec::new, |limits| limits.folders());
        if let Some(unified) = &self.unified
            && !folders.contains(unified)
        {
            folders.push(unified.clone());
        }
        folders
    }

    /// To be called by the platform itself at its very end, when the folders are gone.
    pub fn leave(&self) {
        if let Some(limits) = &self.limits {
            limits.leave();
        }
    }

    /// Makes a group for at most `processes_max` processes and threads, and opens what joins it. `None` where the host gives no groups.
    pub fn create(&self, name: &str, processes_max: u32) -> io::Result<Option<Group>> {
        let Some(limits) = &self.limits else {
            return Ok(None);
        };
        let made = || -> io::Result<Group> {
            limits.create(name)?;
            if let Some(unified) = &self.unified {
                make_folder(&unified.join(name))?;
            }
            if limits.offered().processes {
                limits.set_processes(name, processes_max)?;
            }
            if limits.offered().cpu {
                limits.set_cpu(name, None)?;
            }
            self.open_group(limits.as_ref(), name)
        };
        made().map(Some).inspect_err(|_| drop(self.remove(name)))
    }

    fn open_group(&self, limits: &dyn Limits, name: &str) -> io::Result<Group> {
        let birthplace = self.unified.as_ref().map(|unified| open_folder(&unified.join(name))).transpose()?;
        let entrances = limits.entrances(name)?;
        let bell = limits.memory_bell(name)?;
        let controls = limits.controls(name)?;
        Ok(Group { name: name.to_owned(), birthplace, entrances, bell, controls, memory_bytes: 0 })
    }

    /// Makes the group of a dead environment as good as new, for the same version: a tenth of the cost of
    /// removing it and making another. Page cache of the version's own files may stay in it.
    ///
    /// # Errors
    /// When it cannot be: the kernel killed in it, which is counted for ever, or its peak cannot be reset.
    pub fn refresh(&self, group: &Group) -> io::Result<()> {
        group.controls.as_ref().ok_or(io::ErrorKind::Unsupported)?.refresh()?;
        match &group.birthplace {
            Some(folder) => {
                use rustix::fs::{Mode, OFlags};
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let freeze = rustix::fs::openat(folder, "cgroup.freeze", flags, Mode::empty())?;
                rustix::io::write(freeze, b"0")?;
            }
            None => drop(self.freezer.thaw(&group.name)?),
        }
        Ok(())
    }

    /// Kills every process of the group, frozen or not. The group is of no use afterwards: on some kernels
    /// whoever is born into it later dies at once (measured).
    pub fn kill(&self, group: &str) {
        let by_kernel = self
            .unified
            .as_ref()
            .is_some_and(|unified| write(&unified.join(group), "cgroup.kill", "1").is_ok());
        if by_kernel {
            return;
        }
        let pids = self.limits.as_ref().and_then(|limits| limits.processes(group).ok()).unwrap_or_default();
        for pid in pids.into_iter().filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Removes a group whose processes are gone.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        if let Some(unified) = &self.unified {
            remove_folder(&unified.join(name))?;
        }
        self.limits.as_ref().map_or(Ok(()), |limits| limits.remove(name))
    }

    /// Removes every folder the platform owns, with all below: see [`clear_folder`].
    pub fn clear(&self, until: Instant) -> io::Result<()> {
        let mut cleared = Ok(());
        for folder in self.folders() {
            cleared = clear_folder(&folder, until).and(cleared);
        }
        cleared
    }
}

/// Kills what is left in a folder of groups (version 2) and removes it with everything below. Groups whose processes are
/// still dying are waited for `until` then, and hold up no others.
pub(crate) fn clear_folder(folder: &Path, until: Instant) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Present on version 2 alone; a group that is empty does not mind.
    drop(write(folder, "cgroup.kill", "1"));
    let mut cleared = Ok(());
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            cleared = clear_folder(&entry.path(), until).and(cleared);
        }
    }
    cleared.and_then(|()| remove_folder_until(folder, until))
}

/// How long removing a group is tried again while its last process is being reaped.
pub(crate) const REAPING: Duration = Duration::from_millis(50);

fn remove_folder(folder: &Path) -> io::Result<()> {
    remove_folder_until(folder, Instant::now() + REAPING)
}

fn remove_folder_until(folder: &Path, until: Instant) -> io::Result<()> {
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Writes one value into an existing control file. `fs::write` would create a missing one on a fake tree.
fn write(folder: &Path, file: &str, value: impl AsRef<str>) -> io::Result<()> {
    write_to(&folder.join(file), value)
}

fn write_to(file: &Path, value: impl AsRef<str>) -> io::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all(value.as_ref().as_bytes())
}

/// Longest text of the kernel's that is read; the files concerned hold 2 KiB at most.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// Reads a file of `/proc` or of a control group at once: the standard library, not told the size, starts with 32
/// bytes, and the kernel makes some of these texts anew for each read.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut buffer = [0; TEXT_BYTES_MAX];
    let mut file = fs::File::open(path)?;
    let mut count = 0;
    loop {
        match file.read(&mut buffer[count..])? {
            0 => return Ok(String::from_utf8_lossy(&buffer[..count]).into_owned()),
            more => count += more,
        }
    }
}

fn read_number(folder: &Path, file: &str) -> io::Result<u64> {
    let text = read_text(&folder.join(file))?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {text:?}")))
}

/// The number after `key` in a file of `key number` lines; 0 when it is not there.
fn read_key(folder: &Path, file: &str, name: &str) -> io::Result<u64> {
    Ok(key(&read_text(&folder.join(file))?, name))
}

fn key(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Whether what a group has now, and `more`, reaches its limit; never where it has none.
fn is_full(folder: &Path, now: &str, more: u64, limit: &str) -> io::Result<bool> {
    let limit = read_text(&folder.join(limit))?;
    let now = read_number(folder, now)?.saturating_add(more);
    Ok(limit.trim().parse().is_ok_and(|limit: u64| now >= limit))
}

fn read_pids(folder: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(folder.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_follows_memory_and_never_passes_under_the_kernels_floor() {
        assert_eq!(cpu_quota_us(1769), CPU_PERIOD_US);
        assert_eq!(cpu_quota_us(128), 1_447);
        assert_eq!(cpu_quota_us(10_240), 115_771);
        assert_eq!(cpu_quota_us(1), CPU_QUOTA_MIN_US);
    }

    #[test]
    fn a_group_that_cannot_go_holds_up_none_beside_it() {
        let top = std::env::temp_dir().join(format!("sandbox-clear-{}", std::process::id()));
        for name in ["e1", "e2", "e3", "e4"] {
            fs::create_dir_all(top.join(name).join("below")).unwrap();
        }
        // A file cannot be in a real group's folder; here it stands for a process that keeps the group.
        fs::write(top.join("e2/process"), "").unwrap();
        assert!(clear_folder(&top, Instant::now()).is_err());
        let left: Vec<_> = fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["e2"]);
        fs::remove_dir_all(top).unwrap();
    }
}
