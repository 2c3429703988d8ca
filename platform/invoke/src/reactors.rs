//! Threads that each serve their share of the connections by themselves.
//!
//! A request, its invocation and the environment that runs it stay on one thread: no other has to be woken on the way,
//! which costs more than all that is done for a short invocation.

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
/// So many refusals in a row, and a reactor leaves its core.
const REFUSALS_MAX: u32 = 1_000;
/// One for each reactor, and one for all other threads.
pub(crate) const GATES: usize = REACTORS_MAX + 1;

thread_local! {
    /// Which reactor this is; other threads are none, and share number 0.
    static HERE: Cell<usize> = const { Cell::new(0) };
    static CORE: Cell<Option<CpuSet>> = const { Cell::new(None) };
    /// Refusals since the last invocation in an environment that is kept here; `None` while this thread goes where the
    /// scheduler puts it.
    static REFUSALS: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The core of the reactor on which this is called.
pub(crate) fn core() -> Option<CpuSet> {
    CORE.get()
}

/// An environment that is kept on this reactor's core runs: the reactor stays there, too.
pub(crate) fn stay() {
    if REFUSALS.replace(Some(0)).is_none()
        && let Some(core) = core()
    {
        keep_on(&core);
    }
}

/// A request was refused. A reactor that does nothing else needs no core of its own.
pub(crate) fn refused() {
    let Some(refusals) = REFUSALS.get() else { return };
    if refusals < REFUSALS_MAX {
        REFUSALS.set(Some(refusals + 1));
    } else {
        REFUSALS.set(None);
        keep_on(all_cores());
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
                .on_thread_start(|| keep_on(all_cores()))
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
