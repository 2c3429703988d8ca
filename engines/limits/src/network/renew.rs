//! A network that changes while packets go through it: a template is read again over what is there.
//!
//! Indices are what flows and environments hold, so they stay: a thing is the same one while its name is, also when it went
//! and came back. What has an address keeps it. What is of the template no more stays as it was for those that still use
//! it, as CloudFormation removes what an update leaves over only after the functions have moved (CloudFormation User
//! Guide, "Update behaviors of stack resources"; VPC User Guide: addresses of a NAT gateway that are taken away drain).

use super::{Gateway, Hop, Interface, Network, Placement};
use crate::network::wire::Wired;
use model::stack::Stack;
use model::{Instant, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Things that are of the template no more and are remembered; each deployment of the same things adds none.
pub const GONE_MAX: usize = 4096;

/// Too many things came and went since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {GONE_MAX} parts of networks were removed since the start")]
pub struct TooMuchGone;

/// What is known while a stack is read over a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    before: Network,
    /// What was met in the stack.
    met: BTreeSet<(Kind, usize)>,
}

/// What is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Subnet,
    Group,
    Gateway,
}

impl Network {
    /// This network after its template became that stack: for new connections; see [`Network::rewire`] for the engines.
    /// Its functions stay, as they are added by whoever drives it.
    ///
    /// # Errors
    /// More than [`GONE_MAX`] things came and went.
    pub fn renewed(&self, stack: &Stack) -> Result<Self, TooMuchGone> {
        // A subnet from outside is not read again, and whatever stands in it takes its address again all the same.
        let mut subnets = self.subnets.clone();
        for subnet in &mut subnets {
            subnet.holders.retain(|owner, _| owner.starts_with(INTERFACE));
        }
        let seed = Self {
            vpcs: self.vpcs.clone(),
            subnets,
            gateways: self.gateways.clone(),
            egress_gateways: self.egress_gateways.clone(),
            groups: self.groups.clone(),
            lists: self.lists.clone(),
            placements: self.placements.clone(),
            left: self.left.clone(),
            held: self.held.clone(),
            interfaces: self.interfaces.clone(),
            databases: self.databases.clone(),
            service_names: self.service_names.clone(),
            made_up: self.made_up,
            renewal: Some(Box::new(Renewal { before: self.clone(), met: BTreeSet::new() })),
            ..Self::default()
        };
        let renewed = seed.built(stack);
        let gone = renewed.subnets.iter().filter(|found| found.gone).count()
            + renewed.groups.iter().filter(|found| found.gone).count()
            + renewed
                .gateways
                .iter()
                .map(|found| usize::from(found.gone) + found.withdrawn.len())
                .sum::<usize>()
            + (renewed.vpcs.len() + renewed.lists.len() + renewed.databases.len())
                .saturating_sub(stack.vpcs.len() + stack.prefix_lists.len() + stack.db_instances.len());
        if gone > GONE_MAX { Err(TooMuchGone) } else { Ok(renewed) }
    }

    /// Says whether all functions with that placement are gone (`left`) or there again; [`Network::rewire`] then lets the engines
    /// follow. A shared interface that no function has is deleted: its row goes and its room is given back as soon as nobody is
    /// behind it. AWS takes up to 20 minutes for that (AWS Lambda Developer Guide, "Giving Lambda functions access to resources
    /// in an Amazon VPC"); here it is at once. Its address is kept for it until somebody else needs it, and nobody is behind it
    /// ([`Self::hold`]).
    pub fn set_left(&mut self, function: usize, left: bool) {
        let Some(Some(placement)) = self.placements.get(function).cloned() else { return };
        for (index, other) in self.placements.iter().enumerate() {
            if other.as_ref() == Some(&placement) {
                if left {
                    self.left.insert(index)
                } else {
                    self.left.remove(&index)
                };
            }
        }
        if left {
            return;
        }
        for subnet in placement.subnets {
            let is = |found: &Interface| found.subnet == subnet && found.groups == placement.groups;
            let Some(index) = self.interfaces.iter().position(is) else { continue };
            if self.interfaces[index].address.is_none() {
                let owner = self.interface_owner(&placement.groups);
                let found = self.next_address(subnet, &owner);
                let (address, address6) = found.map_or((None, None), |(v4, v6)| (Some(v4), v6));
                (self.interfaces[index].address, self.interfaces[index].address6) = (address, address6);
            }
        }
    }

    /// Somebody is behind these shared interfaces, by subnet and security groups ([`Wired::interfaces_in_use`]): whoever comes
    /// does not get their addresses. Who counts them tells it before each change; an interface that no function has and nobody
    /// is behind stays so. Answers how many of them no function has.
    pub fn hold(&mut self, held: BTreeSet<(usize, Vec<usize>)>) -> usize {
        self.held = held;
        self.held.iter().filter(|(subnet, groups)| !self.is_wanted(*subnet, groups)).count()
    }

    /// Functions with a shared interface that has no address, though its subnet's range is known.
    pub fn without_address(&self) -> impl Iterator<Item = usize> {
        let lacks = |placement: &Placement, subnet: usize| {
            self.subnets[subnet].cidr.is_some() && self.interface_address(subnet, &placement.groups).is_none()
        };
        let all = self.placements.iter().enumerate().filter(move |(_, found)| {
            found.as_ref().is_some_and(|one| one.subnets.iter().any(|subnet| lacks(one, *subnet)))
        });
        all.map(|(index, _)| index)
    }

    /// Whether some shared interface has no functions any more.
    pub fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether the functions with that placement are gone.
    pub fn is_left(&self, function: usize) -> bool {
        self.left.contains(&function)
    }

    /// Whether some function has the shared interface of a subnet and a set of groups.
    fn is_wanted(&self, subnet: usize, groups: &[usize]) -> bool {
        self.deployed().any(|placement| placement.groups == groups && placement.subnets.contains(&subnet))
    }

    /// Where the functions stand that are deployed.
    fn deployed(&self) -> impl Iterator<Item = &Placement> {
        let here = self.placements.iter().enumerate().filter(|(index, _)| !self.left.contains(index));
        here.filter_map(|(_, placement)| placement.as_ref())
    }

    /// An address of a subnet in which all are taken: that of an interface which no function has, and nobody is behind. The
    /// number of the address.
    pub(super) fn address_of_the_unwanted(&mut self, subnet: usize) -> Option<u64> {
        let here = |found: &&Interface| found.subnet == subnet && found.address.is_some();
        let mut here = self.interfaces.iter().filter(here);
        let is_free = |found: &&Interface| {
            !self.is_wanted(subnet, &found.groups) && !self.held.contains(&(subnet, found.groups.clone()))
        };
        let groups = here.find(is_free)?.groups.clone();
        let owner = self.interface_owner(&groups);
        let number = self.subnets[subnet].holders.remove(&owner)?;
        let is = |found: &&mut Interface| found.subnet == subnet && found.groups == groups;
        for found in self.interfaces.iter_mut().filter(is) {
            (found.address, found.address6) = (None, None);
        }
        Some(number)
    }

    /// Lets the engines follow a network that was renewed from the one that they were wired for. Connections stay, and
    /// count. Answers what new interfaces found no room in.
    pub fn rewire(&self, wired: &mut Wired, now: Instant) -> Vec<Refusal> {
        self.renew_rooms(wired.connections.room_mut(), &mut wired.places);
        for (gateway, id) in self.gateways.iter().zip(&wired.gateways) {
            wired.connections.set_gateway(*id, gateway.slots(), &gateway.withdrawn, gateway.gone);
        }
        self.add_gateways(&mut wired.connections, &mut wired.gateways);
        for (index, database) in self.databases.iter().enumerate() {
            let Some(connections) = database.connections else { continue };
            match wired.databases.get(index).copied().flatten() {
                Some(id) => wired.connections.set_database(id, connections, database.source.into()),
                None => {
                    let name = database.name.as_str().into();
                    let id = wired.connections.add_database(name, connections, database.source.into());
                    wired.databases.resize(self.databases.len().max(wired.databases.len()), None);
                    wired.databases[index] = Some(id);
                }
            }
        }
        wired.databases.resize(self.databases.len().max(wired.databases.len()), None);
        let mut refused = Vec::new();
        let wanted_by_somebody: BTreeSet<(usize, &[usize])> = self
            .deployed()
            .flat_map(|found| found.subnets.iter().map(|subnet| (*subnet, found.groups.as_slice())))
            .collect();
        // Those that go make room for those that stay and come.
        for wanted in [false, true] {
            for ((subnet, groups), (id, without)) in &mut wired.shared {
                let is_gone = self.subnets[*subnet].gone
                    || groups.iter().any(|group| self.groups[*group].gone)
                    || !wanted_by_somebody.contains(&(*subnet, groups.as_slice()));
                let Some(place) = wired.places.get(*subnet).filter(|_| is_gone != wanted) else { continue };
                *without = wired.connections.keep_interface(now, *id, *place, wanted);
                refused.extend(without.clone());
            }
        }
        for (placement, undeployed) in self.placements.iter().zip(&mut wired.undeployed) {
            let Some(found) = placement else { continue };
            let without = |subnet: &usize| wired.shared.get(&(*subnet, found.groups.clone()))?.1.clone();
            *undeployed = found.subnets.iter().find_map(without);
        }
        refused
    }

    pub(super) const fn is_renewed(&self) -> bool {
        self.renewal.is_some()
    }

    /// Whether a thing of the stack is still to be read; then it is met.
    pub(super) fn is_due(&mut self, kind: Kind, index: usize) -> bool {
        self.renewal.as_mut().is_some_and(|renewal| renewal.met.insert((kind, index)))
    }

    /// Who had which address of a subnet before.
    pub(super) fn held_before(&self, subnet: usize) -> BTreeMap<String, u64> {
        let before = self.renewal.as_ref().and_then(|renewal| renewal.before.subnets.get(subnet));
        before.map(|found| found.holders.clone()).unwrap_or_default()
    }

    /// Adds a gateway of the stack, or puts it where it was.
    pub(super) fn put_gateway(&mut self, gateway: Gateway) {
        let index = match self.gateways.iter().position(|known| known.name == gateway.name) {
            Some(index) => {
                let Gateway { external, withdrawn, .. } = std::mem::take(&mut self.gateways[index]);
                self.gateways[index] = Gateway { external, withdrawn, ..gateway };
                index
            }
            None => {
                self.gateways.push(gateway);
                self.gateways.len() - 1
            }
        };
        self.is_due(Kind::Gateway, index);
    }

    /// The whole stack was read.
    pub(super) fn finish(&mut self) {
        let Some(met) = self.renewal.as_ref().map(|renewal| renewal.met.clone()) else { return };
        let before = self.renewal.as_ref().map(|renewal| &renewal.before);
        let (acls, endpoints) =
            before.map(|before| (before.acls.clone(), before.endpoints.clone())).unwrap_or_default();
        for (index, subnet) in self.subnets.iter_mut().enumerate() {
            if subnet.listed && !met.contains(&(Kind::Subnet, index)) {
                subnet.gone = true;
                // Indices are the new stack's, behind which stands what the subnet had.
                subnet.acl = subnet.acl.and_then(|acl| Some(kept(&mut self.acls, acls.get(acl)?)));
                subnet.routes.retain_mut(|route| {
                    let Hop::Service(endpoint) = &mut route.hop else { return true };
                    let Some(known) = endpoints.get(*endpoint) else { return false };
                    *endpoint = kept(&mut self.endpoints, known);
                    true
                });
            }
        }
        for (index, group) in self.groups.iter_mut().enumerate() {
            group.gone = group.listed && !met.contains(&(Kind::Group, index));
        }
        for (index, gateway) in self.gateways.iter_mut().enumerate() {
            gateway.gone = gateway.listed && !met.contains(&(Kind::Gateway, index));
        }
        // Interfaces stand where they stood, unless their subnet's range is another.
        for index in 0..self.interfaces.len() {
            let subnet = self.interfaces[index].subnet;
            if !met.contains(&(Kind::Subnet, subnet)) {
                continue;
            }
            let owner = self.interface_owner(&self.interfaces[index].groups);
            let found = self.next_address(subnet, &owner);
            let (address, address6) = found.map_or((None, None), |(v4, v6)| (Some(v4), v6));
            (self.interfaces[index].address, self.interfaces[index].address6) = (address, address6);
        }
        self.renewal = None;
    }

    /// What an interface is called among those that have addresses of a subnet.
    pub(super) fn interface_owner(&self, groups: &[usize]) -> String {
        format!("{INTERFACE}{}", self.group_names(groups))
    }
}

/// The place of a thing among others, at whose end it is put where it is none of them.
fn kept<T: Clone + PartialEq>(all: &mut Vec<T>, wanted: &T) -> usize {
    all.iter().position(|one| one == wanted).unwrap_or_else(|| {
        all.push(wanted.clone());
        all.len() - 1
    })
}

const INTERFACE: &str = "interface ";

impl super::Subnet {
    /// How many of its addresses others than interfaces of functions have.
    pub(super) fn held_by_others(&self) -> u64 {
        self.holders.keys().filter(|owner| !owner.starts_with(INTERFACE)).count() as u64
    }
}

impl Gateway {
    /// Has these addresses from now on: those that it had keep their places, and those that it loses drain.
    pub(super) fn take_addresses(&mut self, wanted: Vec<IpAddr>) {
        if self.external.is_empty() {
            self.external = wanted;
            return;
        }
        for address in &wanted {
            if !self.external.contains(address) {
                self.external.push(*address);
            }
        }
        let lost = self.external.iter().enumerate().filter(|(_, address)| !wanted.contains(address));
        self.withdrawn = lost.filter_map(|(index, _)| u16::try_from(index).ok()).collect();
    }

    /// How many places of addresses there are, those of withdrawn ones among them.
    pub(super) fn slots(&self) -> u16 {
        let withdrawn = u16::try_from(self.withdrawn.len()).unwrap_or(u16::MAX);
        self.addresses.saturating_add(withdrawn)
    }
}
