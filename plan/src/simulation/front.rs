//! What stands before a function at API Gateway: throttles, the stage's cache, and how long the gateway waits.
//!
//! A request to a function or its URL passes all of this by; a load without API costs nothing here.

mod assumptions;

use super::authorizer::{Asks, AuthorizerRun, AuthorizerRuns};
use super::phase::PhaseRun;
use super::record::{Answer, Cause, Outer};
use super::{Event, Simulation};
use crate::heap::Turn;
use crate::input::PlanInput;
use crate::load::{Fresh, Load};
use crate::options::{Options, PlanError};
use crate::random::Stream;
use crate::report::CacheRow;
use crate::zipf::Zipf;
use limits::api_throttle::{ApiSettings, ApiThrottle, ClientId, MethodId, Way};
use limits::response_cache::{CacheKey, Invalidation};
use limits::{IntegrationTimeout, ResponseCache};
use model::{Instant, LimitId, LimitRow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The entry of the cache that a request missed, and that its answer will fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed(u32);

impl Missed {
    /// Nothing is cached.
    pub const NOTHING: Self = Self(u32::MAX);
}

/// What became of a request at the door.
pub enum Passed {
    /// It goes on to the function.
    On(Missed),
    /// The door answers.
    Answered(Answer),
}

/// Everything before functions.
#[derive(Debug)]
pub struct Fronts {
    throttle: ApiThrottle,
    timeouts: Vec<IntegrationTimeout>,
    caches: Vec<ResponseCache>,
    pub(super) authorizers: Vec<AuthorizerRun>,
    /// By phase; `None` where no API stands before the function.
    phases: Vec<Option<Front>>,
}

/// What one phase's requests pass.
#[derive(Debug)]
struct Front {
    way: Way,
    timeout: Option<usize>,
    cached: Option<Cached>,
    asks: Option<Asks>,
}

/// How one phase's requests meet a cache.
#[derive(Debug)]
struct Cached {
    cache: usize,
    method: u32,
    ttl: Duration,
    bytes: u64,
    /// Requests want their entry made anew.
    fresh: Option<Fresh>,
    /// `None` where all requests have one entry.
    keys: Option<Zipf>,
    stream: Stream,
}

impl Fronts {
    /// What stands before the phases' targets; `None` if nothing does.
    pub fn new(
        input: &PlanInput,
        load: &Load,
        phases: &[PhaseRun],
        seed: u64,
        options: &Options,
    ) -> Result<Option<Box<Self>>, PlanError> {
        let is_api =
            |run: &PhaseRun| run.target.route.is_some_and(|(door, _)| !input.doors[door].api.is_empty());
        if !phases.iter().any(is_api) {
            return Ok(None);
        }
        let settings = ApiSettings::from_era(&options.era, &options.region, &options.overrides)?;
        let mut making = Making {
            input,
            given_timeout: options.overrides.get(LimitId::IntegrationTimeout).map(Duration::from_millis),
            throttle: ApiThrottle::new(Instant::START, settings),
            timeouts: Vec::new(),
            caches: Vec::new(),
            methods: BTreeMap::new(),
            clients: BTreeMap::new(),
            by_stage: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            authorizers: AuthorizerRuns::default(),
        };
        let fronts = phases.iter().zip(&load.phases).enumerate().map(|(index, (run, phase))| {
            let (door, route) = run.target.route.filter(|_| is_api(run))?;
            let (method, timeout) = making.method(door, route);
            let client = run.target.client.map(|client| making.client(client, door, route, method));
            let cached = input.doors[door].routes[route].cache.as_ref().map(|cache| {
                let (at, namespace) = making.cache(door, &cache.namespace);
                let keys = phase.asks.keys.filter(|_| cache.has_parameters);
                Cached {
                    cache: at,
                    method: namespace,
                    ttl: cache.ttl,
                    bytes: phase.asks.bytes_out,
                    fresh: phase.asks.fresh,
                    keys: keys.map(Zipf::new),
                    stream: Stream::new(seed, "keys", &format!("{}\n{index}", phase.name)),
                }
            });
            let asks = making.authorizers.asks(
                input,
                run,
                phase,
                Stream::new(seed, "identities", &format!("{}\n{index}", phase.name)),
            );
            Some(Front { way: making.throttle.way(method, client), timeout, cached, asks })
        });
        let fronts = fronts.collect();
        let Making { throttle, timeouts, caches, authorizers, .. } = making;
        Ok(Some(Box::new(Self { throttle, timeouts, caches, authorizers: authorizers.all, phases: fronts })))
    }

    /// When the door before a phase's function waits no longer for what was sent at `sent`.
    #[inline]
    pub fn waits_until(&self, phase: u32, sent: Instant) -> Option<Instant> {
        let front = self.phases[phase as usize].as_ref()?;
        Some(self.timeouts[front.timeout?].until(sent))
    }

    /// The board's rows.
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        let mut rows = self.throttle.board(now);
        rows.extend(self.timeouts.iter().map(IntegrationTimeout::row));
        rows.extend(self.authorizers.iter().map(AuthorizerRun::row));
        rows.extend(self.caches.iter().map(ResponseCache::row));
        rows
    }

    /// What a phase's requests are asked before they pass.
    pub(super) fn asks(&self, phase: u32) -> Option<&Asks> {
        self.phases[phase as usize].as_ref()?.asks.as_ref()
    }

    /// The same with the authorizer.
    pub(super) fn asked(&mut self, phase: u32) -> Option<(&mut Asks, &mut AuthorizerRun)> {
        let asks = self.phases[phase as usize].as_mut()?.asks.as_mut()?;
        let authorizer = &mut self.authorizers[asks.authorizer];
        Some((asks, authorizer))
    }

    /// How the caches fared.
    pub fn caches(&self) -> Vec<CacheRow> {
        let row = |cache: &ResponseCache| {
            let counts = cache.counts();
            CacheRow {
                stage: Arc::clone(cache.resource()),
                bytes: cache.capacity(),
                hits: counts.hits,
                misses: counts.misses,
                evicted: counts.evicted,
                too_large: counts.too_large,
            }
        };
        self.caches.iter().map(row).collect()
    }

    /// Whether some phase's requests all have one entry, whatever `keys` says.
    pub fn shares_entry(&self, phase: usize) -> bool {
        let cached = self.phases[phase].as_ref().and_then(|front| front.cached.as_ref());
        cached.is_some_and(|cached| cached.keys.is_none())
    }

    /// Whether answers of the phase are cached.
    pub fn is_cached(&self, phase: usize) -> bool {
        self.phases[phase].as_ref().is_some_and(|front| front.cached.is_some())
    }
}

/// Fronts while they are made: what has been met already.
struct Making<'a> {
    input: &'a PlanInput,
    given_timeout: Option<Duration>,
    throttle: ApiThrottle,
    timeouts: Vec<IntegrationTimeout>,
    caches: Vec<ResponseCache>,
    /// By door and route.
    methods: BTreeMap<(usize, usize), (MethodId, Option<usize>)>,
    clients: BTreeMap<usize, ClientId>,
    /// Caches by door.
    by_stage: BTreeMap<usize, usize>,
    namespaces: BTreeMap<(usize, String), u32>,
    authorizers: AuthorizerRuns,
}

impl Making<'_> {
    fn method(&mut self, door: usize, route: usize) -> (MethodId, Option<usize>) {
        if let Some(known) = self.methods.get(&(door, route)) {
            return *known;
        }
        let (at, found) = (&self.input.doors[door], &self.input.doors[door].routes[route]);
        let resource: Arc<str> = format!("{} {}", at.stage_name(), found.example()).into();
        let method = self.throttle.add_method(Instant::START, Arc::clone(&resource), found.throttle);
        let timeout = found.timeout.map(|timeout| {
            let (timeout, source) = match self.given_timeout {
                Some(given) => (given, "given with --limit"),
                None => (timeout, "the template; API Gateway Developer Guide, Quotas: HTTP APIs 30 s, REST APIs 29 s by default"),
            };
            self.timeouts.push(IntegrationTimeout::new(resource, timeout, source.into()));
            self.timeouts.len() - 1
        });
        self.methods.insert((door, route), (method, timeout));
        (method, timeout)
    }

    fn client(&mut self, client: usize, door: usize, route: usize, method: MethodId) -> ClientId {
        let found = &self.input.clients[client];
        let id = *self.clients.entry(client).or_insert_with(|| {
            self.throttle.add_client(Instant::START, found.resource().into(), found.throttle, found.quota)
        });
        let (at, route) = (&self.input.doors[door], &self.input.doors[door].routes[route]);
        // Phases that send one key to one method share its bucket: it is made once.
        if let Some(own) = at.takes(found, route).filter(|_| !self.throttle.has_client_method(id, method)) {
            self.throttle.add_client_method(Instant::START, id, method, own);
        }
        id
    }

    /// A door's cache, and the number of a namespace in it.
    fn cache(&mut self, door: usize, namespace: &str) -> (usize, u32) {
        let caches = &mut self.caches;
        let at = &self.input.doors[door];
        let index = *self.by_stage.entry(door).or_insert_with(|| {
            let size = at.cache_size.unwrap_or_default();
            caches.push(ResponseCache::new(at.stage_name().into(), size, "the template".into()));
            caches.len() - 1
        });
        let next = self.namespaces.len() as u32;
        (index, *self.namespaces.entry((index, namespace.to_owned())).or_insert(next))
    }
}

impl Simulation {
    /// A request of the phase meets what stands before its function.
    #[inline]
    pub(super) fn pass_front(&mut self, now: Instant, phase: u32) -> Passed {
        if self.fronts.is_none() { Passed::On(Missed::NOTHING) } else { self.meet_front(now, phase) }
    }

    fn meet_front(&mut self, now: Instant, phase: u32) -> Passed {
        let Some(fronts) = self.fronts.as_mut() else { return Passed::On(Missed::NOTHING) };
        let Some(front) = fronts.phases[phase as usize].as_mut() else {
            return Passed::On(Missed::NOTHING);
        };
        let function = self.phases[phase as usize].target.function;
        if let Err(refusal) = fronts.throttle.admit(now, &front.way) {
            let environments = self.dispatcher.environments();
            self.record.turned_away(now, &refusal, environments, function);
            return Passed::Answered(Answer::Refused(refusal.limit));
        }
        let Some(cached) = &mut front.cached else { return Passed::On(Missed::NOTHING) };
        let word = cached.keys.as_ref().map_or(0, |keys| keys.sample(&mut cached.stream));
        let key = CacheKey { method: cached.method, word: u64::from(word) };
        let cache = &mut fronts.caches[cached.cache];
        if let Some(fresh) = cached.fresh {
            // CloudFormation knows no other rule than that of a new stage, which forbids nobody: without the permission a
            // request is answered as if it had not asked.
            cache.invalidate(key, Invalidation::default(), fresh == Fresh::Signed);
        }
        if cache.lookup(now, key) {
            self.record.hit(now, function);
            return Passed::Answered(Answer::Ok);
        }
        Passed::On(Missed(word))
    }

    /// What the door makes of a function's answer that comes at `ended`, and when: it may not have waited for it; and a
    /// good one fills the cache.
    #[inline]
    pub(super) fn through_front(
        &mut self,
        sent: Instant,
        ended: Instant,
        phase: u32,
        missed: Missed,
        answer: Answer,
    ) -> (Instant, Answer) {
        let Some(fronts) = self.fronts.as_mut() else { return (ended, answer) };
        let Some(front) = &fronts.phases[phase as usize] else { return (ended, answer) };
        if let Some(timeout) = front.timeout {
            let timeout = &mut fronts.timeouts[timeout];
            let until = timeout.until(sent);
            if ended > until {
                self.heap.push(until, Turn::Phase, Event::DoorOver(phase));
                let (trouble, waited) = answer.trouble();
                return (until, door_timed_out(trouble, waited.min(until.since(sent))));
            }
            timeout.answered(ended.since(sent));
        }
        if missed != Missed::NOTHING && answer == Answer::Ok {
            self.heap.push(ended, Turn::Free, Event::Fill { phase, word: missed.0 });
        }
        (ended, answer)
    }

    /// The door before a phase's function waits no longer.
    pub(super) fn door_over(&mut self, now: Instant, phase: u32) {
        let Some(fronts) = self.fronts.as_mut() else { return };
        let Some(timeout) = fronts.phases[phase as usize].as_ref().and_then(|front| front.timeout) else {
            return;
        };
        let refusal = fronts.timeouts[timeout].expired(now);
        let function = self.phases[phase as usize].target.function;
        self.record.refused(now, &refusal, self.dispatcher.environments(), function);
    }

    /// A function's answer is there for the cache.
    pub(super) fn fill(&mut self, now: Instant, phase: u32, word: u32) {
        let Some(fronts) = self.fronts.as_mut() else { return };
        let cached = fronts.phases[phase as usize].as_ref().and_then(|front| front.cached.as_ref());
        if let Some(cached) = cached {
            let key = CacheKey { method: cached.method, word: u64::from(word) };
            fronts.caches[cached.cache].store(now, key, cached.bytes, cached.ttl);
        }
    }
}

/// The door's answer, with what the function waited for.
pub fn door_timed_out(trouble: Option<u32>, waited: Duration) -> Answer {
    Answer::DoorTimedOut(Cause { outer: Outer::Limit(LimitId::IntegrationTimeout), trouble }, waited)
}
