//! `dns.packets`: lookups at the VPC's resolver.
//!
//! Source: VPC User Guide, "DNS attributes for your VPC": the resolver takes 1,024 packets a second from each network
//! interface, which cannot be raised; published. What is above is dropped without an answer, and the client asks again
//! after its own time-out (resolv.conf: 5 s, two attempts in all, then the name does not resolve). Functions' queries are
//! answered on Lambda's side of the shared interface (in the field names resolved while connects hung), so the interface that
//! counts is the environment's own there (assumed).
//!
//! A full second's packets may come at once. The level is kept in billionths of a packet, so nothing is rounded. Nothing
//! happens here by itself, so there is no deadline. Every call is O(1) but `row`; an interface takes 16 bytes.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// One packet, in the unit of levels: a nanosecond gives back as many units as packets go in a second.
const PACKET: u64 = 1_000_000_000;

/// How long a client waits for an answer before it asks again (resolv.conf, `timeout`).
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a client asks in all (resolv.conf, `attempts`).
pub const LOOKUP_ATTEMPTS: u8 = 2;
/// Packets of one lookup: for an IPv4 and for an IPv6 address, as libraries ask by default.
pub const LOOKUP_PACKETS: u32 = 2;

/// The resolver, and what each interface has sent to it.
#[derive(Clone, Debug)]
pub struct Resolver {
    packets_per_second: u32,
    name: Arc<str>,
    now: Instant,
    /// By the caller's index.
    interfaces: Vec<Sent>,
    tally: Tally,
}

/// What an interface has sent lately.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    at: Instant,
    level: u64,
}

impl Resolver {
    /// A resolver that takes so many packets a second from each interface.
    pub fn new(packets_per_second: u32) -> Self {
        let (now, tally) = (Instant::START, Tally::default());
        Self { packets_per_second, name: "resolver".into(), now, interfaces: Vec::new(), tally }
    }

    /// The interface with this index is a new one.
    pub fn reset(&mut self, interface: u32) {
        if let Some(sent) = self.interfaces.get_mut(interface as usize) {
            *sent = Sent::default();
        }
    }

    /// The interface with this index (small ones, as each takes memory) looks up `wanted` names at once. How many are
    /// answered; the others get no answer.
    ///
    /// # Errors
    /// Beside that number, the refusal of the others with the figures.
    #[inline]
    pub fn lookup(&mut self, now: Instant, interface: u32, wanted: u32) -> (u32, Option<Refusal>) {
        self.now = self.now.max(now);
        let index = interface as usize;
        if index >= self.interfaces.len() {
            self.interfaces.resize(index + 1, Sent::default());
        }
        let full = u64::from(self.packets_per_second) * PACKET;
        let sent = &mut self.interfaces[index];
        let given_back = nanoseconds(self.now, sent.at).saturating_mul(u64::from(self.packets_per_second));
        let level = sent.level.saturating_sub(given_back);
        let price = u64::from(LOOKUP_PACKETS) * PACKET;
        let answered = u32::try_from((full - level) / price).unwrap_or(u32::MAX).min(wanted);
        *sent = Sent { at: self.now, level: level + u64::from(answered) * price };
        let used = sent.level.div_ceil(PACKET);
        self.tally.reach(used);
        if answered == wanted {
            return (answered, None);
        }
        for _ in answered..wanted {
            self.tally.refuse(self.now);
        }
        let refusal = Refusal {
            limit: LimitId::DnsPackets,
            resource: Arc::clone(&self.name),
            destination: None,
            used,
            max: u64::from(self.packets_per_second),
            retry_at: Some(self.now + LOOKUP_TIMEOUT),
        };
        (answered, Some(refusal))
    }

    /// The interface with this index sends one packet: the refusal says that nobody answers it.
    pub fn packet(&mut self, now: Instant, interface: u32) -> Option<Refusal> {
        self.now = self.now.max(now);
        let index = interface as usize;
        if index >= self.interfaces.len() {
            self.interfaces.resize(index + 1, Sent::default());
        }
        let rate = u64::from(self.packets_per_second);
        let sent = &mut self.interfaces[index];
        let level = sent.level.saturating_sub(nanoseconds(self.now, sent.at).saturating_mul(rate));
        let fits = level + PACKET <= rate * PACKET;
        *sent = Sent { at: self.now, level: level + if fits { PACKET } else { 0 } };
        let used = sent.level.div_ceil(PACKET);
        self.tally.reach(used);
        if fits {
            return None;
        }
        self.tally.refuse(self.now);
        Some(Refusal {
            limit: LimitId::DnsPackets,
            resource: Arc::clone(&self.name),
            destination: None,
            used,
            max: rate,
            retry_at: Some(self.now + LOOKUP_TIMEOUT),
        })
    }

    /// The board's row: used is what the busiest interface has sent lately. O(interfaces).
    pub fn row(&self, now: Instant, source: &Arc<str>) -> LimitRow {
        let rate = u64::from(self.packets_per_second);
        let now = now.max(self.now);
        let levels = self.interfaces.iter().map(|sent| {
            let given_back = nanoseconds(now, sent.at).saturating_mul(rate);
            sent.level.saturating_sub(given_back).div_ceil(PACKET)
        });
        self.tally.row(LimitId::DnsPackets, &self.name, levels.max().unwrap_or(0), rate, source)
    }
}

fn nanoseconds(now: Instant, since: Instant) -> u64 {
    now.as_nanos().saturating_sub(since.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_of_a_thousand_and_twenty_four_names_resolve_at_once() {
        let mut resolver = Resolver::new(1024);
        let (answered, refusal) = resolver.lookup(Instant::START, 0, 600);
        assert_eq!(answered, 512);
        assert_eq!(refusal.unwrap().to_string(), "dns.packets of resolver: 1024 of 1024 packets/s");
        assert_eq!(resolver.lookup(Instant::from_millis(500), 0, 600).0, 256);
        assert_eq!(resolver.lookup(Instant::from_millis(500), 1, 600).0, 512, "another interface");
        resolver.reset(0);
        assert_eq!(resolver.lookup(Instant::from_millis(500), 0, 512), (512, None));
        let row = resolver.row(Instant::from_millis(500), &"test".into());
        assert_eq!((row.used, row.peak, row.max, row.refused), (1024, 1024, 1024, 88 + 344 + 88));
        assert_eq!(resolver.row(Instant::from_secs(2), &"test".into()).used, 0);
    }

    #[test]
    fn packets_one_by_one_are_as_many_as_in_lookups() {
        let mut resolver = Resolver::new(1024);
        assert!((0..1024).all(|_| resolver.packet(Instant::START, 0).is_none()));
        let refusal = resolver.packet(Instant::START, 0).unwrap();
        assert_eq!(refusal.to_string(), "dns.packets of resolver: 1024 of 1024 packets/s");
        assert!(resolver.packet(Instant::START, 1).is_none(), "another interface");
        assert!((0..512).all(|_| resolver.packet(Instant::from_millis(500), 0).is_none()));
        assert!(resolver.packet(Instant::from_millis(500), 0).is_some());
    }

    proptest! {
        #[test]
        fn no_window_answers_more_than_a_second_s_worth_and_its_length_s(
            rate in 1u32..3000,
            steps in prop::collection::vec((0u64..400_000_000, 0u32..2000), 1..100),
        ) {
            let mut resolver = Resolver::new(rate);
            let (mut now, mut seen) = (0, Vec::new());
            for (wait, wanted) in steps {
                now += wait;
                let (answered, refusal) = resolver.lookup(Instant::from_nanos(now), 3, wanted);
                prop_assert_eq!(refusal.is_some(), answered < wanted);
                seen.push((now, u128::from(answered * LOOKUP_PACKETS)));
                let row = resolver.row(Instant::from_nanos(now), &"test".into());
                prop_assert!(row.used <= row.peak && row.peak <= row.max);
            }
            for first in 0..seen.len() {
                let mut packets = 0;
                for (at, count) in &seen[first..] {
                    packets += count;
                    let length = u128::from(at - seen[first].0);
                    prop_assert!(packets * 1_000_000_000 <= u128::from(rate) * (1_000_000_000 + length));
                }
            }
        }
    }
}
