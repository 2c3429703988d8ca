//! Interfaces of environments: what a cold start waits for in eras that made network interfaces at cold starts.

use super::Simulation;
use crate::input::PlanInput;
use crate::options::PlanError;
use crate::random::Stream;
use crate::report::Assumption;
use limits::network::Attachments;
use limits::{EnvironmentId, NetworkSettings};
use model::time::nanos;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::time::Duration;

/// The engine, and which environment is where.
#[derive(Debug)]
pub struct AttachRun {
    attachments: Attachments,
    functions: Vec<FunctionPlace>,
    /// By the environment's slot.
    seats: Vec<Option<Seat>>,
}

#[derive(Debug)]
struct FunctionPlace {
    memory_mb: u32,
    /// Which of its subnets the next environment is in.
    turn: usize,
    stream: Stream,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    generation: u32,
    function: u32,
    /// Which of the function's subnets.
    choice: u32,
    /// How long it waited for its interface.
    waited_nanos: u64,
}

impl AttachRun {
    /// `None` in eras that share interfaces, and without functions in a VPC.
    pub fn new(input: &PlanInput, settings: &NetworkSettings, seed: u64) -> Option<Self> {
        let attachments = input.network.attachments(settings)?;
        if attachments.groups.iter().all(Vec::is_empty) {
            return None;
        }
        let functions = input.functions.iter().map(|function| FunctionPlace {
            memory_mb: function.memory_mb,
            turn: 0,
            stream: Stream::new(seed, "attach", &function.id),
        });
        let functions = functions.collect();
        Some(Self { attachments, functions, seats: Vec::new() })
    }

    /// A new environment of the function. How long it waits for its interface.
    pub fn begin(
        &mut self,
        now: Instant,
        function: usize,
        environment: EnvironmentId,
    ) -> Result<Duration, Refusal> {
        let choices = self.attachments.groups.get(function).map_or(0, Vec::len);
        let place = &mut self.functions[function];
        let (mut refused, memory) = (None, place.memory_mb);
        // Below 2^32, so that it fits.
        let draw = place.stream.below(1 << 32) as u32;
        // A subnet without addresses is passed over for the next one.
        for _ in 0..choices {
            let Some(choice) = self.next_choice(function) else { break };
            let group = self.attachments.groups[function][choice];
            match self.attachments.engine.begin(now, group, memory, draw) {
                Ok(ready) => {
                    self.sit(function, choice, environment, nanos(ready.since(now)));
                    return Ok(ready.since(now));
                }
                Err(refusal) if refusal.limit == LimitId::SubnetAddresses => refused = Some(refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        refused.map_or(Ok(Duration::ZERO), Err)
    }

    /// An environment that is there at t = 0, with its interface.
    fn preload(&mut self, function: usize, environment: EnvironmentId) -> Result<(), Refusal> {
        let Some(choice) = self.next_choice(function) else { return Ok(()) };
        let (group, memory) = (self.attachments.groups[function][choice], self.functions[function].memory_mb);
        self.attachments.engine.preload(Instant::START, group, memory)?;
        self.sit(function, choice, environment, 0);
        Ok(())
    }

    /// In which of its function's subnets the environment is.
    pub fn choice(&self, environment: EnvironmentId) -> Option<u16> {
        let seat = (*self.seats.get(environment.slot() as usize)?)?;
        (seat.generation == environment.generation()).then(|| u16::try_from(seat.choice).ok())?
    }

    /// How long the environment's INIT waited for its interface, in nanoseconds.
    pub fn waited(&self, environment: EnvironmentId) -> u64 {
        let seat = self.seats.get(environment.slot() as usize).copied().flatten();
        seat.filter(|seat| seat.generation == environment.generation()).map_or(0, |seat| seat.waited_nanos)
    }

    /// The environment is gone.
    pub fn end(&mut self, now: Instant, environment: EnvironmentId) {
        let Some(seat) = self.seats.get_mut(environment.slot() as usize) else { return };
        let Some(Seat { function, choice, .. }) =
            seat.take_if(|seat| seat.generation == environment.generation())
        else {
            return;
        };
        let group = self.attachments.groups[function as usize][choice as usize];
        self.attachments.engine.end(now, group, self.functions[function as usize].memory_mb);
    }

    /// How many interfaces there are.
    pub fn count(&self) -> Option<u64> {
        Some(self.attachments.engine.count())
    }

    /// The board's rows.
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        self.attachments.engine.board(now)
    }

    /// What was assumed.
    pub fn assume(&self, rows: &mut Vec<Assumption>) {
        let figures = self.attachments.engine.figures();
        let mut assume = |what, value, why| rows.push(Assumption::new(what, value, why));
        assume(
            "interfaces of environments",
            format!(
                "one for each {} MB of a subnet's and its security groups' environments",
                figures.memory_mb
            ),
            "the guide's formula; which environment uses which is not published",
        );
        assume(
            "an interface that is made",
            format!(
                "is ready after {:.1} to {:.1} s, before INIT and outside its time limit",
                figures.attach.at(0).as_secs_f64(),
                figures.attach.at(u32::MAX).as_secs_f64()
            ),
            "measured in May 2019 on 50 cold starts",
        );
        assume(
            "interfaces made at once",
            format!("{}, then {} a second", figures.create_burst, figures.create_rate),
            "EC2's rate was not published; see eni.create-rate",
        );
        assume(
            "an interface",
            "goes with the last environment that needs it".to_owned(),
            "how long Lambda kept one was not published",
        );
    }

    fn next_choice(&mut self, function: usize) -> Option<usize> {
        let choices = self.attachments.groups.get(function).map_or(0, Vec::len);
        let turn = &mut self.functions[function].turn;
        let choice = *turn;
        *turn = if choice + 1 >= choices { 0 } else { choice + 1 };
        (choices > 0).then_some(choice)
    }

    fn sit(&mut self, function: usize, choice: usize, environment: EnvironmentId, waited_nanos: u64) {
        let slot = environment.slot() as usize;
        if slot >= self.seats.len() {
            self.seats.resize(slot + 1, None);
        }
        let (function, choice) = (function as u32, choice as u32);
        self.seats[slot] =
            Some(Seat { generation: environment.generation(), function, choice, waited_nanos });
    }
}

impl Simulation {
    /// An environment that is there at t = 0 has its interface already.
    pub(super) fn preload_interface(
        &mut self,
        function: usize,
        environment: EnvironmentId,
    ) -> Result<(), PlanError> {
        let Some(attach) = &mut self.attach else { return Ok(()) };
        attach.preload(function, environment).map_err(PlanError::InitialInterface)
    }
}
