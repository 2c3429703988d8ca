//! Promises, the changes that survive, and a sweep.

use super::{GAP, Page, ROWS_SHOWN, Table, head_room};
use crate::report::{grouped, seconds};
use model::price::Usd;
use std::fmt::{self, Write};

/// So many changes are shown with their diff; `--json` has all.
const DIFFS_SHOWN: usize = 3;
/// So many are shown at all.
const CHANGES_SHOWN: usize = 12;
const BAR: usize = 30;
const KNEE: &str = " <- knee";

impl Page<'_> {
    pub(super) fn promises(&self, out: &mut String) -> fmt::Result {
        let promises = &self.report.promises;
        if promises.is_empty() {
            return Ok(());
        }
        self.heading(out, "Promises")?;
        for row in promises {
            let value = row.value.map_or_else(
                || "nothing to measure".to_owned(),
                |value| format!("{} {}", significant(value), row.unit),
            );
            let (word, colour) = if row.kept { ("kept  ", "32") } else { ("BROKEN", "1;31") };
            self.painted(out, colour, &format!("  {word}  {}: {value}", row.text))?;
        }
        Ok(())
    }

    pub(super) fn fixes(&self, out: &mut String) -> fmt::Result {
        let Some(searched) = self.report.searched else { return Ok(()) };
        let broken = self.report.first_limit.is_some() || self.report.promises.iter().any(|row| !row.kept);
        if !broken {
            self.heading(out, "Nothing needs to change")?;
            return match &self.report.nearest {
                Some(row) => writeln!(out, "  The nearest limit is {}.", head_room(row)),
                None => Ok(()),
            };
        }
        let plans = grouped(u64::from(searched.runs));
        let cut = searched.cut.map_or_else(String::new, |why| format!("; cut short, as {why}"));
        self.heading(out, &format!("Changes that survive, the cheapest first ({plans} plans made{cut})"))?;
        if self.report.fixes.is_empty() {
            writeln!(out, "  None was found.")?;
        }
        if let Some(passed_over) = searched.passed_over() {
            writeln!(out, "  {passed_over}")?;
        }
        for (index, fix) in self.report.fixes.iter().enumerate().take(CHANGES_SHOWN) {
            let verified = &fix.verified;
            writeln!(out, "  {}. {}", index + 1, fix.change)?;
            writeln!(
                out,
                "     {} USD a month ({} of it stands there); {} of {} requests ok, p99 {} s",
                signed(fix.usd_per_month),
                signed(fix.fixed_usd_per_month),
                grouped(verified.ok),
                grouped(verified.requests),
                verified.percentiles_s.get("99").map_or_else(String::new, |value| seconds(*value))
            )?;
            if index < DIFFS_SHOWN {
                for line in fix.diff.lines() {
                    let colour = match line.as_bytes().first() {
                        Some(b'+') => "32",
                        Some(b'-') => "31",
                        _ => "2",
                    };
                    self.painted(out, colour, &format!("       {line}"))?;
                }
            }
        }
        match self.report.fixes.len().checked_sub(CHANGES_SHOWN) {
            Some(more @ 1..) => writeln!(out, "  … and {more} more: see --json"),
            _ => Ok(()),
        }
    }

    pub(super) fn sweep(&self, out: &mut String) -> fmt::Result {
        let (rows, Some(title)) = (&self.report.sweep, &self.report.swept) else { return Ok(()) };
        self.heading(out, &format!("Sweep: {title}"))?;
        let most = rows.iter().map(|row| row.summary.ok_per_s()).fold(0.0_f64, f64::max);
        let titles = ["x", "answers/s", "ok/s", "ok %", "throttled", "p99 s", "first limit", ""];
        let mut table = Table::new(&titles);
        for row in rows.iter().take(ROWS_SHOWN) {
            let summary = &row.summary;
            let share =
                if summary.requests == 0 { 0.0 } else { summary.ok as f64 * 100.0 / summary.requests as f64 };
            let ok = summary.ok_per_s();
            let fate = match &row.first_limit {
                Some(first) => first.id.to_string(),
                None if row.survives => "-".to_owned(),
                None => "a promise".to_owned(),
            };
            table.row([
                grouped(row.x),
                format!("{:.1}", summary.requests_per_s),
                format!("{ok:.1}"),
                format!("{share:.2}"),
                grouped(summary.throttled),
                summary.percentiles_s.get("99").map_or_else(String::new, |value| seconds(*value)),
                fate,
                String::new(),
            ]);
        }
        let used: usize = table.widths().iter().map(|wide| wide + GAP).sum();
        let bar = self.width.saturating_sub(used + KNEE.chars().count()).min(BAR);
        for (cells, row) in table.rows.iter_mut().skip(1).zip(rows) {
            let share = if most > 0.0 { row.summary.ok_per_s() / most } else { 0.0 };
            let knee = if row.knee { KNEE } else { "" };
            cells[titles.len() - 1] = format!("{}{knee}", "■".repeat((share * bar as f64) as usize));
        }
        table.write(out, self.width)
    }
}

/// Four figures that matter.
fn significant(value: f64) -> String {
    let text = if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.4}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Dollars to the cent, with a sign where they are more.
pub(in crate::report) fn signed(amount: Usd) -> String {
    let text = amount.rounded(2);
    if amount > Usd::ZERO { format!("+{text}") } else { text }
}
