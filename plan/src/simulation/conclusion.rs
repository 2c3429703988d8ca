//! From what was written down to the report.

use super::function::{DEFAULT_HANDLER, DEFAULT_INIT};
use super::record::{CallTrouble, Cause, FunctionRecord, Outer, Strikes, Trouble};
use super::{HELD_MAX, PACKETS_MAX, REQUESTS_MAX, Simulation, TURNAROUND_MIN};
use crate::input::PlanInput;
use crate::load::Load;
use crate::options::Options;
use crate::report::{
    Assumption, CauseRow, ConnectRow, Engine, FirstLimit, FunctionReport, HeadRoom, PoolReport, QueryRow,
    Report, SCHEMA, Seconds, Summary,
};
use crate::report::{grouped, seconds};
use crate::retry::{ATTEMPTS_MAX, Mode};
use limits::StreamFigures;
use limits::async_queue::EVENTS_MAX;
use limits::bandwidth::SCALES_AFTER;
use model::time::{Instant, nanos};
use model::{LimitId, LimitRow, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is assumed of the pools of database proxies.
const POOLS: &[(&str, &str, &str)] = &[
    ("clients of a proxy", "without a limit, one user and one database for all", "AWS publishes no figure"),
    ("queue of a proxy", "first come, first served", "AWS does not publish the order"),
    (
        "connections of a pool",
        "the share of max_connections rounded down, none kept for the proxy itself",
        "AWS keeps a few for its own monitoring and does not say how many",
    ),
    (
        "time that a proxy adds",
        "0 s",
        "about 5 ms to connect and single-digit ms a query in the field: put it into `for`",
    ),
    (
        "a pool whose database is full",
        "asks it again every second while somebody waits",
        "AWS publishes neither",
    ),
];

/// More requests a second than this is what the other form of the scaling rate is about (AWS Lambda Developer Guide, "Lambda
/// scaling behavior").
const SCALING_REQUESTS: u64 = 10_000;
/// For functions that take less, ns.
const SCALING_NANOS: u64 = 100_000_000;

/// Whether transfers, rather than connects, wait for this limit.
const fn slows_transfers(limit: LimitId) -> bool {
    matches!(
        limit,
        LimitId::EnvironmentBandwidth | LimitId::EniBandwidth | LimitId::NatBandwidth | LimitId::NatPackets
    )
}

impl Simulation {
    /// The report of a plan that has run.
    pub(super) fn report(mut self, input: &PlanInput, load: &Load, options: &Options) -> Report {
        let mut assumptions = self.assumptions(input, load, options);
        let cost = self.bill(input, load, options);
        assumptions.extend(cost.iter().flat_map(|bill| bill.notes.iter().cloned()));
        let first_limit = self.first_limit();
        let summary = self.summary();
        let reached: Vec<bool> = (0..self.functions.len()).map(|index| self.is_reached(index)).collect();
        let slowest = self.slowest();
        let functions = (0..self.functions.len()).filter(|index| reached[*index]);
        let functions = functions.map(|index| self.function_report(index)).collect();
        let answered = summary.ok + summary.throttled + summary.timed_out + summary.errors;
        let unanswered = summary.requests - answered;
        let mut limits = self.dispatcher.board(self.now);
        if !self.network.connects.is_empty() || self.network.interfaces().is_some() {
            limits.extend(self.network.connections().board());
        }
        limits.extend(self.network.traffic_rows(self.now));
        if let Some(attach) = &self.attach {
            limits.extend(attach.board(self.now));
        }
        let (mut caches, mut authorizers) = (Vec::new(), Vec::new());
        if let Some(fronts) = &self.fronts {
            limits.extend(fronts.board(self.now));
            (caches, authorizers) = (fronts.caches(), self.authorizer_rows());
        }
        if let Some(events) = &self.events {
            limits.extend(events.board(self.now));
        }
        let connects = self.connect_rows();
        let provisioned = self.provisioned_rows(input);
        let (queries, pools) = (self.query_rows(), self.pool_reports());
        let events = self.events.as_ref().map(|events| events.rows()).unwrap_or_default();
        let nearest = nearest(&limits, slowest);
        let (timeline, refusals) = (self.record.timeline.into_rows(), self.record.refusals.into_rows());
        Report {
            schema: SCHEMA,
            first_limit,
            summary,
            limits,
            timeline,
            functions,
            cost,
            events,
            provisioned,
            caches,
            authorizers,
            assumptions,
            promises: Vec::new(),
            fixes: Vec::new(),
            searched: None,
            sweep: Vec::new(),
            swept: None,
            engine: Engine {
                version: env!("CARGO_PKG_VERSION"),
                era: options.era.name.clone(),
                region: options.region.clone(),
                seed: options.seed.unwrap_or(load.seed),
                decisions_hash: self.record.decisions.to_string(),
            },
            refusals,
            unanswered,
            connects,
            queries,
            pools,
            nearest,
            decisions: self.record.trace.unwrap_or_default(),
        }
    }

    /// Of each function its slowest invocation, against its time-out.
    fn slowest(&self) -> Vec<HeadRoom> {
        let rows = self.functions.iter().zip(&self.record.functions).map(|(function, record)| HeadRoom {
            id: LimitId::FunctionTimeout,
            resource: Arc::clone(&function.name),
            peak: record.durations.slowest(),
            max: nanos(function.timeout),
        });
        rows.collect()
    }

    fn is_reached(&self, index: usize) -> bool {
        self.reached[index]
    }

    fn first_limit(&mut self) -> Option<FirstLimit> {
        let mut first = self.record.first_limit.take()?;
        let victims = self.record.victims.iter();
        let mut victims: Vec<(u64, usize)> = victims
            .filter(|((limit, resource, _), _)| *limit == first.id && *resource == first.resource)
            .map(|((.., function), count)| (*count, *function))
            .collect();
        victims.sort_by_key(|(count, function)| (std::cmp::Reverse(*count), *function));
        first.victims =
            victims.into_iter().map(|(_, function)| self.functions[function].name.to_string()).collect();
        Some(first)
    }

    fn summary(&self) -> Summary {
        let record = &self.record;
        let first = record.first_sent.unwrap_or(Instant::START);
        let total = Seconds(record.last_answered.as_nanos().saturating_sub(first.as_nanos()));
        let answers = record.answers.count();
        let sorted = record.answers.sorted();
        let mut errors_by_cause: Vec<CauseRow> =
            record.causes.0.iter().map(|(cause, strikes)| self.cause_row(*cause, *strikes)).collect();
        errors_by_cause.sort_by_key(|row| std::cmp::Reverse(row.count));
        Summary {
            requests: record.requests,
            attempts: record.attempts,
            ok: record.ok,
            throttled: record.throttled,
            timed_out: record.timed_out,
            errors: record.gave_up + record.failed,
            cold_starts: record.functions.iter().map(|function| function.cold_starts).sum(),
            statuses: record.statuses.clone(),
            errors_by_cause,
            total_s: total,
            fastest_s: Seconds(record.answers.fastest()),
            slowest_s: Seconds(record.answers.slowest()),
            average_s: Seconds(record.answers.average()),
            requests_per_s: if total.0 == 0 { 0.0 } else { answers as f64 / total.as_f64() },
            percentiles_s: sorted.percentiles(),
            histogram: sorted.histogram(),
        }
    }

    /// What a client met and what was behind it: "function timed out <- connect waited 25 s <- interface full".
    fn cause_row(&self, cause: Cause, strikes: Strikes) -> CauseRow {
        let mut chain = vec![outer_name(cause.outer).to_owned()];
        let [shortest, longest] =
            [strikes.shortest, strikes.longest].map(|time| seconds(Seconds(nanos(time))));
        let waited = if shortest == longest { longest } else { format!("{shortest} to {longest}") };
        self.explain(cause.trouble, &format!(" waited {waited} s"), &mut chain);
        CauseRow { chain, count: strikes.count }
    }

    /// Adds a trouble and what is behind it. As deep as calls are nested.
    fn explain(&self, trouble: Option<u32>, waited: &str, chain: &mut Vec<String>) {
        let Some(trouble) = trouble.and_then(|index| self.record.troubles.get(index as usize)) else {
            return;
        };
        match trouble {
            Trouble::Connect { destination, refusal } => {
                let deed = match refusal.limit {
                    limit if slows_transfers(limit) => "transfer with",
                    _ => "connect to",
                };
                chain.push(format!("{deed} {destination}{waited}"));
                chain.push(figures(refusal));
            }
            Trouble::Query { database, refusal, behind } => {
                chain.push(format!("query on {database}{waited}"));
                chain.push(figures(refusal));
                chain.extend(behind.as_ref().map(figures));
            }
            Trouble::Call { function, why } => {
                chain.push(format!("call of {}{waited}", self.functions[*function].name));
                match why {
                    CallTrouble::Refused(refusal) => chain.push(figures(refusal)),
                    CallTrouble::Failed(cause) => {
                        chain.push(outer_name(cause.outer).to_owned());
                        self.explain(cause.trouble, "", chain);
                    }
                    CallTrouble::Late => {}
                }
            }
        }
    }

    fn connect_rows(&self) -> Vec<ConnectRow> {
        let reached = self.network.connects.iter().filter(|connect| self.is_reached(connect.function));
        let rows = reached.map(|connect| ConnectRow {
            function: self.functions[connect.function].name.to_string(),
            destination: Arc::clone(&connect.destination),
            opened: connect.opened,
            reused: connect.reused,
            dropped: connect.dropped,
            failed: connect.failed,
            resets: connect.resets,
            waits_s: connect.waits.sorted().by_second(),
        });
        rows.collect()
    }

    fn query_rows(&self) -> Vec<QueryRow> {
        let reached = self.queries.runs.iter().filter(|query| self.is_reached(query.function));
        let rows = reached.map(|query| QueryRow {
            function: self.functions[query.function].name.to_string(),
            database: Arc::clone(&query.database),
            asked: query.asked,
            waited: query.waits.count(),
            waits_s: query.waits.sorted().percentiles(),
            longest_s: Seconds(query.waits.slowest()),
            failed: query.failed,
        });
        rows.collect()
    }

    fn pool_reports(&self) -> Vec<PoolReport> {
        if self.network.connects.is_empty() {
            return Vec::new();
        }
        let pools = self.network.connections().pools().map(|(name, counts, totals)| PoolReport {
            name: Arc::clone(name),
            clients_peak: totals.clients_peak,
            clients: counts.clients,
            idle_closed: totals.idle_closed,
            opened: totals.opened,
            lent: totals.lent,
            waiting_peak: totals.waiting_peak,
            pinned: totals.pinned,
        });
        pools.collect()
    }

    fn function_report(&mut self, index: usize) -> FunctionReport {
        let record = std::mem::take(&mut self.record.functions[index]);
        FunctionReport {
            name: self.functions[index].name.to_string(),
            invocations: record.invocations,
            cold_starts: record.cold_starts,
            throttled: record.throttled,
            timed_out: record.timed_out,
            peak_concurrency: record.peak_concurrency,
            duration_s: record.durations.sorted().percentiles(),
            billed_ms: record.billed_ms,
            init_ms: record.init_nanos as f64 / 1e6,
            report_lines: record.report_lines,
        }
    }

    /// Every default and every figure that AWS does not publish, as far as this plan used them.
    fn assumptions(&self, input: &PlanInput, load: &Load, options: &Options) -> Vec<Assumption> {
        let settings = self.dispatcher.settings();
        let mut rows = vec![
            Assumption::new(
                "idle time-out of environments",
                format!("{} s", settings.idle_timeout.as_secs()),
                "AWS publishes no figure",
            ),
            Assumption::new(
                "order of limits",
                "reserved or account concurrency, then request rate, then burst or scaling rate",
                "AWS publishes no order",
            ),
            Assumption::new(
                "life of environments",
                format!("{} s, never ended while busy", settings.environment_lifetime.as_secs()),
                "AWS says every few hours; see environment.lifetime",
            ),
            Assumption::new(
                "bucket of lambda.request-rate",
                "one second's worth",
                "AWS publishes the rate, not the bucket",
            ),
        ];
        if self.events.is_some() {
            let value = "1 s, doubled up to 5 min, each event for itself";
            let why = "AWS publishes both ends; its queue also adapts to its length";
            rows.push(Assumption::new("back-off of throttled events", value, why));
        }
        if self.queue_is_full() {
            let value = format!("with {EVENTS_MAX} events in the queue");
            rows.push(Assumption::new("the plan stopped", value, "a bound of the planner"));
        }
        if !input.provisioned.is_empty() {
            let value = "ready at t = 0, used first, replaced ahead after their life";
            rows.push(Assumption::new(
                "provisioned environments",
                value,
                "AWS needs a minute or two to allocate",
            ));
            let reached = |index: usize| {
                let mut phases = self.phases.iter();
                phases.any(|phase| phase.target.function == index && phase.target.provisioned.is_none())
            };
            for wanted in input.provisioned.iter().filter(|wanted| reached(wanted.function)) {
                let id = &input.functions[wanted.function].id;
                rows.push(Assumption::new(
                    format!("requests to {id} without a qualifier"),
                    "run on demand",
                    format!("provisioned concurrency serves {id}:{}", wanted.qualifier),
                ));
            }
        }
        if settings.scaling.burst.is_some() {
            let why = "AWS publishes 500 a minute and not how they come";
            rows.push(Assumption::new("refill of lambda.burst", "continuous", why));
        }
        if settings.scaling.environments_per_10s.is_some() {
            let why = "AWS publishes the rate per 10 s, as best effort";
            rows.push(Assumption::new("refill of lambda.scaling-rate", "continuous", why));
            let busiest =
                self.dispatcher.board(self.now).into_iter().filter(|row| row.id == LimitId::RequestRate);
            let is_busy = busiest.map(|row| row.peak).max().is_some_and(|peak| peak > SCALING_REQUESTS);
            let is_quick =
                |row: &FunctionRecord| row.durations.count() > 0 && row.durations.average() < SCALING_NANOS;
            if is_busy && self.record.functions.iter().any(is_quick) {
                let value = "counts environments alone";
                let why = "AWS says 1,000 environments or 10,000 more requests/s in 10 s; what the second form does to functions \
                           below 100 ms is not confirmed";
                rows.push(Assumption::new("lambda.scaling-rate", value, why));
            }
        }
        self.assume_behaviour(input, load, options, &mut rows);
        let reserved: u64 =
            input.functions.iter().filter_map(|function| function.reserved).map(u64::from).sum();
        let (account, floor) = (settings.account_concurrency, settings.unreserved_minimum);
        if reserved > u64::from(account.saturating_sub(floor)) {
            let value = format!("{reserved} of {account}, as the stack says");
            let why = format!("AWS would refuse to leave less than {floor} unreserved");
            rows.push(Assumption::new("reserved concurrency", value, why));
        }
        let value = if input.inventory.is_some() { "in the bill only" } else { "without effect" };
        let has_cache = self.fronts.as_ref().is_some_and(|fronts| !fronts.caches().is_empty());
        for key in load.unused.iter().filter(|key| **key != "phases.bytes" || !has_cache) {
            rows.push(Assumption::new(format!("`{key}` of the load"), value, "not simulated yet"));
        }
        self.assume_fronts(input, load, options, &mut rows);
        if let Some(timeout) = options.overrides.get(LimitId::FunctionTimeout) {
            rows.push(Assumption::new(
                "time-out of every function",
                format!("{timeout} s"),
                "given with --limit",
            ));
        }
        if self.phases.iter().any(|phase| phase.retry != Mode::None) {
            let value = format!(
                "{ATTEMPTS_MAX} attempts, up to 1 s and 2 s apart; one client for each user, one for an open loop"
            );
            let why = "the SDKs' retry modes as they are before AWS_NEW_RETRIES_2026";
            rows.push(Assumption::new("retries of clients", value, why));
        }
        if !self.calls.is_empty() {
            let why = "put the network's time into a step";
            rows.push(Assumption::new("time of a call beside the function's", "0 s", why));
        }
        if self.record.turnaround_used {
            rows.push(Assumption::new(
                "users who are answered in no time and do not think",
                format!("send again after {} ms", TURNAROUND_MIN.as_millis()),
                "nobody sends twice in one instant",
            ));
        }
        if self.record.functions.iter().any(|function| function.init_timed_out) {
            let value = "not billed besides its second run";
            rows.push(Assumption::new("INIT that runs into its time limit", value, "AWS does not say"));
        }
        if self.interrupted {
            let value = format!(
                "at {} s, after {} requests",
                seconds(Seconds::from(self.now)),
                grouped(self.record.requests)
            );
            rows.push(Assumption::new("the plan stopped", value, "it was interrupted"));
        }
        if self.network.is_too_much() {
            let value = format!("after {PACKETS_MAX} SYNs and reuses, or {HELD_MAX} connections at once");
            rows.push(Assumption::new("the plan stopped", value, "a bound of the planner"));
        }
        if self.record.asked >= REQUESTS_MAX {
            let value = format!("after {REQUESTS_MAX} requests and calls");
            rows.push(Assumption::new("the plan stopped", value, "a bound of the planner"));
        }
        if let Some(attach) = &self.attach {
            attach.assume(&mut rows);
        }
        if !self.network.connects.is_empty() {
            self.assume_network(input, options, &mut rows);
        }
        rows.extend(input.assumptions.iter().cloned());
        rows
    }

    fn assume_network(&self, input: &PlanInput, options: &Options, rows: &mut Vec<Assumption>) {
        let settings = self.network.connections().settings();
        let mut assume = |what: &str, value: String, why: &str| rows.push(Assumption::new(what, value, why));
        for host in self.network.hosts.iter().filter(|host| host.made_up) {
            let what = format!("addresses of {}", host.name);
            assume(&what, "one".to_owned(), "`hosts` does not say");
        }
        if self.network.connections().counts().next().is_none() {
            return assume("connections", "without limits".to_owned(), "no function is in a VPC");
        }
        let growth = match settings.interface.growth_after {
            None => "they do not grow".to_owned(),
            Some(after) => format!("one more, {} s after one was first full", after.as_secs()),
        };
        assume(
            "shared interfaces in a burst",
            growth,
            "the guide says that Lambda adds interfaces, in the field it did not in time; see eni.growth-after",
        );
        if settings.environment_interfaces.is_none() {
            let creation = settings.interface_creation.as_secs();
            assume(
                "functions and their interfaces",
                "deployed before the load".to_owned(),
                &format!(
                    "a deployment waits {creation} s or more for a new interface; AWS says several minutes"
                ),
            );
        }
        assume(
            "subnet of an environment",
            "each of its function's in turn".to_owned(),
            "AWS does not publish the choice",
        );
        assume(
            "DNS",
            "names resolve beside the interface and take no connection; each new one asks twice (IPv4 and IPv6)".to_owned(),
            "queries were answered while connects hung; not confirmed by AWS, nor is which interface dns.packets counts: \
             here each environment's",
        );
        assume(
            "SYNs without an answer",
            "sent again after 1, 3, 7, 15, 31 and 63 s; given up after 127 s or the client's time-out"
                .to_owned(),
            "Linux before 6.5; which kernel runs functions is not confirmed",
        );
        assume("a SYN that is dropped", "leaves nothing behind on its way".to_owned(), "AWS does not say");
        assume(
            "time to open a connection",
            "0 s where there is room".to_owned(),
            "put the network's time into a step",
        );
        if self.network.moves_bytes() {
            assume(
                "bytes over a link",
                "as many transfers at once as environments at full speed fit, the others wait in turn"
                    .to_owned(),
                "all together take as long as if they shared it, the first are through sooner and the last no later; full \
                 packets of 1,448 bytes, one way",
            );
            assume(
                "eni.bandwidth, nat.bandwidth and nat.packets",
                format!("double after each {} s in full use", SCALES_AFTER.as_secs()),
                "AWS says that they scale and not how fast",
            );
        }
        let idle = settings.interface.idle_timeout.as_secs();
        assume(
            "silent connections on an interface",
            format!("forgotten after {idle} s"),
            "published for NAT gateways and load balancers, not for functions' interfaces",
        );
        assume(
            "packets of a connection",
            "at its open and at each reuse, no keep-alive".to_owned(),
            "`behaviour` does not say",
        );
        assume(
            "environments that end",
            "leave their connections open unless on_shutdown is close; a time-out closes them".to_owned(),
            "an environment ends without warning to the other side",
        );
        let cooldown = settings.nat.port_cooldown.as_secs();
        assume(
            "NAT ports after their connection",
            format!("free again after {cooldown} s, addresses taken in turn"),
            "AWS publishes neither",
        );
        for gateway in &input.network.gateways {
            if gateway.is_beyond(settings.nat_addresses) {
                assume(
                    &gateway.name,
                    format!("{} addresses", gateway.addresses),
                    &format!(
                        "more than {} need a higher quota, which AWS grants on request",
                        settings.nat_addresses
                    ),
                );
            }
        }
        if self.network.connections().pools().next().is_some() {
            for (what, value, why) in POOLS {
                assume(what, (*value).to_owned(), why);
            }
        }
        for database in &input.network.databases {
            if let (Some(connections), None) = (database.connections, settings.database) {
                let what = format!("max_connections of {}", database.name);
                assume(&what, connections.to_string(), database.source);
            }
        }
        if let Some(after) = options.overrides.get(LimitId::NatPorts) {
            assume("nat.ports", format!("{after} for each address"), "given with --limit");
        }
        for note in &input.network.notes {
            assume(&note.what, note.value.clone(), note.why);
        }
    }

    fn assume_behaviour(
        &self,
        input: &PlanInput,
        load: &Load,
        options: &Options,
        rows: &mut Vec<Assumption>,
    ) {
        let given: BTreeMap<&str, _> =
            load.behaviour.iter().map(|behaviour| (&*behaviour.function.text, behaviour)).collect();
        for (index, function) in
            input.functions.iter().enumerate().filter(|(index, _)| self.is_reached(*index))
        {
            let behaviour = given.get(&*function.id).or_else(|| given.get(&*function.name));
            let id = &self.functions[index].name;
            if behaviour.is_none_or(|behaviour| behaviour.init.is_none()) {
                let value = format!("{} ms", DEFAULT_INIT.as_millis());
                rows.push(Assumption::new(format!("init of {id}"), value, "`behaviour` does not say"));
            }
            if behaviour.is_none_or(|behaviour| behaviour.steps.is_none()) {
                let value = format!("one of {} ms", DEFAULT_HANDLER.as_millis());
                rows.push(Assumption::new(format!("steps of {id}"), value, "`behaviour` does not say"));
            }
            if let Some(stream) = behaviour.and_then(|behaviour| behaviour.stream()) {
                let figures = StreamFigures::from_era(&options.era, &options.region, &options.overrides);
                let takes = seconds(Seconds(nanos(figures.time_of(stream.bytes))));
                let value = format!("{} bytes in {takes} s", grouped(stream.bytes));
                let why = format!(
                    "lambda.response-stream-burst lets {} bytes go at once, lambda.response-stream-rate {} a second after them; \
                     its clients read as fast, through a door that streams",
                    grouped(figures.burst.into()),
                    grouped(figures.rate.into())
                );
                rows.push(Assumption::new(format!("stream of {id}"), value, why));
            }
        }
    }
}

/// Limits whose peak is no measure of how near they came to refusing: what fills a bucket, a cache that is always full in
/// the end, and what has a finer measure.
const fn says_nothing_of_room(limit: LimitId) -> bool {
    matches!(
        limit,
        LimitId::BurstRefill
            | LimitId::FunctionTimeout
            | LimitId::ProvisionedConcurrency
            | LimitId::ApiAccountRate
            | LimitId::ApiStageRate
            | LimitId::ApiKeyRate
            | LimitId::ApiKeyMethodRate
            | LimitId::ApiCacheSize
    )
}

fn outer_name(outer: Outer) -> &'static str {
    match outer {
        Outer::Limit(limit) => limit.as_str(),
        Outer::FunctionError => "function.error",
        Outer::Denial => "authorizer.denied",
        Outer::AuthorizerError => "authorizer.error",
        Outer::ClientTimeout => "client.timeout",
    }
}

/// `nat.ports of NatGateway: 55,000 of 55,000 connections`, `route.none of SubnetA`.
fn figures(refusal: &Refusal) -> String {
    let Refusal { limit, resource, used, max, .. } = refusal;
    match limit.is_counted() {
        true => format!("{limit} of {resource}: {} of {} {}", grouped(*used), grouped(*max), limit.unit()),
        false => format!("{limit} of {resource}"),
    }
}

/// The limit whose peak came nearest to its figure. A refill runs at full speed whenever its bucket is not full, and
/// says nothing of how near the bucket's end is; a time-out is known to the nanosecond, not only to the second.
fn nearest(limits: &[LimitRow], slowest: Vec<HeadRoom>) -> Option<HeadRoom> {
    let counted = limits.iter().filter(|row| !says_nothing_of_room(row.id));
    let counted = counted.map(|row| HeadRoom {
        id: row.id,
        resource: Arc::clone(&row.resource),
        peak: row.peak,
        max: row.max,
    });
    // Compared crosswise: u64 * u64 fits u128. The first of equals stays.
    counted.chain(slowest).filter(|row| row.max > 0).reduce(|best, row| {
        let nearer =
            u128::from(row.peak) * u128::from(best.max) > u128::from(best.peak) * u128::from(row.max);
        if nearer { row } else { best }
    })
}
