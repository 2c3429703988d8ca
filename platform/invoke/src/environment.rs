//! One execution environment: its sandbox, the life of its runtime process, and the running of one invocation.
//!
//! The dispatcher gives an environment to one invocation at a time, so whoever drives it is alone. The
//! freezer is the only other party; what the two share sits behind `idle`, a lock held for microseconds.

mod farewell;
mod launch;

use crate::conclusion::{Conclusion, End, Said};
use crate::freezer::Freezing;
use crate::gate::Gate;
use crate::invoker::{Invoked, Request};
use crate::life::{Gone, LOST, Life, gone};
use crate::network::{Attachment, Network, Reservation};
use crate::output::LogStyle;
use crate::reactors;
use crate::standstill;
use crate::streaming::{Caller, Ending, Flow, Streams, gather};
use control::Function;
use limits::Outcome;
use model::Refusal;
use runtime_api::{Answer, Facts, Incoming, Initialisation, Invocation, ShutdownReason};
use runtimes::Launch;
use sandbox::{Sandbox, Sandboxes, StartError};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use telemetry::{FunctionCounters, FunctionLog, Init, PlatformEvent, Report, Status, iso_time, unix_millis};
use tokio::sync::{RwLock, oneshot};

/// A function at one configuration, with what is needed to start it.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) function: Arc<Function>,
    pub(crate) log: Arc<FunctionLog>,
    pub(crate) log_style: LogStyle,
    /// What extensions are told of it.
    pub(crate) facts: Arc<Facts>,
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
    /// Who may run next, by reactor.
    pub(crate) gates: Box<[Gate]>,
}

impl Version {
    /// The gate of the reactor on which this is called.
    pub(crate) fn gate(&self) -> &Gate {
        // More reactors than gates share them.
        &self.gates[reactors::here() % self.gates.len()]
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

/// How long a runtime that has answered may take to ask for its next event before its caller gets the answer all the
/// same. Most take some 20 us, on a busy host a few milliseconds, and then the caller's next request finds the
/// environment free.
const GRACE: Duration = Duration::from_millis(20);
/// The same for extensions, which at AWS nobody's answer waits for: enough for those that do nothing but ask again.
const EXTENSIONS_GRACE: Duration = Duration::from_millis(1);

/// How long a runtime's last bytes may take to be passed on after it ended, and its end to be seen after its connection
/// broke. Both are there within microseconds, unless its caller reads nothing.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// An invocation shorter than this is prompt: it is over before another core would have been woken to help.
const PROMPT: Duration = Duration::from_micros(300);
/// After so many prompt invocations in a row an environment is kept on its reactor's core.
const HABIT: u32 = 8;
/// An invocation that takes longer than this gets all cores back.
const NOT_PROMPT: Duration = Duration::from_millis(2);
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

/// An environment of a SnapStart version could not be restored: the function's fault, not this host's.
///
/// Source: Lambda API reference, Invoke: SnapStartException (400), SnapStartTimeoutException (408).
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// Its after-restore hooks took too long.
    #[error("the after-restore hooks took longer than {} s", RESTORE_TIMEOUT.as_secs())]
    TimedOut,
    /// One of them failed, or the runtime ended.
    #[error("the after-restore hooks failed: {0}")]
    Failed(String),
}

/// What a function's environment says of how it was initialised, unless it was ahead. Source: Lambda Developer Guide,
/// "Defined runtime environment variables", published.
pub(crate) const ON_DEMAND: &str = "on-demand";

/// How long after-restore hooks may take. Source: Developer Guide, "Lambda SnapStart runtime hooks".
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);

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
                Err(Failed) => self.end_process().await,
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

    /// INIT of a new environment that nobody waits for; false when it failed, which was logged.
    pub(crate) async fn initialise_ahead(
        self: &Arc<Self>,
        sandboxes: &Sandboxes,
        prepared: &Prepared,
        stop: Stop,
    ) -> bool {
        match self.initialise(sandboxes, prepared, stop).await {
            Ok(Ok(_)) => true,
            Ok(Err(Failed)) => {
                self.end_process().await;
                false
            }
            Err(error) => {
                tracing::error!(limit = "host.sandboxes", function = %self.version.function.name, %error, "this host cannot initialise an environment ahead");
                false
            }
        }
    }

    /// In eras that made network interfaces at cold starts, one is waited for: before INIT, and outside its time limit.
    async fn wait_for_interface(&self) -> Result<(), HostError> {
        let Some(network) = &self.version.network else { return Ok(()) };
        let reserved = network.reserve(&self.version.function).map_err(HostError::NoInterface)?;
        let Some(reserved) = reserved else { return Ok(()) };
        let ready = reserved.ready();
        *self.reservation() = Some(reserved);
        tokio::time::sleep_until(ready.into()).await;
        Ok(())
    }

    /// INIT of a new environment: the inner error says that it failed, and was logged.
    async fn initialise(
        self: &Arc<Self>,
        sandboxes: &Sandboxes,
        prepared: &Prepared,
        stop: Stop,
    ) -> Result<Result<(Arc<Life>, Duration), Failed>, HostError> {
        self.wait_for_interface().await?;
        let begun = Instant::now();
        let life = self.begin_life(sandboxes, prepared, "init").await?;
        if stop == Stop::Never {
            life.session.restore();
        }
        let mut exit = life.exit.clone();
        let status = tokio::select! {
            biased;
            end = life.session.initialised() => match end {
                Initialisation::Ready => Status::Success,
                Initialisation::Failed { error_type, .. } => {
                    Status::Error(error_type.unwrap_or_else(|| "Runtime.Unknown".to_owned()))
                }
            },
            gone = gone(&mut exit) => Status::Error(gone.kind().to_owned()),
            () = standstill::until(begun + self.version.init_timeout) => Status::Timeout,
        };
        let duration = begun.elapsed();
        if status == Status::Success {
            self.with_sandbox(|sandbox| sandbox.init_done());
        }
        self.tell_initialised(&life, "init", &status, duration);
        if status == Status::Success {
            return Ok(Ok((life, duration)));
        }
        if life.session.has_extensions() {
            self.say_farewell(&life, reason_of(&status)).await;
        }
        Ok(Err(Failed))
    }

    /// Lets the runtime of an environment that was initialised ahead go on, and waits until its after-restore hooks have run.
    async fn restore(&self, life: &Life) -> Result<Duration, RestoreFailure> {
        let function = &self.version.function;
        life.output.platform(&[PlatformEvent::RestoreStart {
            runtime_version: restored_runtime(function),
            function_name: &function.name,
            function_version: &function.version,
        }]);
        let begun = Instant::now();
        life.session.restore();
        let mut exit = life.exit.clone();
        let failure = tokio::select! {
            biased;
            restored = life.session.restored() => match restored {
                Ok(()) => None,
                Err(error) => {
                    let kind = error.error_type.unwrap_or_else(|| "Runtime.AfterRestoreError".to_owned());
                    Some((Status::Error(kind.clone()), RestoreFailure::Failed(kind)))
                }
            },
            _ = gone(&mut exit) => {
                let kind = "Runtime.ExitError".to_owned();
                Some((Status::Error(kind.clone()), RestoreFailure::Failed(kind)))
            }
            () = standstill::until(begun + RESTORE_TIMEOUT) => Some((Status::Timeout, RestoreFailure::TimedOut)),
        };
        let duration = begun.elapsed();
        let status = failure.as_ref().map_or(&Status::Success, |(status, _)| status);
        life.drain();
        life.output.platform(&[
            PlatformEvent::RestoreRuntimeDone { status },
            PlatformEvent::RestoreReport { status, duration },
        ]);
        match failure {
            None => Ok(duration),
            Some((_, failure)) => {
                self.end_process().await;
                Err(failure)
            }
        }
    }

    /// INIT has ended: the log tells what became of extensions, and of a failure.
    fn tell_initialised(&self, life: &Life, phase: &str, status: &Status, duration: Duration) {
        let extensions = life.session.extension_statuses();
        let is_ahead = self.version.initialization_type != ON_DEMAND;
        if *status == Status::Success && extensions.is_empty() && !is_ahead && !life.output.is_detailed() {
            return;
        }
        life.drain();
        let init = Init { initialization_type: self.version.initialization_type, phase };
        let mut events = vec![PlatformEvent::InitRuntimeDone { init, status }];
        events.extend(extensions.iter().map(|extension| PlatformEvent::Extension {
            name: &extension.name,
            state: extension.state,
            events: &extension.events,
            error_type: extension.error_type.as_deref(),
        }));
        events.push(PlatformEvent::InitReport { init, status, duration });
        life.output.platform(&events);
    }

    /// One invocation on a live runtime, or on one that has to be started anew first.
    async fn handle(
        self: &Arc<Self>,
        sandboxes: &Sandboxes,
        prepared: &Prepared,
        life: Option<Arc<Life>>,
        opening: Opening,
        request: &Request,
        caller: &mut Caller,
    ) -> Result<Ran, HostError> {
        let function = &self.version.function;
        let begun = Instant::now();
        let deadline = begun + function.timeout;
        let suppressed = life.is_none();
        let life = match life {
            Some(life) => life,
            None => {
                self.end_process().await;
                let life = self.begin_life(sandboxes, prepared, "invoke").await?;
                life.session.restore();
                life
            }
        };
        let id = &request.request_id;
        life.output.begin(request.tail);
        let trace_id = request.trace_id.clone().unwrap_or_else(|| crate::id::trace_header().into());
        life.output.platform(&[PlatformEvent::Start {
            request_id: id,
            version: &function.version,
            trace_id: Some(&trace_id),
        }]);

        let (reply, answer) = oneshot::channel();
        // A suppressed INIT has used some of the time.
        let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        let invocation = Invocation {
            request_id: id.clone(),
            payload: request.payload.clone(),
            deadline_ms: unix_millis().saturating_add(u64::try_from(left_ms).unwrap_or(u64::MAX)),
            function_arn: request.invoked_arn.clone(),
            trace_id,
            client_context: request.client_context.clone(),
            reply,
        };
        let mut initialising = suppressed;
        let waited = match life.session.give(invocation) {
            Ok(()) => {
                if life.exit.borrow().is_some() {
                    // The process ended before it was given anything, and its watcher has come and gone.
                    drop(life.session.cancel());
                }
                self.wait(&life, answer, deadline, &mut initialising).await
            }
            // Cannot happen while the dispatcher gives an environment to one invocation at a time.
            Err(_) => Waited::Over(End::Exited(LOST)),
        };
        let mut content_type = None;
        let mut end = match waited {
            Waited::Over(end) => end,
            Waited::Streams(incoming) => {
                content_type = incoming.content_type().map(Arc::from);
                self.stream(&life, incoming, deadline, request, caller).await
            }
        };
        let mut answered = None;
        let mut runtime_done = false;
        let watched = life.session.has_extensions() || life.output.is_detailed();
        if end.is_answer() && (watched || life.session.idle_since().is_none()) {
            let said = self.answer_of(end.clone(), request, &content_type);
            let done = || {
                let status = Conclusion::of(end.clone(), function, id, Duration::ZERO, false).status;
                self.tell_runtime_done(&life, &status, id, begun.elapsed(), Some(said.payload.len()));
            };
            let seen_off = self.see_off(&life, &said, deadline, request, caller, done).await;
            runtime_done = !matches!(seen_off, SeenOff::Neither(_));
            if let SeenOff::Neither(other) | SeenOff::Runtime(other) = seen_off {
                answered = Some(said);
                end = other;
            }
        }
        let elapsed = begun.elapsed();
        self.get_used_to(elapsed);
        let limit = self.attachment().as_ref().and_then(|attachment| attachment.refused_since(begun));
        let mut conclusion = Conclusion::of(end, function, id, elapsed, initialising);
        if let Some(refusal) = &limit {
            conclusion.blame(id, refusal);
        }
        conclusion.said.content_type = content_type;
        if let Some(said) = answered {
            // The log tells what happened afterwards; the answer stands.
            conclusion.said = said;
        }
        if !runtime_done {
            let Conclusion { status, duration, .. } = &conclusion;
            self.tell_runtime_done(&life, status, id, *duration, None);
        }
        let reason = reason_of(&conclusion.status);
        let ran = self.conclude(&life, conclusion, opening, request, limit.as_ref());
        if ran.outcome != Outcome::Done && life.session.has_extensions() {
            // Extensions have their time after the invocation; its caller need not wait for them.
            caller.answer(Ok(ran.invoked.clone()));
            self.say_farewell(&life, reason).await;
        }
        Ok(ran)
    }

    /// The runtime is done with an invocation, whatever extensions still do.
    fn tell_runtime_done(
        &self,
        life: &Life,
        status: &Status,
        request_id: &str,
        duration: Duration,
        produced_bytes: Option<usize>,
    ) {
        if life.output.is_detailed() {
            // What the function printed comes before.
            life.drain();
            life.output.platform(&[PlatformEvent::RuntimeDone {
                request_id,
                status,
                duration,
                produced_bytes,
            }]);
        }
    }

    /// The runtime has answered, but has yet to ask for its next event, as have extensions; until then the invocation goes
    /// on, under the function's timeout, and is billed. Says how it ended otherwise. `runtime_done` is called once the runtime
    /// has asked.
    ///
    /// Source: Lambda Developer Guide, "Lambda execution environment lifecycle", Invoke phase.
    async fn see_off(
        &self,
        life: &Life,
        said: &Said,
        deadline: Instant,
        request: &Request,
        caller: &mut Caller,
        runtime_done: impl FnOnce(),
    ) -> SeenOff {
        let session = &life.session;
        let answer = |caller: &mut Caller| {
            self.let_go();
            // Who asks for the log wants it with its REPORT line, and that comes at the end.
            if !request.tail {
                caller.answer(Ok(self.invoked(said.clone(), None)));
            }
        };
        if tokio::time::timeout(GRACE, session.runtime_idle()).await.is_err() {
            answer(caller);
            if let Some(end) = self.unless_ended(life, deadline, session.runtime_idle()).await {
                return SeenOff::Neither(end);
            }
        }
        runtime_done();
        if session.idle_since().is_none()
            && tokio::time::timeout(EXTENSIONS_GRACE, session.idle()).await.is_err()
        {
            answer(caller);
            if let Some(end) = self.unless_ended(life, deadline, session.idle()).await {
                return SeenOff::Runtime(end);
            }
        }
        SeenOff::All
    }

    /// Waits for something, unless the processes or the time end first; then says which.
    async fn unless_ended(
        &self,
        life: &Life,
        deadline: Instant,
        something: impl Future<Output = ()>,
    ) -> Option<End> {
        let mut exit = life.exit.clone();
        tokio::select! {
            biased;
            () = something => None,
            gone = gone(&mut exit) => Some(self.end_by(gone)),
            () = standstill::until(deadline) => Some(End::TimedOut),
        }
    }

    fn end_by(&self, gone: Gone) -> End {
        match gone {
            Gone::Runtime(exit) => End::Exited(exit),
            Gone::Extension { kind, reason } => End::Extension { kind, reason },
            Gone::NotExecuted(errno) => {
                let prepared = self.version.prepared.get();
                let program = prepared.and_then(|prepared| prepared.launch.program.first());
                End::NotExecuted { program: program.cloned().unwrap_or_default(), errno }
            }
        }
    }

    /// What a caller gets for an answer.
    fn answer_of(&self, end: End, request: &Request, content_type: &Option<Arc<str>>) -> Said {
        let function = &self.version.function;
        let said = Conclusion::of(end, function, &request.request_id, Duration::ZERO, false).said;
        Said { content_type: content_type.clone(), ..said }
    }

    fn invoked(&self, said: Said, log_tail: Option<Vec<u8>>) -> Invoked {
        let Said { payload, failed, limit, content_type } = said;
        let version = self.version.function.version.clone();
        Invoked { payload, failed, log_tail, version, limit, content_type }
    }

    /// A streamed response, until it has ended: passed on as it comes, or gathered for a caller who wants it whole.
    async fn stream(
        &self,
        life: &Life,
        mut incoming: Incoming,
        deadline: Instant,
        request: &Request,
        caller: &mut Caller,
    ) -> End {
        // It is not over within microseconds.
        self.let_go();
        let function = &self.version.function;
        let content_type = incoming.content_type().map(Arc::from);
        let mut flow = caller
            .begin(content_type, &function.version)
            .map(|sender| Flow::new(sender, self.version.streams.open(&function.name)));
        let mut exit = life.exit.clone();
        let mut run = async || match &mut flow {
            Some(flow) => flow.run(&mut incoming).await,
            None => gather(&mut incoming).await,
        };
        let ending = tokio::select! {
            biased;
            ending = run() => ending,
            gone = gone(&mut exit) => match tokio::time::timeout(LAST_WORDS, run()).await {
                Ok(Ending::Broken) | Err(_) => return self.end_by(gone),
                Ok(ending) => ending,
            },
            () = standstill::until(deadline) => return End::TimedOut,
        };
        match ending {
            Ending::Replied(reply) => End::Replied(reply),
            Ending::TooLarge(refusal) => {
                let Refusal { limit, used, max, .. } = &refusal;
                tracing::info!(%limit, function = %function.name, request_id = %request.request_id, used, max, "a streamed response was cut");
                End::TooLarge(refusal)
            }
            Ending::Broken => match tokio::time::timeout(LAST_WORDS, gone(&mut exit)).await {
                Ok(gone) => self.end_by(gone),
                Err(_) => End::Truncated,
            },
        }
    }

    async fn wait(
        &self,
        life: &Life,
        mut answer: oneshot::Receiver<Answer>,
        deadline: Instant,
        initialising: &mut bool,
    ) -> Waited {
        let mut exit = life.exit.clone();
        let patience = if self.is_kept() { deadline.min(Instant::now() + NOT_PROMPT) } else { deadline };
        let sleep = tokio::time::sleep_until(patience.into());
        tokio::pin!(sleep);
        let mut is_put_off = false;
        loop {
            tokio::select! {
                biased;
                // Before the answer: a quick handler must not run on without its CPU quota.
                initialised = life.session.initialised(), if *initialising => {
                    *initialising = false;
                    match initialised {
                        Initialisation::Ready => {
                            self.with_sandbox(|sandbox| sandbox.init_done());
                            let left = deadline.saturating_duration_since(Instant::now());
                            let took = self.version.function.timeout.saturating_sub(left);
                            self.tell_initialised(life, "invoke", &Status::Success, took);
                        }
                        Initialisation::Failed { body, error_type } => {
                            *initialising = true;
                            return Waited::Over(End::InitFailed { body, error_type });
                        }
                    }
                }
                answer = &mut answer => return match answer {
                    Ok(Answer::Whole(reply)) => Waited::Over(End::Replied(reply)),
                    Ok(Answer::Stream(incoming)) => Waited::Streams(incoming),
                    // The watcher took the invocation back because the process ended.
                    Err(_) => Waited::Over(self.end_by(gone(&mut exit).await)),
                },
                () = &mut sleep => {
                    let now = Instant::now();
                    if let Some(later) = standstill::reprieve(deadline, now).filter(|_| !is_put_off) {
                        is_put_off = true;
                        sleep.as_mut().reset(later.into());
                        continue;
                    }
                    if now >= deadline {
                        return Waited::Over(End::TimedOut);
                    }
                    self.let_go();
                    sleep.as_mut().reset(deadline.into());
                }
            }
        }
    }

    /// Writes the log, and ends a runtime that failed.
    fn conclude(
        &self,
        life: &Life,
        conclusion: Conclusion,
        opening: Opening,
        request: &Request,
        limit: Option<&Refusal>,
    ) -> Ran {
        let function = &self.version.function;
        let Conclusion { said, outcome, status, duration, lines, init_failed } = conclusion;
        let mut memory_peak_bytes = 0;
        self.with_sandbox(|sandbox| memory_peak_bytes = sandbox.memory_peak_bytes());
        if outcome != Outcome::Done {
            // What is left of the runtime must not go on working, nor answer late.
            life.session.cancel();
            if !life.session.has_extensions() {
                self.kill();
            }
        }
        if outcome == Outcome::TimedOut {
            let max_s = function.timeout.as_secs_f64();
            let cause = limit.map(|refusal| refusal.to_string()).unwrap_or_default();
            tracing::info!(limit = "function.timeout", function = %function.name, request_id = %request.request_id, max_s, cause, "timed out");
        }
        let report = Report {
            request_id: &request.request_id,
            duration,
            init: opening.init,
            init_billed: self.version.init_billed,
            restore: opening.restore,
            memory_mb: function.memory_mb,
            memory_peak_bytes,
            status,
        };
        life.drain();
        life.output.end_line();
        if init_failed {
            self.tell_initialised(life, "invoke", &report.status, duration);
        }
        let mut events: Vec<_> = lines.iter().map(|line| PlatformEvent::Fault(line)).collect();
        events.push(PlatformEvent::End { request_id: &request.request_id });
        events.push(PlatformEvent::Report(&report));
        life.output.platform(&events);
        let log_tail = request.tail.then(|| life.output.tail());
        Ran { invoked: self.invoked(said, log_tail), outcome, duration }
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

/// Who asked for the next event before an invocation ended otherwise.
#[derive(Debug)]
enum SeenOff {
    /// The runtime and every extension.
    All,
    /// The runtime alone.
    Runtime(End),
    /// Not even the runtime.
    Neither(End),
}

/// How the log calls a restored runtime: no memory was loaded, so it says what was done instead, and whether AWS would
/// have taken the runtime.
fn restored_runtime(function: &Function) -> String {
    let runtime = function.runtime.as_deref().unwrap_or("provided");
    let known = function.runtime.as_deref().is_some_and(control::validate::snap_start::is_restored);
    let mark = if known { "" } else { "; experimental: AWS has no SnapStart for it" };
    format!("{runtime}.onrush (initialised ahead{mark})")
}

/// What extensions hear of an environment that ends with a failure.
fn reason_of(status: &Status) -> ShutdownReason {
    if *status == Status::Timeout { ShutdownReason::Timeout } else { ShutdownReason::Failure }
}

/// What came first of an invocation.
#[derive(Debug)]
enum Waited {
    /// All of it.
    Over(End),
    /// The beginning of its response.
    Streams(Incoming),
}

/// INIT failed; the log says how.
#[derive(Debug)]
struct Failed;

/// Where a SnapStart runtime stops on its way to its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nowhere: an invocation waits for it.
    Never,
    /// After its INIT, until its environment is taken.
    AfterInit,
}
