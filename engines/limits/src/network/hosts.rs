//! What has an address in a VPC: databases, proxies, interface endpoints, load balancers, NAT gateways and the shared
//! interfaces of functions. One allocator serves them all, so that no two are the same.
//!
//! Source: VPC User Guide, "Subnet sizing": the first four addresses and the last one of a subnet are AWS's own. Which one
//! AWS takes is not published; here each takes the next.

use super::Network;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Addresses at the beginning of a subnet that AWS keeps.
const RESERVED: u64 = 4;

/// Something that has an address in a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its logical id.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// The names that lead to it from everywhere. One that begins with a dot stands for all names that end so.
    pub names: Vec<String>,
    /// The names that lead to it from its VPC alone.
    pub private_names: Vec<String>,
    /// Indices of its security groups; without any, it takes everything.
    pub groups: Vec<usize>,
    /// Index of its VPC.
    pub vpc: usize,
    /// Index of its subnet, where that is known.
    pub subnet: Option<usize>,
    /// Whether the template says in which subnet it is; else that is a guess.
    pub placed: bool,
    /// Whether it also has an address that the internet leads to (`PubliclyAccessible`). It has none of its own here: who
    /// comes from outside its VPC uses the same one.
    pub public: bool,
    /// What it is.
    pub what: HostKind,
}

/// What has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// The database instance with this index in the network.
    Database(usize),
    /// The database proxy with this index in the network.
    Proxy(usize),
    /// The VPC endpoint with this index in the stack.
    Endpoint(usize),
    /// The load balancer with this index in the stack.
    LoadBalancer(usize),
    /// The cache with this index in the stack.
    Cache(usize),
}

/// The shared interface of a subnet and a set of security groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index of its subnet.
    pub subnet: usize,
    /// Indices of its security groups, ascending.
    pub groups: Vec<usize>,
    /// Its address; none where the subnet has no more.
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address, where its subnet has a range.
    pub address6: Option<Ipv6Addr>,
}

impl Network {
    /// An address of a subnet for somebody: the one that they had before, else the next; none when there are no more.
    pub(super) fn next_address(
        &mut self,
        subnet: usize,
        owner: &str,
    ) -> Option<(Ipv4Addr, Option<Ipv6Addr>)> {
        let before = self.held_before(subnet);
        let others = self.held_elsewhere(subnet);
        let place = &mut self.subnets[subnet];
        let range = place.cidr?;
        // Who stands somewhere twice has two.
        let mut owner = owner.to_owned();
        while place.holders.contains_key(&owner) {
            owner.push('+');
        }
        // The last one is AWS's, too.
        let fits = |number: u64| number + 1 < range.addresses();
        let number = match before
            .get(&owner)
            .copied()
            .filter(|number| fits(*number) && !place.holders.values().any(|held| held == number))
        {
            Some(number) => number,
            None => {
                let held =
                    |number: u64| before.values().chain(place.holders.values()).any(|held| *held == number);
                let free = (RESERVED + place.given..).take_while(|number| fits(*number));
                let mut free = free.filter(|number| !held(*number));
                match free.next() {
                    Some(next) => {
                        let clear = std::iter::once(next).chain(free).find(|number| !others.contains(number));
                        place.given = next - RESERVED;
                        clear.unwrap_or(next)
                    }
                    None => self.address_of_the_unwanted(subnet)?,
                }
            }
        };
        let place = &mut self.subnets[subnet];
        place.holders.insert(owner, number);
        // A range has at most 2^32 addresses, so that the offset fits.
        let address = (u32::from(range.first()) + number as u32).into();
        let address6 = place.cidr6.map(|range| (u128::from(range.first()) + u128::from(number)).into());
        Some((address, address6))
    }

    /// Which addresses of a subnet's range things of other subnets with the same range have: of other VPCs, and of subnets that
    /// were removed. What is behind addresses is told apart by them alone, so nobody gets one of these while there are others.
    fn held_elsewhere(&self, subnet: usize) -> BTreeSet<u64> {
        let place = &self.subnets[subnet];
        let Some(range) = place.cidr else { return BTreeSet::new() };
        let others = self.subnets.iter().enumerate().filter(|(index, _)| *index != subnet);
        let held = others.filter_map(|(_, other)| Some((other.cidr?, other))).flat_map(|(cidr, other)| {
            // Offsets of a range fit into its addresses.
            other.holders.values().map(move |number| u32::from(cidr.first()).wrapping_add(*number as u32))
        });
        let inside = held.filter(|address| range.contains((*address).into()));
        inside.map(|address| u64::from(address - u32::from(range.first()))).collect()
    }

    /// The shared interface of a subnet and a set of groups (ascending), made when there is none yet. Its index.
    pub(super) fn interface(&mut self, subnet: usize, groups: &[usize]) -> usize {
        let is = |found: &Interface| found.subnet == subnet && found.groups == groups;
        if let Some(index) = self.interfaces.iter().position(is) {
            return index;
        }
        let owner = self.interface_owner(groups);
        let found = self.next_address(subnet, &owner);
        let (address, address6) = found.map_or((None, None), |(v4, v6)| (Some(v4), v6));
        self.interfaces.push(Interface { subnet, groups: groups.to_vec(), address, address6 });
        self.interfaces.len() - 1
    }

    /// The address of the shared interface of a subnet and a set of groups (ascending).
    pub fn interface_address(&self, subnet: usize, groups: &[usize]) -> Option<Ipv4Addr> {
        let found = self.interfaces.iter().find(|found| found.subnet == subnet && found.groups == groups);
        found.and_then(|found| found.address)
    }
}
