//! An invocation allocates nothing, whether it runs, is refused or is ended, once environments have reached their peak.

// The one `unsafe` is the counting allocator below, which hands everything on to the system.
#![allow(unsafe_code)]

use limits::{Decision, Dispatcher, FunctionLimits, Outcome, Scaling, Settings};
use model::{Era, Instant, Overrides};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes unchanged to `System`, which keeps the contract; counting touches a thread-local that needs
// neither allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_warm_path_and_refusals_allocate_nothing() {
    let era = Era::named("today").unwrap();
    let mut settings = Settings::from_era(&era, "us-east-1", &Overrides::default()).unwrap();
    settings.account_concurrency = 100;
    settings.scaling = Scaling { environments_per_10s: Some(50), ..settings.scaling };
    let mut dispatcher = Dispatcher::new(settings);
    let limits = FunctionLimits { resource: "cart".into(), reserved: None, timeout: Duration::from_secs(3) };
    let function = dispatcher.add_function(Instant::START, limits);
    let mut effects = Vec::with_capacity(100);
    let mut running = Vec::with_capacity(100);
    assert!(allocations(|| drop(Vec::<u8>::with_capacity(1))) > 0, "the allocator counts");

    let mut round = |now: Instant, outcome: Outcome| {
        for _ in 0..60 {
            match dispatcher.invoke(now, function) {
                Decision::Run(id) => running.push(id),
                Decision::Start(id) | Decision::Reset(id) => {
                    dispatcher.started(now, id);
                    running.push(id);
                }
                Decision::Refuse(refusal) => assert_eq!(&*refusal.resource, "cart"),
                Decision::NoFunction => unreachable!("the function exists"),
            }
        }
        assert_eq!(running.len(), 50);
        for id in running.drain(..) {
            dispatcher.finished(now, id, outcome, &mut effects);
        }
        dispatcher.advance(now, &mut effects);
        assert!(effects.is_empty());
    };
    round(Instant::START, Outcome::Done);
    for outcome in [Outcome::Done, Outcome::TimedOut, Outcome::Crashed, Outcome::Done] {
        assert_eq!(allocations(|| round(Instant::START, outcome)), 0);
    }
}
