//! The timeline as sparklines: one line for each thing that grows, as wide as the page allows.

use super::{Page, grouped, seconds};
use crate::report::{Seconds, TimelineRow};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::sync::Arc;

/// From nothing to the line's own peak.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const COLUMNS_MAX: usize = 60;
const COLUMNS_MIN: usize = 10;
/// Resources whose connections are shown, those with the highest peaks.
const RESOURCES_MAX: usize = 6;
/// Fewer rows than this show nothing that the summary does not.
const ROWS_MIN: usize = 3;

/// One line: its name, a value for each row of the timeline, and whether rows that share a column add up.
struct Line {
    name: String,
    values: Vec<u64>,
    adds: bool,
}

impl Page<'_> {
    /// When what grew.
    pub(super) fn timeline(&self, out: &mut String) -> fmt::Result {
        let rows = &self.report.timeline;
        if rows.len() < ROWS_MIN {
            return Ok(());
        }
        let lines = lines(rows);
        let names = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        // A name, two blanks on each side, and `peak 1,000,000`.
        let room = self.width.saturating_sub(names + 20).clamp(COLUMNS_MIN, COLUMNS_MAX);
        let per_column = rows.len().div_ceil(room);
        let last = rows.last().map_or(Seconds(0), |row| row.t_s);
        self.heading(out, "Timeline")?;
        for line in lines {
            let columns: Vec<u64> =
                line.values
                    .chunks(per_column)
                    .map(|chunk| {
                        if line.adds { chunk.iter().sum() } else { chunk.iter().copied().max().unwrap_or(0) }
                    })
                    .collect();
            let peak = columns.iter().copied().max().unwrap_or(0);
            let drawn: String = columns.iter().map(|value| level(*value, peak)).collect();
            let what = if line.adds { "at most" } else { "peak" };
            writeln!(out, "  {:<names$}  {drawn}  {what} {}", line.name, grouped(peak))?;
        }
        let width = rows.len().div_ceil(per_column);
        let until = format!("{} s", seconds(last));
        let blank = width.saturating_sub(1 + until.chars().count());
        writeln!(out, "  {:<names$}  0{:blank$}{until}", "", "")
    }
}

/// What there is to show: nothing that stays at zero.
fn lines(rows: &[TimelineRow]) -> Vec<Line> {
    let line = |name: &str, adds, value: &dyn Fn(&TimelineRow) -> u64| {
        let values: Vec<u64> = rows.iter().map(value).collect();
        Line { name: name.to_owned(), values, adds }
    };
    let mut lines = vec![
        line("in flight", false, &|row| u64::from(row.concurrency)),
        line("environments", false, &|row| u64::from(row.environments)),
        line("cold starts", true, &|row| row.cold_starts),
        line("throttled", true, &|row| row.throttled),
    ];
    let mut peaks: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
    for (name, count) in rows.iter().flat_map(|row| &row.connections) {
        let peak = peaks.entry(name).or_default();
        *peak = (*peak).max(*count);
    }
    let mut busiest: Vec<(&Arc<str>, u64)> = peaks.into_iter().collect();
    busiest.sort_by_key(|(_, peak)| std::cmp::Reverse(*peak));
    for (name, _) in busiest.into_iter().take(RESOURCES_MAX) {
        lines.push(line(&format!("connections of {name}"), false, &|row| {
            row.connections.get(name).copied().unwrap_or(0)
        }));
    }
    let pools: BTreeSet<&Arc<str>> = rows.iter().flat_map(|row| row.pools.keys()).collect();
    for name in pools.into_iter().take(RESOURCES_MAX) {
        let pool = |row: &TimelineRow| row.pools.get(name).copied().unwrap_or_default();
        lines.push(line(&format!("lent by {name}"), false, &|row| u64::from(pool(row).in_use)));
        lines.push(line(&format!("waiting for {name}"), false, &|row| u64::from(pool(row).waiting)));
    }
    lines.retain(|line| line.values.iter().any(|value| *value > 0));
    lines
}

/// Nothing is blank, and everything else shows.
fn level(value: u64, peak: u64) -> char {
    let highest = LEVELS.len() as u128 - 1;
    let level = (u128::from(value) * highest).div_ceil(u128::from(peak.max(1))).min(highest);
    LEVELS[level as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_shows_and_nothing_is_blank() {
        let drawn: String = [0, 1, 50, 99, 100].iter().map(|value| level(*value, 100)).collect();
        assert_eq!(drawn, " ▁▄██");
        assert_eq!((level(0, 0), level(u64::MAX, u64::MAX)), (' ', '█'));
    }
}
