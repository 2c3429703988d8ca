//! Traffic for the packet engine: flows of several functions through NAT gateways, and packets of theirs in memory.

use crate::figure::Samples;
use limits::Network;
use limits::settings::NetworkSettings;
use model::{Era, Instant as Moment, Overrides};
use packets::craft::{self, Numbers};
use packets::wire::flags;
use packets::{
    Attachment, EnvironmentId, Offload, Packet, PacketEngine, PacketSettings, Place, Port, Verdict,
};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

/// Flows of one environment: a little less than its interface carries.
const FLOWS_OF_ONE: u32 = 62_500;
/// Destinations that flows are spread over, so that ports are no limit.
const DESTINATIONS: u32 = 40;
/// Packets that a driver has in hand at once.
const BATCH: usize = 64;
/// Room for one packet.
const SLOT: usize = 64;
/// Without options and payload.
const LENGTH: usize = 40;

/// An engine with flows, and what is needed to make packets of them.
pub struct Load {
    pub engine: PacketEngine,
    environments: Vec<EnvironmentId>,
    pub flows: u32,
    pub now: Moment,
    /// Destinations that the flows are spread over.
    destinations: u32,
}

/// Packets in memory, each in a slot of its own.
pub struct Packets {
    bytes: Vec<u8>,
    ports: Vec<Port>,
}

impl Load {
    /// An engine for so many flows, without any.
    pub fn new(flows: u32) -> Self {
        Self::to(DESTINATIONS, flows)
    }

    /// The same to so many destinations, through a gateway of eight addresses.
    pub fn to(destinations: u32, flows: u32) -> Self {
        let functions = flows.div_ceil(FLOWS_OF_ONE) as usize;
        let era = Era::named("today").expect("the era is built in");
        let settings =
            NetworkSettings::from_era(&era, "us-east-1", &Overrides::default()).expect("it is complete");
        // One subnet for each function: each has an interface of its own.
        let mut network = Network::simple(functions, functions, 8);
        for (index, placement) in network.placements.iter_mut().enumerate() {
            placement.as_mut().expect("all are in the VPC").subnets = vec![index];
        }
        let wired = network.wire(settings);
        let settings = PacketSettings { seed: [0x5eed, 42], ..PacketSettings::default() };
        let mut engine = PacketEngine::new(network, wired, settings);
        let attach = |function: usize| {
            let place = Some(Place { function, choice: 0 });
            let attachment =
                Attachment { address: address(function as u32), address6: None, place, resolver: None };
            engine.attach(Moment::START, attachment).expect("the place is there")
        };
        let environments = (0..functions).map(attach).collect();
        Self { engine, environments, flows, now: Moment::from_secs(1), destinations }
    }

    /// A segment of a flow, as its environment sends it.
    fn segment(&self, flow: u32, said: u8, buffer: &mut Vec<u8>) -> Port {
        let environment = flow / FLOWS_OF_ONE;
        let from = SocketAddr::from((address(environment), (flow % FLOWS_OF_ONE + 1024) as u16));
        let to = SocketAddr::from(([203, 0, 113, (flow % self.destinations) as u8], 443));
        craft::segment(buffer, from, to, Numbers { sequence: flow, acknowledgement: 1, flags: said }, &[]);
        Port::Environment(self.environments[environment as usize])
    }

    /// SYNs of flows `first` to `last`.
    pub fn syns(&self, first: u32, last: u32) -> Packets {
        self.packets((first..last).collect(), flags::SYN)
    }

    /// Segments of flows in a random order, each flow about as often as any other.
    pub fn traffic(&self, count: u32) -> Packets {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let random = (0..count).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (((state >> 32) * u64::from(self.flows)) >> 32) as u32
        });
        self.packets(random.collect(), flags::ACK)
    }

    fn packets(&self, flows: Vec<u32>, said: u8) -> Packets {
        let mut all = Packets { bytes: vec![0; flows.len() * SLOT], ports: Vec::with_capacity(flows.len()) };
        let mut buffer = Vec::new();
        for (index, flow) in flows.into_iter().enumerate() {
            all.ports.push(self.segment(flow, said, &mut buffer));
            all.bytes[index * SLOT..][..LENGTH].copy_from_slice(&buffer);
        }
        all
    }

    /// Hands all packets to the engine, a batch after the other as a driver does. How many went on.
    pub fn send(&mut self, packets: &mut Packets) -> usize {
        let mut passed = 0;
        let mut prepared = Vec::with_capacity(BATCH);
        for (slots, ports) in packets.bytes.chunks_mut(SLOT * BATCH).zip(packets.ports.chunks(BATCH)) {
            prepared.clear();
            for (slot, port) in slots.chunks_exact_mut(SLOT).zip(ports) {
                prepared.push(self.engine.prepare(*port, &packet(slot)));
            }
            self.engine.load(&prepared);
            for (slot, prepared) in slots.chunks_exact_mut(SLOT).zip(&prepared) {
                let verdict = self.engine.receive_prepared(self.now, packet(slot), prepared);
                passed += usize::from(matches!(verdict, Verdict::Forward(_)));
            }
        }
        passed
    }

    /// How long lookups take, in nanoseconds: prepared in batches, as a driver does, so that each sample is a batch's
    /// average of reading headers, finding and comparing.
    pub fn time_lookups(&self, packets: &Packets) -> Samples {
        let mut bytes = packets.bytes.clone();
        let mut prepared = Vec::with_capacity(BATCH);
        let batches = bytes.chunks_mut(SLOT * BATCH).zip(packets.ports.chunks(BATCH));
        let time = |(slots, ports): (&mut [u8], &[Port])| {
            prepared.clear();
            let begun = Instant::now();
            for (slot, port) in slots.chunks_exact_mut(SLOT).zip(ports) {
                prepared.push(self.engine.prepare(*port, &packet(slot)));
            }
            self.engine.load(&prepared);
            let known = prepared.iter().filter(|prepared| self.engine.knows(prepared)).count();
            let took = begun.elapsed();
            assert_eq!(black_box(known), ports.len(), "all are known");
            took.as_secs_f64() * 1e9 / ports.len() as f64
        };
        batches.map(time).collect()
    }
}

fn packet(slot: &mut [u8]) -> Packet<'_> {
    Packet { bytes: &mut slot[..LENGTH], offload: Offload::default() }
}

impl Packets {
    /// Turns what went out into what comes back.
    pub fn turn(&mut self) {
        let mut buffer = Vec::new();
        for (slot, port) in self.bytes.chunks_exact_mut(SLOT).zip(&mut self.ports) {
            let at = |at: usize| Ipv4Addr::new(slot[at], slot[at + 1], slot[at + 2], slot[at + 3]);
            let word = |at: usize| u16::from_be_bytes([slot[at], slot[at + 1]]);
            let source = SocketAddr::from((at(12), word(20)));
            let destination = SocketAddr::from((at(16), word(22)));
            let numbers = Numbers { sequence: 1, acknowledgement: 1, flags: flags::ACK };
            craft::segment(&mut buffer, destination, source, numbers, &[]);
            slot[..LENGTH].copy_from_slice(&buffer);
            *port = Port::World;
        }
    }

    pub fn len(&self) -> usize {
        self.ports.len()
    }
}

fn address(function: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xa9fe_0002 + function * 4)
}
