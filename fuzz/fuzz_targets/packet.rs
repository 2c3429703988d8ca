//! Any bytes as packets from anywhere: never a panic, what goes on can be read, and nothing stays for ever.
#![no_main]

use limits::settings::NetworkSettings;
use model::{Era, Instant, Overrides};
use packets::wire::View;
use packets::{Attachment, Offload, Packet, PacketEngine, PacketSettings, Partial, Place, Port, Verdict};
use std::num::NonZeroU16;
use std::sync::LazyLock;

/// One packet: where it comes from, how long after the last one, what its device left undone, and its bytes.
type Sent<'bytes> = (u8, u8, Option<(u16, u16)>, u16, &'bytes [u8]);

static SETTINGS: LazyLock<NetworkSettings> = LazyLock::new(|| {
    let mut given = Overrides::default();
    for text in ["nat.ports=3", "eni.connections=5"] {
        given.read(text).unwrap();
    }
    NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &given).unwrap()
});

libfuzzer_sys::fuzz_target!(|sent: Vec<Sent<'_>>| {
    let mut network = limits::Network::simple(2, 1, 1);
    network.placements[1] = None;
    let wired = network.wire(SETTINGS.clone());
    let mut engine = PacketEngine::new(network, wired, PacketSettings { flows_max: 9, ..PacketSettings::default() });
    let attach = |engine: &mut PacketEngine, last, place| {
        let (address, address6) = ([169, 254, 0, last].into(), "fd00::2".parse().ok());
        engine.attach(Instant::START, Attachment { address, address6, place, resolver: None }).unwrap()
    };
    let inside = attach(&mut engine, 2, Some(Place { function: 0, choice: 0 }));
    let free = attach(&mut engine, 6, None);
    let ports = [Port::Environment(inside), Port::Environment(free), Port::World, Port::Relay];
    let (mut now, mut held) = (Instant::START, Vec::new());
    for (from, wait, partial, segment, bytes) in sent {
        now = now + std::time::Duration::from_secs(wait.into());
        let mut bytes = bytes.to_vec();
        // Checksums of headers are right, so that what lies behind them is reached.
        if bytes.len() >= 20 && bytes[0] >> 4 == 4 {
            let length = (usize::from(bytes[0] & 15) * 4).clamp(20, bytes.len());
            bytes[0] = 0x40 | (length / 4) as u8;
            let total = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            bytes[2..4].copy_from_slice(&total.to_be_bytes());
            bytes[10..12].copy_from_slice(&[0, 0]);
            let sum = packets::Checksum::default().with(&bytes[..length / 4 * 4]).finish();
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let checksum = partial.map(|(start, offset)| Partial { start, offset });
        let offload = Offload { checksum, segment: NonZeroU16::new(segment) };
        let packet = Packet { bytes: &mut bytes, offload };
        match engine.receive(now, ports[usize::from(from % 4)], packet) {
            Verdict::Forward(_) => assert!(View::read(&bytes, &offload).is_ok()),
            Verdict::Carry(_, offload) => assert!(View::read(engine.answer(), &offload).is_ok()),
            Verdict::Answer => assert!(View::read(engine.answer(), &Offload::default()).is_ok()),
            Verdict::Resolve { payload } => assert!(payload.end <= bytes.len()),
            Verdict::Ask { held: id, .. } => held.push(id),
            Verdict::Drop(_) => {}
        }
        if wait % 3 == 0 && let Some(id) = held.pop() {
            match wait % 4 {
                0 => drop(engine.held_opened(now, id)),
                1 => drop(engine.held_refused(now, id)),
                _ => engine.held_failed(now, id),
            }
        }
    }
    engine.advance(now + std::time::Duration::from_secs(1000));
    assert_eq!(engine.flows(), 0);
});
