//! Plans: the published experiment as a user runs it, and invocations a second beside a loop without engines.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use anyhow::{Context as _, Result, bail, ensure};
use limits::{Decision, Dispatcher, FunctionLimits, Outcome, Settings};
use model::{Era, Instant as Moment, LimitId, Overrides};
use plan::input::FunctionInput;
use plan::random::Stream;
use plan::{Load, Options, PlanInput};
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// 1,000 environments running, a flood to 5,000, in 2022; its published totals are checked by the planner's tests.
const SCENARIO: &str = "burst-2022";
const WHOLE_MS: f64 = 50.0;
const PER_SECOND: f64 = 1_000_000.0;
/// The closed loop of both: users that send again at once, exponential handler times.
const USERS: u64 = 1_000;
const HANDLER_MS: u64 = 50;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let onrush = bench.program("onrush")?;
    let mut whole = Samples::default();
    for _ in 0..bench.rounds() {
        let begun = Instant::now();
        let output = Command::new(&onrush)
            .args(["plan", "--scenario", SCENARIO, "--json"])
            .stdin(Stdio::null())
            .output()
            .context("cannot start onrush plan")?;
        let took = begun.elapsed();
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("onrush plan: {}", String::from_utf8_lossy(&output.stderr)))?;
        let Some(refused) = report["summary"]["throttled"].as_u64().filter(|refused| *refused > 0) else {
            bail!("{SCENARIO} refused nothing: {}", report["summary"]);
        };
        black_box(refused);
        whole.push(took.as_secs_f64() * 1e3);
    }
    board.add(Figure {
        what: format!("plan of {SCENARIO}, the whole command"),
        unit: "ms",
        ours: whole,
        other: None,
        goal: Goal::AtMost(WHOLE_MS),
    });

    let requests = bench.pick(500_000, 2_000_000);
    let [mut naive, mut joined, mut planned] = [const { Samples(Vec::new()) }; 3];
    let (input, load) = (input(), load(requests)?);
    let mut options = Options::new(Era::named("today")?);
    options.overrides = unthrottled();
    for _ in 0..bench.rounds() {
        naive.push(rate(requests, || Ok(closed_loop(requests, &mut Counter::default())))?);
        joined.push(rate(requests, || Ok(closed_loop(requests, &mut Engine::new()?)))?);
        planned.push(rate(requests, || Ok(plan::run(&input, &load, &options)?.summary.ok))?);
    }
    for (what, ours) in [("heap and dispatcher", joined), ("planner, report included", planned)] {
        board.add(Figure {
            what: format!("simulated invocations, {what}"),
            unit: "/s",
            ours,
            other: Some(("naive heap", naive.clone())),
            goal: Goal::AtLeast(PER_SECOND),
        });
    }
    Ok(())
}

/// Requests a second of `work`, which answers with how many it served.
fn rate(requests: u64, work: impl FnOnce() -> Result<u64>) -> Result<f64> {
    let begun = Instant::now();
    let served = work()?;
    ensure!(served == requests, "{served} of {requests} requests were served");
    Ok(requests as f64 / begun.elapsed().as_secs_f64())
}

/// Who says where an invocation runs.
trait Admission {
    fn begin(&mut self, now: u64) -> u64;
    fn end(&mut self, now: u64, place: u64);
}

/// No engine at all: a count of free environments.
#[derive(Default)]
struct Counter {
    free: u64,
    environments: u64,
}

impl Admission for Counter {
    fn begin(&mut self, _: u64) -> u64 {
        match self.free.checked_sub(1) {
            Some(left) => self.free = left,
            None => self.environments += 1,
        }
        self.environments
    }

    fn end(&mut self, _: u64, _: u64) {
        self.free += 1;
    }
}

/// The dispatcher with the figures of today.
struct Engine {
    dispatcher: Dispatcher,
    function: limits::FunctionId,
    environments: Vec<limits::EnvironmentId>,
    free: Vec<u64>,
    effects: Vec<limits::Effect>,
}

impl Engine {
    fn new() -> Result<Self> {
        let settings = Settings::from_era(&Era::named("today")?, model::era::DEFAULT_REGION, &unthrottled())?;
        let mut dispatcher = Dispatcher::new(settings);
        let limits =
            FunctionLimits { resource: "cart".into(), reserved: None, timeout: Duration::from_secs(30) };
        let function = dispatcher.add_function(Moment::START, limits);
        Ok(Self { dispatcher, function, environments: Vec::new(), free: Vec::new(), effects: Vec::new() })
    }
}

impl Admission for Engine {
    fn begin(&mut self, now: u64) -> u64 {
        let now = Moment::from_nanos(now);
        let environment = match self.dispatcher.invoke(now, self.function) {
            Decision::Run(environment) | Decision::Reset(environment) => environment,
            Decision::Start(environment) => {
                self.dispatcher.started(now, environment);
                environment
            }
            // As many users as the account allows at once: nothing is refused.
            Decision::Refuse(refusal) => unreachable!("{refusal}"),
            Decision::NoFunction => unreachable!("the function was just added"),
        };
        match self.free.pop() {
            Some(place) => {
                self.environments[place as usize] = environment;
                place
            }
            None => {
                self.environments.push(environment);
                self.environments.len() as u64 - 1
            }
        }
    }

    fn end(&mut self, now: u64, place: u64) {
        let environment = self.environments[place as usize];
        self.dispatcher.finished(Moment::from_nanos(now), environment, Outcome::Done, &mut self.effects);
        self.effects.clear();
        self.free.push(place);
    }
}

/// The heap of a simulator and nothing else; answers with how many requests ended.
fn closed_loop(requests: u64, admission: &mut impl Admission) -> u64 {
    let mut handler = Stream::new(0, "handler", "closed loop");
    let mut heap = BinaryHeap::new();
    let (mut sequence, mut sent, mut done) = (0_u64, 0, 0);
    let mut push = |heap: &mut BinaryHeap<_>, at: u64, place: Option<u64>| {
        sequence += 1;
        heap.push(Reverse((at, sequence, place)));
    };
    for _ in 0..USERS {
        push(&mut heap, 0, None);
    }
    while let Some(Reverse((now, _, place))) = heap.pop() {
        match place {
            Some(place) => {
                admission.end(now, place);
                done += 1;
            }
            None if sent == requests => {}
            None => {
                sent += 1;
                let place = admission.begin(now);
                let end = now + (HANDLER_MS as f64 * 1e6 * handler.exponential()) as u64;
                push(&mut heap, end, Some(place));
                push(&mut heap, end, None);
            }
        }
    }
    done
}

/// 1,000 users and 50 ms make 20,000 requests a second, which are to pass the request rate.
fn unthrottled() -> Overrides {
    let mut overrides = Overrides::default();
    overrides.set(LimitId::RequestRate, u64::from(u32::MAX));
    overrides
}

fn input() -> PlanInput {
    let function = FunctionInput {
        id: "CartFunction".into(),
        name: "cart".into(),
        reserved: None,
        timeout: Duration::from_secs(30),
        memory_mb: 128,
        init_always_billed: false,
    };
    PlanInput { functions: vec![function], ..PlanInput::default() }
}

fn load(requests: u64) -> Result<Load> {
    let text = format!(
        "{{version: 1, phases: [{{target: CartFunction, users: {USERS}, requests: {requests}}}], behaviour: \
         {{CartFunction: {{init: 100ms, steps: [{{compute: {{exponential: {HANDLER_MS}ms}}}}]}}}}}}"
    );
    Load::read("load.yaml", &text).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}
