//! Networks of every shape, from templates.

use super::tests::ask;
use super::*;
use model::LimitId;
use std::net::IpAddr;

/// Two VPCs with a subnet each and a function in the first, with the rest to be given.
fn template(more: &str) -> String {
    format!(
        "\
Resources:
  Vpc: {{Type: AWS::EC2::VPC, Properties: {{CidrBlock: 10.0.0.0/16}}}}
  Other: {{Type: AWS::EC2::VPC, Properties: {{CidrBlock: 10.9.0.0/16}}}}
  Six: {{Type: AWS::EC2::VPCCidrBlock, Properties: {{VpcId: !Ref Vpc, AmazonProvidedIpv6CidrBlock: true}}}}
  Near:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: 10.0.1.0/28
      Ipv6CidrBlock: !Select [0, !Cidr [!Select [0, !GetAtt Vpc.Ipv6CidrBlocks], 1, 64]]
  Far: {{Type: AWS::EC2::Subnet, Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.1.0/24}}}}
  NearTable: {{Type: AWS::EC2::RouteTable, Properties: {{VpcId: !Ref Vpc}}}}
  FarTable: {{Type: AWS::EC2::RouteTable, Properties: {{VpcId: !Ref Other}}}}
  NearUses: {{Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {{SubnetId: !Ref Near, RouteTableId: !Ref NearTable}}}}
  FarUses: {{Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {{SubnetId: !Ref Far, RouteTableId: !Ref FarTable}}}}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: g
      VpcId: !Ref Vpc
      SecurityGroupEgress: [{{IpProtocol: -1, CidrIp: 0.0.0.0/0}}, {{IpProtocol: -1, CidrIpv6: '::/0'}}]
  Cart:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Code: {{ZipFile: x}}
      Role: arn:aws:iam::000000000000:role/r
      VpcConfig: {{SubnetIds: [!Ref Near], SecurityGroupIds: [!Ref Group], Ipv6AllowedForDualStack: true}}
{more}"
    )
}

/// Where a packet goes, and the cure where it does not arrive.
#[track_caller]
fn goes(template: &str, to: &str, port: u16) -> (Path, Option<String>) {
    ask(template, |view| {
        let place = view.network.placements[0].clone().unwrap();
        let address = to.parse::<IpAddr>().unwrap_or_else(|_| {
            let address = view.network.resolve(place.subnets[0], to);
            address.unwrap_or_else(|| panic!("{to} has no address")).into()
        });
        let flow = FlowKey { protocol: TCP, to: address, port, from_port: network::EPHEMERAL };
        let told = view.network.explain(place.subnets[0], &place.groups, &flow, &view.settings);
        assert_eq!(told.path, view.network.path(place.subnets[0], &place.groups, &flow));
        (told.path, told.cure)
    })
}

const BALANCER: &str = "  Balancer:
    Type: AWS::ElasticLoadBalancingV2::LoadBalancer
    Properties: {Type: network, Scheme: internal, Subnets: [!Ref Far]}
";
const PEERS: &str = "  Peers: {Type: AWS::EC2::VPCPeeringConnection, Properties: {VpcId: !Ref Vpc, PeerVpcId: !Ref Other}}
  There: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref NearTable, DestinationCidrBlock: 10.9.0.0/16, VpcPeeringConnectionId: !Ref Peers}}
";
const BACK: &str =
    "  Back: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref FarTable, DestinationCidrBlock: 10.0.0.0/16, VpcPeeringConnectionId: !Ref Peers}}
";

#[test]
fn a_peer_is_reached_when_its_answers_find_back() {
    let alone = template(BALANCER);
    let (path, cure) = goes(&alone, "10.9.1.4", 80);
    assert_eq!(
        path,
        Path::Barred(LimitId::NoRoute, "Near".into()),
        "a VPC without a peering is another world"
    );
    assert!(cure.unwrap().contains("give NearTable a route"));
    let (path, cure) = goes(&template(&format!("{BALANCER}{PEERS}")), "10.9.1.4", 80);
    let expected = "Far (no route leads its answers back)";
    assert_eq!(path, Path::Barred(LimitId::NoRoute, expected.into()));
    assert!(cure.is_some_and(|cure| cure.contains("FarTable")));
    let whole = template(&format!("{BALANCER}{PEERS}{BACK}"));
    assert_eq!(goes(&whole, "10.9.1.4", 80), (Path::Host(0), None));
    assert_eq!(goes(&whole, "10.9.1.5", 80).0, Path::Nothing);
    let guarded = whole.replace("Type: network, ", "");
    let (path, _) = goes(&guarded, "10.9.1.4", 80);
    assert!(
        matches!(path, Path::Barred(LimitId::NoRule, who) if who.contains("Other.DefaultSecurityGroup")),
        "an ALB's own"
    );
}

#[test]
fn ipv6_goes_out_by_an_egress_only_gateway_and_not_by_nat() {
    let to = "2606:2800::1";
    let out = "  Out: {Type: AWS::EC2::EgressOnlyInternetGateway, Properties: {VpcId: !Ref Vpc}}
  Six0: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref NearTable, DestinationIpv6CidrBlock: '::/0', EgressOnlyInternetGatewayId: !Ref Out}}
";
    let (path, cure) = goes(&template(""), to, 443);
    assert_eq!(path, Path::Barred(LimitId::NoRoute, "Near".into()));
    assert!(cure.unwrap().contains("::/0 to an egress-only internet gateway"));
    let with = template(out);
    assert_eq!(goes(&with, to, 443), (Path::Egress(0), None));
    ask(&with, |view| {
        let interface = &view.network.interfaces[0];
        let range = view.network.subnets[interface.subnet].cidr6.unwrap();
        assert!(
            range.contains(interface.address6.unwrap()) && view.network.placements[0].as_ref().unwrap().ipv6
        );
    });
    let other =
        with.replace("Properties: {VpcId: !Ref Vpc}}\n  Six0", "Properties: {VpcId: !Ref Other}}\n  Six0");
    assert!(
        matches!(goes(&other, to, 443).0, Path::Barred(LimitId::NoRoute, who) if who.contains("which belongs to Other"))
    );
}

#[test]
fn gateways_that_lead_nowhere_bar_the_way() {
    let nat = |properties: &str, more: &str| {
        template(&format!(
            "  Igw: {{Type: AWS::EC2::InternetGateway}}
  Join: {{Type: AWS::EC2::VPCGatewayAttachment, Properties: {{VpcId: !Ref Vpc, InternetGatewayId: !Ref Igw}}}}
  Public: {{Type: AWS::EC2::Subnet, Properties: {{VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24}}}}
  PublicTable: {{Type: AWS::EC2::RouteTable, Properties: {{VpcId: !Ref Vpc}}}}
  PublicUses: {{Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {{SubnetId: !Ref Public, RouteTableId: !Ref PublicTable}}}}
  Nat: {{Type: AWS::EC2::NatGateway, Properties: {{SubnetId: !Ref Public, {properties}}}}}
  Default: {{Type: AWS::EC2::Route, Properties: {{RouteTableId: !Ref NearTable, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat}}}}
{more}"
        ))
    };
    let public = "AllocationId: eipalloc-1";
    let out = "  Out: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Igw}}\n";
    assert_eq!(goes(&nat(public, out), "203.0.113.9", 443), (Path::Nat(0), None));
    for (template, expected) in [
        (nat(public, ""), "Nat (its subnet Public has no route there)"),
        (
            nat("ConnectivityType: private", out),
            "Nat (a private NAT gateway, and the route of its subnet leads to Igw)",
        ),
        (
            nat(public, &out.replace("GatewayId: !Ref Igw", "NatGatewayId: !Ref Nat")),
            "leads to a NAT gateway",
        ),
        (
            nat(public, out).replace(
                "Public: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24}}",
                "Public: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Other, CidrBlock: 10.9.2.0/24}}",
            )
            .replace(
                "PublicTable: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}",
                "PublicTable: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Other}}",
            ),
            "Nat, which belongs to Other",
        ),
    ] {
        match goes(&template, "203.0.113.9", 443) {
            (Path::Barred(LimitId::NoRoute, who), Some(_)) => {
                assert!(who.contains(expected), "{expected}\nin {who}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    ask(&nat("ConnectivityType: private, SecondaryPrivateIpAddressCount: 2", out), |view| {
        let gateway = &view.network.gateways[0];
        let external: Vec<String> = gateway.external.iter().map(ToString::to_string).collect();
        assert_eq!(
            (gateway.addresses, external),
            (3, ["10.0.2.4", "10.0.2.5", "10.0.2.6"].map(String::from).to_vec())
        );
    });
}

#[test]
fn names_of_private_zones_lead_to_what_they_stand_for() {
    let text = template(&format!(
        "{BALANCER}{PEERS}{BACK}  Zone: {{Type: AWS::Route53::HostedZone, Properties: {{Name: corp.internal, VPCs: [{{VPCId: !Ref Vpc, VPCRegion: r}}]}}}}
  Set:
    Type: AWS::Route53::RecordSetGroup
    Properties:
      HostedZoneId: !Ref Zone
      RecordSets:
        - {{Name: lb.corp.internal, Type: A, AliasTarget: {{DNSName: !GetAtt Balancer.DNSName, HostedZoneId: Z}}}}
        - {{Name: '*.corp.internal', Type: CNAME, TTL: '60', ResourceRecords: [lb.corp.internal]}}
        - {{Name: round.corp.internal, Type: CNAME, TTL: '60', ResourceRecords: [round.corp.internal]}}
"
    ));
    for name in ["lb.corp.internal", "any.corp.internal", "LB.corp.internal"] {
        assert_eq!(goes(&text, name, 80).0, Path::Host(0), "{name}");
    }
    ask(&text, |view| {
        let near = view.network.subnets.iter().position(|subnet| subnet.name == "Near").unwrap();
        let far = view.network.subnets.iter().position(|subnet| subnet.name == "Far").unwrap();
        assert_eq!(view.network.resolve(near, "round.corp.internal"), None, "a name that stands for itself");
        assert_eq!(view.network.resolve(far, "lb.corp.internal"), None, "another VPC does not see the zone");
        let vpc = view.network.subnets[near].vpc;
        assert_eq!(view.network.records(vpc, "corp.internal", "A").map(|found| found.len()), Some(0));
        assert!(view.network.records(vpc, "example.com", "A").is_none());
    });
}

#[test]
fn a_full_subnet_has_eleven_addresses_and_gives_none_twice() {
    let more: String = (0..12)
        .map(|number| {
            format!(
                "  B{number}:\n    Type: AWS::ElasticLoadBalancingV2::LoadBalancer\n    Properties: {{Type: network, Scheme: internal, \
                 Subnets: [!Ref Near]}}\n"
            )
        })
        .collect();
    ask(&template(&more), |view| {
        let mut addresses: Vec<_> = view.network.hosts.iter().map(|host| host.address).collect();
        addresses.dedup();
        assert_eq!(
            (addresses.len(), addresses[0].to_string(), addresses[10].to_string()),
            (11, "10.0.1.4".into(), "10.0.1.14".into())
        );
        assert_eq!(view.network.interface_address(0, &[0]), None);
        assert!(view.network.notes.iter().any(|note| note.what == "B11"), "{:?}", view.network.notes);
        let wired = view.network.wire(view.settings.clone());
        assert_eq!(wired.undeployed[0].as_ref().map(|refusal| refusal.limit), Some(LimitId::SubnetAddresses));
        let (text, arrives) = view.answer("Cart", Some("10.0.1.4:80"), Transport::Tcp, false).unwrap();
        assert!(
            !arrives && text.contains("no address: its subnet has none left (subnet.addresses)"),
            "{text}"
        );
        assert!(text.contains("It does not reach 10.0.1.4:80: subnet.addresses of Near."), "{text}");
    });
}

#[test]
fn functions_that_come_later_get_their_place() {
    ask(&template(""), |view| {
        let mut network = view.network.clone();
        let mut wired = network.wire(view.settings.clone());
        let ids = |id: &str| model::stack::Link::Literal(id.to_owned());
        let (subnet, group) =
            (&view.stack.subnets[0].subnet_id, &view.stack.security_group("Group").unwrap().group_id);
        let config = model::stack::VpcConfig {
            subnets: vec![ids(subnet)],
            security_groups: vec![ids(group)],
            ipv6: false,
        };
        let index = network.add_function(view.stack, Some(&config));
        network.wire_function(&mut wired, model::Instant::START, index);
        assert_eq!((index, &wired.interfaces[1]), (1, &wired.interfaces[0]), "it shares what is there");
        let elsewhere = model::stack::VpcConfig { subnets: vec![ids("subnet-9")], ..config };
        let index = network.add_function(view.stack, Some(&elsewhere));
        network.wire_function(&mut wired, model::Instant::START, index);
        assert_ne!(wired.interfaces[2], wired.interfaces[0]);
        assert_eq!(
            network.interface_address(network.subnets.len() - 1, &[0]).unwrap().to_string(),
            "172.31.0.4"
        );
        assert_eq!(network.add_function(view.stack, None), 3);
    });
}

/// A database of the other VPC that the internet may ask, by the address from which a rule lets it in, and where it stands.
fn public_database(from: &str, shown: bool) -> String {
    let gateway = match shown {
        true => {
            "  FarDefault: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref FarTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref FarOut}}\n"
        }
        false => "",
    };
    format!(
        "  FarToo: {{Type: AWS::EC2::Subnet, Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.2.0/24}}}}
  FarOut: {{Type: AWS::EC2::InternetGateway}}
  FarAttached: {{Type: AWS::EC2::VPCGatewayAttachment, Properties: {{VpcId: !Ref Other, InternetGatewayId: !Ref FarOut}}}}
{gateway}  Places: {{Type: AWS::RDS::DBSubnetGroup, Properties: {{DBSubnetGroupDescription: d, SubnetIds: [!Ref Far, !Ref FarToo]}}}}
  DatabaseGroup:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: d
      VpcId: !Ref Other
      SecurityGroupIngress: [{{IpProtocol: tcp, FromPort: 5432, ToPort: 5432, CidrIp: {from}}}]
  Database:
    Type: AWS::RDS::DBInstance
    Properties:
      Engine: postgres
      DBInstanceClass: db.t4g.micro
      AllocatedStorage: '20'
      PubliclyAccessible: true
      DBSubnetGroupName: !Ref Places
      VPCSecurityGroups: [!Ref DatabaseGroup]
"
    )
}

/// The way of the first VPC to the internet, by a NAT gateway with two addresses.
const OUT: &str = "  Public: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24}}
  PublicTable: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}
  PublicUses: {Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {SubnetId: !Ref Public, RouteTableId: !Ref PublicTable}}
  Gate: {Type: AWS::EC2::InternetGateway}
  Attached: {Type: AWS::EC2::VPCGatewayAttachment, Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Gate}}
  Out: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Gate}}
  One: {Type: AWS::EC2::EIP, Properties: {Domain: vpc}}
  Two: {Type: AWS::EC2::EIP, Properties: {Domain: vpc}}
  Nat:
    Type: AWS::EC2::NatGateway
    Properties: {SubnetId: !Ref Public, AllocationId: !GetAtt One.AllocationId, SecondaryAllocationIds: [!GetAtt Two.AllocationId]}
  ByNat: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref NearTable, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat}}
";

#[test]
fn the_groups_of_a_public_database_are_asked_about_the_gateways_addresses() {
    let with = |from: &str, shown| template(&format!("{OUT}{}", public_database(from, shown)));
    for from in ["0.0.0.0/0", "198.18.0.1/32", "198.18.0.2/32"] {
        assert_eq!(goes(&with(from, true), "10.9.1.4", 5432), (Path::Nat(0), None), "{from}");
    }
    let no_rule = Path::Barred(LimitId::NoRule, "DatabaseGroup (what may come to Database)".into());
    for (from, port) in [("198.18.0.3/32", 5432), ("10.0.0.0/16", 5432), ("0.0.0.0/0", 5433)] {
        let (path, cure) = goes(&with(from, true), "10.9.1.4", port);
        assert_eq!(path, no_rule, "{from}");
        let cure = cure.unwrap();
        assert!(cure.ends_with(&format!("ingress rule for tcp {port} from 198.18.0.1/32 (Nat)")), "{cure}");
    }
    let (path, cure) = goes(&with("0.0.0.0/0", false), "10.9.1.4", 5432);
    let who = "Far (the internet does not lead there, where Database is)";
    assert_eq!(path, Path::Barred(LimitId::NoRoute, who.into()));
    assert!(cure.unwrap().contains("whose default route leads to an internet gateway"));
}

#[test]
fn a_function_without_a_vpc_is_a_stranger_to_the_groups_of_a_public_database() {
    for (from, shown, limit) in [
        ("0.0.0.0/0", true, None),
        ("10.0.0.0/8", true, Some("sg.no-rule")),
        ("0.0.0.0/0", false, Some("route.none")),
    ] {
        let free = template(&public_database(from, shown)).replace(
            "      VpcConfig: {SubnetIds: [!Ref Near], SecurityGroupIds: [!Ref Group], Ipv6AllowedForDualStack: true}\n",
            "",
        );
        let (text, arrives) =
            ask(&free, |view| view.answer("Cart", Some("Database"), Transport::Tcp, false)).unwrap();
        assert_eq!(arrives, limit.is_none(), "{text}");
        assert!(limit.is_none_or(|limit| text.contains(limit)), "{text}");
    }
}

#[test]
fn what_a_transit_gateway_leads_to_is_asked_about_addresses_and_answers_need_a_way_back() {
    const THERE: &str = "  Hub: {Type: AWS::EC2::TransitGateway, Properties: {}}
  There: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref NearTable, DestinationCidrBlock: 10.0.0.0/8, TransitGatewayId: !Ref Hub}}
";
    const BACK: &str = "  Back: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref FarTable, DestinationCidrBlock: 10.0.0.0/8, TransitGatewayId: !Ref Hub}}
";
    let with = |from: &str, back: &str| template(&format!("{THERE}{back}{}", public_database(from, false)));
    assert_eq!(goes(&with("10.0.1.0/28", BACK), "10.9.1.4", 5432), (Path::Host(0), None));
    let (path, cure) = goes(&with("10.7.0.0/16", BACK), "10.9.1.4", 5432);
    assert_eq!(path, Path::Barred(LimitId::NoRule, "DatabaseGroup (what may come to Database)".into()));
    assert!(cure.unwrap().ends_with("ingress rule for tcp 5432 from 10.0.1.4/32"));
    let named = with("10.0.1.0/28", BACK).replace("CidrIp: 10.0.1.0/28", "SourceSecurityGroupId: !Ref Group");
    assert!(
        matches!(goes(&named, "10.9.1.4", 5432).0, Path::Barred(LimitId::NoRule, _)),
        "groups do not cross"
    );
    let inside = with("10.0.1.0/28", "").replace("PubliclyAccessible: true", "PubliclyAccessible: false");
    let (path, _) = goes(&inside, "10.9.1.4", 5432);
    assert_eq!(path, Path::Barred(LimitId::NoRoute, "Far (no route leads its answers back)".into()));
    // Nobody of the template: nothing stands in the way.
    assert_eq!(goes(&with("10.0.1.0/28", BACK), "10.9.1.77", 5432).0, Path::World);
}
