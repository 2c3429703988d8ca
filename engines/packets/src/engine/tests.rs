//! Rules of the engine, one test each; what all of them need is here.

mod bad_input;
mod fragments_follow;
mod icmp_errors;
mod limits_hold;
mod mappings;
mod nat64;
mod offloads;
mod police;
mod records;
mod relayed;
mod round_trip;
mod six;
mod two_clocks;

use super::*;
use crate::checksum::Checksum;
use crate::craft::{self, Numbers};
use crate::wire::{View, flags};
use limits::settings::NetworkSettings;
use model::{Era, Overrides};
use std::net::{Ipv6Addr, SocketAddr};

pub(super) const INSIDE: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);
pub(super) const INSIDE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 1, 0, 0, 0, 0, 2);
pub(super) const ELASTIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(super) const REMOTE: &str = "203.0.113.9:443";

/// A function in one subnet behind a NAT gateway, and one without a VPC.
pub(super) struct Rig {
    pub engine: PacketEngine,
    pub inside: EnvironmentId,
    pub free: EnvironmentId,
    pub now: Instant,
}

impl Rig {
    pub fn new(overrides: &[&str]) -> Self {
        Self::with(overrides, 1, PacketSettings { seed: [1, 2], ..PacketSettings::default() })
    }

    pub fn with(overrides: &[&str], addresses: u16, settings: PacketSettings) -> Self {
        let mut given = Overrides::default();
        overrides.iter().for_each(|text| given.read(text).unwrap());
        let limits = NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &given).unwrap();
        let mut network = Network::simple(2, 1, addresses);
        network.placements[1] = None;
        Self::of(network, limits, None, settings)
    }

    /// A network's first function, with an address of IPv6 where one is given, and one without a VPC.
    pub fn of(
        network: Network,
        limits: NetworkSettings,
        address6: Option<Ipv6Addr>,
        settings: PacketSettings,
    ) -> Self {
        let wired = network.wire(limits);
        let mut engine = PacketEngine::new(network, wired, settings);
        let place = Some(Place { function: 0, choice: 0 });
        let attachment = Attachment { address: INSIDE, address6, place, resolver: None };
        let inside = engine.attach(Instant::START, attachment).unwrap();
        let free = Attachment { address: [169, 254, 0, 6].into(), place: None, ..attachment };
        let free = engine.attach(Instant::START, free).unwrap();
        Self { engine, inside, free, now: Instant::from_secs(1) }
    }

    pub fn send(&mut self, from: Port, bytes: &mut [u8]) -> Verdict {
        self.engine.receive(self.now, from, Packet { bytes, offload: Offload::default() })
    }

    /// The environment in the VPC sends a segment; what becomes of it, and the packet after.
    pub fn leave(&mut self, port: u16, to: &str, said: u8) -> (Verdict, Vec<u8>) {
        let mut packet = segment((INSIDE, port), to, said);
        let verdict = self.send(Port::Environment(self.inside), &mut packet);
        (verdict, packet)
    }

    /// The other side answers a packet that went out.
    pub fn answer(&mut self, sent: &[u8], said: u8) -> (Verdict, Vec<u8>) {
        let view = View::read(sent, &Offload::default()).unwrap();
        let from = SocketAddr::new(view.destination, view.destination_port);
        let mut packet = Vec::new();
        let numbers = Numbers { sequence: 7, acknowledgement: 1, flags: said };
        craft::segment(&mut packet, from, SocketAddr::new(view.source, view.source_port), numbers, b"");
        let verdict = self.send(Port::World, &mut packet);
        (verdict, packet)
    }

    /// Opens a connection, both ways.
    pub fn connect(&mut self, port: u16, to: &str) -> Vec<u8> {
        let (verdict, sent) = self.leave(port, to, flags::SYN);
        assert_eq!(verdict, Verdict::Forward(Port::World), "port {port} to {to}");
        let (verdict, _) = self.answer(&sent, flags::SYN | flags::ACK);
        assert_eq!(verdict, Verdict::Forward(Port::Environment(self.inside)));
        self.leave(port, to, flags::ACK);
        sent
    }

    pub fn used(&self, limit: LimitId) -> u64 {
        self.engine.board().iter().filter(|row| row.id == limit).map(|row| row.used).sum()
    }
}

pub(super) fn segment(from: (Ipv4Addr, u16), to: &str, said: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    let numbers = Numbers { sequence: 100, acknowledgement: 8, flags: said };
    craft::segment(&mut packet, SocketAddr::from(from), to.parse().unwrap(), numbers, b"");
    packet
}

/// Whether every checksum of a packet is right, by a sum of its own.
pub(super) fn sums_are_right(bytes: &[u8]) -> bool {
    let view = View::read(bytes, &Offload::default()).unwrap();
    let transport = &bytes[view.transport..];
    let start = match (view.source, view.destination, view.protocol) {
        (_, IpAddr::V4(_), crate::wire::ICMP) => Vec::new(),
        (IpAddr::V4(from), IpAddr::V4(to), _) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to), _) => [from.octets(), to.octets()].concat(),
        _ => unreachable!("one version"),
    };
    let mut all = start;
    if !all.is_empty() {
        all.extend((transport.len() as u32).to_be_bytes());
        all.extend([0, view.protocol]);
    }
    all.extend(transport);
    let ip = if view.source.is_ipv4() { slow_sum(&bytes[..view.transport]) } else { u16::MAX };
    ip == u16::MAX && slow_sum(&all) == u16::MAX
}

/// The one's complement sum by the book: word by word, carry by carry.
fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for (index, byte) in bytes.iter().enumerate() {
        sum += if index % 2 == 0 { u32::from(*byte) << 8 } else { u32::from(*byte) };
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    assert_eq!(!(sum as u16), Checksum::default().with(bytes).finish());
    sum as u16
}
