//! One running environment, as the platform holds it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

use crate::cgroup::{Freezer, Limits, cpu_quota_us, read_text};
use crate::child::{self, STATUS_BYTES, Status, Step};
use crate::protocol::Request;
use crate::sandboxes::{Delivery, Shared, StartError};
use crate::spec::{Ending, Exit, Isolation, OutOfMemory, Programs, Spec};
use crate::syscalls;

/// A running environment. Dropping it kills everything in it and hands the remains to the jailer.
pub struct Sandbox {
    /// Unique within this run of the platform.
    pub id: u64,
    shared: Arc<Shared>,
    spec: Arc<Spec>,
    listener: Option<TcpListener>,
    output: Option<OwnedFd>,
    companion_outputs: Vec<OwnedFd>,
    programs: Option<watch::Receiver<Programs>>,
    interface: Option<Interface>,
    address: String,
    group: Option<String>,
    pidfd: Arc<OwnedFd>,
    dying: Arc<Notify>,
    started: Started,
    /// Whether the program was started, in this life.
    ran: Arc<AtomicBool>,
    exit: watch::Receiver<Option<Exit>>,
    /// `memory.peak` of version 2 cannot be reset for others, so what it was at the last reset is kept.
    peak_at_reset: AtomicU64,
    peak: Mutex<Peak>,
    /// Open since [`get_ready`](Sandbox::get_ready): the file that [`init_done`](Sandbox::init_done) writes, and what.
    quota: Mutex<Option<(fs::File, String)>>,
}

/// Most processes that are looked at for an environment's memory, where nothing but RLIMIT_NPROC holds them.
const DESCENDANTS_MAX: usize = 1_024;
/// How long an answer about memory holds where no control group tells whether it has grown: looking for an environment's
/// processes is many reads, and their peaks never fall.
const PEAK_HOLDS: Duration = Duration::from_millis(100);

/// How long an environment may take to die on its own share of a processor: longer than any that a well-meaning one takes. A
/// thousand processes on the quota of 128 MB took 8 to 12 s (measured).
const DYING: Duration = Duration::from_millis(20);
/// Of how many MB it has the share of a processor from then on, unless its own is greater. Ours: a thousand processes end within
/// half a second, and seven tenths of a core are left to its neighbours.
const DYING_SHARE_MB: u32 = 512;

/// An environment's network interface, from outside.
#[derive(Debug)]
pub struct Interface {
    /// The non-blocking descriptor of its device, as [`netdev::device::Device`] takes it: each read is one packet that the
    /// environment sent, each write one that it gets. The next environment of the version may get the same device,
    /// so it must be closed, and taken out of every epoll, before the [`Sandbox`] is dropped.
    pub device: OwnedFd,
    /// The environment's own address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, which it uses only if the spec says so.
    pub address6: Ipv6Addr,
}

/// The last answer about memory, and what shows that it still holds.
#[derive(Default)]
struct Peak {
    mark: Option<fs::File>,
    marked: u64,
    bytes: u64,
    /// Without a control group: when processes were looked for.
    found: Option<Instant>,
}

impl Peak {
    /// Whether processes were looked for so lately that it holds.
    fn holds(&self, now: Instant) -> bool {
        self.bytes > 0 && self.found.is_some_and(|found| now.saturating_duration_since(found) < PEAK_HOLDS)
    }

    /// The group's own peak, by one read of a file that stays open.
    fn read_mark(&self) -> Option<u64> {
        let mut text = [0; 24];
        let count = self.mark.as_ref()?.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..count]).ok()?.trim().parse().ok()
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sandbox")
            .field("id", &self.id)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// What one life of the program brings.
struct Life {
    listener: TcpListener,
    output: OwnedFd,
    companion_outputs: Vec<OwnedFd>,
    programs: Option<watch::Receiver<Programs>>,
    address: String,
    group: Option<String>,
    pidfd: Arc<OwnedFd>,
    dying: Arc<Notify>,
    started: Started,
    ran: Arc<AtomicBool>,
    exit: watch::Receiver<Option<Exit>>,
    interface: Option<Interface>,
}

/// Sets watches for the program's beginning and for its end. Waits for neither.
fn begin(shared: &Arc<Shared>, spec: &Arc<Spec>, delivery: Delivery) -> Result<Life, StartError> {
    rustix::io::ioctl_fionbio(&delivery.status, true).map_err(|error| host("read a pipe", error.into()))?;
    let status = syscalls::watch(Arc::new(delivery.status), Interest::READABLE)
        .map_err(|error| host("watch a pipe", error))?;
    let pidfd = Arc::new(delivery.pidfd);
    let watched =
        syscalls::watch(pidfd.clone(), Interest::READABLE).map_err(|error| host("watch a process", error))?;
    let (tell, started) = oneshot::channel();
    let (ended, exit) = watch::channel(None);
    let spec = spec.clone();
    let companions = spec.companions.programs.len();
    let (changes, programs) = watch::channel(Programs { program: None, companions: vec![None; companions] });
    let whole = Whole::new(shared, spec.memory_mb, delivery.group.clone(), pidfd.clone());
    let dying = whole.dying.clone();
    let ran = Arc::new(AtomicBool::new(false));
    let has_run = ran.clone();
    tokio::spawn(async move {
        let begun = beginning(&status, &spec, &whole).await;
        let runs = begun.is_ok();
        has_run.store(runs, Ordering::Relaxed);
        // Whoever does not wait for it hears of the end.
        drop(tell.send(begun));
        let end = async {
            if companions > 0 && runs {
                follow(&status, &changes, &whole).await;
                whole.dying.notify_one();
                drop(watched.readable().await);
                last_exit(&changes.borrow(), whole.shortage(libc::SIGKILL))
            } else {
                end_of(&status, &watched, &whole).await
            }
        };
        let exit = tokio::select! {
            biased;
            exit = end => exit,
            never = whole.hurry() => match never {},
        };
        ended.send_replace(Some(exit));
    });
    let listener = TcpListener::from(delivery.listener);
    Ok(Life {
        listener,
        output: delivery.output,
        companion_outputs: delivery.companion_outputs,
        programs: (companions > 0).then_some(programs),
        address: delivery.address,
        group: delivery.group,
        pidfd,
        dying,
        started: Started(Some(started)),
        ran,
        exit,
        interface: delivery.interface,
    })
}

fn host(doing: &str, error: io::Error) -> StartError {
    StartError::Host { doing: doing.to_owned(), error }
}

/// Waits until the program is executed.
async fn beginning(status: &AsyncFd<Arc<OwnedFd>>, spec: &Spec, whole: &Whole) -> Result<(), StartError> {
    let next = async || {
        let message = status.async_io(Interest::READABLE, |status| read_status(status)).await;
        message.map_err(|error| host("read a pipe", error))
    };
    let mut first = next().await?;
    while first == Some(Status::MemoryRanOut) && !whole.end_if_its_memory_ran_out() {
        first = next().await?;
    }
    match first {
        Some(Status::Started) => Ok(()),
        Some(Status::Failed { step: Step::Execute, errno }) if !is_the_hosts(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            Err(StartError::Program { program: spec.program[0].clone(), error })
        }
        Some(Status::Failed { step: Step::WorkingDirectory, errno }) => {
            let error = io::Error::from_raw_os_error(errno);
            Err(StartError::WorkingDirectory { folder: spec.working_directory.clone(), error })
        }
        Some(Status::Failed { step, errno }) => Err(host(step.words(), io::Error::from_raw_os_error(errno))),
        // Killed before it could say more.
        Some(_) | None => Err(host(Step::Execute.words(), io::Error::from_raw_os_error(libc::ECHILD))),
    }
}

/// Whether a program was not started because this host has no room for one more process, whatever the program is.
fn is_the_hosts(errno: i32) -> bool {
    [libc::EAGAIN, libc::ENOMEM, libc::ENFILE].contains(&errno)
}

/// Tells when the program of an environment runs, or why it does not.
#[derive(Debug)]
pub struct Started(Option<oneshot::Receiver<Result<(), StartError>>>);

impl Started {
    /// Waits until the program is executed; at once when that was waited for before.
    ///
    /// # Errors
    /// As [`Sandboxes::start`](crate::Sandboxes::start); the environment is then of no more use.
    pub async fn wait(self) -> Result<(), StartError> {
        match self.0 {
            Some(started) => started.await.unwrap_or(Err(StartError::JailerGone)),
            None => Ok(()),
        }
    }
}

/// One message; `None` at the end of the pipe.
fn read_status(status: &OwnedFd) -> io::Result<Option<Status>> {
    let mut bytes = [0; STATUS_BYTES];
    let count = rustix::io::read(status, &mut bytes)?;
    Ok(if count == STATUS_BYTES { Status::from_bytes(bytes) } else { None })
}

/// All that is in one environment.
struct Whole {
    shared: Arc<Shared>,
    memory_mb: u32,
    group: Option<String>,
    pidfd: Arc<OwnedFd>,
    known: Mutex<Known>,
    /// Told once everything in it is to end, or about to.
    dying: Arc<Notify>,
}

/// What is known of an environment's memory.
#[derive(Default)]
struct Known {
    /// Shortages around all environments when it began, or was told of one last.
    around: u64,
    /// Whose memory had run out then.
    whose: Option<OutOfMemory>,
}

impl Whole {
    fn new(shared: &Arc<Shared>, memory_mb: u32, group: Option<String>, pidfd: Arc<OwnedFd>) -> Whole {
        let around = shared.groups.limits().map_or(0, Limits::shortages_around);
        let known = Mutex::new(Known { around, whose: None });
        Whole { shared: shared.clone(), memory_mb, group, pidfd, known, dying: Arc::default() }
    }

    /// Gives what is dying more of a processor once it takes long.
    async fn hurry(&self) -> Infallible {
        self.dying.notified().await;
        tokio::time::sleep(DYING).await;
        self.hurry_now();
        std::future::pending().await
    }

    /// Whoever has the group by now keeps their quota.
    fn hurry_now(&self) {
        let _held = self.shared.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        if self.group.is_some() && rustix::process::pidfd_send_signal(&*self.pidfd, Signal::KILL).is_ok() {
            hurry(&self.shared, self.memory_mb, self.group.as_deref());
        }
    }

    fn group(&self) -> Option<(&dyn Limits, &str)> {
        self.shared.groups.limits().zip(self.group.as_deref())
    }

    /// Whether the environment itself has taken all that it may of what is short, for this errno.
    fn is_full(&self, errno: i32) -> bool {
        self.group().is_some_and(|(limits, group)| match errno {
            libc::EAGAIN => limits.is_crowded(group).unwrap_or(false),
            libc::ENOMEM => limits.is_out_of_memory(group).unwrap_or(false),
            _ => false,
        })
    }

    /// Memory ran out, of the group or of one around it: of which.
    fn whose_memory_ran_out(&self) -> Option<OutOfMemory> {
        let (limits, group) = self.group()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let around = limits.shortages_around();
        let is_around = std::mem::replace(&mut known.around, around) < around;
        let is_own = !is_around && limits.met_memory_limit(group).unwrap_or(true);
        known.whose = Some(if is_own { OutOfMemory::Environment } else { OutOfMemory::Host });
        known.whose
    }

    /// The supervisor has stopped everything, since memory ran out: if it was the environment's own, all of it ends, whatever
    /// the kernel takes; else it goes on. Whether it was.
    fn end_if_its_memory_ran_out(&self) -> bool {
        let is_own = self.whose_memory_ran_out() == Some(OutOfMemory::Environment);
        if is_own {
            kill(&self.shared, self.memory_mb, self.group.as_deref(), &self.pidfd);
            self.dying.notify_one();
        } else {
            let _ = rustix::process::pidfd_send_signal(&*self.pidfd, Signal::USR2);
        }
        is_own
    }

    /// Whose memory had run out, where the kernel killed for that and `signal` ended the program.
    fn shortage(&self, signal: i32) -> Option<OutOfMemory> {
        let (limits, group) = self.group()?;
        if signal != libc::SIGKILL || limits.memory_kills(group).ok()? == 0 {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What was told before the kill; or the supervisor could not tell.
        let told =
            if limits.shortages_around() > known.around { Some(OutOfMemory::Host) } else { known.whose };
        drop(known);
        told.or_else(|| self.whose_memory_ran_out())
    }
}

fn kill(shared: &Shared, memory_mb: u32, group: Option<&str>, pidfd: &OwnedFd) {
    if shared.isolation == Isolation::Process {
        let _ = rustix::process::pidfd_send_signal(pidfd, Signal::TERM);
        match group {
            Some(group) => shared.groups.kill(group),
            None => return,
        }
        // Nobody waits for what the supervisor leaves behind.
        hurry(shared, memory_mb, group);
    }
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    // A version 1 freezer holds signals back.
    if let (Freezer::VersionOne(_), Some(group)) = (shared.groups.freezer(), group) {
        drop(shared.groups.freezer().thaw(group));
    }
}

/// The share of a processor of an environment that takes long to die; `None`: its own, which is no smaller.
fn dying_quota_us(memory_mb: u32) -> Option<u64> {
    (memory_mb < DYING_SHARE_MB).then(|| cpu_quota_us(DYING_SHARE_MB))
}

/// Gives a group that is dying a share of its own: processes pay for their own end out of its quota, and the environment's next life,
/// or its caller, waits for them.
fn hurry(shared: &Shared, memory_mb: u32, group: Option<&str>) {
    let limits = shared.groups.limits().filter(|limits| limits.offered().cpu);
    if let Some(quota_us) = dying_quota_us(memory_mb)
        && let Some((limits, group)) = limits.zip(group)
        && let Err(error) = limits.set_cpu(group, Some(quota_us))
    {
        tracing::debug!(%group, %error, "cannot hurry the end of an environment");
    }
}

/// Waits for the end of an environment without companions.
async fn end_of(status: &AsyncFd<Arc<OwnedFd>>, watched: &AsyncFd<Arc<OwnedFd>>, whole: &Whole) -> Exit {
    let mut exit = Exit { code: None, signal: Some(libc::SIGKILL), out_of_memory: None };
    let mut note = |message, lives| match message {
        Status::Exited { code } => (exit.code, exit.signal) = (Some(code), None),
        Status::Signaled { signal } => (exit.code, exit.signal) = (None, Some(signal)),
        Status::MemoryRanOut if lives && whole.end_if_its_memory_ran_out() => {
            exit.out_of_memory = Some(OutOfMemory::Environment);
        }
        // Whoever has the group by now is not touched.
        Status::MemoryRanOut if !lives => drop(whole.whose_memory_ran_out()),
        _ => {}
    };
    // The process is readable once the supervisor and everything below it are dead, not before.
    loop {
        tokio::select! {
            biased;
            message = status.async_io(Interest::READABLE, |status| read_status(status)) => match message {
                Ok(Some(message)) => note(message, true),
                _ => {
                    whole.dying.notify_one();
                    break drop(watched.readable().await);
                }
            },
            _ = watched.readable() => break,
        }
    }
    while let Ok(Some(message)) = read_status(status.get_ref()) {
        note(message, false);
    }
    exit.out_of_memory = exit.out_of_memory.or_else(|| whole.shortage(exit.signal?));
    exit
}

/// Whose affair it is that a program was not started, for this errno. `is_full`: whether the environment itself has taken all
/// that it may of what is short.
fn not_started(errno: i32, is_full: impl Fn(i32) -> bool) -> Ending {
    match is_the_hosts(errno) && !is_full(errno) {
        true => Ending::NoRoom(errno),
        false => Ending::NotExecuted(errno),
    }
}

/// Tells of each program's end until the supervisor's, which closes the pipe.
async fn follow(status: &AsyncFd<Arc<OwnedFd>>, changes: &watch::Sender<Programs>, whole: &Whole) {
    let exit = |code, signal, out_of_memory| Ending::Exited(Exit { code, signal, out_of_memory });
    while let Ok(Some(message)) = status.async_io(Interest::READABLE, |status| read_status(status)).await {
        let companion = |programs: &mut Programs, index: u8, ending| {
            if let Some(slot) = programs.companions.get_mut(usize::from(index)) {
                *slot = Some(ending);
            }
        };
        changes.send_modify(|programs| match message {
            // It is known why.
            Status::Exited { .. } | Status::Signaled { .. } if programs.program.is_some() => {}
            Status::Exited { code } => programs.program = Some(exit(Some(code), None, None)),
            Status::Signaled { signal } => {
                programs.program = Some(exit(None, Some(signal), whole.shortage(signal)));
            }
            Status::Failed { errno, .. } => {
                programs.program = Some(not_started(errno, |errno| whole.is_full(errno)));
            }
            Status::MemoryRanOut if whole.end_if_its_memory_ran_out() => {
                programs.program = Some(exit(None, Some(libc::SIGKILL), Some(OutOfMemory::Environment)));
            }
            Status::CompanionExited { index, code } => {
                companion(programs, index, exit(Some(code), None, None));
            }
            Status::CompanionSignaled { index, signal } => {
                companion(programs, index, exit(None, Some(signal), None));
            }
            Status::CompanionFailed { index, errno } => {
                companion(programs, index, not_started(errno, |errno| whole.is_full(errno)));
            }
            Status::MemoryRanOut | Status::Started | Status::Parked => {}
        });
    }
    // The kernel can take all of a group, the supervisor with it (version 2).
    if let Some(whose) = whole.shortage(libc::SIGKILL) {
        changes.send_modify(|programs| {
            programs.program.get_or_insert(exit(None, Some(libc::SIGKILL), Some(whose)));
        });
    }
}

/// How an environment with companions ended, once everything in it has.
fn last_exit(programs: &Programs, shortage: Option<OutOfMemory>) -> Exit {
    let killed = Exit { code: None, signal: Some(libc::SIGKILL), out_of_memory: None };
    let exit = match programs.program {
        Some(Ending::Exited(exit)) => exit,
        _ => killed,
    };
    let is_killed = exit.signal == Some(libc::SIGKILL);
    Exit { out_of_memory: exit.out_of_memory.or(shortage.filter(|_| is_killed)), ..exit }
}

impl Sandbox {
    pub(crate) fn take_over(
        shared: Arc<Shared>,
        id: u64,
        spec: Arc<Spec>,
        delivery: Delivery,
    ) -> Result<Sandbox, StartError> {
        let life = begin(&shared, &spec, delivery).inspect_err(|_| shared.release(id, false))?;
        Ok(Sandbox {
            id,
            shared,
            spec,
            listener: Some(life.listener),
            output: Some(life.output),
            companion_outputs: life.companion_outputs,
            programs: life.programs,
            interface: life.interface,
            address: life.address,
            group: life.group,
            pidfd: life.pidfd,
            dying: life.dying,
            started: life.started,
            ran: life.ran,
            exit: life.exit,
            peak_at_reset: AtomicU64::new(0),
            peak: Mutex::default(),
            quota: Mutex::default(),
        })
    }

    /// Opens what the first invocation needs, while there is nothing to do but to wait for the program: without, the same
    /// is done when its caller waits for it.
    pub fn get_ready(&self) {
        let (Some(limits), Some(group)) = (self.shared.groups.limits(), self.group.as_deref()) else {
            return;
        };
        if limits.offered().cpu {
            let opened = limits
                .cpu_quota(group, cpu_quota_us(self.spec.memory_mb))
                .and_then(|(file, text)| Ok((fs::File::options().write(true).open(file)?, text)));
            *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = opened.ok();
        }
        let mut peak = self.peak.lock().unwrap_or_else(PoisonError::into_inner);
        if peak.mark.is_none() {
            peak.mark = limits.memory_mark(group).ok();
        }
    }

    /// Tells when the program runs: to be waited for where the environment was [launched](crate::Sandboxes::launch). The
    /// first call of a life takes it.
    pub fn take_started(&mut self) -> Started {
        Started(self.started.0.take())
    }

    /// The non-blocking listener at [`runtime_api_address`](Sandbox::runtime_api_address) *inside* the
    /// environment. May be taken once per life, that is once after the start and once after each restart.
    ///
    /// # Panics
    /// When it was taken already.
    pub fn take_listener(&mut self) -> TcpListener {
        self.listener.take().expect("the listener may be taken once per life")
    }

    /// The non-blocking read end of the pipe that carries standard output and standard error. May be taken
    /// once per life. A program that writes faster than this is read waits.
    ///
    /// # Panics
    /// When it was taken already.
    pub fn take_output(&mut self) -> OwnedFd {
        self.output.take().expect("the output may be taken once per life")
    }

    /// The same of the companions, a pipe for each, in the order of [`Companions::programs`](crate::Companions::programs);
    /// none when they were taken already.
    pub fn take_companion_outputs(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.companion_outputs)
    }

    /// What becomes of the programs; `None` without companions.
    pub fn programs(&self) -> Option<watch::Receiver<Programs>> {
        self.programs.clone()
    }

    /// Starts the main program of an environment with companions, which waits for this.
    pub fn start_program(&self) {
        self.tell(child::START_PROGRAM);
    }

    /// Sends SIGTERM to the main program alone.
    pub fn terminate_program(&self) {
        self.tell(child::TERMINATE_PROGRAM);
    }

    /// Kills the main program alone; without companions that ends the environment.
    pub fn kill_program(&self) {
        if self.programs.is_some() { self.tell(child::KILL_PROGRAM) } else { self.kill() }
    }

    fn tell(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            // An environment that is gone already needs to be told nothing.
            let _ = rustix::process::pidfd_send_signal(&*self.pidfd, signal);
        }
    }

    /// A non-blocking TCP socket that is inside the environment's network: what it connects to on loopback is the
    /// environment's own. The host's network without namespaces.
    ///
    /// # Errors
    /// The environment has ended, or this host is out of descriptors. Cost: one round trip to the jailer.
    pub async fn socket(&self) -> Result<OwnedFd, StartError> {
        self.shared.ask_socket(self.id).await
    }

    /// The network interface, when the host and [`Options`](crate::Options) allow one. It stays the same over restarts and
    /// is handed out once.
    pub fn take_interface(&mut self) -> Option<Interface> {
        self.interface.take()
    }

    /// What the program must connect to: `127.0.0.1:9001`, or a free port of the host without namespaces.
    pub fn runtime_api_address(&self) -> String {
        self.address.clone()
    }

    /// INIT is over: from now on the CPU quota of `memory_mb / 1769` of a core applies, per 20 ms. Without
    /// control groups nothing happens; the abilities say so.
    pub fn init_done(&self) {
        let (Some(limits), Some(group)) = (self.shared.groups.limits(), &self.group) else { return };
        if !limits.offered().cpu {
            return;
        }
        let _held = self.shared.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let set = match self.quota.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((file, text)) => file.write_all_at(text.as_bytes(), 0),
            None => limits.set_cpu(group, Some(cpu_quota_us(self.spec.memory_mb))),
        };
        if let Err(error) = set {
            tracing::warn!(sandbox = self.id, %error, "cannot set the CPU quota");
        }
    }

    /// Stops every process where it stands. Cheap (microseconds) and without a wait for the jailer.
    ///
    /// # Errors
    /// When the host refuses; an environment that is gone already is fine.
    pub fn freeze(&self) -> io::Result<()> {
        self.stop_or_go(Signal::USR1, Freezer::freeze)
    }

    /// Lets every process go on. As cheap as [`freeze`](Sandbox::freeze).
    ///
    /// # Errors
    /// As [`freeze`](Sandbox::freeze).
    pub fn thaw(&self) -> io::Result<()> {
        self.stop_or_go(Signal::USR2, Freezer::thaw)
    }

    fn stop_or_go(&self, signal: Signal, act: impl Fn(&Freezer, &str) -> io::Result<bool>) -> io::Result<()> {
        let done = match &self.group {
            Some(group) => act(self.shared.groups.freezer(), group)?,
            None => false,
        };
        if !done {
            // The supervisor passes it on to all below it.
            match rustix::process::pidfd_send_signal(&*self.pidfd, signal) {
                Err(rustix::io::Errno::SRCH) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Kills everything in the environment, also while it is frozen. [`exited`](Sandbox::exited) tells when
    /// all of it is gone, within milliseconds.
    pub fn kill(&self) {
        kill(&self.shared, self.spec.memory_mb, self.group.as_deref(), &self.pidfd);
        self.dying.notify_one();
    }

    /// Waits until the main process has ended, and with it everything it started.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let lost = Exit { code: None, signal: Some(libc::SIGKILL), out_of_memory: None };
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(lost),
            Err(_) => lost,
        }
    }

    /// Most memory used since the start or the last reset, in bytes, `/tmp` excluded. The greater of two
    /// views: the sum of the living processes' peaks, and the group's peak less the page cache it holds now
    /// (which also knows of processes that ended; files of `/tmp` deleted since can be part of it). 0 when
    /// nothing can be read, as after the end.
    ///
    /// Cost: one read when nothing has grown since the last call, else several per process. Without a control group nothing
    /// tells that, and it is a read per thread and process at most every 100 ms, or, with `at_once`, each time.
    pub fn memory_peak_bytes(&self, at_once: bool) -> u64 {
        let mut peak = self.peak.lock().unwrap_or_else(PoisonError::into_inner);
        if peak.mark.is_none() {
            let mark =
                self.group.as_deref().and_then(|group| self.shared.groups.limits()?.memory_mark(group).ok());
            if mark.is_none() {
                let now = Instant::now();
                if at_once || !peak.holds(now) {
                    peak.bytes = peak.bytes.max(self.find_memory_peak(None));
                    peak.found = Some(now);
                }
                return peak.bytes;
            }
            *peak = Peak { mark, ..Peak::default() };
        }
        let marked = peak.read_mark();
        // At the limit page cache makes room for the program's memory, and the mark stands still.
        let limit = u64::from(self.spec.memory_mb) << 20;
        if marked.is_some_and(|marked| marked == peak.marked && marked < limit) && peak.bytes > 0 {
            return peak.bytes;
        }
        let bytes = self.find_memory_peak(marked);
        peak.marked = marked.unwrap_or(0);
        peak.bytes = peak.bytes.max(bytes);
        peak.bytes
    }

    /// Pids of the environment, as this process sees them.
    pub(crate) fn processes(&self) -> io::Result<Vec<i32>> {
        match (self.shared.groups.limits(), &self.group) {
            (Some(limits), Some(group)) => limits.processes(group),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// `marked`: the group's own peak, if it is known.
    fn find_memory_peak(&self, marked: Option<u64>) -> u64 {
        let (Some(group), Some(limits)) = (&self.group, self.shared.groups.limits()) else {
            return processes_peak_bytes(&descendants(&self.pidfd));
        };
        let processes = processes_peak_bytes(&limits.processes(group).unwrap_or_default());
        let limit = u64::from(self.spec.memory_mb) << 20;
        // Page cache only makes less of the mark, and asking for it takes longest.
        if marked.is_some_and(|marked| marked <= processes) {
            return processes.min(limit);
        }
        let by_group = limits.memory_peak(group).map_or(0, |(peak, cache)| {
            if peak <= self.peak_at_reset.load(Ordering::Relaxed) { 0 } else { peak.saturating_sub(cache) }
        });
        processes.max(by_group).min(limit)
    }

    /// Starts a new peak for [`memory_peak_bytes`](Sandbox::memory_peak_bytes).
    pub fn reset_memory_peak(&self) {
        *self.peak.lock().unwrap_or_else(PoisonError::into_inner) = Peak::default();
        let (Some(limits), Some(group)) = (self.shared.groups.limits(), &self.group) else { return };
        for pid in limits.processes(group).unwrap_or_default() {
            // 5 resets VmHWM (proc(5)).
            drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
        }
        if limits.reset_memory_peak(group).is_err() {
            let peak = limits.memory_peak(group).map_or(0, |(peak, _)| peak);
            self.peak_at_reset.store(peak, Ordering::Relaxed);
        }
    }

    /// Ends what runs and starts the program anew: same network, same contents of `/tmp`, all processes gone,
    /// a new listener and output to take, and no CPU quota until [`init_done`](Sandbox::init_done).
    ///
    /// # Errors
    /// As [`Sandboxes::start`](crate::Sandboxes::start); the environment is then of no more use.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.kill();
        self.exited().await;
        self.listener = None;
        self.output = None;
        self.companion_outputs.clear();
        // Of the next life nothing is known yet, however this ends.
        self.ran = Arc::default();
        let delivery = self.shared.ask(self.id, &Request::Restart { id: self.id }.to_bytes()).await?;
        let life = begin(&self.shared, &self.spec, delivery)?;
        self.listener = Some(life.listener);
        self.output = Some(life.output);
        self.companion_outputs = life.companion_outputs;
        self.programs = life.programs;
        self.address = life.address;
        self.group = life.group;
        self.pidfd = life.pidfd;
        self.dying = life.dying;
        self.ran = life.ran;
        self.exit = life.exit;
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.peak_at_reset.store(0, Ordering::Relaxed);
        *self.peak.lock().unwrap_or_else(PoisonError::into_inner) = Peak::default();
        life.started.wait().await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        self.shared.release(self.id, self.ran.load(Ordering::Relaxed));
    }
}

/// Sum of the processes' `VmHWM`.
fn processes_peak_bytes(pids: &[i32]) -> u64 {
    pids.iter().filter_map(|pid| peak_of(&read_text(format!("/proc/{pid}/status").as_ref()).ok()?)).sum()
}

/// The processes below the supervisor, where there is no group to list them, at most [`DESCENDANTS_MAX`]; those whose parent has
/// ended are the supervisor's. Empty once it has ended, and on kernels without `children` (CONFIG_PROC_CHILDREN).
///
/// Cost: a read for each thread.
fn descendants(supervisor: &OwnedFd) -> Vec<i32> {
    let info =
        read_text(format!("/proc/self/fdinfo/{}", supervisor.as_raw_fd()).as_ref()).unwrap_or_default();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok());
    let mut all: Vec<i32> = pid.filter(|pid| *pid > 0).into_iter().collect();
    let mut next = 0;
    while next < all.len() && all.len() <= DESCENDANTS_MAX {
        let threads = fs::read_dir(format!("/proc/{}/task", all[next])).into_iter().flatten().flatten();
        for children in threads.filter_map(|thread| read_text(&thread.path().join("children")).ok()) {
            let room = (DESCENDANTS_MAX + 1).saturating_sub(all.len());
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).take(room));
        }
        next += 1;
    }
    all.split_off(all.len().min(1))
}

/// `VmHWM` of a `/proc/PID/status`, in bytes.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_dies_on_less_of_a_processor_than_its_own() {
        assert_eq!(dying_quota_us(128), Some(cpu_quota_us(512)));
        for memory_mb in [512, 1_769, 10_240] {
            assert_eq!(dying_quota_us(memory_mb), None, "{memory_mb} MB");
        }
    }

    #[test]
    fn peak_is_read_from_the_status_text() {
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t    1024 kB\nVmRSS:\t 1 kB\n"), Some(1 << 20));
        assert_eq!(peak_of("Name:\tkthread\n"), None);
        assert_eq!(peak_of("VmHWM:\t many kB\n"), None);
    }

    #[test]
    fn processes_are_not_looked_for_again_at_once() {
        let found = Instant::now();
        let peak = Peak { bytes: 1 << 20, found: Some(found), ..Peak::default() };
        assert!(peak.holds(found) && peak.holds(found + PEAK_HOLDS / 2));
        assert!(!peak.holds(found + PEAK_HOLDS));
        assert!(!Peak { bytes: 0, ..peak }.holds(found), "nothing could be read yet");
        assert!(!Peak::default().holds(found));
    }

    #[test]
    fn what_an_environment_has_used_up_itself_is_no_lack_of_the_hosts() {
        let has_taken_all_of = |full: i32| move |errno| errno == full;
        for (errno, full, ending) in [
            (libc::EAGAIN, 0, Ending::NoRoom(libc::EAGAIN)),
            (libc::EAGAIN, libc::EAGAIN, Ending::NotExecuted(libc::EAGAIN)),
            (libc::EAGAIN, libc::ENOMEM, Ending::NoRoom(libc::EAGAIN)),
            (libc::ENOMEM, 0, Ending::NoRoom(libc::ENOMEM)),
            (libc::ENOMEM, libc::ENOMEM, Ending::NotExecuted(libc::ENOMEM)),
            (libc::ENOMEM, libc::EAGAIN, Ending::NoRoom(libc::ENOMEM)),
            (libc::EACCES, 0, Ending::NotExecuted(libc::EACCES)),
        ] {
            assert_eq!(not_started(errno, has_taken_all_of(full)), ending, "{errno}, {full} is full");
        }
    }
}
