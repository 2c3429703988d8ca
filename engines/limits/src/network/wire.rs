//! The engines of a network: connections through its interfaces and gateways, and the ways that lead to them.

use super::databases::Database;
use super::{Host, HostKind, Network, Placement, TCP, Target, Verdict};
use crate::connections::{Connections, End, Way};
use crate::db_connections::DatabaseId;
use crate::db_pool::LoginId;
use crate::eni::InterfaceId;
use crate::eni_room::SubnetId;
use crate::nat::{Destination as NatDestination, GatewayId, Protocol};
use crate::settings::NetworkSettings;
use model::{Instant, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// A network whose limits are engines.
#[derive(Clone, Debug)]
pub struct Wired {
    /// The engines.
    pub connections: Connections,
    /// Of each function its interfaces, one for each of its subnets; none without a VPC.
    pub interfaces: Vec<Vec<InterfaceId>>,
    /// Of each function what its deployment found no room in, if so.
    pub undeployed: Vec<Option<Refusal>>,
    /// Of each NAT gateway its engine.
    pub gateways: Vec<GatewayId>,
    /// Of each database its engine; none where its connections are not known.
    pub databases: Vec<Option<DatabaseId>>,
    /// Of each proxy the login of its pool; none where the database's connections are not known.
    pub proxies: Vec<Option<LoginId>>,
    pub(super) shared: BTreeMap<(usize, Vec<usize>), (InterfaceId, Option<Refusal>)>,
    pub(super) places: Vec<SubnetId>,
}

impl Network {
    /// Makes the engines: one interface for each subnet and set of security groups, shared by the functions.
    pub fn wire(&self, settings: NetworkSettings) -> Wired {
        let (room, places) = self.room(settings.quotas.clone());
        let mut engine = Connections::new(settings).within(room);
        let mut gateways = Vec::new();
        self.add_gateways(&mut engine, &mut gateways);
        let databases = self.databases.iter().map(|database| {
            let Database { name, connections, source, .. } = database;
            Some(engine.add_database(name.as_str().into(), (*connections)?, (*source).into()))
        });
        let databases: Vec<Option<DatabaseId>> = databases.collect();
        let proxies = self.proxies.iter().map(|proxy| {
            let settings = self.pool_settings(proxy, engine.settings())?;
            let database = databases[proxy.database?]?;
            Some(engine.add_proxy(proxy.name.as_str().into(), database, settings))
        });
        let proxies = proxies.collect();
        let mut wired = Wired {
            connections: engine,
            interfaces: Vec::new(),
            undeployed: Vec::new(),
            gateways,
            databases,
            proxies,
            shared: BTreeMap::new(),
            places,
        };
        for function in 0..self.placements.len() {
            self.wire_function(&mut wired, Instant::START, function);
        }
        wired
    }

    /// Makes the interfaces of the next function, as its deployment does at `now`: as many were wired before it as it has
    /// index.
    pub fn wire_function(&self, wired: &mut Wired, now: Instant, function: usize) {
        debug_assert_eq!(wired.interfaces.len(), function);
        let belong_to_environments = wired.connections.settings().environment_interfaces.is_some();
        self.add_rooms(wired.connections.room_mut(), &mut wired.places);
        self.add_gateways(&mut wired.connections, &mut wired.gateways);
        let (mut ids, mut undeployed) = (Vec::new(), None);
        if let Some(Some(Placement { subnets, groups, .. })) = self.placements.get(function) {
            for subnet in subnets {
                let Wired { connections, shared, places, .. } = wired;
                let (id, refused) = shared.entry((*subnet, groups.clone())).or_insert_with(|| {
                    let name = self.interface_name(*subnet, groups);
                    match places.get(*subnet) {
                        Some(place) if !belong_to_environments => {
                            connections.create_interface(now, name, *place, Duration::ZERO)
                        }
                        // What an environment has of its own is counted when it begins.
                        _ => (connections.add_interface(name), None),
                    }
                });
                undeployed = refused.clone().or(undeployed);
                ids.push(*id);
            }
        }
        wired.interfaces.push(ids);
        wired.undeployed.push(undeployed);
    }

    /// The engines of those gateways that became known since: a function that is made later may be in a subnet from outside.
    pub(super) fn add_gateways(&self, engine: &mut Connections, known: &mut Vec<GatewayId>) {
        for gateway in self.gateways.iter().skip(known.len()) {
            let id = engine.add_gateway(gateway.name.as_str().into(), gateway.slots());
            engine.set_gateway(id, gateway.slots(), &gateway.withdrawn, gateway.gone);
            known.push(id);
        }
    }

    /// What the shared interface of a subnet and a set of groups is called on the board: `eni-SUBNET-GROUP+GROUP`.
    pub fn interface_name(&self, subnet: usize, groups: &[usize]) -> Arc<str> {
        let groups: Vec<&str> = groups.iter().map(|group| &*self.groups[*group].name).collect();
        format!("eni-{}-{}", self.subnets[subnet].name, groups.join("+")).into()
    }

    /// The way of a function's connections from the `choice`th of its subnets.
    pub fn way(&self, wired: &mut Wired, function: usize, choice: usize, to: &Target<'_>) -> Way {
        let Some(Some(placement)) = self.placements.get(function) else {
            let literal: Option<Ipv4Addr> = to.host.parse().ok();
            let named = |host: &&Host| {
                host.name == to.host
                    || literal == Some(host.address)
                    || host.names.iter().any(|name| name == to.host)
            };
            let Some(host) = self.hosts.iter().find(named) else {
                return Way::Free(End::Open);
            };
            return match self.bars_without_vpc(host.address.into(), TCP, to.port) {
                Some((limit, who)) => {
                    wired.connections.barred(limit, &who, &format!("{}:{}", to.host, to.port))
                }
                None => Way::Free(wired.end_of(host.what)),
            };
        };
        let interface = wired.interfaces[function][choice];
        match self.verdict(placement.subnets[choice], &placement.groups, to) {
            Verdict::Inside => Way::Interface(interface, End::Open),
            Verdict::Database(index) => Way::Interface(interface, wired.end_of(HostKind::Database(index))),
            Verdict::Proxy(index) => Way::Interface(interface, wired.end_of(HostKind::Proxy(index))),
            Verdict::Nat(gateway, behind) => {
                // One end has one address, by whichever of its names it is called.
                let address = self.address_of(placement.subnets[choice], to);
                let destination = NatDestination { address, port: to.port, protocol: Protocol::Tcp };
                let end = behind.map_or(End::Open, |host| wired.end_of(self.hosts[host].what));
                wired.connections.through(interface, wired.gateways[gateway], destination, end)
            }
            Verdict::Barred(limit, resource) => {
                let destination = format!("{}:{}", to.host, to.port);
                wired.connections.barred(limit, &resource, &destination)
            }
        }
    }
}

impl Wired {
    /// Which shared interfaces somebody is behind: see [`Network::hold`].
    pub fn interfaces_in_use(&self) -> BTreeSet<(usize, Vec<usize>)> {
        let used = self.shared.iter().filter(|(_, (id, _))| self.connections.is_interface_in_use(*id));
        used.map(|(key, _)| key.clone()).collect()
    }

    /// What a host is at the end of a way; one whose connections are not known takes them all.
    fn end_of(&self, what: HostKind) -> End {
        let end = match what {
            HostKind::Database(index) => self.databases[index].map(End::Database),
            HostKind::Proxy(index) => self.proxies[index].map(End::Proxy),
            HostKind::Endpoint(_) | HostKind::LoadBalancer(_) | HostKind::Cache(_) => None,
        };
        end.unwrap_or(End::Open)
    }
}
