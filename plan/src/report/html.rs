//! A report as one page to show around: it needs no network and no script, and reads on a phone, in the dark and on paper.

mod change;
mod chart;
mod tables;

use super::grouped;
use super::text::{by_head_room, head_room, seconds};
use super::{PoolRow, Report, Seconds};
use chart::{Chart, Series};
use model::limit::Raisable;
use model::{LimitId, LimitRow};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

const STYLE: &str = include_str!("html/style.css");
/// Resources whose connections are drawn, those with the highest peaks.
const RESOURCES_MAX: usize = 8;
/// Rows of a table; `--json` has all.
const ROWS_MAX: usize = 60;
/// From this part of a limit on, its bar warns.
const NEAR_PERCENT: u64 = 80;

/// The whole page. `title` says what was planned, for people: `template.yaml with incident.yaml`.
pub fn render_html(report: &Report, title: &str) -> String {
    let mut out = String::with_capacity(64 * 1024);
    out.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    out.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    // What stands in a template or a load is text here, whatever it says.
    out.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n");
    put(
        &mut out,
        format_args!("<title>{}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n", escaped(title)),
    );
    let page = Page { report };
    page.header(&mut out, title);
    page.tiles(&mut out);
    page.promises(&mut out);
    page.timeline(&mut out);
    page.causes(&mut out);
    page.fixes(&mut out);
    page.limits(&mut out);
    page.latencies(&mut out);
    page.functions(&mut out);
    page.sweep(&mut out);
    page.cost(&mut out);
    page.assumptions(&mut out);
    let engine = &report.engine;
    put(
        &mut out,
        format_args!(
            "<footer>onrush {} · era {} · Region {} · seed {} · decisions {}</footer>\n</main></body></html>\n",
            engine.version,
            escaped(&engine.era),
            escaped(&engine.region),
            engine.seed,
            engine.decisions_hash
        ),
    );
    out
}

struct Page<'report> {
    report: &'report Report,
}

impl Page<'_> {
    fn header(&self, out: &mut String, title: &str) {
        put(out, format_args!("<header><p>onrush plan</p><h1>{}</h1></header>\n", escaped(title)));
        match &self.report.first_limit {
            Some(first) => {
                let to = first.destination.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
                let resource = escaped(&first.resource);
                put(
                    out,
                    format_args!(
                        "<div class=\"verdict bad\"><strong>{} of {resource}{} breaks first, at {} s</strong>",
                        first.id,
                        escaped(&to),
                        seconds(first.at_s)
                    ),
                );
                put(
                    out,
                    format_args!(
                        "<p>{}{} environments. It hits {}.</p></div>\n",
                        first.in_use().map_or_else(String::new, |figures| format!("{figures} in use, with ")),
                        grouped(u64::from(first.environments)),
                        escaped(&first.victims.join(", "))
                    ),
                );
            }
            None if self.report.summary.requests == 0 => {
                out.push_str("<div class=\"verdict\"><strong>Nothing was sent.</strong>");
                out.push_str(
                    "<p>The load has no request, so this plan says nothing of what would break.</p></div>\n",
                );
            }
            None => {
                out.push_str("<div class=\"verdict good\"><strong>Nothing breaks.</strong>");
                if let Some(nearest) = &self.report.nearest {
                    put(out, format_args!("<p>The nearest limit is {}.</p>", escaped(&head_room(nearest))));
                }
                out.push_str("</div>\n");
            }
        }
    }

    fn tiles(&self, out: &mut String) {
        let summary = &self.report.summary;
        let percentile =
            |name| summary.percentiles_s.get(name).map_or_else(|| "–".to_owned(), |value| time(*value));
        let bad = summary.requests.saturating_sub(summary.ok).saturating_sub(self.report.unanswered);
        out.push_str("<div class=\"tiles\">");
        let mut tile = |value: &str, what: &str, class: &str| {
            put(
                out,
                format_args!(
                    "<div class=\"tile\"><b class=\"{class}\">{}</b><span>{what}</span></div>",
                    escaped(value)
                ),
            );
        };
        tile(&grouped(summary.requests), "requests", "");
        tile(&share(summary.ok, summary.requests), "answered well", if bad == 0 { "good-text" } else { "" });
        tile(&grouped(bad), "failed or refused", if bad == 0 { "good-text" } else { "bad-text" });
        tile(&percentile("50"), "p50", "");
        tile(&percentile("99"), "p99", "");
        tile(&grouped(summary.cold_starts), "cold starts", "");
        if let Some(bill) = &self.report.cost {
            tile(&bill.monthly_usd.rounded(0), "USD a month", "");
        }
        out.push_str("</div>\n");
    }

    fn timeline(&self, out: &mut String) {
        let rows = &self.report.timeline;
        if rows.len() < 2 {
            return;
        }
        let moments: Vec<f64> = rows.iter().map(|row| row.t_s.as_f64()).collect();
        let mark = self.report.first_limit.as_ref().map(|first| (first.at_s.as_f64(), "breaks at"));
        out.push_str("<h2>What happens when</h2>\n<div class=\"charts\">\n");
        let series = |name: &str, values: Vec<f64>| Series { name: name.to_owned(), values };
        let chart = |title: &str, series, limit, bars| Chart {
            title: title.to_owned(),
            moments: &moments,
            is_over_figures: false,
            series,
            limit,
            mark,
            bars,
        };
        let account = self.row(LimitId::AccountConcurrency).map(|row| row.max as f64);
        let concurrency = rows.iter().map(|row| f64::from(row.concurrency)).collect();
        let environments = rows.iter().map(|row| f64::from(row.environments)).collect();
        let both = vec![series("in flight", concurrency), series("environments", environments)];
        chart("Concurrency", both, account, false).write(out);
        let started = rows.iter().map(|row| row.cold_starts as f64).collect();
        let throttled = rows.iter().map(|row| row.throttled as f64).collect();
        let both = vec![series("cold starts", started), series("throttled", throttled)];
        let step = moments.get(1).copied().unwrap_or(0.0);
        let title =
            if step > 0.0 { format!("Cold starts and throttles, each {step:.3} s") } else { String::new() };
        chart(&title.replace(".000 s", " s"), both, None, true).write(out);
        for resource in self.resources() {
            let values =
                rows.iter().map(|row| row.connections.get(&resource).copied().unwrap_or(0) as f64).collect();
            let limit =
                self.report.limits.iter().find(|row| row.resource == resource && is_of_connections(row.id));
            let limit = limit.map(|row| row.max as f64);
            chart(&format!("Connections of {resource}"), vec![series("connections", values)], limit, false)
                .write(out);
        }
        let pools: BTreeSet<&Arc<str>> = rows.iter().flat_map(|row| row.pools.keys()).collect();
        for name in pools.into_iter().take(RESOURCES_MAX) {
            let of = |pick: fn(PoolRow) -> u32| -> Vec<f64> {
                rows.iter()
                    .map(|row| row.pools.get(name).map_or(0.0, |pool| f64::from(pick(*pool))))
                    .collect()
            };
            let lent = series("lent", of(|pool| pool.in_use));
            let waiting = series("waiting", of(|pool| pool.waiting));
            let clients = series("clients", of(|pool| pool.clients));
            chart(&format!("Pool of {name}"), vec![lent, waiting, clients], None, false).write(out);
        }
        out.push_str("</div>\n");
    }

    /// What carries connections, the busiest first.
    fn resources(&self) -> Vec<Arc<str>> {
        let rows = &self.report.timeline;
        let names: BTreeSet<&Arc<str>> = rows.iter().flat_map(|row| row.connections.keys()).collect();
        let peak = |name: &Arc<str>| rows.iter().filter_map(|row| row.connections.get(name)).max().copied();
        let mut busiest: Vec<(Arc<str>, u64)> =
            names.into_iter().map(|name| (Arc::clone(name), peak(name).unwrap_or(0))).collect();
        busiest.sort_by_key(|(_, peak)| Reverse(*peak));
        busiest.into_iter().filter(|(_, peak)| *peak > 0).take(RESOURCES_MAX).map(|(name, _)| name).collect()
    }

    fn row(&self, id: LimitId) -> Option<&LimitRow> {
        self.report.limits.iter().find(|row| row.id == id)
    }

    fn causes(&self, out: &mut String) {
        let causes = &self.report.summary.errors_by_cause;
        if causes.is_empty() {
            return;
        }
        out.push_str("<h2>Why requests fail</h2>\n");
        for cause in causes.iter().take(ROWS_MAX) {
            put(out, format_args!("<ul class=\"cause\"><li><b>{}</b> × ", grouped(cause.count)));
            for (depth, link) in cause.chain.iter().enumerate() {
                put(out, format_args!("{}{}", if depth > 0 { "</li><li>" } else { "" }, escaped(link)));
            }
            out.push_str("</li></ul>\n");
        }
    }

    fn limits(&self, out: &mut String) {
        out.push_str("<h2>Limits <small>what broke first, then the tightest</small></h2>\n<div class=\"scroll\"><table>");
        out.push_str("<thead><tr><th>limit</th><th>peak</th><th class=\"figure\">of at most</th>");
        out.push_str("<th class=\"figure\">refused</th><th class=\"figure wide\">first at</th>");
        out.push_str("<th class=\"wide\">raised by</th></tr></thead><tbody>\n");
        for row in by_head_room(&self.report.limits).into_iter().take(ROWS_MAX) {
            let used = percent(row.peak, row.max);
            let class = match used {
                _ if row.refused > 0 => " full",
                NEAR_PERCENT.. => " near",
                _ => "",
            };
            let (id, resource, bar) = (row.id, escaped(&row.resource), used.min(100));
            put(
                out,
                format_args!("<tr><td><code>{id}</code><br><span class=\"share\">{resource}</span></td>"),
            );
            put(out, format_args!("<td><div class=\"bar{class}\"><i style=\"width:{bar}%\"></i></div>"));
            let (peak, max, unit) = (grouped(row.peak), grouped(row.max), row.id.unit());
            put(
                out,
                format_args!("<span class=\"share\">{used} %</span></td><td class=\"figure\">{peak} / {max}"),
            );
            put(out, format_args!("<br><span class=\"share\">{unit}</span></td>"));
            let class = if row.refused > 0 { " bad-text" } else { "" };
            put(out, format_args!("<td class=\"figure{class}\">{}</td>", grouped(row.refused)));
            let first = row.first_refused_at.map(|at| format!("{} s", seconds(Seconds::from(at))));
            put(out, format_args!("<td class=\"figure wide\">{}</td>", first.unwrap_or_default()));
            put(out, format_args!("<td class=\"wide\">{}</td></tr>\n", raisable(row.raisable)));
        }
        out.push_str("</tbody></table></div>\n");
    }

    fn latencies(&self, out: &mut String) {
        let summary = &self.report.summary;
        if summary.histogram.is_empty() {
            return;
        }
        out.push_str("<h2>How long answers take</h2>\n<div class=\"charts\">\n<figure><figcaption>Answers by time</figcaption><table>");
        let most = summary.histogram.iter().map(|row| row.count).max().unwrap_or(0);
        for row in &summary.histogram {
            let width = percent(row.count, most).max(u64::from(row.count > 0));
            put(
                out,
                format_args!(
                    "<tr><td class=\"figure\">≤ {}</td><td style=\"width:60%\"><div class=\"bar\"><i style=\"width:{width}%\"></i></div></td><td class=\"figure\">{}</td></tr>\n",
                    time(row.up_to_s),
                    grouped(row.count)
                ),
            );
        }
        out.push_str("</table></figure>\n<figure><figcaption>Percentiles</figcaption><table>");
        for (name, value) in &summary.percentiles_s {
            put(out, format_args!("<tr><td>{name} %</td><td class=\"figure\">{}</td></tr>\n", time(*value)));
        }
        put(
            out,
            format_args!("<tr><td>average</td><td class=\"figure\">{}</td></tr>", time(summary.average_s)),
        );
        put(
            out,
            format_args!("<tr><td>slowest</td><td class=\"figure\">{}</td></tr>", time(summary.slowest_s)),
        );
        put(
            out,
            format_args!(
                "<tr><td>answers per second</td><td class=\"figure\">{:.1}</td></tr>",
                summary.requests_per_s
            ),
        );
        for (status, count) in &summary.statuses {
            put(
                out,
                format_args!(
                    "<tr><td>status {status}</td><td class=\"figure\">{}</td></tr>",
                    grouped(*count)
                ),
            );
        }
        out.push_str("</table></figure>\n</div>\n");
    }

    fn assumptions(&self, out: &mut String) {
        let rows = &self.report.assumptions;
        let sources: BTreeMap<LimitId, &str> =
            self.report.limits.iter().map(|row| (row.id, &*row.source)).collect();
        out.push_str("<details><summary>Where the figures of the limits come from</summary><dl>\n");
        for (id, source) in sources {
            put(out, format_args!("<dt><code>{id}</code></dt><dd>{}</dd>\n", escaped(source)));
        }
        out.push_str("</dl></details>\n");
        put(out, format_args!("<details><summary>What was assumed ({})</summary><dl>\n", rows.len()));
        for row in rows {
            put(
                out,
                format_args!(
                    "<dt>{}: {}</dt><dd>{}</dd>\n",
                    escaped(&row.what),
                    escaped(&row.value),
                    escaped(&row.why)
                ),
            );
        }
        out.push_str("</dl></details>\n");
    }
}

fn raisable(raisable: Raisable) -> &'static str {
    match raisable {
        Raisable::Setting => "you",
        Raisable::Request => "AWS, on request",
        Raisable::No => "nobody",
    }
}

fn is_of_connections(id: LimitId) -> bool {
    // A NAT gateway's ports are counted for each destination, so its sum has no limit.
    matches!(id, LimitId::EniConnections | LimitId::DbMaxConnections)
}

/// Rounded down; a limit of zero is used up.
fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        100
    } else {
        u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX)
    }
}

/// Of all, to a tenth of a percent, and never rounded up to all.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 || part == whole {
        return "100 %".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// `850 us`, `12.5 ms`, `1.25 s`.
fn time(value: Seconds) -> String {
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value.0 {
        nanos if nanos < 1_000_000 => trimmed(nanos as f64 / 1e3, "µs"),
        nanos if nanos < 1_000_000_000 => trimmed(nanos as f64 / 1e6, "ms"),
        nanos => trimmed(nanos as f64 / 1e9, "s"),
    }
}

/// Text that stays text in HTML, in an attribute too.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    Cow::Owned(safe)
}

/// Writing into a string does not fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scenario;

    #[test]
    fn every_scenario_makes_a_page_without_anything_from_outside() {
        for name in ["connections-one-address", "burst-2022", "database-proxy-full"] {
            let report = Scenario::named(name).unwrap().run().unwrap();
            let page = render_html(&report, "a <script> & b");
            assert!(page.contains("<h1>a &lt;script&gt; &amp; b</h1>"));
            for outside in ["<script", "src=", "href=", "url(", "@import", "http:", "https:"] {
                assert!(!page.contains(outside), "{name}: {outside}");
            }
            let first = report.first_limit.unwrap();
            assert!(page.contains(&format!("{} of", first.id)) && page.contains("breaks at"), "{name}");
            for tag in ["table", "svg", "figure", "div", "ul", "details", "tr", "main"] {
                let (opened, closed) =
                    (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
                assert_eq!(opened, closed, "{name}: {tag}");
            }
        }
    }

    #[test]
    fn whatever_took_part_has_a_table() {
        let tables = [
            ("new-callers", "Authorizers", "no answer"),
            ("cache-of-a-stage", "Caches", "pushed out"),
            ("connections-one-address", "Connects", "longest wait"),
            ("database-proxy-full", "Queries", "in vain"),
            ("database-proxy-full", "Pools of database proxies", "most waiting"),
            ("provisioned-5000", "Provisioned concurrency", "spilled over"),
        ];
        for (name, heading, title) in tables {
            let report = Scenario::named(name).unwrap().run().unwrap();
            let page = render_html(&report, name);
            let section = page.split(&format!("<h2>{heading}</h2>")).nth(1).unwrap_or_default();
            let table = section.split("</table>").next().unwrap_or_default();
            assert!(table.contains(title) && table.matches("<tr>").count() > 1, "{name}: {heading}");
        }
        let report = Scenario::named("burst-2022").unwrap().run().unwrap();
        let page = render_html(&report, "burst-2022");
        assert!(!page.contains("<h2>Authorizers") && page.contains("<h2>Functions"), "none without rows");
    }

    #[test]
    fn shares_are_never_rounded_up_to_all() {
        assert_eq!(
            [share(9999, 10_000), share(1, 3), share(5, 5), share(0, 0)],
            ["99.9 %", "33.3 %", "100 %", "100 %"]
        );
        assert_eq!(
            [time(Seconds(1500)), time(Seconds(12_500_000)), time(Seconds(30_000_000_000))],
            ["1.5 µs", "12.5 ms", "30 s"]
        );
    }
}
