//! Bandwidth, where it is bounded.

use super::*;
use crate::engine::Bandwidth;

fn bounded(bandwidth: Bandwidth) -> Rig {
    Rig::with(&[], 1, PacketSettings { bandwidth, seed: [1, 2], ..PacketSettings::default() })
}

/// A full datagram in a frame of 1,500 bytes.
fn datagram(port: u16) -> Vec<u8> {
    craft::datagram(SocketAddr::from((INSIDE, port)), REMOTE.parse().unwrap(), &[7; 1_472]).unwrap()
}

/// How many of the full packets of two seconds pass, evenly sent at so many a second.
fn passing(rig: &mut Rig, per_second: u64) -> u64 {
    let begun = rig.now;
    let send = |number: u64| {
        rig.now = begun + Duration::from_nanos(number * 1_000_000_000 / per_second);
        let verdict = rig.send(Port::Environment(rig.inside), &mut datagram(9));
        u64::from(verdict == Verdict::Forward(Port::World))
    };
    (0..2 * per_second).map(send).sum()
}

#[test]
fn what_is_above_a_links_figure_is_dropped_under_its_id() {
    let none = Bandwidth::default();
    for (bandwidth, limit, resource, rate) in [
        // 8 Mbit/s are 666 packets of 1,500 bytes, and 87 at once.
        (Bandwidth { environment: Some(8), ..none }, LimitId::EnvironmentBandwidth, "environment", 666),
        (Bandwidth { interface: Some(8), ..none }, LimitId::EniBandwidth, "eni-Subnet1-Group", 666),
        (Bandwidth { gateway: Some(8), ..none }, LimitId::NatBandwidth, "NatGateway", 666),
        (Bandwidth { gateway_packets: Some(500), ..none }, LimitId::NatPackets, "NatGateway", 500),
    ] {
        let mut rig = bounded(bandwidth);
        let passed = passing(&mut rig, 2_000);
        assert!((2 * rate..=2 * rate + 130).contains(&passed), "{limit}: {passed}");
        let rows = rig.engine.board();
        let row = rows.iter().find(|row| row.id == limit).unwrap();
        assert_eq!((&*row.resource, row.refused), (resource, 4_000 - passed));
        assert!(row.used <= row.max && row.peak == row.max);
        let Some(Event::Refused { refusal, environment, .. }) = rig.engine.take_event() else {
            panic!("no event")
        };
        assert_eq!((refusal.limit, environment), (limit, rig.inside));
        // Slower than the figure, nothing is lost; the other environment has no part in interface and gateway.
        rig.now += Duration::from_secs(1);
        assert_eq!(passing(&mut rig, rate - 10), 2 * (rate - 10));
        let metrics = rig.engine.metrics(rig.now, 0).unwrap();
        // What environments and interfaces drop never came to the gateway.
        let is_gateways = matches!(limit, LimitId::NatBandwidth | LimitId::NatPackets);
        assert_eq!(metrics.packets_dropped, if is_gateways { 4_000 - passed } else { 0 });
        assert_eq!(
            metrics.packets_in_from_source - metrics.packets_out_to_destination,
            metrics.packets_dropped
        );
        assert_eq!(metrics.packets_out_to_destination, passed + 2 * (rate - 10));
    }
}

#[test]
fn directions_and_environments_count_apart_and_nothing_is_counted_without_a_figure() {
    let mut rig = bounded(Bandwidth { environment: Some(8), ..Bandwidth::default() });
    let passed = passing(&mut rig, 2_000);
    assert!(passed < 2_000);
    // The other environment sends as if nothing were.
    let from = SocketAddr::from(([169, 254, 0, 6], 9));
    let mut other = craft::datagram(from, REMOTE.parse().unwrap(), &[7; 1_472]).unwrap();
    assert_eq!(rig.send(Port::Environment(rig.free), &mut other), Verdict::Forward(Port::World));
    // An answer comes in, though the way out is full.
    let sent = View::read(&other, &Offload::default()).unwrap();
    let (back, to) = (REMOTE.parse().unwrap(), SocketAddr::new(sent.source, sent.source_port));
    let mut answer = craft::datagram(back, to, &[7; 100]).unwrap();
    assert_eq!(rig.send(Port::World, &mut answer), Verdict::Forward(Port::Environment(rig.free)));
    let free = bounded(Bandwidth::default());
    assert!(free.engine.board().iter().all(|row| row.id != LimitId::EnvironmentBandwidth));
}
