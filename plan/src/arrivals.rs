//! Open-loop arrivals: requests that come at a rate, whether or not earlier ones were answered.

use crate::quantity::Rate;
use crate::random::Stream;

/// How arrivals are spread along the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// As evenly as can be.
    Even,
    /// At random, independent of each other (a Poisson process).
    Poisson,
}

/// A part of a rate's course, in nanoseconds from the phase's begin, during which it runs straight from one rate to
/// another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// First nanosecond.
    pub from_nanos: u64,
    /// The nanosecond after the last.
    pub to_nanos: u64,
    /// The rate at its begin.
    pub begin: Rate,
    /// The rate at its end; the same as at its begin where it does not change.
    pub end: Rate,
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
        let length = (self.to_nanos - self.from_nanos) as f64;
        (self.begin.per_nano() + self.end.per_nano()) / 2.0 * length
    }

    fn never(&self) -> bool {
        self.begin.events == 0 && self.end.events == 0
    }
}

/// The arrivals of one phase, in order.
///
/// Evenly spaced ones begin anew with each piece: one arrives at its first nanosecond. Where the rate is constant
/// they are exact; a ramp is solved in floating point, the same on every machine.
#[derive(Clone, Debug)]
pub struct Arrivals {
    pieces: Vec<Piece>,
    spacing: Spacing,
    piece: usize,
    index: u64,
    due: f64,
}

impl Arrivals {
    /// The arrivals along `pieces`, which follow each other in time.
    pub fn new(pieces: Vec<Piece>, spacing: Spacing) -> Self {
        Self { pieces, spacing, piece: 0, index: 0, due: 0.0 }
    }

    /// When the next request comes, in nanoseconds from the phase's begin. Draws from `stream` only if random.
    pub fn next(&mut self, stream: &mut Stream) -> Option<u64> {
        if self.spacing == Spacing::Poisson {
            self.due += stream.exponential();
        }
        while let Some(piece) = self.pieces.get(self.piece).copied() {
            let found = match self.spacing {
                _ if piece.never() => None,
                Spacing::Even => self.next_even(&piece),
                Spacing::Poisson => piece.nanos_of(self.due),
            };
            if let Some(nanos) = found {
                return Some(piece.from_nanos + nanos);
            }
            self.due -= if self.spacing == Spacing::Poisson { piece.total() } else { 0.0 };
            self.due = self.due.max(0.0);
            self.piece += 1;
            self.index = 0;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::parse_rate;

    const SECOND: u64 = 1_000_000_000;

    fn piece(from_s: u64, to_s: u64, begin: &str, end: &str) -> Piece {
        let [begin, end] = [begin, end].map(|text| parse_rate(text).unwrap());
        Piece { from_nanos: from_s * SECOND, to_nanos: to_s * SECOND, begin, end }
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
}
