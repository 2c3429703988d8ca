//! Makes environments: gathers the parts, clones, writes the identity maps, answers the platform.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::mount::OpenTreeFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use super::house::{Environment, House, Job, Unfit, step, write_maps};
use crate::cgroup::Group;
use crate::child::{self, Plan, Walls};
use crate::network::{self, Network, RUNTIME_API};
use crate::protocol::Reply;
use crate::root::{INSIDE_GROUP, INSIDE_USER};
use crate::socket;
use crate::spec::{Isolation, Spec};
use crate::syscalls::{self, Cloned};
use crate::temporary::Temporary;

/// Processes and threads of one environment (AWS Lambda Developer Guide, "Lambda quotas").
const PROCESSES_MAX: u32 = 1_024;
/// Open files of one process (the same).
const OPEN_FILES_MAX: u64 = 1_024;
/// Stack and locked memory as read with getrlimit in Lambda.
const STACK_BYTES: u64 = 8 << 20;
const LOCKED_BYTES: u64 = 65_536;
/// Not 0: with 1 the kernel neither writes a core file nor starts the host's core collector.
const CORE_BYTES: u64 = 1;
/// What a runtime may map beyond MemorySize where only RLIMIT_DATA limits it: interpreters reserve freely.
const DATA_SLACK_BYTES: u64 = 512 << 20;
/// The host's out-of-memory killer takes environments before the platform.
const OOM_SCORE: &str = "500";
/// For the moment between `vfork` and `execve`.
const STACK_LEN: usize = 64 * 1024;

/// Parts of one environment on their way into it.
struct Parts {
    spec: Arc<Spec>,
    group: Option<Group>,
    network: Option<Network>,
    temporary: Option<Temporary>,
    user: Option<u32>,
}

/// A process that has been made, and what the platform gets of it.
pub(super) struct Born {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub status: OwnedFd,
    listener: OwnedFd,
    output: OwnedFd,
    address: String,
}

/// One thread's tools for making environments.
pub(super) struct Starter<'a> {
    house: &'a House,
    stack: Vec<u8>,
}

impl<'a> Starter<'a> {
    /// Prepares the calling thread: it gets a working directory and root of its own, as entering mount
    /// namespaces demands.
    pub fn new(house: &'a House) -> Starter<'a> {
        if house.mounts.is_some() {
            // Fails never for a flag that takes nothing from others; if it did, the first start would say so.
            drop(syscalls::unshare(libc::CLONE_FS));
        }
        Starter { house, stack: vec![0; STACK_LEN] }
    }

    /// Makes an environment and answers.
    pub fn start(&mut self, id: u64, spec: Arc<Spec>) {
        let _open = self.house.open.read();
        let made = self.gather(spec).and_then(|parts| self.bring_up(id, parts));
        self.answer(id, made);
    }

    /// Starts the program anew in the same network and `/tmp`. The platform has seen its processes end.
    pub fn restart(&mut self, id: u64) {
        let _open = self.house.open.read();
        let made = self.take_apart(id).and_then(|parts| self.bring_up(id, parts));
        self.answer(id, made);
    }

    fn take_apart(&self, id: u64) -> Result<Parts, Unfit> {
        let mut registry = self.house.registry();
        let gone = || Unfit {
            doing: "restart an environment that is gone".into(),
            error: io::Error::from_raw_os_error(libc::ESRCH),
        };
        let mut environment = registry.environments.remove(&id).ok_or_else(gone)?;
        drop(registry);
        if let Some(group) = environment.group.take() {
            drop(self.house.jobs.send(Job::RemoveGroup(group)));
        }
        let mut network = environment.network.take();
        if let Some(network) = &mut network {
            network.silence();
            step("enter the network namespace", network.enter())?;
        }
        let group = self.take_group(environment.spec.version_key)?;
        Ok(Parts {
            spec: environment.spec,
            group,
            network,
            temporary: environment.temporary,
            user: environment.user,
        })
    }

    fn take_group(&self, version_key: u64) -> Result<Option<Group>, Unfit> {
        if !self.house.groups_usable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let group = step("make a control group", self.house.stock().take_group(version_key));
        drop(self.house.jobs.send(Job::Refill));
        group
    }

    fn gather(&self, spec: Arc<Spec>) -> Result<Parts, Unfit> {
        let house = self.house;
        let stock = house.stock();
        let mut parts = Parts { spec, group: None, network: None, temporary: None, user: None };
        let made = (|| {
            if house.privileged {
                let exhausted = || io::Error::from_raw_os_error(libc::EUSERS);
                parts.user = Some(step("find a free user id", stock.take_user().ok_or_else(exhausted))?);
            }
            parts.group = self.take_group(parts.spec.version_key)?;
            if house.isolation == Isolation::Namespaces {
                let (key, size_mb) = (parts.spec.version_key, parts.spec.tmp_mb);
                parts.temporary = Some(step("make /tmp", stock.take_temporary(key, size_mb))?);
                // Last, and without a way back: this thread is inside from here on.
                parts.network = Some(step("make a network namespace", stock.take_network(key))?);
            }
            drop(house.jobs.send(Job::Refill));
            Ok(())
        })();
        match made {
            Ok(()) => Ok(parts),
            Err(unfit) => {
                self.give_back(parts);
                Err(unfit)
            }
        }
    }

    /// What was gathered for a start that failed.
    fn give_back(&self, parts: Parts) {
        let stock = self.house.stock();
        let key = parts.spec.version_key;
        if let Some(user) = parts.user {
            stock.put_user(user);
        }
        if let Some(group) = parts.group {
            drop(self.house.jobs.send(Job::RemoveGroup(group.name)));
        }
        if let Some(temporary) = parts.temporary {
            stock.put_temporary(key, temporary);
        }
        drop(parts.network.and_then(|network| stock.put_network(key, network)));
    }

    fn bring_up(&mut self, id: u64, mut parts: Parts) -> Result<(Born, Option<String>), Unfit> {
        let born = match self.limit(&parts).and_then(|()| self.clone_into(&mut parts)) {
            Ok(born) => born,
            Err(unfit) => {
                self.give_back(parts);
                return Err(unfit);
            }
        };
        let group = parts.group.map(|group| group.name);
        let pidfd = step("copy a pidfd", born.pidfd.try_clone());
        let pidfd = match pidfd {
            Ok(pidfd) => pidfd,
            Err(unfit) => {
                // Without one nobody could end it; its parts are lost to the limit of open files.
                let _ = rustix::process::pidfd_send_signal(&born.pidfd, Signal::KILL);
                return Err(unfit);
            }
        };
        let environment = Environment {
            spec: parts.spec,
            pid: born.pid,
            pidfd,
            dead: false,
            released: false,
            group: group.clone(),
            network: parts.network,
            temporary: parts.temporary,
            user: parts.user,
        };
        let mut registry = self.house.registry();
        registry.environments.insert(id, environment);
        registry.adopt(id, born.pid);
        Ok((born, group))
    }

    fn answer(&self, id: u64, made: Result<(Born, Option<String>), Unfit>) {
        let failed = |unfit: Unfit| Reply::Failed {
            id,
            doing: unfit.doing,
            errno: unfit.error.raw_os_error().unwrap_or(libc::EIO),
        };
        let (born, group) = match made {
            Ok(made) => made,
            Err(unfit) => return self.house.reply(&failed(unfit)),
        };
        let reply = Reply::Started { id, group, address: born.address };
        let descriptors =
            [born.listener.as_fd(), born.output.as_fd(), born.status.as_fd(), born.pidfd.as_fd()];
        if let Err(error) = socket::send(&self.house.socket, &reply.to_bytes(), &descriptors) {
            self.house.release(id);
            self.house.reply(&failed(Unfit { doing: "hand an environment over".into(), error }));
        }
    }

    /// Sets the group's limits. CPU has none until INIT is over.
    fn limit(&self, parts: &Parts) -> Result<(), Unfit> {
        let (Some(limits), Some(group)) = (self.house.groups.limits(), &parts.group) else { return Ok(()) };
        let offered = limits.offered();
        if offered.memory {
            let tmp_mb = if self.tmp_counts_as_memory(parts) { parts.spec.tmp_mb } else { 0 };
            let bytes = (u64::from(parts.spec.memory_mb) + u64::from(tmp_mb)) << 20;
            step("limit memory", limits.set_memory(&group.name, bytes))?;
        }
        if offered.processes {
            // One more for the supervisor, which is ours.
            step("limit processes", limits.set_processes(&group.name, PROCESSES_MAX + 1))?;
        }
        Ok(())
    }

    fn tmp_counts_as_memory(&self, parts: &Parts) -> bool {
        parts.temporary.is_some() && self.house.stock().tmp_counts_as_memory()
    }

    fn resource_limits(&self, parts: &Parts) -> Vec<(u32, u64, u64)> {
        let exact = |resource, limit: u64| (resource, limit, limit);
        let processes = u64::from(PROCESSES_MAX) + 1;
        let mut limits = vec![
            exact(libc::RLIMIT_NOFILE, OPEN_FILES_MAX),
            exact(libc::RLIMIT_MEMLOCK, LOCKED_BYTES),
            exact(libc::RLIMIT_CORE, CORE_BYTES),
            (libc::RLIMIT_STACK, STACK_BYTES, libc::RLIM64_INFINITY),
        ];
        if self.house.isolation == Isolation::Namespaces || self.house.privileged {
            // Counted per user id, which elsewhere is the platform's own.
            limits.push(exact(libc::RLIMIT_NPROC, processes));
        }
        if parts.group.is_none() || !self.house.groups.offered().memory {
            let bytes = (u64::from(parts.spec.memory_mb) << 20) + DATA_SLACK_BYTES;
            limits.push(exact(libc::RLIMIT_DATA, bytes));
        }
        // A host with lower limits of its own keeps them; `open-files` says so.
        let clamped = limits.into_iter().map(|(resource, soft, hard)| {
            let most = syscalls::hard_limit(resource);
            (resource, soft.min(most), hard.min(most))
        });
        clamped.collect()
    }

    fn clone_into(&mut self, parts: &mut Parts) -> Result<Born, Unfit> {
        let house = self.house;
        let (listener, address) = match &mut parts.network {
            Some(network) => (step("listen in the network", network.listen())?, RUNTIME_API.to_string()),
            None => step("listen on loopback", network::listen_on_host())?,
        };
        let spec = match house.isolation {
            Isolation::Namespaces => parts.spec.clone(),
            Isolation::Process => Arc::new(parts.spec.outside(&RUNTIME_API.to_string(), &address)),
        };
        let (ready_read, ready_write) = step("make a pipe", pipe(PipeFlags::CLOEXEC))?;
        let (status_read, status_write) = step("make a pipe", pipe(PipeFlags::CLOEXEC))?;
        let (output_read, output_write) = step("make a pipe", pipe(PipeFlags::CLOEXEC))?;
        // The platform reads without blocking; the program writes as programs do, and waits when it is full.
        step("set up the output pipe", rustix::io::ioctl_fionbio(&output_read, true))?;
        let entrances: Vec<RawFd> =
            parts.group.iter().flat_map(|group| &group.entrances).map(AsRawFd::as_raw_fd).collect();
        let texts = Texts::new(&spec)?;
        let resource_limits = self.resource_limits(parts);
        let mut trees = None;
        if let Some(temporary) = &parts.temporary {
            let mut roots = house.roots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let folder =
                roots.folder(&spec).map_err(|failed| Unfit { doing: failed.doing, error: failed.error })?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let root = step("copy the root", rustix::mount::open_tree(rustix::fs::CWD, &folder, flags))?;
            drop(roots);
            trees = Some((root, step("copy /tmp", temporary.open())?));
        }
        let plan = Plan {
            walls: trees.as_ref().map(|(root, temporary)| Walls {
                root: root.as_raw_fd(),
                temporary: temporary.as_raw_fd(),
                host_name: spec.hostname.as_bytes(),
                in_control_group: parts.group.is_some(),
            }),
            ready: ready_read.as_raw_fd(),
            status: status_write.as_raw_fd(),
            null: house.null.as_raw_fd(),
            output: output_write.as_raw_fd(),
            bell: parts.group.as_ref().and_then(|group| group.bell.as_ref()).map_or(-1, AsRawFd::as_raw_fd),
            entrances: &entrances,
            identity: self.inside_identity(parts.user),
            drop_groups: house.privileged,
            resource_limits: &resource_limits,
            filter: &house.filter,
            working_directory: &texts.working_directory,
            arguments: &texts.arguments,
            environment: &texts.environment,
            stack_top: self.stack_top(),
        };
        let birthplace = parts.group.as_ref().and_then(|group| group.birthplace.as_ref());
        let (pid, pidfd) = step("clone a process", self.clone_process(&plan, birthplace))?;
        let maps = if house.isolation == Isolation::Namespaces {
            let user = parts.user.unwrap_or(0);
            let own = !house.privileged;
            write_maps(&pid.to_string(), INSIDE_USER, user, INSIDE_GROUP, user, own)
        } else {
            Ok(())
        };
        drop(std::fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE));
        if let Err(error) = maps {
            // Closing the pipe without a byte ends the child.
            return Err(Unfit { doing: "write the identity maps".into(), error });
        }
        step("wake the child", rustix::io::write(&ready_write, b"1"))?;
        Ok(Born { pid, pidfd, status: status_read, listener, output: output_read, address })
    }

    /// The identity to take on inside: with a namespace the mapped one, else the host's.
    fn inside_identity(&self, user: Option<u32>) -> Option<(u32, u32)> {
        match self.house.isolation {
            Isolation::Namespaces => Some((INSIDE_USER, INSIDE_GROUP)),
            Isolation::Process => user.map(|user| (user, user)),
        }
    }

    fn stack_top(&mut self) -> *mut libc::c_void {
        let end = self.stack.as_mut_ptr_range().end;
        end.wrapping_sub(end as usize % 16).cast()
    }

    fn clone_process(&self, plan: &Plan<'_>, birthplace: Option<&OwnedFd>) -> io::Result<(i32, OwnedFd)> {
        let house = self.house;
        let mut flags = 0;
        if house.isolation == Isolation::Namespaces {
            // Not NEWNET: this thread is in the environment's network, which it must not own. Not NEWCGROUP:
            // the child makes that one after it has joined its groups.
            flags = libc::CLONE_NEWUSER
                | libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS;
        }
        if let Some(small) = &house.small_mounts {
            syscalls::setns(small.as_fd(), libc::CLONE_NEWNS)?;
        }
        // SAFETY: the child makes raw calls alone, see `child`.
        #[allow(unsafe_code)]
        let cloned = unsafe { syscalls::clone3(flags as u64, birthplace.map(AsFd::as_fd)) };
        if matches!(cloned, Ok(Cloned::Child)) {
            child::run(plan);
        }
        if let Some(mounts) = &house.mounts {
            syscalls::setns(mounts.as_fd(), libc::CLONE_NEWNS)?;
        }
        match cloned? {
            Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
            Cloned::Child => unreachable!("the child never returns"),
        }
    }

    /// Makes an environment without a program, for the trial. Its group's name comes along.
    pub fn try_out(&mut self, spec: Arc<Spec>) -> Result<Born, Unfit> {
        let mut parts = self.gather(spec)?;
        let made = self.limit(&parts).and_then(|()| self.clone_into(&mut parts));
        if let Ok(born) = &made {
            // Its parts are of no further use: wait for its end, then let go of them.
            let mut poll = [rustix::event::PollFd::new(&born.pidfd, rustix::event::PollFlags::IN)];
            while rustix::event::poll(&mut poll, None) == Err(rustix::io::Errno::INTR) {}
            while syscalls::reap().is_some() {}
        }
        if let Some(group) = parts.group.take() {
            drop(self.house.groups.remove(&group.name));
        }
        self.give_back(parts);
        made
    }
}

fn pipe(flags: PipeFlags) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(flags)?)
}

/// The texts of a spec as the kernel takes them. The pointers point into the strings beside them.
struct Texts {
    _strings: Vec<CString>,
    working_directory: CString,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
}

impl Texts {
    fn new(spec: &Spec) -> Result<Texts, Unfit> {
        let text =
            |text: String| step("pass a text with a NUL byte", CString::new(text).map_err(io::Error::from));
        let mut strings = Vec::with_capacity(spec.program.len() + spec.environment.len());
        for argument in &spec.program {
            strings.push(text(argument.clone())?);
        }
        for (name, value) in &spec.environment {
            strings.push(text(format!("{name}={value}"))?);
        }
        let mut arguments: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        let mut environment = arguments.split_off(spec.program.len());
        arguments.push(std::ptr::null());
        environment.push(std::ptr::null());
        let working_directory = text(spec.working_directory.clone())?;
        Ok(Texts { _strings: strings, working_directory, arguments, environment })
    }
}
