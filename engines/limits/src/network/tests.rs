use super::*;
use crate::connections::End;
use crate::{NetworkSettings, Way};
use model::Instant;
use std::net::Ipv6Addr;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn to(host: &str, port: u16) -> Target<'_> {
    Target { host, address: host.parse().unwrap_or(PUBLIC), port }
}

#[test]
fn the_longest_prefix_wins() {
    let mut network = Network::simple(1, 1, 1);
    network.subnets[0].routes.extend([
        Route::local("192.168.0.0/16".parse().unwrap()),
        Route {
            name: String::new(),
            to: To::Range(AnyCidr::Ipv4("198.51.100.0/24".parse().unwrap())),
            hop: Hop::InternetGateway("Igw".into()),
        },
    ]);
    let verdict = |host: &str| network.verdict(0, &[0], &to(host, 443));
    assert_eq!(verdict("cache.example.com"), Verdict::Nat(0, None));
    assert_eq!(verdict("192.168.200.9"), Verdict::Inside);
    let Verdict::Barred(LimitId::NoRoute, who) = verdict("198.51.100.7") else {
        panic!("an internet gateway drops it")
    };
    assert!(who.contains("Igw"));
    network.subnets[0].routes.clear();
    let nowhere = Verdict::Barred(LimitId::NoRoute, "Subnet1".into());
    assert_eq!(network.verdict(0, &[0], &to("cache.example.com", 443)), nowhere);
}

#[test]
fn endpoints_stand_before_routes() {
    let mut network = Network::simple(1, 1, 1);
    let s3 = "com.amazonaws.us-east-1.s3";
    network.endpoints =
        vec![Endpoint { name: "S3".into(), service: "s3".into(), names: names::service_hosts(s3) }];
    let service = To::Service("s3".into());
    network.subnets[0].routes.push(Route { name: "S3".into(), to: service, hop: Hop::Service(0) });
    network.groups.push(Group::open("Ends"));
    network.hosts.push(Host {
        name: "Ssm".into(),
        address: Ipv4Addr::new(10, 0, 0, 9),
        address6: None,
        names: Vec::new(),
        private_names: names::service_hosts("com.amazonaws.us-east-1.ssm"),
        groups: vec![1],
        vpc: 0,
        subnet: Some(0),
        placed: true,
        public: false,
        what: HostKind::Endpoint(0),
    });
    let verdict = |network: &Network, host: &str| network.verdict(0, &[0], &to(host, 443));
    for host in
        ["s3.us-east-1.amazonaws.com", "carts.s3.us-east-1.amazonaws.com", "ssm.us-east-1.amazonaws.com"]
    {
        assert_eq!(verdict(&network, host), Verdict::Inside, "{host}");
    }
    assert_eq!(verdict(&network, "dynamodb.us-east-1.amazonaws.com"), Verdict::Nat(0, None));
    // One of its names has an address of its own.
    assert_eq!(verdict(&network, "198.19.192.1"), Verdict::Nat(0, None));
    network.service_names = [("198.19.192.1".parse().unwrap(), "s3".to_owned())].into();
    assert_eq!(verdict(&network, "198.19.192.1"), Verdict::Inside);
    assert_eq!(names::service_hosts("com.amazonaws.us-east-1.ecr.api")[1], "api.ecr.us-east-1.amazonaws.com");
    assert!(names::service_hosts("nonsense").is_empty());
    network.groups[0].egress =
        vec![Rule { name: String::new(), traffic: Traffic::tcp(443, 443), peer: RulePeer::Group(1) }];
    assert_eq!(verdict(&network, "ssm.us-east-1.amazonaws.com"), Verdict::Inside);
    let barred = Verdict::Barred(LimitId::NoRule, "Group".into());
    assert_eq!(verdict(&network, "s3.us-east-1.amazonaws.com"), barred);
}

#[test]
fn a_port_without_a_rule_is_barred() {
    let mut network = Network::simple(1, 1, 1);
    network.groups[0].egress = vec![Rule { traffic: Traffic::tcp(443, 443), ..Rule::everything() }];
    assert_eq!(network.verdict(0, &[0], &to("a.example", 443)), Verdict::Nat(0, None));
    let barred = Verdict::Barred(LimitId::NoRule, "Group".into());
    assert_eq!(network.verdict(0, &[0], &to("a.example", 6379)), barred);
    network.groups.push(Group::open("Wide"));
    assert_eq!(
        network.verdict(0, &[0, 1], &to("a.example", 6379)),
        Verdict::Nat(0, None),
        "a union of groups"
    );
}

#[test]
fn a_function_whose_interfaces_find_no_room_is_not_deployed() {
    let mut network = Network::simple(2, 2, 1);
    network.placements[1] = Some(Placement { subnets: vec![1], groups: vec![0], ipv6: false });
    let mut given = model::Overrides::default();
    given.read("eni.per-vpc=1").unwrap();
    let era = model::Era::named("today").unwrap();
    let wired = network.wire(NetworkSettings::from_era(&era, "us-east-1", &given).unwrap());
    let refused: Vec<_> = wired.undeployed.iter().flatten().map(|refusal| refusal.limit).collect();
    assert_eq!((refused, wired.connections.interfaces()), (vec![LimitId::EniPerVpc; 2], Some(1)));
}

#[test]
fn functions_share_the_interface_of_a_subnet_and_its_groups() {
    let mut network = Network::simple(3, 2, 1);
    network.groups.push(Group::open("Other"));
    network.placements[1] = Some(Placement { subnets: vec![1], groups: vec![0], ipv6: false });
    network.placements[2] = Some(Placement { subnets: vec![1], groups: vec![0, 1], ipv6: false });
    let settings = NetworkSettings::from_era(
        &model::Era::named("today").unwrap(),
        "us-east-1",
        &model::Overrides::default(),
    );
    let mut wired = network.wire(settings.unwrap());
    assert_eq!(wired.interfaces[0][1], wired.interfaces[1][0]);
    assert_ne!(wired.interfaces[1][0], wired.interfaces[2][0]);
    assert_eq!(wired.connections.interfaces(), Some(3));
    let names: Vec<String> = wired.connections.counts().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["eni-Subnet1-Group", "eni-Subnet2-Group", "eni-Subnet2-Group+Other", "NatGateway"]);
    assert_eq!(network.way(&mut wired, 9, 0, &to("a.example", 443)), Way::Free(End::Open), "no VPC");
    assert!(matches!(network.way(&mut wired, 0, 0, &to("a.example", 443)), Way::Nat(..)));
}

#[test]
fn what_stands_behind_a_nat_gateway_is_asked_about_the_gateway_itself() {
    let mut network = Network::simple(1, 3, 1).with_database("db.t4g.micro");
    let nat = Ipv4Addr::new(10, 1, 0, 250);
    (network.gateways[0].subnet, network.gateways[0].address) = (Some(1), Some(nat.into()));
    let hop = Hop::Nat(0);
    let six = Cidr6::around("64:ff9b::".parse().unwrap(), 96).unwrap();
    network.subnets[0].routes.push(Route { name: "Six".into(), to: To::Range(AnyCidr::Ipv6(six)), hop });
    network.subnets[1].routes[1].hop = Hop::InternetGateway("Igw".into());
    network.groups.push(Group { name: "Guard".into(), ..Group::default() });
    (network.hosts[0].groups, network.hosts[0].subnet) = (vec![1], Some(2));
    let to: IpAddr = nat64::synthesized(network.hosts[0].address).into();
    let flow = FlowKey { protocol: TCP, to, port: 5432, from_port: EPHEMERAL };
    let mut lets = |peer: RulePeer| {
        let rule = Rule { traffic: Traffic::tcp(5432, 5432), peer, ..Rule::everything() };
        network.groups[1].ingress = vec![rule];
        network.path(0, &[0], &flow)
    };
    let barred = Path::Barred(LimitId::NoRule, "Guard (what may come to Database)".into());
    assert_eq!(lets(RulePeer::Group(0)), barred, "the gateway is a member of no group");
    assert_eq!(lets(RulePeer::Range("10.0.0.0/16".parse().unwrap())), barred, "the function's own address");
    assert_eq!(lets(RulePeer::Range("10.1.0.250/32".parse().unwrap())), Path::Nat(0));
    // Its subnet's ACL is asked, too, which nothing of the gateway's subnet is.
    network.acls = vec![Acl { name: "Deny".into(), entries: Vec::new() }];
    network.subnets[2].acl = Some(0);
    let barred = Path::Barred(LimitId::NaclDeny, "Deny (what enters Subnet3, rule *)".into());
    assert_eq!(network.path(0, &[0], &flow), barred);
    (network.subnets[2].acl, network.groups[1].ingress) = (None, Vec::new());
    let era = model::Era::named("today").unwrap();
    let settings = NetworkSettings::from_era(&era, "us-east-1", &model::Overrides::default()).unwrap();
    let cure = network.explain(0, &[0], &flow, &settings).cure.unwrap();
    assert_eq!(cure, "give Guard an ingress rule for tcp 5432 from 10.1.0.250/32 (NatGateway)");
}

fn settings_with(limit: &str) -> NetworkSettings {
    let mut given = model::Overrides::default();
    given.read(limit).unwrap();
    NetworkSettings::from_era(&model::Era::named("today").unwrap(), "us-east-1", &given).unwrap()
}

/// So many functions in one subnet, each with a security group of its own.
fn apart(functions: usize) -> Network {
    let mut network = Network::simple(functions, 1, 1);
    for function in 1..functions {
        network.groups.push(Group::open(&format!("Group{function}")));
        network.placements[function] =
            Some(Placement { subnets: vec![0], groups: vec![function], ipv6: false });
        network.interface(0, &[function]);
    }
    network
}

#[test]
fn an_interface_that_lost_its_functions_makes_room_until_they_are_there_again() {
    let mut network = apart(3);
    let mut wired = network.wire(settings_with("eni.per-vpc=2"));
    let shown =
        |wired: &Wired| wired.connections.shared().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(wired.undeployed.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
    let kept =
        wired.connections.open(Instant::START, Way::Interface(wired.interfaces[0][0], End::Open)).unwrap();
    network.set_left(0, true);
    assert_eq!(network.rewire(&mut wired, Instant::START).len(), 1);
    assert_eq!(shown(&wired).len(), 3, "somebody is still behind the first");
    wired.connections.close(Instant::START, kept);
    assert_eq!(network.rewire(&mut wired, Instant::START), []);
    assert!(wired.undeployed[2].is_none(), "the third has its room");
    assert_eq!(shown(&wired), ["eni-Subnet1-Group1", "eni-Subnet1-Group2"]);
    network.set_left(0, false);
    let refused = network.rewire(&mut wired, Instant::START);
    assert_eq!(refused.iter().map(|refusal| refusal.limit).collect::<Vec<_>>(), [LimitId::EniPerVpc]);
    network.set_left(1, true);
    assert_eq!(network.rewire(&mut wired, Instant::START), []);
    assert_eq!(shown(&wired), ["eni-Subnet1-Group", "eni-Subnet1-Group2"]);
}

#[test]
fn the_address_of_an_interface_without_functions_is_for_who_finds_no_other() {
    let mut network = Network { subnets: vec![Subnet::default()], ..apart(1) };
    network.subnets[0].cidr = Some("10.0.0.0/28".parse().unwrap());
    network.interfaces.clear();
    for function in 0..12 {
        network.groups.push(Group::open(&format!("Group{}", function + 1)));
        let placement = Placement { subnets: vec![0], groups: vec![function], ipv6: false };
        network.placements.push(Some(placement));
        network.interface(0, &[function]);
    }
    network.placements.remove(0);
    let address = |network: &Network, group| network.interface_address(0, &[group]);
    assert_eq!((address(&network, 10), address(&network, 11)), (Some([10, 0, 0, 14].into()), None));
    network.set_left(3, true);
    assert_eq!(address(&network, 3), Some([10, 0, 0, 7].into()), "nobody needs it");
    network.hold([(0, vec![3])].into());
    network.set_left(11, false);
    assert_eq!(address(&network, 11), None, "somebody is behind it");
    network.hold([(0, vec![5])].into());
    network.set_left(11, false);
    assert_eq!((address(&network, 3), address(&network, 11)), (None, Some([10, 0, 0, 7].into())));
    network.set_left(3, false);
    assert_eq!(address(&network, 3), None);
    network.set_left(5, true);
    network.hold(BTreeSet::new());
    network.set_left(3, false);
    assert_eq!(address(&network, 3), Some([10, 0, 0, 9].into()));
}

#[test]
fn a_host_is_looked_at_by_both_of_its_addresses() {
    let mut network = apart(1);
    let (address, address6): (Ipv4Addr, Ipv6Addr) = ([10, 0, 9, 9].into(), "fd00::9".parse().unwrap());
    network.hosts.push(Host {
        name: "Dual".into(),
        address,
        address6: Some(address6),
        names: Vec::new(),
        private_names: Vec::new(),
        groups: Vec::new(),
        vpc: 0,
        subnet: None,
        placed: false,
        public: false,
        what: HostKind::Endpoint(0),
    });
    assert_eq!(network.addresses_behind("eni-Dual"), [address.into(), address6.into()].into());
}

#[test]
fn an_address_of_another_vpc_of_the_same_range_is_nobodys() {
    let mut network = Network::simple(1, 2, 1);
    let range = AnyCidr::Ipv4("10.0.0.0/16".parse().unwrap());
    network.subnets[0]
        .routes
        .insert(0, Route { name: "local".into(), to: To::Range(range), hop: Hop::Inside });
    let address = Ipv4Addr::new(10, 0, 1, 7);
    network.interfaces[1].address = Some(address);
    let flow = FlowKey { protocol: TCP, to: address.into(), port: 443, from_port: 0 };
    let ends = |network: &Network| {
        let told = network.explain(0, &[0], &flow, &settings_with("nat.ports=55000"));
        (told.path, told.steps.last().unwrap().resource.clone())
    };
    assert_eq!(ends(&network), (Path::Nothing, "eni-Subnet2-Group".to_owned()));
    network.vpcs.push(network.vpcs[0].clone());
    network.subnets[1].vpc = 1;
    assert_eq!(ends(&network), (Path::Nothing, "10.0.1.7".to_owned()));
}
