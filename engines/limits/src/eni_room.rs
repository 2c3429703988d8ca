//! `eni.per-region`, `eni.per-vpc`, `subnet.addresses`: whether there is room for one more network interface.
//!
//! Sources: VPC User Guide, "Amazon VPC quotas" (network interfaces per Region) and "Subnet sizing" (all addresses of a
//! subnet but five); AWS Lambda Developer Guide, "Lambda quotas" (interfaces per VPC, which other services share);
//! published. In which order they are looked at is not; here the Region, the VPC, the subnet.
//!
//! Without room an invocation that needs an interface fails with `ENILimitReachedException` or
//! `SubnetIPAddressLimitReachedException` (502), and a deployment with `EniLimitExceeded` or `SubnetOutOfIPAddresses`.
//! Nothing happens here by itself, so there is no deadline. Every call is O(1) but `rows`.

use crate::tally::Tally;
use model::error::ErrorCode;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;

/// How many interfaces there may be; `None`: any number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// In the account's Region.
    pub per_region: Option<(u32, Arc<str>)>,
    /// Of Lambda in one VPC.
    pub per_vpc: Option<(u32, Arc<str>)>,
    /// Addresses of every subnet, if the user gives them instead of its range's.
    pub per_subnet: Option<(u32, Arc<str>)>,
}

/// A VPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VpcId(u32);

/// A subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubnetId(u32);

/// The account's interfaces by Region, VPC and subnet.
#[derive(Clone, Debug)]
pub struct InterfaceRoom {
    quotas: Quotas,
    region: Place,
    vpcs: Vec<Place>,
    subnets: Vec<Subnet>,
    sizes: Arc<str>,
}

#[derive(Clone, Debug)]
struct Place {
    name: Arc<str>,
    used: u64,
    tally: Tally,
}

#[derive(Clone, Debug)]
struct Subnet {
    place: Place,
    vpc: VpcId,
    /// Addresses that it can give out; `None`: not known, any number.
    size: Option<u64>,
    /// Those that others than Lambda have.
    others: u64,
    /// Whether it has a row: no function ever was in it otherwise.
    told: bool,
}

impl Place {
    fn new(name: Arc<str>) -> Self {
        Self { name, used: 0, tally: Tally::default() }
    }

    fn check(&mut self, now: Instant, limit: LimitId, wanted: u64, max: u64) -> Result<(), Refusal> {
        if self.used.saturating_add(wanted) <= max {
            return Ok(());
        }
        self.tally.refuse(now);
        let (resource, used) = (Arc::clone(&self.name), self.used);
        Err(Refusal { limit, resource, destination: None, used, max, retry_at: None })
    }

    fn add(&mut self, count: u64) {
        self.used += count;
        self.tally.reach(self.used);
    }
}

impl InterfaceRoom {
    /// A Region without VPCs.
    pub fn new(quotas: Quotas) -> Self {
        let published =
            "VPC User Guide, Subnet sizing: all addresses of the subnet's range but five; published";
        let given = quotas.per_subnet.as_ref().map(|(_, source)| Arc::clone(source));
        Self {
            sizes: given.unwrap_or_else(|| published.into()),
            quotas,
            region: Place::new("region".into()),
            vpcs: Vec::new(),
            subnets: Vec::new(),
        }
    }

    /// The VPC of that name, which is added if it is new.
    pub fn vpc(&mut self, name: &str) -> VpcId {
        let known = self.vpcs.iter().position(|vpc| &*vpc.name == name).and_then(|at| u32::try_from(at).ok());
        known.map_or_else(|| self.add_vpc(name.into()), VpcId)
    }

    /// Adds a VPC.
    pub fn add_vpc(&mut self, name: Arc<str>) -> VpcId {
        let id = u32::try_from(self.vpcs.len()).expect("fewer VPCs than 2^32");
        self.vpcs.push(Place::new(name));
        VpcId(id)
    }

    /// Adds a subnet that can give out `size` addresses (its range's less five) and has given out `taken` to others
    /// than Lambda.
    pub fn add_subnet(&mut self, vpc: VpcId, name: Arc<str>, size: Option<u64>, taken: u64) -> SubnetId {
        let id = u32::try_from(self.subnets.len()).expect("fewer subnets than 2^32");
        let size = self.quotas.per_subnet.as_ref().map_or(size, |(given, _)| Some(u64::from(*given)));
        let mut place = Place::new(name);
        let others = size.map_or(taken, |size| taken.min(size));
        place.add(others);
        self.subnets.push(Subnet { place, vpc, size, others, told: true });
        SubnetId(id)
    }

    /// The subnet's range, or what others have of it, is another. Lambda's interfaces stay, even where they are too many now.
    pub fn set_subnet(&mut self, subnet: SubnetId, size: Option<u64>, taken: u64) {
        let size = self.quotas.per_subnet.as_ref().map_or(size, |(given, _)| Some(u64::from(*given)));
        let found = &mut self.subnets[subnet.0 as usize];
        let others = size.map_or(taken, |size| taken.min(size));
        found.place.used = (found.place.used + others).saturating_sub(found.others);
        found.place.tally.reach(found.place.used);
        (found.size, found.others) = (size, others);
    }

    /// The subnet has no row until room is asked for in it: no function is there yet.
    pub fn keep_quiet(&mut self, subnet: SubnetId) {
        self.subnets[subnet.0 as usize].told = false;
    }

    /// Takes room for `count` interfaces in the subnet, for all or none.
    ///
    /// # Errors
    /// The refusal names the limit without room; [`error_code`] says what the caller of a function gets.
    pub fn take(&mut self, now: Instant, subnet: SubnetId, count: u64) -> Result<(), Refusal> {
        let Subnet { place, vpc, size, told, .. } = &mut self.subnets[subnet.0 as usize];
        *told = true;
        let vpc = &mut self.vpcs[vpc.0 as usize];
        if let Some((max, _)) = &self.quotas.per_region {
            self.region.check(now, LimitId::EniPerRegion, count, u64::from(*max))?;
        }
        if let Some((max, _)) = &self.quotas.per_vpc {
            vpc.check(now, LimitId::EniPerVpc, count, u64::from(*max))?;
        }
        if let Some(size) = size {
            place.check(now, LimitId::SubnetAddresses, count, *size)?;
        }
        for place in [&mut self.region, vpc, place] {
            place.add(count);
        }
        Ok(())
    }

    /// Gives back the room of `count` interfaces that were taken before.
    pub fn give_back(&mut self, subnet: SubnetId, count: u64) {
        let Subnet { place, vpc, .. } = &mut self.subnets[subnet.0 as usize];
        for place in [&mut self.region, &mut self.vpcs[vpc.0 as usize], place] {
            place.used = place.used.saturating_sub(count);
        }
    }

    /// The board's rows: the Region, the VPCs, the subnets, as far as they have a limit.
    pub fn rows(&self) -> Vec<LimitRow> {
        let row = |place: &Place, limit, max, source: &Arc<str>| {
            place.tally.row(limit, &place.name, place.used, max, source)
        };
        let mut rows = Vec::new();
        if let Some((max, source)) = &self.quotas.per_region {
            rows.push(row(&self.region, LimitId::EniPerRegion, u64::from(*max), source));
        }
        if let Some((max, source)) = &self.quotas.per_vpc {
            let vpcs = self.vpcs.iter();
            rows.extend(vpcs.map(|vpc| row(vpc, LimitId::EniPerVpc, u64::from(*max), source)));
        }
        let subnets = self.subnets.iter().filter(|subnet| subnet.told).filter_map(|subnet| {
            Some(row(&subnet.place, LimitId::SubnetAddresses, subnet.size?, &self.sizes))
        });
        rows.extend(subnets);
        rows
    }
}

/// What the caller of a function gets when its environment has no interface; `None` for limits of something else.
///
/// Source: the Lambda service model; all are 502.
pub const fn error_code(limit: LimitId) -> Option<ErrorCode> {
    match limit {
        LimitId::EniPerRegion | LimitId::EniPerVpc => Some(ErrorCode::EniLimitReached),
        LimitId::EniCreateRate => Some(ErrorCode::Ec2Throttled),
        LimitId::SubnetAddresses => Some(ErrorCode::SubnetIpAddressLimitReached),
        _ => None,
    }
}

/// What AWS writes beside that code: EC2's own words where they were seen, else the service model's description.
pub const fn error_message(limit: LimitId) -> Option<&'static str> {
    match limit {
        LimitId::EniPerVpc => {
            Some("You have exceeded the maximum limit for Lambda HyperPlane ENIs for your VPC.")
        }
        LimitId::EniPerRegion => Some(
            "Lambda was not able to create an elastic network interface in the VPC, specified as part of Lambda function \
             configuration, because the limit for network interfaces has been reached.",
        ),
        LimitId::EniCreateRate => Some(
            "Your request has been throttled by EC2, please make sure you have enough API rate limit. EC2 Error Code: \
             RequestLimitExceeded. EC2 Error Message: Request limit exceeded.",
        ),
        LimitId::SubnetAddresses => Some(
            "Lambda was not able to set up VPC access for the Lambda function because one or more configured subnets has \
             no available IP addresses.",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quotas(region: u32, vpc: u32) -> Quotas {
        let [per_region, per_vpc] = [region, vpc].map(|max| Some((max, "test".into())));
        Quotas { per_region, per_vpc, per_subnet: None }
    }

    #[test]
    fn a_small_subnet_has_eleven_addresses_of_which_others_take_some() {
        let mut room = InterfaceRoom::new(Quotas::default());
        let vpc = room.add_vpc("Vpc".into());
        let cidr: model::stack::Cidr = "10.0.0.0/28".parse().unwrap();
        let subnet = room.add_subnet(vpc, "SubnetA".into(), Some(cidr.usable()), 2);
        assert!(room.take(Instant::START, subnet, 9).is_ok());
        let refusal = room.take(Instant::START, subnet, 1).unwrap_err();
        assert_eq!(refusal.to_string(), "subnet.addresses of SubnetA: 11 of 11 addresses");
        assert_eq!(error_code(refusal.limit), Some(ErrorCode::SubnetIpAddressLimitReached));
        room.give_back(subnet, 1);
        assert!(room.take(Instant::START, subnet, 1).is_ok());
        assert_eq!(room.rows().len(), 1, "no quota, no row");
    }

    #[test]
    fn a_figure_that_is_given_counts_for_every_subnet() {
        let per_subnet = Some((3, "given".into()));
        let mut room = InterfaceRoom::new(Quotas { per_subnet, ..Quotas::default() });
        let vpc = room.add_vpc("Vpc".into());
        for (size, taken, free) in [(None, 0, 3), (Some(251), 2, 1), (Some(251), 9, 0)] {
            let subnet = room.add_subnet(vpc, "s".into(), size, taken);
            assert_eq!((0..9).filter(|_| room.take(Instant::START, subnet, 1).is_ok()).count(), free);
        }
        assert!(room.rows().iter().all(|row| (row.used, row.max, &*row.source) == (3, 3, "given")));
    }

    #[test]
    fn every_limit_here_has_its_error() {
        for limit in
            [LimitId::EniPerRegion, LimitId::EniPerVpc, LimitId::EniCreateRate, LimitId::SubnetAddresses]
        {
            assert_eq!(error_code(limit).unwrap().status(), 502);
            assert!(error_message(limit).is_some_and(|text| text.ends_with('.')));
        }
        assert_eq!((error_code(LimitId::NatPorts), error_message(LimitId::NatPorts)), (None, None));
    }

    proptest! {
        #[test]
        fn no_place_ever_holds_more_than_it_has_room_for(
            region in 0u32..12, vpc in 0u32..8, size in 0u64..6,
            steps in prop::collection::vec((any::<bool>(), 0usize..4, 0u64..3), 1..200),
        ) {
            let mut room = InterfaceRoom::new(quotas(region, vpc));
            let vpcs = [room.add_vpc("a".into()), room.add_vpc("b".into())];
            let subnets: Vec<SubnetId> =
                (0..4).map(|index| room.add_subnet(vpcs[index % 2], "s".into(), Some(size), 0)).collect();
            let mut held = [0u64; 4];
            for (takes, index, count) in steps {
                if takes {
                    let of_vpc = held[index % 2] + held[index % 2 + 2];
                    let fits = held.iter().sum::<u64>() + count <= u64::from(region)
                        && of_vpc + count <= u64::from(vpc)
                        && held[index] + count <= size;
                    prop_assert_eq!(room.take(Instant::START, subnets[index], count).is_ok(), fits);
                    held[index] += if fits { count } else { 0 };
                } else {
                    let count = count.min(held[index]);
                    room.give_back(subnets[index], count);
                    held[index] -= count;
                }
                for row in room.rows() {
                    prop_assert!(row.used <= row.max && row.used <= row.peak && row.peak <= row.max);
                }
            }
        }
    }
}
