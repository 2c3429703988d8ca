//! `lambda.response-stream-size`, `lambda.response-stream-burst`, `lambda.response-stream-rate`: how large a streamed
//! response may become, and how fast it may flow.
//!
//! Source: AWS Lambda Developer Guide, "Lambda quotas" (200 MB since 2025-07-31, 20 MB before) and "Response streaming for
//! Lambda functions", Bandwidth limits (the first 6 MB are not capped, what follows at most 2 MB a second); published. That a
//! bucket of 6 MiB refills from the first byte on is how the public Runtime Interface Emulator does it; that MB are MiB, as
//! in Lambda's other figures, is assumed.
//!
//! A stream that has to wait is no refusal: it is counted once against the burst and the rate. One that becomes too large is
//! cut, after its last allowed byte, by `lambda.response-stream-size`.

use crate::tally::Tally;
use crate::token_bucket::{Refill, TokenBucket};
use model::era::{Era, Figure, Overrides};
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Functions whose rows are kept; of further ones only the streams are, while they last.
const FUNCTIONS_MAX: usize = 10_000;
/// What waits for the rate is let on in pieces worth a fiftieth of a second, so that pacing costs little.
const PIECES_PER_SECOND: u32 = 50;
/// Figures of April 2023, when streaming came; for eras before that.
const FIRST_SIZE: u64 = 20 << 20;
const FIRST_BURST: u64 = 6 << 20;
const FIRST_RATE: u64 = 2 << 20;

/// The account's figures, each with its source for the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFigures {
    /// Bytes of one response.
    pub size: u64,
    /// Bytes that are not held back.
    pub burst: u32,
    /// Bytes a second after these.
    pub rate: u32,
    /// Of the size, the burst and the rate.
    pub sources: [Arc<str>; 3],
}

impl StreamFigures {
    /// The figures of an era in a Region, with the user's own instead where given. Bursts and rates beyond 32 bits are as
    /// good as none, and are cut to that.
    pub fn from_era(era: &Era, region: &str, overrides: &Overrides) -> Self {
        let figure = |limit, first| {
            let first =
                || Figure { value: first, source: "as in April 2023, when response streaming came".into() };
            era.figure(limit, region, overrides).unwrap_or_else(first)
        };
        let small = |value| u32::try_from(value).unwrap_or(u32::MAX);
        let size = figure(LimitId::ResponseStreamSize, FIRST_SIZE);
        let burst = figure(LimitId::ResponseStreamBurst, FIRST_BURST);
        let rate = figure(LimitId::ResponseStreamRate, FIRST_RATE);
        Self {
            size: size.value,
            burst: small(burst.value),
            rate: small(rate.value),
            sources: [size.source, burst.source, rate.source],
        }
    }
}

impl StreamFigures {
    /// How long a response holds its environment that is there at once and whose reader is fast: the burst goes in no time, the
    /// rest at the rate. Rounded up to a nanosecond; without a rate, what is beyond the burst takes for ever.
    pub fn time_of(&self, bytes: u64) -> Duration {
        // u64 * 10^9 fits u128.
        let beyond = u128::from(bytes.saturating_sub(self.burst.into())) * 1_000_000_000;
        if beyond == 0 {
            return Duration::ZERO;
        }
        let nanos = (self.rate > 0).then(|| u64::try_from(beyond.div_ceil(self.rate.into())).ok());
        nanos.flatten().map_or(Duration::MAX, Duration::from_nanos)
    }

    /// How many bytes of such a response have gone after that time, rounded down. Overflow: 2^32 * 2^94 fits u128.
    pub fn gone_after(&self, bytes: u64, time: Duration) -> u64 {
        let beyond = u128::from(self.rate) * time.as_nanos() / 1_000_000_000;
        bytes.min(u64::try_from(beyond).unwrap_or(u64::MAX).saturating_add(self.burst.into()))
    }
}

/// One stream under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u64);

/// What becomes of bytes that want to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// So many of them go now: at least one, unless none were asked for.
    Go(u32),
    /// None before that moment; never if there is none.
    Wait(Option<Instant>),
    /// None any more: the response is as large as it may be.
    Full(Refusal),
}

/// All streamed responses of the account.
#[derive(Clone, Debug)]
pub struct ResponseStreams {
    figures: StreamFigures,
    streams: BTreeMap<StreamId, Stream>,
    functions: BTreeMap<Arc<str>, Tallies>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Stream {
    resource: Arc<str>,
    sent: u64,
    bucket: TokenBucket,
    was_held_back: bool,
    waits_until: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Tallies {
    size: Tally,
    burst: Tally,
    rate: Tally,
}

impl ResponseStreams {
    /// No streams yet.
    pub const fn new(figures: StreamFigures) -> Self {
        Self { figures, streams: BTreeMap::new(), functions: BTreeMap::new(), next: 0 }
    }

    /// A response of a function begins to flow; to be ended with [`ResponseStreams::close`].
    pub fn open(&mut self, now: Instant, resource: &Arc<str>) -> StreamId {
        let id = StreamId(self.next);
        self.next += 1;
        let refill = Refill { tokens: self.figures.rate, period: Duration::from_secs(1) };
        let stream = Stream {
            resource: Arc::clone(resource),
            sent: 0,
            bucket: TokenBucket::new(now, self.figures.burst, refill),
            was_held_back: false,
            waits_until: None,
        };
        self.streams.insert(id, stream);
        if self.functions.len() < FUNCTIONS_MAX {
            self.functions.entry(Arc::clone(resource)).or_default();
        }
        id
    }

    /// How many of `wanted` bytes may go. What may go counts as sent. Cost: logarithmic in the number of streams.
    pub fn send(&mut self, now: Instant, id: StreamId, wanted: u32) -> Passage {
        let Self { figures, streams, functions, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return Passage::Wait(None) };
        let mut tallies = functions.get_mut(&stream.resource);
        if wanted == 0 {
            return Passage::Go(0);
        }
        let left = figures.size.saturating_sub(stream.sent);
        if left == 0 {
            if let Some(tallies) = &mut tallies {
                tallies.size.refuse(now);
            }
            return Passage::Full(Refusal {
                limit: LimitId::ResponseStreamSize,
                resource: Arc::clone(&stream.resource),
                destination: None,
                used: figures.size.saturating_add(1),
                max: figures.size,
                retry_at: None,
            });
        }
        let fits = u32::try_from(left).unwrap_or(u32::MAX).min(wanted);
        let ready = stream.bucket.available(now);
        // A drop at a time would be as many wake-ups as bytes.
        let piece = (figures.rate / PIECES_PER_SECOND).clamp(1, figures.burst.max(1)).min(fits);
        if ready < piece {
            if !std::mem::replace(&mut stream.was_held_back, true)
                && let Some(tallies) = &mut tallies
            {
                tallies.burst.refuse(now);
                tallies.rate.refuse(now);
                tallies.rate.reach(figures.rate.into());
            }
            stream.waits_until = stream.bucket.ready_at(now, piece);
            return Passage::Wait(stream.waits_until);
        }
        stream.waits_until = None;
        let goes = stream.bucket.take_up_to(now, fits);
        stream.sent = stream.sent.saturating_add(goes.into());
        if let Some(tallies) = tallies {
            tallies.size.reach(stream.sent);
            tallies.burst.reach(stream.bucket.spent(now).into());
        }
        Passage::Go(goes)
    }

    /// A response has ended, however it did.
    pub fn close(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }

    /// When the first of the streams that wait may go on.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.streams.values().filter_map(|stream| stream.waits_until).min()
    }

    /// Three rows for each function that has streamed: its largest response, the fullest use of the burst, and the rate,
    /// which is in use while a stream is held back.
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        let mut used: BTreeMap<&Arc<str>, [u64; 3]> = BTreeMap::new();
        for stream in self.streams.values() {
            let [size, burst, rate] = used.entry(&stream.resource).or_default();
            *size = stream.sent.max(*size);
            *burst = u64::from(stream.bucket.spent(now)).max(*burst);
            if stream.waits_until.is_some_and(|until| now < until) {
                *rate = self.figures.rate.into();
            }
        }
        let figures = &self.figures;
        let [size_source, burst_source, rate_source] = &figures.sources;
        let mut rows = Vec::with_capacity(3 * self.functions.len());
        for (resource, tallies) in &self.functions {
            let [size, burst, rate] = used.get(resource).copied().unwrap_or_default();
            let row = |tally: &Tally, limit, used, max, source| tally.row(limit, resource, used, max, source);
            rows.push(row(&tallies.size, LimitId::ResponseStreamSize, size, figures.size, size_source));
            rows.push(row(
                &tallies.burst,
                LimitId::ResponseStreamBurst,
                burst,
                figures.burst.into(),
                burst_source,
            ));
            rows.push(row(
                &tallies.rate,
                LimitId::ResponseStreamRate,
                rate,
                figures.rate.into(),
                rate_source,
            ));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn streams(size: u64, burst: u32, rate: u32) -> ResponseStreams {
        let sources = ["a", "b", "c"].map(Into::into);
        ResponseStreams::new(StreamFigures { size, burst, rate, sources })
    }

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn eras_have_their_figures_and_the_user_may_give_others() {
        let figures = |era: &str, overrides: &[&str]| {
            let mut given = Overrides::default();
            overrides.iter().for_each(|text| given.read(text).unwrap());
            let found = StreamFigures::from_era(&Era::named(era).unwrap(), "us-east-1", &given);
            (found.size, found.burst, found.rate)
        };
        assert_eq!(figures("today", &[]), (200 << 20, 6 << 20, 2 << 20));
        assert_eq!(figures("2022-12", &[]), (20 << 20, 6 << 20, 2 << 20));
        assert_eq!(figures("2019-05", &[]), (20 << 20, 6 << 20, 2 << 20));
        let given = ["lambda.response-stream-size=9", "lambda.response-stream-rate=5000000000"];
        assert_eq!(figures("today", &given), (9, 6 << 20, u32::MAX));
    }

    #[test]
    fn the_first_bytes_are_not_held_back_and_the_rest_flows_at_the_rate() {
        let mut streams = streams(1_000_000, 6_000, 2_000);
        let id = streams.open(Instant::START, &"cart".into());
        assert_eq!(streams.send(ms(0), id, 10_000), Passage::Go(6_000));
        assert_eq!(streams.send(ms(0), id, 4_000), Passage::Wait(Some(ms(20))));
        assert_eq!(streams.next_deadline(), Some(ms(20)));
        assert_eq!(streams.send(ms(20), id, 4_000), Passage::Go(40));
        assert_eq!((streams.next_deadline(), streams.send(ms(1_020), id, 4_000)), (None, Passage::Go(2_000)));
        assert_eq!(streams.send(ms(1_020), id, 7), Passage::Wait(Some(Instant::from_nanos(1_023_500_000))));
        let rows = streams.board(ms(1_020));
        let row = |limit| rows.iter().find(|row| row.id == limit).unwrap();
        let size = row(LimitId::ResponseStreamSize);
        assert_eq!((size.used, size.peak, size.refused, &*size.resource), (8_040, 8_040, 0, "cart"));
        let rate = row(LimitId::ResponseStreamRate);
        assert_eq!((rate.used, rate.peak, rate.refused, rate.max), (2_000, 2_000, 1, 2_000));
        assert_eq!(row(LimitId::ResponseStreamBurst).peak, 6_000);
        streams.close(id);
        let rows = streams.board(ms(1_020));
        assert!(rows.len() == 3 && rows.iter().all(|row| row.used == 0 && row.peak > 0));
        assert_eq!(streams.send(ms(9_999), id, 1), Passage::Wait(None), "it is closed");
    }

    #[test]
    fn the_last_allowed_byte_goes_and_the_next_is_refused_by_name() {
        let mut streams = streams(100, 1_000, 1_000);
        let id = streams.open(Instant::START, &"cart".into());
        assert_eq!(streams.send(ms(0), id, 99), Passage::Go(99));
        assert_eq!(streams.send(ms(0), id, 5), Passage::Go(1));
        assert_eq!(streams.send(ms(0), id, 0), Passage::Go(0), "ending here is fine");
        let Passage::Full(refusal) = streams.send(ms(0), id, 4) else { panic!("it went") };
        assert_eq!(refusal.to_string(), "lambda.response-stream-size of cart: 101 of 100 bytes");
        assert_eq!(streams.board(ms(0))[0].refused, 1);
    }

    #[test]
    fn without_a_rate_nothing_follows_the_burst() {
        let mut streams = streams(1_000, 10, 0);
        let id = streams.open(Instant::START, &"cart".into());
        assert_eq!(streams.send(ms(0), id, 50), Passage::Go(10));
        assert_eq!((streams.send(ms(9), id, 1), streams.next_deadline()), (Passage::Wait(None), None));
    }

    proptest! {
        #[test]
        fn a_response_that_is_there_at_once_takes_the_time_that_is_said(
            bytes in 0u64..300_000, burst in 1u32..60_000, rate in 1u32..60_000,
        ) {
            let mut streams = streams(u64::MAX, burst, rate);
            let said = streams.figures.time_of(bytes);
            prop_assert_eq!(streams.figures.gone_after(bytes, said), bytes);
            let early = streams.figures.gone_after(bytes, said / 2);
            prop_assert!(streams.figures.time_of(early) <= said / 2 && early <= bytes);
            let id = streams.open(Instant::START, &"cart".into());
            let (mut now, mut left, mut waits) = (Instant::START, bytes, 0);
            while left > 0 {
                match streams.send(now, id, left as u32) {
                    Passage::Go(gone) => left -= u64::from(gone),
                    Passage::Wait(until) => (now, waits) = (until.unwrap(), waits + 1),
                    Passage::Full(_) => unreachable!("any size"),
                }
            }
            // Each wait ends at a whole nanosecond.
            let took = now - Instant::START;
            prop_assert!(took >= said && took <= said + Duration::from_nanos(waits), "{took:?}, not {said:?}");
        }

        #[test]
        fn no_stream_passes_its_size_or_outruns_its_bucket(
            size in 1u64..100_000, burst in 1u32..20_000, rate in 1u32..20_000,
            steps in prop::collection::vec((0u64..400, 1u32..9_000), 1..200),
        ) {
            let mut streams = streams(size, burst, rate);
            let id = streams.open(Instant::START, &"cart".into());
            let (mut now, mut sent) = (0, 0_u64);
            for (wait, wanted) in steps {
                now += wait;
                match streams.send(ms(now), id, wanted) {
                    Passage::Go(bytes) => {
                        prop_assert!(bytes > 0 && bytes <= wanted);
                        sent += u64::from(bytes);
                    }
                    Passage::Wait(until) => {
                        let until = until.unwrap();
                        prop_assert!(until > ms(now));
                        // It goes exactly when it says.
                        let before = Instant::from_nanos(until.as_nanos() - 1);
                        prop_assert!(matches!(streams.clone().send(before, id, wanted), Passage::Wait(_)));
                        prop_assert!(matches!(streams.clone().send(until, id, wanted), Passage::Go(_)));
                    }
                    Passage::Full(_) => prop_assert_eq!(sent, size),
                }
                prop_assert!(sent <= size);
                prop_assert!(sent <= u64::from(burst) + now * u64::from(rate) / 1_000);
            }
        }
    }
}
