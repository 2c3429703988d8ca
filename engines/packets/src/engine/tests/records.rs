//! The flow log.

use super::*;
use crate::engine::records::{RECORDS_MAX, REFUSED_MAX};
use crate::flow_log::{Action, Origin, Status};
use limits::network::{Acl, AclEntry, Group, Hop, Host, HostKind, InterfaceOf, Route, Traffic};
use model::stack::LogFormat;

/// Something at 10.0.9.9.
fn host(groups: Vec<usize>, subnet: Option<usize>) -> Host {
    Host {
        name: "Database".into(),
        address: Ipv4Addr::new(10, 0, 9, 9),
        address6: None,
        names: Vec::new(),
        private_names: Vec::new(),
        groups,
        vpc: 0,
        subnet,
        placed: subnet.is_some(),
        public: false,
        what: HostKind::Endpoint(0),
    }
}

/// A NAT gateway that stands in a subnet, 10.9.0.0/24, as 10.9.0.4.
fn with_gateway(overrides: &[&str]) -> Rig {
    let mut rig = Rig::new(overrides);
    rig.engine.keep_flow_records(true);
    let network = &mut rig.engine.network;
    let mut public = network.subnets[0].clone();
    (public.name, public.cidr) = ("Public".into(), Some("10.9.0.0/24".parse().unwrap()));
    public.routes[1] = Route::any("Default", Hop::InternetGateway("Gate".into()));
    network.subnets.push(public);
    let gateway = &mut network.gateways[0];
    (gateway.subnet, gateway.address) = (Some(1), Some([10, 9, 0, 4].into()));
    rig
}

/// Each record's interface and a line of it.
fn told(rig: &mut Rig, format: &str) -> Vec<String> {
    let format: LogFormat = format.parse().unwrap();
    assert!(rig.engine.log_flows(100));
    let records: Vec<_> = std::iter::from_fn(|| rig.engine.take_flow_record()).collect();
    let line = |record: &crate::FlowRecord| {
        let place = rig.engine.interface_place(record.interface).unwrap();
        format!("{} {}", place.name, record.line(&format, &ORIGIN, 0))
    };
    records.iter().map(line).collect()
}

const ENDS: &str = "${srcaddr} ${dstaddr} ${pkt-srcaddr} ${pkt-dstaddr} ${srcport} ${dstport}";

/// The interface of the VPC User Guide's examples.
const ORIGIN: Origin<'_> = Origin {
    account: "123456789010",
    region: "us-east-1",
    interface: "eni-1235b8ca123456789",
    vpc: "vpc-abcdefab012345678",
    subnet: "subnet-aaaaaaaa012345678",
    zone_id: "use1-az1",
};

#[test]
fn a_flow_has_a_record_for_each_direction_when_it_ends() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    let sent = rig.connect(40_000, REMOTE);
    rig.now = Instant::from_secs(9);
    rig.answer(&sent, flags::RST);
    let lines: Vec<String> = std::iter::from_fn(|| rig.engine.take_flow_record())
        .map(|record| record.line(&LogFormat::default(), &ORIGIN, 1_418_530_000))
        .collect();
    assert_eq!(
        lines,
        [
            "2 123456789010 eni-1235b8ca123456789 10.0.0.4 203.0.113.9 1024 443 6 2 80 1418530001 1418530009 ACCEPT OK",
            "2 123456789010 eni-1235b8ca123456789 203.0.113.9 10.0.0.4 443 1024 6 2 80 1418530001 1418530009 ACCEPT OK",
        ]
    );
}

#[test]
fn an_echo_has_no_ports() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    let (here, there) = (INSIDE.into(), "203.0.113.9".parse().unwrap());
    for id in [9, 10] {
        let mut ping = Vec::new();
        craft::echo(&mut ping, here, there, false, id, 1);
        assert_eq!(rig.send(Port::Environment(rig.inside), &mut ping), Verdict::Forward(Port::World));
    }
    let lines = told(&mut rig, "${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol}");
    assert_eq!(lines, ["eni-Subnet1-Group 10.0.0.4 203.0.113.9 0 0 1"; 2], "{lines:?}");
}

#[test]
fn flows_that_go_on_are_recorded_in_parts() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    (1..6).for_each(|port| drop(rig.connect(port, REMOTE)));
    assert!(!rig.engine.log_flows(4) && rig.engine.log_flows(4));
    let packets: u32 =
        std::iter::from_fn(|| rig.engine.take_flow_record()).map(|record| record.packets).sum();
    assert_eq!(packets, 15);
    assert!(rig.engine.log_flows(100));
    assert_eq!(rig.engine.take_flow_record(), None, "nothing has moved since");
}

#[test]
fn a_record_that_begins_with_what_comes_starts_when_it_came() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    let sent = rig.connect(40_000, REMOTE);
    assert!(rig.engine.log_flows(100));
    while rig.engine.take_flow_record().is_some() {}
    rig.now = Instant::from_secs(90);
    rig.answer(&sent, flags::ACK);
    assert!(rig.engine.log_flows(100));
    let record = rig.engine.take_flow_record().unwrap();
    assert_eq!((record.egress, record.packets, record.start_s, record.end_s), (false, 1, 90, 90));
}

#[test]
fn what_rules_reject_is_recorded_and_what_an_interface_drops_is_not() {
    let mut rig = Rig::new(&["nat.ports=0"]);
    rig.engine.keep_flow_records(true);
    let told = |rig: &mut Rig| {
        assert!(rig.engine.log_flows(100));
        let records: Vec<_> = std::iter::from_fn(|| rig.engine.take_flow_record()).collect();
        records
            .iter()
            .map(|record| (record.action, record.packets, record.end_s - record.start_s))
            .collect::<Vec<_>>()
    };
    rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(told(&mut rig), [(Action::Accept, 1, 0)]);
    let network = rig.engine.network.clone();
    rig.engine.network.groups[0].egress.clear();
    // Sent again within the interval, it is one record.
    for second in [10, 11, 13] {
        rig.now = Instant::from_secs(second);
        let verdict = rig.leave(40_000, REMOTE, flags::SYN).0;
        assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NoRule)));
    }
    assert_eq!(rig.engine.take_flow_record(), None, "the interval goes on");
    assert_eq!(told(&mut rig), [(Action::Reject, 3, 3)]);
    // A route that leads nowhere is behind the interface.
    rig.engine.network = network.clone();
    rig.engine.network.subnets[0].routes.clear();
    rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(told(&mut rig), [(Action::Accept, 1, 0)]);
    // So are the rules of who is asked, but not the ACL of the own subnet.
    rig.engine.network = network;
    rig.engine.network.groups.push(Group { name: "Deaf".into(), ..Default::default() });
    rig.engine.network.hosts.push(host(vec![1], None));
    let verdict = rig.leave(40_000, "10.0.9.9:5432", flags::SYN).0;
    assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NoRule)));
    assert_eq!(told(&mut rig), [(Action::Accept, 1, 0), (Action::Reject, 1, 0)]);
    rig.engine.network.acls.push(Acl { name: "Shut".into(), entries: Vec::new() });
    rig.engine.network.subnets[0].acl = Some(0);
    rig.leave(40_001, REMOTE, flags::SYN);
    assert_eq!(told(&mut rig), [(Action::Reject, 1, 0)]);
    let mut rig = Rig::new(&["eni.connections=0"]);
    rig.engine.keep_flow_records(true);
    rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(rig.engine.take_flow_record(), None);
    let board = rig.engine.board();
    assert!(board.iter().any(|row| row.id == LimitId::EniConnections && row.refused == 1));
}

#[test]
fn what_nobody_takes_in_time_is_counted_and_its_interface_named() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    rig.engine.network.groups[0].egress.clear();
    // Each one is a flow of its own.
    for number in 0..RECORDS_MAX + REFUSED_MAX {
        let to = format!("203.0.{}.{}:443", number >> 8 & 255, number & 255);
        rig.leave(1 + (number >> 16) as u16, &to, flags::SYN);
    }
    assert_eq!(rig.engine.flow_records_lost(), 0);
    assert!(rig.engine.take_skipped_interfaces().is_empty());
    assert!(rig.engine.log_flows(100));
    assert_eq!(rig.engine.flow_records_lost(), REFUSED_MAX as u64);
    let skipped = rig.engine.take_skipped_interfaces();
    let functions = rig.engine.wired().interfaces[0][0];
    assert_eq!(skipped.into_iter().collect::<Vec<_>>(), [InterfaceOf::Functions(functions)]);
    assert!(rig.engine.take_skipped_interfaces().is_empty());
    // The lines of the VPC User Guide's examples.
    let line = |status: Status, id: &str, between| {
        status.line(&LogFormat::default(), &Origin { interface: id, ..ORIGIN }, between)
    };
    assert_eq!(
        line(Status::NoData, "eni-1235b8ca123456789", (1_431_280_876, 1_431_280_934)),
        "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA"
    );
    assert_eq!(
        line(Status::SkipData, "eni-11111111aaaaaaaaa", (1_431_280_876, 1_431_280_934)),
        "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA"
    );
}

#[test]
fn what_is_asked_of_the_resolver_is_not_logged() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    let verdict = rig.leave(40_000, "169.254.169.253:53", flags::SYN).0;
    assert!(matches!(verdict, Verdict::Ask { .. }), "{verdict:?}");
    rig.leave(40_000, "169.254.169.253:53", flags::RST);
    assert!(rig.engine.log_flows(100));
    assert_eq!(rig.engine.take_flow_record(), None);
}

#[test]
fn lines_of_a_custom_format_have_its_fields_and_their_highest_version() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    let sent = rig.connect(40_000, REMOTE);
    rig.answer(&sent, flags::FIN | flags::ACK);
    assert!(rig.engine.log_flows(100));
    rig.leave(40_000, REMOTE, flags::RST);
    let format: LogFormat = "${version} ${vpc-id} ${subnet-id} ${instance-id} ${srcaddr} ${pkt-dstaddr} ${tcp-flags} ${type} \
                             ${region} ${az-id} ${sublocation-id} ${pkt-dst-aws-service} ${flow-direction} ${traffic-path} \
                             ${reject-reason}"
        .parse()
        .unwrap();
    let lines: Vec<String> = std::iter::from_fn(|| rig.engine.take_flow_record())
        .map(|record| record.line(&format, &ORIGIN, 0))
        .collect();
    let line = |ends: &str, flags: u8, direction: &str| {
        format!(
            "8 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 - {ends} {flags} IPv4 us-east-1 use1-az1 - - {direction} -"
        )
    };
    // What one direction said since the last record: its SYN; SYN, ACK and FIN; its reset.
    assert_eq!(
        lines,
        [
            line("10.0.0.4 203.0.113.9", 2, "egress 1"),
            line("203.0.113.9 10.0.0.4", 19, "ingress -"),
            line("10.0.0.4 203.0.113.9", 4, "egress 1"),
        ]
    );
    let silent = Status::NoData.line(&format, &ORIGIN, (1, 2));
    let known = "8 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 - - - - - us-east-1 use1-az1 - - - - -";
    assert_eq!(silent, known);
}

#[test]
fn parts_of_a_flow_are_one_record_within_an_interval() {
    let mut rig = Rig::new(&[]);
    rig.engine.keep_flow_records(true);
    rig.connect(40_000, REMOTE);
    assert!(rig.engine.log_flows(100));
    rig.now = Instant::from_secs(70);
    rig.leave(40_000, REMOTE, flags::FIN | flags::ACK);
    assert!(rig.engine.log_flows(100));
    let mut records: Vec<_> = std::iter::from_fn(|| rig.engine.take_flow_record()).collect();
    let later = records.remove(2);
    assert_eq!(records[0].key(), later.key());
    assert_ne!(records[1].key(), later.key(), "the other direction");
    records[0].add(&later);
    let whole = records[0];
    assert_eq!((whole.packets, whole.bytes, whole.tcp_flags), (3, 120, flags::SYN | flags::FIN));
    assert_eq!((whole.start_s, whole.end_s), (1, 70));
}

#[test]
fn a_nat_gateways_interface_has_what_comes_and_what_goes_on_in_both_directions() {
    let mut rig = with_gateway(&[]);
    let sent = rig.connect(40_000, REMOTE);
    let port = View::read(&sent, &Offload::default()).unwrap().source_port;
    // VPC User Guide, "Flow log record examples", "Traffic through a NAT gateway", in that format and with those differences.
    let (eni, nat) = ("eni-Subnet1-Group", "eni-Public-NatGateway");
    let expected = [
        format!("{eni} 10.0.0.4 203.0.113.9 10.0.0.4 203.0.113.9 1024 443 2 - egress 1 ACCEPT"),
        format!("{eni} 203.0.113.9 10.0.0.4 203.0.113.9 10.0.0.4 443 1024 1 - ingress - ACCEPT"),
        format!("{nat} 10.0.0.4 10.9.0.4 10.0.0.4 203.0.113.9 1024 443 2 - ingress - ACCEPT"),
        format!("{nat} 10.9.0.4 10.0.0.4 203.0.113.9 10.0.0.4 443 1024 1 - egress 1 ACCEPT"),
        format!("{nat} 10.9.0.4 203.0.113.9 10.9.0.4 203.0.113.9 {port} 443 2 - egress 2 ACCEPT"),
        format!("{nat} 203.0.113.9 10.9.0.4 203.0.113.9 10.9.0.4 443 {port} 1 - ingress - ACCEPT"),
    ];
    let rest = " ${packets} ${instance-id} ${flow-direction} ${traffic-path} ${action}";
    assert_eq!(told(&mut rig, &format!("{ENDS}{rest}")), expected);
}

#[test]
fn a_full_gateway_takes_what_comes_and_lets_nothing_on() {
    let mut rig = with_gateway(&["nat.ports=0"]);
    let verdict = rig.leave(40_000, REMOTE, flags::SYN).0;
    assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NatPorts)));
    let ends = ["eni-Subnet1-Group 203.0.113.9 ACCEPT", "eni-Public-NatGateway 10.9.0.4 ACCEPT"];
    assert_eq!(told(&mut rig, "${dstaddr} ${action}"), ends);
}

#[test]
fn acls_of_a_gateways_subnet_reject_at_its_interface() {
    let mut rig = with_gateway(&[]);
    let deny = |number, egress, cidr: &str| AclEntry {
        number,
        egress,
        allow: false,
        range: model::stack::AnyCidr::Ipv4(cidr.parse().unwrap()),
        traffic: Traffic::ALL,
    };
    let rest = |egress| AclEntry { allow: true, ..deny(9, egress, "0.0.0.0/0") };
    for (entry, expected) in [
        (deny(1, false, "10.0.0.0/16"), vec!["10.0.0.4 10.9.0.4 REJECT ingress"]),
        (
            deny(1, true, "203.0.113.0/24"),
            vec!["10.0.0.4 10.9.0.4 ACCEPT ingress", "10.9.0.4 203.0.113.9 REJECT egress"],
        ),
        // What comes back from there would not be let in: nobody sends it.
        (
            deny(1, false, "203.0.113.0/24"),
            vec!["10.0.0.4 10.9.0.4 ACCEPT ingress", "10.9.0.4 203.0.113.9 ACCEPT egress"],
        ),
    ] {
        let network = &mut rig.engine.network;
        network.acls = vec![Acl { name: "Acl".into(), entries: vec![entry, rest(false), rest(true)] }];
        network.subnets[1].acl = Some(0);
        let verdict = rig.leave(40_000, REMOTE, flags::SYN).0;
        assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NaclDeny)));
        let lines = told(&mut rig, "${srcaddr} ${dstaddr} ${action} ${flow-direction}");
        let (own, gateways) = lines.split_first().unwrap();
        assert_eq!(own, "eni-Subnet1-Group 10.0.0.4 203.0.113.9 ACCEPT egress");
        let expected: Vec<String> =
            expected.iter().map(|line| format!("eni-Public-NatGateway {line}")).collect();
        assert_eq!(gateways, expected);
    }
}

#[test]
fn an_endpoints_interface_has_what_comes_to_it_and_what_its_groups_reject() {
    let mut rig = with_gateway(&[]);
    rig.engine.network.groups.push(Group::open("Open"));
    rig.engine.network.hosts.push(host(vec![1], Some(1)));
    let to = "10.0.9.9:443";
    let (verdict, _) = rig.leave(40_000, to, flags::SYN);
    let Verdict::Ask { held, .. } = verdict else { panic!("{verdict:?}") };
    rig.engine.held_opened(rig.now, held).unwrap();
    let mut lines = told(&mut rig, ENDS);
    assert_eq!(lines.pop().unwrap(), "eni-Public-Database 10.0.0.4 10.0.9.9 10.0.0.4 10.0.9.9 1024 443");
    assert_eq!(lines, ["eni-Subnet1-Group 10.0.0.4 10.0.9.9 10.0.0.4 10.0.9.9 1024 443"]);
    rig.engine.network.groups[1].ingress.clear();
    let verdict = rig.leave(40_001, to, flags::SYN).0;
    assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NoRule)));
    let lines = told(&mut rig, "${action} ${flow-direction}");
    assert_eq!(lines, ["eni-Subnet1-Group ACCEPT egress", "eni-Public-Database REJECT ingress"]);
    // The ACL of its subnet is its interface's, too.
    rig.engine.network.acls.push(Acl { name: "Shut".into(), entries: Vec::new() });
    rig.engine.network.subnets[1].acl = Some(0);
    rig.leave(40_002, to, flags::SYN);
    let lines = told(&mut rig, "${action} ${flow-direction}");
    assert_eq!(lines, ["eni-Subnet1-Group ACCEPT egress", "eni-Public-Database REJECT ingress"]);
}
