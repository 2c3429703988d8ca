//! What can be turned: each knob makes a stack or a load stronger, step by step, as edits of its text.

use super::sheet::{Edit, Sheet, Value};
use crate::quantity::parse_duration;
use limits::network::{Network, Target, Verdict};
use model::stack::{AuthorizerKind, Cidr, Function, Link, NatGateway, Stack};
use model::time::nanos;
use model::{LimitId, LimitRow, limit::Raisable};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Range;
use template::yaml::{Kind, Node};

/// Addresses of a zonal NAT gateway (VPC User Guide, "NAT gateway basics").
const NAT_ADDRESSES_MAX: u64 = 8;
/// Subnets of one function (Lambda API reference, VpcConfig).
const SUBNETS_MAX: u64 = 16;
/// Time-outs of functions end here, s.
const TIMEOUT_MAX_S: u64 = 900;
/// An authorizer's answers are kept no longer, s (API Gateway API reference, `authorizerResultTtlInSeconds`).
const VERDICTS_MAX_S: u64 = 3_600;
/// A quota is raised by tenths of its figure, at most to this many times of it.
const QUOTA_TENTHS: u64 = 10;
const QUOTA_TIMES_MAX: u64 = 100;
/// Handlers are shortened by thousandths.
const HANDLER_PARTS: u64 = 1_000;
/// Memory that is tried, MB. Beyond 1,769 MB a single thread gains nothing.
const MEMORY: [u64; 4] = [256, 512, 1_024, 1_769];
/// More environments than this are not kept ready by a fix.
const PROVISIONED_MAX: u64 = 20_000;
/// Classes that are tried, in order.
const CLASSES: [&str; 6] =
    ["db.t4g.micro", "db.t4g.small", "db.t4g.medium", "db.t4g.large", "db.t4g.xlarge", "db.t4g.2xlarge"];
/// The port of endpoints.
const HTTPS: u64 = 443;
/// Stands for the address of a name.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);

/// A knob.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    turn: Turn,
    /// It has the levels 1 to this; each is stronger than the one before.
    pub levels: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Turn {
    Addresses { gateway: NatGateway, quota: u64 },
    Regional { gateway: NatGateway, vpc: String },
    Subnets { functions: Vec<String>, path: Vec<String>, subnet: String },
    Pool { function: String, key: String, list: &'static str, step: usize, to: String, count: u64 },
    Hold { function: String, key: String, list: &'static str, step: usize, to: String },
    OutOfVpc { function: String },
    Endpoint { functions: Vec<String>, service: String, gateway: bool, vpc: String, ends: Vec<String> },
    Provisioned { function: String },
    Reserved { function: String, have: u64 },
    Timeout { function: String, have: u64 },
    Handler { function: String, key: String },
    Memory { function: String, key: String, have: u64 },
    Class { database: String, from: usize },
    Percent { group: String, have: u64 },
    Verdicts { authorizer: String, function: String, path: Vec<String>, have: u64 },
    Quota { limit: LimitId, have: u64 },
}

/// What a turned knob changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// In the template.
    pub template: Vec<Edit>,
    /// In the load.
    pub load: Vec<Edit>,
    /// Figures that AWS raises on request.
    pub quotas: Vec<(LimitId, u64)>,
}

/// What refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble<'report> {
    /// The limit; `None` where only a promise is broken.
    pub limit: Option<LimitId>,
    /// What it limits.
    pub resource: &'report str,
    /// Functions that it hit.
    pub victims: &'report [String],
}

/// The template and the load as they are.
pub struct Sheets<'text> {
    /// The template.
    pub template: Sheet<'text>,
    /// The load.
    pub load: Sheet<'text>,
    /// What the template describes.
    pub stack: &'text Stack,
}

impl Knob {
    /// Every knob of a stack under a load, whose plan ended with these limits.
    pub fn all(sheets: &Sheets<'_>, limits: &[LimitRow], nat_quota: u64) -> Vec<Self> {
        let mut knobs = Vec::new();
        let mut add = |turn, levels| {
            if levels > 0 {
                knobs.push(Self { turn, levels });
            }
        };
        let stack = sheets.stack;
        for gateway in stack.nat_gateways.iter().filter(|gateway| gateway.public && !gateway.regional) {
            let have = gateway.addresses.len() as u64;
            add(
                Turn::Addresses { gateway: gateway.clone(), quota: nat_quota },
                NAT_ADDRESSES_MAX.saturating_sub(have),
            );
            let vpc = gateway
                .subnet
                .as_ref()
                .and_then(Link::logical)
                .and_then(|id| stack.subnet(id)?.vpc.logical());
            if let Some(vpc) = vpc {
                add(Turn::Regional { gateway: gateway.clone(), vpc: vpc.to_owned() }, 1);
            }
        }
        let mut lists = BTreeSet::new();
        for function in &stack.functions {
            let Some(config) = &function.vpc else { continue };
            let (Some(path), Some(subnet)) =
                (subnets_path(sheets, &function.id), config.subnets.last().and_then(Link::logical))
            else {
                continue;
            };
            if lists.insert(path.clone()) {
                let same = |other: &&Function| subnets_path(sheets, &other.id).as_ref() == Some(&path);
                let functions = stack.functions.iter().filter(same).map(|found| found.id.clone()).collect();
                let turn = Turn::Subnets { functions, path, subnet: subnet.to_owned() };
                add(turn, SUBNETS_MAX.saturating_sub(config.subnets.len() as u64));
            }
            add(Turn::OutOfVpc { function: function.id.clone() }, 1);
        }
        for (turn, levels) in of_functions(sheets).into_iter().chain(endpoints(sheets)) {
            add(turn, levels);
        }
        for database in &stack.db_instances {
            if let Some(from) = CLASSES.iter().position(|class| *class == database.class) {
                let turn = Turn::Class { database: database.id.clone(), from };
                add(turn, (CLASSES.len() - 1 - from) as u64);
            }
        }
        for group in &stack.db_proxy_target_groups {
            let have = u64::from(group.max_connections_percent);
            add(Turn::Percent { group: group.id.clone(), have }, 100_u64.saturating_sub(have));
        }
        for (turn, levels) in authorizers(sheets) {
            add(turn, levels);
        }
        let mut quotas = BTreeSet::new();
        for row in
            limits.iter().filter(|row| row.raisable == Raisable::Request && row.id != LimitId::NatAddresses)
        {
            if quotas.insert(row.id) && row.max > 0 && crate::options::SIMULATED.contains(&row.id) {
                add(Turn::Quota { limit: row.id, have: row.max }, (QUOTA_TIMES_MAX - 1) * QUOTA_TENTHS);
            }
        }
        knobs
    }

    /// Whether turning it could help against a trouble.
    pub fn helps(&self, trouble: &Trouble<'_>) -> bool {
        use LimitId::{
            AccountConcurrency, Burst, BurstRefill, DbBorrowTimeout, DbMaxConnections, DbPoolConnections,
            EniConnections, FunctionTimeout, NatPorts, ProvisionedConcurrency, RequestRate,
            ReservedConcurrency, ReservedRequestRate, ScalingRate, SubnetAddresses,
        };
        let hits = |function: &String| trouble.victims.contains(function);
        let Some(limit) = trouble.limit else {
            return matches!(
                self.turn,
                Turn::Handler { .. } | Turn::Memory { .. } | Turn::Provisioned { .. } | Turn::Verdicts { .. }
            );
        };
        let connections = [NatPorts, EniConnections, DbMaxConnections, DbPoolConnections, DbBorrowTimeout];
        let concurrency = [AccountConcurrency, ReservedConcurrency, Burst, BurstRefill, ScalingRate];
        match &self.turn {
            Turn::Addresses { gateway, .. } | Turn::Regional { gateway, .. } => {
                limit == NatPorts && gateway.id == trouble.resource
            }
            Turn::Subnets { functions, .. } => {
                [EniConnections, SubnetAddresses].contains(&limit) && functions.iter().any(hits)
            }
            Turn::Pool { function, .. } | Turn::Hold { function, .. } => {
                connections.contains(&limit) && hits(function)
            }
            Turn::OutOfVpc { function } => {
                [NatPorts, EniConnections, SubnetAddresses, LimitId::NoRoute, LimitId::NoRule]
                    .contains(&limit)
                    && hits(function)
            }
            Turn::Endpoint { functions, .. } => limit == NatPorts && functions.iter().any(hits),
            Turn::Provisioned { function } => {
                [Burst, BurstRefill, ScalingRate, ProvisionedConcurrency].contains(&limit) && hits(function)
            }
            Turn::Reserved { function, .. } => {
                [ReservedConcurrency, ReservedRequestRate].contains(&limit) && function == trouble.resource
            }
            Turn::Timeout { function, .. } => limit == FunctionTimeout && function == trouble.resource,
            Turn::Handler { function, .. } | Turn::Memory { function, .. } => {
                (concurrency.contains(&limit) || connections.contains(&limit) || limit == FunctionTimeout)
                    && hits(function)
            }
            Turn::Class { database, .. } => {
                limit == DbMaxConnections && database == trouble.resource
                    || [DbBorrowTimeout, DbPoolConnections].contains(&limit)
            }
            // Who is asked less often leaves concurrency to the functions behind the routes, too.
            Turn::Verdicts { function, .. } => {
                [AccountConcurrency, RequestRate, Burst, BurstRefill].contains(&limit)
                    || (concurrency.contains(&limit)
                        || connections.contains(&limit)
                        || limit == ReservedRequestRate)
                        && (hits(function) || function == trouble.resource)
            }
            Turn::Percent { .. } => [DbBorrowTimeout, DbPoolConnections].contains(&limit),
            Turn::Quota { limit: quota, .. } => {
                limit == *quota || *quota == AccountConcurrency && limit == RequestRate
            }
        }
    }

    /// What the knob at a level is, in words.
    pub fn say(&self, level: u64) -> String {
        match &self.turn {
            Turn::Addresses { gateway, quota } => {
                let all = gateway.addresses.len() as u64 + level;
                let asks = if all > *quota {
                    format!(" (more than {quota}: ask AWS to raise nat.addresses)")
                } else {
                    String::new()
                };
                format!(
                    "{}, {all} in all, for {}{asks}",
                    plural(level, "more address", "more addresses"),
                    gateway.id
                )
            }
            Turn::Regional { gateway, .. } => format!("{} as a regional NAT gateway", gateway.id),
            Turn::Subnets { functions, .. } => {
                format!("{} for {}", plural(level, "more subnet", "more subnets"), functions.join(", "))
            }
            Turn::Pool { function, to, count, .. } => {
                format!(
                    "{function} opens {} to {to}, not {count}",
                    plural(count - level, "connection", "connections")
                )
            }
            Turn::Hold { function, to, .. } => {
                format!("{function} keeps its connections to {to} and uses them again")
            }
            Turn::OutOfVpc { function } => format!("{function} outside the VPC"),
            Turn::Endpoint { service, gateway, .. } => match gateway {
                true => format!("a gateway endpoint for {service}"),
                false => {
                    format!("an interface endpoint for {service}, and a security group that lets the VPC in")
                }
            },
            Turn::Provisioned { function } => format!("{level} environments of {function} kept ready"),
            Turn::Reserved { function, have } => {
                format!("{} executions reserved for {function}, not {have}", have + level)
            }
            Turn::Timeout { function, have } => {
                format!("{function} may take {} s, not {have} s", have + level)
            }
            Turn::Handler { function, .. } => {
                format!("{function} needs {} % less time in its handler", permille(level))
            }
            Turn::Memory { function, have, .. } => match memory(*have, level) {
                Some(to) => format!("{function} with {to} MB, not {have} MB: its compute steps shrink alike"),
                None => String::new(),
            },
            Turn::Class { database, from } => {
                format!(
                    "{database} as {}, not {}",
                    CLASSES[(from + level as usize).min(CLASSES.len() - 1)],
                    CLASSES[*from]
                )
            }
            Turn::Percent { group, have } => {
                format!("{} % of the database's connections for {group}, not {have} %", have + level)
            }
            Turn::Verdicts { authorizer, have, .. } => {
                format!("answers of the authorizer {authorizer} kept for {} s, not {have} s", have + level)
            }
            Turn::Quota { limit, have } => {
                format!("AWS raises {limit} from {have} to {}", raised(*have, level))
            }
        }
    }

    /// The edits of a level; `None` where the text cannot be changed so.
    pub fn change(&self, level: u64, sheets: &Sheets<'_>) -> Option<Change> {
        let mut change = Change::default();
        let property = |id: &str, path: &[&str], value: Value| {
            let mut whole = vec!["Resources", id, "Properties"];
            whole.extend_from_slice(path);
            sheets.template.set(&whole, &value)
        };
        let number = |value: u64| Value::Word(value.to_string());
        match &self.turn {
            Turn::Addresses { gateway, .. } => change.template = addresses(gateway, level, sheets)?,
            Turn::Regional { gateway, vpc } => {
                let sheet = &sheets.template;
                for key in ["SubnetId", "AllocationId", "SecondaryAllocationIds"] {
                    if let Some(entry) = sheet.entry(&["Resources", &gateway.id, "Properties", key]) {
                        change.template.push(Edit { at: sheet.entry_lines(entry), text: String::new() });
                    }
                }
                let entry = sheet.entry(&["Resources", &gateway.id, "Properties"])?;
                let at = sheet.entry_lines(entry);
                let lead: String = sheet.slice(at.clone()).chars().take_while(|c| *c == ' ').collect();
                let text = format!("{lead}  AvailabilityMode: regional\n{lead}  VpcId: !Ref {vpc}\n");
                change.template.push(Edit { at: at.end..at.end, text });
            }
            Turn::Subnets { path, subnet, .. } => change.template = subnets(path, subnet, level, sheets)?,
            Turn::Pool { key, list, step, count, .. } => {
                let connect = step_of(&sheets.load, key, list, *step)?.get("connect")?;
                let value = number(count - level);
                change.load.push(sheets.load.set_in(connect, "count", &value)?);
            }
            Turn::Hold { key, list, step, .. } => {
                let connect = step_of(&sheets.load, key, list, *step)?.get("connect")?;
                let value = Value::Word("environment".to_owned());
                change.load.push(sheets.load.set_in(connect, "hold", &value)?);
            }
            Turn::OutOfVpc { function } => {
                let sheet = &sheets.template;
                let none = Value::Ref("AWS::NoValue".to_owned());
                let path = ["Resources", function, "Properties", "VpcConfig"];
                let edit = match sheet.entry(&path) {
                    Some(entry) if sheet.value_range(entry).is_none() => {
                        let at = sheet.entry_lines(entry);
                        let lead: String =
                            sheet.slice(at.clone()).chars().take_while(|c| *c == ' ').collect();
                        Edit { at, text: format!("{lead}VpcConfig: {}\n", sheet.flow(&none)) }
                    }
                    _ => sheet.set(&path, &none)?,
                };
                change.template.push(edit);
            }
            Turn::Endpoint { service, gateway, vpc, ends, .. } => {
                let short = service.rsplit('.').next().unwrap_or_default();
                let id = fresh(&format!("{}Endpoint", capital(short)), sheets, &mut BTreeSet::new());
                let ends = Value::List(ends.iter().cloned().map(Value::Ref).collect());
                let mut properties = vec![
                    ("VpcId", Value::Ref(vpc.clone())),
                    ("ServiceName", Value::Word(service.clone())),
                    (
                        "VpcEndpointType",
                        Value::Word(if *gateway { "Gateway" } else { "Interface" }.to_owned()),
                    ),
                ];
                if *gateway {
                    properties.push(("RouteTableIds", ends));
                } else {
                    // Private DNS needs the VPC's host names, which are off unless the template says so.
                    let key = "EnableDnsHostnames";
                    let hostnames = sheets.template.get(&["Resources", vpc, "Properties", key]);
                    if hostnames.is_none_or(|node| node.as_str() == Some("false")) {
                        change.template.push(property(vpc, &[key], Value::Word("true".to_owned()))?);
                    }
                    properties.push(("PrivateDnsEnabled", Value::Word("true".to_owned())));
                    properties.push(("SubnetIds", ends));
                    let group = fresh(&format!("{id}Group"), sheets, &mut BTreeSet::new());
                    properties.push(("SecurityGroupIds", Value::List(vec![Value::Ref(group.clone())])));
                    let word = |text: &str| Value::Word(text.to_owned());
                    let rule = vec![
                        ("IpProtocol", word("tcp")),
                        ("FromPort", number(HTTPS)),
                        ("ToPort", number(HTTPS)),
                        ("CidrIp", Value::Attribute(vpc.clone(), "CidrBlock")),
                    ];
                    let properties = vec![
                        ("GroupDescription", word("HTTPS from the VPC")),
                        ("VpcId", Value::Ref(vpc.clone())),
                        ("SecurityGroupIngress", Value::List(vec![Value::Map(rule)])),
                    ];
                    let kind = "AWS::EC2::SecurityGroup";
                    change.template.push(sheets.template.resource_after(vpc, &group, kind, properties)?);
                }
                change.template.push(sheets.template.resource_after(
                    vpc,
                    &id,
                    "AWS::EC2::VPCEndpoint",
                    properties,
                )?);
            }
            Turn::Provisioned { function } => {
                let node = sheets.template.get(&["Resources", function, "Type"])?;
                (node.as_str()? == "AWS::Serverless::Function").then_some(())?;
                let alias = ["Resources", function, "Properties", "AutoPublishAlias"];
                let alias = match sheets.template.get(&alias) {
                    Some(alias) => alias.as_str()?.to_owned(),
                    None => {
                        let live = Value::Word("live".to_owned());
                        change.template.push(property(function, &["AutoPublishAlias"], live)?);
                        "live".to_owned()
                    }
                };
                change.load = to_alias(sheets, function, &alias);
                let path = ["ProvisionedConcurrencyConfig", "ProvisionedConcurrentExecutions"];
                change.template.push(property(function, &path, number(level))?);
            }
            Turn::Reserved { function, have } => {
                change.template.push(property(
                    function,
                    &["ReservedConcurrentExecutions"],
                    number(have + level),
                )?);
            }
            Turn::Timeout { function, have } => {
                change.template.push(property(function, &["Timeout"], number(have + level))?);
            }
            Turn::Handler { key, .. } => {
                let steps = sheets.load.get(&["behaviour", key, "steps"])?;
                let left = HANDLER_PARTS.saturating_sub(level).max(1);
                change.load =
                    shorter(&sheets.load, steps, &["compute", "sleep", "query"], (left, HANDLER_PARTS))?;
            }
            Turn::Memory { function, key, have } => {
                let to = memory(*have, level)?;
                change.template.push(property(function, &["MemorySize"], number(to))?);
                let steps = sheets.load.get(&["behaviour", key, "steps"])?;
                change.load = shorter(&sheets.load, steps, &["compute"], (*have, to))?;
            }
            Turn::Class { database, from } => {
                let class = CLASSES.get(from + level as usize)?;
                change.template.push(property(
                    database,
                    &["DBInstanceClass"],
                    Value::Word((*class).to_owned()),
                )?);
            }
            Turn::Percent { group, have } => {
                let path = ["ConnectionPoolConfigurationInfo", "MaxConnectionsPercent"];
                change.template.push(property(group, &path, number(have + level))?);
            }
            Turn::Verdicts { path, have, .. } => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                change.template.push(sheets.template.set(&path, &number(have + level))?);
            }
            Turn::Quota { limit, have } => change.quotas.push((*limit, raised(*have, level))),
        }
        Some(change)
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Permille as percent.
fn permille(parts: u64) -> String {
    if parts.is_multiple_of(10) { (parts / 10).to_string() } else { format!("{}.{}", parts / 10, parts % 10) }
}

fn raised(have: u64, level: u64) -> u64 {
    have.saturating_add(have.div_ceil(QUOTA_TENTHS).saturating_mul(level))
}

fn memory(have: u64, level: u64) -> Option<u64> {
    MEMORY.iter().copied().filter(|size| *size > have).nth(usize::try_from(level).ok()?.checked_sub(1)?)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars().filter(char::is_ascii_alphanumeric);
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + letters.collect::<String>().as_str()
    })
}

/// Every function with so many MB, as the memory knob does it.
pub fn memory_of_all(sheets: &Sheets<'_>, memory_mb: u64) -> Option<Change> {
    let mut change = Change::default();
    for function in &sheets.stack.functions {
        let path = ["Resources", &function.id, "Properties", "MemorySize"];
        change.template.push(sheets.template.set(&path, &Value::Word(memory_mb.to_string()))?);
        let key = [&function.id, &function.name]
            .into_iter()
            .find(|key| sheets.load.get(&["behaviour", key]).is_some());
        let Some(steps) = key.and_then(|key| sheets.load.get(&["behaviour", key, "steps"])) else { continue };
        let ratio = (share(u64::from(function.memory_mb)), share(memory_mb));
        change.load.extend(shorter(&sheets.load, steps, &["compute"], ratio).unwrap_or_default());
    }
    Some(change)
}

/// Phases that name a function itself, which is its `$LATEST`, name its alias instead.
fn to_alias(sheets: &Sheets<'_>, function: &str, alias: &str) -> Vec<Edit> {
    let names = sheets.stack.function(function).map(|found| [&found.id, &found.name]);
    let phases = sheets.load.get(&["phases"]).and_then(Node::as_sequence).unwrap_or_default();
    let targets = phases.iter().filter_map(|phase| phase.get("target"));
    let bare = targets.filter(|target| {
        names.is_some_and(|names| names.iter().any(|name| target.as_str() == Some(name.as_str())))
    });
    bare.filter_map(|target| {
        Some(Edit { at: sheets.load.scalar_range(target)?, text: format!("{function}:{alias}") })
    })
    .collect()
}

/// What a single thread has of memory's processor time: no more than 1,769 MB give.
fn share(memory_mb: u64) -> u64 {
    memory_mb.min(MEMORY[MEMORY.len() - 1])
}

/// Knobs of functions by their behaviour.
fn of_functions(sheets: &Sheets<'_>) -> Vec<(Turn, u64)> {
    let mut knobs = Vec::new();
    for found in &sheets.stack.functions {
        let function = found.id.clone();
        let timeout = u64::from(found.timeout_s);
        knobs.push((
            Turn::Timeout { function: function.clone(), have: timeout },
            TIMEOUT_MAX_S.saturating_sub(timeout),
        ));
        knobs.push((Turn::Provisioned { function: function.clone() }, PROVISIONED_MAX));
        if let Some(reserved) = found.reserved_concurrency {
            let have = u64::from(reserved);
            knobs.push((Turn::Reserved { function: function.clone(), have }, have.max(100) * 10));
        }
        let key =
            [&found.id, &found.name].into_iter().find(|key| sheets.load.get(&["behaviour", key]).is_some());
        let Some(key) = key.cloned() else { continue };
        let steps =
            sheets.load.get(&["behaviour", &key, "steps"]).and_then(Node::as_sequence).unwrap_or_default();
        if !steps.is_empty() {
            knobs.push((Turn::Handler { function: function.clone(), key: key.clone() }, HANDLER_PARTS - 1));
        }
        if steps.iter().any(|step| step.get("compute").is_some()) {
            let have = u64::from(found.memory_mb);
            let more = MEMORY.iter().filter(|size| **size > have).count() as u64;
            knobs.push((Turn::Memory { function: function.clone(), key: key.clone(), have }, more));
        }
        for list in ["init", "steps"] {
            let steps =
                sheets.load.get(&["behaviour", &key, list]).and_then(Node::as_sequence).unwrap_or_default();
            for (step, connect) in
                steps.iter().enumerate().filter_map(|(step, node)| Some((step, node.get("connect")?)))
            {
                let to = connect.get("to").and_then(Node::as_str).unwrap_or_default().to_owned();
                let count = connect
                    .get("count")
                    .and_then(Node::as_str)
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(1_u64);
                let (function, key) = (function.clone(), key.clone());
                if connect.get("hold").and_then(Node::as_str) != Some("environment") {
                    let turn = Turn::Hold {
                        function: function.clone(),
                        key: key.clone(),
                        list,
                        step,
                        to: to.clone(),
                    };
                    knobs.push((turn, 1));
                }
                knobs.push((Turn::Pool { function, key, list, step, to, count }, count.saturating_sub(1)));
            }
        }
    }
    knobs
}

/// Endpoints for services of AWS that functions reach through a NAT gateway.
fn endpoints(sheets: &Sheets<'_>) -> Vec<(Turn, u64)> {
    let stack = sheets.stack;
    let network = Network::from_stack(stack);
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (index, function) in stack.functions.iter().enumerate() {
        let Some(Some(place)) = network.placements.get(index) else { continue };
        for list in ["init", "steps"] {
            let of = |key| sheets.load.get(&["behaviour", key, list]).and_then(Node::as_sequence);
            let steps = of(&function.id).or_else(|| of(&function.name)).unwrap_or_default();
            let called = |step: &Node| {
                let service = step.get("call")?.get("to")?.as_str()?;
                Some(format!("{service}.{}.amazonaws.com:443", stack.region))
            };
            let connected = |step: &Node| Some(step.get("connect")?.get("to")?.as_str()?.to_owned());
            for to in steps.iter().filter_map(|step| connected(step).or_else(|| called(step))) {
                let Some((host, port)) = to.rsplit_once(':') else { continue };
                let port = port.parse().unwrap_or(0);
                let leads = place.subnets.first().map(|subnet| {
                    network.verdict(*subnet, &place.groups, &Target { host, address: NOWHERE, port })
                });
                let Some(Verdict::Nat(..)) = leads else { continue };
                let suffix = format!(".{}.amazonaws.com", stack.region);
                let Some(name) = host.strip_suffix(&suffix) else { continue };
                let service =
                    format!("com.amazonaws.{}.{}", stack.region, name.rsplit('.').next().unwrap_or(name));
                match found.iter_mut().find(|(known, _)| *known == service) {
                    Some((_, functions)) => functions.push(function.id.clone()),
                    None => found.push((service, vec![function.id.clone()])),
                }
            }
        }
    }
    let knobs = found.into_iter().filter_map(|(service, functions)| {
        let function = stack.function(functions.first()?)?;
        let subnets: Vec<&str> = function.vpc.as_ref()?.subnets.iter().filter_map(Link::logical).collect();
        let vpc = stack.subnet(subnets.first()?)?.vpc.logical()?.to_owned();
        let gateway = service.ends_with(".s3") || service.ends_with(".dynamodb");
        let mut ends: Vec<String> = subnets.iter().map(|id| (*id).to_owned()).collect();
        // It stands in one subnet of a zone.
        let mut zones = BTreeSet::new();
        ends.retain(|id| stack.subnet(id).is_none_or(|subnet| zones.insert(&subnet.availability_zone)));
        if gateway {
            ends = subnets.iter().filter_map(|id| Some(stack.route_table_of(id)?.id.clone())).collect();
            ends.dedup();
        }
        Some((Turn::Endpoint { functions, service, gateway, vpc, ends }, 1))
    });
    knobs.collect()
}

/// How long the answers of Lambda authorizers are kept; one that has nothing to tell callers apart by keeps none.
fn authorizers(sheets: &Sheets<'_>) -> Vec<(Turn, u64)> {
    let stack = sheets.stack;
    let http = stack.http_apis.iter().map(|api| (&api.id, &api.authorizers, &api.routes));
    let rest = stack.rest_apis.iter().map(|api| (&api.id, &api.authorizers, &api.routes));
    let mut knobs = Vec::new();
    for (api, authorizers, routes) in http.chain(rest) {
        for found in authorizers {
            let is_asked = routes.iter().any(|route| route.authorizer.as_deref() == Some(&*found.id));
            let is_lambda = matches!(found.kind, AuthorizerKind::Token | AuthorizerKind::Request);
            let function = found.function.as_ref().and_then(|target| target.function.logical());
            let (Some(function), Some(path)) = (function, ttl_path(sheets, &found.id)) else { continue };
            if !is_asked || !is_lambda || found.identity_sources.is_empty() {
                continue;
            }
            let have = u64::from(found.ttl_s);
            let authorizer = format!("{} of {api}", found.name);
            let turn = Turn::Verdicts { authorizer, function: function.to_owned(), path, have };
            knobs.push((turn, VERDICTS_MAX_S.saturating_sub(have)));
        }
    }
    knobs
}

/// Where the time is that an authorizer's answers are kept: a resource of its own, or SAM's within its API.
fn ttl_path(sheets: &Sheets<'_>, id: &str) -> Option<Vec<String>> {
    let own = ["Resources", id, "Properties"];
    let path = if sheets.template.get(&own).is_some() {
        [&own[..], &["AuthorizerResultTtlInSeconds"]].concat()
    } else {
        let (api, name) = id.split_once('.')?;
        let within = ["Resources", api, "Properties", "Auth", "Authorizers", name];
        sheets.template.get(&within)?;
        [&within[..], &["Identity", "ReauthorizeEvery"]].concat()
    };
    Some(path.into_iter().map(str::to_owned).collect())
}

/// Where the subnets of a function are listed.
fn subnets_path(sheets: &Sheets<'_>, function: &str) -> Option<Vec<String>> {
    let own = ["Resources", function, "Properties", "VpcConfig", "SubnetIds"];
    let global = ["Globals", "Function", "VpcConfig", "SubnetIds"];
    let path = [&own[..], &global[..]].into_iter().find(|path| sheets.template.get(path).is_some())?;
    Some(path.iter().map(|key| (*key).to_owned()).collect())
}

/// An id that no resource has: the base with its last letter or number counted up.
fn fresh(base: &str, sheets: &Sheets<'_>, taken: &mut BTreeSet<String>) -> String {
    let free = |id: &str, taken: &BTreeSet<String>| {
        sheets.template.get(&["Resources", id]).is_none() && !taken.contains(id)
    };
    let (stem, last) = base.split_at(base.len().saturating_sub(1));
    let letters = last
        .chars()
        .next()
        .filter(char::is_ascii_uppercase)
        .filter(|_| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    let counted = letters.into_iter().flat_map(|first| (first..='Z').map(|letter| format!("{stem}{letter}")));
    let digits = base.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = (2..).map(|number: u32| format!("{digits}{number}"));
    let plain = std::iter::once(base.to_owned());
    let id = plain.chain(counted).chain(numbered).find(|id| free(id, taken)).expect("numbers do not end");
    taken.insert(id.clone());
    id
}

/// More addresses for a NAT gateway: like its first one where that is in the template.
fn addresses(gateway: &NatGateway, more: u64, sheets: &Sheets<'_>) -> Option<Vec<Edit>> {
    let sheet = &sheets.template;
    let mut taken = BTreeSet::new();
    let mut edits = Vec::new();
    let mut refs = Vec::new();
    let like = gateway.addresses.last().and_then(Link::logical);
    let base = like.map_or_else(|| format!("{}Address", gateway.id), str::to_owned);
    for _ in 0..more {
        let id = fresh(&base, sheets, &mut taken);
        edits.push(match like {
            Some(like) => sheet.copy_after(like, like, &id, &[])?,
            None => {
                let domain = vec![("Domain", Value::Word("vpc".to_owned()))];
                sheet.resource_after(&gateway.id, &id, "AWS::EC2::EIP", domain)?
            }
        });
        refs.push(Value::Attribute(id, "AllocationId"));
    }
    let path = ["Resources", &*gateway.id, "Properties", "SecondaryAllocationIds"];
    edits.push(match sheet.get(&path) {
        Some(_) => sheet.push(&path, &refs)?,
        None => sheet.set(&path, &Value::List(refs))?,
    });
    Some(edits)
}

/// More subnets: like the last one, in ranges that are free, with the same route table.
fn subnets(path: &[String], like: &str, more: u64, sheets: &Sheets<'_>) -> Option<Vec<Edit>> {
    let (sheet, stack) = (&sheets.template, sheets.stack);
    let subnet = stack.subnet(like)?;
    let association =
        stack.route_table_associations.iter().find(|found| found.subnet.logical() == Some(like))?;
    let entry = sheet.entry(&["Resources", like, "Properties", "CidrBlock"])?;
    let mut taken = BTreeSet::new();
    let (mut edits, mut refs) = (Vec::new(), Vec::new());
    let mut step = 0;
    for _ in 0..more {
        let (found, block) = (step + 1..=u64::from(u16::MAX))
            .find_map(|step| Some((step, free_block(stack, subnet, step)?)))?;
        step = found;
        let id = fresh(like, sheets, &mut taken);
        let changes = match selected(sheet, &entry.value) {
            Some((index, count, index_at, count_at)) => vec![
                Edit { at: index_at, text: (index + step).to_string() },
                Edit { at: count_at, text: count.max(index + step + 1).to_string() },
            ],
            None => vec![Edit {
                at: sheet.value_range(entry)?,
                text: sheet.flow(&Value::Word(block.to_string())),
            }],
        };
        edits.push(sheet.copy_after(like, like, &id, &changes)?);
        let route = fresh(&association.id.replace(like, &id), sheets, &mut taken);
        let at =
            sheet.value_range(sheet.entry(&["Resources", &association.id, "Properties", "SubnetId"])?)?;
        let change = Edit { at, text: sheet.flow(&Value::Ref(id.clone())) };
        edits.push(sheet.copy_after(&association.id, &association.id, &route, &[change])?);
        refs.push(Value::Ref(id));
    }
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    edits.push(sheet.push(&path, &refs)?);
    Some(edits)
}

/// The block that lies `step` blocks behind a subnet's, if it is in the VPC and free.
fn free_block(stack: &Stack, subnet: &model::stack::Subnet, step: u64) -> Option<Cidr> {
    let vpc = stack.vpcs.iter().find(|vpc| Some(vpc.id.as_str()) == subnet.vpc.logical())?;
    let size = 1_u64 << (32 - u32::from(subnet.cidr.prefix()));
    let first = u64::from(u32::from(subnet.cidr.first())).checked_add(size.checked_mul(step)?)?;
    let first = Ipv4Addr::from(u32::try_from(first).ok()?);
    let block: Cidr = format!("{first}/{}", subnet.cidr.prefix()).parse().ok()?;
    let overlaps = |one: &Cidr, other: &Cidr| one.contains(other.first()) || other.contains(one.first());
    let free = stack
        .subnets
        .iter()
        .filter(|other| other.vpc == subnet.vpc)
        .all(|other| !overlaps(&other.cidr, &block));
    (vpc.cidr.contains(first) && free).then_some(block)
}

/// `!Select [i, !Cidr [block, n, bits]]`: i, n, and where they stand.
fn selected(sheet: &Sheet<'_>, node: &Node) -> Option<(u64, u64, Range<usize>, Range<usize>)> {
    let parts = |node: &Node, tag: &str| -> Option<Vec<Node>> {
        (node.tag.as_deref() == Some(tag)).then(|| node.as_sequence().map(<[Node]>::to_vec)).flatten()
    };
    let outer = parts(node, "Select")?;
    let inner = parts(outer.get(1)?, "Cidr")?;
    let number = |node: &Node| Some((node.as_str()?.parse::<u64>().ok()?, sheet.scalar_range(node)?));
    let ((index, index_at), (count, count_at)) = (number(outer.first()?)?, number(inner.get(1)?)?);
    Some((index, count, index_at, count_at))
}

/// A step of a function's behaviour.
fn step_of<'sheet>(load: &'sheet Sheet<'_>, key: &str, list: &str, step: usize) -> Option<&'sheet Node> {
    load.get(&["behaviour", key, list])?.as_sequence()?.get(step)
}

/// Every duration of some kinds of steps, times a ratio.
fn shorter(load: &Sheet<'_>, steps: &Node, kinds: &[&str], ratio: (u64, u64)) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    for step in steps.as_sequence()? {
        for kind in kinds {
            if let Some(node) = step.get(kind) {
                scale(load, node, ratio, &mut edits)?;
            }
        }
    }
    (!edits.is_empty()).then_some(edits)
}

fn scale(load: &Sheet<'_>, node: &Node, (times, per): (u64, u64), edits: &mut Vec<Edit>) -> Option<()> {
    match &node.kind {
        Kind::Scalar(_) => {
            if let Some(time) = node.as_str().and_then(parse_duration).filter(|time| !time.is_zero()) {
                // Durations are below 2^55 ns and ratios below 2^14: the product fits u128, the result u64.
                let nanos = u128::from(nanos(time)) * u128::from(times) / u128::from(per.max(1));
                edits.push(Edit { at: load.scalar_range(node)?, text: millis(nanos) });
            }
        }
        Kind::Sequence(items) => items.iter().try_for_each(|item| scale(load, item, (times, per), edits))?,
        Kind::Mapping(entries) => {
            entries.entries().iter().try_for_each(|entry| scale(load, &entry.value, (times, per), edits))?;
        }
    }
    Some(())
}

/// Nanoseconds as milliseconds, exactly.
fn millis(nanos: u128) -> String {
    let text = format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
    format!("{}ms", text.trim_end_matches('0').trim_end_matches('.'))
}
