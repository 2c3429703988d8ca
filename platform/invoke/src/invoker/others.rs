//! Functions that were there at the start and are plain (see [`Control::known_functions`]): each is taken over when it is first
//! invoked, and those that nobody invokes are when there is time.

use super::versions::is_function;
use super::{Core, Invoker, Known};
use crate::environment::Version;
use control::Control;
use model::Instant;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Functions that are taken over under one lock: a fifth of a millisecond.
const AT_ONCE: usize = 50;

impl Invoker {
    /// Says who knows the functions beside those of [`Invoker::begin`]: plain ones, with no versions, provisioned
    /// concurrency or network. Call it once.
    pub fn begin_others(&self, control: Weak<Control>) {
        drop(self.0.others.set(control));
    }

    fn others(&self) -> Option<Arc<Control>> {
        self.0.others.get().and_then(Weak::upgrade)
    }

    /// What is known of a function, version or alias that may not have been asked for before.
    pub(super) fn known<'a>(&self, core: &'a mut Core, now: Instant, key: &str) -> Option<&'a Known> {
        if !core.functions.contains_key(key) && is_function(key) {
            // With the lock held: what the control room says now, no change that is told later can have overtaken.
            let found = self.others().and_then(|control| control.function(key));
            found.into_iter().for_each(|function| self.put(core, now, function, &mut Vec::new()));
        }
        core.functions.get(key)
    }

    /// Knows all of them from here on, as whoever shows all must. Cost: 20 us for each that nobody asked for, on a thread that
    /// may block.
    pub async fn complete(&self) {
        if self.0.others_taken.load(Ordering::Relaxed) {
            return;
        }
        let invoker = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || invoker.take_over(drop)).await {
            tracing::error!(%error, "functions that nobody asked for yet are not shown");
        }
    }

    /// Takes over what nobody asked for, and hands it to `see`, some at a time; may block.
    pub(super) fn take_over(&self, mut see: impl FnMut(Vec<Arc<Version>>)) {
        let Some(control) = self.others() else { return };
        for names in control.plain_names().chunks(AT_ONCE) {
            if self.0.stops.load(Ordering::Relaxed) {
                return;
            }
            // Understood before the lock is taken.
            names.iter().for_each(|name| drop(control.function(name)));
            let now = self.now();
            let mut core = self.lock();
            let known =
                names.iter().filter_map(|name| Some(self.known(&mut core, now, name)?.version.clone()));
            let versions = known.collect();
            drop(core);
            see(versions);
        }
        self.0.others_taken.store(true, Ordering::Relaxed);
    }
}
