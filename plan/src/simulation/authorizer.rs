//! Lambda authorizers: a function that says whether a request may pass, asked before the one behind the route.
//!
//! Its invocation is one like any other: it has environments of its own and meets the same limits. What an API keeps of its
//! answers is decided by the live gateway's engine (`limits::authorizer`).
//!
//! An HTTP API asks after its throttles, a REST API before them.

use super::attempts::Fate;
use super::phase::PhaseRun;
use super::record::{Answer, CallTrouble, Cause, Outer};
use super::request::{Ask, Caller};
use super::{Event, Simulation};
use crate::heap::Turn;
use crate::input::{AuthorizerInput, DoorKind, PlanInput};
use crate::load::{Asking, Callers, Phase};
use crate::random::Stream;
use crate::report::AuthorizerRow;
use crate::zipf::Zipf;
use limits::IntegrationTimeout;
use limits::authorizer::{PATIENCE, Verdicts};
use limits::response_cache::{CacheKey, ENTRIES_MAX};
use model::{Instant, LimitRow, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SOURCE: &str = "API Gateway Developer Guide, Quotas: a Lambda authorizer answers within 10 s";
/// Users have words of their own, apart from those of drawn identities.
const USERS: u64 = 1 << 63;

/// When an API asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// After its throttles.
    ThrottlesFirst,
    /// Before them.
    AuthorizerFirst,
}

/// An authorizer in its course.
#[derive(Debug)]
pub struct AuthorizerRun {
    /// Index of the function that is asked.
    pub function: usize,
    provisioned: Option<usize>,
    name: String,
    verdicts: Verdicts<bool>,
    timeout: IntegrationTimeout,
    asked: u64,
    denied: u64,
    failed: u64,
}

impl AuthorizerRun {
    fn new(found: &AuthorizerInput) -> Self {
        let name = format!("{} of {}", found.name, found.api);
        let resource: Arc<str> = format!("authorizer {name}").into();
        Self {
            function: found.function,
            provisioned: found.provisioned,
            name,
            // AWS publishes no room, so that what is kept takes none.
            verdicts: Verdicts::new(Arc::clone(&resource), found.ttl, u64::MAX, "the template".into()),
            timeout: IntegrationTimeout::new(resource, PATIENCE, SOURCE.into()),
            asked: 0,
            denied: 0,
            failed: 0,
        }
    }

    /// The board's row: the slowest answer.
    pub fn row(&self) -> LimitRow {
        self.timeout.row()
    }

    /// Whether it keeps more answers than the planner does.
    pub fn is_full(&self) -> bool {
        self.verdicts.len() >= ENTRIES_MAX
    }

    /// Whether it keeps answers at all.
    pub fn keeps(&self) -> bool {
        self.verdicts.are_kept()
    }

    /// Whether some request had no answer of it.
    pub fn has_failed(&self) -> bool {
        self.failed > 0
    }
}

/// Authorizers while a plan is made.
#[derive(Debug, Default)]
pub struct AuthorizerRuns {
    pub all: Vec<AuthorizerRun>,
    /// By the input's authorizers.
    known: BTreeMap<usize, usize>,
    /// What is kept apart, by authorizer, door, and route where routes are told apart.
    namespaces: BTreeMap<(usize, usize, Option<usize>), u32>,
}

impl AuthorizerRuns {
    /// What the requests of a phase are asked; `None` where there is no authorizer.
    pub fn asks(&mut self, input: &PlanInput, run: &PhaseRun, phase: &Phase, stream: Stream) -> Option<Asks> {
        let (door, route) = run.target.route?;
        let index = input.doors[door].routes[route].authorizer?;
        let found = &input.authorizers[index];
        let authorizer = *self.known.entry(index).or_insert_with(|| {
            self.all.push(AuthorizerRun::new(found));
            self.all.len() - 1
        });
        let next = self.namespaces.len() as u32;
        let place = (authorizer, door, found.identity.route.then_some(route));
        let namespace = *self.namespaces.entry(place).or_insert(next);
        let identities = match phase.asks.callers {
            _ if found.identity.request => Identities::New(0),
            _ if !found.identity.caller => Identities::One,
            Callers::Some(keys) => Identities::Drawn(Zipf::new(keys)),
            Callers::Unsaid if run.crowd.is_some() => Identities::Users,
            Callers::Unsaid | Callers::New => Identities::New(0),
        };
        let order = match input.doors[door].kind {
            DoorKind::HttpApi => Order::ThrottlesFirst,
            _ => Order::AuthorizerFirst,
        };
        Some(Asks { authorizer, order, namespace, identities, denied_ppm: phase.asks.denied_ppm, stream })
    }
}

/// How one phase's requests meet their authorizer.
#[derive(Debug)]
pub struct Asks {
    pub authorizer: usize,
    order: Order,
    namespace: u32,
    identities: Identities,
    denied_ppm: u32,
    stream: Stream,
}

/// Who asks.
#[derive(Debug)]
enum Identities {
    /// All are one.
    One,
    /// Each user of the closed loop is one.
    Users,
    /// Each request comes from one of so many.
    Drawn(Zipf),
    /// Nobody comes twice; so many came.
    New(u64),
}

impl Asks {
    /// Whether what a load says of callers, or leaves unsaid, tells requests apart.
    pub fn tells_callers_apart(&self) -> bool {
        !matches!(self.identities, Identities::One)
    }

    /// Who a request is, for which no user or a certain one waits.
    fn identity(&mut self, user: Option<u32>) -> u64 {
        match &mut self.identities {
            Identities::One => 0,
            Identities::Users => user.map_or(0, u64::from),
            Identities::Drawn(zipf) => zipf.sample(&mut self.stream).into(),
            Identities::New(came) => {
                *came += 1;
                *came - 1
            }
        }
    }

    /// What an answer about one of them is kept by; `None` where it would never be asked for again.
    fn key(&self, identity: u64) -> Option<CacheKey> {
        let word = match self.identities {
            Identities::New(_) => return None,
            Identities::Users => USERS | identity,
            Identities::One | Identities::Drawn(_) => identity,
        };
        Some(CacheKey { method: self.namespace, word })
    }
}

/// A request about which an authorizer's function is asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    ask: Ask,
    asked: Instant,
    key: Option<CacheKey>,
    /// What the answer will be, if there is one.
    denied: bool,
    /// When the function has answered, and what; not before that is known.
    answer: Option<(Instant, Reply)>,
}

/// What came of asking a function.
#[derive(Clone, Copy, Debug)]
enum Reply {
    /// An answer.
    Answered,
    /// None, after so long.
    Failed(Cause, Duration),
}

/// A question's place, and which of the place's questions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionId {
    slot: u32,
    generation: u32,
}

/// Questions that are open.
#[derive(Debug, Default)]
pub struct Questions {
    slots: Vec<(u32, Option<Question>)>,
    free: Vec<u32>,
}

impl Questions {
    fn put(&mut self, question: Question) -> QuestionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (generation, place) = &mut self.slots[slot as usize];
        *place = Some(question);
        QuestionId { slot, generation: *generation }
    }

    fn get(&mut self, id: QuestionId) -> Option<&mut Question> {
        let (generation, place) = &mut self.slots[id.slot as usize];
        place.as_mut().filter(|_| *generation == id.generation)
    }

    fn take(&mut self, id: QuestionId) -> Option<Question> {
        let question = *self.get(id)?;
        let (generation, place) = &mut self.slots[id.slot as usize];
        (*generation, *place) = (generation.wrapping_add(1), None);
        self.free.push(id.slot);
        Some(question)
    }
}

impl Simulation {
    /// When an authorizer is asked about the phase's requests; `None`: none is.
    #[inline]
    pub(super) fn asks_authorizer(&self, phase: u32) -> Option<Order> {
        Some(self.fronts.as_ref()?.asks(phase)?.order)
    }

    /// Asks whether a request may pass. When its client has the answer or waits no longer, if that is known already.
    pub(super) fn authorize(&mut self, now: Instant, ask: &Ask) -> Option<Instant> {
        let (asks, authorizer) = self.fronts.as_mut()?.asked(ask.phase)?;
        let identity = match ask.caller {
            Caller::User(user) => asks.identity(Some(user)),
            Caller::Attempt(request) => {
                let user = self.attempts.user(request);
                *self.attempts.identity(request).get_or_insert_with(|| asks.identity(user))
            }
            _ => asks.identity(None),
        };
        let key = asks.key(identity);
        if let Some(allowed) = key.and_then(|key| authorizer.verdicts.recall(now, key).copied()) {
            authorizer.denied += u64::from(!allowed);
            self.record.judged(now, ask.function, allowed);
            return self.judge(now, ask, allowed);
        }
        authorizer.asked += 1;
        let denied = Asking::is_denied(asks.denied_ppm, identity);
        let (function, provisioned) = (authorizer.function, authorizer.provisioned);
        let over = authorizer.timeout.until(now);
        let id = self.questions.put(Question { ask: *ask, asked: now, key, denied, answer: None });
        let call = Ask::of_call(now, function, Caller::Authorizer(id));
        self.invoke(now, &Ask { provisioned, ..call });
        let known = self.questions.get(id).and_then(|question| question.answer);
        let known = known.map(|(at, _)| at).filter(|at| *at <= over);
        if known.is_none() {
            self.heap.push(over, Turn::Phase, Event::Unjudged(id));
        }
        let timeout = self.phases[ask.phase as usize].timeout;
        if let Some(patience) = timeout.map(|timeout| ask.sent + timeout)
            && patience < known.unwrap_or(over)
        {
            self.heap.push(patience, Turn::Phase, Event::Leave(id));
        }
        None
    }

    /// The authorizer has said yes or no.
    fn judge(&mut self, now: Instant, ask: &Ask, allowed: bool) -> Option<Instant> {
        if !allowed {
            return self.answer(now + ask.latency, ask, Answer::Denied);
        }
        match self.asks_authorizer(ask.phase) {
            Some(Order::ThrottlesFirst) => self.invoke(now, ask),
            Some(Order::AuthorizerFirst) | None => self.pass(now, ask),
        }
    }

    /// The authorizer's function was refused.
    pub(super) fn authorizer_refused(
        &mut self,
        now: Instant,
        id: QuestionId,
        function: usize,
        refusal: &Refusal,
    ) {
        let trouble = self.record.call_trouble(function, CallTrouble::Refused(refusal.clone()));
        let cause = Cause { outer: Outer::AuthorizerError, trouble };
        self.question_ends(now, id, Reply::Failed(cause, Duration::ZERO));
    }

    /// The authorizer's function answers at that moment.
    pub(super) fn authorizer_answered(
        &mut self,
        at: Instant,
        id: QuestionId,
        function: usize,
        answer: Answer,
    ) {
        let Some(asked) = self.questions.get(id).map(|question| question.asked) else { return };
        let reply = match answer {
            Answer::Ok | Answer::Accepted => Reply::Answered,
            Answer::TimedOut(cause, _)
            | Answer::Failed(cause, _)
            | Answer::DoorTimedOut(cause, _)
            | Answer::Barred(cause, _) => {
                let trouble = self.record.call_trouble(function, CallTrouble::Failed(cause));
                Reply::Failed(Cause { outer: Outer::AuthorizerError, trouble }, at.since(asked))
            }
            Answer::Refused(_) | Answer::Unplaced(_) | Answer::Denied => {
                Reply::Failed(Cause { outer: Outer::AuthorizerError, trouble: None }, at.since(asked))
            }
        };
        self.question_ends(at, id, reply);
    }

    /// An answer beyond the API's patience is not waited for: another event ends the question.
    fn question_ends(&mut self, at: Instant, id: QuestionId, reply: Reply) {
        let Some(question) = self.questions.get(id) else { return };
        if at.since(question.asked) > PATIENCE {
            return;
        }
        question.answer = Some((at, reply));
        self.heap.push(at, Turn::Want, Event::Judged(id));
    }

    /// The authorizer's answer is there: the request passes, or is answered.
    pub(super) fn judged(&mut self, now: Instant, id: QuestionId) {
        let Some(Question { ask, asked, key, denied, answer }) = self.questions.take(id) else { return };
        let Some((_, authorizer)) = self.fronts.as_mut().and_then(|fronts| fronts.asked(ask.phase)) else {
            return;
        };
        let told = match answer {
            Some((_, Reply::Failed(cause, waited))) => {
                authorizer.failed += 1;
                self.answer(now + ask.latency, &ask, Answer::Barred(cause, waited))
            }
            _ => {
                authorizer.timeout.answered(now.since(asked));
                authorizer.denied += u64::from(denied);
                if let Some(key) = key {
                    authorizer.verdicts.keep(now, key, 0, !denied);
                }
                self.judge(now, &ask, !denied)
            }
        };
        self.tell(&ask, told);
    }

    /// The API waits no longer for its authorizer, whose function runs on.
    pub(super) fn unjudged(&mut self, now: Instant, id: QuestionId) {
        // An answer at this very moment is in time.
        if self.questions.get(id).is_none_or(|question| question.answer.is_some()) {
            return;
        }
        let Some(Question { ask, asked, .. }) = self.questions.take(id) else { return };
        let Some((_, authorizer)) = self.fronts.as_mut().and_then(|fronts| fronts.asked(ask.phase)) else {
            return;
        };
        authorizer.failed += 1;
        let (refusal, function) = (authorizer.timeout.expired(now), authorizer.function);
        self.record.refused(now, &refusal, self.dispatcher.environments(), ask.function);
        let trouble = self.record.call_trouble(function, CallTrouble::Refused(refusal));
        let cause = Cause { outer: Outer::AuthorizerError, trouble };
        let told = self.answer(now + ask.latency, &ask, Answer::Barred(cause, now.since(asked)));
        self.tell(&ask, told);
    }

    /// A client waits no longer while its authorizer is asked: the request goes no further.
    pub(super) fn leave(&mut self, now: Instant, id: QuestionId) {
        let answered = |question: &mut Question| question.answer.is_some_and(|(at, _)| at <= now);
        if self.questions.get(id).is_none_or(answered) {
            return;
        }
        let Some(Question { ask, .. }) = self.questions.take(id) else { return };
        if let Caller::Attempt(request) = ask.caller {
            return self.fate(now, request, Fate::GivenUp(None, Duration::ZERO));
        }
        self.record.gives_up(now, None, Duration::ZERO);
        self.tell(&ask, Some(now));
    }

    /// A user who has its answer goes on.
    fn tell(&mut self, ask: &Ask, told: Option<Instant>) {
        if let (Some(answered), Caller::User(user)) = (told, ask.caller) {
            self.after_answer(ask.sent, user, answered);
        }
    }

    /// How the authorizers fared.
    pub(super) fn authorizer_rows(&self) -> Vec<AuthorizerRow> {
        let row = |run: &AuthorizerRun| AuthorizerRow {
            authorizer: run.name.clone(),
            function: Arc::clone(&self.functions[run.function].name),
            asked: run.asked,
            kept: run.verdicts.counts().hits,
            denied: run.denied,
            failed: run.failed,
        };
        self.fronts.iter().flat_map(|fronts| &fronts.authorizers).map(row).collect()
    }
}
