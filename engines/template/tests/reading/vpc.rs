//! VPCs: ACLs, peering, IPv6, prefix lists, zones, load balancers; and the templates that AWS refuses.

use super::{problems, stack, warnings};
use model::stack::{
    AnyCidr, BalancerKind, Destination, Link, Logged, Peer, RouteTarget, TrafficType, TransportProtocol,
};

const NETWORK: &str = "\
Resources:
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.0/16}}
  Other: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.9.0.0/16}}
  Six: {Type: 'AWS::EC2::VPCCidrBlock', Properties: {VpcId: !Ref Vpc, AmazonProvidedIpv6CidrBlock: true}}
  More: {Type: 'AWS::EC2::VPCCidrBlock', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.1.0.0/16}}
  One:
    Type: AWS::EC2::Subnet
    DependsOn: Six
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: 10.0.0.0/28
      Ipv6CidrBlock: !Select [1, !Cidr [!Select [0, !GetAtt Vpc.Ipv6CidrBlocks], 4, 64]]
  Two: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.1.1.0/24}}
  Table: {Type: 'AWS::EC2::RouteTable', Properties: {VpcId: !Ref Vpc}}
";

fn with(more: &str) -> String {
    format!("{NETWORK}{more}")
}

#[test]
fn ipv6_and_further_ranges_are_read() {
    let stack = stack(&with(
        "\x20 Out: {Type: 'AWS::EC2::EgressOnlyInternetGateway', Properties: {VpcId: !Ref Vpc}}
  Route:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref Table, DestinationIpv6CidrBlock: '::/0', EgressOnlyInternetGatewayId: !Ref Out}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: g
      VpcId: !Ref Vpc
      SecurityGroupEgress: [{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIpv6: '::/0'}]
",
    ));
    let vpc = &stack.vpcs[0];
    assert_eq!(vpc.more_cidrs, ["10.1.0.0/16".parse().unwrap()]);
    let block = vpc.ipv6_cidrs[0];
    assert_eq!((block.prefix(), block.first().segments()[..2].to_vec()), (56, vec![0x2001, 0xdb8]));
    let subnet = stack.subnets[0].ipv6_cidr.unwrap();
    assert!(block.covers(subnet) && subnet.prefix() == 64 && subnet.first().segments()[3] & 0xff == 1);
    assert_eq!(stack.subnets[0].cidr.usable(), 11);
    assert!(
        matches!(&stack.routes[0].target, RouteTarget::EgressOnlyInternetGateway(link) if link.as_str() == "Out")
    );
    assert!(matches!(stack.routes[0].destination, Destination::Ipv6(range) if range.prefix() == 0));
    let group = stack.security_group("Group").unwrap();
    assert!(matches!(group.egress[0].peer, Peer::Ipv6(range) if range.prefix() == 0));
    assert_eq!(stack.egress_only_gateways[0].vpc, Link::Logical("Vpc".into()));
}

#[test]
fn nothing_that_is_said_of_the_network_is_passed_over_in_silence() {
    let text = with(
        "\x20 Wide: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.2.0.0/16, EnableDnsSuport: true, Tags: []}}
  Three: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.1.2.0/24, EnableDns64: true}}
  Four: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.1.3.0/24, EnableDns64: false}}
  Nat: {Type: 'AWS::EC2::NatGateway', Properties: {ConnectivityType: private, SubnetId: !Ref Three}}
  Six64:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref Table, DestinationIpv6CidrBlock: '64:ff9b::/96', NatGatewayId: !Ref Nat}
  Cloud:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 10.200.0.0/16, CoreNetworkArn: 'arn:aws:x'}
  Six0:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref Table, DestinationIpv6CidrBlock: '::/0', NatGatewayId: !Ref Nat}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: g
      VpcId: !Ref Vpc
      SecurityGroupEgress: {IpProtocol: tcp, FromPort: 1, ToPort: 1, CidrIp: 0.0.0.0/0, Descripton: x}
  Endpoint:
    Type: AWS::EC2::VPCEndpoint
    Properties: {VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, IpAddressType: dualstack}
  Mesh:
    Type: AWS::EC2::VPCEndpoint
    Properties: {VpcId: !Ref Vpc, VpcEndpointType: ServiceNetwork, ServiceNetworkArn: 'arn:aws:y'}
",
    );
    let said = warnings(&text);
    for (part, help) in [
        (
            "AWS::EC2::VPC has no property `EnableDnsSuport`; it is not read",
            "did you mean `EnableDnsSupport`?",
        ),
        (
            "`Six0` of ::/0 leads to a NAT gateway, which takes 64:ff9b::/96 alone",
            "dropped at Nat (route.none)",
        ),
        ("an egress rule of a security group has no property `Descripton`", "did you mean `Description`?"),
        ("IpAddressType of AWS::EC2::VPCEndpoint is not run", "IPv4 addresses alone"),
        ("ServiceNetworkArn of AWS::EC2::VPCEndpoint is not run", ""),
        ("`Mesh` is not run", ""),
    ] {
        let found = said.iter().find(|line| line.contains(part));
        assert!(found.is_some_and(|line| line.contains(help)), "{part}\nin\n{said:#?}");
    }
    assert_eq!(said.len(), 6, "{said:#?}");
    // The routes are what they are, and the resolver of one subnet makes up addresses of IPv6.
    let stack = stack(&text);
    let dns64: Vec<&str> = stack.subnets.iter().filter(|found| found.dns64).map(|found| &*found.id).collect();
    assert_eq!(dns64, ["Three"]);
    assert!(
        matches!(&stack.routes[1].target, RouteTarget::OtherGateway(link) if link.as_str() == "arn:aws:x")
    );
}

#[test]
fn an_endpoint_keeps_its_policy_however_it_is_written() {
    let endpoint = |policy: &str| {
        with(&format!(
            "\x20 Endpoint:
    Type: AWS::EC2::VPCEndpoint
    Properties: {{VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, PolicyDocument: {policy}}}
"
        ))
    };
    let statement = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}"#;
    for written in [statement.to_owned(), format!("'{statement}'")] {
        let stack = stack(&endpoint(&written));
        let kept: &str = stack.vpc_endpoints[0].policy.as_deref().unwrap();
        assert!(kept.contains(r#""Action":"s3:*""#), "{kept}");
    }
    for (written, said) in [
        ("'{'", "the policy is no JSON"),
        ("{Version: '2012-10-17'}", "the policy has no Statement"),
        (&*format!("{{Statement: [{{Sid: {}}}]}}", "x".repeat(20_480)), "and 20480 is the most"),
    ] {
        let found = problems(&endpoint(written));
        assert!(found.iter().any(|line| line.contains(said)), "{said}: {found:?}");
    }
    assert_eq!(stack(&endpoint("!Ref AWS::NoValue")).vpc_endpoints[0].policy, None);
}

#[test]
fn network_acls_have_their_entries_and_every_vpc_its_own() {
    let stack = stack(&with(
        "\x20 Acl: {Type: 'AWS::EC2::NetworkAcl', Properties: {VpcId: !Ref Vpc}}
  Of: {Type: 'AWS::EC2::SubnetNetworkAclAssociation', Properties: {SubnetId: !Ref One, NetworkAclId: !Ref Acl}}
  In:
    Type: AWS::EC2::NetworkAclEntry
    Properties:
      {NetworkAclId: !Ref Acl, RuleNumber: 100, Protocol: 6, RuleAction: allow, CidrBlock: 10.0.0.0/8, PortRange: {From: 1024, To: 65535}}
  Ping:
    Type: AWS::EC2::NetworkAclEntry
    Properties:
      {NetworkAclId: !Ref Acl, RuleNumber: 100, Egress: true, Protocol: 1, RuleAction: deny, CidrBlock: 0.0.0.0/0, Icmp: {Type: 8, Code: -1}}
  Own:
    Type: AWS::EC2::NetworkAclEntry
    Properties: {NetworkAclId: !GetAtt Vpc.DefaultNetworkAcl, RuleNumber: 50, Protocol: -1, RuleAction: deny, CidrBlock: 192.0.2.0/24}
",
    ));
    let ids: Vec<&str> = stack.network_acls.iter().map(|acl| &*acl.id).collect();
    assert_eq!(ids, ["Vpc.DefaultNetworkAcl", "Other.DefaultNetworkAcl", "Acl"]);
    let acl = &stack.network_acls[2];
    let of = |index: usize| {
        let entry = &acl.entries[index];
        (entry.egress, entry.allow, entry.protocol, entry.from_port, entry.to_port)
    };
    assert_eq!(of(0), (false, true, TransportProtocol::Tcp, 1024, 65_535));
    assert_eq!(of(1), (true, false, TransportProtocol::Icmp, 8, -1));
    assert_eq!(stack.network_acls[0].entries.len(), 5);
    assert_eq!(stack.network_acl_associations[0].network_acl, Link::Logical("Acl".into()));
}

#[test]
fn peers_prefix_lists_and_zones_are_read() {
    let stack = stack(&with(
        "\x20 Peers: {Type: 'AWS::EC2::VPCPeeringConnection', Properties: {VpcId: !Ref Vpc, PeerVpcId: !Ref Other}}
  Route:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 10.9.0.0/16, VpcPeeringConnectionId: !Ref Peers}
  Partners:
    Type: AWS::EC2::PrefixList
    Properties: {PrefixListName: p, AddressFamily: IPv4, MaxEntries: 5, Entries: [{Cidr: 203.0.113.0/24}, {Cidr: 198.51.100.7/32}]}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: g
      SecurityGroupEgress: [{IpProtocol: tcp, FromPort: 443, ToPort: 443, DestinationPrefixListId: !GetAtt Partners.PrefixListId}]
  Zone: {Type: 'AWS::Route53::HostedZone', Properties: {Name: Corp.Internal., VPCs: [{VPCId: !Ref Vpc, VPCRegion: us-east-1}]}}
  Cache:
    Type: AWS::Route53::RecordSet
    Properties: {HostedZoneId: !Ref Zone, Name: cache.corp.internal, Type: A, TTL: '60', ResourceRecords: [10.1.1.9]}
  Rest:
    Type: AWS::Route53::RecordSetGroup
    Properties:
      HostedZoneName: corp.internal.
      RecordSets:
        - {Name: '*.corp.internal.', Type: CNAME, TTL: '300', ResourceRecords: [cache.corp.internal]}
        - {Name: lb.corp.internal, Type: A, AliasTarget: {DNSName: !GetAtt Balancer.DNSName, HostedZoneId: Z1}}
  Balancer:
    Type: AWS::ElasticLoadBalancingV2::LoadBalancer
    Properties: {Type: network, Scheme: internal, Subnets: [!Ref One, !Ref Two]}
  Listener:
    Type: AWS::ElasticLoadBalancingV2::Listener
    Properties: {LoadBalancerArn: !Ref Balancer, Port: 6379, Protocol: TCP, DefaultActions: []}
",
    ));
    let peering = &stack.peerings[0];
    assert_eq!(
        (&peering.vpc, &peering.peer_vpc),
        (&Link::Logical("Vpc".into()), &Link::Logical("Other".into()))
    );
    assert!(matches!(&stack.routes[0].target, RouteTarget::VpcPeering(Link::Logical(id)) if id == "Peers"));
    let list = &stack.prefix_lists[0];
    assert!(
        list.prefix_list_id.starts_with("pl-")
            && matches!(list.entries[1], AnyCidr::Ipv4(one) if one.prefix() == 32)
    );
    let group = stack.security_group("Group").unwrap();
    assert_eq!(group.egress[0].peer, Peer::PrefixList(list.prefix_list_id.clone()));
    let zone = &stack.hosted_zones[0];
    let names: Vec<&str> = zone.records.iter().map(|record| &*record.name).collect();
    assert_eq!(
        (&*zone.name, names),
        ("corp.internal", vec!["cache.corp.internal", "*.corp.internal", "lb.corp.internal"])
    );
    let balancer = &stack.load_balancers[0];
    assert_eq!(
        (balancer.kind, balancer.internal, &*balancer.ports),
        (BalancerKind::Network, true, &[6379][..])
    );
    assert_eq!(zone.records[2].alias.as_deref(), Some(&*balancer.dns_name));
    assert!(balancer.dns_name.ends_with(".elb.us-east-1.amazonaws.com"), "{}", balancer.dns_name);
}

#[test]
fn a_load_balancer_forwards_nothing_and_the_warning_says_what_stands() {
    let text = with(
        "
  Balancer:
    Type: AWS::ElasticLoadBalancingV2::LoadBalancer
    Properties: {Type: network, Scheme: internal, Subnets: [!Ref One, !Ref Two]}
",
    );
    let [said] = &warnings(&text)[..] else { panic!("{:?}", warnings(&text)) };
    assert!(said.contains("LoadBalancer is not run: Balancer"), "{said}");
    assert!(
        said.contains("its name and addresses stand in the VPC; `--attach Balancer=HOST:PORT`"),
        "{said}"
    );
}

#[test]
fn what_aws_refuses_is_refused_in_its_words() {
    let text = with(
        "\x20 Small: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.9.0/29}}
  Over: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/25}}
  Wide: {Type: 'AWS::EC2::VPCCidrBlock', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.128.0/17}}
  First: {Type: 'AWS::EC2::Route', Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, GatewayId: igw-1}}
  Second: {Type: 'AWS::EC2::Route', Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: nat-1}}
  Home: {Type: 'AWS::EC2::Route', Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 10.0.0.0/16, NatGatewayId: nat-1}}
  A: {Type: 'AWS::EC2::SubnetRouteTableAssociation', Properties: {SubnetId: !Ref One, RouteTableId: !Ref Table}}
  B: {Type: 'AWS::EC2::SubnetRouteTableAssociation', Properties: {SubnetId: !Ref One, RouteTableId: !Ref Table}}
  Acl: {Type: 'AWS::EC2::NetworkAcl', Properties: {VpcId: !Ref Vpc}}
  E: {Type: 'AWS::EC2::NetworkAclEntry', Properties: {NetworkAclId: !Ref Acl, RuleNumber: 7, Protocol: -1, RuleAction: allow, CidrBlock: 0.0.0.0/0}}
  F: {Type: 'AWS::EC2::NetworkAclEntry', Properties: {NetworkAclId: !Ref Acl, RuleNumber: 7, Protocol: -1, RuleAction: deny, CidrBlock: 0.0.0.0/0}}
  G: {Type: 'AWS::EC2::NetworkAclEntry', Properties: {NetworkAclId: !Ref Acl, RuleNumber: 32767, Protocol: -1, RuleAction: deny, CidrBlock: 0.0.0.0/0}}
  H: {Type: 'AWS::EC2::NetworkAclEntry', Properties: {NetworkAclId: !Ref Acl, RuleNumber: 8, Protocol: 6, RuleAction: deny, CidrBlock: 0.0.0.0/0}}
  Same: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.0/20}}
  Peers: {Type: 'AWS::EC2::VPCPeeringConnection', Properties: {VpcId: !Ref Vpc, PeerVpcId: !Ref Same}}
  List: {Type: 'AWS::EC2::PrefixList', Properties: {PrefixListName: p, AddressFamily: IPv4, MaxEntries: 1, Entries: [{Cidr: 203.0.113.0/24}, {Cidr: 198.51.100.0/24}]}}
  Zone: {Type: 'AWS::Route53::HostedZone', Properties: {Name: corp.internal, VPCs: [{VPCId: !Ref Vpc}]}}
  Stray: {Type: 'AWS::Route53::RecordSet', Properties: {HostedZoneId: !Ref Zone, Name: a.corp.example, Type: A, ResourceRecords: [10.0.0.9]}}
  Empty: {Type: 'AWS::Route53::RecordSet', Properties: {HostedZoneId: !Ref Zone, Name: a.corp.internal, Type: A}}
  Fork: {Type: 'AWS::EC2::Route', Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 9.9.9.0/24, GatewayId: igw-1, NatGatewayId: nat-1}}
  Ip: {Type: 'AWS::EC2::EIP', Properties: {Domain: vpc}}
  Nat: {Type: 'AWS::EC2::NatGateway', Properties: {SubnetId: !Ref Two, AllocationId: !Ref Ip}}
  Ssm: {Type: 'AWS::EC2::VPCEndpoint', Properties: {VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.ssm, SubnetIds: [!Ref Two]}}
  S3: {Type: 'AWS::EC2::VPCEndpoint', Properties: {VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, SubnetIds: [!Ref Two], SecurityGroupIds: []}}
  Sqs:
    Type: AWS::EC2::VPCEndpoint
    Properties: {VpcId: !Ref Vpc, VpcEndpointType: Interface, ServiceName: com.amazonaws.us-east-1.sqs, RouteTableIds: [!Ref Table]}
",
    );
    let said = problems(&text);
    for expected in [
        "10.0.9.0/29 is not a /16 to /28",
        "10.0.0.0/25, the range of Over",
        "AWS says: The CIDR '10.0.0.0/28' conflicts with another subnet",
        "the range 10.0.128.0/17 overlaps 10.0.0.0/16",
        "The route identified by 0.0.0.0/0 already exists: First in Table",
        "The route identified by 10.0.0.0/16 already exists: local in Table",
        "One has a route table already, by A",
        "The network acl entry identified by 7 already exists: E",
        "32767",
        "H (AWS::EC2::NetworkAclEntry) needs `PortRange`",
        "10.0.0.0/16 of Vpc and 10.0.0.0/20 of Same overlap",
        "the prefix list has 2 entries, and MaxEntries is 1",
        "the record `a.corp.example` does not lie in the zone `corp.internal`",
        "the record `a.corp.internal` has no value",
        "the route `Fork` leads to two places",
        "not its allocation id (give !GetAtt ADDRESS.AllocationId)",
        "`ssm` has no gateway endpoints, and `Ssm` is one",
        "AWS says: Subnet IDs are only supported for Interface and GatewayLoadBalancer type VPC Endpoints.",
        "AWS says: Route table IDs are only supported for Gateway type VPC Endpoint.",
    ] {
        assert!(said.iter().any(|one| one.contains(expected)), "{expected}\nin {said:#?}");
    }
}

#[test]
fn whoever_asks_a_vpc_for_its_range_gets_the_one_that_ec2_made_of_it() {
    let text = "\
Resources:
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.1/16}}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: g
      VpcId: !Ref Vpc
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: !GetAtt Vpc.CidrBlock}]
";
    let group = stack(text).security_group("Group").unwrap().clone();
    assert_eq!(group.ingress[0].peer, Peer::Ipv4("10.0.0.0/16".parse().unwrap()));
    assert_eq!(warnings(text).len(), 1, "where it is written, and nowhere else");
}

#[test]
fn a_group_without_rules_of_its_own_lets_ipv6_out_where_its_vpc_has_it() {
    let group = |vpc: &str| {
        let text = with(&format!(
            "\x20 Group: {{Type: 'AWS::EC2::SecurityGroup', Properties: {{GroupDescription: g, VpcId: !Ref {vpc}}}}}\n"
        ));
        stack(&text).security_group("Group").unwrap().egress.len()
    };
    assert_eq!((group("Vpc"), group("Other")), (2, 1));
    let own = &stack(NETWORK).security_group("Vpc.DefaultSecurityGroup").unwrap().egress.clone();
    assert!(matches!(own[1].peer, Peer::Ipv6(range) if range.prefix() == 0));
}

#[test]
fn what_fails_at_aws_alone_is_said_in_its_words() {
    let endpoint = |subnets: &str| {
        with(&format!(
            "\x20 A: {{Type: 'AWS::EC2::Subnet', Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.1.0/24, AvailabilityZone: us-east-1a}}}}
  B: {{Type: 'AWS::EC2::Subnet', Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.2.0/24, AvailabilityZone: us-east-1a}}}}
  C: {{Type: 'AWS::EC2::Subnet', Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.3.0/24, AvailabilityZone: us-east-1b}}}}
  Free: {{Type: 'AWS::EC2::Subnet', Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.4.0/24}}}}
  Ssm:
    Type: AWS::EC2::VPCEndpoint
    Properties:
      {{VpcId: !Ref Other, VpcEndpointType: Interface, ServiceName: com.amazonaws.us-east-1.ssm, SubnetIds: [{subnets}], PrivateDnsEnabled: true}}
"
        ))
    };
    let found = problems(&endpoint("!Ref A, !Ref C, !Ref B"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`Ssm` stands twice in us-east-1a: in A and in B"), "{found:?}");
    assert!(found[0].contains("DuplicateSubnetsInSameZone"), "{found:?}");
    let fine = endpoint("!Ref A, !Ref C, !Ref Free");
    assert_eq!(stack(&fine).vpc_endpoints.len(), 1, "AWS chooses the zone of a subnet that names none");
    let said = warnings(&fine);
    assert!(said.iter().any(|one| one.contains("`Ssm` has private DNS") && one.contains("Enabling private DNS requires")), "{said:?}");
    let on = fine.replace("CidrBlock: 10.9.0.0/16", "CidrBlock: 10.9.0.0/16, EnableDnsHostnames: true");
    assert_eq!(warnings(&on), Vec::<String>::new());
    let group = |subnets: &str| {
        format!(
            "{on}  Places: {{Type: 'AWS::RDS::DBSubnetGroup', Properties: {{DBSubnetGroupDescription: p, SubnetIds: [{subnets}]}}}}\n"
        )
    };
    let found = problems(&group("!Ref A, !Ref B"));
    assert!(
        found.len() == 1
            && found[0].contains("`Places` needs subnets in two zones, and has us-east-1a alone"),
        "{found:?}"
    );
    assert_eq!(stack(&group("!Ref A, !Ref B, !Ref C")).db_subnet_groups[0].subnets.len(), 3);
    assert_eq!(stack(&group("!Ref A, !Ref Free")).db_subnet_groups[0].subnets.len(), 2);
    let addresses = with(
        "\x20 Ip: {Type: 'AWS::EC2::EIP', Properties: {Domain: vpc}}
  Near: {Type: 'AWS::EC2::NatGateway', Properties: {SubnetId: !Ref Two, AllocationId: !GetAtt Ip.AllocationId}}
  Far: {Type: 'AWS::EC2::NatGateway', Properties: {SubnetId: !Ref Two, AllocationId: !GetAtt Ip.AllocationId}}
",
    );
    let found = problems(&addresses);
    assert!(found.len() == 1 && found[0].contains("`Far` has Ip, which Near has already"), "{found:?}");
    let loose = with(
        "\x20 Igw: {Type: 'AWS::EC2::InternetGateway', Properties: {}}
  Out: {Type: 'AWS::EC2::Route', Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Igw}}
",
    );
    let said = warnings(&loose);
    assert!(
        said.iter().any(|one| one.contains("`Out` leads to Igw, which is attached to no VPC")),
        "{said:?}"
    );
    let joined = "  Join: {Type: 'AWS::EC2::VPCGatewayAttachment', Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Igw}}\n";
    assert_eq!(warnings(&format!("{loose}{joined}")), Vec::<String>::new());
    let odd = with(
        "\x20 Near: {Type: 'AWS::EC2::VPCEndpoint', Properties: {VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, SecurityGroupIds: [!Ref Group]}}
  Far: {Type: 'AWS::EC2::VPCEndpoint', Properties: {VpcId: !Ref Vpc, ServiceName: com.amazonaws.eu-west-1.s3}}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: g
      VpcId: !Ref Vpc
      SecurityGroupIngress:
        - {IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: 10.0.0.0/8}
        - {IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: 10.0.0.0/8}
        - {IpProtocol: tcp, FromPort: 23, ToPort: 23, CidrIp: 10.0.0.0/8, SourcePrefixListId: pl-1}
",
    );
    let said = warnings(&odd);
    for expected in [
        "`Near` is of type Gateway, which has no SecurityGroupIds",
        "the service of `Far` is of eu-west-1, and the stack of us-east-1",
        "Group has the same inbound rule twice",
        "the rule names two peers, of which CidrIp counts and SourcePrefixListId does not",
    ] {
        assert!(said.iter().any(|one| one.contains(expected)), "{expected}: {said:?}");
    }
    let zone = with(
        "\x20 Zone: {Type: 'AWS::Route53::HostedZone', Properties: {Name: corp.internal, VPCs: [{VPCId: !Ref Vpc}]}}
  Mail: {Type: 'AWS::Route53::RecordSet', Properties: {HostedZoneId: !Ref Zone, Name: corp.internal, Type: MX, ResourceRecords: ['10 a']}}
",
    );
    let said = warnings(&zone);
    for expected in [
        "`Zone` is a private zone of Vpc, which needs EnableDnsHostnames for it",
        "the record `corp.internal` of type `MX` is not run",
    ] {
        assert!(said.iter().any(|one| one.contains(expected)), "{expected}: {said:?}");
    }
}

#[test]
fn zones_that_only_aws_knows_and_targets_left_empty_are_taken() {
    let subnet = |id: &str, third: u8, zone: &str| {
        format!(
            "  {id}: {{Type: 'AWS::EC2::Subnet', Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.{third}.0/24{zone}}}}}\n"
        )
    };
    let with_subnets = |zones: [&str; 2], more: &str| {
        with(&format!(
            "{}{}{}{more}",
            subnet("Free", 1, ""),
            subnet("A", 2, zones[0]),
            subnet("B", 3, zones[1])
        ))
    };
    // Free is put into us-east-1c here, and into any zone at AWS.
    let asked = [", AvailabilityZone: !GetAtt Free.AvailabilityZone", ", AvailabilityZone: us-east-1c"];
    let endpoint = "  Ssm:
    Type: AWS::EC2::VPCEndpoint
    Properties: {VpcId: !Ref Other, VpcEndpointType: Interface, ServiceName: com.amazonaws.us-east-1.ssm, SubnetIds: [!Ref A, !Ref B]}
";
    let text = with_subnets(asked, endpoint);
    let read = stack(&text);
    assert_eq!(read.subnet("A").unwrap().availability_zone, read.subnet("B").unwrap().availability_zone);
    let fixed = text.replace("!GetAtt Free.AvailabilityZone", "us-east-1c");
    assert!(problems(&fixed)[0].contains("twice in us-east-1c"), "{:?}", problems(&fixed));
    let group = "  Places: {Type: 'AWS::RDS::DBSubnetGroup', Properties: {DBSubnetGroupDescription: p, SubnetIds: [!Ref A, !Ref B]}}\n";
    let outpost = ", AvailabilityZone: us-east-1a, OutpostArn: 'arn:aws:outposts:us-east-1:111122223333:outpost/op-0abc'";
    for zone in [", AvailabilityZone: us-east-1-bos-1a", outpost] {
        assert_eq!(stack(&with_subnets([zone; 2], group)).db_subnet_groups.len(), 1, "{zone}");
    }
    assert!(problems(&with_subnets([", AvailabilityZone: us-east-1a"; 2], group))[0].contains("two zones"));
    let route = |targets: &str| {
        with(&format!(
            "\x20 Igw: {{Type: 'AWS::EC2::InternetGateway', Properties: {{}}}}
  Join: {{Type: 'AWS::EC2::VPCGatewayAttachment', Properties: {{VpcId: !Ref Vpc, InternetGatewayId: !Ref Igw}}}}
  Out: {{Type: 'AWS::EC2::Route', Properties: {{RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, {targets}}}}}
"
        ))
    };
    let read = stack(&route("GatewayId: !Ref Igw, NatGatewayId: ''"));
    assert!(matches!(read.routes[0].target, RouteTarget::InternetGateway(_)));
    let read = stack(&route("GatewayId: '', NatGatewayId: nat-1"));
    assert!(matches!(read.routes[0].target, RouteTarget::NatGateway(_)));
    assert!(problems(&route("GatewayId: ''"))[0].contains("leads nowhere"));
}

#[test]
fn a_route_to_a_virtual_private_gateway_leads_out_of_what_is_known() {
    let stack = stack(&with(
        "\x20 Vpn: {Type: 'AWS::EC2::VPNGateway', Properties: {Type: ipsec.1}}
  Office: {Type: 'AWS::EC2::Route', Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 192.168.0.0/16, GatewayId: !Ref Vpn}}
",
    ));
    assert!(
        matches!(&stack.routes[0].target, RouteTarget::OtherGateway(link) if link.as_str().starts_with("vgw-"))
    );
}

#[test]
fn a_group_may_refer_to_itself_and_one_with_too_many_rules_is_warned_of() {
    let rules: Vec<String> = (0..61)
        .map(|number| format!("{{IpProtocol: tcp, FromPort: {number}, ToPort: {number}, CidrIp: 0.0.0.0/0}}"))
        .collect();
    let text = with(&format!(
        "\x20 Group: {{Type: 'AWS::EC2::SecurityGroup', Properties: {{GroupDescription: g, VpcId: !Ref Vpc}}}}
  Self:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: {{GroupId: !Ref Group, IpProtocol: -1, SourceSecurityGroupId: !Ref Group}}
  Many:
    Type: AWS::EC2::SecurityGroup
    Properties: {{GroupDescription: m, VpcId: !Ref Vpc, SecurityGroupIngress: [{}]}}
",
        rules.join(", ")
    ));
    let stack = stack(&text);
    let group = stack.security_group("Group").unwrap();
    assert_eq!(group.ingress[0].peer, Peer::SecurityGroup(Link::Logical("Group".into())));
    let warned = warnings(&text);
    assert!(warned.iter().any(|one| one.contains("Many has 61 inbound rules")), "{warned:?}");
    let loops = with(
        "  Group: {Type: 'AWS::EC2::SecurityGroup', Properties: {GroupDescription: g, SecurityGroupIngress: \
                      [{IpProtocol: -1, SourceSecurityGroupId: !Ref Group}]}}\n",
    );
    assert!(problems(&loops)[0].contains("Group"), "a resource cannot be made before itself");
}

#[test]
fn a_rule_that_names_a_group_of_a_vpc_that_is_no_peer_is_warned_of_at_its_place() {
    const MORE: &str =
        "\x20 Group: {Type: 'AWS::EC2::SecurityGroup', Properties: {GroupDescription: g, VpcId: !Ref Vpc}}
  Theirs: {Type: 'AWS::EC2::SecurityGroup', Properties: {GroupDescription: t, VpcId: !Ref Other}}
  Beside: {Type: 'AWS::EC2::SecurityGroup', Properties: {GroupDescription: b, VpcId: !Ref Vpc}}
  Rule:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: {GroupId: !Ref Group, IpProtocol: -1, SourceSecurityGroupId: !Ref Theirs}
  Fine:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: {GroupId: !Ref Group, IpProtocol: -1, SourceSecurityGroupId: !Ref Beside}
";
    let about = |more: &str| {
        let all = warnings(&with(&format!("{MORE}{more}")));
        all.into_iter().filter(|one| one.contains("names Theirs")).collect::<Vec<_>>()
    };
    let found = about("");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("a rule of Group in Vpc names Theirs, a group of Other")
            && found[0].contains("InvalidGroup.NotFound"),
        "{found:?}"
    );
    let peers = "  Peers: {Type: 'AWS::EC2::VPCPeeringConnection', Properties: {VpcId: !Ref Other, PeerVpcId: !Ref Vpc}}\n";
    assert!(about(peers).is_empty());
    let transit = "  Hub: {Type: 'AWS::EC2::TransitGateway', Properties: {}}\n";
    assert!(about(transit).is_empty(), "it may carry groups");
}

/// A function in the VPC with a role of these properties, and more resources.
fn function(role: &str, more: &str) -> String {
    with(&format!(
        "\x20 Role: {{Type: 'AWS::IAM::Role', Properties: {{AssumeRolePolicyDocument: {{}}, {role}}}}}
  Group: {{Type: 'AWS::EC2::SecurityGroup', Properties: {{GroupDescription: g, VpcId: !Ref Vpc}}}}
  Cart:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Code: {{ZipFile: 'x'}}
      Role: !GetAtt Role.Arn
      VpcConfig: {{SubnetIds: [!Ref One], SecurityGroupIds: [!Ref Group]}}
{more}"
    ))
}

#[test]
fn a_role_that_cannot_make_network_interfaces_gets_the_error_of_lambda() {
    const LOGS: &str =
        "{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: 'logs:*', Resource: '*'}]}}";
    let basic = "ManagedPolicyArns: ['arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole']";
    let attached = "\x20 Policy:
    Type: AWS::IAM::Policy
    Properties:
      PolicyName: enis
      Roles: [!Ref Role]
      PolicyDocument: {Statement: [{Effect: Allow, Action: ['ec2:*NetworkInterface*'], Resource: '*'}]}
";
    let partly = "{PolicyName: p, PolicyDocument: {Statement: {Effect: Allow, Action: ['ec2:CreateNetworkInterface', \
                  'ec2:DescribeNetworkInterfaces'], Resource: '*'}}}";
    for (role, more, call) in [
        (format!("Policies: [{LOGS}]"), "", "CreateNetworkInterface"),
        (basic.to_owned(), "", "CreateNetworkInterface"),
        (format!("Policies: [{partly}]"), "", "DeleteNetworkInterface"),
    ] {
        let said = problems(&function(&role, more));
        let expected = format!("The provided execution role does not have permissions to call {call} on EC2");
        assert!(said[0].contains(&expected) && said.len() == 1, "{said:?}");
        assert!(
            said[0].contains("give Role the managed policy service-role/AWSLambdaVPCAccessExecutionRole")
        );
    }
    let vpc = "ManagedPolicyArns: ['arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole']";
    let elsewhere = "ManagedPolicyArns: ['arn:aws:iam::000000000000:policy/all']";
    for (role, more) in [
        (format!("{vpc}, Policies: [{LOGS}]"), ""),
        (format!("Policies: [{LOGS}]"), attached),
        (basic.to_owned(), attached),
        (elsewhere.to_owned(), ""),
        ("Path: /".to_owned(), ""),
    ] {
        assert_eq!(stack(&function(&role, more)).functions.len(), 1, "{role}");
    }
    let outside = function("Path: /", "").replace("!GetAtt Role.Arn", "'arn:aws:iam::000000000000:role/x'");
    assert_eq!(stack(&outside).functions.len(), 1, "trusted");
}

#[test]
fn sam_lets_the_role_it_makes_into_the_vpc() {
    let text = with(
        "\x20 Group: {Type: 'AWS::EC2::SecurityGroup', Properties: {GroupDescription: g, VpcId: !Ref Vpc}}
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      InlineCode: x
      Policies: [{Statement: [{Effect: Allow, Action: 's3:*', Resource: '*'}]}]
      VpcConfig: {SubnetIds: [!Ref One], SecurityGroupIds: [!Ref Group]}
",
    );
    let stack = stack(&format!("Transform: AWS::Serverless-2016-10-31\n{text}"));
    assert!(stack.roles[0].managed_policies[0].ends_with("/AWSLambdaVPCAccessExecutionRole"));
}

#[test]
fn flow_logs_are_read_with_their_format_and_interval() {
    let text = with(
        "\x20 All:
    Type: AWS::EC2::FlowLog
    Properties:
      ResourceId: !Ref Vpc
      ResourceType: VPC
      TrafficType: ALL
      LogDestinationType: s3
      LogDestination: arn:aws:s3:::flows
      LogFormat: '${srcaddr} ${tcp-flags} ${flow-direction}'
      MaxAggregationInterval: 60
  Rejected:
    Type: AWS::EC2::FlowLog
    Properties: {ResourceId: !Ref One, ResourceType: Subnet, TrafficType: REJECT, LogGroupName: x}
  Made:
    Type: AWS::EC2::FlowLog
    Properties:
      ResourceId: eni-One-Group
      ResourceType: NetworkInterface
      TrafficType: ACCEPT
      LogFormat: !Sub '${!srcaddr} ${!dstaddr}'
  Away:
    Type: AWS::EC2::FlowLog
    Properties: {ResourceId: tgw-1, ResourceType: TransitGateway, LogFormat: '${tgw-id}'}
",
    );
    let stack = stack(&text);
    let read: Vec<_> = stack.flow_logs.iter().map(|log| (&*log.id, &log.of, log.traffic)).collect();
    assert_eq!(
        read,
        [
            ("All", &Logged::Vpc(Link::Logical("Vpc".into())), TrafficType::All),
            ("Rejected", &Logged::Subnet(Link::Logical("One".into())), TrafficType::Reject),
            ("Made", &Logged::NetworkInterface(Link::Literal("eni-One-Group".into())), TrafficType::Accept),
        ]
    );
    let seconds: Vec<u64> = stack.flow_logs.iter().map(|log| log.interval.as_secs()).collect();
    let formats: Vec<String> = stack.flow_logs.iter().map(|log| log.format.to_string()).collect();
    assert_eq!(seconds, [60, 600, 600]);
    assert_eq!(
        (&*formats[0], &*formats[2]),
        ("${srcaddr} ${tcp-flags} ${flow-direction}", "${srcaddr} ${dstaddr}")
    );
    assert!(formats[1].starts_with("${version} ") && stack.flow_logs[0].flow_log_id.starts_with("fl-"));
    assert!(warnings(&text).iter().any(|line| line.contains("`Away` is not run: a flow log of this type")));
    for (more, said, help) in [
        ("TrafficType: ALL, LogFormat: '${srcadr}'", "no field `srcadr`", "did you mean `srcaddr`?"),
        ("TrafficType: ALL, LogFormat: srcaddr", "`srcaddr` is no field", ""),
        ("TrafficType: ALL, MaxAggregationInterval: 300", "is 60 or 600 seconds, not 300", ""),
        ("TrafficType: NONE", "one of ACCEPT, REJECT, ALL", ""),
        ("Tags: []", "TrafficType", ""),
        ("TrafficType: ALL, LogDestinationType: disk", "one of cloud-watch-logs, s3", ""),
    ] {
        let bad = format!(
            "\x20 Bad: {{Type: AWS::EC2::FlowLog, Properties: {{ResourceId: !Ref Vpc, ResourceType: VPC, {more}}}}}\n"
        );
        let found = problems(&with(&bad));
        assert!(found.iter().any(|line| line.contains(said) && line.contains(help)), "{said}: {found:?}");
    }
    let wrong = "\x20 Bad: {Type: AWS::EC2::FlowLog, Properties: {ResourceId: !Ref Vpc, ResourceType: Subnet, TrafficType: ALL}}\n";
    assert!(problems(&with(wrong)).iter().any(|line| line.contains("expected AWS::EC2::Subnet, found Vpc")));
}

#[test]
fn a_flow_log_of_one_of_several_outside_vpcs_is_said_to_have_no_outside_subnets() {
    let log = |id: &str, vpc: &str| {
        format!(
            "\x20 {id}: {{Type: AWS::EC2::FlowLog, Properties: {{ResourceId: {vpc}, ResourceType: VPC, TrafficType: ALL}}}}\n"
        )
    };
    let said = "has no lines of subnets from outside the template";
    let one = with(&[log("Theirs", "vpc-9"), log("Again", "vpc-9"), log("Own", "!Ref Vpc")].concat());
    assert!(!warnings(&one).iter().any(|line| line.contains(said)), "{:?}", warnings(&one));
    assert_eq!(stack(&one).outside_vpc(), Some("vpc-9"));
    let two = with(&[log("Theirs", "vpc-9"), log("Second", "vpc-8"), log("Own", "!Ref Vpc")].concat());
    let told: Vec<_> = warnings(&two).into_iter().filter(|line| line.contains(said)).collect();
    assert!(told.len() == 2 && told[0].contains("`Theirs`") && told[1].contains("`vpc-8`"), "{told:?}");
}

#[test]
fn what_joins_parts_of_two_vpcs_is_refused() {
    let text = |more: &str| {
        with(&format!(
            "\x20 Far: {{Type: AWS::EC2::Subnet, Properties: {{VpcId: !Ref Other, CidrBlock: 10.9.1.0/24}}}}
  Near: {{Type: AWS::EC2::SecurityGroup, Properties: {{GroupDescription: g, VpcId: !Ref Vpc}}}}
  Beyond: {{Type: AWS::EC2::SecurityGroup, Properties: {{GroupDescription: g, VpcId: !Ref Other}}}}
  Acl: {{Type: AWS::EC2::NetworkAcl, Properties: {{VpcId: !Ref Vpc}}}}
  {more}
"
        ))
    };
    let function = |subnets: &str, groups: &str| {
        format!(
            "F: {{Type: AWS::Lambda::Function, Properties: {{Runtime: python3.13, Handler: a.b, Role: 'arn:aws:iam::123456789012:role/x', \
             Code: {{ZipFile: x}}, VpcConfig: {{SubnetIds: [{subnets}], SecurityGroupIds: [{groups}]}}}}}}"
        )
    };
    let association = "Joined: {Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {SubnetId: !Ref Far, RouteTableId: !Ref Table}}";
    let acl = "Joined: {Type: AWS::EC2::SubnetNetworkAclAssociation, Properties: {SubnetId: !Ref Far, NetworkAclId: !Ref Acl}}";
    let endpoint = "Joined: {Type: AWS::EC2::VPCEndpoint, Properties: {VpcId: !Ref Vpc, VpcEndpointType: Interface, \
                    ServiceName: com.amazonaws.us-east-1.ssm, SubnetIds: [!Ref Two], SecurityGroupIds: [!Ref Beyond]}}";
    for (more, said, help) in [
        (association, "Joined joins Table of Vpc and Far of Other", "different networks"),
        (acl, "Joined joins Acl of Vpc and Far of Other", "different networks"),
        (endpoint, "Joined joins Joined of Vpc and Beyond of Other", "different networks"),
        (
            &function("!Ref Two", "!Ref Near, !Ref Beyond"),
            "the VpcConfig of F joins Two of Vpc and Beyond of Other",
            "same VPC",
        ),
        (
            &function("!Ref Two, !Ref Far", "!Ref Near"),
            "the VpcConfig of F joins Two of Vpc and Far of Other",
            "same VPC",
        ),
    ] {
        let found = problems(&text(more));
        assert!(found.iter().any(|line| line.contains(said) && line.contains(help)), "{said}: {found:?}");
    }
    // Of what stands outside the template nobody knows.
    assert_eq!(stack(&text(&function("!Ref Two, subnet-0123", "!Ref Near, sg-0123"))).functions.len(), 1);
}
