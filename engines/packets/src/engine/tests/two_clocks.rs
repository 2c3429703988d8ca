//! The planner's way to ask and the packets' meet the same limits: the same connection numbers are refused.

use super::*;
use limits::nat::{Destination, GatewayId, Protocol};

/// What is to be closed: when, and the connect's number.
type Closes<T> = BTreeMap<(u64, usize), T>;

/// The next that is due by then.
fn due<T>(closes: &mut Closes<T>, by: u64) -> Option<(u64, T)> {
    let entry = closes.first_entry().filter(|entry| entry.key().0 <= by)?;
    let ((at, _), what) = entry.remove_entry();
    Some((at, what))
}

/// Connects at these seconds, each closed again after some or left alone: which of them are refused.
fn by_plan(overrides: &[&str], connects: &[(u64, Option<u64>)]) -> Vec<usize> {
    let rig = Rig::new(overrides);
    let mut network = rig.engine.wired.clone();
    let destination = Destination { address: [203, 0, 113, 9].into(), port: 443, protocol: Protocol::Tcp };
    let way = network.connections.through(network.interfaces[0][0], GatewayId::of(0), destination);
    let (mut refused, mut closes) = (Vec::new(), Closes::new());
    for (number, (at, stays)) in connects.iter().enumerate() {
        while let Some((at, connection)) = due(&mut closes, *at) {
            network.connections.close(Instant::from_secs(at), connection);
        }
        match network.connections.open(Instant::from_secs(*at), way) {
            Ok(connection) => drop(stays.map(|stays| closes.insert((at + stays, number), connection))),
            Err(_) => refused.push(number),
        }
    }
    refused
}

/// The same with packets.
fn by_packets(overrides: &[&str], connects: &[(u64, Option<u64>)]) -> Vec<usize> {
    let mut rig = Rig::new(overrides);
    let (mut refused, mut closes) = (Vec::new(), Closes::new());
    for (number, (at, stays)) in connects.iter().enumerate() {
        while let Some((at, port)) = due(&mut closes, *at) {
            rig.now = Instant::from_secs(at);
            rig.leave(port, REMOTE, flags::RST);
        }
        rig.now = Instant::from_secs(*at);
        let port = 1000 + number as u16;
        match rig.leave(port, REMOTE, flags::SYN).0 {
            Verdict::Forward(_) => drop(stays.map(|stays| closes.insert((at + stays, number), port))),
            Verdict::Drop(_) => refused.push(number),
            other => panic!("{other:?}"),
        }
    }
    refused
}

proptest::proptest! {
    #[test]
    fn plan_and_packets_refuse_the_same_connections(
        ports in 1u32..30, interface in 1u32..30, cooldown in 0u64..40, idle in 20u64..400,
        connects in proptest::collection::vec((0u64..20, proptest::option::of(1u64..200)), 1..200),
    ) {
        let overrides = [
            format!("nat.ports={ports}"),
            format!("eni.connections={interface}"),
            format!("nat.port-cooldown={cooldown}"),
            format!("nat.idle-timeout={idle}"),
            format!("eni.idle-timeout={idle}"),
        ];
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let mut now = 1;
        let connects: Vec<(u64, Option<u64>)> =
            connects.into_iter().map(|(wait, stays)| { now += wait; (now, stays) }).collect();
        proptest::prop_assert_eq!(by_plan(&overrides, &connects), by_packets(&overrides, &connects));
    }
}
