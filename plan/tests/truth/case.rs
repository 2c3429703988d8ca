//! Random small cases, and what the planner makes of them.

use crate::reference::{Fate, World};
use limits::Decision;
use model::{Era, LimitId};
use plan::{Load, Options, PlanInput, Report};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A generator that has nothing to do with the planner's (Marsaglia, "Xorshift RNGs", 2003).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    pub fn among<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

pub struct Function {
    pub reserved: Option<u64>,
    pub timeout_ms: u64,
    pub init_ms: u64,
    pub handler_ms: u64,
    pub lag_ms: u64,
    pub connect: Option<Connect>,
}

/// One connection to one destination before the handler's work.
pub struct Connect {
    /// Kept by the environment, instead of closed with the invocation.
    pub kept: bool,
    pub timeout_ms: Option<u64>,
    pub attempts: u64,
    pub delay_ms: u64,
}

pub struct Phase {
    pub function: usize,
    pub start_ms: u64,
    pub latency_ms: u64,
    pub work: Work,
}

pub enum Work {
    Users { users: u64, requests: u64, think_ms: u64 },
    Rate { per_s: u64, for_ms: u64 },
}

pub struct Case {
    /// Burst of the account and its refill a minute; otherwise `scaling_rate`.
    pub burst: Option<(u64, u64)>,
    pub scaling_rate: u64,
    pub account: u64,
    /// Requests a second of the account, instead of ten times its concurrency.
    pub request_rate: Option<u64>,
    pub idle_timeout_s: u64,
    pub lifetime_s: u64,
    pub interface_max: u64,
    pub nat_ports: u64,
    pub functions: Vec<Function>,
    pub phases: Vec<Phase>,
}

const TEMPLATE: &str = r"
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  Igw: {Type: AWS::EC2::InternetGateway}
  Attachment: {Type: AWS::EC2::VPCGatewayAttachment, Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Igw}}
  Public: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24}}
  Private: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}}
  Address: {Type: AWS::EC2::EIP, Properties: {Domain: vpc}}
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
";

impl Case {
    pub fn random(dice: &mut Dice, connects: bool) -> Self {
        let account = 2 + dice.below(9);
        let functions = 1 + dice.below(3);
        let mut left = account - 1;
        let functions: Vec<Function> = (0..functions)
            .map(|_| {
                let reserved = (dice.below(3) == 0 && left > 0).then(|| dice.below(left + 1));
                left -= reserved.unwrap_or(0);
                Function {
                    reserved,
                    timeout_ms: dice.among(&[1000, 2000, 5000, 12_000, 30_000]),
                    init_ms: dice.among(&[0, 0, 100, 500, 1500, 12_000]),
                    handler_ms: dice.among(&[0, 50, 100, 400, 1000, 3000]),
                    lag_ms: dice.among(&[0, 0, 0, 5]),
                    connect: connects.then(|| Connect::random(dice)),
                }
            })
            .collect();
        let phases = (0..1 + dice.below(3)).map(|_| Phase::random(dice, functions.len())).collect();
        Self {
            burst: (dice.below(2) == 0).then(|| (1 + dice.below(5), dice.among(&[0, 1, 7, 30, 60, 500]))),
            scaling_rate: dice.among(&[1, 2, 3, 5, 10]),
            account,
            request_rate: dice.among(&[None, None, Some(1), Some(3), Some(20)]),
            idle_timeout_s: dice.among(&[1, 2, 10, 600]),
            lifetime_s: dice.among(&[1, 3, 20, 50_400]),
            interface_max: dice.among(&[1, 2, 3, 5, 65_000]),
            nat_ports: dice.among(&[1, 2, 4, 55_000]),
            functions,
            phases,
        }
    }

    fn template(&self) -> String {
        let mut text = TEMPLATE.to_owned();
        for (index, function) in self.functions.iter().enumerate() {
            let reserved =
                function.reserved.map(|reserved| format!("ReservedConcurrentExecutions: {reserved}, "));
            writeln!(
                text,
                "  F{index}: {{Type: AWS::Lambda::Function, Properties: {{Runtime: python3.13, Handler: app.handler, \
                 Code: {{ZipFile: 'def handler(event, context): return 1'}}, Role: !GetAtt Role.Arn, {}Timeout: {}, \
                 VpcConfig: {{SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}}}}}}",
                reserved.unwrap_or_default(),
                function.timeout_ms / 1000,
            )
            .unwrap();
        }
        text
    }

    fn load(&self) -> String {
        let mut text = "version: 1\nphases:\n".to_owned();
        for Phase { function, start_ms, latency_ms, work } in &self.phases {
            let work = match work {
                Work::Users { users, requests, think_ms } => {
                    format!("users: {users}, requests: {requests}, think: {think_ms}ms")
                }
                Work::Rate { per_s, for_ms } => format!("rate: {per_s}/s, for: {for_ms}ms"),
            };
            let latency = format!("latency: {latency_ms}ms");
            writeln!(text, "  - {{target: F{function}, start: {start_ms}ms, {latency}, {work}}}").unwrap();
        }
        text.push_str("behaviour:\n");
        for (index, function) in self.functions.iter().enumerate() {
            let Function { init_ms, handler_ms, lag_ms, connect, .. } = function;
            let connect = connect.as_ref().map_or(String::new(), Connect::text);
            writeln!(
                text,
                "  F{index}: {{init: {init_ms}ms, reuse_lag: {lag_ms}ms, steps: [{connect}{{compute: {handler_ms}ms}}]}}"
            )
            .unwrap();
        }
        text
    }

    pub fn plan(&self) -> Report {
        let inputs = template::Inputs::default();
        let outcome = template::read("template.yaml", &self.template(), &inputs);
        let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
        let load = Load::read("load.yaml", &self.load()).unwrap_or_else(|problems| panic!("{problems:?}"));
        let era = if self.burst.is_some() { "2022-12" } else { "today" };
        let mut options = Options::new(Era::named(era).unwrap());
        options.trace = true;
        let mut set = |limit: &str, value: u64| options.overrides.read(&format!("{limit}={value}")).unwrap();
        set("lambda.account-concurrency", self.account);
        set("environment.idle-timeout", self.idle_timeout_s);
        set("environment.lifetime", self.lifetime_s);
        set("eni.connections", self.interface_max);
        set("nat.ports", self.nat_ports);
        if let Some(rate) = self.request_rate {
            set("lambda.request-rate", rate);
        }
        match self.burst {
            Some((size, refill)) => {
                set("lambda.burst", size);
                set("lambda.burst-refill", refill);
            }
            None => set("lambda.scaling-rate", self.scaling_rate),
        }
        plan::run(&PlanInput::from_stack(&stack), &load, &options).unwrap()
    }

    /// Compares the planner with the reference: each decision, each dropped SYN by its limit, and the sums.
    pub fn check(&self, seed: u64) {
        let report = self.plan();
        let told = format!("case {seed}: account {}, {}{}", self.account, self.template(), self.load());
        let world = World::run(self);
        let mut names = BTreeMap::new();
        for (index, (theirs, ours)) in world.decisions.iter().zip(&report.decisions).enumerate() {
            let mut name = |id: limits::EnvironmentId| {
                let next = names.len();
                *names.entry((id.slot(), id.generation())).or_insert(next)
            };
            let fate = match &ours.decision {
                Decision::Run(id) => Fate::Warm(name(*id)),
                Decision::Reset(id) => Fate::Reset(name(*id)),
                Decision::Start(id) => Fate::Cold(name(*id)),
                Decision::Refuse(refusal) => Fate::Refused(refusal.limit),
                other => panic!("{other:?}"),
            };
            let ours = (ours.at.as_nanos(), ours.function, fate);
            assert_eq!(ours, *theirs, "decision {index} of {}\n{told}", world.decisions.len());
        }
        assert_eq!(report.decisions.len(), world.decisions.len(), "{told}");
        let summary = &report.summary;
        let ours = (summary.ok, summary.throttled, summary.timed_out, summary.errors);
        let errors = world.decisions.len() as u64 - world.ok - world.throttled - world.timed_out;
        assert_eq!(ours, (world.ok, world.throttled, world.timed_out, errors), "{told}");
        for (limit, theirs) in
            [(LimitId::EniConnections, world.by_interface), (LimitId::NatPorts, world.by_nat)]
        {
            let ours: u64 = report.limits.iter().filter(|row| row.id == limit).map(|row| row.refused).sum();
            assert_eq!(ours, theirs, "{limit}\n{told}");
        }
    }
}

impl Connect {
    fn random(dice: &mut Dice) -> Self {
        Self {
            kept: dice.below(2) == 0,
            timeout_ms: dice.among(&[None, Some(500), Some(2000), Some(10_000)]),
            attempts: 1 + dice.below(3),
            delay_ms: dice.among(&[0, 700, 3000]),
        }
    }

    fn text(&self) -> String {
        let hold = if self.kept { "environment" } else { "invocation" };
        let timeout = self.timeout_ms.map_or(String::new(), |timeout| format!(", timeout: {timeout}ms"));
        let retry = format!("retry: {{attempts: {}, delay: {}ms}}", self.attempts, self.delay_ms);
        format!("{{connect: {{to: '203.0.113.9:443', hold: {hold}{timeout}, {retry}}}}}, ")
    }
}

impl Phase {
    fn random(dice: &mut Dice, functions: usize) -> Self {
        let work = if dice.below(2) == 0 {
            let users = 1 + dice.below(8);
            let think_ms = dice.among(&[0, 0, 20, 300, 2500]);
            Work::Users { users, requests: users + dice.below(40), think_ms }
        } else {
            Work::Rate { per_s: dice.among(&[1, 2, 3, 5, 10, 40]), for_ms: 500 + dice.below(6) * 700 }
        };
        Self {
            function: dice.below(functions as u64) as usize,
            start_ms: dice.among(&[0, 0, 100, 1000, 4000, 15_000]),
            latency_ms: dice.among(&[0, 0, 1, 12]),
            work,
        }
    }
}

#[test]
fn thousands_of_cases_are_decided_as_the_reference_decides_them() {
    for seed in 1..=3000 {
        Case::random(&mut Dice::new(seed), false).check(seed);
    }
}

#[test]
fn thousands_of_cases_with_connections_fare_as_in_the_reference() {
    for seed in 1..=2000 {
        Case::random(&mut Dice::new(seed + 1_000_000), true).check(seed);
    }
}

#[test]
fn the_cases_reach_every_fate() {
    let mut fates = BTreeMap::new();
    let mut dropped = (0, 0);
    for seed in 1..=1000 {
        let case = Case::random(&mut Dice::new(seed + 1_000_000), true);
        let world = World::run(&case);
        for (_, _, fate) in &world.decisions {
            let name = match fate {
                Fate::Cold(_) => "cold".to_owned(),
                Fate::Warm(_) => "warm".to_owned(),
                Fate::Reset(_) => "reset".to_owned(),
                Fate::Refused(limit) => limit.to_string(),
            };
            *fates.entry(name).or_insert(0_u64) += 1;
        }
        dropped = (dropped.0 + world.by_interface, dropped.1 + world.by_nat);
    }
    assert_eq!(fates.len(), 3 + 6, "{fates:?}");
    assert!(
        fates.values().all(|count| *count >= 50) && dropped.0 >= 50 && dropped.1 >= 50,
        "{fates:?} {dropped:?}"
    );
}
