//! `eni.connections`: connections through the network interfaces that functions share.
//!
//! Source: AWS Lambda Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC", section
//! "Understanding Hyperplane Elastic Network Interfaces": one interface for each combination of a subnet and a set of
//! security groups, shared by every function with that combination, 65,000 connections each; published. The guide also
//! says that Lambda adds interfaces with traffic. In the field it did not within a burst (S0: connects were dropped
//! without a word and without a metric), so an interface grows here only where a delay for it is given.
//!
//! A connection is forgotten when it is silent for the idle time-out. Every call is O(1), or amortised over the
//! connections that expire; growth is O(log interfaces).

use crate::leases::{LeaseId, Leases};
use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What holds for every interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceFigures {
    /// Connections through one interface.
    pub connections: u32,
    /// How long after it was first full another interface stands beside it; `None`: never.
    pub growth_after: Option<Duration>,
    /// Silence after which a connection is forgotten.
    pub idle_timeout: Duration,
}

/// One combination of a subnet and security groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(u32);

impl InterfaceId {
    /// Its place in the order in which they were added.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All shared interfaces of the account.
#[derive(Clone, Debug)]
pub struct Interfaces {
    figures: InterfaceFigures,
    now: Instant,
    groups: Vec<Group>,
    leases: Leases<u32>,
    /// Which combination gains an interface when.
    growing: BTreeSet<(Instant, u32)>,
}

#[derive(Clone, Debug)]
struct Group {
    name: Arc<str>,
    /// How many interfaces there are.
    interfaces: u32,
    used: u32,
    grows_at: Option<Instant>,
    tally: Tally,
}

impl Interfaces {
    /// No interface yet.
    pub fn new(figures: InterfaceFigures) -> Self {
        Self {
            figures,
            now: Instant::START,
            groups: Vec::new(),
            leases: Leases::default(),
            growing: BTreeSet::new(),
        }
    }

    /// Adds the interface of a combination. The caller adds each combination once.
    pub fn add(&mut self, name: Arc<str>) -> InterfaceId {
        let id = u32::try_from(self.groups.len()).expect("fewer interfaces than 2^32");
        self.groups.push(Group { name, interfaces: 1, used: 0, grows_at: None, tally: Tally::default() });
        InterfaceId(id)
    }

    /// Whether one more connection fits. Changes nothing but the count of refusals.
    ///
    /// # Errors
    /// The refusal names the interface and its figures.
    #[inline]
    pub fn check(&mut self, now: Instant, id: InterfaceId) -> Result<(), Refusal> {
        let now = self.clock(now);
        let group = &mut self.groups[id.index()];
        let max = capacity(group, &self.figures);
        if u64::from(group.used) < max {
            return Ok(());
        }
        group.tally.refuse(now);
        Err(Refusal {
            limit: LimitId::EniConnections,
            resource: Arc::clone(&group.name),
            destination: None,
            used: u64::from(group.used),
            max,
            retry_at: group.grows_at,
        })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// As [`Self::check`].
    #[inline]
    pub fn open(&mut self, now: Instant, id: InterfaceId) -> Result<LeaseId, Refusal> {
        self.check(now, id)?;
        let now = self.now;
        let group = &mut self.groups[id.index()];
        group.used += 1;
        group.tally.reach(u64::from(group.used));
        let full = u64::from(group.used) >= capacity(group, &self.figures);
        if let Some(delay) = self.figures.growth_after.filter(|_| full && group.grows_at.is_none()) {
            group.grows_at = Some(now + delay);
            self.growing.insert((now + delay, id.0));
        }
        Ok(self.leases.open(now, id.0))
    }

    /// A packet of the connection passes. Whether the interface still knows it.
    #[inline]
    pub fn touch(&mut self, now: Instant, lease: LeaseId) -> bool {
        let now = self.clock(now);
        self.leases.touch(now, lease)
    }

    /// The connection is closed. Whether the interface still knew it.
    #[inline]
    pub fn close(&mut self, now: Instant, lease: LeaseId) -> bool {
        self.clock(now);
        let Some(group) = self.leases.close(lease) else { return false };
        self.groups[group as usize].used -= 1;
        true
    }

    /// When `advance` has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let idle = self.leases.oldest_since().map(|since| since + self.figures.idle_timeout);
        let growth = self.growing.first().map(|(at, _)| *at);
        [idle, growth].into_iter().flatten().min()
    }

    /// Forgets connections that were silent for too long, and adds interfaces that are due.
    #[inline]
    pub fn advance(&mut self, now: Instant) {
        self.clock(now);
    }

    /// Connections through the interfaces of one combination.
    pub fn used(&self, id: InterfaceId) -> u32 {
        self.groups[id.index()].used
    }

    /// The combination's name.
    pub fn name(&self, id: InterfaceId) -> &Arc<str> {
        &self.groups[id.index()].name
    }

    /// Every combination, in the order in which they were added.
    pub fn ids(&self) -> impl Iterator<Item = InterfaceId> + use<> {
        (0..self.groups.len() as u32).map(InterfaceId)
    }

    /// How many interfaces there are in all.
    pub fn count(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.interfaces)).sum()
    }

    /// The board's rows, one for each combination.
    pub fn rows(&self, source: &Arc<str>) -> Vec<LimitRow> {
        let rows = self.groups.iter().map(|group| {
            let max = capacity(group, &self.figures);
            group.tally.row(LimitId::EniConnections, &group.name, u64::from(group.used), max, source)
        });
        rows.collect()
    }

    /// What is due by `now` happens first, so that a late driver decides as a punctual one.
    #[inline]
    fn clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        if self.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.settle();
        }
        self.now
    }

    fn settle(&mut self) {
        while let Some((at, id)) = self.growing.first().copied().filter(|(at, _)| *at <= self.now) {
            self.growing.remove(&(at, id));
            let group = &mut self.groups[id as usize];
            group.interfaces = group.interfaces.saturating_add(1);
            group.grows_at = None;
        }
        while let Some(since) = self.leases.oldest_since() {
            if since + self.figures.idle_timeout > self.now {
                break;
            }
            if let Some(group) = self.leases.expire(since) {
                self.groups[group as usize].used -= 1;
            }
        }
    }
}

fn capacity(group: &Group, figures: &InterfaceFigures) -> u64 {
    u64::from(group.interfaces) * u64::from(figures.connections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: Duration = Duration::from_secs(350);

    fn interfaces(connections: u32, growth_after: Option<Duration>) -> (Interfaces, InterfaceId) {
        let mut interfaces =
            Interfaces::new(InterfaceFigures { connections, growth_after, idle_timeout: IDLE });
        let id = interfaces.add("eni-a".into());
        (interfaces, id)
    }

    #[test]
    fn sixty_five_thousand_fit_and_no_more() {
        let (mut all, id) = interfaces(65_000, None);
        let opened = (0..70_000).filter(|_| all.open(Instant::START, id).is_ok()).count();
        let rows = all.rows(&"test".into());
        assert_eq!((opened, rows[0].used, rows[0].peak, rows[0].refused), (65_000, 65_000, 65_000, 5000));
        let refusal = all.check(Instant::START, id).unwrap_err();
        assert_eq!(refusal.to_string(), "eni.connections of eni-a: 65000 of 65000 connections");
        assert_eq!(all.count(), 1, "it does not grow by itself");
    }

    #[test]
    fn another_combination_has_room_of_its_own() {
        let (mut all, first) = interfaces(1, None);
        let second = all.add("eni-b".into());
        assert!(all.open(Instant::START, first).is_ok() && all.open(Instant::START, first).is_err());
        assert!(all.open(Instant::START, second).is_ok());
        assert_eq!((all.used(first), all.used(second), all.count()), (1, 1, 2));
    }

    #[test]
    fn silence_frees_a_connection_after_the_idle_time_out() {
        let (mut all, id) = interfaces(1, None);
        let lease = all.open(Instant::START, id).unwrap();
        assert!(all.touch(Instant::from_secs(100), lease));
        assert_eq!(all.next_deadline(), Some(Instant::from_secs(450)));
        assert!(all.open(Instant::from_nanos(450_000_000_000 - 1), id).is_err());
        assert!(all.open(Instant::from_secs(450), id).is_ok(), "a late driver finds it free");
        assert!(!all.touch(Instant::from_secs(450), lease) && !all.close(Instant::from_secs(450), lease));
    }

    #[test]
    fn with_a_delay_it_grows_by_one_interface_at_a_time() {
        let (mut all, id) = interfaces(2, Some(Duration::from_secs(60)));
        let mut open = |secs| (0..9).filter(|_| all.open(Instant::from_secs(secs), id).is_ok()).count();
        assert_eq!([open(0), open(59), open(60), open(61), open(120)], [2, 0, 2, 0, 2]);
        assert_eq!((all.count(), all.rows(&"test".into())[0].max), (3, 6));
    }

    proptest! {
        #[test]
        fn never_above_capacity_and_every_connection_is_returned_once(
            connections in 0u32..6, growth in prop::option::of(1u64..200),
            steps in prop::collection::vec((0u8..4, any::<usize>(), 0u64..120), 1..200),
        ) {
            let (mut all, first) = interfaces(connections, growth.map(Duration::from_secs));
            let ids = [first, all.add("eni-b".into())];
            // The reference: which interface, last heard, lease.
            let mut open: Vec<(InterfaceId, u64, LeaseId)> = Vec::new();
            let mut now = 0;
            for (kind, index, wait) in steps {
                let at = Instant::from_secs(now);
                match kind {
                    0 | 1 => {
                        if let Ok(lease) = all.open(at, ids[index % 2]) {
                            open.push((ids[index % 2], now, lease));
                        }
                    }
                    2 if !open.is_empty() => {
                        let (_, _, lease) = open.remove(index % open.len());
                        prop_assert!(all.close(at, lease));
                        prop_assert!(!all.close(at, lease));
                    }
                    3 if !open.is_empty() => {
                        let index = index % open.len();
                        prop_assert!(all.touch(at, open[index].2));
                        open[index].1 = now;
                    }
                    _ => {}
                }
                now += wait;
                all.advance(Instant::from_secs(now));
                open.retain(|(_, heard, _)| heard + 350 > now);
                for (id, row) in ids.iter().zip(all.rows(&"test".into())) {
                    let expected = open.iter().filter(|(of, ..)| of == id).count();
                    prop_assert_eq!(all.used(*id) as usize, expected);
                    prop_assert!(row.used <= row.peak && row.peak <= row.max);
                    prop_assert!(growth.is_some() || row.max == u64::from(connections));
                }
            }
        }
    }
}
