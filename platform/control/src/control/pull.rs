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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Images that are fetched at the same time. Ours: each is a download and an unpacking process.
const PULLS_MAX: usize = 3;

/// The pulls of one control room.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    queue: Mutex<Queue>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whose they are; nothing runs before that is known.
    of: Option<Weak<Control>>,
    waiting: VecDeque<Job>,
    running: usize,
}

/// One image for one function. Bound: one a function, those that are given up end by themselves.
#[derive(Debug)]
struct Job {
    function: String,
    ticket: String,
    /// What the template says, to be deployed once the image is there; else the function as it is gets the image.
    deploy: Option<Box<Deploy>>,
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
        for function in self.functions() {
            let Some(pull) = &function.pull else { continue };
            if !queue.waiting.iter().any(|job| job.ticket == pull.ticket) {
                tracing::info!(
                    function = function.name,
                    image = pull.uri,
                    "the image is still to be fetched"
                );
                let (function, ticket) = (function.name.clone(), pull.ticket.clone());
                queue.waiting.push_back(Job { function, ticket, deploy: None });
            }
        }
        drop(queue);
        self.staff_pulls();
    }

    /// Waits until no image is being fetched, at most so long; the names of the functions that still wait.
    pub fn wait_for_pulls(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        let mut queue = self.pulls.lock();
        while queue.running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.pulls.settled.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queue);
        let waiting = self.functions().into_iter().filter(|function| function.pull.is_some());
        waiting.map(|function| function.name.clone()).collect()
    }

    /// Has what a function's row wants fetched.
    pub(super) fn pull(&self, function: &Function, deploy: Option<Box<Deploy>>) {
        let Some(pull) = &function.pull else { return };
        let job = Job { function: function.name.clone(), ticket: pull.ticket.clone(), deploy };
        self.pulls.lock().waiting.push_back(job);
        self.staff_pulls();
    }

    /// Threads for the work that there is.
    fn staff_pulls(&self) {
        let mut queue = self.pulls.lock();
        let Some(control) = queue.of.as_ref().and_then(Weak::upgrade) else { return };
        let wanted = PULLS_MAX.min(queue.running + queue.waiting.len());
        while queue.running < wanted {
            let control = Arc::clone(&control);
            let worker =
                std::thread::Builder::new().name("image-pull".to_owned()).spawn(move || control.work());
            match worker {
                Ok(_) => queue.running += 1,
                Err(error) => {
                    tracing::error!(%error, "no thread to fetch images with; the next one tries again");
                    return;
                }
            }
        }
    }

    fn work(&self) {
        loop {
            let mut queue = self.pulls.lock();
            let Some(job) = queue.waiting.pop_front() else {
                queue.running -= 1;
                self.pulls.settled.notify_all();
                return;
            };
            drop(queue);
            // A defect in one must not stop the others.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.carry_out(job)));
            if done.is_err() {
                tracing::error!("fetching an image failed unexpectedly; a restart tries again");
            }
        }
    }

    fn carry_out(&self, job: Job) {
        let Job { function: name, ticket, deploy } = job;
        let is_wanted = || self.function(&name).is_some_and(|function| has_ticket(&function, &ticket));
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
