//! Room for interfaces in a stack's VPCs and subnets, and the interfaces that environments had of their own.

use super::Network;
use crate::eni_per_environment::{EnvironmentInterfaces, GroupId};
use crate::eni_room::{InterfaceRoom, Quotas, SubnetId};
use crate::settings::NetworkSettings;
use std::collections::{BTreeMap, BTreeSet};

/// A subnet's addresses, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Its VPC's name; subnets from outside the template count as one VPC.
    pub vpc: String,
    /// Addresses that it can give out; `None`: not known, any number.
    pub size: Option<u64>,
    /// Those that NAT gateways, interface endpoints, databases, proxies and load balancers of the template have.
    pub taken: u64,
}

/// Interfaces of environments, with the places of the functions.
#[derive(Clone, Debug)]
pub struct Attachments {
    /// The engine.
    pub engine: EnvironmentInterfaces,
    /// Of each function its combinations, one for each of its subnets; none without a VPC.
    pub groups: Vec<Vec<GroupId>>,
    /// Subnets, in the network's order.
    subnets: Vec<SubnetId>,
    /// Combinations of a subnet and a set of groups.
    shared: BTreeMap<(usize, Vec<usize>), GroupId>,
}

impl Attachments {
    /// Follows a network that was renewed from the one that these were made for.
    pub fn renew(&mut self, network: &Network) {
        network.renew_rooms(self.engine.room_mut(), &mut self.subnets);
    }

    /// The network's next function, as many being known as it has index.
    pub fn add_function(&mut self, network: &Network, function: usize) {
        debug_assert_eq!(self.groups.len(), function);
        network.add_rooms(self.engine.room_mut(), &mut self.subnets);
        let placement = network.placements.get(function).and_then(Option::as_ref);
        let places = placement
            .into_iter()
            .flat_map(|found| found.subnets.iter().map(|subnet| (*subnet, &found.groups)));
        let ids = places.filter_map(|(subnet, groups)| {
            let place = *self.subnets.get(subnet)?;
            Some(*self.shared.entry((subnet, groups.clone())).or_insert_with(|| self.engine.add(place)))
        });
        let ids = ids.collect();
        self.groups.push(ids);
    }
}

impl Network {
    /// The room for interfaces in this network, and its subnets' places in it.
    pub fn room(&self, quotas: Quotas) -> (InterfaceRoom, Vec<SubnetId>) {
        let mut room = InterfaceRoom::new(quotas);
        let mut subnets = Vec::new();
        self.add_rooms(&mut room, &mut subnets);
        let used: BTreeSet<usize> = self
            .placements
            .iter()
            .flatten()
            .flat_map(|placement| placement.subnets.iter().copied())
            .collect();
        // Where no function is, there is nothing to tell.
        let quiet = subnets.iter().enumerate().filter(|(index, _)| !used.contains(index));
        quiet.for_each(|(_, subnet)| room.keep_quiet(*subnet));
        (room, subnets)
    }

    /// The rooms of a network that was renewed: the known ones are as large as their subnets are now.
    pub(super) fn renew_rooms(&self, room: &mut InterfaceRoom, known: &mut Vec<SubnetId>) {
        for (subnet, id) in self.subnets.iter().zip(known.iter()) {
            room.set_subnet(*id, subnet.space.size, subnet.space.taken);
        }
        let before = known.len();
        self.add_rooms(room, known);
        known.iter().skip(before).for_each(|subnet| room.keep_quiet(*subnet));
    }

    /// The room of those subnets that became known since: those of functions that are made later may be from outside.
    pub(super) fn add_rooms(&self, room: &mut InterfaceRoom, known: &mut Vec<SubnetId>) {
        for subnet in self.subnets.iter().skip(known.len()) {
            let Space { vpc, size, taken } = &subnet.space;
            let vpc = room.vpc(if vpc.is_empty() { "vpc" } else { vpc });
            known.push(room.add_subnet(vpc, subnet.name.as_str().into(), *size, *taken));
        }
    }

    /// The interfaces of environments, in eras that make them at cold starts.
    pub fn attachments(&self, settings: &NetworkSettings) -> Option<Attachments> {
        let figures = settings.environment_interfaces.clone()?;
        let (room, subnets) = self.room(settings.quotas.clone());
        let engine = EnvironmentInterfaces::new(figures, room);
        let mut found = Attachments { engine, groups: Vec::new(), subnets, shared: BTreeMap::new() };
        (0..self.placements.len()).for_each(|function| found.add_function(self, function));
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Placement;
    use model::{Era, Instant, LimitId, Overrides};

    fn settings(era: &str) -> NetworkSettings {
        let era = Era::named(era).unwrap();
        NetworkSettings::from_era(&era, "us-east-1", &Overrides::default()).unwrap()
    }

    #[test]
    fn functions_of_one_subnet_and_set_of_groups_share_their_interfaces() {
        let mut network = Network::simple(3, 2, 1);
        network.placements[1] = Some(Placement { subnets: vec![1], groups: vec![0], ipv6: false });
        network.placements[2] = None;
        let mut found = network.attachments(&settings("2019-05")).unwrap();
        assert_eq!(found.groups[0][1], found.groups[1][0]);
        assert_eq!((found.groups[0].len(), found.groups[2].len()), (2, 0));
        for function in [0, 1] {
            found.engine.begin(Instant::START, *found.groups[function].last().unwrap(), 1536, 0).unwrap();
        }
        assert_eq!(found.engine.count(), 1, "3 GB together");
        assert!(network.attachments(&settings("2019-10")).is_none());
    }

    #[test]
    fn who_comes_later_finds_the_room_of_its_subnet_wherever_that_is() {
        let mut network = Network::simple(1, 2, 1);
        network.placements[0] = Some(Placement { subnets: vec![0], groups: vec![0], ipv6: false });
        for subnet in &mut network.subnets {
            subnet.space = Space { vpc: "Vpc".into(), size: Some(2), taken: 1 };
        }
        let mut found = network.attachments(&settings("2019-05")).unwrap();
        let rows = |found: &Attachments| {
            let rows = found.engine.board(Instant::START).into_iter();
            rows.filter(|row| row.id == LimitId::SubnetAddresses).count()
        };
        assert_eq!(rows(&found), 1, "nobody is in the other");
        // A subnet of the template that had no function, and one of another VPC that nobody knew.
        network.placements.push(Some(Placement { subnets: vec![1], groups: vec![0], ipv6: false }));
        found.add_function(&network, 1);
        network.subnets.push(network.subnets[0].clone());
        network.subnets[2].space = Space { vpc: "Other".into(), size: None, taken: 0 };
        network.placements.push(Some(Placement { subnets: vec![2], groups: vec![0], ipv6: false }));
        found.add_function(&network, 2);
        for function in [1, 2] {
            let group = found.groups[function][0];
            let ready = found.engine.begin(Instant::START, group, 3_008, 0).unwrap();
            assert!(ready > Instant::START, "it waits for its interface");
        }
        let refusal = found.engine.begin(Instant::START, found.groups[1][0], 3_008, 0).unwrap_err();
        assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::SubnetAddresses, 2, 2));
        assert_eq!(rows(&found), 2);
        let quotas =
            found.engine.board(Instant::START).into_iter().filter(|row| row.id == LimitId::EniPerVpc);
        let quotas: Vec<String> = quotas.map(|row| format!("{} {}", row.resource, row.used)).collect();
        assert!(quotas.is_empty() || quotas == ["Vpc 1", "Other 1"], "{quotas:?}");
    }

    #[test]
    fn addresses_of_others_leave_less_room() {
        let mut network = Network::simple(1, 1, 1);
        network.subnets[0].space = Space { vpc: "Vpc".into(), size: Some(11), taken: 9 };
        let mut found = network.attachments(&settings("2019-05")).unwrap();
        let group = found.groups[0][0];
        assert!(found.engine.begin(Instant::START, group, 6144, 0).is_ok());
        let refusal = found.engine.begin(Instant::START, group, 128, 0).unwrap_err();
        assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::SubnetAddresses, 11, 11));
    }
}
