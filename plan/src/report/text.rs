//! A report as text for people: the first limit on the first line, then when which limit refused how many, a summary
//! as `hey` prints it, the limits board, and what was assumed.

mod change;
mod cost;
mod databases;
mod timeline;

pub(super) use change::signed;

use super::{HeadRoom, RefusalRow, Report, Seconds, rows};
use crate::refusals::{is_symptom, merged};
use model::{LimitId, LimitRow, grouped};
use std::cmp::Reverse;
use std::fmt::{self, Write};

/// Rows of a table that are shown; `--json` has all.
const ROWS_SHOWN: usize = 40;
const MINUTE_NANOS: u64 = 60_000_000_000;
/// Refusals over more time than this are shown by the minute.
const SECONDS_SHOWN: u64 = 2 * MINUTE_NANOS;
const WIDTH_MIN: usize = 60;

/// The report as text of at most `width` columns where that is possible, with ANSI colours if asked.
pub fn render(report: &Report, width: usize, colour: bool) -> String {
    let mut text = String::new();
    let page = Page { report, width: width.max(WIDTH_MIN), colour };
    page.write(&mut text).expect("writing into a string does not fail");
    text
}

struct Page<'report> {
    report: &'report Report,
    width: usize,
    colour: bool,
}

impl Page<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        self.first_line(out)?;
        self.promises(out)?;
        self.fixes(out)?;
        self.sweep(out)?;
        self.refusals(out)?;
        self.timeline(out)?;
        self.summary(out)?;
        self.functions(out)?;
        self.events(out)?;
        self.provisioned(out)?;
        self.connects(out)?;
        self.queries(out)?;
        self.pools(out)?;
        self.caches(out)?;
        self.authorizers(out)?;
        self.limits(out)?;
        self.cost(out)?;
        self.assumptions(out)?;
        let engine = &self.report.engine;
        writeln!(
            out,
            "\nera {}, region {}, seed {}, onrush {}, decisions {}",
            engine.era, engine.region, engine.seed, engine.version, engine.decisions_hash
        )
    }

    /// What breaks first, whom; or that nothing does, and how near it is.
    fn first_line(&self, out: &mut String) -> fmt::Result {
        let Some(first) = &self.report.first_limit else {
            let line = match &self.report.nearest {
                _ if self.report.summary.requests == 0 => {
                    "Nothing was sent: the load has no request, so this plan says nothing of what would break."
                        .to_owned()
                }
                Some(row) => format!("Nothing breaks. The nearest limit is {}.", head_room(row)),
                None => "Nothing breaks.".to_owned(),
            };
            return self.painted(out, "1;32", &line);
        };
        let destination = first.destination.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
        let in_use = first.in_use().map_or_else(String::new, |figures| format!(": {figures}"));
        let line = format!(
            "{} of {}{destination} breaks first{in_use} at {} s, with {} environments. It hits {}.",
            first.id,
            first.resource,
            seconds(first.at_s),
            grouped(u64::from(first.environments)),
            first.victims.join(", ")
        );
        self.painted(out, "1;31", &line)
    }

    fn refusals(&self, out: &mut String) -> fmt::Result {
        let rows = &self.report.refusals;
        let Some(last) = rows.last() else { return Ok(()) };
        let by_minute = last.at_s.0 >= SECONDS_SHOWN;
        let (unit, name) = if by_minute { (MINUTE_NANOS, "minute") } else { (1_000_000_000, "second") };
        let rows: Vec<RefusalRow> = merged(rows, unit);
        self.heading(out, "When which limit refused how many")?;
        let mut table = Table::new(&[name, "limit", "of", "refused", "running then"]);
        for row in rows.iter().take(ROWS_SHOWN) {
            table.row([
                (row.at_s.0 / unit).to_string(),
                row.limit.to_string(),
                row.resource.to_string(),
                grouped(row.count),
                self.concurrency_at(row.at_s).map_or_else(String::new, |count| grouped(u64::from(count))),
            ]);
        }
        table.write(out, self.width)?;
        self.left_out(out, rows.len())
    }

    /// Requests in flight in the timeline's last row up to `at`.
    fn concurrency_at(&self, at: Seconds) -> Option<u32> {
        let timeline = &self.report.timeline;
        let after = timeline.partition_point(|row| row.t_s <= at);
        Some(timeline.get(after.checked_sub(1)?)?.concurrency)
    }

    fn summary(&self, out: &mut String) -> fmt::Result {
        let summary = &self.report.summary;
        self.heading(out, "Summary")?;
        writeln!(out, "  Total:        {:.4} secs", summary.total_s.as_f64())?;
        writeln!(out, "  Slowest:      {:.4} secs", summary.slowest_s.as_f64())?;
        writeln!(out, "  Fastest:      {:.4} secs", summary.fastest_s.as_f64())?;
        writeln!(out, "  Average:      {:.4} secs", summary.average_s.as_f64())?;
        writeln!(out, "  Requests/sec: {:.4}", summary.requests_per_s)?;
        writeln!(
            out,
            "\n  {} requests: {} ok, {} throttled, {} timed out, {} errors; {} cold starts",
            grouped(summary.requests),
            grouped(summary.ok),
            grouped(summary.throttled),
            grouped(summary.timed_out),
            grouped(summary.errors),
            grouped(summary.cold_starts)
        )?;
        if summary.attempts != summary.requests {
            writeln!(out, "  {} attempts in all", grouped(summary.attempts))?;
        }
        if self.report.unanswered > 0 {
            writeln!(out, "  {} were still waiting when the plan ended", grouped(self.report.unanswered))?;
        }
        if !summary.histogram.is_empty() {
            self.heading(out, "Response time histogram")?;
            self.histogram(out)?;
            self.heading(out, "Latency distribution")?;
            for (percentile, value) in &summary.percentiles_s {
                writeln!(out, "  {percentile:>4} % in {:.4} secs", value.as_f64())?;
            }
            self.heading(out, "Status code distribution")?;
            for (status, count) in &summary.statuses {
                writeln!(out, "  [{status}]\t{} responses", grouped(*count))?;
            }
        }
        for cause in &summary.errors_by_cause {
            writeln!(out, "  {}: {}", cause.chain.join(" <- "), grouped(cause.count))?;
        }
        Ok(())
    }

    fn histogram(&self, out: &mut String) -> fmt::Result {
        let rows = &self.report.summary.histogram;
        let most = rows.iter().map(|row| row.count).max().unwrap_or(0).max(1);
        let figures = grouped(most).len();
        let room = self.width.saturating_sub(figures + 20).clamp(10, 40) as u128;
        for row in rows {
            let bar = (u128::from(row.count) * room).div_ceil(u128::from(most)) as usize;
            let count = grouped(row.count);
            let line = format!("  {:>9.3} [{count}]", row.up_to_s.as_f64());
            let blank = figures - count.len();
            writeln!(out, "{}", format!("{line}{:blank$} |{}", "", "■".repeat(bar)).trim_end())?;
        }
        Ok(())
    }

    fn functions(&self, out: &mut String) -> fmt::Result {
        let functions = &self.report.functions;
        self.heading(out, "Functions")?;
        let mut table = Table::new(&[
            "function",
            "invocations",
            "cold starts",
            "throttled",
            "timed out",
            "peak",
            "p50 s",
            "p99 s",
        ]);
        for function in functions.iter().take(ROWS_SHOWN) {
            let percentile =
                |name| function.duration_s.get(name).map_or_else(String::new, |value| seconds(*value));
            table.row([
                function.name.clone(),
                grouped(function.invocations),
                grouped(function.cold_starts),
                grouped(function.throttled),
                grouped(function.timed_out),
                grouped(u64::from(function.peak_concurrency)),
                percentile("50"),
                percentile("99"),
            ]);
        }
        table.write(out, self.width)?;
        self.left_out(out, functions.len())
    }

    fn events(&self, out: &mut String) -> fmt::Result {
        let events = &self.report.events;
        if events.is_empty() {
            return Ok(());
        }
        self.heading(out, "Asynchronous events")?;
        let mut table = Table::new(&[
            "function",
            "accepted",
            "delivered",
            "retried",
            "throttled",
            "dropped",
            "dead letters",
            "age p50 s",
            "p99 s",
        ]);
        for row in events.iter().take(ROWS_SHOWN) {
            let percentile = |name| row.age_s.get(name).map_or_else(String::new, |value| seconds(*value));
            table.row([
                row.function.to_string(),
                grouped(row.accepted),
                grouped(row.delivered),
                grouped(row.retried),
                grouped(row.throttled),
                grouped(row.dropped),
                grouped(row.dead_lettered),
                percentile("50"),
                percentile("99"),
            ]);
        }
        table.write(out, self.width)?;
        for row in events.iter().take(ROWS_SHOWN).filter(|row| row.pending > 0) {
            writeln!(
                out,
                "  {} of {} were still in the queue when the plan ended",
                grouped(row.pending),
                row.function
            )?;
        }
        self.left_out(out, events.len())
    }

    fn provisioned(&self, out: &mut String) -> fmt::Result {
        let provisioned = &self.report.provisioned;
        if provisioned.is_empty() {
            return Ok(());
        }
        self.heading(out, "Provisioned concurrency")?;
        let mut table = Table::new(&rows::PROVISIONED);
        provisioned.iter().take(ROWS_SHOWN).for_each(|row| table.row(row.cells()));
        table.write(out, self.width)?;
        self.left_out(out, provisioned.len())
    }

    fn connects(&self, out: &mut String) -> fmt::Result {
        let connects = &self.report.connects;
        if connects.is_empty() {
            return Ok(());
        }
        self.heading(out, "Connects")?;
        let mut table = Table::new(&["function", "to", "opened", "reused", "refused", "failed", "resets"]);
        for row in connects.iter().take(ROWS_SHOWN) {
            table.row([
                row.function.clone(),
                row.destination.to_string(),
                grouped(row.opened),
                grouped(row.reused),
                grouped(row.dropped),
                grouped(row.failed),
                grouped(row.resets),
            ]);
        }
        table.write(out, self.width)?;
        for row in connects.iter().take(ROWS_SHOWN).filter(|row| row.waits_s.keys().any(|wait| *wait > 0)) {
            let waits = row.waits_s.iter().take(ROWS_SHOWN);
            let waits: Vec<String> =
                waits.map(|(wait, count)| format!("{} after {wait} s", grouped(*count))).collect();
            writeln!(out, "  {} to {} opened: {}", row.function, row.destination, waits.join(", "))?;
        }
        self.left_out(out, connects.len())
    }

    fn caches(&self, out: &mut String) -> fmt::Result {
        if self.report.caches.is_empty() {
            return Ok(());
        }
        self.heading(out, "Caches")?;
        let mut table = Table::new(&rows::CACHES);
        self.report.caches.iter().for_each(|row| table.row(row.cells()));
        table.write(out, self.width)
    }

    fn authorizers(&self, out: &mut String) -> fmt::Result {
        if self.report.authorizers.is_empty() {
            return Ok(());
        }
        self.heading(out, "Authorizers")?;
        let mut table = Table::new(&rows::AUTHORIZERS);
        self.report.authorizers.iter().take(ROWS_SHOWN).for_each(|row| table.row(row.cells()));
        table.write(out, self.width)?;
        self.left_out(out, self.report.authorizers.len())
    }

    fn limits(&self, out: &mut String) -> fmt::Result {
        let limits = &self.report.limits;
        self.heading(out, "Limits")?;
        let mut table = Table::new(&["limit", "of", "max", "peak", "refused", "first at s", "unit"]);
        for row in by_head_room(limits).into_iter().take(ROWS_SHOWN) {
            table.row([
                row.id.to_string(),
                row.resource.to_string(),
                grouped(row.max),
                grouped(row.peak),
                grouped(row.refused),
                row.first_refused_at.map_or_else(String::new, |at| seconds(Seconds::from(at))),
                row.id.unit().to_owned(),
            ]);
        }
        table.write(out, self.width)?;
        self.left_out(out, limits.len())
    }

    fn assumptions(&self, out: &mut String) -> fmt::Result {
        self.heading(out, "Assumed")?;
        for row in &self.report.assumptions {
            writeln!(out, "  {}: {} ({})", row.what, row.value, row.why)?;
        }
        Ok(())
    }

    fn heading(&self, out: &mut String, title: &str) -> fmt::Result {
        out.push('\n');
        self.painted(out, "1", title)
    }

    fn painted(&self, out: &mut String, code: &str, line: &str) -> fmt::Result {
        if self.colour { writeln!(out, "\x1b[{code}m{line}\x1b[0m") } else { writeln!(out, "{line}") }
    }

    fn left_out(&self, out: &mut String, rows: usize) -> fmt::Result {
        match rows.checked_sub(ROWS_SHOWN) {
            Some(more @ 1..) => writeln!(out, "  … and {more} more rows: see --json"),
            _ => Ok(()),
        }
    }
}

/// Limits that refused in the order in which they broke, at one moment causes before the time-outs that they led to; then
/// the others by head-room, the tightest first.
pub(super) fn by_head_room(limits: &[LimitRow]) -> Vec<&LimitRow> {
    let mut rows: Vec<&LimitRow> = limits.iter().collect();
    // In millionths; a limit of zero is used up.
    let used = |row: &LimitRow| match row.max {
        0 => 1_000_000,
        max => u128::from(row.peak) * 1_000_000 / u128::from(max),
    };
    rows.sort_by_key(|row| {
        let broke = row.refused > 0;
        (!broke, row.first_refused_at, broke && is_symptom(row.id), Reverse(used(row)))
    });
    rows
}

/// How near a limit came, and how many percent of it were never used, rounded down.
pub(super) fn head_room(row: &HeadRoom) -> String {
    let left = u128::from(row.max.saturating_sub(row.peak)) * 100 / u128::from(row.max.max(1));
    let figure = |value| match row.id {
        LimitId::FunctionTimeout => seconds(Seconds(value)),
        _ => grouped(value),
    };
    let (peak, max) = (figure(row.peak), figure(row.max));
    format!("{} of {}: peak {peak} of {max} {}, {left} % left", row.id, row.resource, row.id.unit())
}

/// Seconds to the millisecond, without zeros at the end.
pub(crate) fn seconds(value: Seconds) -> String {
    let text = format!("{:.3}", value.as_f64());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Columns as wide as their widest cell; figures stand right, words left.
/// Spaces before each column.
const GAP: usize = 2;

struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    fn new(titles: &[&str; COLUMNS]) -> Self {
        Self { rows: vec![titles.map(str::to_owned)] }
    }

    fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    fn widths(&self) -> [usize; COLUMNS] {
        std::array::from_fn(|column| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        })
    }

    fn write(&self, out: &mut String, width: usize) -> fmt::Result {
        let widths = self.widths();
        let figures: [bool; COLUMNS] = std::array::from_fn(|column| {
            self.rows
                .iter()
                .skip(1)
                .all(|row| row[column].chars().all(|c| c.is_ascii_digit() || ",.".contains(c)))
        });
        for row in &self.rows {
            let mut line = String::from(" ");
            for (column, cell) in row.iter().enumerate() {
                let wide = widths[column];
                let cell =
                    if figures[column] { format!(" {cell:>wide$}") } else { format!(" {cell:<wide$}") };
                // A cell that does not fit is left out rather than wrapped.
                if line.chars().count() + cell.trim_end().chars().count() > width {
                    break;
                }
                line += &cell;
                line.push(' ');
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_seconds_are_short() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(grouped));
        assert_eq!(
            ["0", "0.001", "60", "1.5"],
            [0, 1_000_000, MINUTE_NANOS, 1_500_000_000].map(|n| seconds(Seconds(n)))
        );
    }

    #[test]
    fn a_table_sets_figures_right_and_leaves_out_what_does_not_fit() {
        let mut table = Table::new(&["name", "count"]);
        table.row(["cart".into(), "1,000".into()]);
        table.row(["a".into(), "5".into()]);
        let mut text = String::new();
        table.write(&mut text, 80).unwrap();
        assert_eq!(text, "  name  count\n  cart  1,000\n  a         5\n");
        text.clear();
        table.write(&mut text, 8).unwrap();
        assert_eq!(text, "  name\n  cart\n  a\n");
    }
}
