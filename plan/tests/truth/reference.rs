//! The reference: written from the published rules, slow and plain, without a line of the engines.
//!
//! It looks through everything that waits for what comes next, keeps every environment it ever made in one list, and
//! counts what is in use anew for each question.

use crate::case::{Case, Work};
use model::LimitId;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// INIT is ended after 10 s and then done again within the invocation.
const INIT_MAX: u64 = 10 * SECOND;
/// SYNs of one connect, in seconds after the first, and when the kernel gives up.
const SYNS: [u64; 8] = [0, 1, 3, 7, 15, 31, 63, 127];

/// Interfaces and gateways forget a connection that is silent for 350 s.
const SILENT_MAX: u64 = 350 * SECOND;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Cold(usize),
    Warm(usize),
    Reset(usize),
    Refused(LimitId),
}

/// Tokens in exact fractions: one token is `unit`, each nanosecond brings `gain`.
struct Tokens {
    level: u128,
    most: u128,
    unit: u128,
    gain: u128,
    at: u64,
}

impl Tokens {
    fn new(most: u64, gain: u64, every: u64) -> Self {
        let unit = u128::from(every);
        let most = u128::from(most) * unit;
        Self { level: most, most, unit, gain: u128::from(gain), at: 0 }
    }

    fn some(&mut self, now: u64) -> bool {
        self.level = (self.level + u128::from(now - self.at) * self.gain).min(self.most);
        self.at = now;
        self.level >= self.unit
    }

    fn spend(&mut self) {
        self.level -= self.unit;
    }
}

struct Environment {
    function: usize,
    born: u64,
    busy: bool,
    gone: bool,
    /// Since when it is idle, and the number of that: the one that became idle last is taken first.
    idle: (u64, u64),
    reset: bool,
    /// When its connection last carried something.
    connected: Option<u64>,
}

#[derive(Clone, Copy)]
enum What {
    Begin(usize),
    Arrive {
        phase: usize,
        number: u64,
    },
    Send {
        phase: usize,
        left: u64,
    },
    Syn(usize),
    /// INIT was ended at its limit: whatever it had open is closed.
    Killed(usize),
    Free {
        environment: usize,
        timed_out: bool,
    },
}

/// A request that waits for its connection.
struct Waiting {
    phase: usize,
    environment: usize,
    sent: u64,
    left: u64,
    deadline: u64,
    attempt: u64,
    attempts_left: u64,
    syns: usize,
    /// How long the work after the connection takes.
    work: u64,
}

pub struct World<'a> {
    case: &'a Case,
    waiting: Vec<(u64, u8, u64, What)>,
    numbers: u64,
    environments: Vec<Environment>,
    connecting: Vec<Waiting>,
    burst: Option<Tokens>,
    scaling: Vec<Tokens>,
    account_rate: Tokens,
    reserved_rates: Vec<Option<Tokens>>,
    pub decisions: Vec<(u64, usize, Fate)>,
    pub ok: u64,
    pub throttled: u64,
    pub timed_out: u64,
    pub by_interface: u64,
    pub by_nat: u64,
}

impl<'a> World<'a> {
    pub fn run(case: &'a Case) -> Self {
        let rate = case.request_rate.unwrap_or(10 * case.account);
        let reserved = |reserved: u64| Tokens::new(10 * reserved, 10 * reserved, SECOND);
        let mut world = Self {
            case,
            waiting: Vec::new(),
            numbers: 0,
            environments: Vec::new(),
            connecting: Vec::new(),
            burst: case.burst.map(|(size, refill)| Tokens::new(size, refill, 60 * SECOND)),
            scaling: case
                .functions
                .iter()
                .map(|_| Tokens::new(case.scaling_rate, case.scaling_rate, 10 * SECOND))
                .collect(),
            account_rate: Tokens::new(rate, rate, SECOND),
            reserved_rates: case.functions.iter().map(|function| function.reserved.map(reserved)).collect(),
            decisions: Vec::new(),
            ok: 0,
            throttled: 0,
            timed_out: 0,
            by_interface: 0,
            by_nat: 0,
        };
        for (index, phase) in case.phases.iter().enumerate() {
            world.later(phase.start_ms * MS, 1, What::Begin(index));
        }
        loop {
            let next = (0..world.waiting.len()).min_by_key(|index| {
                let (at, turn, number, _) = world.waiting[*index];
                (at, turn, number)
            });
            let Some(next) = next else { return world };
            let (now, _, _, what) = world.waiting.swap_remove(next);
            world.happen(now, what);
        }
    }

    /// What frees comes before what begins, that before what wants; otherwise in the order of asking.
    fn later(&mut self, at: u64, turn: u8, what: What) {
        self.numbers += 1;
        self.waiting.push((at, turn, self.numbers, what));
    }

    fn happen(&mut self, now: u64, what: What) {
        match what {
            What::Begin(phase) => match self.case.phases[phase].work {
                Work::Users { users, requests, .. } => {
                    for user in 0..users {
                        let left = requests / users + u64::from(user < requests % users);
                        if left > 0 {
                            self.later(now, 2, What::Send { phase, left });
                        }
                    }
                }
                Work::Rate { .. } => self.later(now, 2, What::Arrive { phase, number: 0 }),
            },
            What::Arrive { phase, number } => {
                self.request(now, phase, 0);
                let Work::Rate { per_s, for_ms } = self.case.phases[phase].work else { return };
                let after = ((number + 1) * SECOND).div_ceil(per_s);
                if after < for_ms * MS {
                    let began = self.case.phases[phase].start_ms * MS;
                    self.later(began + after, 2, What::Arrive { phase, number: number + 1 });
                }
            }
            What::Send { phase, left } => self.request(now, phase, left),
            What::Syn(waiting) => self.syn(now, waiting),
            What::Killed(environment) => self.environments[environment].connected = None,
            What::Free { environment, timed_out } => {
                let case = self.case;
                let found = &mut self.environments[environment];
                let kept =
                    case.functions[found.function].connect.as_ref().is_some_and(|connect| connect.kept);
                found.connected = found.connected.filter(|_| kept && !timed_out);
                found.busy = false;
                found.reset = timed_out;
                self.numbers += 1;
                found.idle = (now, self.numbers);
                found.gone = now - found.born >= case.lifetime_s * SECOND;
            }
        }
    }

    fn request(&mut self, now: u64, phase: usize, left: u64) {
        let function = self.case.phases[phase].function;
        let fate = self.admit(now, function);
        self.decisions.push((now, function, fate));
        let (environment, init, again) = match fate {
            Fate::Refused(_) => {
                self.throttled += 1;
                return self.answered(now, now, phase, left);
            }
            Fate::Cold(environment) => (environment, true, false),
            Fate::Reset(environment) => (environment, true, true),
            Fate::Warm(environment) => (environment, false, false),
        };
        let behaviour = &self.case.functions[function];
        let init = if init { behaviour.init_ms * MS } else { 0 };
        let cut = !again && init > INIT_MAX;
        let began = if again { now } else { now + init.min(INIT_MAX) };
        let within = if again || cut { init } else { 0 };
        let work = behaviour.handler_ms * MS;
        let deadline = began + behaviour.timeout_ms * MS;
        let ready = began + within;
        let Some(connect) = &behaviour.connect else {
            let timed_out = ready + work > deadline;
            return self.end(now, phase, left, environment, (ready + work).min(deadline), timed_out, false);
        };
        if cut {
            self.later(began, 2, What::Killed(environment));
        }
        if ready > deadline {
            return self.end(now, phase, left, environment, deadline, true, false);
        }
        self.connecting.push(Waiting {
            phase,
            environment,
            sent: now,
            left,
            deadline,
            attempt: ready,
            attempts_left: connect.attempts - 1,
            syns: 0,
            work,
        });
        let index = self.connecting.len() - 1;
        if ready > now { self.later(ready, 2, What::Syn(index)) } else { self.syn(now, index) }
    }

    fn admit(&mut self, now: u64, function: usize) -> Fate {
        let Case { account, idle_timeout_s, functions, .. } = self.case;
        let busy = |wanted: &dyn Fn(usize) -> bool| {
            self.environments.iter().filter(|found| found.busy && wanted(found.function)).count() as u64
        };
        if let Some(reserved) = functions[function].reserved {
            if busy(&|other| other == function) >= reserved {
                return Fate::Refused(LimitId::ReservedConcurrency);
            }
        } else {
            let unreserved = account - functions.iter().filter_map(|function| function.reserved).sum::<u64>();
            if busy(&|other| functions[other].reserved.is_none()) >= unreserved {
                return Fate::Refused(LimitId::AccountConcurrency);
            }
        }
        let (rate, limit) = match &mut self.reserved_rates[function] {
            Some(rate) => (rate, LimitId::ReservedRequestRate),
            None => (&mut self.account_rate, LimitId::RequestRate),
        };
        if !rate.some(now) {
            return Fate::Refused(limit);
        }
        let idle = self.environments.iter().enumerate().filter(|(_, found)| {
            let here = found.function == function && !found.busy && !found.gone;
            here && now < found.idle.0 + idle_timeout_s * SECOND
        });
        if let Some((index, _)) = idle.max_by_key(|(_, found)| found.idle.1) {
            rate.spend();
            let found = &mut self.environments[index];
            found.busy = true;
            return if found.reset { Fate::Reset(index) } else { Fate::Warm(index) };
        }
        let (scaling, limit) = match &mut self.burst {
            Some(burst) => (burst, LimitId::Burst),
            None => (&mut self.scaling[function], LimitId::ScalingRate),
        };
        if !scaling.some(now) {
            return Fate::Refused(limit);
        }
        scaling.spend();
        rate.spend();
        self.environments.push(Environment {
            function,
            born: now,
            busy: true,
            gone: false,
            idle: (0, 0),
            reset: false,
            connected: None,
        });
        Fate::Cold(self.environments.len() - 1)
    }

    /// One SYN of a request: through the interface first, then the gateway.
    fn syn(&mut self, now: u64, index: usize) {
        let Waiting { phase, environment, sent, left, deadline, work, .. } = self.connecting[index];
        let connect = self.case.functions[self.environments[environment].function].connect.as_ref().unwrap();
        // Those of environments that ended are left behind, and still counted.
        let is_open = |found: &Environment| found.connected.is_some_and(|last| now < last + SILENT_MAX);
        let open = self.environments.iter().filter(|found| is_open(found)).count() as u64;
        if is_open(&self.environments[environment])
            || open < self.case.interface_max && open < self.case.nat_ports
        {
            self.environments[environment].connected = Some(now);
            let timed_out = now + work > deadline;
            return self.end(sent, phase, left, environment, (now + work).min(deadline), timed_out, false);
        }
        if open >= self.case.interface_max {
            self.by_interface += 1;
        } else {
            self.by_nat += 1;
        }
        let waiting = &mut self.connecting[index];
        let longest = SYNS[7] * SECOND;
        let attempt_ends = waiting.attempt + connect.timeout_ms.map_or(longest, |ms| (ms * MS).min(longest));
        waiting.syns += 1;
        let mut next = waiting.attempt + SYNS[waiting.syns] * SECOND;
        if waiting.syns == 7 || next >= attempt_ends {
            if waiting.attempts_left == 0 {
                let (ends, timed_out) =
                    if attempt_ends <= deadline { (attempt_ends, false) } else { (deadline, true) };
                return self.end(sent, phase, left, environment, ends, timed_out, true);
            }
            waiting.attempts_left -= 1;
            waiting.attempt = attempt_ends + connect.delay_ms * MS;
            waiting.syns = 0;
            next = waiting.attempt;
        }
        if next < deadline {
            return self.later(next, 2, What::Syn(index));
        }
        self.end(sent, phase, left, environment, deadline, true, false);
    }

    #[allow(clippy::too_many_arguments, reason = "a reference is plain")]
    fn end(
        &mut self,
        sent: u64,
        phase: usize,
        left: u64,
        environment: usize,
        at: u64,
        timed_out: bool,
        failed: bool,
    ) {
        let function = &self.case.functions[self.environments[environment].function];
        let lag = if timed_out { 0 } else { function.lag_ms * MS };
        self.later(at + lag, 0, What::Free { environment, timed_out });
        self.ok += u64::from(!timed_out && !failed);
        self.timed_out += u64::from(timed_out);
        self.answered(sent, at, phase, left);
    }

    /// The client has its answer: a user thinks and sends again, never twice in one instant.
    fn answered(&mut self, sent: u64, at: u64, phase: usize, left: u64) {
        let case = self.case;
        let Work::Users { think_ms, .. } = case.phases[phase].work else { return };
        if left > 1 {
            let next = at + case.phases[phase].latency_ms * MS + think_ms * MS;
            let next = if next <= sent { sent + MS } else { next };
            self.later(next, 2, What::Send { phase, left: left - 1 });
        }
    }
}
