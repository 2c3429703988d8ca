//! `eni.create-rate`: the network interfaces that were made at cold starts, until autumn 2019.
//!
//! Source: AWS Lambda Developer Guide (early 2019), "Guidelines for setting up VPC-enabled Lambda functions": the
//! interfaces needed are about `projected peak concurrent executions x (memory in GB / 3 GB)`; as many addresses in the
//! subnets; without them invocations fail with EC2's errors; published. So environments of one subnet and one set of
//! security groups share an interface as long as their memory together fits 3 GB. Which environment uses which interface
//! was not published: here only their sum counts, as in the formula, and the last interface goes with the memory that
//! needed it (assumed).
//!
//! An environment waits from its interface's making for a time of its own, drawn by the driver. Nothing happens here by
//! itself, so there is no deadline. Every call is O(interfaces made or given up), of which there is rarely more than one.

use crate::eni_room::{InterfaceRoom, SubnetId};
use crate::tally::Tally;
use crate::token_bucket::{Refill, TokenBucket};
use model::time::nanos;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// What holds for every interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentInterfaceFigures {
    /// Memory of the environments that one interface serves, in MB.
    pub memory_mb: u32,
    /// How many interfaces may be made in a second.
    pub create_rate: u32,
    /// How many may be made at once before the rate counts.
    pub create_burst: u32,
    /// From an interface's making until an environment can use it.
    pub attach: AttachTimes,
    /// Where the rate comes from.
    pub source: Arc<str>,
}

/// How long environments wait for an interface that was just made: permille of them up to a time, straight lines
/// between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachTimes(Vec<(u32, Duration)>);

impl AttachTimes {
    /// Points from 0 to 1000 permille, both figures ascending; `None` if they are not.
    pub fn new(points: Vec<(u32, Duration)>) -> Option<Self> {
        let ends = points.first()?.0 == 0 && points.last()?.0 == 1000;
        let ascending = points.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1);
        (ends && ascending).then_some(Self(points))
    }

    /// The time of the environment at `draw` / 2^32 of all.
    pub fn at(&self, draw: u32) -> Duration {
        // In units of 1/2^32 permille, which a u64 holds.
        let permille = |whole: u32| u64::from(whole) << 32;
        let place = u64::from(draw) * 1000;
        let after = self.0.partition_point(|(share, _)| permille(*share) <= place).min(self.0.len() - 1);
        let ((low, from), (high, to)) = (self.0[after - 1], self.0[after]);
        let (part, whole) = (place - permille(low), permille(high - low));
        let more = u128::from(nanos(to - from)) * u128::from(part) / u128::from(whole);
        from + Duration::from_nanos(u64::try_from(more).expect("a part of a u64"))
    }
}

/// One subnet with one set of security groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(u32);

/// All interfaces of the account that belong to environments.
#[derive(Clone, Debug)]
pub struct EnvironmentInterfaces {
    figures: EnvironmentInterfaceFigures,
    account: Arc<str>,
    now: Instant,
    room: InterfaceRoom,
    rate: TokenBucket,
    tally: Tally,
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    subnet: SubnetId,
    /// Memory of the environments here.
    used_mb: u64,
    /// When each interface was made; `None`: so long ago that everybody can use it.
    made: Vec<Option<Instant>>,
}

impl EnvironmentInterfaces {
    /// No interface yet.
    pub fn new(figures: EnvironmentInterfaceFigures, room: InterfaceRoom) -> Self {
        let refill = Refill { tokens: figures.create_rate, period: Duration::from_secs(1) };
        let burst = figures.create_burst.max(figures.create_rate);
        Self {
            rate: TokenBucket::new(Instant::START, burst, refill),
            figures,
            account: "account".into(),
            now: Instant::START,
            room,
            tally: Tally::default(),
            groups: Vec::new(),
        }
    }

    /// Adds a subnet with a set of security groups. The caller adds each combination once.
    pub fn add(&mut self, subnet: SubnetId) -> GroupId {
        let id = u32::try_from(self.groups.len()).expect("fewer combinations than 2^32");
        self.groups.push(Group { subnet, used_mb: 0, made: Vec::new() });
        GroupId(id)
    }

    /// A new environment. When its interface is ready for it; `draw` / 2^32 says how it fares among all.
    ///
    /// # Errors
    /// The refusal names the limit in the way; [`error_code`](crate::eni_room::error_code) says what the caller gets.
    pub fn begin(
        &mut self,
        now: Instant,
        id: GroupId,
        memory_mb: u32,
        draw: u32,
    ) -> Result<Instant, Refusal> {
        let now = self.clock(now);
        let missing = self.missing(id, memory_mb);
        if missing > 0 {
            self.create(now, id, missing)?;
        }
        let made = self.enter(id, memory_mb);
        Ok(made.map_or(now, |made| now.max(made + self.figures.attach.at(draw))))
    }

    /// An environment that is there when a scenario begins, with its interface: no rate is asked.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn preload(&mut self, now: Instant, id: GroupId, memory_mb: u32) -> Result<(), Refusal> {
        let now = self.clock(now);
        let missing = self.missing(id, memory_mb);
        let group = &mut self.groups[id.0 as usize];
        self.room.take(now, group.subnet, missing)?;
        group.made.extend((0..missing).map(|_| None));
        self.enter(id, memory_mb);
        Ok(())
    }

    /// An environment that began here has ended.
    pub fn end(&mut self, now: Instant, id: GroupId, memory_mb: u32) {
        self.clock(now);
        let capacity = u64::from(self.figures.memory_mb);
        let group = &mut self.groups[id.0 as usize];
        group.used_mb = group.used_mb.saturating_sub(u64::from(memory_mb));
        let needed = group.used_mb.div_ceil(capacity);
        let spare = (group.made.len() as u64).saturating_sub(needed);
        group.made.truncate(group.made.len() - spare as usize);
        self.room.give_back(group.subnet, spare);
    }

    /// How many interfaces there are.
    pub fn count(&self) -> u64 {
        self.groups.iter().map(|group| group.made.len() as u64).sum()
    }

    /// Where the interfaces need room.
    pub const fn room_mut(&mut self) -> &mut InterfaceRoom {
        &mut self.room
    }

    /// The figures.
    pub const fn figures(&self) -> &EnvironmentInterfaceFigures {
        &self.figures
    }

    /// The board's rows: the rate, of which as large a part is used as is missing from its bucket; then what there is
    /// room for.
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        let used = self.part_of_rate(self.rate.spent(now.max(self.now)));
        let max = u64::from(self.figures.create_rate);
        let row = self.tally.row(LimitId::EniCreateRate, &self.account, used, max, &self.figures.source);
        let mut rows = vec![row];
        rows.extend(self.room.rows());
        rows
    }

    fn part_of_rate(&self, spent: u32) -> u64 {
        let capacity = u64::from(self.rate.capacity().max(1));
        (u64::from(spent) * u64::from(self.figures.create_rate)).div_ceil(capacity)
    }

    /// How many interfaces an environment more would need.
    fn missing(&self, id: GroupId, memory_mb: u32) -> u64 {
        let group = &self.groups[id.0 as usize];
        let needed = (group.used_mb + u64::from(memory_mb)).div_ceil(u64::from(self.figures.memory_mb));
        needed.saturating_sub(group.made.len() as u64)
    }

    fn create(&mut self, now: Instant, id: GroupId, count: u64) -> Result<(), Refusal> {
        let wanted = u32::try_from(count).unwrap_or(u32::MAX);
        if !self.rate.has(now, wanted) {
            self.tally.refuse(now);
            let max = u64::from(self.figures.create_rate);
            return Err(Refusal {
                limit: LimitId::EniCreateRate,
                resource: Arc::clone(&self.account),
                destination: None,
                used: max,
                max,
                retry_at: self.rate.ready_at(now, wanted),
            });
        }
        self.room.take(now, self.groups[id.0 as usize].subnet, count)?;
        self.rate.take(now, wanted);
        self.tally.reach(self.part_of_rate(self.rate.spent(now)));
        let group = &mut self.groups[id.0 as usize];
        group.made.extend((0..count).map(|_| Some(now)));
        Ok(())
    }

    /// Takes the environment in. When the last interface that it needs was made.
    fn enter(&mut self, id: GroupId, memory_mb: u32) -> Option<Instant> {
        let group = &mut self.groups[id.0 as usize];
        group.used_mb += u64::from(memory_mb);
        let last = group.used_mb.div_ceil(u64::from(self.figures.memory_mb)).saturating_sub(1);
        group.made.get(last as usize).copied().flatten()
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eni_room::Quotas;
    use proptest::prelude::*;

    fn seconds(figure: u64) -> Duration {
        Duration::from_secs(figure)
    }

    fn figures(create_rate: u32, create_burst: u32) -> EnvironmentInterfaceFigures {
        let attach =
            AttachTimes::new(vec![(0, seconds(9)), (500, seconds(10)), (1000, seconds(13))]).unwrap();
        EnvironmentInterfaceFigures {
            memory_mb: 3072,
            create_rate,
            create_burst,
            attach,
            source: "test".into(),
        }
    }

    fn interfaces(rate: u32, per_region: Option<u32>, size: Option<u64>) -> (EnvironmentInterfaces, GroupId) {
        let per_region = per_region.map(|max| (max, "test".into()));
        let mut room = InterfaceRoom::new(Quotas { per_region, ..Quotas::default() });
        let vpc = room.add_vpc("Vpc".into());
        let subnet = room.add_subnet(vpc, "SubnetA".into(), size, 0);
        let mut all = EnvironmentInterfaces::new(figures(rate, rate), room);
        let group = all.add(subnet);
        (all, group)
    }

    #[test]
    fn a_thousand_environments_of_one_and_a_half_gigabytes_need_five_hundred_interfaces() {
        // The formula of the guide, and others of the same kind: memory, environments, interfaces.
        for (memory, environments, expected) in [
            (1536, 1000, 500),
            (128, 1000, 42),
            (3072, 7, 7),
            (2048, 1000, 667),
            (10_240, 3, 10),
            (128, 24, 1),
        ] {
            let (mut all, group) = interfaces(u32::MAX, None, None);
            for _ in 0..environments {
                all.begin(Instant::START, group, memory, 0).unwrap();
            }
            assert_eq!(all.count(), expected, "{environments} of {memory} MB");
            for _ in 0..environments {
                all.end(Instant::START, group, memory);
            }
            assert_eq!(all.count(), 0);
        }
    }

    #[test]
    fn whoever_comes_while_it_is_attached_waits_for_a_time_of_its_own() {
        let (mut all, group) = interfaces(100, None, None);
        let mut ready = |at, draw| all.begin(Instant::from_secs(at), group, 128, draw).unwrap();
        assert_eq!(ready(1, 0), Instant::from_secs(10));
        assert_eq!(ready(1, 1 << 31), Instant::from_secs(11));
        assert_eq!(
            ready(4, 3 << 30),
            Instant::from_millis(12_500),
            "from the making on, not from its own begin"
        );
        assert_eq!(ready(20, u32::MAX), Instant::from_secs(20), "attached long ago");
    }

    #[test]
    fn the_rate_the_quota_and_the_addresses_are_in_the_way() {
        let begin = |all: &mut EnvironmentInterfaces, group| all.begin(Instant::START, group, 3072, 0);
        let (mut all, group) = interfaces(2, Some(9), Some(9));
        assert!(begin(&mut all, group).is_ok() && begin(&mut all, group).is_ok());
        let refusal = begin(&mut all, group).unwrap_err();
        assert_eq!(refusal.to_string(), "eni.create-rate of account: 2 of 2 interfaces/s");
        assert_eq!(refusal.retry_at, Some(Instant::from_millis(500)));
        assert!(all.begin(Instant::from_millis(500), group, 3072, 0).is_ok());
        let (mut all, group) = interfaces(9, Some(1), Some(9));
        assert!(begin(&mut all, group).is_ok());
        assert_eq!(begin(&mut all, group).unwrap_err().limit, LimitId::EniPerRegion);
        let (mut all, group) = interfaces(9, Some(9), Some(1));
        assert!(all.preload(Instant::START, group, 3072).is_ok());
        assert_eq!(begin(&mut all, group).unwrap_err().limit, LimitId::SubnetAddresses);
        all.end(Instant::START, group, 3072);
        assert!(begin(&mut all, group).is_ok());
    }

    #[test]
    fn attach_times_follow_their_points() {
        let times = figures(1, 1).attach;
        assert_eq!((times.at(0), times.at(1 << 31)), (seconds(9), seconds(10)));
        assert_eq!(times.at(3 << 30), Duration::from_millis(11_500));
        assert!(times.at(u32::MAX) < seconds(13) && times.at(u32::MAX) > Duration::from_millis(12_999));
        for wrong in [vec![], vec![(0, seconds(1))], vec![(0, seconds(2)), (1000, seconds(1))]] {
            assert_eq!(AttachTimes::new(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn the_formula_holds_at_every_moment_and_a_refusal_changes_nothing(
            size in 0u64..6, rate in 1u32..5,
            steps in prop::collection::vec((0u8..3, 0usize..4, any::<usize>(), any::<u32>(), 0u64..3000), 1..200),
        ) {
            let (mut all, group) = interfaces(rate, None, Some(size));
            let mut here: Vec<u32> = Vec::new();
            let mut now = 0;
            for (kind, memory, index, draw, wait) in steps {
                now += wait;
                let at = Instant::from_millis(now);
                let memory = [128, 1000, 3072, 5000][memory];
                if kind < 2 {
                    let before = all.count();
                    match all.begin(at, group, memory, draw) {
                        Ok(ready) => {
                            prop_assert!(ready >= at && ready <= at + seconds(13));
                            here.push(memory);
                        }
                        Err(_) => prop_assert_eq!(all.count(), before),
                    }
                } else if !here.is_empty() {
                    all.end(at, group, here.swap_remove(index % here.len()));
                }
                let needed = here.iter().copied().map(u64::from).sum::<u64>().div_ceil(3072);
                prop_assert_eq!(all.count(), needed);
                prop_assert!(needed <= size);
                for row in all.board(at) {
                    prop_assert!(row.used <= row.peak && row.peak <= row.max);
                }
            }
        }
    }
}
