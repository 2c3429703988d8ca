use super::*;
use model::{Era, LimitId, Overrides};

const STOREFRONT: &str = include_str!("../../../../../examples/storefront/template.yaml");

pub(super) fn ask<T>(template: &str, question: impl FnOnce(&View<'_>) -> T) -> T {
    let inputs = template::Inputs { stack_name: "shop".into(), ..template::Inputs::default() };
    let outcome = template::read("t", template, &inputs);
    let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
    let era = Era::named("today").unwrap();
    let settings = NetworkSettings::from_era(&era, "us-east-1", &Overrides::default()).unwrap();
    question(&View { stack: &stack, network: Network::from_stack(&stack), settings, now: None })
}

#[track_caller]
fn explain(template: &str, source: &str, to: &str) -> (String, bool) {
    ask(template, |view| match view.answer(source, Some(to), Transport::Tcp, false) {
        Ok(answer) => answer,
        Err(Stop::Usage(message)) => panic!("{message}"),
        Err(other) => panic!("{other:?}"),
    })
}

#[track_caller]
fn mistake(source: &str, to: Option<&str>) -> String {
    ask(STOREFRONT, |view| match view.answer(source, to, Transport::Tcp, false) {
        Err(Stop::Usage(message)) => message,
        other => panic!("{other:?}"),
    })
}

#[test]
fn the_way_to_the_outside_names_every_rule_and_figure() {
    let (text, arrives) = explain(STOREFRONT, "CartFunction", "cache.example.com:443");
    assert!(arrives);
    for part in [
        "CartFunction -> cache.example.com:443 (tcp)\n",
        "PrivateSubnetA",
        "10.20.1.0/24 in us-east-1a",
        "out: tcp 443 to 0.0.0.0/0",
        "0.0.0.0/0 -> NatGateway (PrivateDefaultRoute)",
        "10.20.1.4; 65,000 connections (eni.connections), shared by CartFunction, RecommendFunction",
        "1 address x 55,000 connections to each destination = 55,000 (nat.ports)",
        "0.0.0.0/0 -> InternetGateway (PublicDefaultRoute)",
        "It reaches cache.example.com:443 through NatGateway: at most 55,000 connections",
        "The same from PrivateSubnetB as from PrivateSubnetA.",
    ] {
        assert!(text.contains(part), "{part}\nin\n{text}");
    }
}

#[test]
fn the_famous_mistakes_are_named_with_their_cures() {
    let igw = STOREFRONT.replace("NatGatewayId: !Ref NatGateway", "GatewayId: !Ref InternetGateway");
    let public = STOREFRONT
        .replace("SubnetIds: [!Ref PrivateSubnetA, !Ref PrivateSubnetB]", "SubnetIds: [!Ref PublicSubnet]");
    let no_table = STOREFRONT.replace(
        "SubnetId: !Ref PrivateSubnetA\n      RouteTableId",
        "SubnetId: subnet-9\n      RouteTableId",
    );
    for (template, to, parts) in [
        (
            &igw,
            "cache.example.com:443",
            vec![
                "route.none of PrivateSubnetA (its route leads to InternetGateway",
                "the default route of PrivateRouteTable leads to an internet gateway: a function's interface has no public address",
            ],
        ),
        (
            &public,
            "cache.example.com:443",
            vec![
                "the default route of PublicRouteTable leads to an internet gateway: a function's interface has no public \
                 address; put the function in a subnet whose route leads to a NAT gateway (PrivateSubnetA, PrivateSubnetB)",
            ],
        ),
        (
            &no_table,
            "cache.example.com:443",
            vec!["PrivateSubnetA has no route table of its own", "(PrivateSubnetB)"],
        ),
        (
            &STOREFRONT.to_owned(),
            "redis.example.com:6379",
            vec![
                "x security group",
                "no rule lets tcp 6379 to redis.example.com out; there is tcp 443 to 0.0.0.0/0",
                "Cure: give FunctionSecurityGroup an egress rule for tcp 6379 to redis.example.com.",
                "sg.no-rule of FunctionSecurityGroup. Connects hang",
            ],
        ),
    ] {
        let (text, arrives) = explain(template, "CartFunction", to);
        assert!(!arrives);
        for part in parts {
            assert!(text.contains(part), "{part}\nin\n{text}");
        }
    }
}

const DATABASE: &str = "
  Database:
    Type: AWS::RDS::DBInstance
    Properties:
      DBInstanceClass: db.t4g.micro
      Engine: postgres
      AllocatedStorage: 20
      MasterUsername: u
      MasterUserPassword: a-long-password
      DBSubnetGroupName: !Ref Places
      VPCSecurityGroups: [!Ref DatabaseGroup]
  Places:
    Type: AWS::RDS::DBSubnetGroup
    Properties: {DBSubnetGroupDescription: p, SubnetIds: [!Ref PublicSubnet, !Ref PrivateSubnetB]}
  DatabaseGroup:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: d
      VpcId: !Ref Vpc
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 5432, ToPort: 5432, SourceSecurityGroupId: !Ref FunctionSecurityGroup}]
  Out:
    Type: AWS::EC2::SecurityGroupEgress
    Properties: {GroupId: !Ref FunctionSecurityGroup, IpProtocol: tcp, FromPort: 5432, ToPort: 5432, CidrIp: 10.20.0.0/16}
  Ssm:
    Type: AWS::EC2::VPCEndpoint
    Properties:
      {VpcId: !Ref Vpc, VpcEndpointType: Interface, ServiceName: com.amazonaws.us-east-1.ssm, SubnetIds: [!Ref PrivateSubnetA],
       SecurityGroupIds: [!Ref DatabaseGroup], PrivateDnsEnabled: true}
  S3:
    Type: AWS::EC2::VPCEndpoint
    Properties: {VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, RouteTableIds: [!Ref PrivateRouteTable]}
  Bucket: {Type: AWS::S3::Bucket}
  Acl: {Type: AWS::EC2::NetworkAcl, Properties: {VpcId: !Ref Vpc}}
  AclOf: {Type: AWS::EC2::SubnetNetworkAclAssociation, Properties: {SubnetId: !Ref PublicSubnet, NetworkAclId: !Ref Acl}}
  In:
    Type: AWS::EC2::NetworkAclEntry
    Properties: {NetworkAclId: !Ref Acl, RuleNumber: 100, Protocol: -1, RuleAction: allow, CidrBlock: 0.0.0.0/0}
  Back:
    Type: AWS::EC2::NetworkAclEntry
    Properties:
      {NetworkAclId: !Ref Acl, RuleNumber: 100, Egress: true, Protocol: 6, RuleAction: allow, CidrBlock: 0.0.0.0/0,
       PortRange: {From: 1024, To: 65535}}
  Web:
    Type: AWS::EC2::NetworkAclEntry
    Properties:
      {NetworkAclId: !Ref Acl, RuleNumber: 200, Egress: true, Protocol: 6, RuleAction: allow, CidrBlock: 0.0.0.0/0,
       PortRange: {From: 443, To: 443}}
Outputs:
";

fn with_database() -> String {
    STOREFRONT.replace("\nOutputs:\n", DATABASE)
}

#[test]
fn databases_endpoints_and_acls_are_on_the_way() {
    let template = with_database();
    for (to, parts) in [
        (
            "Database",
            vec![
                "CartFunction -> Database:5432 (tcp)",
                "into PublicSubnet: rule 100: allow all traffic from 0.0.0.0/0",
                "in: tcp 5432 from FunctionSecurityGroup",
                "answers out of PublicSubnet: rule 100: allow tcp 1024-65535 to 0.0.0.0/0",
                "It reaches Database: at most 72 connections (db.max-connections).",
            ],
        ),
        ("S3", vec!["S3: a gateway endpoint", "leads to s3 past the NAT gateways"]),
        (
            "Bucket",
            vec!["the public s3 of AWS", "s3.us-east-1.amazonaws.com:443 through S3: past the NAT gateways"],
        ),
        ("https://cache.example.com/path", vec!["CartFunction -> cache.example.com:443"]),
        ("dynamodb.us-east-1.amazonaws.com:443", vec!["the public dynamodb of AWS", "through NatGateway"]),
    ] {
        let (text, arrives) = explain(&template, "storefront-dev-cart", to);
        assert!(arrives, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part}\nin\n{text}");
        }
    }
    let (text, arrives) = explain(&template, "CartFunction", "ssm.us-east-1.amazonaws.com:443");
    assert!(
        !arrives
            && text
                .contains("Cure: give DatabaseGroup an ingress rule for tcp 443 from FunctionSecurityGroup."),
        "{text}"
    );
    let narrow = template.replace("From: 1024, To: 65535", "From: 32768, To: 60999");
    let (text, arrives) = explain(&narrow, "CartFunction", "Database:5432");
    assert!(
        !arrives && text.contains("nacl.deny of Acl (answers that leave PublicSubnet, rule *)"),
        "{text}"
    );
    assert!(text.contains(
        "network ACLs do not remember connections: give Acl an outbound entry for tcp 1024-65535 to 10.20.1."
    ));
}

#[test]
fn a_cache_is_reached_by_its_id_and_names_as_its_group_says() {
    let cache = "
  Redis:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties:
      ReplicationGroupDescription: r
      CacheSubnetGroupName: !Ref CacheSubnets
      SecurityGroupIds: [!Ref CacheGroup]
  CacheSubnets:
    Type: AWS::ElastiCache::SubnetGroup
    Properties: {Description: c, SubnetIds: [!Ref PrivateSubnetB]}
  CacheGroup:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: c
      VpcId: !Ref Vpc
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 6379, ToPort: 6379, SourceSecurityGroupId: !Ref FunctionSecurityGroup}]
  Out:
    Type: AWS::EC2::SecurityGroupEgress
    Properties: {GroupId: !Ref FunctionSecurityGroup, IpProtocol: tcp, FromPort: 6379, ToPort: 6379, CidrIp: 10.20.0.0/16}
Outputs:
";
    let template = STOREFRONT.replace("\nOutputs:\n", cache);
    let (text, arrives) = explain(&template, "CartFunction", "Redis");
    assert!(arrives && text.starts_with("CartFunction -> Redis:6379 (tcp)\n"), "{text}");
    for part in [
        ".ng.0001.use1.cache.amazonaws.com is 10.20.2.4",
        "in: tcp 6379 from FunctionSecurityGroup",
        "It reaches Redis.",
    ] {
        assert!(text.contains(part), "{part}\nin\n{text}");
    }
    let (about, _) = ask(&template, |view| view.answer("Redis", None, Transport::Tcp, false)).unwrap();
    assert!(
        about.starts_with("Redis: a cache\n") && about.contains("address: 10.20.2.4 in PrivateSubnetB"),
        "{about}"
    );
    let name = about.split("name: ").nth(2).unwrap().lines().next().unwrap();
    let (text, arrives) = explain(&template, "CartFunction", &format!("{name}:6379"));
    assert!(name.contains("-ro.") && arrives && text.contains("10.20.2.4"), "{name} {text}");
    // The usual mistake: the cache's group lets in the wrong one.
    let shut = template.replace(
        "ToPort: 6379, SourceSecurityGroupId: !Ref FunctionSecurityGroup",
        "ToPort: 6379, CidrIp: 10.9.0.0/16",
    );
    let (text, arrives) = explain(&shut, "CartFunction", "Redis");
    assert!(
        !arrives
            && text.contains("sg.no-rule of CacheGroup (what may come to Redis)")
            && text.contains("Cure: give CacheGroup an ingress rule for tcp 6379"),
        "{text}"
    );
}

#[test]
fn every_resource_of_the_storefront_has_an_answer() {
    let document = template::yaml::parse("t", STOREFRONT).unwrap();
    let resources = document.root.get("Resources").unwrap().as_mapping().unwrap();
    let ids: Vec<String> = resources.entries().iter().map(|entry| entry.key.to_string()).collect();
    assert!(ids.len() > 15);
    ask(STOREFRONT, |view| {
        for id in &ids {
            let about = view.answer(id, None, Transport::Tcp, false);
            let (text, _) = about.unwrap_or_else(|problem| panic!("{id}: {problem:?}"));
            assert!(text.starts_with(&format!("{id}: ")) && text.lines().count() > 1, "{text}");
            for as_json in [false, true] {
                let (text, _) = view.answer("CartFunction", Some(id), Transport::Tcp, as_json).unwrap();
                assert!(text.contains(id) || text.contains("amazonaws.com"), "{id}: {text}");
                assert!(!as_json || serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            }
        }
    });
}

/// One of each type that has to do with a network.
const ALL_TYPES: &str = include_str!("all-types.yaml");

#[test]
fn every_resource_of_every_type_has_an_answer_also_what_sam_makes() {
    for template in [STOREFRONT, ALL_TYPES] {
        ask(template, |view| {
            assert!(view.stack.types.len() > 25 && view.stack.types.contains_key("CartFunction"));
            for (id, kind) in &view.stack.types {
                let about = view.answer(id, None, Transport::Tcp, false);
                let (text, _) = about.unwrap_or_else(|problem| panic!("{id} ({kind}): {problem:?}"));
                assert!(text.starts_with(&format!("{id}: ")) && text.lines().count() > 1, "{kind}: {text}");
                let way = view.answer("CartFunction", Some(id), Transport::Tcp, true);
                let (text, _) = way.unwrap_or_else(|problem| panic!("to {id} ({kind}): {problem:?}"));
                assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            }
        });
    }
}

#[test]
fn an_endpoints_policy_is_shown_and_what_it_refuses_is_named() {
    let refuse = |to: &str| {
        let (text, arrives) = explain(ALL_TYPES, "CartFunction", to);
        assert!(
            arrives && text.contains("statement 1 (Orders): Allow s3:GetObject on arn:aws:s3:::orders/*"),
            "{text}"
        );
        text
    };
    let said = "AWS would answer AccessDenied there: the policy of S3Endpoint refuses, no statement allows anything of \
                arn:aws:s3:::shop-pictures";
    assert!(refuse("Pictures").contains(said), "{}", refuse("Pictures"));
    for may_be in ["Orders", "s3.us-east-1.amazonaws.com:443"] {
        assert!(!refuse(may_be).contains("AccessDenied"));
    }
    let (text, _) = explain(ALL_TYPES, "CartFunction", "Parameter");
    assert!(
        text.contains("the policy of SsmEndpoint refuses, statement 2: Deny ssm:* on *")
            && text.contains("10.0."),
        "{text}"
    );
    let (about, _) = ask(ALL_TYPES, |view| view.answer("SsmEndpoint", None, Transport::Tcp, false)).unwrap();
    assert!(about.contains("policy: statement 2: Deny ssm:* on *"), "{about}");
}

#[test]
fn slips_are_told_with_what_was_meant() {
    for (source, to, expected) in [
        ("CartFunctoin", None, "did you mean `CartFunction`?"),
        ("CartFunctoin", Some("x.example:1"), "did you mean `CartFunction`?"),
        ("CartFunction", Some("NatGatewya"), "did you mean `NatGateway`?"),
        ("NatGateway", Some("x.example:1"), "NatGateway is no function"),
        ("CartFunction", Some("x.example"), "which port of x.example?"),
        ("CartFunction", Some("x.example:0"), "`0` is no port"),
        ("CartFunction", Some("x.example:99999"), "`99999` is no port"),
        ("CartFunction", Some(":443"), "names no host"),
        ("CartFunction", Some(""), "empty"),
        ("CartFunction", Some("[::1:443"), "not of the form"),
        ("CartFunction", Some("10.0.0.0/8"), "`10.0.0.0/8` is no name, address"),
        ("CartFunction", Some("10.20.0.300:443"), "`10.20.0.300` is no address"),
        ("CartFunction", Some("1.2.3.4:443:5"), "`1.2.3.4:443` is no address"),
        (
            "CartFunction",
            Some("arn:aws:sqs:us-east-1:123456789012:9"),
            "no destination in the template has the ARN",
        ),
        ("CartFunction", Some("arn:aws:lambda:us-east-1:123456789012:function:x"), "has the ARN"),
        ("CartFunction", Some("cache.example.com :443"), "`cache.example.com ` is no name"),
    ] {
        let message = mistake(source, to);
        assert!(message.contains(expected), "{expected}\nin {message}");
    }
}

#[test]
fn what_stands_behind_a_service_is_meant_by_its_name_and_arn_too() {
    let function = "arn:aws:lambda:us-east-1:123456789012:function:storefront-dev-recommend";
    let alias = format!("{function}:live");
    for to in
        ["RecommendFunction", "storefront-dev-recommend", function, &alias, "lambda.us-east-1.amazonaws.com"]
    {
        let from = "arn:aws:lambda:us-east-1:000000000000:function:storefront-dev-cart:7";
        assert_eq!(explain(STOREFRONT, from, to), explain(STOREFRONT, "CartFunction", to));
        let (text, arrives) = explain(STOREFRONT, "storefront-dev-cart:live", to);
        let first = "CartFunction -> lambda.us-east-1.amazonaws.com:443 (tcp)";
        assert!(arrives && text.starts_with(first), "{to}: {text}");
    }
    for (to, service) in [("/a/b", "ssm"), ("shop-pictures", "s3"), ("arn:aws:s3:::shop-pictures", "s3")] {
        let (text, _) = explain(ALL_TYPES, "CartFunction", to);
        let first = format!("CartFunction -> {service}.us-east-1.amazonaws.com:443 (tcp)");
        assert!(text.starts_with(&first) && text.contains("AccessDenied"), "{to}: {text}");
    }
}

#[test]
fn a_cluster_is_where_its_endpoint_leads() {
    let database = "  Db: {Type: AWS::RDS::DBInstance, Properties: {Engine: postgres, DBInstanceClass: db.t4g.micro, AllocatedStorage: \"20\", MasterUsername: shop, MasterUserPassword: longsecret, DBSubnetGroupName: !Ref Groups, VPCSecurityGroups: [!Ref G]}}\n";
    let cluster = "  Shop: {Type: AWS::RDS::DBCluster, Properties: {Engine: aurora-postgresql, MasterUsername: shop, MasterUserPassword: longsecret, DBSubnetGroupName: !Ref Groups, VpcSecurityGroupIds: [!Ref G]}}\n  \
                   Db: {Type: AWS::RDS::DBInstance, Properties: {Engine: aurora-postgresql, DBClusterIdentifier: !Ref Shop, DBInstanceClass: db.r6g.large}}\n";
    assert!(ALL_TYPES.contains(database));
    let template = ALL_TYPES.replace(database, cluster);
    let (text, arrives) = explain(&template, "CartFunction", "Shop");
    assert!(arrives && text.contains("It reaches Db: at most"), "{text}");
}

#[test]
fn names_are_the_same_in_capitals_and_with_the_roots_dot() {
    let of = |to: &str| explain(ALL_TYPES, "CartFunction", to);
    for (name, other) in [
        ("db.shop.test:5432", "DB.Shop.TEST:5432"),
        ("db.shop.test:5432", "db.shop.test.:5432"),
        ("ssm.us-east-1.amazonaws.com", "SSM.us-east-1.AmazonAWS.com."),
    ] {
        assert_eq!(of(name), of(other));
    }
    assert!(of("DB.Shop.TEST:5432").0.contains("It reaches Db"), "{}", of("DB.Shop.TEST:5432").0);
}

#[test]
fn a_function_without_a_vpc_goes_straight_out_and_never_in() {
    let template = with_database().replace(
        "      FunctionName: !Sub storefront-${Stage}-cart\n",
        "      FunctionName: !Sub storefront-${Stage}-cart\n      VpcConfig: !Ref AWS::NoValue\n",
    );
    let (text, arrives) = explain(&template, "CartFunction", "cache.example.com:443");
    assert!(arrives && text.contains("past every limit of a VPC"), "{text}");
    let (text, arrives) = explain(&template, "CartFunction", "Database");
    assert!(!arrives && text.contains("Cure: give CartFunction a VpcConfig"), "{text}");
    let (text, arrives) = explain(&template, "CartFunction", "10.77.0.9:80");
    assert!(!arrives && text.contains("reaches nobody: 10.77.0.9 is of a range"), "{text}");
}

#[test]
fn ipv6_takes_a_dual_stack_function_and_a_subnet_with_a_range() {
    let to = "[2001:db8::1]:443";
    let named = "      FunctionName: !Sub storefront-${Stage}-cart\n";
    let without = STOREFRONT.replace(named, &format!("{named}      VpcConfig: !Ref AWS::NoValue\n"));
    for template in [STOREFRONT, &*without] {
        let (text, arrives) = explain(template, "CartFunction", to);
        let said = "No packet leaves CartFunction for [2001:db8::1]:443: it has no IPv6 address.\nCure: give the VpcConfig";
        assert!(!arrives && text.contains(said), "{text}");
    }
    let dual =
        STOREFRONT.replace("    VpcConfig:\n", "    VpcConfig:\n      Ipv6AllowedForDualStack: true\n");
    ask(&dual, |view| {
        let (text, _) = view.answer("CartFunction", Some(to), Transport::Udp, true).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["ways"][0]["limit"], &value["arrives"]), (&json!("sg.no-rule"), &json!(false)));
    });
    let open = dual.replace("CidrIp: 0.0.0.0/0", "CidrIpv6: '::/0'").replace(
        "DestinationCidrBlock: 0.0.0.0/0\n      NatGatewayId: !Ref NatGateway",
        "DestinationIpv6CidrBlock: '::/0'\n      EgressOnlyInternetGatewayId: eigw-0123456789abcdef0",
    );
    let (text, arrives) = explain(&open, "CartFunction", to);
    let eni = "eni-PrivateSubnetA-FunctionSecurityGroup";
    let said = format!("It does not reach {to}: route.none of {eni} (it has no address).");
    assert!(!arrives && text.contains(&said) && text.contains(&format!("x interface       {eni}")), "{text}");
    assert!(text.contains("Cure: give PrivateSubnetA an Ipv6CidrBlock."), "{text}");
}

#[test]
fn the_resolver_is_reached_past_rules_and_routes() {
    let none = STOREFRONT.replace("EnableDnsSupport: true", "EnableDnsSupport: false");
    let answer = |template: &str, to: &str, protocol| {
        ask(template, |view| view.answer("CartFunction", Some(to), protocol, false).unwrap())
    };
    for at in ["10.20.0.2:53", "169.254.169.253:53"] {
        for protocol in [Transport::Udp, Transport::Tcp] {
            let (text, arrives) = answer(STOREFRONT, at, protocol);
            let said = format!("CartFunction reaches the resolver at {at}: ");
            assert!(arrives && text.starts_with(&said) && text.contains("(dns.packets)"), "{text}");
        }
        let (text, arrives) = answer(&none, at, Transport::Udp);
        assert!(
            !arrives && text.contains("the VPC has no resolver.\nCure: give it EnableDnsSupport"),
            "{text}"
        );
    }
    for (at, said) in
        [("10.20.0.3:53", "no rule lets"), ("169.254.169.253:80", "No packet leaves CartFunction")]
    {
        let (text, arrives) = answer(STOREFRONT, at, Transport::Tcp);
        assert!(!arrives && text.contains(said), "{text}");
    }
}

#[test]
fn other_protocols_and_addresses_are_explained() {
    ask(STOREFRONT, |view| {
        let (text, arrives) = view.answer("CartFunction", Some("192.0.2.1"), Transport::Icmp, false).unwrap();
        assert!(!arrives && text.contains("no rule lets icmp type 8 code 0 to 192.0.2.1 out"), "{text}");
        let (text, arrives) =
            view.answer("CartFunction", Some("10.20.2.77:443"), Transport::Tcp, false).unwrap();
        assert!(!arrives && text.contains("nobody of the template is there"), "{text}");
        for (address, name) in
            [("10.20.2.4", "eni-PrivateSubnetB-FunctionSecurityGroup"), ("10.20.0.4", "NatGateway")]
        {
            let (text, arrives) =
                view.answer("CartFunction", Some(&format!("{address}:443")), Transport::Tcp, false).unwrap();
            let said = format!("It may go to {address}:443, but {name} takes no connection: connects hang.");
            assert!(!arrives && text.contains(&said) && !text.contains("nobody of"), "{text}");
        }
    });
}

#[test]
fn what_no_packet_reaches_is_said_to_be_out_of_reach() {
    for (to, said) in [
        ("localhost:443", "No packet leaves CartFunction for localhost:443: that is the environment itself"),
        (
            "127.0.0.1:5432",
            "Cure: give what listens on this machine a name: onrush up --attach NAME:5432=127.0.0.1:5432.",
        ),
        ("[::1]:443", "for [::1]:443: that is the environment itself"),
        ("0.0.0.0:443", "that is the environment itself"),
        ("169.254.169.254:80", "nothing is routed there"),
        ("224.0.0.1:443", "nothing is routed there"),
        ("192.168.1.5:443", "It goes out by NatGateway and reaches nobody: 192.168.1.5 is of a range"),
        ("198.18.0.1:443", "reaches nobody"),
    ] {
        let (text, arrives) = explain(STOREFRONT, "CartFunction", to);
        assert!(!arrives && text.contains(said), "{to}: {text}");
        let json = ask(STOREFRONT, |view| {
            view.answer("CartFunction", Some(to), Transport::Tcp, true).ok().unwrap().0
        });
        let found: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&found["arrives"], &found["ways"][0]["arrives"]),
            (&json!(false), &json!(false)),
            "{json}"
        );
    }
    let (text, arrives) = explain(STOREFRONT, "CartFunction", "https://ada:secret@cache.example.com:443/0#x");
    assert!(
        arrives
            && text.starts_with("CartFunction -> cache.example.com:443 (tcp)")
            && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn what_runs_now_is_told_beside_the_figures() {
    let row = |id: &str, resource: &str, used, refused| json!({"id": id, "resource": resource, "max": 550, "used": used, "peak": 550, "refused": refused});
    let board = json!({
        "limits": [
            row("eni.connections", "eni-PrivateSubnetA-FunctionSecurityGroup", 280, 0),
            row("nat.ports", "NatGateway", 550, 5_470),
            json!({"id": "sg.no-rule", "resource": "FunctionSecurityGroup to 203.0.113.9:22", "max": 0, "used": 0, "peak": 0, "refused": 12}),
            json!({"id": "subnet.addresses", "resource": "PrivateSubnetA", "max": 251, "used": 1, "peak": 1, "refused": 0}),
            json!({"id": "lambda.reserved-concurrency", "resource": "storefront-dev-cart", "max": 20, "used": 3, "peak": 9, "refused": 0}),
            json!({"id": "function.timeout", "resource": "storefront-dev-cart", "max": 30, "used": 0, "peak": 0, "refused": 2}),
        ],
        "gateways": [{"name": "NatGateway", "destinations": [
            {"destination": "198.19.192.1:80", "name": "cache.example.com:80", "max": 550, "used": 3, "peak": 3, "refused": 0},
            {"destination": "198.19.192.1:443", "name": "cache.example.com:443", "max": 550, "used": 550, "peak": 550, "refused": 5_470},
            {"destination": "203.0.113.9:443", "name": null, "max": 550, "used": 7, "peak": 9, "refused": 0},
        ]}],
    });
    let inputs = template::Inputs { stack_name: "shop".into(), ..template::Inputs::default() };
    let stack = template::read("t", STOREFRONT, &inputs).stack.unwrap();
    let era = Era::named("today").unwrap();
    let mut given = Overrides::default();
    given.set(LimitId::NatPorts, 550);
    let settings = NetworkSettings::from_era(&era, "us-east-1", &given).unwrap();
    let network = Network::from_stack(&stack);
    let view = View { stack: &stack, network, settings, now: Some(now::board(board)) };
    let tell = |to: &str, json| view.answer("CartFunction", Some(to), Transport::Tcp, json).ok().unwrap().0;
    let text = tell("cache.example.com:443", false);
    assert!(text.contains("now 280 of 550 in use, at most 550\n"), "{text}");
    assert!(text.contains("now 550 of 550 in use, at most 550, 5,470 refused\n"), "{text}");
    // What has no room left now is where nobody gets through.
    let cause = "It does not reach cache.example.com:443 now: all 550 connections of NatGateway to it are in use (nat.ports).\n\
                 Cure: more addresses for NatGateway, or fewer connections.";
    assert!(text.contains(cause), "{text}");
    let free = view.answer("CartFunction", Some("203.0.113.9:443"), Transport::Tcp, false).ok().unwrap();
    assert!(free.1 && free.0.contains("It reaches 203.0.113.9:443 through NatGateway"), "{}", free.0);
    assert!(tell("203.0.113.9:443", false).contains("now 7 of 550 in use, at most 9\n"));
    assert!(
        tell("203.0.113.8:443", false).contains("now 0 of 550 in use, at most 0\n"),
        "nobody was there yet"
    );
    let found: Value = serde_json::from_str(&tell("cache.example.com:443", true)).unwrap();
    let steps = found["ways"][0]["steps"].as_array().unwrap();
    let nat = steps.iter().find(|step| step["what"] == "NAT gateway").unwrap();
    assert_eq!(nat["now"], json!({"used": 550, "max": 550, "peak": 550, "refused": 5_470}));
    let says = |key: &str| &found["ways"][0][key];
    assert_eq!(
        (says("arrives"), says("limit"), says("resource"), &found["arrives"]),
        (&json!(false), &json!("nat.ports"), &json!("NatGateway"), &json!(false))
    );
    let url = view.answer("CartFunctionUrl", None, Transport::Tcp, false).ok().unwrap().0;
    assert!(
        url.starts_with(
            "CartFunctionUrl: a function URL\n  a door to CartFunction: clients reach it at http://"
        ),
        "{url}"
    );
    // A resource alone tells of its own limits.
    let about = |id: &str| view.answer(id, None, Transport::Tcp, false).ok().unwrap().0;
    let ends = |id: &str, lines: &[&str]| {
        let told = about(id);
        let found: Vec<&str> = told
            .lines()
            .map(str::trim_start)
            .filter(|line| line.contains(": now ") || line.ends_with("refused"))
            .collect();
        assert_eq!(found, lines, "{told}");
    };
    let interface = "eni-PrivateSubnetA-FunctionSecurityGroup";
    ends(
        "NatGateway",
        &[
            "nat.ports to 198.19.192.1:80 (cache.example.com:80): now 3 of 550 in use, at most 3",
            "nat.ports to 198.19.192.1:443 (cache.example.com:443): now 550 of 550 in use, at most 550, 5,470 refused",
            "nat.ports to 203.0.113.9:443: now 7 of 550 in use, at most 9",
        ],
    );
    ends("FunctionSecurityGroup", &["sg.no-rule to 203.0.113.9:22: 12 refused"]);
    ends("PrivateSubnetA", &["subnet.addresses: now 1 of 251 in use, at most 1"]);
    ends("PrivateSubnetB", &[]);
    ends(
        "CartFunction",
        &[
            "lambda.reserved-concurrency: now 3 of 20 in use, at most 9",
            "eni.connections of eni-PrivateSubnetA-FunctionSecurityGroup: now 280 of 550 in use, at most 550",
        ],
    );
    ends(interface, &["eni.connections: now 280 of 550 in use, at most 550"]);
    assert!(
        about(interface).contains("10.20.1.4 in PrivateSubnetA, with FunctionSecurityGroup\n"),
        "{}",
        about(interface)
    );
    let found: Value =
        serde_json::from_str(&view.answer("PrivateSubnetA", None, Transport::Tcp, true).ok().unwrap().0)
            .unwrap();
    assert_eq!(
        found["now"],
        json!([{"limit": "subnet.addresses", "used": 1, "max": 251, "peak": 1, "refused": 0}])
    );
}

#[test]
fn the_figures_that_the_platform_was_given_decide_unless_the_question_has_its_own() {
    let board = |subnet: &str| {
        let row = json!({"id": "subnet.addresses", "resource": subnet, "max": 251, "used": 1, "peak": 1, "refused": 0});
        now::board(
            json!({"limits": [row], "given": {"nat.ports": 550, "eni.connections": 650, "later.than-this": 1}}),
        )
    };
    ask(STOREFRONT, |view| {
        let given: Vec<_> = board("PrivateSubnetB").given(&view.network).iter().collect();
        assert_eq!(given, [(LimitId::EniConnections, 650), (LimitId::NatPorts, 550)]);
        let other = board("SubnetOfAnother").given(&view.network);
        assert_eq!(other.iter().count(), 0, "what runs there is another template");
    });
}
