//! Each knob where it is what survives: its printed diff, applied to the texts, makes a case that survives, and a little less
//! of it does not.

use super::tests::{case_of, fixes, plan, said};
use super::*;

/// A function in a VPC, behind a NAT gateway.
const NETWORK: &str = "Transform: AWS::Serverless-2016-10-31
Resources:
  Vpc:
    Type: AWS::EC2::VPC
    Properties: {CidrBlock: 10.0.0.0/16}
  Igw: {Type: AWS::EC2::InternetGateway}
  Attachment: {Type: AWS::EC2::VPCGatewayAttachment, Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Igw}}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: app
      VpcId: !Ref Vpc
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 5432, ToPort: 5432, CidrIp: 10.0.0.0/16}]
  Public: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24}}
  PublicTable: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}
  PublicRoute: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Igw}}
  PublicRoutes: {Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {SubnetId: !Ref Public, RouteTableId: !Ref PublicTable}}
  Private:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}
  Table: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}
  Route: {Type: AWS::EC2::Route, Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat}}
  PrivateRoutes: {Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {SubnetId: !Ref Private, RouteTableId: !Ref Table}}
  NatAddress: {Type: AWS::EC2::EIP}
  Nat:
    Type: AWS::EC2::NatGateway
    Properties:
      SubnetId: !Ref Public
      AllocationId: !GetAtt NatAddress.AllocationId
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: cart/
      Timeout: 30
      VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}
";

/// A database, and a proxy that borrows a tenth of its connections.
const DATABASE: &str = "  Database:
    Type: AWS::RDS::DBInstance
    Properties: {Engine: postgres, DBInstanceClass: db.t4g.micro, VPCSecurityGroups: [!Ref Group]}
";
const PROXY: &str = "  Proxy:
    Type: AWS::RDS::DBProxy
    Properties:
      DBProxyName: app
      EngineFamily: POSTGRESQL
      RoleArn: arn:aws:iam::000000000000:role/proxy
      Auth: [{AuthScheme: SECRETS, SecretArn: \"arn:aws:secretsmanager:us-east-1:000000000000:secret:app\"}]
      VpcSubnetIds: [!Ref Private, !Ref Public]
      VpcSecurityGroupIds: [!Ref Group]
  Targets:
    Type: AWS::RDS::DBProxyTargetGroup
    Properties:
      DBProxyName: !Ref Proxy
      TargetGroupName: default
      DBInstanceIdentifiers: [!Ref Database]
      ConnectionPoolConfigurationInfo: {MaxConnectionsPercent: 10, ConnectionBorrowTimeout: 1}
";

/// A function of its own, with these properties.
fn small(properties: &str) -> String {
    format!(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  Cart:\n    Type: AWS::Serverless::Function\n    \
         Properties: {{Runtime: python3.13, Handler: app.handler, CodeUri: cart/, Timeout: 30{properties}}}\n"
    )
}

fn load(phase: &str, steps: &str) -> String {
    format!(
        "version: 1\nphases: [{{target: Cart, {phase}}}]\nbehaviour:\n  Cart:\n    init: 5ms\n    steps:\n      - {steps}\n"
    )
}

/// A case, and the same after a printed diff was applied to its texts.
struct Tried {
    template: String,
    load: String,
    limits: Vec<String>,
}

impl Tried {
    /// Searches the changes of a case, and applies that which says `wanted`.
    fn apply(template: &str, load: &str, limits: &[&str], wanted: &str) -> Self {
        let case = case_of(template, load, limits);
        assert!(!survives(&plan(&case)), "nothing is to be fixed");
        let found = fixes(&case);
        let fix = found.iter().find(|fix| fix.change == wanted);
        let fix = fix.unwrap_or_else(|| panic!("{:?}", said(&found)));
        let mut limits: Vec<String> = limits.iter().map(|limit| (*limit).to_owned()).collect();
        for line in fix.diff.lines().filter(|line| line.starts_with("# asked of AWS")) {
            let given = line.rsplit("--limit ").next().unwrap().to_owned();
            let id = given.split('=').next().unwrap();
            limits.retain(|limit| limit.split('=').next() != Some(id));
            limits.push(given);
        }
        let part = |name: &str, text: &str| match fix.diff.split_once(&format!("--- {name}\n+++ {name}\n")) {
            None => text.to_owned(),
            Some((_, rest)) => {
                let hunks = rest.split_once("--- load.yaml\n").map_or(rest, |(hunks, _)| hunks);
                diff::apply(text, hunks)
            }
        };
        let tried = Self { template: part("template.yaml", template), load: part("load.yaml", load), limits };
        assert!(tried.survives(), "{wanted}:\n{}", fix.diff);
        tried
    }

    fn survives(&self) -> bool {
        let limits: Vec<&str> = self.limits.iter().map(String::as_str).collect();
        survives(&plan(&case_of(&self.template, &self.load, &limits)))
    }

    /// The changed text has `done`, and with `less` in its place the case does not survive.
    fn needs(mut self, done: &str, less: &str) {
        assert!(self.template.contains(done) || self.load.contains(done), "{}\n{}", self.template, self.load);
        self.template = self.template.replace(done, less);
        self.load = self.load.replace(done, less);
        assert!(!self.survives(), "{less} survives, too");
    }
}

const TWENTY: &str = "users: 20, requests: 20";

#[test]
fn an_interface_endpoint_takes_a_service_off_the_gateway() {
    let load = load(TWENTY, "connect: {to: \"ssm.us-east-1.amazonaws.com:443\"}\n      - sleep: 1s");
    let wanted =
        "an interface endpoint for com.amazonaws.us-east-1.ssm, and a security group that lets the VPC in";
    let tried = Tried::apply(NETWORK, &load, &["nat.ports=15"], wanted);
    assert!(tried.template.contains("EnableDnsHostnames: true"), "private DNS needs it: {}", tried.template);
    tried.needs("ServiceName: com.amazonaws.us-east-1.ssm", "ServiceName: com.amazonaws.us-east-1.sns");
    let load =
        self::load(TWENTY, "call: {to: ssm, for: 1s}").replace("  Cart:\n    init", "  cart:\n    init");
    let named = NETWORK.replace("CodeUri: cart/", "CodeUri: cart/\n      FunctionName: cart");
    Tried::apply(&named, &load, &["nat.ports=15"], wanted);
}

#[test]
fn two_endpoints_of_a_vpc_are_proposed_together() {
    let to = |service: &str| format!("connect: {{to: \"{service}.us-east-1.amazonaws.com:443\"}}");
    let load = load(TWENTY, &format!("{}\n      - {}\n      - sleep: 1s", to("ssm"), to("sns")));
    let one = |service: &str| {
        format!(
            "an interface endpoint for com.amazonaws.us-east-1.{service}, and a security group that lets the VPC in"
        )
    };
    let wanted = format!("{}; {}", one("ssm"), one("sns"));
    let off = NETWORK.replace("10.0.0.0/16}\n  Igw", "10.0.0.0/16, EnableDnsHostnames: false}\n  Igw");
    for template in [NETWORK, &off] {
        let tried = Tried::apply(template, &load, &["nat.ports=15"], &wanted);
        assert_eq!(tried.template.matches("EnableDnsHostnames: true").count(), 1, "{}", tried.template);
    }
}

#[test]
fn a_gateway_endpoint_takes_s3_off_the_gateway() {
    let load = load(TWENTY, "connect: {to: \"s3.us-east-1.amazonaws.com:443\"}\n      - sleep: 1s");
    let tried =
        Tried::apply(NETWORK, &load, &["nat.ports=15"], "a gateway endpoint for com.amazonaws.us-east-1.s3");
    tried.needs("RouteTableIds: [!Ref Table]", "RouteTableIds: [!Ref PublicTable]");
}

const WORLD: &str = "connect: {to: \"cache.example.com:443\", timeout: 3s}\n      - sleep: 1s";

#[test]
fn addresses_regional_gateways_and_no_vpc_at_all() {
    let load = load(TWENTY, WORLD);
    let limits = &["nat.ports=7"];
    let tried = Tried::apply(
        NETWORK,
        &load,
        limits,
        "2 more addresses, 3 in all, for Nat (more than 2: ask AWS to raise nat.addresses)",
    );
    tried.needs(", !GetAtt NatAddress3.AllocationId]", "]");
    Tried::apply(NETWORK, &load, limits, "Nat as a regional NAT gateway");
    let tried = Tried::apply(NETWORK, &load, limits, "Cart outside the VPC");
    tried.needs(
        "VpcConfig: !Ref AWS::NoValue",
        "VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}",
    );
}

#[test]
fn subnets_as_many_as_the_connections_need() {
    let tried =
        Tried::apply(NETWORK, &load(TWENTY, WORLD), &["eni.connections=7"], "2 more subnets for Cart");
    tried.needs(", !Ref Private3]", "]");
}

#[test]
fn connections_that_are_kept_or_fewer_of_them() {
    // A port rests for a minute after its connection: whoever opens a new one each second needs many.
    let limits = &["nat.ports=60", "nat.port-cooldown=60"];
    let steady = load(
        "users: 5, requests: 200",
        "connect: {to: \"cache.example.com:443\", count: 4, timeout: 3s}\n      - sleep: 1s",
    );
    let tried = Tried::apply(
        NETWORK,
        &steady,
        limits,
        "Cart keeps its connections to cache.example.com:443 and uses them again",
    );
    tried.needs("hold: environment", "hold: invocation");
    let pool =
        load(TWENTY, "connect: {to: \"cache.example.com:443\", count: 8, timeout: 3s}\n      - sleep: 1s");
    let tried = Tried::apply(
        NETWORK,
        &pool,
        &["nat.ports=60"],
        "Cart opens 3 connections to cache.example.com:443, not 8",
    );
    tried.needs("count: 3", "count: 4");
}

#[test]
fn a_larger_class_of_the_database() {
    let template = format!("{NETWORK}{DATABASE}");
    let load = load("users: 100, requests: 100", "query: {database: Database, for: 1s}");
    let tried = Tried::apply(&template, &load, &[], "Database as db.t4g.small, not db.t4g.micro");
    tried.needs("db.t4g.small", "db.t4g.micro");
}

#[test]
fn a_proxy_that_may_borrow_more_or_of_a_larger_database() {
    let template = format!("{NETWORK}{DATABASE}{PROXY}");
    let load = load(TWENTY, "query: {database: Proxy, for: 2s}");
    // 20 of 72 connections are 28 %, rounded down to 20.
    let tried =
        Tried::apply(&template, &load, &[], "28 % of the database's connections for Targets, not 10 %");
    tried.needs("MaxConnectionsPercent: 28", "MaxConnectionsPercent: 27");
    let tried = Tried::apply(&template, &load, &[], "Database as db.t4g.medium, not db.t4g.micro");
    tried.needs("db.t4g.medium", "db.t4g.small");
}

#[test]
fn reserved_concurrency_as_much_as_runs_at_once() {
    let template = small(", ReservedConcurrentExecutions: 5");
    let tried =
        Tried::apply(&template, &load(TWENTY, "sleep: 1s"), &[], "20 executions reserved for Cart, not 5");
    tried.needs("ReservedConcurrentExecutions: 20", "ReservedConcurrentExecutions: 19");
}

#[test]
fn provisioned_concurrency_beyond_what_the_scaling_rate_gives() {
    let load = load(TWENTY, "sleep: 1s");
    let wanted = "10 environments of Cart kept ready";
    let limits = &["lambda.scaling-rate=10"];
    // Who invokes the function by its bare name runs on demand: the load then calls the alias.
    let tried = Tried::apply(&small(""), &load, limits, wanted);
    assert!(tried.load.contains("target: Cart:live,"), "{}", tried.load);
    tried.needs("ProvisionedConcurrentExecutions: 10", "ProvisionedConcurrentExecutions: 9");
    // Through an API, SAM binds the events to the alias.
    let api = small(", Events: {All: {Type: HttpApi, Properties: {ApiId: !Ref Api, Path: /, Method: GET}}}")
        + "  Api: {Type: AWS::Serverless::HttpApi}\n";
    let tried = Tried::apply(&api, &load.replace("target: Cart", "target: Api"), limits, wanted);
    assert!(tried.template.contains("AutoPublishAlias: live"), "{}", tried.template);
    tried.needs("ProvisionedConcurrentExecutions: 10", "ProvisionedConcurrentExecutions: 9");
}

#[test]
fn memory_and_a_quicker_handler_as_little_as_suffices() {
    // 20 a second for 800 ms are 16 at once.
    let load = load("rate: 20/s, for: 5s", "compute: 800ms");
    let template = small(", MemorySize: 128");
    let limits = &["lambda.account-concurrency=9"];
    let tried = Tried::apply(
        &template,
        &load,
        limits,
        "Cart with 256 MB, not 128 MB: its compute steps shrink alike",
    );
    assert!(tried.load.contains("compute: 400ms"), "{}", tried.load);
    assert!(!Tried { load: load.clone(), ..tried }.survives(), "a quicker processor is what helps");
    let case = case_of(&template, &load, limits);
    let found = fixes(&case);
    let quicker = found.iter().find(|fix| fix.change.contains("less time in its handler")).unwrap();
    let percent: f64 = quicker.change.split(' ').nth(2).unwrap().parse().unwrap();
    // Nine at once at 20 a second are 450 ms less one thousandth of 800 ms, at the latest.
    assert!((43.7..44.9).contains(&percent), "{}", quicker.change);
    let weaker =
        load.replace("compute: 800ms", &format!("compute: {}ms", 800.0 * (1.0 - (percent - 0.1) / 100.0)));
    assert!(!survives(&plan(&case_of(&template, &weaker, limits))), "{weaker}");
}

#[test]
fn a_time_out_and_a_quota() {
    let template = small("").replace("Timeout: 30", "Timeout: 3");
    let slow = load("users: 2, requests: 4", "sleep: 4500ms");
    Tried::apply(&template, &slow, &[], "Cart may take 5 s, not 3 s").needs("Timeout: 5", "Timeout: 4");
    let load = load(TWENTY, "sleep: 1s");
    let tried = Tried::apply(
        &small(""),
        &load,
        &["lambda.account-concurrency=10"],
        "AWS raises lambda.account-concurrency from 10 to 20",
    );
    assert_eq!(tried.limits, ["lambda.account-concurrency=20"]);
}

/// An API whose route asks one function and then runs another; `auth` is the authorizer's own.
fn guarded(auth: &str) -> String {
    format!(
        "Transform: AWS::Serverless-2016-10-31
Resources:
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: Prod
      Auth:
        DefaultAuthorizer: Token
        Authorizers: {{Token: {{FunctionArn: !GetAtt Guard.Arn{auth}}}}}
  Guard:
    Type: AWS::Serverless::Function
    Properties: {{Runtime: python3.13, Handler: app.handler, CodeUri: guard/, ReservedConcurrentExecutions: 5}}
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: cart/
      Events: {{Get: {{Type: Api, Properties: {{RestApiId: !Ref Rest, Path: /cart, Method: get}}}}}}
"
    )
}

#[test]
fn an_authorizers_answers_kept_as_long_as_its_own_concurrency_needs() {
    // Callers that are asked about one after the other, and a minute later all at once: no more than five can be.
    let load = "version: 1
phases:
  - {name: one, target: Rest, request: GET /cart, identities: 5, rate: 5/s, for: 20s}
  - {name: all, target: Rest, request: GET /cart, identities: 5, users: 20, requests: 20, start: 60s}
behaviour:
  Guard: {init: 5ms, steps: [{sleep: 500ms}]}
  Cart: {init: 5ms, steps: [{sleep: 10ms}]}
";
    let template = guarded(", Identity: {ReauthorizeEvery: 10}");
    let case = case_of(&template, load, &[]);
    let found = fixes(&case);
    let fix =
        found.iter().find(|fix| fix.change.starts_with("answers of the authorizer Token of Rest kept for "));
    let fix = fix.unwrap_or_else(|| panic!("{:?}", said(&found)));
    let kept: u64 = fix.change.split(' ').nth(9).unwrap().parse().unwrap();
    assert!((38..=61).contains(&kept), "{}", fix.change);
    let tried = Tried::apply(&template, load, &[], &fix.change);
    tried.needs(&format!("ReauthorizeEvery: {kept}"), &format!("ReauthorizeEvery: {}", kept - 1));
    // Without a word of it a REST API keeps them for 300 s, and nothing is to be fixed.
    assert!(survives(&plan(&case_of(&guarded(""), load, &[]))));
    let told_apart = guarded(", Identity: {Header: Auth, ReauthorizeEvery: 0}");
    let words = Tried::apply(&told_apart, load, &[], &fix.change.replace("not 10 s", "not 0 s"));
    assert!(
        words.template.contains(&format!("Header: Auth, ReauthorizeEvery: {kept}")),
        "{}",
        words.template
    );
}

#[test]
fn a_template_in_json_stays_one() {
    let template = r#"{
  "Transform": "AWS::Serverless-2016-10-31",
  "Resources": {
    "Cart": {
      "Type": "AWS::Serverless::Function",
      "Properties": {"Runtime": "python3.13", "Handler": "app.handler", "CodeUri": "cart/", "Timeout": 30, "ReservedConcurrentExecutions": 5}
    }
  }
}
"#;
    let load = load(TWENTY, "sleep: 1s");
    let tried = Tried::apply(template, &load, &[], "20 executions reserved for Cart, not 5");
    assert!(serde_json::from_str::<serde_json::Value>(&tried.template).is_ok(), "{}", tried.template);
    let template = template.replace(", \"ReservedConcurrentExecutions\": 5", "");
    let wanted = "10 environments of Cart kept ready";
    let tried = Tried::apply(&template, &load, &["lambda.scaling-rate=10"], wanted);
    assert!(serde_json::from_str::<serde_json::Value>(&tried.template).is_ok(), "{}", tried.template);
}

#[test]
fn what_no_single_knob_cures_takes_two() {
    // The gateway's ports and the interface's connections are both short.
    let load = load(TWENTY, WORLD);
    let wanted = "1 more address, 2 in all, for Nat; 1 more subnet for Cart";
    Tried::apply(NETWORK, &load, &["nat.ports=11", "eni.connections=12"], wanted);
}
