//! The handle that starts environments: the platform's end of the conversation with the jailer.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

use crate::ability::Abilities;
use crate::cgroup::ControlGroups;
use crate::protocol::{Reply, Request};
use crate::sandbox::{Interface, Sandbox};
use crate::socket::{self, PACKET_BYTES_MAX};
use crate::spec::{COMPANIONS_MAX, Isolation, Spec};
use crate::syscalls;

/// How long an orderly end may take before the jailer, and with it everything, is killed.
const SHUTDOWN: Duration = Duration::from_secs(1);
const REAP_RETRY: Duration = Duration::from_millis(2);
/// How long a jailer that says nothing more may take to be gone, with everything in it.
const ENDED: Duration = Duration::from_millis(500);
/// Longest host name (the kernel's limit).
const HOST_NAME_BYTES_MAX: usize = 64;

/// Why an environment did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program could not be executed: not there, not executable, of another machine.
    #[error("cannot execute {program}: {error}")]
    Program {
        /// The path inside.
        program: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The working directory is not there, or cannot be entered.
    #[error("cannot enter {folder}: {error}")]
    WorkingDirectory {
        /// The path inside.
        folder: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A part of the environment could not be made; a limit of this host, not of AWS.
    #[error("this host could not {doing}: {error}{}", crate::shortage::hint(doing, error))]
    Host {
        /// The step that failed.
        doing: String,
        /// What the host said.
        error: io::Error,
    },
    /// The spec itself is wrong.
    #[error("{field} {problem}")]
    Spec {
        /// The field of [`Spec`].
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The jailer is gone, and every environment with it.
    #[error("the jailer is gone")]
    JailerGone,
}

/// Descriptors of an environment without companions or an interface.
const DELIVERED: usize = 4;

/// What comes with a [`Reply::Started`].
pub(crate) struct Delivery {
    pub group: Option<String>,
    pub address: String,
    pub listener: OwnedFd,
    pub output: OwnedFd,
    /// One of each companion.
    pub companion_outputs: Vec<OwnedFd>,
    pub status: OwnedFd,
    pub pidfd: OwnedFd,
    pub interface: Option<Interface>,
}

/// What a request is answered with.
pub(crate) enum Answer {
    Environment(Box<Delivery>),
    Socket(OwnedFd),
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, StartError>>>;

/// What all handles share.
pub(crate) struct Shared {
    socket: AsyncFd<Arc<OwnedFd>>,
    pidfd: OwnedFd,
    abilities: Abilities,
    pub groups: Arc<ControlGroups>,
    pub isolation: Isolation,
    /// `None` once the jailer is gone.
    waiting: Mutex<Option<Waiting>>,
    next_id: AtomicU64,
    next_version: AtomicU64,
    /// What dropping says, sent in the background because it cannot wait. At most one per environment and version.
    farewells: mpsc::UnboundedSender<Request>,
    gone: watch::Sender<bool>,
    is_shut_down: AtomicBool,
    /// Held while one is set: the quota of whoever gets the group of a dead environment comes after that of its death.
    pub quotas: Mutex<()>,
}

/// What environments of one version of a function leave to the next of them: networks, groups and file systems that are
/// cleaned and used again, by nobody else. It is destroyed when this is dropped.
pub struct Heritage {
    version_key: u64,
    shared: Arc<Shared>,
}

impl Heritage {
    /// What [`Spec::version_key`] has to be.
    pub fn version_key(&self) -> u64 {
        self.version_key
    }
}

impl std::fmt::Debug for Heritage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Heritage").field("version_key", &self.version_key).finish_non_exhaustive()
    }
}

impl Drop for Heritage {
    fn drop(&mut self) {
        // Closed only when the runtime is ending, and everything with it.
        let _ = self.shared.farewells.send(Request::Forget { version_key: self.version_key });
    }
}

/// Starts environments. Cheap to clone; all clones speak to the same jailer.
#[derive(Clone)]
pub struct Sandboxes {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Sandboxes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sandboxes").field("isolation", &self.shared.isolation).finish_non_exhaustive()
    }
}

/// Takes the answer's place away when its caller stops waiting.
struct Turn<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.shared.waiting().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), StartError> {
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| socket::send(socket, bytes, &[])).await;
        sent.map_err(|_| StartError::JailerGone)
    }

    /// Sends a request about `id` and waits for what is made of it. Whoever stops waiting loses nothing: what
    /// arrives unasked is released.
    pub async fn ask(&self, id: u64, bytes: &[u8]) -> Result<Delivery, StartError> {
        match self.ask_any(id, bytes).await? {
            Answer::Environment(delivery) => Ok(*delivery),
            Answer::Socket(_) => Err(StartError::JailerGone),
        }
    }

    /// A socket inside environment `id`.
    pub async fn ask_socket(&self, id: u64) -> Result<OwnedFd, StartError> {
        let turn = self.next_id.fetch_add(1, Ordering::Relaxed);
        match self.ask_any(turn, &Request::Socket { id, turn }.to_bytes()).await? {
            Answer::Socket(socket) => Ok(socket),
            Answer::Environment(_) => Err(StartError::JailerGone),
        }
    }

    async fn ask_any(&self, id: u64, bytes: &[u8]) -> Result<Answer, StartError> {
        let (answer, answered) = oneshot::channel();
        match self.waiting().as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(StartError::JailerGone),
        };
        let _turn = Turn { shared: self, id };
        self.send(bytes).await?;
        answered.await.unwrap_or(Err(StartError::JailerGone))
    }

    /// Says that nobody has a use for the environment any more, and whether its program was started.
    pub fn release(&self, id: u64, ran: bool) {
        // Closed only when the runtime is ending; then the socket closes soon and says it all.
        let _ = self.farewells.send(Request::Release { id, ran });
    }

    fn deliver(&self, id: u64, result: Result<Answer, StartError>) {
        let waiter = self.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
        let made = matches!(result, Ok(Answer::Environment(_)));
        let unwanted = match waiter {
            Some(waiter) => waiter.send(result).is_err(),
            None => true,
        };
        if unwanted && made {
            self.release(id, false);
        }
    }

    fn take_reply(&self, bytes: &[u8], descriptors: Vec<OwnedFd>) {
        match Reply::from_bytes(bytes) {
            Ok(Reply::Socket { turn }) => {
                let lost = || StartError::Host {
                    doing: "receive a socket".into(),
                    error: io::Error::from_raw_os_error(libc::EMFILE),
                };
                self.deliver(turn, descriptors.into_iter().next().map(Answer::Socket).ok_or_else(lost));
            }
            Ok(Reply::Started { id, group, address, interface, companions }) => {
                let mut descriptors = descriptors;
                // Fewer arrive when they exceed our limit of open files; the kernel drops the last.
                let wanted = DELIVERED + usize::from(companions) + usize::from(interface.is_some());
                let is_complete = descriptors.len() == wanted;
                let device = if interface.is_some() { descriptors.pop() } else { None };
                let companion_outputs = descriptors.split_off(descriptors.len().min(DELIVERED));
                let interface = interface.zip(device).map(|((address, address6), device)| Interface {
                    device,
                    address: address.into(),
                    address6: address6.into(),
                });
                let result = match <[OwnedFd; DELIVERED]>::try_from(descriptors) {
                    Ok([listener, output, status, pidfd]) if is_complete => {
                        let delivery = Delivery {
                            group,
                            address,
                            listener,
                            output,
                            companion_outputs,
                            status,
                            pidfd,
                            interface,
                        };
                        Ok(Answer::Environment(Box::new(delivery)))
                    }
                    _ => {
                        self.release(id, false);
                        let error = io::Error::from_raw_os_error(libc::EMFILE);
                        Err(StartError::Host { doing: "receive an environment's descriptors".into(), error })
                    }
                };
                self.deliver(id, result);
            }
            Ok(Reply::Failed { id, doing, errno }) => {
                let error = io::Error::from_raw_os_error(errno);
                self.deliver(id, Err(StartError::Host { doing, error }));
            }
            Ok(Reply::Finished) => {}
            Ok(Reply::Ready { .. } | Reply::Unfit { .. }) | Err(_) => {
                tracing::error!("the jailer sent a message that makes no sense here");
            }
        }
    }
}

/// Reads replies until the jailer is gone, then lets everybody know.
async fn read_replies(shared: Arc<Shared>) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let finished = Reply::Finished.to_bytes();
    loop {
        let received =
            shared.socket.async_io(Interest::READABLE, |socket| socket::receive(socket, &mut buffer)).await;
        match received {
            Ok((count, descriptors)) if count > 0 && buffer[..count] != finished[..] => {
                shared.take_reply(&buffer[..count], descriptors);
            }
            _ => break,
        }
    }
    drop(shared.waiting().take());
    shared.gone.send_replace(true);
}

async fn send_farewells(shared: Arc<Shared>, mut farewells: mpsc::UnboundedReceiver<Request>) {
    while let Some(farewell) = farewells.recv().await {
        if shared.send(&farewell.to_bytes()).await.is_err() {
            return;
        }
    }
}

impl Sandboxes {
    pub(crate) fn new(
        socket: OwnedFd,
        pidfd: OwnedFd,
        abilities: Abilities,
        groups: Arc<ControlGroups>,
        isolation: Isolation,
    ) -> io::Result<Sandboxes> {
        // Also the jailer's end would turn non-blocking if this were an attribute of the file; of a socket it
        // is one of each end.
        rustix::io::ioctl_fionbio(&socket, true)?;
        let (farewells, said) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            socket: syscalls::watch(Arc::new(socket), Interest::READABLE | Interest::WRITABLE)?,
            pidfd,
            abilities,
            groups,
            isolation,
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(1),
            next_version: AtomicU64::new(1),
            farewells,
            gone: watch::Sender::new(false),
            is_shut_down: AtomicBool::new(false),
            quotas: Mutex::new(()),
        });
        tokio::spawn(read_replies(shared.clone()));
        tokio::spawn(send_farewells(shared.clone(), said));
        Ok(Sandboxes { shared })
    }

    /// A new version of some function, whoever's it is: no other has its key.
    pub fn heritage(&self) -> Heritage {
        let version_key = self.shared.next_version.fetch_add(1, Ordering::Relaxed);
        Heritage { version_key, shared: self.shared.clone() }
    }

    /// Starts one environment and waits until its program is executed (about half a millisecond). Many starts
    /// may be under way at once.
    ///
    /// # Errors
    /// [`StartError::Program`] when the program cannot be executed; [`StartError::Host`] when this host lacks
    /// something, named; nothing half-made stays behind.
    pub async fn start(&self, spec: Arc<Spec>) -> Result<Sandbox, StartError> {
        let mut sandbox = self.launch(spec).await?;
        sandbox.take_started().wait().await?;
        Ok(sandbox)
    }

    /// As [`start`](Sandboxes::start), but waits only until there is an environment, so that whoever serves it can get
    /// ready meanwhile; [`Sandbox::take_started`] tells when its program runs.
    ///
    /// # Errors
    /// [`StartError::Host`] and [`StartError::Spec`] as there; what concerns the program comes later.
    pub async fn launch(&self, spec: Arc<Spec>) -> Result<Sandbox, StartError> {
        check(&spec)?;
        if !spec.image.is_empty() && self.shared.isolation == Isolation::Process {
            let problem = "cannot be run as a plain process: run without --isolation process";
            return Err(StartError::Spec { field: "a container image", problem });
        }
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let bytes = Request::start_bytes(id, &spec);
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(StartError::Spec {
                field: "program and environment",
                problem: "exceed 128 KiB together",
            });
        }
        let delivery = self.shared.ask(id, &bytes).await?;
        Sandbox::take_over(self.shared.clone(), id, spec, delivery)
    }

    /// What this host can enforce; every entry was tried.
    pub fn abilities(&self) -> &Abilities {
        &self.shared.abilities
    }

    /// Whether [`shutdown`](Self::shutdown) was begun: starts that fail since then are no fault of the host's.
    pub fn is_shut_down(&self) -> bool {
        self.shared.is_shut_down.load(Ordering::Acquire)
    }

    /// Kills every environment and removes all that was made, within 1.5 s. Starts fail from now on.
    pub async fn shutdown(&self) {
        let deadline = tokio::time::Instant::now() + SHUTDOWN;
        self.shared.is_shut_down.store(true, Ordering::Release);
        let mut gone = self.shared.gone.subscribe();
        drop(self.shared.send(&Request::Shutdown.to_bytes()).await);
        if tokio::time::timeout_at(deadline, gone.wait_for(|gone| *gone)).await.is_err() {
            // Its death ends everything but groups, and those the next start removes.
            let _ = rustix::process::pidfd_send_signal(&self.shared.pidfd, rustix::process::Signal::KILL);
        }
        let deadline = deadline.max(tokio::time::Instant::now() + ENDED);
        while !self.reaped() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(REAP_RETRY).await;
        }
        if !self.reaped() {
            // On a busy host the kernel is still taking its networks apart.
            let last = self.clone();
            drop(std::thread::Builder::new().name("mourner".into()).spawn(move || last.mourn()));
        }
        // The jailer removes its groups on its way out; one that was killed could not.
        let groups = self.shared.groups.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            let cleared = groups.clear(Instant::now() + ENDED);
            groups.leave();
            cleared
        });
        if let Ok(Ok(Err(error))) = tokio::time::timeout_at(deadline, cleared).await {
            tracing::warn!(%error, "control groups are left behind; the next start removes them");
        }
    }

    /// Waits until the jailer is gone from the process table.
    fn mourn(&self) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let jailer = || WaitId::PidFd(self.shared.pidfd.as_fd());
        while matches!(waitid(jailer(), WaitIdOptions::EXITED), Err(rustix::io::Errno::INTR)) {}
    }

    /// Whether the jailer is gone from the process table.
    fn reaped(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let jailer = WaitId::PidFd(self.shared.pidfd.as_fd());
        !matches!(waitid(jailer, WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(None))
    }
}

/// What can be told without the host.
fn check(spec: &Spec) -> Result<(), StartError> {
    let wrong = |field, problem| Err(StartError::Spec { field, problem });
    if spec.program.is_empty() {
        return wrong("program", "is empty");
    }
    if spec.hostname.is_empty() || spec.hostname.len() > HOST_NAME_BYTES_MAX {
        return wrong("hostname", "must be 1 to 64 bytes");
    }
    if spec.memory_mb == 0 {
        return wrong("memory_mb", "is 0");
    }
    if spec.tmp_mb == 0 {
        return wrong("tmp_mb", "is 0");
    }
    if spec.companions.programs.len() > COMPANIONS_MAX {
        return wrong("companions", "are more than ten");
    }
    if spec.image.iter().any(|layer| !layer.is_absolute()) {
        return wrong("image", "must be absolute paths of the host");
    }
    if spec.image.is_empty() && !spec.task.is_absolute()
        || spec.binds.iter().any(|bind| !bind.host.is_absolute())
    {
        return wrong("task and binds", "must be absolute paths of the host");
    }
    Ok(())
}
