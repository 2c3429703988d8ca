//! `environment.bandwidth`, `eni.bandwidth`, `nat.bandwidth`, `nat.packets`: how long a transfer takes.
//!
//! Sources: AWS Lambda Developer Guide, "Lambda quotas" (625 Mbit/s for each environment); VPC User Guide, "NAT gateway
//! basics" (5 Gbit/s scaling to 100, a million packets a second scaling to ten); published. Shared interfaces are built on
//! the same ground (Hyperplane: 5 Gbit/s by default, scaling to Tbit/s). How fast they scale is not published: here a link
//! doubles after each full minute in which all of it was in use (assumed).
//!
//! No transfer is faster than its environment, so a link is as many channels as environments at full speed fit into it,
//! and at least one. Each carries one transfer after the other; who finds all of them busy waits for the first that comes
//! free. All together take as long as if they shared the link, those in front are through sooner (the simpler of the two
//! models: O(log transfers), and no other transfer's end moves). A transfer over several links ends when the last of them
//! is through with it. Times are whole nanoseconds, rounded up.
//!
//! Nothing is refused: who waits too long runs into a time-out, which names the link. Nothing happens here by itself, so
//! there is no deadline.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A link of which all was in use for so long doubles.
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
    /// Units a second that one transfer takes at most.
    each: u64,
    /// Units in one of the limit's own.
    scale: u64,
    /// When each channel in use comes free; there are at most as many as there are channels.
    busy: BinaryHeap<Reverse<Instant>>,
    /// Since when all channels are in use, if they are.
    full_since: Instant,
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
    /// A link in Mbit/s that scales from `rate` to `most`, of which one transfer takes at most `each`.
    pub fn bits(limit: LimitId, name: Arc<str>, rate: u64, most: u64, each: u64) -> Self {
        Self::new(limit, name, rate, most, each.saturating_mul(MEGABIT), MEGABIT)
    }

    /// A link in packets a second that scales from `rate` to `most`; one transfer takes at most `each` Mbit/s.
    pub fn packets(limit: LimitId, name: Arc<str>, rate: u64, most: u64, each: u64) -> Self {
        let each = each.saturating_mul(MEGABIT).div_ceil(PACKET_BYTES * 8);
        Self::new(limit, name, rate, most, each, 1)
    }

    fn new(limit: LimitId, name: Arc<str>, rate: u64, most: u64, each: u64, scale: u64) -> Self {
        let rate = rate.max(1).saturating_mul(scale);
        Self {
            limit,
            name,
            rate,
            most: most.saturating_mul(scale).max(rate),
            each: each.max(1),
            scale,
            busy: BinaryHeap::new(),
            full_since: Instant::START,
            carried: 0,
            meter: Meter::default(),
            tally: Tally::default(),
        }
    }

    /// Sends so many bytes. When the link begins with them, and when it is through.
    pub fn send(&mut self, now: Instant, bytes: u64) -> (Instant, Instant) {
        self.grow(now);
        self.carried = self.carried.saturating_add(bytes);
        let began = match self.busy.peek().copied() {
            Some(Reverse(first)) if self.is_full() => {
                self.busy.pop();
                first
            }
            _ => now,
        };
        let done = began + self.takes(self.units(bytes));
        self.busy.push(Reverse(done));
        if self.is_full() && began == now {
            // The last channel that was free is in use now.
            self.full_since = now;
        }
        (began, done)
    }

    /// Notes that a transfer moves from `began` to `done`, over whatever else it goes: for the board.
    pub fn note(&mut self, now: Instant, began: Instant, done: Instant, bytes: u64) {
        let units = self.units(bytes);
        for busiest in self.meter.add(now, began, done, units) {
            self.tally.reach(busiest.min(self.rate).div_ceil(self.scale));
        }
    }

    /// Somebody waits no longer for a transfer.
    pub fn gives_up(&mut self, now: Instant) {
        self.tally.refuse(now);
    }

    /// Bytes that were sent.
    pub const fn carried(&self) -> u64 {
        self.carried
    }

    /// What is said of a transfer that waits for this link.
    pub fn slow(&self) -> Refusal {
        let max = self.rate / self.scale;
        let (limit, resource) = (self.limit, Arc::clone(&self.name));
        Refusal { limit, resource, destination: None, used: max, max, retry_at: None }
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

    /// Channels that came free are free; and where all were in use for long enough, there are twice as many.
    fn grow(&mut self, now: Instant) {
        while self.busy.peek().is_some_and(|Reverse(done)| *done <= now) {
            self.busy.pop();
        }
        while self.is_full() && self.rate < self.most && self.full_since + SCALES_AFTER <= now {
            self.rate = self.rate.saturating_mul(2).min(self.most);
            self.full_since += SCALES_AFTER;
        }
    }

    fn channels(&self) -> u64 {
        (self.rate / self.each).max(1)
    }

    fn is_full(&self) -> bool {
        self.busy.len() as u64 >= self.channels()
    }

    /// How long one channel takes for so many units, rounded up.
    fn takes(&self, units: u64) -> Duration {
        // u64 * u64 * 10^9 may pass a u128 only for units and channels that no figure reaches; it saturates.
        let work = (u128::from(units) * u128::from(self.channels())).saturating_mul(u128::from(SECOND));
        let time = work.div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(time).unwrap_or(u64::MAX))
    }
}

impl Meter {
    /// Spreads units evenly from `began` to `done`. The seconds that are over by `now`, with their units.
    fn add(
        &mut self,
        now: Instant,
        began: Instant,
        done: Instant,
        units: u64,
    ) -> impl Iterator<Item = u64> + use<> {
        let from = began.max(now).as_nanos();
        let to = done.as_nanos().max(from);
        let over = self.forget_before(now.as_nanos() / SECOND);
        let length = u128::from(to - from).max(1);
        let first = usize::try_from(from / SECOND - self.first).unwrap_or(usize::MAX);
        let (mut left, mut at, mut place) = (units, from, first.min(AHEAD_MAX - 1));
        if self.units.len() <= place {
            self.units.resize(place + 1, 0);
        }
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
        Link::bits(LimitId::NatBandwidth, "nat-a".into(), rate, most, most)
    }

    #[test]
    fn a_hundred_megabytes_take_what_the_rate_says() {
        for (rate, millis) in [(625, 1280), (5000, 160), (100_000, 8)] {
            assert_eq!(link(rate, rate).send(Instant::START, 100 * MB).1, Instant::from_millis(millis));
        }
        let mut packets = Link::packets(LimitId::NatPackets, "nat-a".into(), 1000, 1000, 625);
        assert_eq!(packets.send(Instant::START, 1448 * 999 + 1).1, Instant::from_secs(1));
    }

    #[test]
    fn transfers_wait_for_those_before_them() {
        let mut nat = link(5000, 5000);
        let ends: Vec<Instant> = (0..100).map(|_| nat.send(Instant::START, 100 * MB).1).collect();
        assert_eq!((ends[0], ends[99]), (Instant::from_millis(160), Instant::from_secs(16)));
        assert_eq!(nat.carried(), 10_000 * MB);
        assert_eq!(nat.slow().to_string(), "nat.bandwidth of nat-a: 5000 of 5000 Mbit/s");
        let idle = Instant::from_secs(20);
        assert_eq!(nat.send(idle, 100 * MB), (idle, Instant::from_millis(20_160)));
    }

    #[test]
    fn as_many_go_side_by_side_as_environments_fit_into_it() {
        let mut nat = Link::bits(LimitId::NatBandwidth, "nat-a".into(), 5000, 5000, 625);
        let long = nat.send(Instant::START, 100_000 * MB).1;
        assert_eq!(long, Instant::from_secs(1280), "one alone is as fast as its environment");
        let ends: Vec<Instant> = (0..14).map(|_| nat.send(Instant::START, 100 * MB).1).collect();
        assert_eq!((ends[6], ends[13]), (Instant::from_millis(1280), Instant::from_millis(2560)));
        let later = Instant::from_secs(3);
        assert_eq!(
            nat.send(later, 100 * MB),
            (later, Instant::from_millis(4280)),
            "nobody waits for the long one"
        );
    }

    #[test]
    fn it_doubles_after_each_minute_in_full_use_up_to_its_most() {
        let mut nat = Link::bits(LimitId::NatBandwidth, "nat-a".into(), 5000, 15_000, 5000);
        // 300 s of work at the first rate, then as much again.
        assert_eq!(nat.send(Instant::START, 187_500 * MB).1, Instant::from_secs(300));
        assert_eq!(nat.send(Instant::from_secs(59), 187_500 * MB).1, Instant::from_secs(600));
        let minute = Instant::from_secs(60);
        assert_eq!(nat.send(minute, 187_500 * MB), (minute, Instant::from_secs(360)), "a second channel");
        assert_eq!(nat.slow().max, 10_000);
        nat.send(Instant::from_secs(121), MB);
        assert_eq!(nat.slow().max, 15_000, "no more than its most");
        nat.send(Instant::from_secs(250), MB);
        assert_eq!(nat.slow().max, 15_000);
    }

    #[test]
    fn the_board_shows_the_busiest_second() {
        let mut nat = link(5000, 5000);
        for _ in 0..4 {
            // Four environments at 625 Mbit/s.
            nat.send(Instant::START, 100 * MB);
            nat.note(Instant::START, Instant::START, Instant::from_millis(1280), 100 * MB);
        }
        let row = nat.row(Instant::START, &"test".into());
        assert_eq!((row.used, row.peak, row.max, row.refused), (2500, 2500, 5000, 0));
        let row = nat.row(Instant::from_secs(1), &"test".into());
        assert_eq!((row.used, row.peak), (700, 2500));
        nat.note(Instant::from_secs(500), Instant::from_secs(600), Instant::from_secs(10_000), MB);
        assert_eq!(nat.row(Instant::from_secs(500), &"test".into()).peak, 2500);
        assert!(nat.meter.units.len() <= AHEAD_MAX);
    }

    proptest! {
        #[test]
        fn work_is_conserved_and_no_channel_carries_two_at_once(
            rate in 1u64..10_000, each in 1u64..10_000,
            steps in prop::collection::vec((0u64..3_000, 0u64..1_000_000_000), 1..100),
        ) {
            let mut nat = Link::bits(LimitId::NatBandwidth, "nat-a".into(), rate, rate, each);
            let channels = (rate / each).max(1);
            // The reference: when each channel comes free.
            let mut free = vec![0; usize::try_from(channels).unwrap()];
            let mut now = 0;
            for (wait, bytes) in steps {
                now += wait * 1_000_000;
                let at = Instant::from_nanos(now);
                let (began, done) = nat.send(at, bytes);
                let first = free.iter_mut().min().unwrap();
                let start = now.max(*first);
                let time = (u128::from(bytes) * 8 * 1000 * u128::from(channels)).div_ceil(u128::from(rate));
                *first = start + u64::try_from(time).unwrap();
                prop_assert_eq!((began.as_nanos(), done.as_nanos()), (start, *first));
                prop_assert!(nat.busy.len() as u64 <= channels);
                nat.note(at, began, done, bytes);
                let row = nat.row(at, &"test".into());
                prop_assert!(row.used <= row.peak && row.peak <= row.max);
            }
        }

        #[test]
        fn the_meter_loses_nothing(
            steps in prop::collection::vec((0u64..3_000, 0u64..300_000, 0u64..400_000, 0u64..1_000_000), 1..50),
        ) {
            let (mut meter, mut now, mut sent, mut over) = (Meter::default(), 0, 0, 0);
            for (wait, before, length, units) in steps {
                now += wait * 1_000_000;
                let at = Instant::from_nanos(now);
                let began = at + Duration::from_millis(before);
                over += meter.add(at, began, began + Duration::from_millis(length), units).sum::<u64>();
                sent += units;
                prop_assert_eq!(over + meter.units.iter().sum::<u64>(), sent);
                prop_assert!(meter.units.len() <= AHEAD_MAX);
            }
        }
    }
}
