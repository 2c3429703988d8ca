//! SnapStart: environments of a published version that have run INIT ahead of the invocations that want them, and wait
//! frozen until the dispatcher starts one.
//!
//! AWS takes one snapshot of memory and restores it for each environment. Here each environment on the shelf has run INIT
//! itself, so it has its own namespaces, user, group and random numbers, and no connection is shared
//! (docs/decisions/0007-snapstart-ahead.md). The limits see none of this: a start is a start.

use super::{Core, Invoker};
use crate::environment::{Environment, Stop, Version};
use limits::FunctionId;
use std::sync::Arc;
use std::time::Duration;

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
    /// One was ready, or its INIT has failed.
    is_tried: bool,
}

/// An environment that is to run INIT for a shelf.
pub(super) type Blank = (FunctionId, Arc<Environment>);

impl Shelf {
    pub(super) fn new(version: Arc<Version>) -> Self {
        Self { version, ready: Vec::new(), making: 0, wanted: READY, is_tried: false }
    }

    /// One that is ready. A shelf that is empty keeps more from now on.
    fn take(&mut self) -> Option<Arc<Environment>> {
        let taken = self.ready.pop();
        if taken.is_none() {
            self.wanted = (self.wanted * 2).min(READY_MAX);
        }
        taken
    }

    /// New environments for the places that are empty.
    fn refill(&mut self) -> Vec<Arc<Environment>> {
        let missing = self.wanted.saturating_sub(self.ready.len() + self.making);
        self.making += missing;
        std::iter::repeat_with(|| Environment::new(self.version.clone())).take(missing).collect()
    }
}

impl Core {
    /// An environment that has run INIT ahead, if the version keeps such; and those that take its place.
    pub(super) fn off_the_shelf(&mut self, id: FunctionId) -> (Option<Arc<Environment>>, Vec<Blank>) {
        let Some(shelf) = self.shelves.get_mut(&id) else { return (None, Vec::new()) };
        let taken = shelf.take();
        (taken, shelf.refill().into_iter().map(|environment| (id, environment)).collect())
    }

    /// Sets up the shelf of a version that was published with SnapStart.
    pub(super) fn set_up_shelf(&mut self, id: FunctionId, version: &Arc<Version>) {
        if version.initialization_type == SNAP_START {
            self.shelves.insert(id, Shelf::new(version.clone()));
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
    /// Whether the version under a key as `cart:3` has SnapStart, and no environment of it was ready yet.
    pub fn is_preparing(&self, key: &str) -> bool {
        let core = self.lock();
        let known = core.functions.get(key);
        known.and_then(|known| core.shelves.get(&known.id)).is_some_and(|shelf| !shelf.is_tried)
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
        let done = match self.prepared(&version).await {
            Ok(prepared) => environment.initialise_ahead(&self.0.sandboxes, &prepared, Stop::AfterInit).await,
            Err(error) => {
                version.log.write(&error.to_string());
                false
            }
        };
        if done {
            // Before anybody can take it: who takes it marks it as used.
            environment.release();
        }
        let mut core = self.lock();
        let shelf = core.shelves.get_mut(&id).filter(|shelf| Arc::ptr_eq(&shelf.version, &version));
        let is_kept = match shelf {
            Some(shelf) => {
                shelf.making = shelf.making.saturating_sub(1);
                shelf.is_tried = true;
                if done {
                    shelf.ready.push(environment.clone());
                }
                done
            }
            // The version is gone.
            None => false,
        };
        drop(core);
        if is_kept {
            self.0.freezer.idle(&environment);
        } else {
            environment.end();
        }
    }
}
