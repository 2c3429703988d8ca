//! Bills against figures computed by hand.

use super::*;
use crate::cost::inventory::Shape;
use crate::cost::usage::{FunctionUse, PhaseUse};
use crate::input::DoorKind;
use limits::billing::Usage;

fn usd(text: &str) -> Usd {
    Usd::read(text).unwrap()
}

fn inventory(resources: &str) -> Inventory {
    let text = format!("Resources:\n{resources}");
    let outcome = template::read("template.yaml", &text, &template::Inputs::default());
    Inventory::of(&outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems)))
}

fn fixed(resources: &str, region: &str) -> Vec<(String, String, Usd)> {
    let bill = Bill::new(&inventory(resources), &Consumption::default(), region, 1);
    assert_eq!(bill.monthly_usd, bill.fixed.iter().map(|line| line.usd).sum());
    bill.fixed.into_iter().map(|line| (line.item, line.resource, line.usd)).collect()
}

const VPC: &str = "  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  A: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24, AvailabilityZone: us-east-1a}}
  B: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24, AvailabilityZone: us-east-1b}}
";

#[test]
fn a_gateway_with_its_addresses_and_an_endpoint() {
    let found = fixed(
        &format!(
            "{VPC}  Ip: {{Type: AWS::EC2::EIP}}
  Spare: {{Type: AWS::EC2::EIP}}
  Nat: {{Type: AWS::EC2::NatGateway, Properties: {{SubnetId: !Ref A, AllocationId: !GetAtt Ip.AllocationId}}}}
  Regional: {{Type: AWS::EC2::NatGateway, Properties: {{AvailabilityMode: regional, VpcId: !Ref Vpc}}}}
  Ssm:
    Type: AWS::EC2::VPCEndpoint
    Properties: {{VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.ssm, VpcEndpointType: Interface, SubnetIds: [!Ref A, !Ref B]}}
  S3:
    Type: AWS::EC2::VPCEndpoint
    Properties: {{VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, VpcEndpointType: Gateway}}
"
        ),
        "us-east-1",
    );
    let line = |item: &str, resource: &str, amount: &str| (item.to_owned(), resource.to_owned(), usd(amount));
    assert_eq!(
        found,
        [
            line("nat.hours", "Nat", "32.85"),
            line("nat.hours", "Regional", "65.70"),
            line("ipv4.hours", "Regional", "7.30"),
            line("ipv4.hours", "Ip", "3.65"),
            line("ipv4.hours", "Spare", "3.65"),
            line("endpoint.hours", "Ssm", "14.60"),
        ]
    );
}

#[test]
fn a_database_in_two_zones_and_its_proxy() {
    let resources = |class: &str| {
        format!(
            "  Db: {{Type: AWS::RDS::DBInstance, Properties: {{DBInstanceClass: {class}, Engine: postgres, MultiAZ: true, AllocatedStorage: '30', MasterUsername: a, MasterUserPassword: b0123456}}}}
  Secret: {{Type: AWS::SecretsManager::Secret, Properties: {{SecretString: x}}}}
  Proxy:
    Type: AWS::RDS::DBProxy
    Properties: {{DBProxyName: p, EngineFamily: POSTGRESQL, RoleArn: 'arn:aws:iam::000000000000:role/r', VpcSubnetIds: [subnet-1, subnet-2], Auth: [{{AuthScheme: SECRETS, SecretArn: !Ref Secret}}]}}
  Targets:
    Type: AWS::RDS::DBProxyTargetGroup
    Properties: {{DBProxyName: !Ref Proxy, TargetGroupName: default, DBInstanceIdentifiers: [!Ref Db]}}
"
        )
    };
    let found = fixed(&resources("db.t4g.xlarge"), "us-east-1");
    let amounts: Vec<(&str, Usd)> = found.iter().map(|(item, _, usd)| (item.as_str(), *usd)).collect();
    assert_eq!(
        amounts,
        [
            ("db.hours", usd("376.68")),
            ("db.storage", usd("6.90")),
            ("proxy.vcpu-hours", usd("43.80")),
            ("secrets.months", usd("0.40")),
        ]
    );
    let bill = Bill::new(&inventory(&resources("db.x9.huge")), &Consumption::default(), "eu-west-1", 1);
    let said: Vec<&str> = bill.notes.iter().map(|note| &*note.what).collect();
    assert!(said.contains(&"Db in the bill") && said.contains(&"prices in eu-west-1"), "{said:?}");
    assert_eq!(bill.fixed[1].usd, usd("21.90"), "a proxy is billed for two processors at least");
}

#[test]
fn what_of_a_cluster_is_left_out_is_said() {
    let resources = "  Cluster: {Type: AWS::RDS::DBCluster, Properties: {Engine: aurora-postgresql, MasterUsername: a, MasterUserPassword: b0123456, ServerlessV2ScalingConfiguration: {MinCapacity: 0.5, MaxCapacity: 4}}}
  One: {Type: AWS::RDS::DBInstance, Properties: {DBClusterIdentifier: !Ref Cluster, DBInstanceClass: db.serverless, Engine: aurora-postgresql}}
  Two: {Type: AWS::RDS::DBInstance, Properties: {DBClusterIdentifier: !Ref Cluster, DBInstanceClass: db.serverless, Engine: aurora-postgresql}}
";
    let bill = Bill::new(&inventory(resources), &Consumption::default(), "us-east-1", 1);
    let said: Vec<(&str, &str)> = bill.notes.iter().map(|note| (&*note.what, &*note.value)).collect();
    let least = "at its MinCapacity, 0.5 ACUs all month";
    let expected = [
        ("Cluster in the bill", "without storage, its I/O and backups"),
        ("One in the bill", least),
        ("Two in the bill", least),
    ];
    assert!(expected.iter().all(|row| said.contains(row)), "{said:?}");
    assert!(bill.notes.iter().any(|note| note.why.contains("ACUs")), "{:?}", bill.notes);
    // 0.5 ACUs for 730 hours at 0.12 USD, each.
    let lines: Vec<(&str, &str, Usd)> =
        bill.fixed.iter().map(|line| (&*line.item, &*line.resource, line.usd)).collect();
    assert_eq!(lines, [("db.acu-hours", "One", usd("43.80")), ("db.acu-hours", "Two", usd("43.80"))]);

    let proxied = format!(
        "{resources}  Secret: {{Type: AWS::SecretsManager::Secret, Properties: {{SecretString: x}}}}
  Proxy:
    Type: AWS::RDS::DBProxy
    Properties: {{DBProxyName: p, EngineFamily: POSTGRESQL, RoleArn: 'arn:aws:iam::000000000000:role/r', VpcSubnetIds: [subnet-1, subnet-2], Auth: [{{AuthScheme: SECRETS, SecretArn: !Ref Secret}}]}}
  Targets:
    Type: AWS::RDS::DBProxyTargetGroup
    Properties: {{DBProxyName: !Ref Proxy, TargetGroupName: default, DBClusterIdentifiers: [!Ref Cluster]}}
"
    );
    let found = fixed(&proxied, "us-east-1");
    let proxy = found.iter().find(|(item, ..)| item == "proxy.acu-hours").map(|(.., usd)| *usd);
    assert_eq!(proxy, Some(usd("87.60")), "a proxy is billed for eight capacity units at least: {found:?}");
    assert!(found.iter().all(|(item, ..)| item != "proxy.vcpu-hours"), "{found:?}");
    let asleep = inventory(&resources.replace("MinCapacity: 0.5", "MinCapacity: 0"));
    assert_eq!(Bill::new(&asleep, &Consumption::default(), "us-east-1", 1).fixed, []);
}

fn function(requests: u64, billed_ms: u64, memory_mb: u32, arm: bool) -> FunctionUse {
    let usage = Usage { requests, billed_ms };
    FunctionUse { usage, memory_mb, arm, ..FunctionUse::default() }
}

#[test]
fn what_a_load_uses_is_multiplied_by_how_often_it_runs() {
    let consumption = Consumption {
        functions: vec![function(300_000, 300_000_000, 512, false)],
        phases: vec![
            PhaseUse { door: Some(DoorKind::HttpApi), requests: 100_000, bytes_in: 1, bytes_out: 600 << 10 },
            PhaseUse { door: Some(DoorKind::RestApi), requests: 50_000, bytes_in: 0, bytes_out: 0 },
            PhaseUse { door: None, requests: 7, bytes_in: 0, bytes_out: 0 },
        ],
        data: vec![(Through::Nat, 20 << 30), (Through::Endpoint, 0)],
    };
    let bill = Bill::new(&Inventory::default(), &consumption, "us-east-1", 10);
    let found: Vec<(&str, String, String)> = bill
        .usage
        .iter()
        .map(|line| (&*line.item, line.quantity.as_f64().to_string(), line.usd.rounded(2)))
        .collect();
    let line = |item, quantity: &str, usd: &str| (item, quantity.to_owned(), usd.to_owned());
    assert_eq!(
        found,
        [
            line("lambda.requests", "3000000", "0.40"),
            line("lambda.duration", "1500000", "18.33"),
            line("apigw.rest-requests", "500000", "1.75"),
            line("apigw.http-requests", "2000000", "2.00"),
            line("nat.data", "200", "9.00"),
            // 572.2 GB, 100 of them free.
            line("egress.data", "572.2045898437500", "42.50"),
        ]
        .map(|(item, quantity, usd)| (item, quantity.parse::<f64>().unwrap().to_string(), usd))
    );
    assert_eq!(bill.usage[0].free, Quantity::whole(1_000_000));
    assert_eq!(bill.usage_usd, bill.monthly_usd);
}

#[test]
fn what_is_streamed_beyond_the_first_6_mb_of_a_response_costs_beyond_100_gb() {
    let streaming = |requests, streamed| FunctionUse { streamed, ..function(requests, 0, 128, false) };
    let functions = vec![streaming(4_096, 4_096 * (50 << 20)), streaming(1_000_000, 0)];
    let consumption = Consumption { functions, ..Consumption::default() };
    let bill = Bill::new(&Inventory::default(), &consumption, "us-east-1", 1);
    let line = bill.usage.iter().find(|line| line.item == "lambda.streamed-data").unwrap();
    // 4,096 times 50 MB are 200 GB, of which 100 are free.
    assert_eq!((line.quantity.as_f64(), line.free.as_f64(), line.usd), (200.0, 100.0, usd("0.80")));
    assert!(bill.notes.iter().any(|note| note.what == "price of lambda.streamed-data"));
}

#[test]
fn both_architectures_share_one_free_tier() {
    let bill = |x86: u64, arm: u64| {
        let functions = vec![function(0, x86 * 1000, 1024, false), function(0, arm * 1000, 1024, true)];
        Bill::new(&Inventory::default(), &Consumption { functions, ..Consumption::default() }, "us-east-1", 1)
    };
    assert_eq!(bill(300_000, 100_000).monthly_usd, Usd::ZERO);
    assert_eq!(bill(300_000, 1_100_000).monthly_usd, usd("13.3334"));
    assert_eq!(bill(400_000, 1_000_000).monthly_usd, usd("13.3334"));
}

#[test]
fn provisioned_concurrency_stands_there_and_its_time_is_cheaper() {
    let found = fixed(
        "  Cart:
    Type: AWS::Lambda::Function
    Properties: {Runtime: python3.13, Handler: a.b, MemorySize: 1024, Role: 'arn:aws:iam::000000000000:role/r', Code: {ZipFile: 'x'}}
  One: {Type: AWS::Lambda::Version, Properties: {FunctionName: !Ref Cart, ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 10}}}
",
        "us-east-1",
    );
    // 10 GB x 730 h x 3,600 s x 0.0000041667.
    assert_eq!(found, [("lambda.provisioned".to_owned(), "Cart".to_owned(), usd("109.500876"))]);
    let mut one = function(10, 1_000_000, 1024, false);
    one.provisioned = Usage { requests: 10, billed_ms: 1_000_000 };
    let consumption = Consumption { functions: vec![one], ..Consumption::default() };
    let bill = Bill::new(
        &Inventory { functions: vec![Shape::default()], ..Inventory::default() },
        &consumption,
        "us-east-1",
        1,
    );
    assert_eq!((&*bill.usage[1].item, bill.usage[1].usd), ("lambda.provisioned-duration", usd("0.009722")));
}
