//! One function of a plan: its behaviour, and the course of each of its invocations.

use crate::cost::STREAM_FREE;
use crate::distribution::Distribution;
use crate::input::FunctionInput;
use crate::load::{Action, Behaviour, CallStep, ConnectStep, QueryStep, Step, service_connect};
use crate::quantity::DURATION_MAX;
use crate::random::Stream;
use crate::retry::Mode;
use limits::{FunctionId, StreamFigures};
use model::Refusal;
use model::time::nanos;
use std::sync::Arc;
use std::time::Duration;

/// INIT of a function whose behaviour does not say.
pub const DEFAULT_INIT: Duration = Duration::from_millis(250);
/// The handler of a function whose behaviour does not say.
pub const DEFAULT_HANDLER: Duration = Duration::from_millis(100);

/// How an invocation finds its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmth {
    /// Ready.
    Warm,
    /// Ready, initialised ahead, and not used yet.
    First,
    /// To be initialised again, within the invocation.
    Reset,
    /// New.
    Cold,
}

/// The times of one invocation, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// INIT before the invocation.
    pub init: u64,
    /// That INIT ran into its own time limit, so that the invocation initialised again.
    pub init_timed_out: bool,
    /// The invocation, a suppressed INIT included, until it answers or is ended.
    pub handler: u64,
    /// It was ended.
    pub timed_out: bool,
    /// From the end until the environment is free.
    pub lag: u64,
    /// Bytes of its response that went and cost something.
    pub streamed: u64,
}

/// One step as it runs.
#[derive(Debug)]
struct Stride {
    action: Deed,
    once: bool,
}

#[derive(Debug)]
enum Deed {
    Take(Distribution),
    /// How long the response flows.
    Stream(Distribution),
    /// Index of the connect, of all functions' connects.
    Connect(u32),
    /// Index of the call, of all functions' calls.
    Call(u32),
    /// Index of the query, of all functions' queries.
    Query(u32),
}

/// What an invocation does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It takes so many nanoseconds.
    Take(u64),
    /// Its response flows for so many nanoseconds.
    Stream(u64),
    /// It needs the connections of the connect with this index.
    Connect(u32),
    /// It makes the call with this index.
    Call(u32),
    /// It asks the database of the query with this index.
    Query(u32),
    /// Nothing: all steps are done.
    Nothing,
}

/// Gives steps that lead elsewhere their places in the plan's tables.
pub trait Ways {
    /// The index of a connect.
    fn connect(&mut self, step: &ConnectStep) -> u32;
    /// The index of a call of a function.
    fn call(&mut self, function: &str, retry: Mode) -> u32;
    /// The index of a query.
    fn query(&mut self, step: &QueryStep) -> u32;
    /// How fast responses flow.
    fn streams(&self) -> &StreamFigures;
    /// The Region, which is part of the names of AWS's services.
    fn region(&self) -> &str;
}

fn strides_of(step: &Step, ways: &mut impl Ways) -> Vec<Stride> {
    let stride = |action| Stride { action, once: step.once };
    match &step.action {
        Action::Take(time) => vec![stride(Deed::Take(time.clone()))],
        Action::Stream(stream) => {
            let time = ways.streams().time_of(stream.bytes).min(DURATION_MAX);
            vec![stride(Deed::Stream(Distribution::constant(time)))]
        }
        Action::Connect(connect) => vec![stride(Deed::Connect(ways.connect(connect)))],
        Action::Query(query) => vec![stride(Deed::Query(ways.query(query)))],
        Action::Call(CallStep::Function { function, retry }) => {
            vec![stride(Deed::Call(ways.call(&function.text, *retry)))]
        }
        Action::Call(CallStep::Service { service, time, hold }) => {
            let connect = service_connect(service, ways.region(), *hold);
            vec![stride(Deed::Connect(ways.connect(&connect))), stride(Deed::Take(time.clone()))]
        }
    }
}

/// One function.
#[derive(Debug)]
pub struct Function {
    pub index: usize,
    pub id: FunctionId,
    pub name: Arc<str>,
    pub timeout: Duration,
    pub memory_mb: u32,
    pub init_always_billed: bool,
    /// Some step depends on others, so that the course of an invocation is not known when it begins.
    pub waits: bool,
    pub closes_on_shutdown: bool,
    /// Bytes of its streamed response, and how fast they flow.
    response: Option<(u64, StreamFigures)>,
    /// Some step of the handler is only for an environment's first invocation.
    pub has_once: bool,
    /// Why its deployment failed, if it did: no invocation of it ever runs.
    pub undeployed: Option<Refusal>,
    init: Vec<Stride>,
    steps: Vec<Stride>,
    lag: Distribution,
    init_stream: Stream,
    handler_stream: Stream,
    lag_stream: Stream,
    retry_stream: Stream,
}

impl Function {
    pub fn new(
        index: usize,
        id: FunctionId,
        input: &FunctionInput,
        timeout: Duration,
        behaviour: Option<&Behaviour>,
        seed: u64,
        ways: &mut impl Ways,
    ) -> Self {
        let default = |time| vec![Stride { action: Deed::Take(Distribution::constant(time)), once: false }];
        let mut strides = |steps: &Vec<Step>| -> Vec<Stride> {
            steps.iter().flat_map(|step| strides_of(step, ways)).collect()
        };
        let init = behaviour.and_then(|behaviour| behaviour.init.as_ref()).map(&mut strides);
        let steps = behaviour.and_then(|behaviour| behaviour.steps.as_ref()).map(&mut strides);
        let streamed = behaviour.and_then(Behaviour::stream);
        let response = streamed.map(|stream| (stream.bytes, ways.streams().clone()));
        let lag = behaviour.map_or(Distribution::ZERO, |behaviour| behaviour.reuse_lag.clone());
        let stream = |purpose| Stream::new(seed, purpose, &input.id);
        Self {
            index,
            id,
            name: input.id.as_str().into(),
            timeout,
            memory_mb: input.memory_mb,
            init_always_billed: input.init_always_billed,
            waits: behaviour.is_some_and(|behaviour| {
                behaviour.all_steps().any(|step| !matches!(step.action, Action::Take(_) | Action::Stream(_)))
            }),
            closes_on_shutdown: behaviour.is_some_and(|behaviour| behaviour.closes_on_shutdown),
            response,
            has_once: steps.as_ref().is_some_and(|steps| steps.iter().any(|stride| stride.once)),
            undeployed: None,
            init: init.unwrap_or_else(|| default(DEFAULT_INIT)),
            steps: steps.unwrap_or_else(|| default(DEFAULT_HANDLER)),
            lag,
            init_stream: stream("init"),
            handler_stream: stream("handler"),
            lag_stream: stream("reuse lag"),
            retry_stream: stream("retry"),
        }
    }

    /// What comes at `step` of INIT or of the handler; steps that are not due in a warm environment are passed over,
    /// and `step` is moved to the one that is meant.
    pub fn doing(&mut self, in_init: bool, fresh: bool, step: &mut u32) -> Doing {
        let (steps, stream) = if in_init {
            (&self.init, &mut self.init_stream)
        } else {
            (&self.steps, &mut self.handler_stream)
        };
        while let Some(stride) = steps.get(*step as usize) {
            if fresh || !stride.once {
                return match &stride.action {
                    Deed::Take(time) => Doing::Take(time.sample(stream)),
                    Deed::Stream(time) => Doing::Stream(time.sample(stream)),
                    Deed::Connect(index) => Doing::Connect(*index),
                    Deed::Call(index) => Doing::Call(*index),
                    Deed::Query(index) => Doing::Query(*index),
                };
            }
            *step += 1;
        }
        Doing::Nothing
    }

    /// What the back-off before its next attempt of a call is drawn from.
    pub fn retry_stream(&mut self) -> &mut Stream {
        &mut self.retry_stream
    }

    /// How long an INIT takes, connects aside.
    pub fn init_time(&mut self) -> u64 {
        total(&self.init, true, &mut self.init_stream).0
    }

    /// The connects of INIT, and those that its queries use.
    pub fn init_connects(&self, of_query: impl Fn(u32) -> u32) -> Vec<u32> {
        let connects = self.init.iter().filter_map(|stride| match stride.action {
            Deed::Connect(index) => Some(index),
            Deed::Query(index) => Some(of_query(index)),
            Deed::Take(_) | Deed::Stream(_) | Deed::Call(_) => None,
        });
        let mut connects: Vec<u32> = connects.collect();
        connects.sort_unstable();
        connects.dedup();
        connects
    }

    /// Draws how long a statement takes.
    pub fn statement(&mut self, in_init: bool, time: &Distribution) -> u64 {
        time.sample(if in_init { &mut self.init_stream } else { &mut self.handler_stream })
    }

    /// From the end of an invocation until its environment is free.
    pub fn lag(&mut self) -> u64 {
        self.lag.sample(&mut self.lag_stream)
    }

    /// Draws the times of one invocation of a function whose steps only take time.
    ///
    /// An INIT longer than `init_timeout` is cut there and done again within the invocation, as is that of an
    /// environment that was reset; both count against the function's time-out (AWS Lambda Developer Guide,
    /// "Understanding the Lambda execution environment lifecycle"; published). Overflow: a step is at most a year
    /// and a function has at most 1,000 of them, so that sums stay below 2^55 ns * 2^11; they saturate all the same.
    pub fn course(&mut self, warmth: Warmth, init_timeout: u64) -> Course {
        let fresh = warmth != Warmth::Warm;
        let init = if matches!(warmth, Warmth::Cold | Warmth::Reset) { self.init_time() } else { 0 };
        let (steps, before_response) = total(&self.steps, fresh, &mut self.handler_stream);
        let init_timed_out = warmth == Warmth::Cold && init > init_timeout;
        let within = if warmth == Warmth::Reset || init_timed_out { init } else { 0 };
        let before = if warmth == Warmth::Cold { init.min(init_timeout) } else { 0 };
        let wanted = within.saturating_add(steps);
        let timeout = nanos(self.timeout);
        let timed_out = wanted > timeout;
        // An environment that is reset is not in use by its answer, so it has no lag.
        let lag = if timed_out { 0 } else { self.lag() };
        let flows = timeout.checked_sub(within.saturating_add(before_response));
        let streamed = flows.map_or(0, |nanos| self.streamed_beyond_free(Duration::from_nanos(nanos)));
        Course { init: before, init_timed_out, handler: wanted.min(timeout), timed_out, lag, streamed }
    }

    /// How many bytes of its response that cost something are streamed in at most that time.
    pub fn streamed_beyond_free(&self, time: Duration) -> u64 {
        let gone = self.response.as_ref().map_or(0, |(bytes, figures)| figures.gone_after(*bytes, time));
        gone.saturating_sub(STREAM_FREE)
    }
}

/// How long steps take in all, and before their response begins to flow.
fn total(steps: &[Stride], fresh: bool, stream: &mut Stream) -> (u64, u64) {
    let due = steps.iter().filter(|step| fresh || !step.once);
    due.fold((0, 0), |(sum, before): (u64, u64), step| match &step.action {
        Deed::Take(time) => (sum.saturating_add(time.sample(stream)), before),
        Deed::Stream(time) => (sum.saturating_add(time.sample(stream)), sum),
        Deed::Connect(_) | Deed::Call(_) | Deed::Query(_) => (sum, before),
    })
}
