//! Security groups and network ACLs against an oracle that was written apart from them: it knows the stack alone, and goes
//! through its rules one by one, as the VPC User Guide tells it.

#![allow(clippy::unwrap_used, reason = "a test")]

use limits::network::{FlowKey, Path, Placement};
use limits::{Network, network};
use model::LimitId;
use model::stack::{
    AnyCidr, Architecture, Cidr, Code, DbProxy, Destination, Function, Link, NatGateway, NetworkAcl,
    NetworkAclAssociation, NetworkAclEntry, PackageType, Peer, Place, Route, RouteTable,
    RouteTableAssociation, RouteTarget, SecurityGroup, SecurityGroupRule, Stack, Subnet, TransportProtocol,
    Vpc, VpcConfig,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Cases: each a template of its own, with so many packets.
const CASES: u64 = 4_000;
const PACKETS: u64 = 25;
const SEED: u64 = 20_261_122;

#[test]
#[allow(clippy::disallowed_methods, reason = "whoever runs the test says how long")]
fn rules_decide_as_the_oracle_does() {
    let times = if std::env::var_os("ONRUSH_LONG").is_some() { 10 } else { 1 };
    let (mut reached, mut barred) = (0_u32, [0_u32; 3]);
    for case in 0..CASES * times {
        let mut dice = Dice(SEED.wrapping_add(case).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let stack = random_stack(&mut dice);
        let network = Network::from_stack(&stack);
        let place = network.placements[0].clone().unwrap();
        let source = network.interface_address(place.subnets[0], &place.groups).unwrap();
        for _ in 0..PACKETS {
            let host = &network.hosts[dice.below(network.hosts.len() as u64) as usize];
            let packet = random_packet(&mut dice, host.address, source);
            let flow = FlowKey {
                protocol: packet.protocol,
                to: IpAddr::V4(packet.to),
                port: packet.port,
                from_port: packet.from_port,
            };
            let said = match network.path(place.subnets[0], &place.groups, &flow) {
                Path::Host(_) | Path::Nat(_) | Path::Nothing => None,
                Path::Barred(limit, _) => Some(limit),
                other => panic!("{other:?}"),
            };
            let expected = oracle(&stack, &packet);
            assert_eq!(said, expected, "case {case} of seed {SEED}: {packet:?}\n{:#?}", network.groups);
            match said {
                None => reached += 1,
                Some(LimitId::NoRule) => barred[0] += 1,
                Some(LimitId::NaclDeny) => barred[1] += 1,
                Some(_) => barred[2] += 1,
            }
        }
    }
    // Both answers are common, so that neither is always right.
    let all = (CASES * times * PACKETS) as u32;
    assert!(
        reached > all / 20 && barred[0] > all / 20 && barred[1] > all / 20,
        "{reached} {barred:?} of {all}"
    );
}

#[test]
fn a_network_that_changed_decides_as_one_that_was_read_anew() {
    let mut compared = 0;
    for case in 0..CASES / 4 {
        let mut dice = Dice(SEED.wrapping_add(case).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let stacks: Vec<Stack> = (0..4).map(|_| random_stack(&mut dice)).collect();
        let mut network = Network::from_stack(&stacks[0]);
        for (number, stack) in stacks.iter().enumerate().skip(1) {
            let mut stack = stack.clone();
            // Things come and go, and come again.
            if dice.below(2) == 0 {
                stack.db_proxies.remove(dice.below(3) as usize);
            }
            stack.db_proxies.reverse();
            stack.security_groups.rotate_left(dice.below(4) as usize);
            let before = network.clone();
            network = before.renewed(&stack).unwrap();
            let function = network.add_function(&stack, stack.functions[0].vpc.as_ref());
            let anew = Network::from_stack(&stack);
            assert_stands(&before, &network);
            let place = network.placements[function].clone().unwrap();
            let fresh = anew.placements[0].clone().unwrap();
            for host in &network.hosts {
                let twin = anew.hosts.iter().find(|twin| twin.name == host.name).unwrap();
                for _ in 0..4 {
                    let packet = random_packet(&mut dice, host.address, host.address);
                    let to = if packet.to == host.address { twin.address } else { packet.to };
                    let flow = |to| FlowKey {
                        protocol: packet.protocol,
                        to,
                        port: packet.port,
                        from_port: packet.from_port,
                    };
                    let said = network.path(place.subnets[0], &place.groups, &flow(packet.to.into()));
                    let expected = anew.path(fresh.subnets[0], &fresh.groups, &flow(to.into()));
                    let name = |network: &Network, path: &Path| match path {
                        Path::Host(host) => network.hosts[*host].name.clone(),
                        // In which order the groups are named is all that may differ.
                        Path::Barred(limit, _) => format!("{limit}"),
                        other => format!("{other:?}"),
                    };
                    // A rule that speaks of one address means another once things stand elsewhere.
                    let stands = |network: &Network, place: &Placement| {
                        network.interface_address(place.subnets[0], &place.groups)
                    };
                    let by_address =
                        twin.address != host.address || stands(&network, &place) != stands(&anew, &fresh);
                    let same = name(&network, &said) == name(&anew, &expected);
                    assert!(
                        same || by_address,
                        "case {case}, change {number}: {said:?}, not {expected:?}, of {packet:?}"
                    );
                    compared += u32::from(!by_address);
                }
            }
        }
    }
    assert!(compared > 500, "{compared}");
}

#[test]
fn what_stands_in_a_subnet_from_outside_keeps_its_address() {
    let mut stack = random_stack(&mut Dice(SEED));
    for proxy in &mut stack.db_proxies {
        proxy.subnets = vec![Link::Literal("subnet-9".to_owned())];
    }
    let config = VpcConfig {
        subnets: vec![Link::Literal("subnet-9".to_owned())],
        ..stack.functions[0].vpc.clone().unwrap()
    };
    stack.functions[0].vpc = Some(config);
    let mut network = Network::from_stack(&stack);
    for _ in 0..3 {
        let after = network.renewed(&stack).unwrap();
        assert_stands(&network, &after);
        let taken =
            |network: &Network| -> Vec<u64> { network.subnets.iter().map(|one| one.space.taken).collect() };
        assert_eq!(taken(&network), taken(&after));
        network = after;
    }
}

#[test]
fn who_is_in_a_subnet_that_was_removed_shares_no_address_with_its_successor() {
    let mut stack = random_stack(&mut Dice(SEED));
    let network = Network::from_stack(&stack);
    stack.subnets.iter_mut().find(|one| one.id == "Private").unwrap().id = "Own".to_owned();
    for proxy in &mut stack.db_proxies {
        proxy.subnets = vec![logical("Own")];
    }
    let mut after = network.renewed(&stack).unwrap();
    let old = network.interfaces[0].address;
    assert!(old.is_some() && after.interfaces[0].address == old, "it stays where it is");
    assert!(after.hosts.len() == 3 && after.hosts.iter().all(|host| Some(host.address) != old));
    let config = VpcConfig { subnets: vec![logical("Own")], ..stack.functions[0].vpc.clone().unwrap() };
    after.add_function(&stack, Some(&config));
    assert_ne!(after.interfaces[1].address, old);
}

#[test]
fn a_subnet_that_was_removed_keeps_its_network_acl() {
    let mut stack = random_stack(&mut Dice(SEED));
    let acl = |id: &str| NetworkAcl {
        id: id.to_owned(),
        place: Place::default(),
        network_acl_id: id.to_owned(),
        vpc: logical("Vpc"),
        entries: Vec::new(),
    };
    let of = |subnet: &str, acl: &str| NetworkAclAssociation {
        id: format!("{subnet}{acl}"),
        place: Place::default(),
        subnet: logical(subnet),
        network_acl: logical(acl),
    };
    stack.network_acls = vec![acl("Other"), acl("Closed")];
    stack.network_acl_associations = vec![of("Private", "Closed")];
    let rule = SecurityGroupRule {
        id: String::new(),
        place: Place::default(),
        protocol: TransportProtocol::All,
        from_port: -1,
        to_port: -1,
        peer: Peer::Ipv4(Cidr::ANY),
        description: String::new(),
    };
    stack.security_groups.iter_mut().for_each(|group| group.egress = vec![rule.clone()]);
    let mut network = Network::from_stack(&stack);
    let place = network.placements[0].clone().unwrap();
    stack.subnets.retain(|subnet| subnet.id != "Private");
    stack.network_acls.clear();
    stack.network_acl_associations.clear();
    stack.db_proxies.clear();
    let flow =
        FlowKey { protocol: 6, to: IpAddr::from([203, 0, 113, 7]), port: 443, from_port: network::EPHEMERAL };
    for _ in 0..3 {
        network = network.renewed(&stack).unwrap();
        let path = network.path(place.subnets[0], &place.groups, &flow);
        let who = "Closed (what leaves Private, rule *)".to_owned();
        assert_eq!(path, Path::Barred(LimitId::NaclDeny, who));
        assert_eq!(network.acls.len(), 1);
    }
}

#[test]
fn interfaces_that_go_make_room_before_others_take_it() {
    let mut stack = random_stack(&mut Dice(SEED));
    stack.db_proxies.clear();
    let config = |group: &str| VpcConfig {
        subnets: vec![logical("Private")],
        security_groups: vec![logical(group)],
        ipv6: false,
    };
    // The first in the order of the groups has no room, and the second goes.
    stack.functions = vec![function(config("Two")), function(config("One"))];
    let mut given = model::Overrides::default();
    given.read("eni.per-vpc=1").unwrap();
    let era = model::Era::named("today").unwrap();
    let settings = limits::settings::NetworkSettings::from_era(&era, "us-east-1", &given).unwrap();
    stack.security_groups.sort_by_key(|group| group.id != "One");
    let mut network = Network::from_stack(&Stack { functions: Vec::new(), ..stack.clone() });
    network.add_function(&stack, stack.functions[0].vpc.as_ref());
    let mut wired = network.wire(settings);
    let later = network.add_function(&stack, stack.functions[1].vpc.as_ref());
    network.wire_function(&mut wired, model::Instant::START, later);
    assert!(wired.undeployed[later].is_some());
    stack.security_groups.retain(|group| group.id != "Two");
    for group in &mut stack.security_groups {
        group.ingress.clear();
        group.egress.clear();
    }
    let network = network.renewed(&stack).unwrap();
    assert_eq!(network.rewire(&mut wired, model::Instant::START), []);
    assert!(wired.undeployed[later].is_none());
}

#[test]
fn in_a_full_subnet_who_came_first_has_an_address_and_the_same_are_deployed() {
    let mut stack = random_stack(&mut Dice(SEED));
    stack.db_proxies.clear();
    let private = stack.subnets.iter_mut().find(|subnet| subnet.id == "Private").unwrap();
    private.cidr = Cidr::around(private.cidr.first(), 28).unwrap();
    let usable = private.cidr.usable() as usize;
    let group = stack.security_groups[0].clone();
    stack.functions.clear();
    for number in 0..usable + 2 {
        let id = format!("Own{number}");
        let vpc =
            VpcConfig { subnets: vec![logical("Private")], security_groups: vec![logical(&id)], ipv6: false };
        stack.security_groups.push(SecurityGroup { id, ..group.clone() });
        stack.functions.push(function(vpc));
    }
    let network = Network::from_stack(&stack);
    let era = model::Era::named("today").unwrap();
    let settings =
        limits::settings::NetworkSettings::from_era(&era, "us-east-1", &model::Overrides::default());
    let wired = network.wire(settings.unwrap());
    let has = |index: usize| {
        let place = network.placements[index].as_ref().unwrap();
        network.interface_address(place.subnets[0], &place.groups).is_some()
    };
    let has: Vec<bool> = (0..stack.functions.len()).map(has).collect();
    let deployed: Vec<bool> = wired.undeployed.iter().map(Option::is_none).collect();
    assert_eq!(has, deployed);
    let first = has.iter().take_while(|has| **has).count();
    assert!(first > 0 && first <= usable && has[first..].iter().all(|has| !has), "{has:?}");
}

/// Indices mean what they meant, what has an address keeps it, and nobody shares one.
fn assert_stands(before: &Network, after: &Network) {
    let names = |network: &Network| -> Vec<String> {
        let groups = network.groups.iter().map(|group| group.name.clone());
        groups.chain(network.subnets.iter().map(|subnet| subnet.name.clone())).collect()
    };
    let (old, new) = (names(before), names(after));
    assert!(
        before.groups.iter().zip(&after.groups).all(|(old, new)| old.name == new.name),
        "{old:?} {new:?}"
    );
    assert!(before.subnets.iter().zip(&after.subnets).all(|(old, new)| old.name == new.name));
    assert_eq!(after.placements[..before.placements.len()], before.placements[..]);
    for host in &after.hosts {
        let known = before.hosts.iter().find(|known| known.name == host.name);
        assert!(known.is_none_or(|known| known.address == host.address), "{} moved", host.name);
    }
    for (old, new) in before.interfaces.iter().zip(&after.interfaces) {
        assert_eq!(old, new, "interfaces stand where they stood");
    }
    let hosts = after.hosts.iter().map(|host| host.address);
    let gateways = after.gateways.iter().filter_map(|gateway| match gateway.address {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    });
    let mut all: Vec<Ipv4Addr> =
        hosts.chain(gateways).chain(after.interfaces.iter().filter_map(|found| found.address)).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "each has an address of its own");
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    protocol: u8,
    from: Ipv4Addr,
    to: Ipv4Addr,
    port: u16,
    from_port: u16,
}

/// What bars a packet of the function: first the function's groups, then the ACLs there, the groups there, the ACLs back.
fn oracle(stack: &Stack, packet: &Packet) -> Option<LimitId> {
    let function = stack.functions[0].vpc.as_ref().unwrap();
    let own = &function.security_groups;
    let proxy = stack.db_proxies.iter().zip(host_addresses(stack)).find(|(_, address)| *address == packet.to);
    let theirs: &[Link] = proxy.map_or(&[], |(proxy, _)| &proxy.security_groups);
    let lets = |groups: &[Link], ingress: bool, other: Ipv4Addr, members: &[Link]| {
        let rules =
            stack.security_groups.iter().filter(|group| groups.contains(&Link::Logical(group.id.clone())));
        rules.flat_map(|group| if ingress { &group.ingress } else { &group.egress }).any(|rule| {
            let peer = match &rule.peer {
                Peer::Ipv4(range) => {
                    u32::from(other) >> (32 - u32::from(range.prefix()).max(1))
                        == u32::from(range.first()) >> (32 - u32::from(range.prefix()).max(1))
                        || range.prefix() == 0
                }
                Peer::SecurityGroup(link) => members.contains(link),
                Peer::Ipv6(_) | Peer::PrefixList(_) => false,
            };
            peer && speaks(rule.protocol, rule.from_port, rule.to_port, packet.protocol, packet.port)
        })
    };
    if !lets(own, false, packet.to, theirs) {
        return Some(LimitId::NoRule);
    }
    let home = function.subnets[0].as_str();
    let inside = packet.to.octets()[..2] == [10, 0];
    let far =
        stack.subnets.iter().find(|subnet| subnet.cidr.contains(packet.to)).map(|subnet| subnet.id.as_str());
    let back = if packet.protocol == 1 { 0 } else { packet.from_port };
    let acl = |subnet: &str, egress: bool, other: Ipv4Addr, port: u16| {
        let of = stack.network_acl_associations.iter().find(|one| one.subnet.as_str() == subnet);
        let Some(of) = of else { return true };
        let acl = stack.network_acls.iter().find(|acl| acl.id == of.network_acl.as_str()).unwrap();
        let mut numbered: Vec<&NetworkAclEntry> =
            acl.entries.iter().filter(|one| one.egress == egress).collect();
        numbered.sort_by_key(|entry| entry.number);
        for entry in numbered {
            let AnyCidr::Ipv4(range) = entry.range else { continue };
            if range.contains(other)
                && speaks(entry.protocol, entry.from_port, entry.to_port, packet.protocol, port)
            {
                return entry.allow;
            }
        }
        false
    };
    if far == Some(home) {
        let enters = theirs.is_empty() || lets(theirs, true, packet.from, own);
        return (!enters).then_some(LimitId::NoRule);
    }
    let denied = Some(LimitId::NaclDeny);
    if !acl(home, true, packet.to, packet.port) {
        return denied;
    }
    if inside {
        if far.is_some_and(|far| !acl(far, false, packet.from, packet.port)) {
            return denied;
        }
        if !theirs.is_empty() && !lets(theirs, true, packet.from, own) {
            return Some(LimitId::NoRule);
        }
        if far.is_some_and(|far| !acl(far, true, packet.from, back)) {
            return denied;
        }
    } else {
        // By the gateway in `Public`: in, out, the answers in by a port of its own, and out to the function.
        let gateway_port = if packet.protocol == 1 { 0 } else { 49_152 };
        let passes = acl("Public", false, packet.from, packet.port)
            && acl("Public", true, packet.to, packet.port)
            && acl("Public", false, packet.to, gateway_port)
            && acl("Public", true, packet.from, back);
        if !passes {
            return denied;
        }
    }
    if acl(home, false, packet.to, back) { None } else { denied }
}

/// Whether a rule speaks of a packet.
fn speaks(protocol: TransportProtocol, from: i32, to: i32, number: u8, port: u16) -> bool {
    let ports = from == -1 || i32::from(port) >= from && i32::from(port) <= to;
    let (kind, code) = (i32::from(port / 256), i32::from(port % 256));
    match protocol {
        TransportProtocol::All => true,
        TransportProtocol::Tcp => number == 6 && ports,
        TransportProtocol::Udp => number == 17 && ports,
        TransportProtocol::Icmp => number == 1 && (from == -1 || from == kind && (to == -1 || to == code)),
        TransportProtocol::Icmpv6 => false,
        TransportProtocol::Number(own) => number == own,
    }
}

/// The addresses of the proxies: the first ones of their subnets that are not AWS's, behind those of the gateway.
fn host_addresses(stack: &Stack) -> Vec<Ipv4Addr> {
    let mut given = [4_u32, 4, 4];
    given[2] += 1;
    let mut next = |name: &str| {
        let at = stack.subnets.iter().position(|subnet| subnet.id == name).unwrap();
        given[at] += 1;
        Ipv4Addr::from(u32::from(stack.subnets[at].cidr.first()) + given[at] - 1)
    };
    stack.db_proxies.iter().map(|proxy| next(proxy.subnets[0].as_str())).collect()
}

/// A small generator, so that a case is told by its number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

fn logical(id: &str) -> Link {
    Link::Logical(id.to_owned())
}

fn range(dice: &mut Dice) -> Cidr {
    let text = dice.one(&[
        "0.0.0.0/0",
        "0.0.0.0/0",
        "0.0.0.0/0",
        "10.0.0.0/16",
        "10.0.0.0/16",
        "10.0.1.0/24",
        "10.0.0.0/24",
        "203.0.113.0/24",
        "203.0.113.7/32",
        "10.0.0.4/32",
        "128.0.0.0/1",
    ]);
    text.parse().unwrap()
}

fn protocol(dice: &mut Dice) -> (TransportProtocol, i32, i32) {
    let (from, to) = dice.one(&[(443, 443), (0, 65_535), (1024, 65_535), (5432, 5433), (0, 1023), (-1, -1)]);
    match dice.below(8) {
        0 | 1 => (TransportProtocol::All, -1, -1),
        2..=4 => (TransportProtocol::Tcp, from, to),
        5 => (TransportProtocol::Udp, from, to),
        6 => {
            let (kind, code) = dice.one(&[(-1, -1), (8, -1), (8, 0), (0, 0), (0, -1), (3, 4)]);
            (TransportProtocol::Icmp, kind, code)
        }
        _ => (TransportProtocol::Number(47), -1, -1),
    }
}

fn random_packet(dice: &mut Dice, host: Ipv4Addr, from: Ipv4Addr) -> Packet {
    let to = match dice.below(8) {
        0..=4 => host,
        5 => Ipv4Addr::new(10, 0, 1, 200),
        6 => Ipv4Addr::new(203, 0, 113, 7),
        _ => Ipv4Addr::new(198, 51, 100, 1),
    };
    let protocol = dice.one(&[6, 6, 6, 17, 1, 47]);
    let port = match protocol {
        1 => 8 << 8,
        47 => 0,
        _ => dice.one(&[443, 443, 5432, 53, 1024, 0, 65_535]),
    };
    let from_port = dice.one(&[1024, 5432, 32_768, 65_535]);
    Packet { protocol, from, to, port, from_port }
}

fn random_rules(dice: &mut Dice, groups: &[&str]) -> Vec<SecurityGroupRule> {
    (0..dice.below(4))
        .map(|_| {
            let (protocol, from_port, to_port) = protocol(dice);
            let peer = match dice.below(3) {
                0 => Peer::SecurityGroup(logical(dice.one(groups))),
                _ => Peer::Ipv4(range(dice)),
            };
            SecurityGroupRule {
                id: String::new(),
                place: Place::default(),
                protocol,
                from_port,
                to_port,
                peer,
                description: String::new(),
            }
        })
        .collect()
}

fn random_stack(dice: &mut Dice) -> Stack {
    const GROUPS: [&str; 4] = ["One", "Two", "Three", "Four"];
    let place = Place::default();
    let mut stack = Stack { region: "us-east-1".into(), ..Stack::default() };
    stack.vpcs.push(Vpc {
        id: "Vpc".into(),
        place,
        vpc_id: "vpc-1".into(),
        cidr: "10.0.0.0/16".parse().unwrap(),
        more_cidrs: Vec::new(),
        ipv6_cidrs: Vec::new(),
        dns_support: true,
        dns_hostnames: true,
    });
    for (id, cidr) in [("Private", "10.0.0.0/24"), ("Data", "10.0.1.0/24"), ("Public", "10.0.2.0/24")] {
        stack.subnets.push(Subnet {
            id: id.into(),
            place,
            subnet_id: format!("subnet-{id}"),
            vpc: logical("Vpc"),
            cidr: cidr.parse().unwrap(),
            ipv6_cidr: None,
            availability_zone: "us-east-1a".into(),
            map_public_ip: false,
            dns64: false,
        });
        let table = format!("{id}Table");
        stack.route_tables.push(RouteTable {
            id: table.clone(),
            place,
            route_table_id: table.clone(),
            vpc: logical("Vpc"),
        });
        stack.route_table_associations.push(RouteTableAssociation {
            id: format!("{id}Routes"),
            place,
            subnet: logical(id),
            route_table: Link::Logical(table.clone()),
        });
        let target = match id {
            "Public" => RouteTarget::InternetGateway(logical("Igw")),
            _ => RouteTarget::NatGateway(logical("Nat")),
        };
        stack.routes.push(Route {
            id: format!("{id}Default"),
            place,
            route_table: Link::Logical(table),
            destination: Destination::Ipv4(Cidr::ANY),
            target,
        });
        if dice.below(3) == 0 {
            let acl = format!("{id}Acl");
            let entries = (0..dice.below(6)).map(|_| {
                let (protocol, from_port, to_port) = protocol(dice);
                NetworkAclEntry {
                    id: String::new(),
                    place,
                    number: dice.below(30_000) as u16 + 1,
                    egress: dice.below(2) == 0,
                    allow: dice.below(3) > 0,
                    protocol,
                    range: AnyCidr::Ipv4(range(dice)),
                    from_port,
                    to_port,
                }
            });
            let mut entries: Vec<NetworkAclEntry> = entries.collect();
            // Most let something through in the end.
            for egress in [false, true] {
                if dice.below(4) > 0 {
                    entries.push(NetworkAclEntry {
                        id: String::new(),
                        place,
                        number: 32_000,
                        egress,
                        allow: true,
                        protocol: TransportProtocol::All,
                        range: AnyCidr::Ipv4(Cidr::ANY),
                        from_port: -1,
                        to_port: -1,
                    });
                }
            }
            // A number stands once in each direction.
            entries.sort_by_key(|entry| (entry.egress, entry.number));
            entries.dedup_by_key(|entry| (entry.egress, entry.number));
            stack.network_acls.push(NetworkAcl {
                id: acl.clone(),
                place,
                network_acl_id: acl.clone(),
                vpc: logical("Vpc"),
                entries,
            });
            stack.network_acl_associations.push(NetworkAclAssociation {
                id: format!("{id}AclOf"),
                place,
                subnet: logical(id),
                network_acl: Link::Logical(acl),
            });
        }
    }
    stack.nat_gateways.push(NatGateway {
        id: "Nat".into(),
        place,
        nat_gateway_id: "nat-1".into(),
        subnet: Some(logical("Public")),
        vpc: None,
        public: true,
        regional: false,
        addresses: vec![Link::Literal("eipalloc-1".into())],
        secondary_private_addresses: 0,
    });
    for id in GROUPS {
        let (egress, ingress) = (random_rules(dice, &GROUPS), random_rules(dice, &GROUPS));
        stack.security_groups.push(SecurityGroup {
            id: id.into(),
            place,
            group_id: format!("sg-{id}"),
            name: id.into(),
            description: String::new(),
            vpc: Some(logical("Vpc")),
            ingress,
            egress,
        });
    }
    let groups = |dice: &mut Dice| {
        let count = dice.below(3) as usize + 1;
        let mut some: Vec<Link> = (0..count).map(|_| logical(dice.one(&GROUPS))).collect();
        some.dedup();
        some
    };
    for (index, subnet) in ["Data", "Private", "Data"].into_iter().enumerate() {
        stack.db_proxies.push(DbProxy {
            id: format!("Proxy{index}"),
            place,
            name: format!("proxy{index}"),
            endpoint: format!("proxy{index}.example"),
            engine_family: "POSTGRESQL".into(),
            idle_client_timeout_s: 1800,
            require_tls: false,
            subnets: vec![logical(subnet)],
            security_groups: groups(dice),
            auth: Vec::new(),
        });
    }
    let config = VpcConfig { subnets: vec![logical("Private")], security_groups: groups(dice), ipv6: false };
    stack.functions.push(function(config));
    stack
}

fn function(config: VpcConfig) -> Function {
    Function {
        id: "Cart".into(),
        place: Place::default(),
        name: "cart".into(),
        arn: String::new(),
        description: String::new(),
        code: Code::Local { path: String::new() },
        code_place: Place::default(),
        asset_path: None,
        build_method: None,
        build_binary: None,
        package_type: PackageType::Zip,
        runtime: None,
        handler: None,
        image_config: None,
        memory_mb: 128,
        timeout_s: 3,
        ephemeral_storage_mb: 512,
        environment: BTreeMap::new(),
        architecture: Architecture::default(),
        layers: Vec::new(),
        vpc: Some(config),
        role: None,
        reserved_concurrency: None,
        event_invoke: Vec::new(),
        dead_letter_target: None,
        tracing: false,
        snap_start: false,
        json_logs: false,
        application_log_level: None,
        system_log_level: None,
        log_group: String::new(),
        tags: BTreeMap::new(),
    }
}
