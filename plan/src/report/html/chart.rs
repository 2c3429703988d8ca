//! Charts as SVG: lines over time with a limit and a breaking moment, and bars. No script, no font, no colour of its own:
//! the page's style gives them, so that one drawing serves light and dark.

use super::{escaped, put};
use crate::report::grouped;

/// Colours of the style, in the order of the series.
pub const COLOURS: [&str; 6] = ["--a", "--b", "--c", "--d", "--e", "--f"];

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 24.0;
/// More points than this are not drawn: of those that fall together the highest is.
const POINTS_MAX: usize = 240;
/// Places to point at, each with its figures.
const HOVERS_MAX: usize = 120;
const TICKS: f64 = 4.0;
/// Room that `limit 1,000,000` takes at the right.
const LIMIT_WORDS: f64 = 100.0;

/// One line, or one row of bars.
pub struct Series {
    pub name: String,
    /// As many as the chart has moments.
    pub values: Vec<f64>,
}

/// What is drawn over the same moments.
pub struct Chart<'a> {
    pub title: String,
    /// What it is drawn over, rising: seconds, or figures.
    pub moments: &'a [f64],
    /// They are figures.
    pub is_over_figures: bool,
    pub series: Vec<Series>,
    /// A figure that cannot be exceeded.
    pub limit: Option<f64>,
    /// A moment that stands out, and what it is called: `breaks at`.
    pub mark: Option<(f64, &'static str)>,
    pub bars: bool,
}

impl Chart<'_> {
    /// The figure element.
    pub fn write(&self, out: &mut String) {
        let end = self.moments.last().copied().unwrap_or(0.0).max(1e-9);
        let highest = self.series.iter().flat_map(|series| &series.values).copied().fold(0.0, f64::max);
        // A limit far above what is used would press the lines flat: then it is only said.
        let shown = self.limit.filter(|limit| *limit <= highest * 4.0);
        let top = nice(shown.map_or(highest, |limit| limit.max(highest)).max(1.0));
        let x = |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * (seconds / end);
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value / top);
        self.caption(out, shown.is_none());
        let alternative = format!("{}: at most {}", self.title, grouped(highest as u64));
        put(
            out,
            format_args!(
                "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
                escaped(&alternative)
            ),
        );
        for tick in 0..=TICKS as u32 {
            let value = top * f64::from(tick) / TICKS;
            let (y, label) = (y(value), short(value));
            put(
                out,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                    WIDTH - RIGHT
                ),
            );
            put(
                out,
                format_args!(
                    "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                    LEFT - 6.0,
                    y + 4.0
                ),
            );
        }
        for tick in 0..=TICKS as u32 {
            let seconds = end * f64::from(tick) / TICKS;
            let anchor = if tick == 0 {
                "start"
            } else if f64::from(tick) >= TICKS {
                "end"
            } else {
                "middle"
            };
            let label = self.label(seconds, end);
            put(
                out,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{label}</text>",
                    x(seconds),
                    HEIGHT - 6.0
                ),
            );
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            if self.bars {
                self.bars(out, series, colour, index, &x, &y);
            } else {
                let points: Vec<String> =
                    self.points(series).map(|(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
                put(
                    out,
                    format_args!(
                        "<polyline class=\"line\" style=\"stroke:var({colour})\" points=\"{}\"/>",
                        points.join(" ")
                    ),
                );
            }
        }
        if let Some(limit) = shown {
            let y = y(limit);
            // At the top right the mark's word stands, too, when the moment is a late one: then below the line.
            let is_crowded = y < TOP + 12.0 && self.mark.is_some_and(|(at, _)| x(at) > WIDTH - LIMIT_WORDS);
            put(
                out,
                format_args!(
                    "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                    WIDTH - RIGHT
                ),
            );
            put(
                out,
                format_args!(
                    "<text class=\"limit-text\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">limit {}</text>",
                    WIDTH - RIGHT - 4.0,
                    if is_crowded { y + 12.0 } else { y - 4.0 },
                    grouped(limit as u64)
                ),
            );
        }
        if let Some((at, word)) = self.mark {
            let x = x(at);
            let anchor = if x > WIDTH / 2.0 { "end" } else { "start" };
            let beside = if x > WIDTH / 2.0 { -4.0 } else { 4.0 };
            put(
                out,
                format_args!(
                    "<line class=\"break\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\"/>",
                    TOP - 8.0,
                    HEIGHT - BOTTOM
                ),
            );
            put(
                out,
                format_args!(
                    "<text class=\"break-text\" x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{word} {}</text>",
                    x + beside,
                    TOP - 8.0,
                    self.label(at, end)
                ),
            );
        }
        self.hovers(out, &x, end);
        out.push_str("</svg></figure>\n");
    }

    /// What a place on the axis is called.
    fn label(&self, at: f64, end: f64) -> String {
        if self.is_over_figures { short(at) } else { clock(at, end) }
    }

    fn caption(&self, out: &mut String, tell_limit: bool) {
        put(out, format_args!("<figure><figcaption>{}<div class=\"legend\">", escaped(&self.title)));
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            put(
                out,
                format_args!(
                    "<span><i style=\"background:var({colour})\"></i>{}</span>",
                    escaped(&series.name)
                ),
            );
        }
        if let Some(limit) = self.limit.filter(|_| tell_limit) {
            put(out, format_args!("<span>limit {}</span>", grouped(limit as u64)));
        }
        out.push_str("</div></figcaption>");
    }

    /// The series' points; of many that fall together, the highest.
    fn points(&self, series: &Series) -> impl Iterator<Item = (f64, f64)> {
        let step = self.moments.len().div_ceil(POINTS_MAX).max(1);
        let chunks = self.moments.chunks(step).zip(series.values.chunks(step));
        chunks.map(|(moments, values)| {
            let highest =
                values.iter().copied().zip(moments).fold((f64::MIN, 0.0), |best, (value, at)| {
                    if value > best.0 { (value, *at) } else { best }
                });
            (highest.1, highest.0)
        })
    }

    fn bars(
        &self,
        out: &mut String,
        series: &Series,
        colour: &str,
        index: usize,
        x: &impl Fn(f64) -> f64,
        y: &impl Fn(f64) -> f64,
    ) {
        let step = self.moments.len().div_ceil(POINTS_MAX).max(1);
        let columns = self.moments.len().div_ceil(step).max(1) as f64;
        let width = ((WIDTH - LEFT - RIGHT) / columns / self.series.len() as f64).max(0.8);
        for (at, value) in self.points(series).filter(|(_, value)| *value > 0.0) {
            // A row's count is of the time before it.
            let left = (x(at) - width * (self.series.len() - index) as f64).max(LEFT);
            put(
                out,
                format_args!(
                    "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" style=\"fill:var({colour})\"/>",
                    y(value),
                    width * 0.9,
                    y(0.0) - y(value)
                ),
            );
        }
    }

    fn hovers(&self, out: &mut String, x: &impl Fn(f64) -> f64, end: f64) {
        let step = self.moments.len().div_ceil(HOVERS_MAX).max(1);
        let columns = self.moments.len().div_ceil(step).max(1) as f64;
        let width = (WIDTH - LEFT - RIGHT) / columns;
        for (index, moments) in self.moments.chunks(step).enumerate() {
            let Some(at) = moments.first() else { continue };
            put(
                out,
                format_args!(
                    "<rect class=\"hover\" x=\"{:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.0}\"><title>{}",
                    (x(*at) - width / 2.0).max(LEFT),
                    HEIGHT - TOP - BOTTOM,
                    self.label(*at, end)
                ),
            );
            for series in &self.series {
                let highest = series.values.iter().skip(index * step).take(step).copied().fold(0.0, f64::max);
                put(out, format_args!("\n{}: {}", escaped(&series.name), grouped(highest as u64)));
            }
            out.push_str("</title></rect>");
        }
    }
}

/// The next figure that reads well as an axis' end, at least `value`: 1, 2, 2.5 or 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let mut power = 1.0;
    while power * 10.0 < value {
        power *= 10.0;
    }
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(value).max(TICKS)
}

/// `950`, `1.5 k`, `65 k`, `1.2 M`.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 1e9 => (value / 1e9, " G"),
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let text = format!("{scaled:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A moment of a plan that lasts `end` seconds: `43 s`, `2:10 min`, `3:05 h`.
pub fn clock(seconds: f64, end: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match end {
        end if end < 10.0 => format!("{seconds:.1} s"),
        end if end < 180.0 => format!("{seconds:.0} s"),
        end if end < 3.0 * 3600.0 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_in_figures_that_read_well() {
        assert_eq!(
            [4.0, 4.0, 50.0, 100.0, 250.0, 100_000.0],
            [0.0, 1.0, 37.0, 51.0, 201.0, 65_000.0].map(nice)
        );
        assert_eq!(["0", "0.5", "950", "65 k", "1.2 M"], [0.0, 0.5, 950.0, 65e3, 1.2e6].map(short));
        assert_eq!(
            ["1.5 s", "43 s", "2:10 min", "3:05 h"],
            [(1.5, 9.0), (43.2, 90.0), (130.0, 600.0), (11_100.0, 1e5)].map(|(at, end)| clock(at, end))
        );
    }

    #[test]
    fn of_many_points_the_highest_are_drawn() {
        let moments: Vec<f64> = (0..10_000).map(f64::from).collect();
        let mut values = vec![1.0; 10_000];
        values[5_001] = 900.0;
        let chart = Chart {
            title: "a < b".into(),
            moments: &moments,
            series: vec![Series { name: "x".into(), values }],
            limit: Some(1000.0),
            mark: Some((5001.0, "breaks at")),
            is_over_figures: false,
            bars: false,
        };
        let mut svg = String::new();
        chart.write(&mut svg);
        assert!(
            svg.contains("a &lt; b") && svg.contains("limit 1,000") && svg.contains("breaks at 83:21 min"),
            "{svg}"
        );
        assert!(svg.len() < 40_000, "{}", svg.len());
        let highest = chart.points(&chart.series[0]).map(|(_, value)| value).fold(0.0, f64::max);
        assert_eq!(highest, 900.0);
    }
    #[test]
    fn words_of_a_limit_and_of_a_late_moment_do_not_cover_each_other() {
        let moments: Vec<f64> = (0..28).map(f64::from).collect();
        let height = |mark: f64| {
            let chart = Chart {
                title: "Concurrency".into(),
                moments: &moments,
                series: vec![Series { name: "in flight".into(), values: vec![1000.0; 28] }],
                limit: Some(1000.0),
                mark: Some((mark, "breaks at")),
                is_over_figures: false,
                bars: false,
            };
            let mut svg = String::new();
            chart.write(&mut svg);
            let words = svg.split("class=\"limit-text\"").nth(1).expect("the limit is told");
            let y = words.split(" y=\"").nth(1).and_then(|rest| rest.split('"').next());
            y.and_then(|y| y.parse::<f64>().ok()).expect("it has a height")
        };
        assert!(height(27.0) > TOP && height(3.0) < TOP && height(14.0) < TOP);
    }
}
