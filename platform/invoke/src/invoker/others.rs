//! Functions that were there at the start and are plain: each is taken over when it is first invoked, and those that nobody
//! invokes are once the doors serve.

use super::versions::{is_function, serves};
use super::{Core, Invoker, Known};
use control::Function;
use model::Instant;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Functions that are taken over under one lock: a fifth of a millisecond.
const AT_ONCE: usize = 50;

type Find = Box<dyn Fn(&str) -> Option<Arc<Function>> + Send + Sync>;

/// Who knows the functions that nobody asked for yet.
pub(super) struct Others(Find);

impl fmt::Debug for Others {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Others").finish_non_exhaustive()
    }
}

impl Invoker {
    /// Says which other functions there are, beside those of [`Invoker::begin`]: plain ones, with no versions, provisioned
    /// concurrency or network. `find` tells one as it is at present; it must be quick and must not call the invoker. Call it once,
    /// inside a tokio runtime.
    pub fn begin_others(
        &self,
        names: Vec<String>,
        find: impl Fn(&str) -> Option<Arc<Function>> + Send + Sync + 'static,
    ) {
        drop(self.0.others.set(Others(Box::new(find))));
        if names.is_empty() {
            return;
        }
        let invoker = self.clone();
        tokio::spawn(async move {
            if serves(invoker.0.serving.clone()).await {
                let taken = tokio::task::spawn_blocking(move || invoker.take_over(&names));
                if let Err(error) = taken.await {
                    tracing::error!(%error, "functions are not prepared; their first invocations do it");
                }
            }
        });
    }

    /// What is known of a function, version or alias that may not have been asked for before.
    pub(super) fn known<'a>(&self, core: &'a mut Core, now: Instant, key: &str) -> Option<&'a Known> {
        if !core.functions.contains_key(key) && is_function(key) {
            // With the lock held: what the control room says now, no change that is told later can have overtaken.
            let found = self.0.others.get().and_then(|Others(find)| find(key));
            found.into_iter().for_each(|function| self.put(core, now, function, &mut Vec::new()));
        }
        core.functions.get(key)
    }

    /// Takes over what nobody asked for.
    fn take_over(&self, names: &[String]) {
        for names in names.chunks(AT_ONCE) {
            if self.0.stops.load(Ordering::Relaxed) {
                return;
            }
            // Understood before the lock is taken.
            if let Some(Others(find)) = self.0.others.get() {
                names.iter().for_each(|name| drop(find(name)));
            }
            let now = self.now();
            let mut core = self.lock();
            let known =
                names.iter().filter_map(|name| Some(self.known(&mut core, now, name)?.version.clone()));
            let versions: Vec<_> = known.collect();
            drop(core);
            self.prepare_all(&versions);
        }
    }
}
