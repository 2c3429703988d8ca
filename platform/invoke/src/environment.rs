//! One execution environment: its sandbox, the life of its runtime process, and how it is used, frozen and kept on a core.
//!
//! The dispatcher gives an environment to one invocation at a time, so whoever drives it is alone. The
//! freezer is the only other party; what the two share sits behind `idle`, a lock held for microseconds.

mod farewell;
mod initialisation;
mod invocation;
mod launch;

pub use initialisation::RestoreFailure;
pub(crate) use initialisation::{Stop, Unready};

use crate::freezer::Freezing;
use crate::gate::Gate;
use crate::invoker::{Invoked, Request};
use crate::life::{Life, gone};
use crate::network::{Attachment, Network, Reservation};
use crate::output::LogStyle;
use crate::reactors;
use crate::streaming::{Caller, Streams};
use control::Function;
use initialisation::Failed;
use limits::Outcome;
use model::Refusal;
use runtime_api::{Facts, ShutdownReason};
use runtimes::Launch;
use sandbox::{Heritage, Sandbox, Sandboxes, StartError};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use telemetry::{FunctionCounters, FunctionLog, Status, iso_time, unix_millis};
use tokio::sync::RwLock;

/// A function at one configuration, with what is needed to start it.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) function: Arc<Function>,
    pub(crate) log: Arc<FunctionLog>,
    pub(crate) log_style: LogStyle,
    /// See [`Version::facts`].
    pub(crate) facts: OnceLock<Arc<Facts>>,
    /// Held for reading by whoever tells extensions of the end.
    pub(crate) farewells: Arc<RwLock<()>>,
    pub(crate) counters: Arc<FunctionCounters>,
    pub(crate) region: Arc<str>,
    pub(crate) init_timeout: Duration,
    pub(crate) init_billed: bool,
    /// `on-demand`, `provisioned-concurrency` or `snap-start`.
    pub(crate) initialization_type: &'static str,
    pub(crate) network: Option<Arc<dyn Network>>,
    /// The limits for streamed responses.
    pub(crate) streams: Arc<Streams>,
    /// What runs it; made once, when the first environment starts.
    pub(crate) prepared: tokio::sync::OnceCell<Arc<Prepared>>,
    /// Who may run next, by reactor; made at the first invocation, for most of many functions are not called.
    pub(crate) gates: OnceLock<Box<[Gate]>>,
    /// What its environments leave to one another.
    pub(crate) heritage: Heritage,
}

impl Version {
    /// What extensions are told of it; made at the first start.
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        self.facts.get_or_init(|| {
            let function = &self.function;
            Arc::new(Facts {
                function_name: function.name.clone(),
                function_version: function.version.clone(),
                handler: function.handler.clone().unwrap_or_default(),
                account_id: function.arn.split(':').nth(4).unwrap_or_default().to_owned(),
            })
        })
    }

    /// The gate of the reactor on which this is called.
    pub(crate) fn gate(&self) -> &Gate {
        let gates = self.gates.get_or_init(|| (0..reactors::GATES).map(|_| Gate::default()).collect());
        // More reactors than gates share them.
        &gates[reactors::here() % gates.len()]
    }
}

/// What it takes to start a function's environments.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) launch: Launch,
    /// Layers, merged into one folder.
    pub(crate) opt: Option<PathBuf>,
    /// Where the program starts.
    pub(crate) working_directory: String,
    /// Names of the files in `/opt/extensions`.
    pub(crate) extensions: Arc<[Arc<str>]>,
}

/// One execution environment.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) version: Arc<Version>,
    log_stream: String,
    /// Before the sandbox, which must outlive it.
    attachment: Mutex<Option<Box<dyn Attachment>>>,
    /// Room in the network, from before there is a sandbox until that is attached.
    reservation: Mutex<Option<Box<dyn Reservation>>>,
    sandbox: RwLock<Option<Sandbox>>,
    /// The reactor that serves its runtime.
    home: AtomicUsize,
    /// Invocations in a row that were over promptly; `u32::MAX` when the host does not let us keep it on a core.
    prompt: AtomicU32,
    idle: Mutex<Idle>,
}

#[derive(Debug)]
struct Idle {
    busy: bool,
    frozen: bool,
    queued: bool,
    ended: bool,
    last_used: Instant,
    life: Option<Arc<Life>>,
}

/// How an environment is taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is warm.
    Run,
    /// It is new: INIT runs first, under its own time limit.
    Start,
    /// It is new, but its INIT ran ahead: SnapStart's.
    Restore,
    /// Its runtime must be started anew, inside the invocation (a suppressed INIT).
    Reset,
}

/// What a new environment took before its first invocation.
#[derive(Clone, Copy, Debug, Default)]
struct Opening {
    init: Option<Duration>,
    restore: Option<Duration>,
}

/// What an invocation came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) invoked: Invoked,
    pub(crate) outcome: Outcome,
    pub(crate) duration: Duration,
}

/// An invocation shorter than this is prompt: it is over before another core would have been woken to help.
const PROMPT: Duration = Duration::from_micros(300);
/// After so many prompt invocations in a row an environment is kept on its reactor's core.
const HABIT: u32 = 8;
/// A function with more memory than this has more than one core. Source: Lambda Developer Guide, "Configure Lambda function
/// memory".
const ONE_CORE_MB: u32 = 1_769;

/// The host could not make a sandbox. Never reported as a limit of AWS's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("cannot start a sandbox: {0}")]
    Start(#[from] StartError),
    #[error("cannot serve a sandbox: {0}")]
    Serve(#[from] io::Error),
    #[error(transparent)]
    Restore(#[from] RestoreFailure),
    /// There is no room for its network interface: a limit of AWS's, not this host's.
    #[error("{0}")]
    NoInterface(Refusal),
}

impl HostError {
    /// There was no room for the process of a program, for this errno.
    fn no_room(errno: i32) -> Self {
        let error = io::Error::from_raw_os_error(errno);
        Self::Start(StartError::Host { doing: "start the program".to_owned(), error })
    }

    /// Whether the host is short of something that environments hold: descriptors, processes, namespaces, room.
    pub(crate) fn is_shortage(&self) -> bool {
        let (Self::Start(StartError::Host { error, .. }) | Self::Serve(error)) = self else { return false };
        let held = [
            libc::EMFILE,
            libc::ENFILE,
            libc::EAGAIN,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EUSERS,
            libc::EADDRNOTAVAIL,
        ];
        error.raw_os_error().is_some_and(|errno| held.contains(&errno))
    }
}

/// What a function's environment says of how it was initialised, unless it was ahead. Source: Lambda Developer Guide,
/// "Defined runtime environment variables", published.
pub(crate) const ON_DEMAND: &str = "on-demand";

impl Environment {
    pub(crate) fn new(version: Arc<Version>) -> Arc<Self> {
        let date = iso_time(unix_millis());
        let (year, month, day) = (&date[..4], &date[5..7], &date[8..10]);
        let log_stream = format!("{year}/{month}/{day}/[{}]{}", version.function.version, crate::id::hex32());
        let idle = Idle {
            busy: true,
            frozen: false,
            queued: false,
            ended: false,
            last_used: Instant::now(),
            life: None,
        };
        Arc::new(Self {
            version,
            log_stream,
            attachment: Mutex::new(None),
            reservation: Mutex::new(None),
            sandbox: RwLock::new(None),
            home: AtomicUsize::new(0),
            prompt: AtomicU32::new(0),
            idle: Mutex::new(idle),
        })
    }

    /// Runs one invocation. `on_started` is called when INIT is over and the handler's time begins.
    pub(crate) async fn run(
        self: &Arc<Self>,
        sandboxes: &Sandboxes,
        entry: Entry,
        prepared: &Prepared,
        request: &Request,
        caller: &mut Caller,
        on_started: impl FnOnce() + Send,
    ) -> Result<Ran, HostError> {
        let mut opening = Opening::default();
        let mut life = self.take(entry);
        if entry == Entry::Start {
            FunctionCounters::count(&self.version.counters.cold_starts);
            match self.initialise(sandboxes, prepared, Stop::Never).await? {
                Ok((alive, duration)) => {
                    life = Some(alive);
                    opening.init = Some(duration);
                }
                // INIT runs again below, inside the invocation and under the function's timeout.
                Err(Failed { .. }) => self.end_process().await,
            }
        }
        if entry == Entry::Restore
            && let Some(life) = &life
        {
            FunctionCounters::count(&self.version.counters.cold_starts);
            opening.restore = Some(self.restore(life).await?);
        }
        on_started();
        self.handle(sandboxes, prepared, life, opening, request, caller).await
    }

    /// Marks the environment as used and wakes it; its life, if its process is still there.
    fn take(&self, entry: Entry) -> Option<Arc<Life>> {
        let mut idle = self.lock();
        idle.busy = true;
        if idle.frozen {
            idle.frozen = false;
            if let Ok(sandbox) = self.sandbox.try_read()
                && let Some(sandbox) = &*sandbox
                && let Err(error) = sandbox.thaw()
            {
                tracing::error!(%error, function = %self.version.function.name, "cannot thaw an environment; it is started anew");
                return None;
            }
        }
        let life = if matches!(entry, Entry::Run | Entry::Restore) { idle.life.clone() } else { None };
        life.filter(|life| life.exit.borrow().is_none())
    }

    /// Ends the runtime's process and waits until it is gone; `/tmp` stays.
    async fn end_process(&self) {
        let life = self.lock().life.take();
        if let Some(life) = life {
            self.kill();
            let mut exit = life.exit.clone();
            gone(&mut exit).await;
        }
    }

    /// The invocation is over and the environment goes back to the dispatcher.
    pub(crate) fn release(&self) {
        let mut idle = self.lock();
        idle.busy = false;
        idle.last_used = Instant::now();
    }

    /// Ends everything in the environment. First it leaves the network, so that nobody hears its connections close: at
    /// AWS an environment that is taken away says no goodbye either.
    fn leave(&self) {
        drop(self.attachment().take());
        self.kill();
    }

    fn reservation(&self) -> MutexGuard<'_, Option<Box<dyn Reservation>>> {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attachment(&self) -> MutexGuard<'_, Option<Box<dyn Attachment>>> {
        self.attachment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the environment has to be put into the freezer's queue: it stands there at most once.
    pub(crate) fn queue_for_freezing(&self) -> bool {
        let mut idle = self.lock();
        let fresh = !idle.queued && !idle.frozen && !idle.ended;
        idle.queued |= fresh;
        fresh
    }

    /// Freezes the environment if it has been idle for `after`.
    pub(crate) fn freeze_if_idle(&self, after: Duration) -> Freezing {
        let mut idle = self.lock();
        let life = idle.life.clone();
        let Some(life) = life.filter(|_| !idle.busy && !idle.ended && !idle.frozen) else {
            idle.queued = false;
            return Freezing::Over;
        };
        let idle_for = idle.last_used.elapsed();
        if idle_for < after {
            return Freezing::NotYet(after - idle_for);
        }
        if life.exit.borrow().is_some() {
            idle.queued = false;
            return Freezing::Over;
        }
        if life.session.idle_since().is_none() {
            return Freezing::Reluctant(idle_for);
        }
        if let Ok(sandbox) = self.sandbox.try_read()
            && let Some(sandbox) = &*sandbox
        {
            match sandbox.freeze() {
                Ok(()) => idle.frozen = true,
                Err(error) => tracing::debug!(%error, "cannot freeze an environment"),
            }
        }
        idle.queued = false;
        Freezing::Over
    }

    /// Keeps the environment on its reactor's core once its invocations are prompt by habit: then nobody has to wake
    /// another core, neither for the event nor for the answer.
    fn get_used_to(&self, elapsed: Duration) {
        let prompt = self.prompt.load(Ordering::Relaxed);
        if prompt == HABIT && self.home() == reactors::here() {
            reactors::stay();
        }
        if prompt >= HABIT || self.version.function.memory_mb > ONE_CORE_MB || self.home() != reactors::here()
        {
            return;
        }
        let mut prompt = if elapsed < PROMPT { prompt + 1 } else { 0 };
        if prompt == HABIT
            && let Some(core) = reactors::core()
        {
            self.with_sandbox(|sandbox| {
                if let Err(error) = sandbox.keep_on(&core) {
                    tracing::debug!(%error, "cannot keep an environment on a core");
                    prompt = u32::MAX;
                }
            });
        }
        self.prompt.store(prompt, Ordering::Relaxed);
    }

    /// Whether the environment is kept on a core.
    fn is_kept(&self) -> bool {
        self.prompt.load(Ordering::Relaxed) == HABIT
    }

    /// Gives the environment all cores again.
    fn let_go(&self) {
        if self.is_kept() {
            self.prompt.store(0, Ordering::Relaxed);
            self.with_sandbox(|sandbox| drop(sandbox.keep_on(reactors::all_cores())));
        }
    }

    /// The reactor that serves its runtime.
    pub(crate) fn home(&self) -> usize {
        self.home.load(Ordering::Relaxed)
    }

    /// Whether this reactor serves its runtime, which is not frozen.
    pub(crate) fn is_hot_here(&self) -> bool {
        self.home() == reactors::here() && !self.lock().frozen
    }

    fn kill(&self) {
        self.with_sandbox(Sandbox::kill);
    }

    fn with_sandbox(&self, act: impl FnOnce(&Sandbox)) {
        // Only the driver writes, and it is the driver (or the end of the environment) that calls this; a writer
        // that holds the lock is starting a process and looks at `ended` afterwards.
        if let Ok(sandbox) = self.sandbox.try_read()
            && let Some(sandbox) = &*sandbox
        {
            act(sandbox);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What extensions hear of an environment that ends with a failure.
fn reason_of(status: &Status) -> ShutdownReason {
    if *status == Status::Timeout { ShutdownReason::Timeout } else { ShutdownReason::Failure }
}
