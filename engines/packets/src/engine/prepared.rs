//! What can be said of a packet before its turn: its headers and where its flow will be looked for.
//!
//! A driver with several packets in hand prepares them all, loads what they need, and then has each received: memory is
//! slow, but fetches many things at once.

use super::PacketEngine;
use crate::packet::{Packet, Port, Reason};
use crate::table::{Key, Near};
use crate::wire::{ICMP, ICMPV6, TCP, UDP, View};
use limits::network::nat64::embedded;
use std::net::{IpAddr, Ipv4Addr};

/// Packets whose loads are on their way at once.
const LOADS: usize = 64;

/// A packet's headers, and its place in the index.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    pub(super) from: Port,
    pub(super) view: View,
    pub(super) key: Key,
    pub(super) hash: u64,
    /// Whether the key means something: of packets that can be of a flow by themselves.
    pub(super) has_key: bool,
    /// Why it cannot be read.
    pub(super) reason: Option<Reason>,
}

impl PacketEngine {
    /// Reads a packet's headers, and where the search for its flow begins.
    #[inline]
    pub fn prepare(&self, from: Port, packet: &Packet<'_>) -> Prepared {
        let (view, reason) = match View::read(packet.bytes, &packet.offload) {
            Ok(view) => (view, None),
            Err(reason) => (View::NOTHING, Some(reason)),
        };
        let later = view.is_later_fragment();
        let ports = matches!(view.protocol, TCP | UDP) && !later;
        let (key, has_key) = match from {
            Port::Environment(id) => {
                let mut key = Key {
                    near: Near::Environment(id.slot),
                    near_port: view.source_port,
                    remote: view.destination,
                    remote_port: view.destination_port,
                    protocol: view.protocol,
                };
                if let Some(four) = embedded(view.destination) {
                    (key.near, key.remote) = (Near::environment_nat64(id.slot), four.into());
                    key.protocol = if view.protocol == ICMPV6 { ICMP } else { view.protocol };
                }
                (key, ports || !later && view.is_echo_request())
            }
            Port::World | Port::Relay => {
                let echo = view.is_echo();
                let key = Key {
                    near: Near::Address(view.destination),
                    near_port: if echo { view.source_port } else { view.destination_port },
                    remote: view.source,
                    remote_port: if echo { 0 } else { view.source_port },
                    protocol: view.protocol,
                };
                (key, ports || !later && echo && !view.is_echo_request())
            }
        };
        let hash = if has_key { self.table.hash(&key) } else { 0 };
        Prepared { from, view, key, hash, has_key, reason }
    }

    /// Whether a prepared packet is of a flow that is known.
    pub fn knows(&self, prepared: &Prepared) -> bool {
        prepared.has_key && self.table.find_hashed(&prepared.key, prepared.hash).is_some()
    }

    /// Loads what prepared packets will most likely need: index entries first, then the records that they lead to. Short loops
    /// whose steps do not wait for each other, so that many loads are on their way at once.
    pub fn load<'prepared, Prepareds>(&self, prepared: Prepareds)
    where
        Prepareds: IntoIterator<Item = &'prepared Prepared, IntoIter: Clone>,
    {
        let mut prepared = prepared.into_iter();
        loop {
            let some = prepared.clone().take(LOADS);
            some.clone().for_each(|prepared| self.table.load_entry(prepared.hash));
            some.for_each(|prepared| self.table.load_flow(&prepared.key, prepared.hash));
            if prepared.nth(LOADS - 1).is_none() {
                return;
            }
        }
    }
}

impl View {
    /// What stands for a packet that cannot be read.
    const NOTHING: Self = Self {
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        protocol: 0,
        transport: 0,
        hops: 0,
        fragment: None,
        source_port: 0,
        destination_port: 0,
        detail: 0,
    };
}
