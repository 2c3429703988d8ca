//! One invocation in an environment: its event is given, its answer waited for, and what became of it told.

use super::{Environment, HostError, Opening, Prepared, Ran, reason_of};
use crate::conclusion::{Conclusion, End, Said};
use crate::invoker::{Invoked, Request};
use crate::life::{Gone, LOST, Life, gone};
use crate::standstill;
use crate::streaming::{Caller, Ending, Flow, gather};
use limits::Outcome;
use model::Refusal;
use runtime_api::{Answer, Incoming, Initialisation, Invocation};
use sandbox::Sandboxes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::{PlatformEvent, Report, Status, unix_millis};
use tokio::sync::oneshot;

/// How long a runtime that has answered may take to ask for its next event before its caller gets the answer all the
/// same. Most take some 20 us, on a busy host a few milliseconds, and then the caller's next request finds the
/// environment free.
const GRACE: Duration = Duration::from_millis(20);
/// The same for extensions, which at AWS nobody's answer waits for: enough for those that do nothing but ask again.
const EXTENSIONS_GRACE: Duration = Duration::from_millis(1);

/// How long a runtime's last bytes may take to be passed on after it ended, and its end to be seen after its connection
/// broke. Both are there within microseconds, unless its caller reads nothing.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// An invocation that takes longer than this gets all cores back.
const NOT_PROMPT: Duration = Duration::from_millis(2);

impl Environment {
    /// One invocation on a live runtime, or on one that has to be started anew first.
    pub(super) async fn handle(
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
            Waited::NoRoom(errno) => {
                life.end_lines();
                life.output.platform(&[PlatformEvent::End { request_id: id }]);
                return Err(HostError::no_room(errno));
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
        // Of a link that was slow, a function that is done has nothing to say.
        let limit = limit.filter(|refusal| !refusal.limit.is_pace() || conclusion.outcome != Outcome::Done);
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
            Gone::NotExecuted(errno) | Gone::NoRoom(errno) => {
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
                    Err(_) => match gone(&mut exit).await {
                        Gone::NoRoom(errno) => Waited::NoRoom(errno),
                        gone => Waited::Over(self.end_by(gone)),
                    },
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
        self.with_sandbox(|sandbox| memory_peak_bytes = sandbox.memory_peak_bytes(outcome != Outcome::Done));
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

/// What came first of an invocation.
#[derive(Debug)]
enum Waited {
    /// All of it.
    Over(End),
    /// The beginning of its response.
    Streams(Incoming),
    /// That this host had no room for a process, for this errno; nothing of the function ran.
    NoRoom(i32),
}
