//! The planner's way to ask and the packets' meet the same limits: the same connection numbers are refused.

use super::*;
use limits::Way;
use limits::network::{Hop, Route, Subnet, Target, To, Vpc};
use model::stack::{AnyCidr, Cidr};

/// What is to be closed: when, and the connect's number.
type Closes<T> = BTreeMap<(u64, usize), T>;

/// The next that is due by then.
fn due<T>(closes: &mut Closes<T>, by: u64) -> Option<(u64, T)> {
    let entry = closes.first_entry().filter(|entry| entry.key().0 <= by)?;
    let ((at, _), what) = entry.remove_entry();
    Some((at, what))
}

/// Who connects to where.
#[derive(Clone, Copy)]
struct Course {
    function: usize,
    from: Ipv4Addr,
    to: &'static str,
}

/// The function in the VPC.
const INSIDER: Course = Course { function: 0, from: INSIDE, to: REMOTE };
/// The one without.
const OUTSIDER: Course = Course { function: 1, from: Ipv4Addr::new(169, 254, 0, 6), to: REMOTE };

/// Connects at these seconds, each closed again after some or left alone: which of them are refused.
fn by_plan(rig: &Rig, course: Course, connects: &[(u64, Option<u64>)]) -> Vec<usize> {
    let mut network = rig.engine.wired.clone();
    let to: SocketAddr = course.to.parse().unwrap();
    let (host, IpAddr::V4(address)) = (to.ip().to_string(), to.ip()) else { panic!("IPv4") };
    let target = Target { host: &host, address, port: to.port() };
    let way: Way = rig.engine.network.way(&mut network, course.function, 0, &target);
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
fn by_packets(mut rig: Rig, course: Course, connects: &[(u64, Option<u64>)]) -> Vec<usize> {
    let (mut refused, mut closes) = (Vec::new(), Closes::new());
    let mut leave = |now: u64, port: u16, said: u8| {
        rig.now = Instant::from_secs(now);
        let from = if course.function == 0 { rig.inside } else { rig.free };
        rig.send(Port::Environment(from), &mut segment((course.from, port), course.to, said))
    };
    for (number, (at, stays)) in connects.iter().enumerate() {
        while let Some((at, port)) = due(&mut closes, *at) {
            leave(at, port, flags::RST);
        }
        let port = 1000 + number as u16;
        match leave(*at, port, flags::SYN) {
            Verdict::Forward(_) | Verdict::Ask { .. } => {
                if let Some(stays) = stays {
                    closes.insert((at + stays, number), port);
                }
            }
            // A full database says so.
            Verdict::Drop(_) | Verdict::Answer => refused.push(number),
            other => panic!("{other:?}"),
        }
    }
    refused
}

/// A database in a VPC of its own, to which a peering connection leads from the NAT gateway's subnet, or the internet.
fn with_a_database_behind(overrides: &[&str], is_public: bool) -> Rig {
    let mut given = Overrides::default();
    overrides.iter().for_each(|text| given.read(text).unwrap());
    let limits = NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &given).unwrap();
    let mut network = Network::simple(2, 2, 1).with_database("db.t4g.micro");
    network.placements[1] = None;
    let theirs: Cidr = "172.30.0.0/16".parse().unwrap();
    network.vpcs.push(Vpc { name: "Theirs".to_owned(), ranges: vec![theirs], ..Vpc::default() });
    let ours = network.vpcs[0].ranges[0];
    let peer = |to: Cidr, vpc| Route {
        name: "Peer".to_owned(),
        to: To::Range(AnyCidr::Ipv4(to)),
        hop: Hop::Peer { vpc, name: "Peering".to_owned() },
    };
    let mut subnet = Subnet::default();
    (subnet.name, subnet.vpc, subnet.cidr) = ("Theirs".to_owned(), 1, Some(theirs));
    subnet.routes = vec![Route::local(theirs), peer(ours, 0)];
    network.subnets.push(subnet);
    (network.gateways[0].subnet, network.gateways[0].address) = (Some(1), Some([10, 1, 0, 250].into()));
    network.subnets[1].routes[1].hop = Hop::InternetGateway("Igw".to_owned());
    if !is_public {
        network.subnets[1].routes.push(peer(theirs, 1));
    }
    let host = &mut network.hosts[0];
    (host.address, host.vpc, host.subnet, host.public) = ([172, 30, 0, 4].into(), 1, Some(2), is_public);
    let settings = PacketSettings {
        seed: [1, 2],
        private_world: is_public,
        // Nobody says how long silence lasts where there is no interface.
        tcp_idle_timeout: limits.interface.idle_timeout,
        ..PacketSettings::default()
    };
    Rig::of(network, limits, None, settings)
}

const DATABASE: &str = "172.30.0.4:5432";

#[test]
fn a_database_behind_a_gateway_or_on_the_internet_refuses_the_one_that_is_too_much() {
    let connects: Vec<_> = (0..80).map(|number| (1 + number, None)).collect();
    let beyond: Vec<usize> = (72..80).collect();
    for (is_public, course) in [(false, INSIDER), (true, INSIDER), (true, OUTSIDER)] {
        let rig = || with_a_database_behind(&[], is_public);
        let course = Course { to: DATABASE, ..course };
        assert_eq!(by_plan(&rig(), course, &connects), beyond, "a db.t4g.micro has 72");
        assert_eq!(by_packets(rig(), course, &connects), beyond);
    }
}

proptest::proptest! {
    #[test]
    fn plan_and_packets_refuse_the_same_connections(
        ports in 1u32..30, interface in 1u32..30, cooldown in 0u64..40, idle in 20u64..400,
        database in proptest::option::of((1u32..30, 0u8..3)),
        connects in proptest::collection::vec((0u64..20, proptest::option::of(1u64..200)), 1..200),
    ) {
        let mut overrides = vec![
            format!("nat.ports={ports}"),
            format!("eni.connections={interface}"),
            format!("nat.port-cooldown={cooldown}"),
            format!("nat.idle-timeout={idle}"),
            format!("eni.idle-timeout={idle}"),
        ];
        overrides.extend(database.map(|(connections, _)| format!("db.max-connections={connections}")));
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let course = match database {
            None => INSIDER,
            Some((_, 2)) => Course { to: DATABASE, ..OUTSIDER },
            Some(_) => Course { to: DATABASE, ..INSIDER },
        };
        let rig = || match database {
            None => Rig::new(&overrides),
            Some((_, how)) => with_a_database_behind(&overrides, how > 0),
        };
        let mut now = 1;
        let connects: Vec<(u64, Option<u64>)> =
            connects.into_iter().map(|(wait, stays)| { now += wait; (now, stays) }).collect();
        proptest::prop_assert_eq!(by_plan(&rig(), course, &connects), by_packets(rig(), course, &connects));
    }
}
