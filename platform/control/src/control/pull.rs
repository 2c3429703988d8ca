//! Images that are fetched while callers go on: a function waits in State Pending, or runs what it has, until its image is there.
//!
//! ```text
//!   create, update_code, deploy -> a look at the manifest -> the row says what is wanted, durable -> the caller's answer
//!     -> a thread fetches the layers -> the row has the image, or says why not
//! ```
//!
//! What is wanted stands in the function's own row, so that a restart goes on, and a pull that nobody wants any more (another
//! update, DeleteFunction) finds its ticket gone and ends.

use super::{Control, Edit, Fresh};
use crate::function::{Function, LastUpdateStatus, State, StateReason};
use crate::image::{Image, ImageFault, Pull};
use crate::request::Deploy;
use model::error::{ApiError, ErrorCode};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Images that are fetched at the same time. Ours: each is a download and an unpacking process.
const PULLS_MAX: usize = 12;
/// The same from one registry: a slow one leaves room for the others.
const PULLS_OF_HOST_MAX: usize = 3;

/// The pulls of one control room.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    queue: Mutex<Queue>,
    settled: Condvar,
    /// The end was announced: nothing is wanted any more, and the next start goes on.
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whose they are; nothing runs before that is known.
    of: Option<Weak<Control>>,
    waiting: VecDeque<Job>,
    running: Vec<Errand>,
}

/// What is fetched, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Errand {
    /// The registry; nothing for what lies on this machine.
    host: String,
    source: String,
    architecture: String,
}

/// One image for one function. Bound: one a function, those that are given up end by themselves.
#[derive(Debug)]
struct Job {
    function: String,
    ticket: String,
    errand: Errand,
    /// What the template says, to be deployed once the image is there; else the function as it is gets the image.
    deploy: Option<Box<Deploy>>,
}

impl Errand {
    fn of(pull: &Pull) -> Self {
        let Pull { source, architecture, .. } = pull;
        let host = match source.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => {
                host.trim_start_matches('.')
            }
            _ if source.starts_with('/') => "",
            _ => "docker.io",
        };
        Self { host: host.to_owned(), source: source.clone(), architecture: architecture.clone() }
    }
}

impl Job {
    fn of(function: &Function, pull: &Pull, deploy: Option<Box<Deploy>>) -> Self {
        let (function, ticket) = (function.name.clone(), pull.ticket.clone());
        Self { function, ticket, errand: Errand::of(pull), deploy }
    }
}

impl Queue {
    /// The next job that may run beside those that do. One that wants what is being fetched waits for that: it finds all layers
    /// in place then, or fetches what the first could not.
    fn next(&mut self) -> Option<Job> {
        if self.running.len() >= PULLS_MAX {
            return None;
        }
        let may_run = |job: &Job| {
            let of_host = self.running.iter().filter(|errand| errand.host == job.errand.host).count();
            of_host < PULLS_OF_HOST_MAX && !self.running.contains(&job.errand)
        };
        let at = self.waiting.iter().position(may_run)?;
        let job = self.waiting.remove(at)?;
        self.running.push(job.errand.clone());
        Some(job)
    }

    /// Hands out what may run now, each job to somebody new. A job that nobody is there for stays the next one.
    fn staff(&mut self, hire: impl Fn() -> io::Result<SyncSender<Job>>) -> io::Result<()> {
        while let Some(job) = self.next() {
            match hire() {
                Ok(worker) => worker.send(job).expect("who was hired waits for the job"),
                Err(error) => {
                    self.done(&job.errand);
                    self.waiting.push_front(job);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn done(&mut self, errand: &Errand) {
        if let Some(at) = self.running.iter().position(|running| running == errand) {
            self.running.swap_remove(at);
        }
    }
}

impl Pulls {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Begins to fetch the images that functions wait for, those that an earlier run did not get included.
    pub fn begin_pulls(self: &Arc<Self>) {
        let mut queue = self.pulls.lock();
        queue.of = Some(Arc::downgrade(self));
        for function in self.snapshot().known() {
            let Some(pull) = &function.pull else { continue };
            if !queue.waiting.iter().any(|job| job.ticket == pull.ticket) {
                tracing::info!(
                    function = function.name,
                    image = pull.uri,
                    "the image is still to be fetched"
                );
                queue.waiting.push_back(Job::of(function, pull, None));
            }
        }
        drop(queue);
        self.staff_pulls();
    }

    /// Tries again to fetch what waits for want of a thread. Cost where nothing waits: a lock.
    pub fn retry_pulls(&self) {
        self.staff_pulls();
    }

    /// Waits until no image is being fetched, at most so long; the names of the functions that still wait.
    pub fn wait_for_pulls(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        let mut queue = self.pulls.lock();
        while !queue.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.pulls.settled.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queue);
        let functions = self.snapshot();
        let waiting = functions.known().filter(|function| function.pull.is_some());
        waiting.map(|function| function.name.clone()).collect()
    }

    /// Gives up what is being fetched; the rows still say what is wanted, so the next start goes on.
    pub fn stop_pulls(&self) {
        self.pulls.stopped.store(true, Ordering::Relaxed);
        if let Some(images) = &self.images {
            images.stop();
        }
    }

    /// Has what a function's row wants fetched.
    pub(super) fn pull(&self, function: &Function, deploy: Option<Box<Deploy>>) {
        let Some(pull) = &function.pull else { return };
        let job = Job::of(function, pull, deploy);
        self.pulls.lock().waiting.push_back(job);
        self.staff_pulls();
    }

    /// Threads for the work that may be done now.
    fn staff_pulls(&self) {
        let mut queue = self.pulls.lock();
        let Some(control) = queue.of.as_ref().and_then(Weak::upgrade) else { return };
        let hired = queue.staff(|| {
            let control = Arc::clone(&control);
            let (hand, taken) = mpsc::sync_channel(1);
            let worker = std::thread::Builder::new().name("image-pull".to_owned());
            worker.spawn(move || {
                if let Ok(job) = taken.recv() {
                    control.work(job);
                }
            })?;
            Ok(hand)
        });
        if let Err(error) = hired {
            tracing::error!(%error, "no thread to fetch an image with; it is tried again");
        }
    }

    fn work(&self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            let errand = job.errand.clone();
            // A defect in one must not stop the others.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.carry_out(job)));
            if done.is_err() {
                tracing::error!("fetching an image failed unexpectedly; a restart tries again");
            }
            let mut queue = self.pulls.lock();
            queue.done(&errand);
            next = queue.next();
            if queue.running.is_empty() {
                self.pulls.settled.notify_all();
            }
            drop(queue);
            // Several may have waited for this one.
            self.staff_pulls();
        }
    }

    fn carry_out(&self, job: Job) {
        let Job { function: name, ticket, deploy, .. } = job;
        let is_wanted = || {
            !self.pulls.stopped.load(Ordering::Relaxed)
                && self.function(&name).is_some_and(|function| has_ticket(&function, &ticket))
        };
        let (Some(pull), Some(images)) =
            (self.function(&name).and_then(|function| function.pull.clone()), &self.images)
        else {
            return;
        };
        if pull.ticket != ticket {
            return;
        }
        let fetched = images.fetch(&pull.source, &pull.architecture, &is_wanted);
        if !is_wanted() {
            tracing::info!(function = name, image = pull.uri, "the image is not wanted any more");
            return;
        }
        let (tried, code) = match (fetched, deploy) {
            (Ok(found), Some(deploy)) => {
                let image = Image::new(&pull.uri, found);
                (Ok(self.deploy_image(*deploy, image, &ticket).map(drop)), "InvalidConfiguration")
            }
            (Ok(found), None) => {
                (Ok(self.arrived(&name, &ticket, Image::new(&pull.uri, found))), "InternalError")
            }
            (Err(fault), _) => (Err(reason_of(&pull.uri, &fault)), ""),
        };
        // An image that cannot be kept must not leave the function waiting for ever.
        let done = match tried {
            Ok(Err(error)) if error.code != ErrorCode::ResourceNotFound => {
                let reason = StateReason { code: code.to_owned(), text: error.message };
                self.give_up(&name, &ticket, reason).map(|()| false)
            }
            Ok(stored) => stored.map(|()| true),
            Err(reason) => self.give_up(&name, &ticket, reason).map(|()| false),
        };
        match done {
            Ok(false) => {}
            Ok(true) => tracing::info!(function = name, image = pull.uri, "the image is in place"),
            // Deleted at this very moment.
            Err(error) if error.code == ErrorCode::ResourceNotFound => {}
            Err(error) => {
                tracing::error!(
                    function = name,
                    error = error.message,
                    "what came of an image is not stored"
                );
            }
        }
    }

    /// The function gets its image.
    fn arrived(&self, name: &str, ticket: &str, image: Image) -> Result<(), ApiError> {
        self.change(|functions| {
            let before = functions.get(name).ok_or_else(|| self.missing(name))?;
            let Some(pull) = before.pull.clone().filter(|pull| pull.ticket == ticket) else {
                return Ok(Edit::Keep(Arc::clone(before)));
            };
            let mut function = Function::clone(before);
            function.architectures = vec![pull.architecture];
            super::image::set_image(&mut function, image);
            if pull.publish {
                function.version_key = 0;
                super::version::publish_into(&mut function, None, &Default::default())?;
            }
            Ok(Edit::Put(Box::new(function), Fresh::Version))
        })?;
        Ok(())
    }

    /// The function says why it has no image; what it had before runs on.
    fn give_up(&self, name: &str, ticket: &str, reason: StateReason) -> Result<(), ApiError> {
        tracing::warn!(function = name, code = reason.code, "{}", reason.text);
        self.change(|functions| {
            let before = functions.get(name).ok_or_else(|| self.missing(name))?;
            if !has_ticket(before, ticket) {
                return Ok(Edit::Keep(Arc::clone(before)));
            }
            let mut function = Function::clone(before);
            function.pull = None;
            function.last_update_status = LastUpdateStatus::Failed;
            function.last_update_reason = Some(reason.clone());
            if function.state != State::Pending {
                return Ok(Edit::Put(Box::new(function), Fresh::Around));
            }
            function.state = State::Failed;
            function.state_reason = Some(reason);
            Ok(Edit::Put(Box::new(function), Fresh::Version))
        })?;
        Ok(())
    }
}

pub(super) fn has_ticket(function: &Function, ticket: &str) -> bool {
    function.pull.as_ref().is_some_and(|pull| pull.ticket == ticket)
}

/// Makes a function wait for its image: one that is new in State Pending, any other with what it has.
///
/// Source: recorded on AWS, answers of CreateFunction and UpdateFunctionCode.
pub(super) fn await_image(function: &mut Function, pull: Pull) {
    let reason =
        StateReason { code: "Creating".to_owned(), text: "The function is being created.".to_owned() };
    let has_code = function.state == State::Active && !function.code_sha256.is_empty();
    if has_code {
        function.last_update_status = LastUpdateStatus::InProgress;
        function.last_update_reason = Some(reason);
    } else {
        function.state = State::Pending;
        function.state_reason = Some(reason);
        function.last_update_status = LastUpdateStatus::Successful;
        function.last_update_reason = None;
        super::image::set_no_image(function, pull.digest.clone().unwrap_or_default());
    }
    function.pull = Some(pull);
}

/// Refuses what AWS refuses while a function is being made or changed.
///
/// Source: Lambda Developer Guide, "Lambda function states", published; the second text as recorded on AWS.
pub(super) fn check_settled(function: &Function) -> Result<(), ApiError> {
    let message = match (function.state, function.last_update_status) {
        (State::Pending, _) => not_ready(State::Pending),
        (_, LastUpdateStatus::InProgress) => format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {}",
            function.arn
        ),
        _ => return Ok(()),
    };
    Err(ApiError::new(ErrorCode::ResourceConflict, message))
}

/// What callers hear of a function that cannot be invoked or changed in its state. Source: AWS's answer as widely seen.
pub fn not_ready(state: State) -> String {
    format!(
        "The operation cannot be performed at this time. The function is currently in the following state: {state:?}"
    )
}

/// Why a function has no image, under AWS's codes. Source: Lambda API reference, FunctionConfiguration, `StateReasonCode`.
fn reason_of(uri: &str, fault: &ImageFault) -> StateReason {
    let text = fault.text();
    let (code, text) = match fault {
        ImageFault::Missing(_) => ("ImageDeleted", format!("The image {uri} is not there. ({text})")),
        ImageFault::Denied(_) => {
            ("ImageAccessDenied", format!("Access to the image {uri} is denied. ({text})"))
        }
        ImageFault::Invalid(_) => ("InvalidImage", format!("The image {uri} cannot be run. ({text})")),
        ImageFault::Failed(_) => ("InternalError", format!("The image {uri} could not be fetched: {text}")),
    };
    StateReason { code: code.to_owned(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(source: &str) -> Job {
        let pull = Pull {
            uri: source.to_owned(),
            source: source.to_owned(),
            architecture: "x86_64".to_owned(),
            digest: None,
            publish: false,
            ticket: String::new(),
        };
        Job { function: source.to_owned(), ticket: String::new(), errand: Errand::of(&pull), deploy: None }
    }

    fn queue(sources: &[&str]) -> Queue {
        Queue { waiting: sources.iter().map(|source| job(source)).collect(), ..Queue::default() }
    }

    fn started(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).map(|job| job.function).collect()
    }

    #[test]
    fn a_slow_registry_leaves_room_for_the_others() {
        let slow = ["slow.test/a@1", "slow.test/b@1", "slow.test/c@1", "slow.test/d@1"];
        let mut queue = queue(&[&slow[..], &["other.test/a@1", "library/a", "/here/a"]].concat());
        let begun = started(&mut queue);
        assert_eq!(begun, [&slow[..3], &["other.test/a@1", "library/a", "/here/a"]].concat());
        queue.done(&job(slow[0]).errand);
        assert_eq!(started(&mut queue), [slow[3]]);
    }

    #[test]
    fn who_wants_what_is_being_fetched_waits_for_that() {
        let mut queue = queue(&["r.test/a@1", "r.test/a@1", "r.test/b@1", "r.test/a@1"]);
        assert_eq!(started(&mut queue), ["r.test/a@1", "r.test/b@1"]);
        queue.done(&job("r.test/a@1").errand);
        assert_eq!(started(&mut queue), ["r.test/a@1"]);
        queue.done(&job("r.test/a@1").errand);
        assert_eq!(started(&mut queue), ["r.test/a@1"]);
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn there_is_an_end_of_threads() {
        let sources: Vec<_> = (0..40).map(|n| format!("r{n}.test/a@1")).collect();
        let mut queue = queue(&sources.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(started(&mut queue).len(), PULLS_MAX);
    }

    #[test]
    fn a_job_without_a_thread_stays_the_next_one() {
        let mut queue = queue(&["r.test/a@1", "r.test/b@1", "r.test/c@1"]);
        let threads = std::cell::Cell::new(1);
        let (hand, taken) = mpsc::sync_channel(3);
        let hire = || {
            let left = threads.replace(threads.get() - 1);
            if left > 0 { Ok(hand.clone()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        };
        assert!(queue.staff(hire).is_err());
        assert_eq!(taken.try_recv().unwrap().function, "r.test/a@1");
        assert_eq!(queue.running, [job("r.test/a@1").errand]);
        threads.set(2);
        assert!(queue.staff(hire).is_ok());
        assert_eq!(
            taken.try_iter().map(|job| job.function).collect::<Vec<_>>(),
            ["r.test/b@1", "r.test/c@1"]
        );
    }

    #[test]
    fn registries_are_told_apart_as_docker_does() {
        for (source, host) in [
            ("localhost:5000/app:1", "localhost:5000"),
            ("localhost/app", "localhost"),
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com/app@sha256:00",
                "123456789012.dkr.ecr.us-east-1.amazonaws.com",
            ),
            ("library/debian", "docker.io"),
            ("debian", "docker.io"),
            ("/images/app.tar", ""),
            ("./images/app.tar", ""),
            ("../app", ""),
        ] {
            assert_eq!(job(source).errand.host, host, "{source}");
        }
    }
}
