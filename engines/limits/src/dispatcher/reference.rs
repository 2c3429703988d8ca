//! A slow model of the dispatcher, written from the rules alone: one list of environments, everything counted anew
//! for each question. The dispatcher must agree with it, decision by decision.

use super::{Decision, Effect, Outcome};
use crate::environments::EnvironmentId;
use crate::settings::Settings;
use model::{Instant, LimitId, Refusal};
use std::time::Duration;

/// What the model says of an invocation; it cannot know the id of a new environment.
#[derive(Debug, PartialEq)]
pub enum Expected {
    Run(EnvironmentId),
    Reset(EnvironmentId),
    Start,
    Refuse(Refusal),
}

impl Expected {
    pub fn matches(&self, decision: &Decision) -> bool {
        match (self, decision) {
            (Self::Run(expected), Decision::Run(id)) | (Self::Reset(expected), Decision::Reset(id)) => {
                expected == id
            }
            (Self::Start, Decision::Start(_)) => true,
            (Self::Refuse(expected), Decision::Refuse(refusal)) => expected == refusal,
            _ => false,
        }
    }
}

struct Environment {
    id: EnvironmentId,
    function: usize,
    version: u32,
    born: Instant,
    /// `None` while an invocation runs on it.
    idle_since: Option<Instant>,
    needs_reset: bool,
}

pub struct Function {
    name: String,
    reserved: Option<u32>,
    version: u32,
    removed: bool,
    grants: Vec<Instant>,
    /// What happened to the bucket of its reservation: requests, and other sizes (`Some`).
    requests: Vec<(Instant, Option<u32>)>,
}

/// The model. Idle environments stand in the order in which they became idle.
pub struct Reference {
    settings: Settings,
    now: Instant,
    pub functions: Vec<Function>,
    environments: Vec<Environment>,
    grants: Vec<Instant>,
    /// Requests of functions without a reservation.
    requests: Vec<(Instant, Option<u32>)>,
}

impl Reference {
    pub fn new(settings: Settings) -> Self {
        let now = Instant::START;
        let (functions, environments) = (Vec::new(), Vec::new());
        Self { settings, now, functions, environments, grants: Vec::new(), requests: Vec::new() }
    }

    pub fn add(&mut self, name: &str, reserved: Option<u32>) {
        let name = name.to_owned();
        let (grants, requests) = (Vec::new(), Vec::new());
        self.functions.push(Function { name, reserved: None, version: 0, removed: false, grants, requests });
        self.reserve(self.functions.len() - 1, reserved);
    }

    pub fn reserve(&mut self, function: usize, reserved: Option<u32>) {
        let size = reserved.map(|reserved| reserved * self.settings.requests_per_concurrency);
        let now = self.now;
        let function = &mut self.functions[function];
        match (std::mem::replace(&mut function.reserved, reserved), size) {
            (Some(before), Some(_)) if Some(before) == reserved => {}
            (Some(_), Some(size)) => function.requests.push((now, Some(size))),
            // A new reservation comes with a full bucket.
            (_, size) => function.requests = size.map(|size| (now, Some(size))).into_iter().collect(),
        }
    }

    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    pub fn in_flight(&self, function: usize) -> u64 {
        self.busy().filter(|environment| environment.function == function).count() as u64
    }

    pub fn in_flight_of_all(&self) -> u64 {
        self.busy().count() as u64
    }

    pub fn reservable(&self, function: usize) -> u64 {
        let all = self.settings.account_concurrency.saturating_sub(self.settings.unreserved_minimum);
        let own = self.functions[function].reserved.unwrap_or(0);
        u64::from(all).saturating_sub(self.reserved() - u64::from(own))
    }

    pub fn busy_ids(&self) -> Vec<EnvironmentId> {
        self.busy().map(|environment| environment.id).collect()
    }

    pub fn ids(&self) -> Vec<EnvironmentId> {
        self.environments.iter().map(|environment| environment.id).collect()
    }

    pub fn invoke(&self, function: usize) -> Expected {
        let asked = &self.functions[function];
        if let Some(max) = asked.reserved
            && self.in_flight(function) >= u64::from(max)
        {
            return self.refuse(LimitId::ReservedConcurrency, function, self.in_flight(function), max, None);
        }
        let unreserved: u64 = (0..self.functions.len())
            .filter(|index| self.functions[*index].reserved.is_none())
            .map(|index| self.in_flight(index))
            .sum();
        let claimed = (self.reserved() + unreserved).max(self.in_flight_of_all());
        let account = self.settings.account_concurrency;
        let full = asked.reserved.is_none() && self.reserved() + unreserved >= u64::from(account);
        if full || self.in_flight_of_all() >= u64::from(account) {
            return self.refuse(LimitId::AccountConcurrency, function, claimed, account, None);
        }
        let (requests, size, limit) = match asked.reserved {
            Some(max) => {
                let size = max * self.settings.requests_per_concurrency;
                (&asked.requests, size, LimitId::ReservedRequestRate)
            }
            None => (&self.requests, self.settings.request_rate, LimitId::RequestRate),
        };
        if let Err((used, retry_at)) = ask_requests(requests, size, self.now) {
            return self.refuse(limit, function, used, size, retry_at);
        }
        let warm = self.environments.iter().rfind(|environment| {
            let fresh = |since: Instant| since + self.settings.idle_timeout > self.now;
            environment.function == function && environment.idle_since.is_some_and(fresh)
        });
        if let Some(warm) = warm {
            return if warm.needs_reset { Expected::Reset(warm.id) } else { Expected::Run(warm.id) };
        }
        if let Some(burst) = self.settings.scaling.burst {
            let bucket = (burst.size, burst.refill_per_minute, 60);
            if let Err((used, retry_at)) = ask(&self.grants, bucket, self.now) {
                return self.refuse(LimitId::Burst, function, used, burst.size, retry_at);
            }
        }
        if let Some(rate) = self.settings.scaling.environments_per_10s
            && let Err((used, retry_at)) = ask(&asked.grants, (rate, rate, 10), self.now)
        {
            return self.refuse(LimitId::ScalingRate, function, used, rate, retry_at);
        }
        Expected::Start
    }

    pub fn follow(&mut self, function: usize, decision: &Decision) {
        if matches!(decision, Decision::Start(_) | Decision::Run(_) | Decision::Reset(_)) {
            let asked = &mut self.functions[function];
            let requests = if asked.reserved.is_some() { &mut asked.requests } else { &mut self.requests };
            requests.push((self.now, None));
        }
        match decision {
            Decision::Start(id) => {
                assert!(
                    self.environments.iter().all(|environment| environment.id != *id),
                    "an id is given twice"
                );
                self.grants.push(self.now);
                self.functions[function].grants.push(self.now);
                let version = self.functions[function].version;
                let (id, born) = (*id, self.now);
                let environment =
                    Environment { id, function, version, born, idle_since: None, needs_reset: false };
                self.environments.push(environment);
            }
            Decision::Run(id) | Decision::Reset(id) => {
                let found = self.environments.iter_mut().find(|environment| environment.id == *id);
                found.expect("checked before").idle_since = None;
            }
            _ => {}
        }
    }

    pub fn finish(&mut self, id: EnvironmentId, outcome: Outcome) -> Vec<Effect> {
        let index = self.environments.iter().position(|environment| environment.id == id).expect("busy");
        let mut environment = self.environments.remove(index);
        let function = &self.functions[environment.function];
        let too_old = self.now >= environment.born + self.settings.environment_lifetime;
        if function.removed || function.version != environment.version || too_old {
            return vec![Effect::Reap(id)];
        }
        environment.idle_since = Some(self.now);
        environment.needs_reset = outcome != Outcome::Done;
        self.environments.push(environment);
        Vec::new()
    }

    pub fn lose(&mut self, id: EnvironmentId) {
        self.environments.retain(|environment| environment.id != id);
    }

    /// Oldest first.
    pub fn advance(&mut self) -> Vec<Effect> {
        let (now, timeout) = (self.now, self.settings.idle_timeout);
        self.reap(|environment| environment.idle_since.is_some_and(|since| since + timeout <= now))
    }

    /// Most recently used first.
    pub fn retire(&mut self, function: usize, remove: bool) -> Vec<Effect> {
        self.functions[function].version += 1;
        if remove {
            self.functions[function].removed = true;
            self.reserve(function, None);
        }
        let mut reaped =
            self.reap(|environment| environment.function == function && environment.idle_since.is_some());
        reaped.reverse();
        reaped
    }

    fn reap(&mut self, which: impl Fn(&Environment) -> bool) -> Vec<Effect> {
        let reaped = self.environments.iter().filter(|environment| which(environment));
        let reaped = reaped.map(|environment| Effect::Reap(environment.id)).collect();
        self.environments.retain(|environment| !which(environment));
        reaped
    }

    fn busy(&self) -> impl Iterator<Item = &Environment> {
        self.environments.iter().filter(|environment| environment.idle_since.is_none())
    }

    fn reserved(&self) -> u64 {
        self.functions.iter().map(|function| u64::from(function.reserved.unwrap_or(0))).sum()
    }

    fn refuse(
        &self,
        limit: LimitId,
        function: usize,
        used: u64,
        max: u32,
        retry_at: Option<Instant>,
    ) -> Expected {
        let of_account = matches!(limit, LimitId::AccountConcurrency | LimitId::Burst | LimitId::RequestRate);
        let resource = if of_account { "account" } else { &self.functions[function].name };
        Expected::Refuse(Refusal {
            limit,
            resource: resource.into(),
            destination: None,
            used,
            max: u64::from(max),
            retry_at,
        })
    }
}

/// Asks a bucket (size, refill, period in seconds) for one token by replaying every grant so far. `Err` has the
/// tokens spent and when the next one is there.
fn ask(grants: &[Instant], bucket: (u32, u32, u64), now: Instant) -> Result<(), (u64, Option<Instant>)> {
    let (size, refill, period_s) = bucket;
    let period = i128::from(period_s) * 1_000_000_000;
    let full = i128::from(size) * period;
    let (mut level, mut at) = (full, Instant::START);
    let mut pass = |to: Instant, level: &mut i128| {
        *level = full.min(*level + i128::from(to.as_nanos() - at.as_nanos()) * i128::from(refill));
        at = to;
    };
    for grant in grants {
        pass(*grant, &mut level);
        level -= period;
        assert!(level >= 0, "a token was made");
    }
    pass(now, &mut level);
    if level >= period {
        return Ok(());
    }
    let used = u64::from(size) - (level / period) as u64;
    let missing = period - level;
    let never = refill == 0 || size == 0;
    let wait = || Duration::from_nanos(((missing + i128::from(refill) - 1) / i128::from(refill)) as u64);
    Err((used, (!never).then(|| now + wait())))
}

/// The same for requests, a second's worth of tokens each second; another size keeps what is spent, rounded up to
/// whole tokens, as far as it fits.
fn ask_requests(
    events: &[(Instant, Option<u32>)],
    size: u32,
    now: Instant,
) -> Result<(), (u64, Option<Instant>)> {
    const SECOND: i128 = 1_000_000_000;
    let first = events.first().and_then(|(at, size)| Some((*at, (*size)?)));
    let (mut at, mut size) = first.unwrap_or((Instant::START, size));
    let mut level = i128::from(size) * SECOND;
    let refilled = |level: i128, at: Instant, to: Instant, size: u32| {
        let gained = i128::from(to.as_nanos() - at.as_nanos()) * i128::from(size);
        (level + gained).min(i128::from(size) * SECOND)
    };
    for (to, changed) in events.iter().skip(usize::from(first.is_some())) {
        level = refilled(level, at, *to, size);
        at = *to;
        match changed {
            None => level -= SECOND,
            Some(changed) => {
                let spent = i128::from(size) - level / SECOND;
                size = *changed;
                level = (i128::from(size) - spent).max(0) * SECOND;
            }
        }
        assert!(level >= 0, "a request was made up");
    }
    level = refilled(level, at, now, size);
    if level >= SECOND {
        return Ok(());
    }
    let used = u64::from(size) - (level / SECOND) as u64;
    let wait = |size: i128| Duration::from_nanos(((SECOND - level + size - 1) / size) as u64);
    Err((used, (size > 0).then(|| now + wait(i128::from(size)))))
}
