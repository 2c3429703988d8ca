//! What was promised, what it costs, and what would have to change.

use super::chart::{Chart, Series};
use super::{Page, ROWS_MAX, escaped, put, share, time};
use crate::report::grouped;
use crate::report::text::signed;
use crate::sweep::SweepRow;

/// Changes that are shown with their diffs; `--json` has all.
const CHANGES_MAX: usize = 8;

impl Page<'_> {
    pub(super) fn promises(&self, out: &mut String) {
        if self.report.promises.is_empty() {
            return;
        }
        out.push_str("<h2>Promises</h2>\n<div class=\"scroll\"><table><tbody>\n");
        for row in &self.report.promises {
            let (class, word) = if row.kept { ("good-text", "kept") } else { ("bad-text", "broken") };
            let value = row.value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3} {}", row.unit));
            let text = escaped(&row.text);
            put(out, format_args!("<tr><td><code>{text}</code></td><td class=\"figure\">{value}</td>"));
            put(out, format_args!("<td class=\"{class}\">{word}</td></tr>\n"));
        }
        out.push_str("</tbody></table></div>\n");
    }

    pub(super) fn fixes(&self, out: &mut String) {
        let Some(searched) = self.report.searched.filter(|searched| searched.runs > 0) else { return };
        let cut = searched.cut.map_or_else(String::new, |why| format!("; cut short, as {why}"));
        let runs = grouped(u64::from(searched.runs));
        put(
            out,
            format_args!(
                "<h2>Changes that survive <small>the cheapest first; {runs} plans were made{}</small></h2>\n",
                escaped(&cut)
            ),
        );
        if self.report.fixes.is_empty() {
            out.push_str("<p>None was found.</p>\n");
        }
        if let Some(passed_over) = searched.passed_over() {
            put(out, format_args!("<p class=\"share\">{passed_over}</p>\n"));
        }
        for fix in self.report.fixes.iter().take(CHANGES_MAX) {
            let (verified, cost) = (&fix.verified, signed(fix.usd_per_month));
            put(out, format_args!("<div class=\"fix\"><p><strong>{}</strong></p>", escaped(&fix.change)));
            let ok = share(verified.ok, verified.requests);
            let slow = verified.percentiles_s.get("99").map_or_else(|| "–".to_owned(), |value| time(*value));
            put(out, format_args!("<p>{cost} USD a month; {ok} answered well, p99 {slow}</p>"));
            let lines = if fix.size == 1 { "1 line".to_owned() } else { format!("{} lines", fix.size) };
            put(out, format_args!("<details><summary>The change, {lines}</summary><pre>"));
            for line in fix.diff.lines() {
                let text = escaped(line);
                match line.as_bytes().first() {
                    Some(b'+') => put(out, format_args!("<span class=\"add\">{text}</span>\n")),
                    Some(b'-') => put(out, format_args!("<span class=\"del\">{text}</span>\n")),
                    _ => put(out, format_args!("{text}\n")),
                }
            }
            out.push_str("</pre></details></div>\n");
        }
    }

    pub(super) fn sweep(&self, out: &mut String) {
        let rows = &self.report.sweep;
        if rows.is_empty() {
            return;
        }
        let what = escaped(self.report.swept.as_deref().unwrap_or_default());
        put(out, format_args!("<h2>Sweep <small>{what}</small></h2>\n"));
        self.curves(out);
        out.push_str("<div class=\"scroll\"><table><thead><tr>");
        for title in ["at", "answers per s", "answered well per s", "answered well", "throttled", "p99"] {
            put(out, format_args!("<th class=\"figure\">{title}</th>"));
        }
        out.push_str("<th></th><th>breaks first</th></tr></thead><tbody>\n");
        for row in rows {
            let summary = &row.summary;
            let slow = summary.percentiles_s.get("99").map_or_else(String::new, |value| time(*value));
            let knee = if row.knee { " <strong>knee</strong>" } else { "" };
            put(out, format_args!("<tr><td class=\"figure\">{}{knee}</td>", grouped(row.x)));
            for cell in [
                format!("{:.1}", summary.requests_per_s),
                format!("{:.1}", summary.ok_per_s()),
                share(summary.ok, summary.requests),
                grouped(summary.throttled),
                slow,
            ] {
                put(out, format_args!("<td class=\"figure\">{cell}</td>"));
            }
            let percent = super::percent(summary.ok, summary.requests);
            let class = if row.survives { "" } else { " full" };
            put(
                out,
                format_args!("<td><div class=\"bar{class}\"><i style=\"width:{percent}%\"></i></div></td>"),
            );
            let first = row.first_limit.as_ref().map(|first| format!("{} of {}", first.id, first.resource));
            put(out, format_args!("<td>{}</td></tr>\n", escaped(&first.unwrap_or_default())));
        }
        out.push_str("</tbody></table></div>\n");
    }

    /// Throughput and the slowest answers over what is swept.
    fn curves(&self, out: &mut String) {
        let rows = &self.report.sweep;
        if rows.len() < 2 {
            return;
        }
        let places: Vec<f64> = rows.iter().map(|row| row.x as f64).collect();
        let mark = rows.iter().find(|row| row.knee).map(|row| (row.x as f64, "knee at"));
        let of = |name: &str, value: &dyn Fn(&SweepRow) -> f64| Series {
            name: name.to_owned(),
            values: rows.iter().map(value).collect(),
        };
        let well = of("answered well", &|row| row.summary.ok_per_s());
        let badly =
            of("refused or failed", &|row| (row.summary.requests_per_s - row.summary.ok_per_s()).max(0.0));
        let slow =
            of("p99", &|row| row.summary.percentiles_s.get("99").map_or(0.0, |value| value.as_f64() * 1e3));
        out.push_str("<div class=\"charts\">\n");
        for (title, series) in
            [("Answers per second", vec![well, badly]), ("Slowest answers, ms", vec![slow])]
        {
            let title = title.to_owned();
            let chart = Chart {
                title,
                moments: &places,
                is_over_figures: true,
                series,
                limit: None,
                mark,
                bars: false,
            };
            chart.write(out);
        }
        out.push_str("</div>\n");
    }

    pub(super) fn cost(&self, out: &mut String) {
        let Some(bill) = &self.report.cost else { return };
        let (region, date) = (escaped(&bill.region), escaped(&bill.price_date));
        let times =
            if bill.repeat == 1 { "once".to_owned() } else { format!("{} times", grouped(bill.repeat)) };
        let small = format!("<small>this load {times}; {region}, prices of {date}</small>");
        put(out, format_args!("<h2>Cost of a month {small}</h2>\n<div class=\"scroll\"><table><thead><tr>"));
        out.push_str(
            "<th>for</th><th>of</th><th class=\"figure wide\">quantity</th><th class=\"figure\">USD</th>",
        );
        out.push_str("</tr></thead><tbody>\n");
        for line in bill.fixed.iter().chain(&bill.usage).take(ROWS_MAX) {
            let (item, of) = (escaped(&line.item), escaped(&line.resource));
            put(out, format_args!("<tr><td><code>{item}</code></td><td>{of}</td>"));
            let (quantity, unit) = (line.quantity.as_f64(), line.unit);
            put(out, format_args!("<td class=\"figure wide\">{quantity:.3} {unit}</td>"));
            put(out, format_args!("<td class=\"figure\">{}</td></tr>\n", line.usd.rounded(2)));
        }
        out.push_str("</tbody><tfoot>");
        for (what, amount) in [("what stands there", bill.fixed_usd), ("what is used", bill.usage_usd)] {
            put(out, format_args!("<tr><td>{what}</td><td></td><td class=\"wide\"></td>"));
            put(out, format_args!("<td class=\"figure\">{}</td></tr>", amount.rounded(2)));
        }
        put(out, format_args!("<tr><td>a month</td><td></td><td class=\"wide\"></td>"));
        put(
            out,
            format_args!(
                "<td class=\"figure\">{}</td></tr></tfoot></table></div>\n",
                bill.monthly_usd.rounded(2)
            ),
        );
    }
}
