//! Which of the host's own limits a refused call ran into, and the command that raises it.
//!
//! The kernel says `ENOSPC` or `EAGAIN` for a dozen limits. Which one it was follows from what was being done and from
//! the values in `/proc/sys`; where several could be meant, the one with the least room is named.

use std::io;
use std::path::{Path, PathBuf};

/// A host that runs a thousand environments, Lambda's default concurrency, has at least this many of each kind of
/// namespace, and three times as many threads.
const ENVIRONMENTS_COMFORTABLE: u64 = 1_024;
const THREADS_COMFORTABLE: u64 = 4 * ENVIRONMENTS_COMFORTABLE;
const PROCESS_IDS_COMFORTABLE: u64 = 32_768;

/// Kinds of namespaces as `/proc/sys/user/max_KIND_namespaces` names them. One per environment each.
const KINDS: [&str; 7] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];

/// Reads a file of the host; tests hand in their own.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One limit that was found too low.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// `user.max_net_namespaces is 3`.
    pub what: String,
    /// The command that raises it.
    pub cure: String,
}

/// What to add to an error's text: the limit and its cure, or nothing.
pub(crate) fn hint(doing: &str, error: &io::Error) -> String {
    explain(doing, error, &read).map_or_else(String::new, |found| format!("; {}: {}", found.what, found.cure))
}

/// As [`hint`], for a host on which nothing can be started: falls back on the usual reasons.
pub(crate) fn hint_or(doing: &str, error: &io::Error, usual: &str) -> String {
    explain(doing, error, &read)
        .map_or_else(|| usual.to_owned(), |found| format!("{}: {}", found.what, found.cure))
}

/// What was run into, if that can be told.
pub(crate) fn found(doing: &str, error: &io::Error) -> Option<Shortage> {
    explain(doing, error, &read)
}

/// Every limit that is too low for a thousand environments, whose groups are made in these folders.
pub(crate) fn low_limits(groups: &[PathBuf]) -> Vec<Shortage> {
    low(&read, groups)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(read: Read<'_>, path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn setting(name: &str, value: u64, enough: u64) -> Shortage {
    Shortage { what: format!("{name} is {value}"), cure: format!("sysctl -w {name}={enough}") }
}

fn namespaces(read: Read<'_>, kind: &str) -> Option<(String, u64)> {
    let value = number(read, &format!("/proc/sys/user/max_{kind}_namespaces"))?;
    Some((format!("user.max_{kind}_namespaces"), value))
}

fn low(read: Read<'_>, groups: &[PathBuf]) -> Vec<Shortage> {
    let mut found: Vec<_> = KINDS
        .iter()
        .filter_map(|kind| namespaces(read, kind))
        .filter(|(_, value)| *value < ENVIRONMENTS_COMFORTABLE)
        .map(|(name, value)| setting(&name, value, 15_000))
        .collect();
    for (name, path, enough) in [
        ("kernel.threads-max", "/proc/sys/kernel/threads-max", THREADS_COMFORTABLE),
        ("kernel.pid_max", "/proc/sys/kernel/pid_max", PROCESS_IDS_COMFORTABLE),
    ] {
        if let Some(value) = number(read, path).filter(|value| *value < enough) {
            found.push(setting(name, value, 4 * enough));
        }
    }
    // Environments in groups elsewhere, as root's at the top, are not counted in ours.
    let counts = |group: &ProcessGroup| {
        let above = Path::new(&group.file).parent().unwrap_or(Path::new("/"));
        groups.is_empty() || groups.iter().any(|folder| folder.starts_with(above))
    };
    if let Some(group) = process_group(read).filter(|it| it.limit < THREADS_COMFORTABLE && counts(it)) {
        found.push(group.shortage());
    }
    found
}

/// A control group above us that limits processes.
struct ProcessGroup {
    file: String,
    limit: u64,
}

impl ProcessGroup {
    fn shortage(&self) -> Shortage {
        let ProcessGroup { file, limit } = self;
        Shortage {
            what: format!("the control group we were started in, or one above it, allows {limit} processes"),
            cure: format!("echo max > {file} (with systemd: TasksMax=infinity)"),
        }
    }
}

fn process_group(read: Read<'_>) -> Option<ProcessGroup> {
    let membership = read("/proc/self/cgroup")?;
    let of = |line: &str| -> Option<Vec<String>> {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let top = match controllers {
            "" => "/sys/fs/cgroup",
            list if list.split(',').any(|controller| controller == "pids") => "/sys/fs/cgroup/pids",
            _ => return None,
        };
        // Each group above limits, too: of an ordinary user, systemd's slice.
        let file = |path: &Path| format!("{top}{}/pids.max", path.to_string_lossy().trim_end_matches('/'));
        Some(Path::new(path).ancestors().map(file).collect())
    };
    let groups = membership.lines().filter_map(of).flatten();
    groups
        .filter_map(|file| Some(ProcessGroup { limit: number(read, &file)?, file }))
        .min_by_key(|group| group.limit)
}

fn explain(doing: &str, error: &io::Error, read: Read<'_>) -> Option<Shortage> {
    match error.raw_os_error()? {
        libc::ENOSPC if doing == "make /tmp" => Some(Shortage {
            what: "the disk with the data folder is full, or no loop device is free".into(),
            cure: "df . && losetup -a tell which".into(),
        }),
        libc::EADDRNOTAVAIL if doing.contains("network") => Some(Shortage {
            what: "16,320 networks exist, and each has addresses of its own".into(),
            cure: "wait until some environments have ended".into(),
        }),
        libc::ENOSPC | libc::EUSERS => no_namespace(doing, read),
        libc::EAGAIN
            if doing.contains("process") || doing.contains("cloner") || doing.contains("program") =>
        {
            no_process(read)
        }
        libc::EMFILE => Some(Shortage {
            what: "the limit of open files is reached".into(),
            cure: "ulimit -n 1048576 (or LimitNOFILE=) before the start".into(),
        }),
        libc::ENOENT if doing == "hide the command line" => Some(Shortage {
            what: "there is no /proc here, as in a chroot".into(),
            cure: "mount -t proc proc /proc".into(),
        }),
        libc::ENFILE => {
            let value = number(read, "/proc/sys/fs/file-max")?;
            Some(setting("fs.file-max", value, 1_048_576))
        }
        libc::EPERM | libc::EACCES if doing.contains("namespace") || doing.contains("process") => {
            denied(read)
        }
        _ => None,
    }
}

fn no_namespace(doing: &str, read: Read<'_>) -> Option<Shortage> {
    let kinds: &[&str] = if doing.contains("network namespace") {
        &["net"]
    } else if doing.contains("control group namespace") {
        &["cgroup"]
    } else if doing.contains("mount namespace") {
        &["mnt"]
    } else if doing.contains("pid namespace for the jailer") {
        &["user", "pid", "mnt"]
    } else if doing.contains("process") {
        &["user", "pid", "mnt", "ipc", "uts"]
    } else if ["mount", "root", "bind", "/tmp"].iter().any(|word| doing.contains(word)) {
        return no_mount(read);
    } else if doing.contains("user id") {
        return Some(Shortage {
            what: "65,536 environments exist, and each has a user id of its own".into(),
            cure: "wait until some have ended".into(),
        });
    } else {
        return None;
    };
    let values = kinds.iter().filter_map(|kind| namespaces(read, kind));
    let (name, value) = values.min_by_key(|(_, value)| *value)?;
    Some(setting(&name, value, 15_000))
}

/// A mount that is copied stands in a mount namespace of its own until it is attached: of both limits, the one that is further
/// below what is enough.
fn no_mount(read: Read<'_>) -> Option<Shortage> {
    let mounts =
        number(read, "/proc/sys/fs/mount-max").map(|value| ("fs.mount-max".to_owned(), value, 100_000));
    let namespaces = namespaces(read, "mnt").map(|(name, value)| (name, value, 15_000));
    let scarcer = mounts
        .into_iter()
        .chain(namespaces)
        .min_by_key(|(_, value, enough)| u128::from(*value) * 1_000_000 / u128::from(*enough));
    scarcer.map(|(name, value, enough)| setting(&name, value, enough))
}

fn no_process(read: Read<'_>) -> Option<Shortage> {
    // `0.10 0.05 0.01 2/345 6789`: the total is what the host-wide limits count.
    let threads = read("/proc/loadavg")
        .and_then(|text| text.split_whitespace().nth(3)?.split_once('/')?.1.parse::<u64>().ok())
        .unwrap_or(0);
    let group = process_group(read);
    let own = read("/proc/self/limits").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max processes"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let mut found: Vec<(u64, Shortage)> = Vec::new();
    for name in ["threads-max", "pid_max"] {
        if let Some(value) = number(read, &format!("/proc/sys/kernel/{name}")) {
            let room = value.saturating_sub(threads);
            found.push((room, setting(&format!("kernel.{name}"), value, 4 * PROCESS_IDS_COMFORTABLE)));
        }
    }
    if let Some(group) = group {
        found.push((group.limit, group.shortage()));
    }
    if let Some(value) = own {
        let what = format!("the limit of processes is {value}");
        found.push((
            value,
            Shortage { what, cure: "ulimit -u unlimited (or LimitNPROC=) before the start".into() },
        ));
    }
    found.into_iter().min_by_key(|(room, _)| *room).map(|(_, shortage)| shortage)
}

/// Hosts that keep user namespaces from ordinary users.
fn denied(read: Read<'_>) -> Option<Shortage> {
    // Where no mount is the root, a `chroot` made a folder it.
    let is_root = |line: &str| line.split(' ').nth(4) == Some("/");
    if read("/proc/self/mountinfo").is_some_and(|mounts| !mounts.lines().any(is_root)) {
        return Some(Shortage {
            what: "this is a chroot, in which the kernel makes no user namespaces".into(),
            cure: "run as root there, or outside of it, or without walls: --isolation process".into(),
        });
    }
    [
        ("kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone", 0, 1),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            1,
            0,
        ),
    ]
    .into_iter()
    .find(|(_, path, refuses, _)| number(read, path) == Some(*refuses))
    .map(|(name, _, value, enough)| setting(name, value, enough))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn ask(doing: &str, errno: i32, host: &[(&str, &str)]) -> Option<String> {
        let files: HashMap<_, _> = host.iter().copied().collect();
        let read = |path: &str| files.get(path).map(|text| (*text).to_owned());
        explain(doing, &io::Error::from_raw_os_error(errno), &read)
            .map(|found| format!("{}: {}", found.what, found.cure))
    }

    #[test]
    fn the_namespace_that_ran_out_is_named_with_its_cure() {
        for (doing, kind) in [
            ("make a network namespace", "net"),
            ("make a control group namespace", "cgroup"),
            ("make a small mount namespace", "mnt"),
            ("clone a process", "ipc"),
            ("make a pid namespace for the jailer", "pid"),
        ] {
            let low = format!("/proc/sys/user/max_{kind}_namespaces");
            let mut host: Vec<(String, String)> = KINDS
                .iter()
                .map(|kind| (format!("/proc/sys/user/max_{kind}_namespaces"), "9000\n".into()))
                .collect();
            host.retain(|(path, _)| *path != low);
            host.push((low, "3\n".into()));
            let host: Vec<_> = host.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            let name = format!("user.max_{kind}_namespaces");
            let expected = format!("{name} is 3: sysctl -w {name}=15000");
            assert_eq!(ask(doing, libc::ENOSPC, &host), Some(expected), "{doing}");
        }
    }

    #[test]
    fn ids_and_addresses_that_all_are_taken_are_told() {
        let told = ask("find a free user id", libc::EUSERS, &[]).unwrap();
        assert!(told.starts_with("65,536 environments exist"), "{told}");
        let told = ask("make a network namespace", libc::EADDRNOTAVAIL, &[]).unwrap();
        assert!(told.starts_with("16,320 networks exist"), "{told}");
    }

    #[test]
    fn of_the_limits_of_processes_the_tightest_is_named() {
        let host = [
            ("/proc/loadavg", "0.1 0.1 0.1 2/500 9"),
            ("/proc/sys/kernel/threads-max", "510"),
            ("/proc/sys/kernel/pid_max", "4194304"),
            ("/proc/self/cgroup", "3:pids:/x\n0::/"),
            ("/sys/fs/cgroup/pids/x/pids.max", "max"),
            (
                "/proc/self/limits",
                "Max processes             unlimited            unlimited            processes\n",
            ),
        ];
        let found = ask("clone a process", libc::EAGAIN, &host).unwrap();
        assert!(found.starts_with("kernel.threads-max is 510: sysctl -w"), "{found}");
        let mut grouped = host.to_vec();
        grouped[4].1 = "8";
        let found = ask("clone a process", libc::EAGAIN, &grouped).unwrap();
        assert!(found.contains("allows 8 processes") && found.contains("/pids/x/pids.max"), "{found}");
        let mut own = host.to_vec();
        own[5].1 = "Max processes             5            5            processes\n";
        let found = ask("clone a process", libc::EAGAIN, &own).unwrap();
        assert!(found.starts_with("the limit of processes is 5: ulimit -u"), "{found}");
    }

    #[test]
    fn open_files_mounts_and_denials_are_named() {
        assert!(ask("make a pipe", libc::EMFILE, &[]).unwrap().contains("ulimit -n"));
        let host = [("/proc/sys/fs/mount-max", "10"), ("/proc/sys/user/max_mnt_namespaces", "96365")];
        assert_eq!(
            ask("find a program", libc::ENOSPC, &host),
            None,
            "neither a namespace nor a mount is named in what was done"
        );
        assert!(ask("mount /proc", libc::ENOSPC, &host).unwrap().starts_with("fs.mount-max is 10"));
        let host = [("/proc/sys/fs/mount-max", "100000"), ("/proc/sys/user/max_mnt_namespaces", "12")];
        for doing in ["copy /tmp", "bind /opt", "make the root"] {
            let found = ask(doing, libc::ENOSPC, &host).unwrap();
            assert_eq!(
                found, "user.max_mnt_namespaces is 12: sysctl -w user.max_mnt_namespaces=15000",
                "{doing}"
            );
        }
        let host = [("/proc/sys/kernel/unprivileged_userns_clone", "0")];
        let found = ask("make a pid namespace for the jailer", libc::EPERM, &host).unwrap();
        assert_eq!(
            found,
            "kernel.unprivileged_userns_clone is 0: sysctl -w kernel.unprivileged_userns_clone=1"
        );
        assert_eq!(ask("clone a process", libc::EIO, &host), None);
        assert!(
            ask("hide the command line", libc::ENOENT, &[]).unwrap().ends_with(": mount -t proc proc /proc")
        );
        let mounts = "31 23 8:1 / / rw - ext4 /dev/sda rw\n32 31 0:5 / /proc rw - proc proc rw\n";
        let chroot = [("/proc/self/mountinfo", mounts.split_once('\n').unwrap().1), host[0]];
        let found = ask("make a pid namespace for the jailer", libc::EPERM, &chroot).unwrap();
        assert!(found.starts_with("this is a chroot, ") && found.contains(": run as root there"), "{found}");
        let found =
            ask("clone a process", libc::EPERM, &[("/proc/self/mountinfo", mounts), host[0]]).unwrap();
        assert!(found.starts_with("kernel.unprivileged_userns_clone"), "{found}");
    }

    #[test]
    fn a_slice_above_us_limits_what_is_below_it_alone() {
        // As systemd made them on a real boot: the scope has no limit of its own.
        let host: HashMap<_, _> = [
            (
                "/proc/self/cgroup",
                "0::/user.slice/user-1500.slice/user@1500.service/app.slice/run-r1.scope\n",
            ),
            ("/sys/fs/cgroup/user.slice/user-1500.slice/pids.max", "2359\n"),
            (
                "/sys/fs/cgroup/user.slice/user-1500.slice/user@1500.service/app.slice/run-r1.scope/pids.max",
                "max\n",
            ),
        ]
        .into();
        let read = |path: &str| host.get(path).map(|text| (*text).to_owned());
        let told = |folder: &str| {
            let found = low(&read, &[PathBuf::from("/sys/fs/cgroup").join(folder)]);
            found.into_iter().map(|shortage| shortage.cure).collect::<Vec<_>>()
        };
        let scope = "user.slice/user-1500.slice/user@1500.service/app.slice/run-r1.scope/onrush-7";
        assert!(told(scope)[0].contains("user-1500.slice/pids.max"), "{:?}", told(scope));
        assert_eq!(told("onrush-7"), Vec::<String>::new());
    }

    #[test]
    fn low_limits_are_listed_before_anything_fails() {
        let host: HashMap<_, _> = [
            ("/proc/sys/user/max_net_namespaces", "3"),
            ("/proc/sys/user/max_pid_namespaces", "60000"),
            ("/proc/sys/kernel/threads-max", "100"),
        ]
        .into();
        let read = |path: &str| host.get(path).map(|text| (*text).to_owned());
        let found: Vec<_> = low(&read, &[]).into_iter().map(|shortage| shortage.what).collect();
        assert_eq!(found, ["user.max_net_namespaces is 3", "kernel.threads-max is 100"]);
    }
}
