//! Open-loop arrivals: requests that come at a rate, whether or not earlier ones were answered.

use crate::quantity::Rate;
use crate::random::Stream;
use crate::recording::{Cursor, Recording};
use std::f64::consts::PI;
use std::sync::Arc;

/// Halvings and Newton steps until an arrival along a wave is found; 64 halvings alone are exact to the nanosecond.
const WAVE_STEPS_MAX: u32 = 64;

/// How arrivals are spread along the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// As evenly as can be.
    Even,
    /// At random, independent of each other (a Poisson process).
    Poisson,
}

/// How a rate runs from one figure to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// In a straight line.
    Straight,
    /// Along half a cosine wave, which would be complete after so many nanoseconds: never 0, and the piece may be cut
    /// before.
    Wave(u64),
}

/// A part of a rate's course, in nanoseconds from the phase's begin, during which it runs from one rate to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// First nanosecond.
    pub from_nanos: u64,
    /// The nanosecond after the last.
    pub to_nanos: u64,
    /// The rate at its begin.
    pub begin: Rate,
    /// The rate at its end; the same as at its begin where it does not change. Of a wave: when that is complete.
    pub end: Rate,
    /// How it gets from the one to the other.
    pub bend: Bend,
}

impl Piece {
    /// When as many arrivals as `count` are due, in nanoseconds from the piece's begin. `None` beyond its end.
    fn nanos_of(&self, count: f64) -> Option<u64> {
        let length = (self.to_nanos - self.from_nanos) as f64;
        let (begin, end) = (self.begin.per_nano(), self.end.per_nano());
        // The count after t is begin*t + (end-begin)*t^2/(2*length); solved for t in the form that keeps its
        // precision when the square term vanishes.
        let root = begin * begin + 2.0 * (end - begin) * count / length;
        if root < 0.0 || count > 0.0 && begin + libm::sqrt(root) <= 0.0 {
            return None;
        }
        let nanos = if count == 0.0 { 0.0 } else { libm::ceil(2.0 * count / (begin + libm::sqrt(root))) };
        (nanos < length).then_some(nanos as u64)
    }

    /// How many arrivals are due over the whole piece.
    fn total(&self) -> f64 {
        self.due(self.to_nanos)
    }

    /// How many arrivals are due until `moment`, counted like the piece's bounds.
    pub fn due(&self, moment: u64) -> f64 {
        let length = (self.to_nanos - self.from_nanos) as f64;
        let nanos = (moment.clamp(self.from_nanos, self.to_nanos) - self.from_nanos) as f64;
        let (begin, end) = (self.begin.per_nano(), self.end.per_nano());
        match self.bend {
            // At the piece's end, the mean of its rates times its length.
            Bend::Straight => (begin + (begin + (end - begin) * (nanos / length))) / 2.0 * nanos,
            Bend::Wave(half) => Wave::new(self, half).count(nanos),
        }
    }

    fn never(&self) -> bool {
        self.begin.events == 0 && self.end.events == 0
    }
}

/// Half a cosine wave: the rate after t is `middle + swing * cos(PI * t / half)`, per nanosecond.
struct Wave {
    middle: f64,
    swing: f64,
    half: f64,
}

impl Wave {
    fn new(piece: &Piece, half: u64) -> Self {
        let (begin, end) = (piece.begin.per_nano(), piece.end.per_nano());
        Self { middle: (begin + end) / 2.0, swing: (begin - end) / 2.0, half: half as f64 }
    }

    fn rate(&self, nanos: f64) -> f64 {
        self.middle + self.swing * libm::cos(PI * nanos / self.half)
    }

    /// Arrivals due up to then: the integral of the rate.
    fn count(&self, nanos: f64) -> f64 {
        self.middle * nanos + self.swing * self.half / PI * libm::sin(PI * nanos / self.half)
    }

    /// When as many as `count` are due: Newton's steps from `guess`, halving where one would leave the bracket, as the
    /// count never falls. `None` beyond `length`.
    fn nanos_of(&self, count: f64, guess: f64, length: f64) -> Option<u64> {
        if count > self.count(length) {
            return None;
        }
        let (mut low, mut high) = (0.0, length);
        let mut at = guess.clamp(low, high);
        for _ in 0..WAVE_STEPS_MAX {
            let missing = count - self.count(at);
            if missing > 0.0 {
                low = at;
            } else {
                high = at;
            }
            let step = at + missing / self.rate(at);
            let next = if step > low && step < high { step } else { (low + high) / 2.0 };
            // A quarter of a nanosecond is below what is kept.
            let close = libm::fabs(next - at) < 0.25;
            at = next;
            if close || high - low < 0.25 {
                break;
            }
        }
        let nanos = libm::ceil(at);
        (nanos < length).then_some(nanos as u64)
    }
}

/// The arrivals of one phase, in order.
///
/// Evenly spaced ones begin anew with each piece: one arrives at its first nanosecond. Where the rate is constant
/// they are exact; ramps and waves are solved in floating point, the same on every machine. Random ones are found by
/// the inverse of the count, along waves by thinning (Lewis and Shedler, "Simulation of nonhomogeneous Poisson
/// processes by thinning", 1979).
#[derive(Clone, Debug)]
pub struct Arrivals {
    pieces: Vec<Piece>,
    spacing: Spacing,
    piece: usize,
    index: u64,
    due: f64,
    /// Along a wave: where the last arrival was, from the piece's begin.
    at: f64,
    replay: Option<Cursor>,
}

impl Arrivals {
    /// The arrivals along `pieces`, which follow each other in time.
    pub fn new(pieces: Vec<Piece>, spacing: Spacing) -> Self {
        Self { pieces, spacing, piece: 0, index: 0, due: 0.0, at: 0.0, replay: None }
    }

    /// The arrivals of a recording.
    pub fn replay(recording: Arc<Recording>) -> Self {
        Self { replay: Some(Cursor::new(recording)), ..Self::new(Vec::new(), Spacing::Even) }
    }

    /// When the next request comes, in nanoseconds from the phase's begin. Draws from `stream` only if random.
    pub fn next(&mut self, stream: &mut Stream) -> Option<u64> {
        if let Some(replay) = &mut self.replay {
            return replay.next();
        }
        if self.spacing == Spacing::Poisson {
            self.due += stream.exponential();
        }
        while let Some(piece) = self.pieces.get(self.piece).copied() {
            let found = match (self.spacing, piece.bend) {
                _ if piece.never() => None,
                (Spacing::Even, Bend::Straight) => self.next_even(&piece),
                (Spacing::Even, Bend::Wave(half)) => self.next_along(&piece, half),
                (Spacing::Poisson, Bend::Straight) => piece.nanos_of(self.due),
                (Spacing::Poisson, Bend::Wave(half)) => self.next_thinned(&piece, half, stream),
            };
            if let Some(nanos) = found {
                return Some(piece.from_nanos + nanos);
            }
            self.due -= match (self.spacing, piece.bend) {
                (Spacing::Poisson, Bend::Straight) => piece.total(),
                // Thinning does not use it; the process has no memory.
                (Spacing::Poisson, Bend::Wave(_)) | (Spacing::Even, _) => 0.0,
            };
            self.due = self.due.max(0.0);
            self.piece += 1;
            self.index = 0;
            self.at = 0.0;
        }
        None
    }

    fn next_even(&mut self, piece: &Piece) -> Option<u64> {
        let nanos = if piece.begin == piece.end {
            piece.begin.nanos_of(self.index).filter(|nanos| *nanos < piece.to_nanos - piece.from_nanos)
        } else {
            piece.nanos_of(self.index as f64)
        };
        self.index += 1;
        nanos
    }

    fn next_along(&mut self, piece: &Piece, half: u64) -> Option<u64> {
        let wave = Wave::new(piece, half);
        let rate = wave.rate(self.at);
        let guess = if rate > 0.0 { self.at + 1.0 / rate } else { self.at };
        let nanos = wave.nanos_of(self.index as f64, guess, (piece.to_nanos - piece.from_nanos) as f64)?;
        self.index += 1;
        self.at = nanos as f64;
        Some(nanos)
    }

    /// Candidates come at the wave's highest rate, and each stays with the share that the rate has of it then.
    fn next_thinned(&mut self, piece: &Piece, half: u64, stream: &mut Stream) -> Option<u64> {
        let wave = Wave::new(piece, half);
        let length = (piece.to_nanos - piece.from_nanos) as f64;
        let most = piece.begin.per_nano().max(piece.end.per_nano());
        loop {
            self.at += stream.exponential() / most;
            if self.at >= length {
                return None;
            }
            if stream.unit() * most < wave.rate(self.at) {
                return Some(self.at as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::parse_rate;

    const SECOND: u64 = 1_000_000_000;

    fn piece(from_s: u64, to_s: u64, begin: &str, end: &str) -> Piece {
        let [begin, end] = [begin, end].map(|text| parse_rate(text).unwrap());
        Piece { from_nanos: from_s * SECOND, to_nanos: to_s * SECOND, begin, end, bend: Bend::Straight }
    }

    /// A day from `low` to `high` at noon and back.
    fn day(low: &str, high: &str) -> Vec<Piece> {
        let half = 43_200 * SECOND;
        let wave = |piece: Piece| Piece { bend: Bend::Wave(half), ..piece };
        vec![wave(piece(0, 43_200, low, high)), wave(piece(43_200, 86_400, high, low))]
    }

    fn all(pieces: Vec<Piece>, spacing: Spacing) -> Vec<u64> {
        let mut arrivals = Arrivals::new(pieces, spacing);
        let mut stream = Stream::new(1, "arrivals", "test");
        std::iter::from_fn(|| arrivals.next(&mut stream)).collect()
    }

    #[test]
    fn a_constant_rate_is_exact() {
        let times = all(vec![piece(0, 60, "200/s", "200/s")], Spacing::Even);
        assert_eq!(times.len(), 12_000);
        assert_eq!((times[0], times[1], times[200]), (0, 5_000_000, SECOND));
        let odd = all(vec![piece(0, 10, "3/s", "3/s")], Spacing::Even);
        assert_eq!((odd.len(), odd[1], odd[3]), (30, 333_333_334, SECOND));
    }

    #[test]
    fn a_ramp_has_the_area_below_it() {
        let times = all(vec![piece(0, 60, "0/s", "4000/s")], Spacing::Even);
        assert_eq!(times.len(), 120_000);
        let half = times.iter().filter(|at| **at < 30 * SECOND).count();
        assert_eq!(half, 30_000);
        let down = all(vec![piece(0, 10, "100/s", "0/s")], Spacing::Even);
        assert_eq!(down.len(), 500);
        assert!(down.is_sorted() && times.is_sorted());
    }

    #[test]
    fn steps_follow_each_other_and_silence_is_silent() {
        let steps = vec![piece(0, 5, "0/s", "0/s"), piece(5, 6, "10/s", "10/s"), piece(6, 8, "1/s", "1/s")];
        let times = all(steps, Spacing::Even);
        assert_eq!(times.len(), 12);
        assert_eq!(
            (times[0], times[9], times[10], times[11]),
            (5 * SECOND, 5_900_000_000, 6 * SECOND, 7 * SECOND)
        );
    }

    #[test]
    fn random_arrivals_have_the_rate_and_its_spread() {
        let pieces = vec![
            piece(0, 100, "0/s", "0/s"),
            piece(100, 200, "50/s", "50/s"),
            piece(200, 300, "50/s", "150/s"),
        ];
        let times = all(pieces, Spacing::Poisson);
        assert!(times.is_sorted() && times[0] > 100 * SECOND);
        let within = |from: u64, to: u64| {
            times.iter().filter(|at| (from * SECOND..to * SECOND).contains(at)).count() as f64
        };
        // Five standard deviations of a Poisson count.
        assert!((within(100, 200) - 5000.0).abs() < 5.0 * 71.0);
        assert!((within(200, 300) - 10_000.0).abs() < 5.0 * 100.0);
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().any(|gap| *gap < SECOND / 1000) && gaps.iter().any(|gap| *gap > SECOND / 20));
    }

    #[test]
    fn a_day_has_the_mean_of_its_rates_and_its_noon() {
        let times = all(day("0/s", "2/s"), Spacing::Even);
        // The integral is a day at the mean, and each half begins anew.
        assert!((86_399..=86_401).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
        let within = |from: u64, to: u64| {
            times.iter().filter(|at| (from * SECOND..to * SECOND).contains(at)).count() as i64
        };
        // 1 - cos(PI * 6/12) = 1/s at six, so that the first quarter has 21,600 - 43,200/PI of them.
        assert!((within(0, 21_600) - 7849).abs() <= 1, "{}", within(0, 21_600));
        assert!((within(21_600, 43_200) - 35_351).abs() <= 1);
        assert!((within(43_199, 43_201) - 4).abs() <= 1, "two a second at noon");
    }

    #[test]
    fn each_arrival_of_a_wave_comes_when_it_is_due() {
        let piece = day("3/s", "70/s")[0];
        let wave = Wave::new(&piece, 43_200 * SECOND);
        let times = all(vec![piece], Spacing::Even);
        for (index, nanos) in times.iter().enumerate().step_by(997) {
            let due = wave.count(*nanos as f64);
            assert!(due >= index as f64 - 1e-6 && due < index as f64 + 1e-6, "{index}: {due}");
        }
    }

    #[test]
    fn a_random_day_has_the_rates_of_its_hours() {
        let times = all(day("1/s", "5/s"), Spacing::Poisson);
        assert!(times.is_sorted());
        let within = |from: u64, to: u64| {
            times.iter().filter(|at| (from * SECOND..to * SECOND).contains(at)).count() as f64
        };
        let wave = Wave::new(&day("1/s", "5/s")[0], 43_200 * SECOND);
        for hour in 0..12_u64 {
            let [from, to] = [hour, hour + 1].map(|hour| wave.count((hour * 3600 * SECOND) as f64));
            let expected = to - from;
            let found = within(hour * 3600, hour * 3600 + 3600);
            assert!((found - expected).abs() < 5.0 * expected.sqrt(), "hour {hour}: {found} of {expected}");
        }
    }
}
