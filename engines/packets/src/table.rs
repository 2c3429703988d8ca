//! All flows: records in one slab, and one open-addressed index of both their keys.
//!
//! ```text
//!   index entry   | 7 bits of the hash | side | 24 bits: slot |        two entries a flow
//!   inside key    environment, its port, protocol, other side          -> packets that leave
//!   outside key   translated address and port, protocol, other side    -> packets that come back
//! ```
//!
//! Strangers choose the keys, so they are hashed with secret numbers (NH of UMAC, RFC 4418 section 5.2, whose collisions
//! for keys chosen without knowing them are as rare as guesses, then one more multiplication). A record is found with one
//! access to the index and one to the slab, but for entries whose seven bits agree by chance. Removing moves
//! entries back instead of leaving marks, so the index never wears out.
//!
//! Every call is O(1) expected; an insertion that doubles the index is O(flows).

use crate::flow::{Flow, NONE, Rest, State, marks};
use crate::wire::{TCP, UDP};
use limits::nat::{Destination, Protocol};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SLOT_BITS: u32 = 24;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
const OUTSIDE: u32 = 1 << SLOT_BITS;
const EMPTY: u32 = u32::MAX;
/// The most flows that a table can have; the last slot's number means an empty entry.
pub const SLOTS_MAX: u32 = SLOT_MASK;
/// Entries of a new index, a power of two.
const INDEX_MIN: usize = 1024;

/// Which flow a packet belongs to, seen from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The near end.
    pub near: Near,
    /// Its port.
    pub near_port: u16,
    /// The other side.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: u16,
    /// The IP protocol's number.
    pub protocol: u8,
}

/// Of a near end, the bit that says that its environment speaks IPv6 and the flow IPv4: both may have the same ports.
const NAT64: u32 = 1 << 31;

impl Key {
    /// Whether the flow is, or would be, behind a NAT64.
    pub const fn is_nat64(&self) -> bool {
        matches!(self.near, Near::Environment(slot) if slot & NAT64 != 0)
    }

    /// The other side, as gateways count it.
    pub const fn destination(&self) -> Destination {
        let protocol = match self.protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => Protocol::Icmp,
        };
        Destination { address: self.remote, port: self.remote_port, protocol }
    }
}

impl Near {
    /// An environment that speaks IPv6 with somebody who speaks IPv4.
    pub const fn environment_nat64(slot: u32) -> Self {
        Self::Environment(slot | NAT64)
    }

    /// The environment of a flow.
    #[inline]
    const fn of(flow: &Flow) -> u32 {
        flow.environment | if flow.has(marks::NAT64) { NAT64 } else { 0 }
    }
}

/// The near end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// The environment in this slot.
    Environment(u32),
    /// The translated address.
    Address(IpAddr),
}

/// All flows.
#[derive(Clone, Debug)]
pub struct Table {
    flows: Vec<Flow>,
    /// Of each flow, by the same slot.
    rests: Vec<Rest>,
    /// Remote and translated address of IPv6 flows.
    wide: Vec<(Ipv6Addr, Ipv6Addr)>,
    wide_free: Vec<u32>,
    free: u32,
    len: u32,
    max: u32,
    index: Vec<u32>,
    secret: [u64; 6],
}

impl Table {
    /// An empty table for at most `max` flows, whose hashes depend on the seed.
    pub fn new(max: u32, seed: [u64; 2]) -> Self {
        let mut state = seed[0];
        let mut secret = [0; 6];
        for (number, word) in secret.iter_mut().enumerate() {
            // SplitMix64 spreads a seed of two words over six.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ seed[1].rotate_left(number as u32 * 11);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *word = mixed ^ (mixed >> 31);
        }
        Self {
            flows: Vec::new(),
            rests: Vec::new(),
            wide: Vec::new(),
            wide_free: Vec::new(),
            free: NONE,
            len: 0,
            max: max.min(SLOTS_MAX),
            index: vec![EMPTY; INDEX_MIN],
            secret,
        }
    }

    /// How many flows there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many there may be.
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// Bytes of memory that the table has.
    pub fn bytes(&self) -> usize {
        self.flows.capacity() * size_of::<Flow>()
            + self.rests.capacity() * size_of::<Rest>()
            + self.index.capacity() * size_of::<u32>()
            + self.wide.capacity() * size_of::<(Ipv6Addr, Ipv6Addr)>()
            + self.wide_free.capacity() * size_of::<u32>()
    }

    /// All records, free ones among them.
    #[inline]
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// All records, to change what is no part of their keys.
    #[inline]
    pub fn flows_mut(&mut self) -> &mut [Flow] {
        &mut self.flows
    }

    /// What no packet needs of a flow.
    pub fn rest(&self, slot: u32) -> &Rest {
        &self.rests[slot as usize]
    }

    /// The timer's part of all records, and what it asks.
    pub fn timed(&mut self) -> (&[Flow], &mut [Rest]) {
        (&self.flows, &mut self.rests)
    }

    /// The other side's address.
    #[inline]
    pub fn remote(&self, flow: &Flow) -> IpAddr {
        if flow.has(marks::SIX) { self.wide[flow.remote as usize].0.into() } else { v4(flow.remote) }
    }

    /// The translated address.
    #[inline]
    pub fn outside(&self, flow: &Flow) -> IpAddr {
        if flow.has(marks::SIX) { self.wide[flow.remote as usize].1.into() } else { v4(flow.outside) }
    }

    /// The flow of a key.
    #[inline]
    pub fn find(&self, key: &Key) -> Option<u32> {
        self.find_hashed(key, self.hash(key))
    }

    /// The same with the key's hash.
    #[inline]
    pub fn find_hashed(&self, key: &Key, hash: u64) -> Option<u32> {
        let tag = tag(hash, matches!(key.near, Near::Address(_)));
        let mut from = hash as usize;
        loop {
            let (at, entry) = self.first_like(tag, from);
            if entry == EMPTY {
                return None;
            }
            if self.is(key, entry & SLOT_MASK) {
                return Some(entry & SLOT_MASK);
            }
            from = at + 1;
        }
    }

    /// The first entry from there on that has that tag or is empty, and where it stands.
    #[inline]
    fn first_like(&self, tag: u32, from: usize) -> (usize, u32) {
        let mask = self.index.len() - 1;
        let mut at = from & mask;
        loop {
            let entry = self.index[at];
            if entry == EMPTY || entry & !SLOT_MASK == tag {
                return (at, entry);
            }
            at = (at + 1) & mask;
        }
    }

    /// Loads the entry where the search for a hash will begin.
    #[inline]
    pub fn load_entry(&self, hash: u64) {
        black_box(self.index[hash as usize & (self.index.len() - 1)]);
    }

    /// Loads the record that the search for a key will look at first, so that it is near then.
    #[inline]
    pub fn load_flow(&self, key: &Key, hash: u64) {
        let entry = self.first_like(tag(hash, matches!(key.near, Near::Address(_))), hash as usize).1;
        if let Some(flow) = self.flows.get((entry & SLOT_MASK) as usize) {
            black_box(flow.last);
        }
    }

    #[inline]
    fn is(&self, key: &Key, slot: u32) -> bool {
        let flow = &self.flows[slot as usize];
        let near = match key.near {
            Near::Environment(slot) => Near::of(flow) == slot && flow.inside_port == key.near_port,
            Near::Address(address) => flow.outside_port == key.near_port && self.outside_is(flow, address),
        };
        near && flow.remote_port == key.remote_port
            && flow.protocol == key.protocol
            && match key.remote {
                IpAddr::V4(remote) => !flow.has(marks::SIX) && flow.remote == u32::from(remote),
                IpAddr::V6(remote) => flow.has(marks::SIX) && self.wide[flow.remote as usize].0 == remote,
            }
    }

    #[inline]
    fn outside_is(&self, flow: &Flow, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => !flow.has(marks::SIX) && flow.outside == u32::from(address),
            IpAddr::V6(address) => flow.has(marks::SIX) && self.wide[flow.remote as usize].1 == address,
        }
    }

    /// Adds a flow; `None` when the table is full. Neither of its keys may be in it. Both addresses are of one version.
    pub fn insert(&mut self, mut flow: Flow, rest: Rest, remote: IpAddr, outside: IpAddr) -> Option<u32> {
        if self.len >= self.max {
            return None;
        }
        match (remote, outside) {
            (IpAddr::V4(remote), IpAddr::V4(outside)) => {
                (flow.remote, flow.outside) = (remote.into(), outside.into());
            }
            (IpAddr::V6(remote), IpAddr::V6(outside)) => {
                flow.marks |= marks::SIX;
                flow.remote = self.wide_free.pop().unwrap_or(self.wide.len() as u32);
                match self.wide.get_mut(flow.remote as usize) {
                    Some(wide) => *wide = (remote, outside),
                    None => self.wide.push((remote, outside)),
                }
            }
            _ => return None,
        }
        // Above six tenths searches grow long.
        if (self.len as usize + 1) * 2 * 10 > self.index.len() * 6 {
            self.grow();
        }
        let slot = if self.free == NONE {
            self.flows.push(flow);
            self.rests.push(rest);
            self.flows.len() as u32 - 1
        } else {
            let slot = self.free;
            self.free = self.rests[slot as usize].next;
            (self.flows[slot as usize], self.rests[slot as usize]) = (flow, rest);
            slot
        };
        self.len += 1;
        self.index_both(slot);
        Some(slot)
    }

    /// Removes a flow and gives its record back as it was.
    pub fn remove(&mut self, slot: u32) -> Flow {
        let flow = self.flows[slot as usize];
        for key in [self.inside_key(&flow), self.outside_key(&flow)] {
            self.unindex(&key, slot);
        }
        if flow.has(marks::SIX) {
            self.wide_free.push(flow.remote);
        }
        self.flows[slot as usize] = Flow::default();
        self.rests[slot as usize] = Rest { next: self.free, ..Rest::default() };
        self.free = slot;
        self.len -= 1;
        flow
    }

    /// The key of packets that leave.
    pub fn inside_key(&self, flow: &Flow) -> Key {
        Key {
            near: Near::Environment(Near::of(flow)),
            near_port: flow.inside_port,
            remote: self.remote(flow),
            remote_port: flow.remote_port,
            protocol: flow.protocol,
        }
    }

    /// The key of packets that come back.
    pub fn outside_key(&self, flow: &Flow) -> Key {
        Key { near: Near::Address(self.outside(flow)), near_port: flow.outside_port, ..self.inside_key(flow) }
    }

    fn index_both(&mut self, slot: u32) {
        let flow = self.flows[slot as usize];
        for key in [self.inside_key(&flow), self.outside_key(&flow)] {
            let hash = self.hash(&key);
            let mask = self.index.len() - 1;
            let mut at = hash as usize & mask;
            while self.index[at] != EMPTY {
                at = (at + 1) & mask;
            }
            self.index[at] = tag(hash, matches!(key.near, Near::Address(_))) | slot;
        }
    }

    fn unindex(&mut self, key: &Key, slot: u32) {
        let hash = self.hash(key);
        let wanted = tag(hash, matches!(key.near, Near::Address(_))) | slot;
        let mask = self.index.len() - 1;
        let mut hole = hash as usize & mask;
        while self.index[hole] != wanted {
            debug_assert_ne!(self.index[hole], EMPTY, "every flow has both its entries");
            if self.index[hole] == EMPTY {
                return;
            }
            hole = (hole + 1) & mask;
        }
        // Entries behind the hole that may stand in it move there, until there is a gap anyway.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.index[at];
            if entry == EMPTY {
                break;
            }
            let flow = &self.flows[(entry & SLOT_MASK) as usize];
            let key = if entry & OUTSIDE == 0 { self.inside_key(flow) } else { self.outside_key(flow) };
            let home = self.hash(&key) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.index[hole] = entry;
                hole = at;
            }
        }
        self.index[hole] = EMPTY;
    }

    fn grow(&mut self) {
        self.index = vec![EMPTY; self.index.len() * 2];
        for slot in 0..self.flows.len() as u32 {
            if self.flows[slot as usize].state != State::Free {
                self.index_both(slot);
            }
        }
    }

    /// The hash of a key.
    #[inline]
    pub fn hash(&self, key: &Key) -> u64 {
        let ports = u64::from(key.near_port) << 16 | u64::from(key.remote_port);
        let ends = ports | u64::from(key.protocol) << 32;
        let [one, two, three, four, five, six] = self.secret;
        let sum = match (key.near, key.remote) {
            (Near::Environment(slot), IpAddr::V4(remote)) => {
                product(u64::from(slot) << 32 | u64::from(u32::from(remote)), one, ends, two)
            }
            (Near::Address(IpAddr::V4(near)), IpAddr::V4(remote)) => {
                let both = u64::from(u32::from(near)) << 32 | u64::from(u32::from(remote));
                product(both, one, ends | 1 << 40, two)
            }
            (near, remote) => {
                let (near, side) = match near {
                    Near::Environment(slot) => (u128::from(slot), 2),
                    Near::Address(near) => (bits(near), 3),
                };
                let remote = bits(remote);
                let first = product(near as u64, one, (near >> 64) as u64, two);
                let second = product(remote as u64, three, (remote >> 64) as u64, four);
                let third = product(ends, five, side, six);
                first.wrapping_add(second).wrapping_add(third)
            }
        };
        let folded = (sum as u64) ^ (sum >> 64) as u64;
        let spread = u128::from(folded) * u128::from(three | 1);
        (spread as u64) ^ (spread >> 64) as u64
    }
}

/// One term of NH.
#[inline]
const fn product(first: u64, secret: u64, second: u64, other: u64) -> u128 {
    first.wrapping_add(secret) as u128 * second.wrapping_add(other) as u128
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

const fn v4(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

/// What an entry says beside its slot.
#[inline]
const fn tag(hash: u64, outside: bool) -> u32 {
    (hash >> 57) as u32 * (OUTSIDE * 2) + if outside { OUTSIDE } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Name = (u32, u16, u8, u16);

    /// Few values, so that keys meet often.
    fn key(six: bool, (environment, port, remote, remote_port): Name) -> Key {
        let v6 = |last| IpAddr::V6([0x2600, 0, 0, 0, 0, 0, 0, last].into());
        let remote = if six { v6(remote.into()) } else { IpAddr::V4([203, 0, 113, remote].into()) };
        Key { near: Near::Environment(environment), near_port: port, remote, remote_port, protocol: 6 }
    }

    fn name() -> impl Strategy<Value = Name> {
        (0u32..3, 0u16..6, 0u8..4, 0u16..3)
    }

    proptest! {
        #[test]
        fn it_agrees_with_an_ordered_map(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), name()), 1..600),
            seed: [u64; 2], max in 1u32..300,
        ) {
            let mut table = Table::new(max, seed);
            let mut known: BTreeMap<(bool, Name), (u32, u16)> = BTreeMap::new();
            let mut next = 0;
            for (adds, six, name) in steps {
                let inside = key(six, name);
                let found = known.get(&(six, name)).copied();
                prop_assert_eq!(table.find(&inside), found.map(|found| found.0));
                if let (true, None) = (adds, found) {
                    next += 1;
                    let outside = if six { IpAddr::V6([0xfd00, 1, 0, 0, 0, 0, 0, 1].into()) } else { [198, 18, 0, 1].into() };
                    let flow = Flow {
                        environment: name.0, inside_port: name.1, remote_port: name.3, protocol: 6,
                        outside_port: next, state: State::Open, ..Flow::default()
                    };
                    let slot = table.insert(flow, Rest::default(), inside.remote, outside);
                    prop_assert_eq!(slot.is_some(), known.len() < max as usize);
                    known.extend(slot.map(|slot| ((six, name), (slot, next))));
                } else if let (false, Some((slot, _))) = (adds, found) {
                    let flow = table.remove(slot);
                    prop_assert_eq!((flow.environment, flow.inside_port), (name.0, name.1));
                    known.remove(&(six, name));
                }
                prop_assert_eq!(table.len() as usize, known.len());
            }
            for ((six, name), (slot, port)) in known {
                let flow = table.flows()[slot as usize];
                let near = Near::Address(table.outside(&flow));
                let outside = Key { near, near_port: port, ..key(six, name) };
                prop_assert_eq!(table.find(&outside), Some(slot), "from the other side as well");
            }
        }
    }

    #[test]
    fn a_million_flows_take_a_hundred_bytes_each() {
        // The figure that SPECIFICATION.md promises, without making them: what one takes when the slab is just full.
        let (flows, index) = (1 << 20, 1 << 22);
        assert!(2 * 1_000_000 * 10 <= index * 6, "the index need not double before a million");
        let bytes = flows * (size_of::<Flow>() + size_of::<Rest>()) + index * size_of::<u32>();
        assert!(bytes / 1_000_000 <= 101 && bytes <= 128 << 20, "{bytes}");
    }

    #[test]
    fn hashes_depend_on_the_seed() {
        let one = Table::new(9, [1, 2]).hash(&key(false, (1, 2, 3, 4)));
        assert_ne!(one, Table::new(9, [1, 3]).hash(&key(false, (1, 2, 3, 4))));
        assert_ne!(one, Table::new(9, [2, 2]).hash(&key(false, (1, 2, 3, 4))));
        assert_eq!(one, Table::new(9, [1, 2]).hash(&key(false, (1, 2, 3, 4))));
    }
}
