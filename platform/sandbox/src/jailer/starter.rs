//! Makes environments: gathers the parts, has a process cloned into them, answers the platform.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::pipe::PipeFlags;

use super::blanks::{self, Blank};
use super::cloner::{Cloner, Descriptors, Maps, Order};
use super::house::{Environment, House, Job, Unfit, step};
use crate::cgroup::Group;
use crate::network::{self, Network, RUNTIME_API};
use crate::protocol::Reply;
use crate::root::{INSIDE_GROUP, INSIDE_USER};
use crate::socket;
use crate::spec::{Isolation, Spec};
use crate::stock::{BLANK, PROCESSES_MAX, User};
use crate::syscalls;
use crate::temporary::Temporary;

/// Open files of one process (the same).
const OPEN_FILES_MAX: u64 = 1_024;
/// Stack and locked memory as read with getrlimit in Lambda.
const STACK_BYTES: u64 = 8 << 20;
const LOCKED_BYTES: u64 = 65_536;
/// Not 0: with 1 the kernel neither writes a core file nor starts the host's core collector.
const CORE_BYTES: u64 = 1;
/// What a runtime may map beyond MemorySize where only RLIMIT_DATA limits it: interpreters reserve freely.
const DATA_SLACK_BYTES: u64 = 512 << 20;

/// Parts of one environment on their way into it.
pub(super) struct Parts {
    pub group: Option<Group>,
    pub network: Option<Network>,
    pub temporary: Option<Temporary>,
    pub user: Option<User>,
    /// The version that has used them, or will.
    pub version_key: u64,
}

impl Parts {
    /// None yet, for that version.
    pub fn of(version_key: u64) -> Parts {
        Parts { group: None, network: None, temporary: None, user: None, version_key }
    }
}

/// A process that has been made, and what the platform gets of it.
pub(super) struct Born {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub status: OwnedFd,
    listener: OwnedFd,
    output: OwnedFd,
    companion_outputs: Vec<OwnedFd>,
    address: String,
    interface: Option<Device>,
}

/// A copy of the descriptor of an interface's device, and its addresses.
type Device = (OwnedFd, (u32, u128));

/// One thread's tools for making environments.
pub(super) struct Starter<'a> {
    house: &'a House,
    cloner: &'a Cloner,
    /// Resource, soft limit, hard limit; the one of data segments apart.
    resource_limits: Vec<(u32, u64, u64)>,
}

impl<'a> Starter<'a> {
    /// Prepares the calling thread: it gets a working directory and root of its own, as entering mount
    /// namespaces demands.
    pub fn new(house: &'a House, number: usize) -> Starter<'a> {
        if house.mounts.is_some() {
            // Fails never for a flag that takes nothing from others; if it did, the first start would say so.
            drop(syscalls::unshare(libc::CLONE_FS));
        }
        let resource_limits = resource_limits(house);
        Starter { house, cloner: &house.cloners[number], resource_limits }
    }

    /// Makes an environment and answers.
    pub fn start(&self, id: u64, spec: Arc<Spec>) {
        let _open = self.house.open.read();
        self.house.note_start();
        let made = match self.blank_for(&spec) {
            Some(blank) => self.fill(id, spec, blank),
            None => self.gather(&spec).and_then(|parts| self.bring_up(id, spec, parts)),
        };
        self.answer(id, made);
        self.house.note_start();
        self.house.ask_for_refill();
    }

    /// Starts the program anew in the same network and `/tmp`. The platform has seen its processes end.
    pub fn restart(&self, id: u64) {
        let _open = self.house.open.read();
        self.house.note_start();
        let made = self.take_apart(id).and_then(|(spec, parts)| self.bring_up(id, spec, parts));
        self.answer(id, made);
        self.house.ask_for_refill();
    }

    fn take_apart(&self, id: u64) -> Result<(Arc<Spec>, Parts), Unfit> {
        let mut registry = self.house.registry();
        let gone = || Unfit {
            doing: "restart an environment that is gone".into(),
            error: io::Error::from_raw_os_error(libc::ESRCH),
        };
        let mut environment = registry.environments.remove(&id).ok_or_else(gone)?;
        drop(registry);
        if let Some(group) = environment.group.take() {
            drop(self.house.jobs.send(Job::RemoveGroup(group.name)));
        }
        let Environment { spec, network, temporary, user, .. } = environment;
        // Whether its maps were written is not known here.
        let user = user.map(|user| User { namespace: None, ..user });
        let mut parts = Parts { group: None, network, temporary, user, version_key: spec.version_key };
        let renewed = parts.network.as_mut().map_or(Ok(()), Network::renew);
        let group =
            step("renew the listener", renewed).and_then(|()| self.house.take_group(parts.version_key));
        match group {
            Ok(group) => Ok((spec, Parts { group, ..parts })),
            Err(unfit) => {
                self.house.give_back(parts);
                Err(unfit)
            }
        }
    }

    fn gather(&self, spec: &Spec) -> Result<Parts, Unfit> {
        let house = self.house;
        let stock = house.stock();
        let key = spec.version_key;
        let mut parts = Parts::of(key);
        let made = (|| {
            parts.user = house.take_user(key)?;
            parts.group = house.take_group(key)?;
            if house.isolation == Isolation::Namespaces {
                parts.temporary = Some(step("make /tmp", stock.take_temporary(key, spec.tmp_mb))?);
                // Last, because this thread may be inside from here on.
                let network = step("make a network namespace", stock.take_network(key))?;
                let network = parts.network.insert(network);
                if spec.dual_stack {
                    step("give an interface an IPv6 address", network.speak_ipv6())?;
                }
            }
            Ok(())
        })();
        match made {
            Ok(()) => Ok(parts),
            Err(unfit) => {
                house.give_back(parts);
                Err(unfit)
            }
        }
    }

    fn bring_up(&self, id: u64, spec: Arc<Spec>, mut parts: Parts) -> Result<(Born, Option<String>), Unfit> {
        let born = match self.limit(&mut parts, &spec).and_then(|()| self.clone_into(&parts, &spec)) {
            Ok(born) => born,
            Err(unfit) => {
                self.house.give_back(parts);
                return Err(unfit);
            }
        };
        if let Some(user) = &mut parts.user
            && self.house.isolation == Isolation::Namespaces
            && user.namespace.is_none()
        {
            // Absent before Linux 6.11: then each life makes its own.
            user.namespace = syscalls::user_namespace(born.pidfd.as_fd()).ok();
        }
        let group = parts.group.as_ref().map(|group| group.name.clone());
        match step("copy a pidfd", born.pidfd.try_clone()) {
            Ok(pidfd) => {
                self.house.move_in(id, born.pid, pidfd, spec, parts);
                Ok((born, group))
            }
            Err(unfit) => {
                self.house.move_in(id, born.pid, born.pidfd, spec, parts);
                self.house.release(id, false);
                Err(unfit)
            }
        }
    }

    /// A blank environment, unless the version has parts of its own to be used again.
    fn blank_for(&self, spec: &Spec) -> Option<Blank> {
        if self.house.isolation == Isolation::Process || self.house.stock().has_used(spec.version_key) {
            return None;
        }
        self.house.blanks.take(self.house)
    }

    /// Makes a blank one the version's.
    fn fill(&self, id: u64, spec: Arc<Spec>, blank: Blank) -> Result<(Born, Option<String>), Unfit> {
        let Blank { mut parts, pid, pidfd, status, output, orders } = blank;
        parts.version_key = spec.version_key;
        let told = self.tell(&mut parts, &spec, &orders).and_then(|companion_outputs| {
            let (listener, address) = self.listener(&parts)?;
            let interface = interface(&parts)?;
            let copy = step("copy a pidfd", pidfd.try_clone())?;
            Ok(Born { pid, pidfd: copy, status, listener, output, companion_outputs, address, interface })
        });
        let group = parts.group.as_ref().map(|group| group.name.clone());
        self.house.move_in(id, pid, pidfd, spec, parts);
        if told.is_err() {
            self.house.release(id, false);
        }
        told.map(|born| (born, group))
    }

    /// Sends a blank what it is to be. What companions write can be read from what comes back.
    fn tell(&self, parts: &mut Parts, spec: &Arc<Spec>, orders: &OwnedFd) -> Result<Vec<OwnedFd>, Unfit> {
        let house = self.house;
        if let Some(network) = parts.network.as_mut().filter(|_| spec.dual_stack) {
            step("give an interface an IPv6 address", network.speak_ipv6())?;
        }
        let mut other = None;
        if parts.temporary.as_ref().is_none_or(|temporary| temporary.size_mb != spec.tmp_mb) {
            let sized = step("make /tmp", house.stock().take_temporary(spec.version_key, spec.tmp_mb))?;
            other = Some(step("copy /tmp", sized.open())?);
            if let Some(unused) = parts.temporary.replace(sized) {
                house.stock().put_temporary(BLANK, unused);
            }
        }
        self.limit(parts, spec)?;
        let (companions_read, companions_write) = companion_pipes(spec)?;
        let root = self
            .root(spec)?
            .ok_or_else(|| Unfit { doing: "find a root".into(), error: io::ErrorKind::Unsupported.into() })?;
        let order = self.order(parts, spec)?;
        let (bytes, passed) = order.fill(root.as_fd(), other.as_ref().map(AsFd::as_fd), &companions_write);
        step("tell a blank what it is to be", socket::send(orders, &bytes, &passed))?;
        Ok(companions_read)
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
        let interface = born.interface.as_ref().map(|(_, addresses)| *addresses);
        // Ten at most.
        let companions = u8::try_from(born.companion_outputs.len()).unwrap_or(u8::MAX);
        let reply = Reply::Started { id, group, address: born.address, interface, companions };
        let mut descriptors =
            vec![born.listener.as_fd(), born.output.as_fd(), born.status.as_fd(), born.pidfd.as_fd()];
        descriptors.extend(born.companion_outputs.iter().map(AsFd::as_fd));
        descriptors.extend(born.interface.iter().map(|(device, _)| device.as_fd()));
        if let Err(error) = socket::send(&self.house.socket, &reply.to_bytes(), &descriptors) {
            self.house.release(id, false);
            self.house.reply(&failed(Unfit { doing: "hand an environment over".into(), error }));
        }
    }

    /// Limits the group's memory. CPU has no limit until INIT is over.
    fn limit(&self, parts: &mut Parts, spec: &Spec) -> Result<(), Unfit> {
        let counts = parts.temporary.is_some() && self.house.stock().tmp_counts_as_memory();
        let tmp_mb = if counts { spec.tmp_mb } else { 0 };
        self.house.limit_memory(parts, (u64::from(spec.memory_mb) + u64::from(tmp_mb)) << 20)
    }

    /// The limits of one environment's processes.
    fn resource_limits(&self, parts: &Parts, spec: &Spec) -> Vec<(u32, u64, u64)> {
        let mut limits = self.resource_limits.clone();
        if parts.group.is_none() || !self.house.groups.offered().memory {
            let bytes = (u64::from(spec.memory_mb) << 20) + DATA_SLACK_BYTES;
            let most = syscalls::hard_limit(libc::RLIMIT_DATA);
            limits.push((libc::RLIMIT_DATA, bytes.min(most), bytes.min(most)));
        }
        limits
    }

    /// A copy of the listener inside, and its address.
    fn listener(&self, parts: &Parts) -> Result<(OwnedFd, String), Unfit> {
        match &parts.network {
            Some(network) => {
                let listener = step("listen in the network", network.listener())?;
                Ok((step("copy a descriptor", listener.try_clone_to_owned())?, RUNTIME_API.to_string()))
            }
            None => step("listen on loopback", network::listen_on_host()),
        }
    }

    /// The mount namespace with the version's root, where there are walls.
    fn root(&self, spec: &Spec) -> Result<Option<Arc<OwnedFd>>, Unfit> {
        let Some(mounts) = &self.house.mounts else { return Ok(None) };
        let mut roots = self.house.roots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let root = roots.namespace(spec, mounts);
        root.map(Some).map_err(|failed| Unfit { doing: failed.doing, error: failed.error })
    }

    fn clone_into(&self, parts: &Parts, spec: &Arc<Spec>) -> Result<Born, Unfit> {
        let house = self.house;
        let (listener, address) = self.listener(parts)?;
        let interface = interface(parts)?;
        let spec = match house.isolation {
            Isolation::Namespaces => spec.clone(),
            Isolation::Process => Arc::new(spec.outside(&RUNTIME_API.to_string(), &address)),
        };
        let (status_read, status_write) = step("make a pipe", pipe())?;
        let (output_read, output_write) = step("make a pipe", pipe())?;
        // The platform reads without blocking; the program writes as programs do, and waits when it is full.
        step("set up the output pipe", rustix::io::ioctl_fionbio(&output_read, true))?;
        let (companions_read, companions_write) = companion_pipes(&spec)?;
        let root = self.root(&spec)?;
        let temporary = parts.temporary.as_ref().map(Temporary::open).transpose();
        let temporary = step("copy /tmp", temporary)?;
        let walls = match (&parts.network, &root, &temporary) {
            (Some(network), Some(root), Some(temporary)) => {
                Some([network.namespace(), root.as_fd(), temporary.as_fd()])
            }
            _ => None,
        };
        let group = parts.group.as_ref();
        let descriptors = Descriptors {
            status: status_write.as_fd(),
            output: output_write.as_fd(),
            walls,
            birthplace: group.and_then(|group| group.birthplace.as_ref()).map(AsFd::as_fd),
            bell: group.and_then(|group| group.bell.as_ref()).map(AsFd::as_fd),
            user_namespace: parts.user.as_ref().and_then(|user| user.namespace.as_ref()).map(AsFd::as_fd),
            companion_outputs: &companions_write,
            orders: None,
            entrances: group.map_or(&[], |group| &group.entrances),
        };
        let order = self.order(parts, &spec)?;
        let (pid, pidfd) = self.cloner.clone_process(&order, &descriptors, &house.registry)?;
        Ok(Born {
            pid,
            pidfd,
            status: status_read,
            listener,
            output: output_read,
            companion_outputs: companions_read,
            address,
            interface,
        })
    }

    fn order(&self, parts: &Parts, spec: &Spec) -> Result<Order, Unfit> {
        let house = self.house;
        let walls = house.isolation == Isolation::Namespaces;
        let text = |text: String| step("pass a text with a NUL byte", CString::new(text));
        let variables = |variables: &[(String, String)]| -> Result<Vec<CString>, Unfit> {
            variables.iter().map(|(name, value)| text(format!("{name}={value}"))).collect()
        };
        let programs = |programs: &[String]| -> Result<Vec<CString>, Unfit> {
            programs.iter().map(|program| text(program.clone())).collect()
        };
        Ok(Order {
            host_name: walls.then(|| spec.hostname.clone()),
            in_control_group: parts.group.is_some(),
            maps: walls.then(|| Maps {
                inside_user: INSIDE_USER,
                inside_group: INSIDE_GROUP,
                outside: parts.user.as_ref().map_or(0, |user| user.id),
            }),
            // With a namespace the mapped identity, else the host's.
            identity: if walls {
                Some((INSIDE_USER, INSIDE_GROUP))
            } else {
                parts.user.as_ref().map(|user| (user.id, user.id))
            },
            resource_limits: self.resource_limits(parts, spec),
            working_directory: text(spec.working_directory.clone())?,
            arguments: programs(&spec.program)?,
            environment: variables(&spec.environment)?,
            companions: programs(&spec.companions.programs)?,
            companion_environment: variables(&spec.companions.environment)?,
        })
    }

    /// Makes a TCP socket in an environment's network, for the platform to connect to what listens there. Where there
    /// are no walls that is the host's.
    pub fn socket(&self, id: u64, turn: u64) {
        let _open = self.house.open.read();
        let registry = self.house.registry();
        let made = match registry.environments.get(&id) {
            // Whatever it is that listens in a dead environment's network, it is not its own.
            Some(environment) if !environment.dead && !environment.released => match &environment.network {
                Some(network) => network.socket(),
                None => network::tcp_socket(),
            },
            _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        };
        drop(registry);
        let sent = made.and_then(|made| {
            socket::send(&self.house.socket, &Reply::Socket { turn }.to_bytes(), &[made.as_fd()])
        });
        if let Err(error) = sent {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.house.reply(&Reply::Failed { id: turn, doing: "make a socket".into(), errno });
        }
    }

    /// Makes an environment without a program, for the trial. Its group's name comes along.
    pub fn try_out(&self, spec: &Arc<Spec>) -> Result<Born, Unfit> {
        let mut parts = self.gather(spec)?;
        let made = self.limit(&mut parts, spec).and_then(|()| self.clone_into(&parts, spec));
        if let Ok(born) = &made {
            // Its parts are of no further use: wait for its end, then let go of them.
            wait_and_reap(&born.pidfd);
        }
        self.house.discard(parts);
        made
    }

    /// The same with a blank, whose status comes back.
    pub fn try_blank(&self, spec: &Arc<Spec>) -> Result<OwnedFd, Unfit> {
        let Blank { mut parts, pidfd, status, orders, .. } = blanks::make(self.house)?;
        let told = self.tell(&mut parts, spec, &orders);
        drop(orders);
        wait_and_reap(&pidfd);
        self.house.discard(parts);
        told.map(|_| status)
    }
}

/// While there is no reaper yet.
fn wait_and_reap(pidfd: &OwnedFd) {
    let mut poll = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    while rustix::event::poll(&mut poll, None) == Err(rustix::io::Errno::INTR) {}
    while syscalls::reap().is_some() {}
}

pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// For what companions write, one each: what one of them writes into a pipe in pieces, another's lines would cut.
fn companion_pipes(spec: &Spec) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), Unfit> {
    let mut pipes = (Vec::new(), Vec::new());
    for _ in &spec.companions.programs {
        let (read, write) = step("make a pipe", pipe())?;
        step("set up the output pipe", rustix::io::ioctl_fionbio(&read, true))?;
        pipes.0.push(read);
        pipes.1.push(write);
    }
    Ok(pipes)
}

/// What the platform gets of the interface, if there is one.
fn interface(parts: &Parts) -> Result<Option<Device>, Unfit> {
    let copy = parts.network.as_ref().and_then(Network::interface).map(|(device, block)| {
        let addresses = (block.address().into(), block.address6().into());
        step("copy a descriptor", device.try_clone_to_owned()).map(|device| (device, addresses))
    });
    copy.transpose()
}

/// The limits that all environments' processes have. A host with lower limits of its own keeps them; `open-files` says
/// so.
fn resource_limits(house: &House) -> Vec<(u32, u64, u64)> {
    let exact = |resource, limit: u64| (resource, limit, limit);
    let mut limits = vec![
        exact(libc::RLIMIT_NOFILE, OPEN_FILES_MAX),
        exact(libc::RLIMIT_MEMLOCK, LOCKED_BYTES),
        exact(libc::RLIMIT_CORE, CORE_BYTES),
        (libc::RLIMIT_STACK, STACK_BYTES, libc::RLIM64_INFINITY),
    ];
    if house.isolation == Isolation::Namespaces || house.privileged {
        // Counted per user id, which elsewhere is the platform's own.
        limits.push(exact(libc::RLIMIT_NPROC, u64::from(PROCESSES_MAX) + 1));
    }
    let clamped = limits.into_iter().map(|(resource, soft, hard)| {
        let most = syscalls::hard_limit(resource);
        (resource, soft.min(most), hard.min(most))
    });
    clamped.collect()
}
