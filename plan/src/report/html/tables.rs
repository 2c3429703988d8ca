//! How each thing of the stack fared: functions, events, connects, queries, pools, caches, authorizers.

use super::{Page, ROWS_MAX, escaped, put, time};
use crate::report::{Seconds, grouped, rows};
use std::collections::BTreeMap;

/// A table with a heading. Its first columns are words, the others figures.
struct Table<const COLUMNS: usize> {
    name: &'static str,
    titles: [&'static str; COLUMNS],
    /// Columns of words, on the left.
    words: usize,
    /// The columns that are left out where there is little room.
    wide: &'static [usize],
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// The table with `rows`; nothing at all where there are none.
    fn write(&self, out: &mut String, rows: impl ExactSizeIterator<Item = [String; COLUMNS]>) {
        let count = rows.len();
        if count == 0 {
            return;
        }
        put(out, format_args!("<h2>{}</h2>\n<div class=\"scroll\"><table><thead><tr>", self.name));
        for (column, title) in self.titles.iter().enumerate() {
            put(out, format_args!("<th{}>{title}</th>", self.class(column)));
        }
        out.push_str("</tr></thead><tbody>\n");
        for row in rows.take(ROWS_MAX) {
            out.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                put(out, format_args!("<td{}>{}</td>", self.class(column), escaped(cell)));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
        if let Some(more @ 1..) = count.checked_sub(ROWS_MAX) {
            put(
                out,
                format_args!("<p class=\"share\">… and {} more rows: see --json</p>\n", grouped(more as u64)),
            );
        }
    }

    fn class(&self, column: usize) -> &'static str {
        match (column < self.words, self.wide.contains(&column)) {
            (true, false) => "",
            (true, true) => " class=\"wide\"",
            (false, false) => " class=\"figure\"",
            (false, true) => " class=\"figure wide\"",
        }
    }
}

impl Page<'_> {
    pub(super) fn functions(&self, out: &mut String) {
        let titles =
            ["function", "invocations", "cold starts", "throttled", "timed out", "peak", "p50", "p99"];
        let table = Table { name: "Functions", titles, words: 1, wide: &[5, 6] };
        table.write(
            out,
            self.report.functions.iter().map(|row| {
                [
                    row.name.clone(),
                    grouped(row.invocations),
                    grouped(row.cold_starts),
                    grouped(row.throttled),
                    grouped(row.timed_out),
                    grouped(u64::from(row.peak_concurrency)),
                    percentile(&row.duration_s, "50"),
                    percentile(&row.duration_s, "99"),
                ]
            }),
        );
        self.events(out);
        self.provisioned(out);
        self.connects(out);
        self.queries(out);
        self.pools(out);
        self.caches(out);
        self.authorizers(out);
    }

    fn events(&self, out: &mut String) {
        let titles = [
            "function",
            "accepted",
            "delivered",
            "retried",
            "throttled",
            "dropped",
            "dead letters",
            "still waiting",
            "age p50",
            "age p99",
        ];
        let table = Table { name: "Asynchronous events", titles, words: 1, wide: &[6, 7, 8] };
        table.write(
            out,
            self.report.events.iter().map(|row| {
                [
                    row.function.to_string(),
                    grouped(row.accepted),
                    grouped(row.delivered),
                    grouped(row.retried),
                    grouped(row.throttled),
                    grouped(row.dropped),
                    grouped(row.dead_lettered),
                    grouped(row.pending),
                    percentile(&row.age_s, "50"),
                    percentile(&row.age_s, "99"),
                ]
            }),
        );
    }

    fn provisioned(&self, out: &mut String) {
        let table = Table { name: "Provisioned concurrency", titles: rows::PROVISIONED, words: 1, wide: &[] };
        table.write(out, self.report.provisioned.iter().map(|row| row.cells()));
    }

    fn connects(&self, out: &mut String) {
        let titles = ["function", "to", "opened", "reused", "refused", "failed", "resets", "longest wait"];
        let table = Table { name: "Connects", titles, words: 2, wide: &[3, 6] };
        table.write(
            out,
            self.report.connects.iter().map(|row| {
                [
                    row.function.clone(),
                    row.destination.to_string(),
                    grouped(row.opened),
                    grouped(row.reused),
                    grouped(row.dropped),
                    grouped(row.failed),
                    grouped(row.resets),
                    row.waits_s.keys().last().map_or_else(String::new, |wait| format!("{wait} s")),
                ]
            }),
        );
    }

    fn queries(&self, out: &mut String) {
        let titles = ["function", "on", "asked", "waited", "wait p50", "wait p99", "longest wait", "in vain"];
        let table = Table { name: "Queries", titles, words: 2, wide: &[4, 5] };
        table.write(
            out,
            self.report.queries.iter().map(|row| {
                [
                    row.function.clone(),
                    row.database.to_string(),
                    grouped(row.asked),
                    grouped(row.waited),
                    percentile(&row.waits_s, "50"),
                    percentile(&row.waits_s, "99"),
                    time(row.longest_s),
                    grouped(row.failed),
                ]
            }),
        );
    }

    fn pools(&self, out: &mut String) {
        let table = Table { name: "Pools of database proxies", titles: rows::POOLS, words: 1, wide: &[2, 3] };
        table.write(out, self.report.pools.iter().map(|row| row.cells()));
    }

    fn caches(&self, out: &mut String) {
        let table = Table { name: "Caches", titles: rows::CACHES, words: 1, wide: &[5] };
        table.write(out, self.report.caches.iter().map(|row| row.cells()));
    }

    fn authorizers(&self, out: &mut String) {
        let table = Table { name: "Authorizers", titles: rows::AUTHORIZERS, words: 2, wide: &[] };
        table.write(out, self.report.authorizers.iter().map(|row| row.cells()));
    }
}

fn percentile(values: &BTreeMap<&'static str, Seconds>, name: &str) -> String {
    values.get(name).map_or_else(String::new, |value| time(*value))
}
