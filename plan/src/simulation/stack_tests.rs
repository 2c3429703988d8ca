//! The network of a template: subnets, routes, gateways, endpoints and groups decide over connects.

use super::*;
use model::Era;

/// A function in one private subnet behind a NAT gateway with one address. Each test changes a part of it.
const TEMPLATE: &str = r#"
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  Igw: {Type: AWS::EC2::InternetGateway}
  Attachment: {Type: AWS::EC2::VPCGatewayAttachment, Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Igw}}
  Public: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24}}
  Private: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}}
  Address: {Type: AWS::EC2::EIP, Properties: {Domain: vpc}}
  Second: {Type: AWS::EC2::EIP, Properties: {Domain: vpc}}
  Nat:
    Type: AWS::EC2::NatGateway
    Properties: {AllocationId: !GetAtt Address.AllocationId, SubnetId: !Ref Public}
  PublicTable: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}
  PublicRoute:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Igw}
  PublicRoutes:
    Type: AWS::EC2::SubnetRouteTableAssociation
    Properties: {SubnetId: !Ref Public, RouteTableId: !Ref PublicTable}
  Table: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}
  Route:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat}
  Routes:
    Type: AWS::EC2::SubnetRouteTableAssociation
    Properties: {SubnetId: !Ref Private, RouteTableId: !Ref Table}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: g, VpcId: !Ref Vpc}}
  Role: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Statement: []}}}
  Cart:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Code: {ZipFile: "def handler(event, context): return 1"}
      Role: !GetAtt Role.Arn
      Timeout: 30
      VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}
"#;

/// Nine connects at once to `to`, with room for five NAT ports and seven connections on an interface.
fn plan(template: &str, to: &str) -> Report {
    plan_with(template, to, &["nat.ports=5", "eni.connections=7"])
}

/// The same with other limits.
fn plan_with(template: &str, to: &str, limits: &[&str]) -> Report {
    let outcome = template::read("template.yaml", template, &template::Inputs::default());
    let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
    let text = format!(
        "{{version: 1, phases: [{{target: Cart, users: 9, requests: 9}}], behaviour: {{Cart: {{init: 0s, steps: \
         [{{connect: {{to: '{to}', timeout: 5s}}}}, {{sleep: 20s}}]}}}}}}"
    );
    let mut options = Options::new(Era::named("today").unwrap());
    for limit in limits {
        options.overrides.read(limit).unwrap();
    }
    run(&PlanInput::from_stack(&stack), &Load::read("load.yaml", &text).unwrap(), &options).unwrap()
}

/// What opened, and the limit that refused the rest.
fn fares(template: &str, to: &str) -> (u64, Option<LimitId>) {
    let report = plan(template, to);
    (report.connects[0].opened, report.first_limit.map(|first| first.id))
}

#[test]
fn each_elastic_ip_of_a_gateway_adds_ports() {
    let to = "cache.example.com:443";
    assert_eq!(fares(TEMPLATE, to), (5, Some(LimitId::NatPorts)));
    let more = TEMPLATE.replace(
        "{AllocationId: !GetAtt Address.AllocationId,",
        "{AllocationId: !GetAtt Address.AllocationId, SecondaryAllocationIds: [!GetAtt Second.AllocationId],",
    );
    assert_eq!(fares(&more, to), (7, Some(LimitId::EniConnections)));
    let row = plan(&more, to).limits.into_iter().find(|row| row.id == LimitId::NatPorts).unwrap();
    assert_eq!((&*row.resource, row.max, row.refused), ("Nat", 10, 0));
}

#[test]
fn a_private_subnet_that_leads_to_the_internet_gateway_drops_everything() {
    let mistake = TEMPLATE.replace("NatGatewayId: !Ref Nat", "GatewayId: !Ref Igw");
    let report = plan(&mistake, "cache.example.com:443");
    assert_eq!((report.connects[0].opened, report.summary.errors), (0, 9));
    let chain = &report.summary.errors_by_cause[0].chain;
    assert!(chain[2].starts_with("route.none of Private (its route leads to Igw"), "{chain:?}");
    let without = TEMPLATE.replace("0.0.0.0/0, NatGatewayId", "198.18.0.0/15, NatGatewayId");
    assert_eq!(fares(&without, "cache.example.com:443"), (0, Some(LimitId::NoRoute)));
}

#[test]
fn endpoints_pass_the_nat_gateway_and_still_use_the_interface() {
    let s3 = "carts.s3.us-east-1.amazonaws.com:443";
    let ssm = "ssm.us-east-1.amazonaws.com:443";
    assert_eq!((fares(TEMPLATE, s3).0, fares(TEMPLATE, ssm).0), (5, 5));
    let endpoints = format!(
        "{TEMPLATE}
  S3:
    Type: AWS::EC2::VPCEndpoint
    Properties: {{VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, RouteTableIds: [!Ref Table]}}
  Ssm:
    Type: AWS::EC2::VPCEndpoint
    Properties:
      VpcId: !Ref Vpc
      VpcEndpointType: Interface
      ServiceName: com.amazonaws.us-east-1.ssm
      SubnetIds: [!Ref Private]
      SecurityGroupIds: [!Ref Ends]
      PrivateDnsEnabled: true
  Ends:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: e
      VpcId: !Ref Vpc
      SecurityGroupIngress: [{{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 10.0.1.0/24}}]
"
    );
    for to in [s3, ssm] {
        assert_eq!(fares(&endpoints, to), (7, Some(LimitId::EniConnections)), "{to}");
    }
    assert_eq!(fares(&endpoints, "dynamodb.us-east-1.amazonaws.com:443"), (5, Some(LimitId::NatPorts)));
    let closed = endpoints.replace("CidrIp: 10.0.1.0/24", "CidrIp: 10.0.2.0/24");
    let report = plan(&closed, ssm);
    let chain = &report.summary.errors_by_cause[0].chain;
    assert!(chain[2].starts_with("sg.no-rule of Ends (what may come to Ssm)"), "{chain:?}");
    assert_eq!(fares(TEMPLATE, "10.0.200.7:5432"), (7, Some(LimitId::EniConnections)), "within the VPC");
}

#[test]
fn egress_rules_decide_and_the_default_group_lets_everything_out() {
    let narrow = TEMPLATE.replace(
        "{GroupDescription: g, VpcId: !Ref Vpc}",
        "{GroupDescription: g, VpcId: !Ref Vpc, \
         SecurityGroupEgress: [{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0}]}",
    );
    assert_eq!(fares(&narrow, "cache.example.com:443").0, 5);
    assert_eq!(fares(&narrow, "cache.example.com:6379"), (0, Some(LimitId::NoRule)));
    let default = narrow
        .replace("SecurityGroupIds: [!Ref Group]", "SecurityGroupIds: [!GetAtt Vpc.DefaultSecurityGroup]");
    assert_eq!(fares(&default, "cache.example.com:6379").0, 5);
}

#[test]
fn a_function_without_a_vpc_meets_no_limit_of_the_network() {
    let outside = TEMPLATE
        .replace("      VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}\n", "");
    assert_eq!(fares(&outside, "cache.example.com:443"), (9, None));
}

#[test]
fn what_stands_in_a_vpc_is_out_of_reach_without_one() {
    let outside = TEMPLATE
        .replace("      VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}\n", "");
    let within = "
  Places: {Type: AWS::ElastiCache::SubnetGroup, Properties: {Description: p, SubnetIds: [!Ref Private]}}
  Redis: {Type: AWS::ElastiCache::CacheCluster, Properties: {Engine: redis, CacheNodeType: cache.t4g.micro, NumCacheNodes: 1, CacheSubnetGroupName: !Ref Places, VpcSecurityGroupIds: [!Ref Open]}}
  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Scheme: internal, Subnets: [!Ref Public, !Ref Private], SecurityGroups: [!Ref Open]}}
  Open:
    Type: AWS::EC2::SecurityGroup
    Properties: {GroupDescription: o, VpcId: !Ref Vpc, SecurityGroupIngress: [{IpProtocol: '-1', CidrIp: 10.0.0.0/16}]}
";
    for to in ["Redis:6379", "Balancer:80"] {
        assert_eq!(fares(&format!("{outside}{within}"), to), (0, Some(LimitId::NoRoute)), "{to}");
        assert_eq!(fares(&format!("{TEMPLATE}{within}"), to), (7, Some(LimitId::EniConnections)), "{to}");
    }
}

#[test]
fn a_database_answers_at_once_that_it_is_full() {
    let database = |class: &str, parameters: &str| {
        format!(
            "{TEMPLATE}
  Group15: {{Type: AWS::RDS::DBParameterGroup, Properties: {{Family: postgres15, Description: d, Parameters: {{{parameters}}}}}}}
  Orders:
    Type: AWS::RDS::DBInstance
    Properties:
      DBInstanceClass: {class}
      Engine: postgres
      AllocatedStorage: 20
      MasterUsername: orders
      MasterUserPassword: a-long-password
      DBParameterGroupName: !Ref Group15
"
        )
    };
    let of = |template: &str| {
        let report = plan(template, "Orders:5432");
        let row = report.limits.iter().find(|row| row.id == LimitId::DbMaxConnections).unwrap();
        (report.connects[0].opened, row.max, row.refused, report.summary.slowest_s.0 / 1_000_000_000)
    };
    assert_eq!(of(&database("db.t4g.small", "")), (7, 181, 0, 20), "the interface is narrower here");
    assert_eq!(of(&database("db.t4g.small", "max_connections: '4'")), (4, 4, 5, 20));
    let outside = database("db.t4g.small", "")
        .replace("      VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}\n", "");
    assert_eq!(fares(&outside, "Orders:5432"), (0, Some(LimitId::NoRoute)), "it has no way into the VPC");
}

#[test]
fn what_is_not_in_the_template_is_assumed_and_said() {
    let literal = TEMPLATE.replace(
        "{SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}",
        "{SubnetIds: [subnet-0123456789abcdef0], SecurityGroupIds: [sg-0123456789abcdef0]}",
    );
    let report = plan(&literal, "cache.example.com:443");
    assert_eq!(report.connects[0].opened, 5);
    let said: Vec<&str> = report.assumptions.iter().map(|row| &*row.what).collect();
    for what in ["subnet-0123456789abcdef0", "sg-0123456789abcdef0", "nat-elsewhere"] {
        assert!(said.contains(&what), "{what}: {said:?}");
    }
}

#[test]
fn the_storefront_shows_the_incident() {
    // Seed S0: first the gateway's ports, then the interfaces, which no metric of AWS shows.
    let (template, load) = (
        include_str!("../../../examples/storefront/template.yaml"),
        include_str!("../../../examples/storefront/incident.yaml"),
    );
    let outcome = template::read("template.yaml", template, &template::Inputs::default());
    let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
    let load = Load::read("incident.yaml", load).unwrap();
    let options = Options::new(Era::named("today").unwrap());
    let report = run(&PlanInput::from_stack(&stack), &load, &options).unwrap();
    let line = crate::render(&report, 110, false).lines().next().unwrap().to_owned();
    assert_eq!(
        line,
        "nat.ports of NatGateway to cache.example.com:443 breaks first: 55,000 of 55,000 connections at 43.01 s, with \
         860 environments. It hits CartFunction."
    );
    let broken: Vec<(LimitId, u64)> =
        report.limits.iter().filter(|row| row.refused > 0).map(|row| (row.id, row.peak)).collect();
    assert_eq!(
        broken,
        [
            (LimitId::FunctionTimeout, 30),
            (LimitId::EniConnections, 65_000),
            (LimitId::EniConnections, 65_000),
            (LimitId::NatPorts, 55_000)
        ]
    );
    let at =
        |id| report.limits.iter().filter(|row| row.id == id).filter_map(|row| row.first_refused_at).min();
    assert!(at(LimitId::NatPorts) < at(LimitId::EniConnections));
    assert!(report.summary.errors_by_cause.iter().all(|cause| cause.chain[0] == "function.timeout"));
    assert_eq!(report.summary.throttled, 0, "the account's limit is never reached");
}

#[test]
fn what_a_time_out_cuts_off_of_a_response_is_not_billed() {
    let outcome = template::read(
        "template.yaml",
        &TEMPLATE.replace("Timeout: 30", "Timeout: 4"),
        &template::Inputs::default(),
    );
    let input = PlanInput::from_stack(&outcome.stack.unwrap());
    // With and without a connect, which has the steps run one by one.
    let connect = "{connect: {to: \"192.0.2.1:443\"}}, ";
    for first in ["", connect] {
        let streamed = |steps: &str| {
            let text = format!(
                "version: 1\nphases: [{{target: Cart, users: 1, requests: 512}}]\nbehaviour: {{Cart: {{init: 0s, steps: [{first}{steps}]}}}}"
            );
            let load = Load::read("load.yaml", &text).unwrap();
            let report = run(&input, &load, &Options::new(Era::named("today").unwrap())).unwrap();
            let bill = report.cost.unwrap();
            let line = bill.usage.iter().find(|line| line.item == "lambda.streamed-data");
            (report.summary.timed_out, line.map_or(0.0, |line| line.quantity.as_f64()))
        };
        // Beyond 6 MiB, 2 MiB a second: of 512 responses 1 GiB for each second that they flow.
        assert_eq!(streamed("{stream: 10MiB}"), (0, 2.0));
        assert_eq!(streamed("{stream: 10MiB}, {sleep: 9s}"), (512, 2.0));
        assert_eq!(streamed("{stream: 100MiB}"), (512, 4.0));
        assert_eq!(streamed("{sleep: 1s}, {stream: 100MiB}"), (512, 3.0));
        assert_eq!(streamed("{sleep: 5s}, {stream: 100MiB}"), (512, 0.0));
        assert_eq!(streamed("{stream: 5MiB}"), (0, 0.0));
    }
}

#[test]
fn connections_to_a_reader_endpoint_go_to_each_reader_in_turn() {
    let instance = |id: &str| {
        format!(
            "  {id}: {{Type: AWS::RDS::DBInstance, Properties: {{DBClusterIdentifier: !Ref Cluster, DBInstanceClass: db.r6g.large, Engine: aurora-postgresql}}}}\n"
        )
    };
    let template = format!(
        "{TEMPLATE}  Cluster:
    Type: AWS::RDS::DBCluster
    Properties: {{Engine: aurora-postgresql, DBSubnetGroupName: !Ref Both, VpcSecurityGroupIds: [!Ref Databases]}}
  Both: {{Type: AWS::RDS::DBSubnetGroup, Properties: {{DBSubnetGroupDescription: b, SubnetIds: [!Ref Public, !Ref Private]}}}}
  Databases:
    Type: AWS::EC2::SecurityGroup
    Properties: {{GroupDescription: d, VpcId: !Ref Vpc, SecurityGroupIngress: [{{IpProtocol: tcp, FromPort: 5432, ToPort: 5432, CidrIp: 10.0.0.0/16}}]}}
  Zone: {{Type: AWS::Route53::HostedZone, Properties: {{Name: shop.test, VPCs: [{{VPCId: !Ref Vpc, VPCRegion: us-east-1}}]}}}}
  Alias:
    Type: AWS::Route53::RecordSet
    Properties: {{HostedZoneId: !Ref Zone, Name: reads.shop.test, Type: CNAME, TTL: 60, ResourceRecords: [!GetAtt Cluster.ReadEndpoint.Address]}}
{}",
        ["Writer", "Reader1", "Reader2"].map(instance).concat()
    );
    let stack = template::read("t", &template, &template::Inputs::default()).stack.unwrap();
    let readers = stack.db_instances[1].cluster.clone().unwrap().names[0].clone();
    for to in [format!("{readers}:5432"), "reads.shop.test:5432".to_owned()] {
        let report = plan_with(&template, &to, &["db.max-connections=4"]);
        let rows = report.limits.iter().filter(|row| row.id == LimitId::DbMaxConnections);
        let peaks: Vec<(&str, u64, bool)> =
            rows.map(|row| (&*row.resource, row.peak, row.refused > 0)).collect();
        assert_eq!(peaks, [("Writer", 0, false), ("Reader1", 4, true), ("Reader2", 4, false)], "{to}");
        assert_eq!(report.summary.ok, 8);
    }
}
