//! Threads that each serve their share of the connections by themselves.
//!
//! A request, its invocation and the environment that runs it stay on one thread: no other has to be woken on the way,
//! which costs more than all that is done for a short invocation.

mod patience;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Most reactors, however many cores there are.
const REACTORS_MAX: usize = 64;
/// So many refusals in a row, and a reactor does nothing else.
const REFUSALS_MAX: u32 = 1_000;
/// One for each reactor, and one for all other threads.
pub(crate) const GATES: usize = REACTORS_MAX + 1;

thread_local! {
    /// Which reactor this is; other threads are none, and share number 0.
    static HERE: Cell<usize> = const { Cell::new(0) };
    static CORE: Cell<Option<CpuSet>> = const { Cell::new(None) };
    /// Whether this thread is kept on its core; else it goes where the scheduler puts it.
    static IS_KEPT: Cell<bool> = const { Cell::new(false) };
    /// Refusals since the last admission.
    static REFUSALS: Cell<u32> = const { Cell::new(0) };
}

/// The core of the reactor on which this is called.
pub(crate) fn core() -> Option<CpuSet> {
    CORE.get()
}

/// An environment that is kept on this reactor's core runs: the reactor stays there, too.
pub(crate) fn stay() {
    if !IS_KEPT.replace(true)
        && let Some(core) = core()
    {
        keep_on(&core);
    }
}

/// A request was admitted.
pub(crate) fn admitted() {
    if REFUSALS.replace(0) >= REFUSALS_MAX {
        patience::set(false);
    }
}

/// A request was refused. A reactor that does nothing else needs no core of its own, and is patient: it lets clients send
/// more before it looks, and thousands of them need it awake a tenth as often (measured on two cores, 50 connections: 88,000
/// to 127,000 refusals a second).
pub(crate) fn refused() {
    // Other threads are no reactors.
    if HERE.get() == 0 {
        return;
    }
    let refusals = REFUSALS.get().saturating_add(1);
    REFUSALS.set(refusals);
    if refusals == REFUSALS_MAX {
        patience::set(true);
        if IS_KEPT.replace(false) {
            keep_on(all_cores());
        }
    }
}

/// All cores that this process may use.
pub(crate) fn all_cores() -> &'static CpuSet {
    static ALL: OnceLock<CpuSet> = OnceLock::new();
    ALL.get_or_init(|| {
        sched_getaffinity(None).unwrap_or_else(|_| {
            let mut every = CpuSet::new();
            (0..CpuSet::MAX_CPU).for_each(|core| every.set(core));
            every
        })
    })
}

/// A set for each core.
fn cores() -> Vec<CpuSet> {
    let all = all_cores();
    let alone = |core: usize| {
        let mut set = CpuSet::new();
        set.set(core);
        set
    };
    (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).take(REACTORS_MAX).map(alone).collect()
}

fn keep_on(cores: &CpuSet) {
    // Where it is refused, the scheduler's choice is good enough.
    let _ = sched_setaffinity(None, cores);
}

/// The number of the reactor on which this is called.
pub(crate) fn here() -> usize {
    HERE.get()
}

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub struct Reactors {
    handles: Arc<[Handle]>,
    next: AtomicUsize,
    _stops: Vec<oneshot::Sender<()>>,
}

impl Reactors {
    /// Starts one thread for each core that this process may use.
    ///
    /// # Errors
    /// The host gives no more threads or descriptors.
    pub fn start() -> io::Result<Self> {
        let cores = cores();
        let mut handles = Vec::new();
        let mut stops = Vec::new();
        for (index, core) in cores.iter().enumerate() {
            let runtime = Builder::new_current_thread()
                .enable_all()
                // Helpers for what blocks are started by a reactor, and would be kept on its core.
                .on_thread_start(|| {
                    keep_on(all_cores());
                    patience::set(false);
                })
                .build()?;
            let (stop, stopped) = oneshot::channel::<()>();
            handles.push(runtime.handle().clone());
            stops.push(stop);
            let core = *core;
            thread::Builder::new().name(format!("reactor-{index}")).spawn(move || {
                HERE.set(index + 1);
                CORE.set(Some(core));
                let _ = runtime.block_on(stopped);
                // Without waiting for what still blocks.
                runtime.shutdown_background();
            })?;
        }
        Ok(Self { handles: handles.into(), next: AtomicUsize::new(0), _stops: stops })
    }

    /// The reactor for the next connection: each in turn.
    pub fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[turn % self.handles.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reactor_is_patient_while_it_only_refuses() {
        let reactor = thread::spawn(|| {
            (1..REFUSALS_MAX).for_each(|_| refused());
            assert!(!patience::get() && REFUSALS.get() == 0, "no reactor, no change");
            HERE.set(1);
            (1..REFUSALS_MAX).for_each(|_| refused());
            assert!(!patience::get());
            refused();
            assert!(patience::get());
            refused();
            admitted();
            assert!(!patience::get());
        });
        reactor.join().unwrap();
    }
}
