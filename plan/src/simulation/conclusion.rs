//! From what was written down to the report.

use super::function::{DEFAULT_HANDLER, DEFAULT_INIT};
use super::{REQUESTS_MAX, Simulation, TURNAROUND_MIN};
use crate::input::PlanInput;
use crate::load::Load;
use crate::options::Options;
use crate::report::{
    Assumption, CauseRow, Engine, FirstLimit, FunctionReport, HeadRoom, Report, SCHEMA, Seconds, Summary,
};
use model::time::{Instant, nanos};
use model::{LimitId, LimitRow};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Simulation {
    /// The report of a plan that has run.
    pub(super) fn report(mut self, input: &PlanInput, load: &Load, options: &Options) -> Report {
        let assumptions = self.assumptions(input, load, options);
        let first_limit = self.first_limit();
        let summary = self.summary();
        let reached: Vec<bool> = (0..self.functions.len()).map(|index| self.is_reached(index)).collect();
        let slowest = self.slowest();
        let functions = (0..self.functions.len()).filter(|index| reached[*index]);
        let functions = functions.map(|index| self.function_report(index)).collect();
        let answered = summary.ok + summary.throttled + summary.timed_out + summary.errors;
        let unanswered = summary.requests - answered;
        let limits = self.dispatcher.board(self.now);
        let nearest = nearest(&limits, slowest);
        let (timeline, refusals) = (self.record.timeline.into_rows(), self.record.refusals.into_rows());
        Report {
            schema: SCHEMA,
            first_limit,
            summary,
            limits,
            timeline,
            functions,
            cost: (),
            assumptions,
            promises: [],
            fixes: [],
            sweep: [],
            engine: Engine {
                version: env!("CARGO_PKG_VERSION"),
                era: options.era.name.clone(),
                region: options.region.clone(),
                seed: options.seed.unwrap_or(load.seed),
                decisions_hash: self.record.decisions.to_string(),
            },
            refusals,
            unanswered,
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
        self.phases.iter().any(|phase| phase.target.function == index)
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
            record.causes.iter().map(|(limit, count)| cause(limit.as_str(), *count)).collect();
        if record.gave_up > 0 {
            errors_by_cause.push(cause("client.timeout", record.gave_up));
        }
        errors_by_cause.sort_by_key(|row| std::cmp::Reverse(row.count));
        Summary {
            requests: record.requests,
            ok: record.ok,
            throttled: record.throttled,
            timed_out: record.timed_out,
            errors: record.gave_up,
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
                "reserved or account concurrency, then burst or scaling rate",
                "AWS publishes no order",
            ),
            Assumption::new("lambda.request-rate", "no limit", "not simulated yet"),
        ];
        if settings.scaling.burst.is_some() {
            let why = "AWS publishes 500 a minute and not how they come";
            rows.push(Assumption::new("refill of lambda.burst", "continuous", why));
        }
        if settings.scaling.environments_per_10s.is_some() {
            let why = "AWS publishes the rate per 10 s, as best effort";
            rows.push(Assumption::new("refill of lambda.scaling-rate", "continuous", why));
        }
        self.assume_behaviour(input, load, &mut rows);
        let reserved: u64 =
            input.functions.iter().filter_map(|function| function.reserved).map(u64::from).sum();
        let (account, floor) = (settings.account_concurrency, settings.unreserved_minimum);
        if reserved > u64::from(account.saturating_sub(floor)) {
            let value = format!("{reserved} of {account}, as the stack says");
            let why = format!("AWS would refuse to leave less than {floor} unreserved");
            rows.push(Assumption::new("reserved concurrency", value, why));
        }
        for key in &load.unused {
            rows.push(Assumption::new(format!("`{key}` of the load"), "without effect", "not simulated yet"));
        }
        if self.phases.iter().any(|phase| phase.target.door.is_some()) {
            let value = "neither throttles nor a time-out of their own";
            rows.push(Assumption::new("doors", value, "not simulated yet"));
        }
        if let Some(timeout) = options.overrides.get(LimitId::FunctionTimeout) {
            rows.push(Assumption::new(
                "time-out of every function",
                format!("{timeout} s"),
                "given with --limit",
            ));
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
        if self.record.requests >= REQUESTS_MAX {
            let value = format!("after {REQUESTS_MAX} requests");
            rows.push(Assumption::new("the plan stopped", value, "a bound of the planner"));
        }
        rows.extend(input.assumptions.iter().cloned());
        rows
    }

    fn assume_behaviour(&self, input: &PlanInput, load: &Load, rows: &mut Vec<Assumption>) {
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
        }
    }
}

/// The limit whose peak came nearest to its figure. A refill runs at full speed whenever its bucket is not full, and
/// says nothing of how near the bucket's end is; a time-out is known to the nanosecond, not only to the second.
fn nearest(limits: &[LimitRow], slowest: Vec<HeadRoom>) -> Option<HeadRoom> {
    let counted =
        limits.iter().filter(|row| !matches!(row.id, LimitId::BurstRefill | LimitId::FunctionTimeout));
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

fn cause(id: &str, count: u64) -> CauseRow {
    CauseRow { chain: vec![id.to_owned()], count }
}
