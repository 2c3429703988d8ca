//! `environment.bandwidth`, `eni.bandwidth`, `nat.bandwidth`, `nat.packets`: how long a transfer takes.
//!
//! Sources: AWS Lambda Developer Guide, "Lambda quotas" (625 Mbit/s for each environment); VPC User Guide, "NAT gateway
//! basics" (5 Gbit/s scaling to 100, a million packets a second scaling to ten); published. Shared interfaces are built on
//! the same ground (S3-7: 5 Gbit/s, scaling to Tbit/s). How fast they scale is not published: here a link doubles after
//! each full minute without a pause (assumed).
//!
//! A link is a fluid that carries transfers one after another, in the order in which they come. Together they take as
//! long as if they shared it, each alone is faster (the simpler of the two models, and O(1)). A transfer over several
//! links ends when the last of them is through with it. Times are whole nanoseconds, rounded up.
//!
//! Nothing is refused: who waits too long runs into a time-out, which names the link. Nothing happens here by itself, so
//! there is no deadline.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A link that was in use for so long without a pause doubles.
pub const SCALES_AFTER: Duration = Duration::from_secs(60);
/// What a NAT gateway scales to, in Mbit/s.
pub const NAT_MBITS_MAX: u64 = 100_000;
/// What a NAT gateway scales to, in packets a second.
pub const NAT_PACKETS_MAX: u64 = 10_000_000;
/// What a shared interface scales to, in Mbit/s.
pub const ENI_MBITS_MAX: u64 = 1_000_000;
/// Payload of a full packet: 1,500 bytes less the headers of IP and TCP with time stamps.
const PACKET_BYTES: u64 = 1448;
/// So many seconds ahead a link's use is kept apart; what is later counts in the last one.
const AHEAD_MAX: usize = 120;
const SECOND: u64 = 1_000_000_000;
const MEGABIT: u64 = 1_000_000;

/// One thing that carries transfers.
#[derive(Clone, Debug)]
pub struct Link {
    limit: LimitId,
    name: Arc<str>,
    /// Units (bits or packets) a second.
    rate: u64,
    most: u64,
    /// Units in one of the limit's own.
    scale: u64,
    /// Since when it is in use without a pause.
    busy_since: Instant,
    /// When it is through with all it has.
    free_at: Instant,
    carried: u64,
    meter: Meter,
    tally: Tally,
}

/// Units in each second, from `first` on.
#[derive(Clone, Debug, Default)]
struct Meter {
    first: u64,
    units: VecDeque<u64>,
}

impl Link {
    /// A link in Mbit/s that scales from `rate` to `most`.
    pub fn bits(limit: LimitId, name: Arc<str>, rate: u64, most: u64) -> Self {
        Self::new(limit, name, rate, most, MEGABIT)
    }

    /// A link in packets a second that scales from `rate` to `most`.
    pub fn packets(limit: LimitId, name: Arc<str>, rate: u64, most: u64) -> Self {
        Self::new(limit, name, rate, most, 1)
    }

    fn new(limit: LimitId, name: Arc<str>, rate: u64, most: u64, scale: u64) -> Self {
        let rate = rate.max(1).saturating_mul(scale);
        Self {
            limit,
            name,
            rate,
            most: most.saturating_mul(scale).max(rate),
            scale,
            busy_since: Instant::START,
            free_at: Instant::START,
            carried: 0,
            meter: Meter::default(),
            tally: Tally::default(),
        }
    }

    /// Sends so many bytes. When the link is through with them.
    pub fn send(&mut self, now: Instant, bytes: u64) -> Instant {
        self.grow(now);
        let units = self.units(bytes);
        self.carried = self.carried.saturating_add(bytes);
        if self.free_at <= now {
            self.busy_since = now;
        }
        self.free_at = self.free_at.max(now) + takes(units, self.rate);
        self.free_at
    }

    /// Notes that a transfer which began at `now` will be over at `done`, over whatever else it goes: for the board.
    pub fn note(&mut self, now: Instant, done: Instant, bytes: u64) {
        let units = self.units(bytes);
        for busiest in self.meter.add(now, done, units) {
            self.tally.reach(busiest.min(self.rate).div_ceil(self.scale));
        }
    }

    /// Bytes that were sent.
    pub const fn carried(&self) -> u64 {
        self.carried
    }

    /// What is said of a transfer that waits for this link.
    pub fn slow(&self) -> Refusal {
        let max = self.rate / self.scale;
        let (limit, resource) = (self.limit, Arc::clone(&self.name));
        Refusal { limit, resource, destination: None, used: max, max, retry_at: Some(self.free_at) }
    }

    /// The board's row: use of the second at `now`, and of the busiest one.
    pub fn row(&self, now: Instant, source: &Arc<str>) -> LimitRow {
        let (used, busiest) = self.meter.at(now);
        let [used, busiest] = [used, busiest].map(|units| units.min(self.rate).div_ceil(self.scale));
        let mut tally = self.tally.clone();
        tally.reach(busiest);
        tally.row(self.limit, &self.name, used, self.rate / self.scale, source)
    }

    fn units(&self, bytes: u64) -> u64 {
        if self.scale == 1 { bytes.div_ceil(PACKET_BYTES) } else { bytes.saturating_mul(8) }
    }

    /// A link in use for long enough doubles; what it still has goes faster from then on.
    fn grow(&mut self, now: Instant) {
        while self.free_at > now && self.rate < self.most && self.busy_since + SCALES_AFTER <= now {
            let left = u128::from(self.free_at.since(now).as_nanos() as u64);
            let faster = self.rate.saturating_mul(2).min(self.most);
            let left = (left * u128::from(self.rate)).div_ceil(u128::from(faster));
            self.free_at = now + Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
            self.busy_since += SCALES_AFTER;
            self.rate = faster;
        }
    }
}

/// How long so many units take, rounded up.
fn takes(units: u64, rate: u64) -> Duration {
    let time = (u128::from(units) * u128::from(SECOND)).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(time).unwrap_or(u64::MAX))
}

impl Meter {
    /// Spreads units evenly from `now` to `done`. The seconds that are over, with their units.
    fn add(&mut self, now: Instant, done: Instant, units: u64) -> impl Iterator<Item = u64> + use<> {
        let (from, to) = (now.as_nanos(), done.as_nanos().max(now.as_nanos()));
        let over = self.forget_before(from / SECOND);
        let length = u128::from(to - from).max(1);
        let (mut left, mut at, mut place) = (units, from, 0);
        loop {
            if self.units.len() <= place {
                self.units.push_back(0);
            }
            let end = (at / SECOND + 1).saturating_mul(SECOND);
            if end >= to || place + 1 == AHEAD_MAX {
                self.units[place] = self.units[place].saturating_add(left);
                return over.into_iter();
            }
            let part = u128::from(units) * u128::from(end - at) / length;
            let part = u64::try_from(part).unwrap_or(u64::MAX).min(left);
            self.units[place] = self.units[place].saturating_add(part);
            left -= part;
            (at, place) = (end, place + 1);
        }
    }

    fn forget_before(&mut self, second: u64) -> Vec<u64> {
        let over = usize::try_from(second.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.first = self.first.max(second);
        self.units.drain(..over.min(self.units.len())).collect()
    }

    /// Units in the second at `now`, and in the busiest one up to then.
    fn at(&self, now: Instant) -> (u64, u64) {
        let place = (now.as_nanos() / SECOND).checked_sub(self.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        let Some(place) = place else { return (0, 0) };
        let used = self.units.get(place).copied().unwrap_or(0);
        (used, self.units.iter().take(place.saturating_add(1)).copied().max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MB: u64 = 1_000_000;

    fn link(rate: u64, most: u64) -> Link {
        Link::bits(LimitId::NatBandwidth, "nat-a".into(), rate, most)
    }

    #[test]
    fn a_hundred_megabytes_take_what_the_rate_says() {
        for (rate, millis) in [(625, 1280), (5000, 160), (100_000, 8)] {
            assert_eq!(link(rate, rate).send(Instant::START, 100 * MB), Instant::from_millis(millis));
        }
        let mut packets = Link::packets(LimitId::NatPackets, "nat-a".into(), 1000, 1000);
        assert_eq!(packets.send(Instant::START, 1448 * 999 + 1), Instant::from_secs(1));
    }

    #[test]
    fn transfers_wait_for_those_before_them() {
        let mut nat = link(5000, 5000);
        let ends: Vec<Instant> = (0..100).map(|_| nat.send(Instant::START, 100 * MB)).collect();
        assert_eq!((ends[0], ends[99]), (Instant::from_millis(160), Instant::from_secs(16)));
        assert_eq!(nat.carried(), 10_000 * MB);
        assert_eq!(nat.slow().to_string(), "nat.bandwidth of nat-a: 5000 of 5000 Mbit/s");
        assert_eq!(nat.send(Instant::from_secs(20), 100 * MB), Instant::from_millis(20_160), "it was idle");
    }

    #[test]
    fn it_doubles_after_each_minute_in_use_up_to_its_most() {
        let mut nat = link(5000, 15_000);
        // 300 s of work at the first rate.
        assert_eq!(nat.send(Instant::START, 187_500 * MB), Instant::from_secs(300));
        nat.send(Instant::from_secs(59), 0);
        assert_eq!(nat.rate, 5_000_000_000);
        assert_eq!(nat.send(Instant::from_secs(60), 0), Instant::from_secs(180));
        assert_eq!(nat.send(Instant::from_secs(120), 0), Instant::from_secs(160), "no more than its most");
        assert_eq!(nat.slow().max, 15_000);
    }

    #[test]
    fn the_board_shows_the_busiest_second() {
        let mut nat = link(5000, 5000);
        for _ in 0..4 {
            // Four environments at 625 Mbit/s.
            nat.send(Instant::START, 100 * MB);
            nat.note(Instant::START, Instant::from_millis(1280), 100 * MB);
        }
        let row = nat.row(Instant::START, &"test".into());
        assert_eq!((row.used, row.peak, row.max, row.refused), (2500, 2500, 5000, 0));
        let row = nat.row(Instant::from_secs(1), &"test".into());
        assert_eq!((row.used, row.peak), (700, 2500));
        nat.note(Instant::from_secs(500), Instant::from_secs(10_000), MB);
        assert_eq!(nat.row(Instant::from_secs(500), &"test".into()).peak, 2500);
        assert!(nat.meter.units.len() <= AHEAD_MAX);
    }

    proptest! {
        #[test]
        fn work_is_conserved_and_ends_in_order(
            rate in 1u64..10_000, steps in prop::collection::vec((0u64..3_000, 0u64..1_000_000_000), 1..100),
        ) {
            let mut nat = link(rate, rate);
            let (mut now, mut before, mut bits) = (0, Instant::START, 0u128);
            let mut began = 0;
            for (wait, bytes) in steps {
                now += wait * 1_000_000;
                let at = Instant::from_nanos(now);
                if before <= at {
                    (began, bits) = (now, 0);
                }
                bits += u128::from(bytes) * 8;
                let done = nat.send(at, bytes);
                prop_assert!(done >= before && done >= at);
                // Whatever is sent in one stretch takes as long as all of it at the rate, rounded up for each.
                let exact = bits * 1000 / u128::from(rate);
                let took = u128::from(done.as_nanos() - began);
                prop_assert!(took >= exact && took <= exact + 101);
                before = done;
                nat.note(at, done, bytes);
                let row = nat.row(at, &"test".into());
                prop_assert!(row.used <= row.peak && row.peak <= row.max);
            }
        }

        #[test]
        fn the_meter_loses_nothing(
            steps in prop::collection::vec((0u64..3_000, 0u64..400_000, 0u64..1_000_000), 1..50),
        ) {
            let (mut meter, mut now, mut sent, mut over) = (Meter::default(), 0, 0, 0);
            for (wait, length, units) in steps {
                now += wait * 1_000_000;
                let at = Instant::from_nanos(now);
                over += meter.add(at, at + Duration::from_millis(length), units).sum::<u64>();
                sent += units;
                prop_assert_eq!(over + meter.units.iter().sum::<u64>(), sent);
                prop_assert!(meter.units.len() <= AHEAD_MAX);
            }
        }
    }
}
