//! What the engine is told: its own figures, and the addresses of the network's things.

use crate::table::SLOTS_MAX;
use limits::Network;
use limits::network::Wired;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Figures of the packet engine. Those of interfaces and gateways are the limits' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSettings {
    /// Flows that the table holds (`host.flows`).
    pub flows_max: u32,
    /// Flows of one environment, so that one without a VPC does not take all of them (`host.flows`).
    pub environment_flows_max: u32,
    /// New flows of one environment in a second, as many at once (`host.new-flows`): a guard against floods from one
    /// function, which AWS does not have. `None`: none.
    pub new_flows_max: Option<u32>,
    /// What environments, interfaces and gateways carry, where it is bounded.
    pub bandwidth: crate::engine::Bandwidth,
    /// Silence after which TCP without a VPC is forgotten. AWS does not say; assumed to be as with one.
    pub tcp_idle_timeout: Duration,
    /// Silence after which UDP is forgotten while nothing or one answer came (EC2 User Guide, "Security group connection
    /// tracking": 30 s; published of instances, assumed here).
    pub udp_timeout: Duration,
    /// The same after more than one request and answer (same page: 180 s).
    pub udp_stream_timeout: Duration,
    /// Silence after which an echo's identifier is forgotten (RFC 5508, REQ-1: at least 60 s; AWS does not say).
    pub icmp_timeout: Duration,
    /// How long late packets of a closed connection still pass. It holds nothing meanwhile.
    pub linger: Duration,
    /// Whether private addresses may be looked for in the outer world: on a host's own network, that is.
    pub private_world: bool,
    /// Ports that the world has towards one destination (`host.ports`), where it masquerades. `None`: it does not.
    pub masquerade_ports: Option<u32>,
    /// Secret numbers for the table's hash; the driver draws them.
    pub seed: [u64; 2],
}

impl PacketSettings {
    /// For so many flows, as far as a table can have them: of a larger table each environment has the same part, of a smaller
    /// one as much as before.
    #[must_use]
    pub fn with_flows(self, flows_max: u32) -> Self {
        let flows_max = flows_max.min(SLOTS_MAX);
        let part = self.flows_max / self.environment_flows_max.max(1);
        let share = (flows_max / part.max(1)).max(self.environment_flows_max).min(flows_max);
        Self { flows_max, environment_flows_max: share, ..self }
    }
}

impl Default for PacketSettings {
    fn default() -> Self {
        Self {
            flows_max: 1 << 20,
            environment_flows_max: 1 << 17,
            new_flows_max: None,
            bandwidth: crate::engine::Bandwidth::default(),
            tcp_idle_timeout: Duration::from_secs(350),
            udp_timeout: Duration::from_secs(30),
            udp_stream_timeout: Duration::from_secs(180),
            icmp_timeout: Duration::from_secs(60),
            linger: Duration::from_secs(4),
            private_world: false,
            masquerade_ports: None,
            seed: [0, 0],
        }
    }
}

/// Addresses of the network's interfaces and gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Of each shared interface, in the order of [`limits::eni::InterfaceId::index`].
    pub interfaces: Vec<InterfaceAddress>,
    /// Of each NAT gateway, in the order of [`limits::Network::gateways`], as many as it has there.
    pub gateways: Vec<Vec<Ipv4Addr>>,
}

/// A shared interface's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Of IPv4, where its subnet had one left.
    pub address: Option<Ipv4Addr>,
    /// Of IPv6, where its subnet has a range.
    pub address6: Option<Ipv6Addr>,
    /// Index of its subnet.
    pub subnet: Option<usize>,
}

impl Layout {
    /// The addresses that a network gives.
    pub fn of(network: &Network, wired: &Wired) -> Self {
        let last = wired.interfaces.iter().flatten().map(|id| id.index() + 1).max().unwrap_or(0);
        let mut interfaces = vec![InterfaceAddress::default(); last];
        for (placement, ids) in network.placements.iter().zip(&wired.interfaces) {
            let Some(placement) = placement else { continue };
            for (subnet, id) in placement.subnets.iter().zip(ids) {
                let is = |found: &&limits::network::Interface| {
                    found.subnet == *subnet && found.groups == placement.groups
                };
                let found = network.interfaces.iter().find(is);
                let address = found.and_then(|found| found.address);
                let address6 = found.and_then(|found| found.address6);
                interfaces[id.index()] = InterfaceAddress { address, address6, subnet: Some(*subnet) };
            }
        }
        let ipv4 = |address: &IpAddr| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        };
        let gateways =
            network.gateways.iter().map(|gateway| gateway.external.iter().filter_map(ipv4).collect());
        Self { interfaces, gateways: gateways.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environments_share_grows_with_the_table() {
        let share = |flows| PacketSettings::default().with_flows(flows).environment_flows_max;
        assert_eq!([share(1 << 20), share(1 << 23), share(u32::MAX)], [1 << 17, 1 << 20, SLOTS_MAX / 8]);
        assert_eq!([share(1 << 18), share(1_000), share(0)], [1 << 17, 1_000, 0]);
    }
}
