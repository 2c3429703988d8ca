//! Scenarios that come with the planner: published examples and experiments, each with its figures.
//!
//! A scenario is one file: functions, era, region, limits and a load. It doubles as a test: what AWS published or what
//! was measured must come out.

use crate::input::{FunctionInput, PlanInput, ProvisionedInput};
use crate::load::Load;
use crate::options::{Options, PlanError};
use crate::quantity;
use crate::report::Report;
use limits::Network;
use model::stack::Cidr;
use model::{Era, Overrides, era};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;
use template::yaml::{self, Mapping, Node, Problem, Problems};

const FILES: &[(&str, &str)] = &[
    ("burst-2022", include_str!("../scenarios/burst-2022.yaml")),
    ("tokens-and-buckets", include_str!("../scenarios/tokens-and-buckets.yaml")),
    ("scaling-today", include_str!("../scenarios/scaling-today.yaml")),
    ("scaling-today-1000", include_str!("../scenarios/scaling-today-1000.yaml")),
    ("ten-thousand-in-1-minute", include_str!("../scenarios/ten-thousand-in-1-minute.yaml")),
    ("ten-thousand-in-2-minutes", include_str!("../scenarios/ten-thousand-in-2-minutes.yaml")),
    ("ten-thousand-in-3-minutes", include_str!("../scenarios/ten-thousand-in-3-minutes.yaml")),
    ("ten-thousand-in-4-minutes", include_str!("../scenarios/ten-thousand-in-4-minutes.yaml")),
    ("connections-one-address", include_str!("../scenarios/connections-one-address.yaml")),
    ("connections-two-addresses", include_str!("../scenarios/connections-two-addresses.yaml")),
    ("connections-two-subnets", include_str!("../scenarios/connections-two-subnets.yaml")),
    ("connections-four-subnets", include_str!("../scenarios/connections-four-subnets.yaml")),
    ("connections-eight-addresses", include_str!("../scenarios/connections-eight-addresses.yaml")),
    ("connections-late-room", include_str!("../scenarios/connections-late-room.yaml")),
    ("provisioned-5000", include_str!("../scenarios/provisioned-5000.yaml")),
    ("provisioned-10000", include_str!("../scenarios/provisioned-10000.yaml")),
    ("short-handlers", include_str!("../scenarios/short-handlers.yaml")),
    ("locust-2019", include_str!("../scenarios/locust-2019.yaml")),
    ("reserved-at-once", include_str!("../scenarios/reserved-at-once.yaml")),
    ("database-micro", include_str!("../scenarios/database-micro.yaml")),
    ("database-proxy-small", include_str!("../scenarios/database-proxy-small.yaml")),
    ("database-proxy-full", include_str!("../scenarios/database-proxy-full.yaml")),
    ("database-clients-abandoned", include_str!("../scenarios/database-clients-abandoned.yaml")),
    ("database-clients-closed", include_str!("../scenarios/database-clients-closed.yaml")),
    ("vpc-may-2019", include_str!("../scenarios/vpc-may-2019.yaml")),
    ("vpc-october-2019", include_str!("../scenarios/vpc-october-2019.yaml")),
    ("vpc-interfaces-needed", include_str!("../scenarios/vpc-interfaces-needed.yaml")),
    ("vpc-bulk-transfer", include_str!("../scenarios/vpc-bulk-transfer.yaml")),
    ("vpc-thousand-users", include_str!("../scenarios/vpc-thousand-users.yaml")),
    ("throttles-in-order", include_str!("../scenarios/throttles-in-order.yaml")),
    ("cache-of-a-stage", include_str!("../scenarios/cache-of-a-stage.yaml")),
    ("new-callers", include_str!("../scenarios/new-callers.yaml")),
    ("doors-that-wait", include_str!("../scenarios/doors-that-wait.yaml")),
    ("parameter-in-a-global", include_str!("../scenarios/parameter-in-a-global.yaml")),
    ("parameter-in-274-ms", include_str!("../scenarios/parameter-in-274-ms.yaml")),
    ("streamed-export", include_str!("../scenarios/streamed-export.yaml")),
    ("bill-image", include_str!("../scenarios/bill-image.yaml")),
    ("bill-zip", include_str!("../scenarios/bill-zip.yaml")),
    ("bill-of-a-move", include_str!("../scenarios/bill-of-a-move.yaml")),
];

const KEYS: &[&str] =
    &["title", "source", "era", "region", "limits", "functions", "network", "template", "bill", "load"];
/// The most subnets of a scenario: those of one function.
const SUBNETS_MAX: i64 = 16;
/// Bits of a subnet's range that are fixed.
const SUBNET_PREFIXES: RangeInclusive<i64> = 16..=28;
/// The most addresses of a scenario's NAT gateway: those of a regional one.
const ADDRESSES_MAX: i64 = 32;

/// Everything for a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// One line for people.
    pub title: String,
    /// Where its figures come from.
    pub source: String,
    /// The functions.
    pub input: PlanInput,
    /// The load.
    pub load: Load,
    /// Era, region and limits.
    pub options: Options,
}

impl Scenario {
    /// The built-in scenario of that name.
    pub fn named(name: &str) -> Option<Self> {
        let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
        Some(Self::read(name, text).expect("built-in scenarios are checked by a test"))
    }

    /// The names of all built-in scenarios.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// Reads a scenario from the text of a file called `name`.
    ///
    /// # Errors
    /// Every problem with its place.
    pub fn read(name: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let document = yaml::parse(name, text)?;
        let mut problems = Problems::new();
        match read(&document.root, &mut problems) {
            Some(scenario) if problems.is_empty() => {
                scenario.input.check(&scenario.load)?;
                Ok(scenario)
            }
            _ => Err(problems.into_vec()),
        }
    }

    /// Plans it.
    ///
    /// # Errors
    /// As [`crate::run`].
    pub fn run(&self) -> Result<Report, PlanError> {
        crate::run(&self.input, &self.load, &self.options)
    }
}

fn read(root: &Node, problems: &mut Problems) -> Option<Scenario> {
    let top = root.mapping(problems)?;
    top.only(KEYS, problems);
    let mut text = |key: &str| {
        let value = top.require(key, "a scenario", root.span, problems)?;
        value.string(problems).map(str::to_owned)
    };
    let (title, source) = (text("title"), text("source"));
    let options = read_options(top, problems);
    if let Some(template) = top.get("template") {
        let mut input = read_template(template, options.as_ref()?, problems)?;
        if top.get("bill").and_then(|bill| bill.boolean(problems)) != Some(true) {
            input.inventory = None;
        }
        let load = top.require("load", "a scenario", root.span, problems)?;
        let load = Load::from_node(load, problems);
        return Some(Scenario { title: title?, source: source?, input, load: load?, options: options? });
    }
    let functions = top.require("functions", "a scenario", root.span, problems)?;
    let (functions, provisioned) = read_functions(functions, problems);
    let load = top.require("load", "a scenario", root.span, problems)?;
    let load = Load::from_node(load, problems);
    let network = match top.get("network") {
        Some(node) => read_network(node, functions.len(), problems)?,
        None => Network::default(),
    };
    let input = PlanInput { functions, network, ..PlanInput::default() }.with_provisioned(provisioned);
    Some(Scenario { title: title?, source: source?, input, load: load?, options: options? })
}

fn read_options(top: &Mapping, problems: &mut Problems) -> Option<Options> {
    let era = match top.get("era") {
        None => Era::named(era::DEFAULT_ERA).expect("the default era exists"),
        Some(node) => match Era::named(node.string(problems)?) {
            Ok(era) => era,
            Err(unknown) => {
                problems.push(Problem::at(node.span, unknown.to_string()));
                return None;
            }
        },
    };
    let mut options = Options::new(era);
    if let Some(region) = top.get("region") {
        region.string(problems)?.clone_into(&mut options.region);
    }
    let mut overrides = Overrides::default();
    for entry in
        top.get("limits").and_then(|limits| limits.mapping(problems)).map_or(&[][..], Mapping::entries)
    {
        let Some(value) = entry.value.unsigned(problems) else { continue };
        match entry.key.parse() {
            Ok(limit) => overrides.set(limit, value),
            Err(unknown) => problems.push(Problem::at(entry.key_span, format!("{unknown}"))),
        }
    }
    options.overrides = overrides;
    Some(options)
}

/// A template in the scenario, instead of functions and a network.
fn read_template(node: &Node, options: &Options, problems: &mut Problems) -> Option<PlanInput> {
    let inputs = template::Inputs { region: options.region.clone(), ..template::Inputs::default() };
    let outcome = template::read("template", node.string(problems)?, &inputs);
    for problem in &outcome.problems {
        problems.push(Problem::at(node.span, problem.one_line("template")));
    }
    outcome.stack.map(|stack| PlanInput::from_stack(&stack))
}

/// Subnets that all functions are in, behind one NAT gateway with so many addresses; a database instance of a class; and
/// how many bits the subnets' ranges have.
fn read_network(node: &Node, functions: usize, problems: &mut Problems) -> Option<Network> {
    let keys = node.mapping(problems)?;
    keys.only(&["subnets", "addresses", "database", "proxy", "prefix"], problems);
    let mut whole = |key: &str, most: i64| {
        let value = keys.require(key, "a network", node.span, problems)?;
        value.integer(key, 1..=most, problems)
    };
    let (subnets, addresses) = (whole("subnets", SUBNETS_MAX)?, whole("addresses", ADDRESSES_MAX)?);
    let mut network =
        Network::simple(functions, usize::try_from(subnets).ok()?, u16::try_from(addresses).ok()?);
    if let Some(prefix) = keys.get("prefix") {
        let prefix = prefix.integer("prefix", SUBNET_PREFIXES, problems)?;
        let range = Cidr::around(Ipv4Addr::new(10, 0, 0, 0), u8::try_from(prefix).ok()?)?;
        for subnet in &mut network.subnets {
            subnet.space.size = Some(range.usable());
        }
    }
    if let Some(class) = keys.get("database") {
        network = network.with_database(class.string(problems)?);
    }
    if let Some(proxy) = keys.get("proxy") {
        network = network.with_proxy(read_proxy(proxy, problems)?);
    }
    Some(network)
}

/// A proxy called `Proxy` before the database, with the words of CloudFormation.
fn read_proxy(node: &Node, problems: &mut Problems) -> Option<limits::network::Proxy> {
    let keys = node.mapping(problems)?;
    let names = [
        "MaxConnectionsPercent",
        "MaxIdleConnectionsPercent",
        "ConnectionBorrowTimeout",
        "IdleClientTimeout",
    ];
    keys.only(&names, problems);
    let mut whole = |key: &str, most: i64, default: u32| match keys.get(key) {
        Some(value) => value.integer(key, 0..=most, problems).and_then(|value| u32::try_from(value).ok()),
        None => Some(default),
    };
    let percent = whole(names[0], 100, 100)?;
    Some(limits::network::Proxy {
        name: "Proxy".to_owned(),
        port: 5432,
        database: None,
        connections_percent: percent,
        idle_connections_percent: whole(names[1], 100, percent / 2)?,
        borrow_timeout: Duration::from_secs(whole(names[2], 300, 120)?.into()),
        idle_client_timeout: Duration::from_secs(whole(names[3], 28_800, 1_800)?.into()),
    })
}

/// Functions, and what is provisioned for their alias `live`.
fn read_functions(node: &Node, problems: &mut Problems) -> (Vec<FunctionInput>, Vec<ProvisionedInput>) {
    let mut all = Vec::new();
    let entries = node.mapping(problems).map_or(&[][..], Mapping::entries);
    let read = entries.iter().filter_map(|entry| {
        let keys = entry.value.mapping(problems)?;
        keys.only(&["timeout", "memory_mb", "reserved", "provisioned", "image"], problems);
        let timeout = keys.require("timeout", "a function", entry.value.span, problems)?;
        let timeout = quantity::duration(timeout, problems)?;
        let mut whole = |key: &str, what: &str, most: i64| {
            keys.get(key).and_then(|value| value.integer(what, 0..=most, problems))
        };
        let reserved = whole("reserved", "the reserved concurrency", i64::from(u32::MAX));
        let provisioned = whole("provisioned", "the provisioned concurrency", i64::from(u32::MAX));
        all.push(provisioned.and_then(|provisioned| u32::try_from(provisioned).ok()));
        let memory_mb = whole("memory_mb", "the memory in MB", 10_240).unwrap_or(128);
        Some(FunctionInput {
            id: entry.key.to_string(),
            name: entry.key.to_string(),
            reserved: reserved.and_then(|reserved| u32::try_from(reserved).ok()),
            timeout,
            memory_mb: u32::try_from(memory_mb).ok()?,
            init_always_billed: keys.get("image").and_then(|image| image.boolean(problems)).unwrap_or(false),
        })
    });
    let functions: Vec<FunctionInput> = read.collect();
    let provisioned = all.into_iter().enumerate().filter_map(|(function, environments)| {
        Some(ProvisionedInput { function, qualifier: "live".into(), environments: environments? })
    });
    (functions, provisioned.collect())
}

#[cfg(test)]
mod door_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vpc_tests;
