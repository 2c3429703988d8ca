//! Limits by control groups version 2: one tree, processes born inside their group.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::discover::UnifiedMount;
use super::{
    CPU_PERIOD_US, Controls, Limits, Offered, PROCESS_BYTES, SESSION_WEIGHT, is_full, make_folder, read_key,
    read_number, read_pids, write,
};

/// The session's folder, below which groups are made, and what its children may limit.
pub(super) struct VersionTwo {
    folder: PathBuf,
    offered: Offered,
    /// The leaf we moved ourselves into so that our own group may have children with controllers.
    leaf: Option<PathBuf>,
    /// The folder above holds processes of others and therefore handed nothing down.
    crowded: bool,
}

const WANTED: [&str; 3] = ["memory", "cpu", "pids"];

impl VersionTwo {
    /// Takes a corner. First in our own group when it is ours alone (a delegated scope, a container's first
    /// process): the platform moves to a leaf, since a group with processes may not hand controllers down. Else, as
    /// root, at the top; also when our own group has fewer controllers than the top, as in a service that systemd
    /// runs without `Delegate=yes`.
    ///
    /// # Errors
    /// When neither place lets us make a folder.
    pub fn open(mount: &UnifiedMount, session: &str) -> io::Result<VersionTwo> {
        let inner = mount.own != mount.top || mount.own.join("cgroup.events").exists();
        let ours = rustix::process::getpid().as_raw_nonzero().get();
        let alone = inner && read_pids(&mount.own).is_ok_and(|pids| pids == [ours]);
        let poorer = rustix::process::geteuid().is_root()
            && controllers(&mount.own).len() < controllers(&mount.top).len();
        if alone
            && !poorer
            && let Ok(version) = VersionTwo::delegated(&mount.own, session)
        {
            return Ok(version);
        }
        let crowded = hand_down(&mount.top);
        VersionTwo::below(&mount.top, session, None, crowded)
    }

    fn delegated(own: &Path, session: &str) -> io::Result<VersionTwo> {
        let leaf = own.join(format!("{session}-platform"));
        make_folder(&leaf)?;
        if let Err(error) = write(&leaf, "cgroup.procs", "0") {
            drop(fs::remove_dir(&leaf));
            return Err(error);
        }
        let crowded = hand_down(own);
        let below = VersionTwo::below(own, session, Some(leaf.clone()), crowded);
        if below.is_err() {
            go_back(own, &leaf);
        }
        below
    }

    fn below(parent: &Path, session: &str, leaf: Option<PathBuf>, crowded: bool) -> io::Result<VersionTwo> {
        let folder = parent.join(session);
        make_folder(&folder)?;
        let controllers = controllers(&folder);
        hand_down(&folder);
        let has = |name: &str| controllers.contains(&name);
        if has("cpu") {
            // All environments together would else weigh as much as one other group.
            drop(write(&folder, "cpu.weight", (100 * SESSION_WEIGHT).to_string()));
        }
        let offered = Offered { memory: has("memory"), cpu: has("cpu"), processes: has("pids") };
        Ok(VersionTwo { folder, offered, leaf, crowded })
    }

    /// The session's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The group that handed no controllers down, because it holds processes of others.
    pub fn crowded(&self) -> Option<&Path> {
        self.folder.parent().filter(|_| self.crowded && self.offered == Offered::default())
    }

    fn group(&self, group: &str) -> PathBuf {
        self.folder.join(group)
    }
}

/// Which of the wanted controllers a group has, in the order of [`WANTED`].
fn controllers(folder: &Path) -> Vec<&'static str> {
    let text = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    WANTED.into_iter().filter(|wanted| text.split_whitespace().any(|name| name == *wanted)).collect()
}

/// Hands each wanted controller down to the children; one that is not there is not an error. Answers whether processes
/// in the group stand in the way. Then nothing is handed down: the kernel would refuse `memory` alone, and with the
/// others it makes children that no process may enter (`domain invalid`).
fn hand_down(folder: &Path) -> bool {
    // The host's own top has no events, and may have processes beside children.
    let inner = folder.join("cgroup.events").exists();
    if inner && fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty()) {
        return true;
    }
    for controller in WANTED {
        drop(write(folder, "cgroup.subtree_control", format!("+{controller}")));
    }
    false
}

/// Moves this process from the leaf back to the group in which it was found, and removes the leaf.
fn go_back(own: &Path, leaf: &Path) {
    // A group that hands controllers down takes no process.
    for controller in WANTED {
        drop(write(own, "cgroup.subtree_control", format!("-{controller}")));
    }
    if write(own, "cgroup.procs", "0").is_ok() {
        // Where a process of ours is still on its way out, the next start sweeps it up.
        drop(super::remove_folder(leaf));
    }
}

impl Limits for VersionTwo {
    fn offered(&self) -> Offered {
        self.offered
    }

    fn create(&self, group: &str) -> io::Result<()> {
        let folder = self.group(group);
        make_folder(&folder)?;
        if self.offered.memory {
            // One killed for memory takes the rest of its environment along.
            write(&folder, "memory.oom.group", "1")?;
        }
        Ok(())
    }

    fn remove(&self, group: &str) -> io::Result<()> {
        super::remove_folder(&self.group(group))
    }

    fn set_memory(&self, group: &str, bytes: u64) -> io::Result<()> {
        let folder = self.group(group);
        write(&folder, "memory.max", bytes.to_string())?;
        // Absent where swap accounting is off.
        drop(write(&folder, "memory.swap.max", "0"));
        Ok(())
    }

    fn set_processes(&self, group: &str, count: u32) -> io::Result<()> {
        write(&self.group(group), "pids.max", count.to_string())
    }

    fn set_cpu(&self, group: &str, quota_us: Option<u64>) -> io::Result<()> {
        let quota = quota_us.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        write(&self.group(group), "cpu.max", format!("{quota} {CPU_PERIOD_US}"))
    }

    fn cpu_quota(&self, group: &str, quota_us: u64) -> io::Result<(PathBuf, String)> {
        Ok((self.group(group).join("cpu.max"), format!("{quota_us} {CPU_PERIOD_US}")))
    }

    fn memory_peak(&self, group: &str) -> io::Result<(u64, u64)> {
        let folder = self.group(group);
        let cache = read_key(&folder, "memory.stat", "file")?;
        // The peak came with Linux 5.19; before, what is used now is the best there is.
        let peak = read_number(&folder, "memory.peak").or_else(|_| read_number(&folder, "memory.current"))?;
        Ok((peak, cache))
    }

    fn memory_mark(&self, group: &str) -> io::Result<fs::File> {
        fs::File::open(self.group(group).join("memory.peak"))
    }

    /// A reset of `memory.peak` counts for the descriptor that made it, so nothing is gained here; the
    /// caller's sum over processes is what starts anew.
    fn reset_memory_peak(&self, _group: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn memory_kills(&self, group: &str) -> io::Result<u64> {
        read_key(&self.group(group), "memory.events", "oom_kill")
    }

    /// `oom` counts for the group that has none left, `oom_kill` for the one that a process was taken of.
    fn met_memory_limit(&self, group: &str) -> io::Result<bool> {
        Ok(read_key(&self.group(group), "memory.events", "oom")? > 0)
    }

    /// The peak of version 2 cannot be reset for others.
    fn controls(&self, _: &str) -> io::Result<Option<Controls>> {
        Ok(None)
    }

    fn entrances(&self, _group: &str) -> io::Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }

    fn memory_bell(&self, _group: &str) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }

    fn folders(&self) -> Vec<PathBuf> {
        // Not the leaf: the platform itself is in it.
        vec![self.folder.clone()]
    }

    fn leave(&self) {
        if let (Some(leaf), Some(own)) = (&self.leaf, self.folder.parent()) {
            go_back(own, leaf);
        }
    }

    fn processes(&self, group: &str) -> io::Result<Vec<i32>> {
        read_pids(&self.group(group))
    }

    fn is_crowded(&self, group: &str) -> io::Result<bool> {
        is_full(&self.group(group), "pids.current", 0, "pids.max")
    }

    fn is_out_of_memory(&self, group: &str) -> io::Result<bool> {
        is_full(&self.group(group), "memory.current", PROCESS_BYTES, "memory.max")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str) -> Fake {
            let top = std::env::temp_dir().join(format!("sandbox-v2-{}-{name}", std::process::id()));
            fs::create_dir_all(top.join("own")).unwrap();
            for file in ["cgroup.subtree_control", "own/cgroup.subtree_control", "own/cgroup.procs"] {
                fs::write(top.join(file), "").unwrap();
            }
            Fake(top)
        }

        fn mount(&self) -> UnifiedMount {
            UnifiedMount { top: self.0.clone(), own: self.0.join("own") }
        }

        /// What the kernel would show in a new group with these controllers.
        fn born(&self, folder: &str, controllers: &str) {
            let folder = self.0.join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup.controllers"), controllers).unwrap();
            for file in ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"] {
                fs::write(folder.join(file), "").unwrap();
            }
            for file in ["cgroup.subtree_control", "cgroup.procs"] {
                fs::write(folder.join(file), "").unwrap();
            }
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.0.join(file)).unwrap()
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn limits_land_in_one_group() {
        let fake = Fake::new("limits");
        fake.born("session", "cpu memory pids\n");
        fake.born("session/e1", "cpu memory pids\n");
        let limits = VersionTwo::open(&fake.mount(), "session").unwrap();
        assert_eq!(limits.offered(), Offered { memory: true, cpu: true, processes: true });
        limits.create("e1").unwrap();
        limits.set_memory("e1", 1 << 27).unwrap();
        limits.set_processes("e1", 1_024).unwrap();
        limits.set_cpu("e1", Some(1_447)).unwrap();
        assert_eq!(fake.read("session/e1/memory.max"), "134217728");
        assert_eq!(fake.read("session/e1/memory.oom.group"), "1");
        assert_eq!(fake.read("session/e1/cpu.max"), "1447 20000");
        limits.set_cpu("e1", None).unwrap();
        assert!(fake.read("session/e1/cpu.max").starts_with("max 20000"));
        fs::write(fake.0.join("session/e1/memory.events"), "low 0\noom 2\noom_kill 1\n").unwrap();
        assert_eq!((limits.memory_kills("e1").unwrap(), limits.met_memory_limit("e1").unwrap()), (1, true));
        // Taken by a group around it.
        fs::write(fake.0.join("session/e1/memory.events"), "low 0\noom 0\noom_kill 1\n").unwrap();
        assert_eq!((limits.memory_kills("e1").unwrap(), limits.met_memory_limit("e1").unwrap()), (1, false));
        fs::write(fake.0.join("session/e1/memory.stat"), "anon 5\nfile 40\n").unwrap();
        fs::write(fake.0.join("session/e1/memory.peak"), "100\n").unwrap();
        assert_eq!(limits.memory_peak("e1").unwrap(), (100, 40));
        for (now, limit, is_out) in
            [("1048576", "134217728", false), ("133693440", "134217728", true), ("133693440", "max", false)]
        {
            fs::write(fake.0.join("session/e1/memory.current"), now).unwrap();
            fs::write(fake.0.join("session/e1/memory.max"), limit).unwrap();
            assert_eq!(limits.is_out_of_memory("e1").unwrap(), is_out, "{now} of {limit}");
        }
    }

    #[test]
    fn a_delegated_group_of_our_own_is_preferred_and_we_move_to_a_leaf() {
        let fake = Fake::new("delegated");
        fs::write(fake.0.join("own/cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        fake.born("own/session-platform", "");
        fake.born("own/session", "memory pids");
        let limits = VersionTwo::open(&fake.mount(), "session").unwrap();
        assert_eq!(limits.folder(), fake.0.join("own/session"));
        assert_eq!(fake.read("own/session-platform/cgroup.procs"), "0");
        assert_eq!(limits.offered(), Offered { memory: true, cpu: false, processes: true });
        // Whoever clears the folders must not kill the platform in its leaf.
        assert_eq!(limits.folders(), [fake.0.join("own/session")]);
        fs::write(fake.0.join("own/cgroup.procs"), "").unwrap();
        limits.leave();
        assert_eq!(fake.read("own/cgroup.procs"), "0");
        assert!(fake.read("own/cgroup.subtree_control").starts_with("-pids"));
    }

    #[test]
    fn a_containers_first_process_finds_its_own_group_at_the_top() {
        let fake = Fake::new("container");
        fs::write(fake.0.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        fs::write(fake.0.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        fake.born("session-platform", "");
        fake.born("session", "cpu memory pids\n");
        let mount = UnifiedMount { top: fake.0.clone(), own: fake.0.clone() };
        let limits = VersionTwo::open(&mount, "session").unwrap();
        assert_eq!(fake.read("session-platform/cgroup.procs"), "0");
        assert!(limits.offered().cpu);
    }

    #[test]
    fn a_containers_group_with_other_processes_is_said_to_be_crowded() {
        let fake = Fake::new("crowded");
        fs::write(fake.0.join("cgroup.procs"), format!("1\n{}\n", std::process::id())).unwrap();
        fs::write(fake.0.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        fake.born("session", "");
        let mount = UnifiedMount { top: fake.0.clone(), own: fake.0.clone() };
        let limits = VersionTwo::open(&mount, "session").unwrap();
        assert_eq!(limits.crowded(), Some(fake.0.as_path()));
        assert_eq!(fake.read("cgroup.subtree_control"), "");
        assert_eq!(limits.offered(), Offered::default());
    }

    #[test]
    fn root_leaves_a_service_that_has_fewer_controllers_than_the_top() {
        // As systemd 252 made them for a service without `Delegate=yes`.
        let fake = Fake::new("service");
        fs::write(fake.0.join("own/cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        fs::write(fake.0.join("own/cgroup.controllers"), "memory pids\n").unwrap();
        fs::write(fake.0.join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma misc\n")
            .unwrap();
        fake.born("own/session-platform", "");
        let limits = VersionTwo::open(&fake.mount(), "session").unwrap();
        let root = rustix::process::geteuid().is_root();
        assert_eq!(limits.folder(), fake.0.join(if root { "session" } else { "own/session" }));
    }

    #[test]
    fn a_group_shared_with_others_is_left_alone() {
        let fake = Fake::new("shared");
        fs::write(fake.0.join("own/cgroup.procs"), format!("{}\n1\n", std::process::id())).unwrap();
        let limits = VersionTwo::open(&fake.mount(), "session").unwrap();
        assert_eq!(limits.folder(), fake.0.join("session"));
        assert_eq!(limits.offered(), Offered::default());
    }
}
