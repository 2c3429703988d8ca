//! Tries everything that an environment needs before the first one is asked for, and writes down what holds.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use netdev::device::Kind;
use netdev::tun;

use super::house::{House, Settings, Unfit, fill_in_stock, step};
use super::starter::Starter;
use crate::ability::{Abilities, AbilityState, PAIRS};
use crate::cgroup::{self, Freezer};
use crate::child::{STATUS_BYTES, Status};
use crate::landlock;
use crate::root::image;
use crate::shortage::Shortage;
use crate::spec::{Isolation, Spec};
use crate::users::Shared;

/// Descriptors of the platform that one environment holds, with the caller's connection; the jailer has six, and nine more
/// for each of the first 256.
const DESCRIPTORS_PER_ENVIRONMENT: u64 = 8;
const OPEN_FILES_COMFORTABLE: u64 = 10_000;
const TRIAL_MEMORY_MB: u32 = 128;
const TRIAL_TMP_MB: u32 = 512;

const CURE_DELEGATE: &str =
    "start with: systemd-run --user --scope -p Delegate=yes onrush up (or run as root)";
/// Of a user whose service manager does not run, as after `su`: the scope is then entered at the next start.
const CURE_LINGER: &str = "sudo loginctl enable-linger $USER, then start again (or run as root)";
/// Of a scope that has groups, but not every controller: older service managers hand users memory and pids alone.
const CURE_CONTROLLERS: &str = "sudo sh -c 'd=/etc/systemd/system/user@.service.d; mkdir -p $d && \
                                printf \"[Service]\\nDelegate=yes\\n\" > $d/delegate.conf && systemctl daemon-reload', \
                                then log in again (or run as root)";
const CURE_CROWDED: &str = "move them: cd /sys/fs/cgroup && mkdir -p init && \
                            for pid in $(cat cgroup.procs); do echo $pid > init/cgroup.procs; done";
const CURE_MOUNT: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup (in a container: --cgroupns=private --privileged; \
                          for a chroot, from outside: mount --rbind /sys FOLDER/sys)";
const CURE_ROOT: &str = "run as root";
/// Of root of a user namespace, as in a container without root.
const CURE_ROOT_OF_ALL: &str = "run as root of the host, outside of this user namespace";
/// Of what was not asked for.
pub(super) const CURE_WALLS: &str = "run without --isolation process";

/// Fills the stock, tries one environment, and reports.
///
/// # Errors
/// When environments with walls cannot be made here at all.
pub(super) fn run(house: &House, settings: &Settings, stage: &Path) -> Result<Abilities, Unfit> {
    let mut abilities = Abilities::default();
    if house.isolation == Isolation::Process {
        // No networks and no file systems are made then.
        let folder = settings.state_dir.join("plain");
        step("make a folder", fs::create_dir_all(&folder))?;
        fill_in_stock(house, settings, &folder)?;
        try_process(house, settings)?;
        no_walls(house, &mut abilities);
    } else {
        let loop_refusal = fill_in_stock(house, settings, stage)?;
        if settings.interfaces {
            interfaces(house, &mut abilities);
        }
        try_walls(house, settings)?;
        walls(house, &mut abilities, loop_refusal);
        overlay(stage, &mut abilities);
    }
    groups(house, settings, &mut abilities);
    open_files(settings.open_files, &mut abilities);
    kernel_limits(&settings.low_limits, &mut abilities);
    Ok(abilities)
}

fn try_walls(house: &House, settings: &Settings) -> Result<(), Unfit> {
    match try_once(house, settings) {
        Err(unfit) if !house.groups.folders().is_empty() => {
            // Groups that can be made but not entered, as in a folder chowned but not delegated.
            house.groups_usable.store(false, Ordering::Relaxed);
            try_once(house, settings).map_err(|_| unfit)
        }
        result => result,
    }
}

fn try_process(house: &House, settings: &Settings) -> Result<(), Unfit> {
    try_walls(house, settings)
}

fn try_once(house: &House, settings: &Settings) -> Result<(), Unfit> {
    let task = settings.state_dir.join("trial");
    step("make a folder", fs::create_dir_all(&task))?;
    step("make a folder", fs::set_permissions(&task, fs::Permissions::from_mode(0o755)))?;
    let walls = house.isolation == Isolation::Namespaces;
    let spec = Spec {
        hostname: "trial".into(),
        version_key: u64::MAX,
        image: Vec::new(),
        task,
        opt: None,
        binds: Vec::new(),
        program: Vec::new(),
        environment: Vec::new(),
        working_directory: if walls { "/var/task" } else { "/" }.into(),
        memory_mb: TRIAL_MEMORY_MB,
        tmp_mb: TRIAL_TMP_MB,
        dual_stack: false,
        companions: Default::default(),
    };
    let (starter, spec) = (Starter::new(house, 0), Arc::new(spec));
    hear(&starter.try_out(&spec)?.status)?;
    if house.blanks.is_usable() && starter.try_blank(&spec).and_then(|status| hear(&status)).is_err() {
        house.blanks.give_up();
    }
    Ok(())
}

/// Hears that a trial went well.
fn hear(status: &OwnedFd) -> Result<(), Unfit> {
    let mut bytes = [0; STATUS_BYTES];
    let read = step("read the trial's status", rustix::io::read(status, &mut bytes))?;
    let unfit =
        |words: &str, errno| Unfit { doing: words.to_owned(), error: io::Error::from_raw_os_error(errno) };
    match Status::from_bytes(bytes).filter(|_| read == STATUS_BYTES) {
        Some(Status::Exited { code: 0 }) => Ok(()),
        Some(Status::Failed { step, errno }) => Err(unfit(step.words(), errno)),
        _ => Err(unfit("hear from the trial", libc::EIO)),
    }
}

fn walls(house: &House, abilities: &mut Abilities, loop_refusal: Option<String>) {
    abilities.enforce("user-namespaces", "each environment has its own");
    abilities.enforce("mount-namespace", "each environment has its own read-only root");
    abilities.enforce("pid-namespace", "each environment sees its own processes; all end with the platform");
    abilities.enforce("network-namespace", "each environment has its own");
    abilities.enforce("proc", "each environment has its own /proc");
    abilities.enforce("seccomp", format!("{} instructions, tried", house.filter.len()));
    match landlock::version() {
        0 => {
            let detail = "the read-only root alone keeps files from being written";
            let cure = "boot a kernel from 5.19 on with landlock among its lsm=";
            abilities.add("landlock", AbilityState::Loose, detail, Some(cure));
        }
        version => {
            let detail = format!("version {version}: nothing but /tmp, /dev and /proc may be written");
            abilities.enforce("landlock", detail);
        }
    }
    if house.privileged {
        users(house, abilities);
    } else {
        let detail = "environments share one host user id, each in a user namespace of its own";
        abilities.add("uid-per-environment", AbilityState::Loose, detail, Some(cure_root(house)));
    }
    match loop_refusal {
        None => abilities.enforce("tmp-size", "ext4 on a loop device, not counted as memory"),
        Some(reason) => {
            let cure = match reason.as_str() {
                reason if reason.contains("mkfs") => "apt-get install e2fsprogs",
                // Root, and the devices are not there or all taken.
                _ if house.privileged => "modprobe loop (in a container: --device /dev/loop-control)",
                _ => cure_root(house),
            };
            let detail =
                format!("tmpfs, counted as memory: the memory limit is raised by its size ({reason})");
            abilities.add("tmp-size", AbilityState::Loose, detail, Some(cure));
        }
    }
}

fn overlay(stage: &Path, abilities: &mut Abilities) {
    match image::try_overlay(stage) {
        Ok(()) => abilities.enforce("image-overlay", "layers of container images are shared by overlays"),
        Err(error) => {
            let detail = format!("layers of container images are linked into one folder per image ({error})");
            let cure = "load the overlay file system (modprobe overlay), on a kernel from 5.11 on";
            abilities.add("image-overlay", AbilityState::Loose, detail, Some(cure));
        }
    }
}

/// Before any network is made.
fn interfaces(house: &House, abilities: &mut Abilities) {
    match house.stock().offer_interfaces() {
        Ok(Kind::Tun) => abilities.enforce("network-interface", "each environment has eth0, a TUN device"),
        Ok(Kind::Pair) => abilities.enforce("network-interface", PAIRS),
        Err(error) => {
            let refusal = tun::refusal();
            let cure = match refusal.as_ref().unwrap_or(&error).kind() {
                io::ErrorKind::NotFound => "modprobe tun (in a container: --device /dev/net/tun)",
                _ if house.privileged => "allow /dev/net/tun (in a container: --device /dev/net/tun)",
                _ => "run as root, or: chmod 666 /dev/net/tun",
            };
            let refused =
                refusal.map(|refusal| format!("no TUN device ({refusal}), no ")).unwrap_or_default();
            let detail = format!("environments have loopback alone: {refused}device ({error})");
            abilities.add("network-interface", AbilityState::Missing, detail, Some(cure));
        }
    }
}

fn no_walls(house: &House, abilities: &mut Abilities) {
    for name in [
        "user-namespaces",
        "mount-namespace",
        "pid-namespace",
        "network-namespace",
        "network-interface",
        "proc",
        "landlock",
        "tmp-size",
        "image-overlay",
    ] {
        abilities.add(name, AbilityState::Missing, "functions run as plain processes", Some(CURE_WALLS));
    }
    abilities.enforce("seccomp", "tried");
    if house.privileged {
        users(house, abilities);
    } else {
        let detail = "functions run as the platform's own user and can read all it can";
        abilities.add("uid-per-environment", AbilityState::Missing, detail, Some(cure_root(house)));
    }
}

fn users(house: &House, abilities: &mut Abilities) {
    match house.stock().users_shared() {
        None => abilities.enforce("uid-per-environment", "each environment has a host user id of its own"),
        Some(Shared { why, cure }) => {
            let detail = format!(
                "each environment has a host user id that another platform's may have too, with what is counted per \
                 user ({why})"
            );
            abilities.add("uid-per-environment", AbilityState::Loose, detail, Some(cure));
        }
    }
}

fn groups(house: &House, settings: &Settings, abilities: &mut Abilities) {
    let usable = house.groups_usable.load(Ordering::Relaxed);
    let offered = if usable { house.groups.offered() } else { cgroup::Offered::default() };
    let refusals = settings.group_refusals.join("; ");
    let unhidden = settings.hidden_in.as_ref().map(|name| {
        format!("start with: nsenter --net=/run/netns/{name} onrush up (in place of ip netns exec {name})")
    });
    let cure = Some(match (&unhidden, house.privileged) {
        (Some(cure), _) => cure,
        _ if refusals.contains(cgroup::CROWDED) => CURE_CROWDED,
        (None, true) => CURE_MOUNT,
        (None, false) => cure_of_user(house, usable && house.groups.limits().is_some()),
    });
    // Said once, not with each limit that they would hold.
    let has_groups = usable && house.groups.limits().is_some();
    let reason = match has_groups {
        true if refusals.contains(cgroup::CROWDED) => format!(" ({refusals})"),
        true => " (no such controller)".into(),
        false => String::new(),
    };
    if has_groups {
        abilities.enforce("control-groups", "environments have groups of their own");
    } else {
        let why = if refusals.is_empty() { "groups cannot be entered" } else { &refusals };
        abilities.add("control-groups", AbilityState::Missing, why, cure);
    }
    if !offered.memory {
        let detail = format!("only RLIMIT_DATA holds, MemorySize + 512 MiB per process{reason}");
        abilities.add("memory-limit", AbilityState::Loose, detail, cure);
    } else if house.isolation == Isolation::Namespaces && house.stock().tmp_counts_as_memory() {
        let detail = "control group; raised by the size of /tmp, which is memory here";
        let cure = (!house.privileged).then(|| cure_root(house));
        abilities.add("memory-limit", AbilityState::Loose, detail, cure);
    } else {
        abilities.enforce("memory-limit", "control group, swap included");
    }
    if offered.cpu {
        abilities.enforce("cpu-quota", "control group, MemorySize / 1769 of a core per 20 ms");
    } else {
        let detail = format!("functions run at full speed{reason}");
        abilities.add("cpu-quota", AbilityState::Missing, detail, cure);
    }
    if offered.processes {
        abilities.enforce("pids-limit", "control group, 1,024 processes and threads");
    } else {
        let detail = format!("only RLIMIT_NPROC holds{reason}");
        abilities.add("pids-limit", AbilityState::Loose, detail, cure);
    }
    match house.groups.freezer() {
        Freezer::Unified(_) if usable => abilities.enforce("freezer", "control group version 2"),
        Freezer::VersionOne(_) if usable => abilities.enforce("freezer", "control group version 1"),
        _ => {
            let detail = format!("SIGSTOP, which a program can undo{reason}");
            abilities.add("freezer", AbilityState::Loose, detail, cure);
        }
    }
}

/// What those do who are not root of all.
fn cure_root(house: &House) -> &'static str {
    if house.owner == 0 { CURE_ROOT_OF_ALL } else { CURE_ROOT }
}

/// What an ordinary user can do about groups, which depends on whether a service manager could hand some over: it can where
/// the host runs systemd on control groups version 2.
fn cure_of_user(house: &House, has_groups: bool) -> &'static str {
    let is_there = |path: &str| Path::new(path).exists();
    let has_manager = || is_there(&format!("/run/user/{}/systemd", house.owner));
    match is_there("/run/systemd/system") && is_there("/sys/fs/cgroup/cgroup.controllers") {
        false => cure_root(house),
        true if has_groups => CURE_CONTROLLERS,
        true if !has_manager() => CURE_LINGER,
        true => CURE_DELEGATE,
    }
}

fn open_files(limit: u64, abilities: &mut Abilities) {
    let detail = format!("{limit} descriptors, about {} environments", limit / DESCRIPTORS_PER_ENVIRONMENT);
    if limit >= OPEN_FILES_COMFORTABLE {
        abilities.enforce("open-files", detail);
    } else {
        abilities.add("open-files", AbilityState::Loose, detail, Some("ulimit -n 1048576 (or LimitNOFILE=)"));
    }
}

fn kernel_limits(low: &[Shortage], abilities: &mut Abilities) {
    if low.is_empty() {
        return abilities
            .enforce("kernel-limits", "namespaces, threads and process ids for 1,000 environments");
    }
    let join = |texts: Vec<String>, between: &str| texts.join(between);
    let detail = join(low.iter().map(|shortage| shortage.what.clone()).collect(), ", ");
    let cure = join(low.iter().map(|shortage| shortage.cure.clone()).collect(), " && ");
    abilities.add("kernel-limits", AbilityState::Loose, detail, Some(&cure));
}
