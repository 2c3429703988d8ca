//! SnapStart: environments of a published version that have run INIT ahead of the invocations that want them, and wait
//! frozen until the dispatcher starts one.
//!
//! AWS takes one snapshot of memory and restores it for each environment. Here each environment on the shelf has run INIT
//! itself, so it has its own namespaces, user, group and random numbers, and no connection is shared
//! (docs/decisions/0007-snapstart-ahead.md). The limits see none of this: a start is a start.

use super::{Core, Invoker, Known};
use crate::environment::{Environment, Stop, Unready, Version};
use control::{State, StateReason};
use limits::FunctionId;
use runtimes::RuntimeError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use telemetry::Status;

/// Environments that a version keeps ready at first.
const READY: usize = 2;
/// Most that it keeps ready: what it is doubled to whenever a start finds the shelf empty.
const READY_MAX: usize = 16;
/// How long a place on the shelf stays empty: whoever took from it is answered first.
const REFILL_AFTER: Duration = Duration::from_millis(50);
/// What a function's environment says of how it was initialised. Source: Lambda Developer Guide, "Defined runtime
/// environment variables", published.
pub(super) const SNAP_START: &str = "snap-start";

/// The shelf of one version.
#[derive(Debug)]
pub(super) struct Shelf {
    version: Arc<Version>,
    ready: Vec<Arc<Environment>>,
    /// How many are running INIT.
    making: usize,
    wanted: usize,
    preparation: Preparation,
    /// Whether the version is not invoked before it is prepared; otherwise it starts cold until then.
    refuses: bool,
}

/// How far SnapStart is with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// No environment was ready yet.
    Running,
    /// One was, or this host had no room for any, or there is nothing to prepare.
    Done,
    /// INIT failed in all that were tried first. The next start of the platform tries again, and so does a reset.
    Failed(StateReason),
}

/// An environment that is to run INIT for a shelf.
pub(super) type Blank = (FunctionId, Arc<Environment>);

impl Shelf {
    pub(super) fn new(version: Arc<Version>, refuses: bool) -> Self {
        let preparation = Preparation::Running;
        Self { version, ready: Vec::new(), making: 0, wanted: READY, preparation, refuses }
    }

    /// One that is ready. A shelf that is empty keeps more from now on.
    fn take(&mut self) -> Option<Arc<Environment>> {
        let taken = self.ready.pop();
        if taken.is_none() {
            self.wanted = (self.wanted * 2).min(READY_MAX);
        }
        taken
    }

    /// What became of an environment that was to be ready.
    fn made(&mut self, done: Result<Arc<Environment>, &Unready>) {
        self.making = self.making.saturating_sub(1);
        let is_last = self.making == 0;
        match done {
            Ok(environment) => {
                self.ready.push(environment);
                self.preparation = Preparation::Done;
            }
            Err(unready) if is_last && self.preparation == Preparation::Running => {
                self.preparation = match unready {
                    Unready::Function(status) => Preparation::Failed(state_reason(status)),
                    Unready::Host => Preparation::Done,
                };
            }
            Err(_) => {}
        }
    }

    /// New environments for the places that are empty.
    fn refill(&mut self) -> Vec<Arc<Environment>> {
        if matches!(self.preparation, Preparation::Failed(_)) {
            return Vec::new();
        }
        let missing = self.wanted.saturating_sub(self.ready.len() + self.making);
        self.making += missing;
        std::iter::repeat_with(|| Environment::new(self.version.clone())).take(missing).collect()
    }
}

/// Why a version could not be prepared, under AWS's codes; which error is which code is assumed from their names.
///
/// Source: Lambda API reference, FunctionConfiguration, `StateReasonCode`.
fn state_reason(status: &Status) -> StateReason {
    let (code, what) = match status {
        Status::Error(kind) => (code_of(kind), format!("failed with {kind}")),
        Status::Timeout | Status::Success => {
            ("FunctionError.InitTimeout", "did not end in its time".to_owned())
        }
    };
    let text = format!("INIT {what}; the function's log has all of it. Publish another version.");
    StateReason { code: code.to_owned(), text }
}

fn code_of(kind: &str) -> &'static str {
    match kind {
        "Runtime.InvalidEntrypoint" => "FunctionError.InvalidEntryPoint",
        "Runtime.InvalidWorkingDir" => "FunctionError.InvalidWorkingDirectory",
        "Runtime.OutOfMemory" => "FunctionError.InitResourceExhausted",
        "Runtime.ExitError" => "FunctionError.RuntimeInitError",
        kind if kind.starts_with("Extension.") => "FunctionError.ExtensionInitError",
        _ => "FunctionError",
    }
}

impl Core {
    /// Why SnapStart does not let a version be invoked: it is still being prepared, or its INIT failed.
    pub(super) fn unready(&self, known: &Known) -> Option<State> {
        let is_snap_start = known.version.initialization_type == SNAP_START;
        let shelf = is_snap_start.then(|| self.shelves.get(&known.id)).flatten()?;
        match shelf.preparation {
            Preparation::Running => shelf.refuses.then_some(State::Pending),
            Preparation::Failed(_) => Some(State::Failed),
            Preparation::Done => None,
        }
    }

    /// An environment that has run INIT ahead, if the version keeps such; and those that take its place.
    pub(super) fn off_the_shelf(&mut self, id: FunctionId) -> (Option<Arc<Environment>>, Vec<Blank>) {
        let Some(shelf) = self.shelves.get_mut(&id) else { return (None, Vec::new()) };
        let taken = shelf.take();
        (taken, shelf.refill().into_iter().map(|environment| (id, environment)).collect())
    }

    /// Sets up the shelf of a version that was published with SnapStart; whether it `refuses` invocations until then.
    pub(super) fn set_up_shelf(&mut self, id: FunctionId, version: &Arc<Version>, refuses: bool) {
        if version.initialization_type == SNAP_START {
            self.shelves.insert(id, Shelf::new(version.clone(), refuses));
        }
    }

    /// What is to run INIT, of all shelves that have room.
    pub(super) fn blanks(&mut self) -> Vec<Blank> {
        let of_shelf = |(id, shelf): (&FunctionId, &mut Shelf)| {
            shelf.refill().into_iter().map(|environment| (*id, environment)).collect::<Vec<_>>()
        };
        self.shelves.iter_mut().flat_map(of_shelf).collect()
    }

    /// Takes a version's shelf away; its environments are to be ended.
    pub(super) fn forget_shelf(&mut self, id: FunctionId) {
        self.forgotten.extend(self.shelves.remove(&id).into_iter().flat_map(|shelf| shelf.ready));
    }
}

impl Invoker {
    /// How far SnapStart is with the version under a key as `cart:3`.
    pub fn preparation(&self, key: &str) -> Preparation {
        let core = self.lock();
        let shelf = core.functions.get(key).and_then(|known| core.shelves.get(&known.id));
        shelf.map_or(Preparation::Done, |shelf| shelf.preparation.clone())
    }

    /// Why SnapStart does not let the version or alias under a key as `cart:3` be invoked: Pending or Failed.
    pub fn unready(&self, key: &str) -> Option<State> {
        let core = self.lock();
        core.functions.get(key).and_then(|known| core.unready(known))
    }

    /// All shelves as at the start. What is still running INIT for the version as it was finds no shelf.
    pub(super) fn renew_shelves(&self, core: &mut Core) {
        let ids: Vec<_> = core.shelves.keys().copied().collect();
        ids.iter().for_each(|id| core.forget_shelf(*id));
        let mut renewed = Vec::new();
        for known in core.functions.values_mut().filter(|known| ids.contains(&known.id)) {
            known.version = self.version(known.version.function.clone(), false);
            renewed.push(known.clone());
        }
        renewed.iter().for_each(|known| core.set_up_shelf(known.id, &known.version, false));
    }

    /// Puts new environments where others were taken.
    pub(super) async fn restock(self, blanks: Vec<Blank>) {
        tokio::time::sleep(REFILL_AFTER).await;
        for blank in blanks {
            tokio::spawn(self.clone().stock(blank));
        }
    }

    /// Runs INIT of an environment for its version's shelf.
    pub(super) async fn stock(self, (id, environment): Blank) {
        let version = environment.version.clone();
        let serves = self.doors_serve().await;
        let is_here = |shelf: &Shelf| Arc::ptr_eq(&shelf.version, &version);
        if !serves || !self.lock().shelves.get(&id).is_some_and(is_here) {
            return;
        }
        let done = match self.prepared(&version).await {
            Ok(prepared) => environment.initialise_ahead(&self.0.sandboxes, &prepared, Stop::AfterInit).await,
            Err(error) => {
                version.log.write(&error.to_string());
                Err(match &*error {
                    RuntimeError::InvalidEntrypoint { .. } => {
                        Unready::Function(Status::Error(error.error_type().to_owned()))
                    }
                    _ => Unready::Host,
                })
            }
        };
        let stops = self.0.stops.load(Ordering::Relaxed);
        let done = done.map_err(|unready| if stops { Unready::Host } else { unready });
        if done.is_ok() {
            // Before anybody can take it: who takes it marks it as used.
            environment.release();
        }
        let mut core = self.lock();
        let shelf = core.shelves.get_mut(&id).filter(|shelf| Arc::ptr_eq(&shelf.version, &version));
        let is_kept = shelf.is_some() && done.is_ok();
        let failed = shelf.and_then(|shelf| {
            let before = shelf.preparation.clone();
            shelf.made(done.as_ref().map(|()| environment.clone()));
            match &shelf.preparation {
                Preparation::Failed(reason) if shelf.preparation != before => Some(reason.clone()),
                _ => None,
            }
        });
        drop(core);
        if let Some(StateReason { code, text }) = failed {
            let function = &version.function;
            tracing::warn!(function = %function.name, version = %function.version, code, "this version is in State Failed and is not invoked: {text}");
        }
        if is_kept {
            self.0.freezer.idle(&environment);
        } else {
            environment.end();
        }
    }
}
