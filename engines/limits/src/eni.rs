//! `eni.connections`: connections through the network interfaces that functions share.
//!
//! Source: AWS Lambda Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC", section
//! "Understanding Hyperplane Elastic Network Interfaces": one interface for each combination of a subnet and a set of
//! security groups, shared by every function with that combination, 65,000 connections each; published. The guide also
//! says that Lambda adds interfaces with traffic. In the field it did not within a burst (S0: connects were dropped
//! without a word and without a metric), so an interface grows here only where a delay for it is given.
//! An interface is made when a function is deployed or attached to a VPC, never at a cold start; it needs room in the
//! quotas and in its subnet (see [`eni_room`](crate::eni_room)), and so does each one that is added to it.
//!
//! A connection is forgotten when it is silent for the idle time-out. Every call is O(1), or amortised over the
//! connections that expire; growth is O(log interfaces).

use crate::eni_room::{InterfaceRoom, Quotas, SubnetId};
use crate::leases::{LeaseId, Leases};
use crate::quiet::Quiet;
use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What finds no room for another interface tries again after its delay, but not sooner than this.
const RETRY_MIN: Duration = Duration::from_secs(1);

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
    room: InterfaceRoom,
    /// Which combination gains an interface when.
    growing: BTreeSet<(Instant, u32)>,
    quiet: Quiet,
}

#[derive(Clone, Debug)]
struct Group {
    name: Arc<str>,
    /// Where its interfaces need room; `None`: nowhere.
    subnet: Option<SubnetId>,
    /// How many interfaces there are.
    interfaces: u32,
    used: u32,
    /// Environments behind it.
    environments: u32,
    grows_at: Option<Instant>,
    /// No function has it any more: it has room and a row only while somebody is behind it.
    retired: bool,
    /// For how many interfaces it has room.
    room: u32,
    /// What its interface found no room in: why nothing goes through it.
    without: Option<Refusal>,
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
            room: InterfaceRoom::new(Quotas::default()),
            growing: BTreeSet::new(),
            quiet: Quiet::default(),
        }
    }

    /// The same with room only as far as `room` has it.
    pub fn within(self, room: InterfaceRoom) -> Self {
        Self { room, ..self }
    }

    /// Adds the interface of a combination, which needs no room. The caller adds each combination once.
    pub fn add(&mut self, name: Arc<str>) -> InterfaceId {
        self.push(name, None, 1)
    }

    /// A deployment makes the interface of a combination in `subnet`, which takes some time: until
    /// [`Self::ready_at`] functions that need it are `Pending`. The caller makes each combination once.
    ///
    /// The refusal beside the id names what it found no room in: nothing goes through it then, and the deployment of its
    /// functions has failed.
    pub fn create(
        &mut self,
        now: Instant,
        name: Arc<str>,
        subnet: SubnetId,
        takes: Duration,
    ) -> (InterfaceId, Option<Refusal>) {
        let now = self.clock(now);
        if let Err(refusal) = self.room.take(now, subnet, 1) {
            let id = self.push(name, None, 0);
            self.groups[id.index()].without = Some(refusal.clone());
            return (id, Some(refusal));
        }
        let id = self.push(name, Some(subnet), u32::from(takes.is_zero()));
        self.groups[id.index()].room = 1;
        if !takes.is_zero() {
            self.groups[id.index()].grows_at = Some(now + takes);
            self.growing.insert((now + takes, id.0));
            self.quiet.end();
        }
        (id, None)
    }

    /// When an interface that is being made will be there; `None`: it is there, or never will be.
    pub fn ready_at(&self, id: InterfaceId) -> Option<Instant> {
        let group = &self.groups[id.index()];
        group.grows_at.filter(|_| group.interfaces == 0)
    }

    fn push(&mut self, name: Arc<str>, subnet: Option<SubnetId>, interfaces: u32) -> InterfaceId {
        let id = u32::try_from(self.groups.len()).expect("fewer interfaces than 2^32");
        let tally = Tally::default();
        self.groups.push(Group {
            name,
            subnet,
            interfaces,
            used: 0,
            environments: 0,
            grows_at: None,
            retired: false,
            room: 0,
            without: None,
            tally,
        });
        InterfaceId(id)
    }

    /// Says whether a combination that was made in `subnet` is still wanted. One that is not keeps its room until nobody is
    /// behind it (AWS deletes an interface when nothing uses it); one that is wanted again, or had found no room, looks for it.
    pub fn keep(&mut self, now: Instant, id: InterfaceId, subnet: SubnetId, wanted: bool) -> Option<Refusal> {
        let now = self.clock(now);
        let group = &mut self.groups[id.index()];
        let without = group.interfaces == 0 && group.grows_at.is_none();
        if !wanted {
            if let Some(at) = group.grows_at.filter(|_| group.interfaces == 0) {
                group.grows_at = None;
                self.growing.remove(&(at, id.0));
            }
            group.retired = true;
            self.leave(id);
            return None;
        }
        let belongs = group.subnet.is_some() || without;
        if belongs && group.room == 0 {
            let room = group.interfaces.max(1);
            if let Err(refusal) = self.room.take(now, subnet, u64::from(room)) {
                // It came back and found no room: nothing new goes through it, and nothing grows.
                (group.interfaces, group.subnet, group.retired) = (0, None, false);
                if let Some(at) = group.grows_at.take() {
                    self.growing.remove(&(at, id.0));
                }
                group.without = Some(refusal.clone());
                return Some(refusal);
            }
            (group.room, group.subnet, group.without) = (room, Some(subnet), None);
        }
        if without {
            // Also one whose making was broken off, and that kept its room.
            group.interfaces = 1;
        }
        group.retired = false;
        None
    }

    /// Gives back the room of a combination that nobody wants and nobody is behind.
    fn leave(&mut self, id: InterfaceId) {
        let group = &mut self.groups[id.index()];
        if let Some(subnet) = group.subnet.filter(|_| group.retired && !is_in_use(group)) {
            self.room.give_back(subnet, std::mem::take(&mut group.room).into());
        }
    }

    /// An environment is behind a combination's interfaces from now on.
    pub fn enter(&mut self, id: InterfaceId) {
        self.groups[id.index()].environments += 1;
    }

    /// One that [entered](Self::enter) is gone. Its connections may stay.
    pub fn exit(&mut self, id: InterfaceId) {
        self.groups[id.index()].environments -= 1;
        self.leave(id);
    }

    /// Whether environments are behind a combination's interfaces, or connections go through them.
    pub fn is_in_use(&self, id: InterfaceId) -> bool {
        is_in_use(&self.groups[id.index()])
    }

    /// Connections of every combination that is wanted or in use.
    pub fn in_use(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let groups = self.groups.iter().filter(|group| is_shown(group));
        groups.map(|group| (&group.name, u64::from(group.used)))
    }

    /// Whether one more connection fits. Changes nothing but the count of refusals.
    ///
    /// # Errors
    /// The refusal names the interface and its figures, or what an interface that was never made found no room in.
    #[inline]
    pub fn check(&mut self, now: Instant, id: InterfaceId) -> Result<(), Refusal> {
        let now = self.clock(now);
        let group = &mut self.groups[id.index()];
        let max = capacity(group, &self.figures);
        if u64::from(group.used) < max {
            return Ok(());
        }
        if let Some(without) = &group.without {
            return Err(without.clone());
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
        self.take(now, id)?;
        Ok(self.leases.open(self.now, id.0))
    }

    /// As [`Self::open`], but without a lease: who took the connection keeps its time, and gives it back with
    /// [`Self::give_back`].
    ///
    /// # Errors
    /// As [`Self::check`].
    #[inline]
    pub fn take(&mut self, now: Instant, id: InterfaceId) -> Result<(), Refusal> {
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
        Ok(())
    }

    /// Ends what [`Self::take`] began.
    #[inline]
    pub fn give_back(&mut self, now: Instant, id: InterfaceId) {
        self.clock(now);
        self.end(id.0);
    }

    /// A connection is no more.
    #[inline]
    fn end(&mut self, id: u32) {
        let group = &mut self.groups[id as usize];
        group.used -= 1;
        if group.retired {
            self.leave(InterfaceId(id));
        }
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
        self.end(group);
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
        self.groups.iter().filter(|group| !group.retired).map(|group| u64::from(group.interfaces)).sum()
    }

    /// Where the interfaces need room.
    pub const fn room_mut(&mut self) -> &mut InterfaceRoom {
        &mut self.room
    }

    /// The board's rows of the room for interfaces.
    pub fn room_rows(&self) -> Vec<LimitRow> {
        self.room.rows()
    }

    /// The board's rows, one for each combination.
    pub fn rows(&self, source: &Arc<str>) -> Vec<LimitRow> {
        let rows = self.groups.iter().filter(|group| is_shown(group)).map(|group| {
            let max = capacity(group, &self.figures);
            group.tally.row(LimitId::EniConnections, &group.name, u64::from(group.used), max, source)
        });
        rows.collect()
    }

    /// What is due by `now` happens first, so that a late driver decides as a punctual one.
    #[inline]
    fn clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        if !self.quiet.holds(self.now) {
            self.settle();
            let InterfaceFigures { idle_timeout, growth_after, .. } = self.figures;
            let soonest = growth_after.map_or(idle_timeout, |after| after.min(idle_timeout));
            self.quiet.renew(self.now, self.next_deadline(), soonest);
        }
        self.now
    }

    fn settle(&mut self) {
        while let Some((at, id)) = self.growing.first().copied().filter(|(at, _)| *at <= self.now) {
            self.growing.remove(&(at, id));
            let group = &mut self.groups[id as usize];
            if group.retired {
                group.grows_at = None;
                continue;
            }
            // The first one's room was taken when its making began.
            if let Some(subnet) = group.subnet.filter(|_| group.interfaces > 0)
                && self.room.take(at, subnet, 1).is_err()
            {
                let again = at + self.figures.growth_after.unwrap_or_default().max(RETRY_MIN);
                group.grows_at = Some(again);
                self.growing.insert((again, id));
                continue;
            }
            group.room = group.room.saturating_add(u32::from(group.subnet.is_some() && group.interfaces > 0));
            group.interfaces = group.interfaces.saturating_add(1);
            group.grows_at = None;
        }
        while let Some(since) = self.leases.oldest_since() {
            if since + self.figures.idle_timeout > self.now {
                break;
            }
            if let Some(group) = self.leases.expire(since) {
                self.end(group);
            }
        }
    }
}

const fn is_in_use(group: &Group) -> bool {
    group.used > 0 || group.environments > 0
}

const fn is_shown(group: &Group) -> bool {
    !group.retired || is_in_use(group)
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
    fn an_interface_in_the_making_gives_back_what_it_took_and_one_that_finds_no_room_again_passes_nothing() {
        let mut room = InterfaceRoom::new(Quotas::default());
        let vpc = room.add_vpc("Vpc".into());
        let subnet = room.add_subnet(vpc, "SubnetA".into(), Some(2), 0);
        let (all, _) = interfaces(9, Some(Duration::from_secs(5)));
        let (mut all, mut now) = (all.within(room), Instant::START);
        let used = |all: &Interfaces| {
            let rows = all.room_rows();
            rows.iter().find(|row| row.id == LimitId::SubnetAddresses).unwrap().used
        };
        let (one, _) = all.create(now, "one".into(), subnet, Duration::from_secs(60));
        assert!((used(&all), all.ready_at(one).is_some()) == (1, true));
        all.keep(now, one, subnet, false);
        assert_eq!((used(&all), all.next_deadline()), (0, None));
        assert!(all.keep(now, one, subnet, true).is_none());
        now += Duration::from_secs(90);
        all.advance(now);
        assert_eq!((used(&all), all.count()), (1, 2), "one, and the one that needs no room");
        // It goes, and comes back to a full subnet.
        all.keep(now, one, subnet, false);
        for name in ["other", "third"] {
            assert!(all.create(now, name.into(), subnet, Duration::ZERO).1.is_none());
        }
        assert_eq!(all.keep(now, one, subnet, true).unwrap().limit, LimitId::SubnetAddresses);
        let refusal = all.check(now, one).unwrap_err();
        assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::SubnetAddresses, 2, 2));
        now += Duration::from_secs(90);
        all.advance(now);
        assert_eq!((used(&all), all.check(now, one).is_err()), (2, true));
        all.keep(now, one, subnet, false);
        assert_eq!(used(&all), 2, "it had nothing to give back");
    }

    #[test]
    fn an_interface_that_nobody_wants_keeps_its_room_until_its_last_environment_and_connection_end() {
        let mut room = InterfaceRoom::new(Quotas::default());
        let vpc = room.add_vpc("Vpc".into());
        let subnet = room.add_subnet(vpc, "SubnetA".into(), Some(3), 0);
        let (all, _) = interfaces(1, Some(Duration::from_secs(5)));
        let (mut all, now) = (all.within(room), Instant::START);
        let used = |all: &Interfaces| {
            let rows = all.room_rows();
            rows.iter().find(|row| row.id == LimitId::SubnetAddresses).unwrap().used
        };
        let (one, _) = all.create(now, "one".into(), subnet, Duration::ZERO);
        let leases = [0, 5].map(|second| all.open(Instant::from_secs(second), one).unwrap());
        let now = Instant::from_secs(6);
        assert_eq!(used(&all), 2, "it has grown");
        all.enter(one);
        for _ in 0..2 {
            assert!(all.keep(now, one, subnet, false).is_none());
            assert_eq!(used(&all), 2);
        }
        // It comes back to the room that it has.
        assert!(all.keep(now, one, subnet, true).is_none());
        assert!(all.keep(now, one, subnet, false).is_none() && used(&all) == 2);
        all.close(now, leases[0]);
        all.exit(one);
        assert!(all.is_in_use(one) && used(&all) == 2);
        // Silence ends the last one.
        all.advance(Instant::from_secs(355));
        assert!(!all.is_in_use(one) && used(&all) == 0);
        assert_eq!(all.in_use().count(), 1, "the one that needs no room");
        assert!(all.keep(Instant::from_secs(355), one, subnet, true).is_none());
        assert_eq!((used(&all), all.count()), (2, 3));
    }

    #[test]
    fn an_interface_that_was_being_made_is_there_when_it_is_wanted_again() {
        let mut room = InterfaceRoom::new(Quotas::default());
        let vpc = room.add_vpc("Vpc".into());
        let subnet = room.add_subnet(vpc, "SubnetA".into(), Some(1), 0);
        let (all, _) = interfaces(1, None);
        let (mut all, now) = (all.within(room), Instant::START);
        let (one, _) = all.create(now, "one".into(), subnet, Duration::from_secs(90));
        all.enter(one);
        assert!(all.keep(now, one, subnet, true).is_none() && all.ready_at(one).is_some());
        all.keep(now, one, subnet, false);
        assert!(all.keep(now, one, subnet, true).is_none() && all.check(now, one).is_ok());
    }

    #[test]
    fn the_room_of_an_interface_that_nobody_wants_is_for_others_once_it_is_empty() {
        let mut room = InterfaceRoom::new(Quotas::default());
        let vpc = room.add_vpc("Vpc".into());
        let subnet = room.add_subnet(vpc, "SubnetA".into(), Some(1), 0);
        let (all, _) = interfaces(9, None);
        let (mut all, now) = (all.within(room), Instant::START);
        let (one, _) = all.create(now, "one".into(), subnet, Duration::ZERO);
        let (other, without) = all.create(now, "other".into(), subnet, Duration::ZERO);
        assert_eq!(without.unwrap().limit, LimitId::SubnetAddresses);
        all.take(now, one).unwrap();
        assert!(all.keep(now, one, subnet, false).is_none() && all.keep(now, one, subnet, false).is_none());
        assert!(all.keep(now, other, subnet, true).is_some(), "somebody is behind it");
        let names = |all: &Interfaces| all.in_use().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&all), ["eni-a", "one", "other"]);
        all.give_back(now, one);
        assert!(all.keep(now, other, subnet, true).is_none(), "there is room for the other");
        all.take(now, other).unwrap();
        assert_eq!((names(&all), all.count()), (vec!["eni-a".to_owned(), "other".to_owned()], 2));
        assert_eq!(all.keep(now, one, subnet, true).unwrap().limit, LimitId::SubnetAddresses);
        all.give_back(now, other);
        all.keep(now, other, subnet, false);
        assert!(all.keep(now, one, subnet, true).is_none() && all.check(now, one).is_ok());
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

    fn in_subnet(
        connections: u32,
        growth_after: Option<u64>,
        per_vpc: u32,
        size: u64,
    ) -> (Interfaces, SubnetId) {
        let per_vpc = Some((per_vpc, "test".into()));
        let mut room = InterfaceRoom::new(Quotas { per_vpc, ..Quotas::default() });
        let vpc = room.add_vpc("Vpc".into());
        let subnet = room.add_subnet(vpc, "SubnetA".into(), Some(size), 0);
        let growth_after = growth_after.map(Duration::from_secs);
        (
            Interfaces::new(InterfaceFigures { connections, growth_after, idle_timeout: IDLE }).within(room),
            subnet,
        )
    }

    #[test]
    fn a_deployment_waits_for_its_interface_or_finds_no_room() {
        let (mut all, subnet) = in_subnet(2, None, 1, 11);
        let (id, refused) = all.create(Instant::START, "eni-a".into(), subnet, Duration::from_secs(90));
        assert_eq!((refused, all.ready_at(id)), (None, Some(Instant::from_secs(90))));
        assert_eq!((all.count(), all.next_deadline()), (0, Some(Instant::from_secs(90))));
        assert!(all.open(Instant::from_secs(89), id).is_err());
        assert!(all.open(Instant::from_secs(90), id).is_ok());
        assert_eq!((all.count(), all.ready_at(id)), (1, None));
        let (none, refused) = all.create(Instant::from_secs(91), "eni-b".into(), subnet, IDLE);
        assert_eq!(refused.unwrap().to_string(), "eni.per-vpc of Vpc: 1 of 1 interfaces");
        assert!(all.open(Instant::from_secs(9999), none).is_err() && all.ready_at(none).is_none());
    }

    #[test]
    fn growth_ends_where_the_quota_or_the_subnet_has_no_room() {
        for (per_vpc, size, limit) in [(3, 11, LimitId::EniPerVpc), (9, 3, LimitId::SubnetAddresses)] {
            let (mut all, subnet) = in_subnet(2, Some(0), per_vpc, size);
            let (id, _) = all.create(Instant::START, "eni-a".into(), subnet, Duration::ZERO);
            let opened = (0..9).filter(|_| all.open(Instant::START, id).is_ok()).count();
            assert_eq!((opened, all.count()), (6, 3), "{limit}");
            all.advance(Instant::from_secs(10));
            let rows = all.room_rows();
            let row = rows.iter().find(|row| row.id == limit).unwrap();
            // At once, then every second; it never hangs on a delay of nothing.
            assert_eq!((row.used, row.max, row.refused), (3, 3, 11));
        }
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
