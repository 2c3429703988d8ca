//! One of `n` keys, each as likely or by Zipf's law, in constant time and memory.
//!
//! Rejection-inversion after W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions" (1996): the law's sum is replaced by an integral that can be inverted, and a draw that falls between the
//! two is drawn again, less than once in two on average.

use crate::load::Keys;
use crate::random::Stream;

/// Draws that are rejected so often do not occur; the bound keeps a rounding error from being a hang.
const ROUNDS_MAX: u32 = 1000;

/// Keys `0..count`.
#[derive(Clone, Debug, PartialEq)]
pub struct Zipf {
    count: u32,
    skew: f64,
    first: f64,
    last: f64,
    shortcut: f64,
}

impl Zipf {
    /// The keys of a phase.
    pub fn new(keys: Keys) -> Self {
        let Keys { count, skew } = keys;
        let mut zipf = Self { count, skew, first: 0.0, last: 0.0, shortcut: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(f64::from(count) + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// One key; the lower, the likelier.
    #[inline]
    pub fn sample(&self, stream: &mut Stream) -> u32 {
        if self.count <= 1 {
            return 0;
        }
        if self.skew == 0.0 {
            return stream.below(u64::from(self.count)) as u32;
        }
        let mut rank = 1.0;
        for _ in 0..ROUNDS_MAX {
            let drawn = self.last + stream.unit() * (self.first - self.last);
            let at = self.inverse(drawn);
            rank = libm::floor(at + 0.5).clamp(1.0, f64::from(self.count));
            if rank - at <= self.shortcut || drawn >= self.integral(rank + 0.5) - self.weight(rank) {
                break;
            }
        }
        rank as u32 - 1
    }

    /// How likely a rank is, to a factor.
    fn weight(&self, rank: f64) -> f64 {
        libm::exp(-self.skew * libm::log(rank))
    }

    /// The integral of `weight` from 1: (x^(1-s) - 1) / (1 - s), and the logarithm for s = 1.
    fn integral(&self, at: f64) -> f64 {
        let log = libm::log(at);
        slope((1.0 - self.skew) * log) * log
    }

    fn inverse(&self, area: f64) -> f64 {
        // Below -1 only by rounding.
        let scaled = (area * (1.0 - self.skew)).max(-1.0);
        let log = if scaled.abs() > 1e-8 { libm::log1p(scaled) / scaled } else { 1.0 - scaled / 2.0 };
        libm::exp(log * area)
    }
}

/// (e^x - 1) / x, also near 0.
fn slope(x: f64) -> f64 {
    if x.abs() > 1e-8 { libm::expm1(x) / x } else { 1.0 + x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(keys: Keys, draws: u32) -> Vec<f64> {
        let (zipf, mut stream) = (Zipf::new(keys), Stream::new(5, "keys", "test"));
        let mut counts = vec![0_u32; keys.count as usize];
        for _ in 0..draws {
            counts[zipf.sample(&mut stream) as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(draws)).collect()
    }

    #[test]
    fn ranks_are_as_likely_as_the_law_says() {
        for skew in [0.0, 0.3, 0.999_999_999_9, 1.0, 1.1, 2.5, 20.0] {
            let keys = Keys { count: 50, skew };
            let weights: Vec<f64> = (1..=50).map(|rank| libm::pow(f64::from(rank), -skew)).collect();
            let sum: f64 = weights.iter().sum();
            for (rank, share) in shares(keys, 200_000).into_iter().enumerate() {
                let expected = weights[rank] / sum;
                // Five standard deviations.
                let margin = 5.0 * libm::sqrt(expected / 200_000.0) + 1e-5;
                assert!((share - expected).abs() < margin, "s {skew}, rank {rank}: {share} for {expected}");
            }
        }
    }

    #[test]
    fn one_key_and_ten_million_are_fine() {
        assert_eq!(shares(Keys { count: 1, skew: 1.1 }, 10), [1.0]);
        let (zipf, mut stream) =
            (Zipf::new(Keys { count: 10_000_000, skew: 0.5 }), Stream::new(5, "keys", "many"));
        let drawn: Vec<u32> = (0..1000).map(|_| zipf.sample(&mut stream)).collect();
        assert!(drawn.iter().all(|key| *key < 10_000_000));
        // P(key < n/4) is the square root of a quarter.
        let low = drawn.iter().filter(|key| **key < 2_500_000).count();
        assert!((430..570).contains(&low), "{low}");
    }
}
