//! `onrush explain`: the way from a function to a destination, and who decides on it; or what a resource has to do with it.

mod about;
mod destination;
mod now;
mod policy;

use crate::Stop;
use crate::arguments::{Explain, Output, Template, Transport};
use crate::stack;
use anyhow::Context as _;
use destination::{Destination, LOOPBACK, Wanted};
use limits::network::{
    Explanation, FlowKey, HostKind, ICMP, ICMPV6, Network, Path, Placement, StepKind, TCP, UDP,
};
use limits::{NetworkSettings, network};
use model::LimitId;
use model::name::FunctionReference;
use model::stack::Stack;
use now::{Now, Use};
use plan::report::grouped;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;

/// The port of the API that a local run usually has; only names of doors show it.
const PORT: u16 = 4566;
/// An echo request.
const ECHO: u16 = 8 << 8;
const ECHO_V6: u16 = 128 << 8;

/// What everything here looks at.
struct View<'run> {
    stack: &'run Stack,
    network: Network,
    settings: NetworkSettings,
    /// What runs now.
    now: Option<Now>,
}

/// The way from one subnet.
struct Way {
    subnet: usize,
    /// How the name was found, in words.
    name: Option<String>,
    explanation: Explanation,
    /// What the limit of each step has in use now.
    used: Vec<Option<Use>>,
    verdict: String,
    /// What the policy of the endpoint at its end says.
    policy: Option<Policy>,
    /// Every rule lets it pass, to where nobody is.
    lost: bool,
    /// The limit on it that has no room now, and whose it is.
    full: Option<(LimitId, String)>,
}

/// The policy of an endpoint.
struct Policy {
    endpoint: String,
    /// Its statements in words.
    statements: Vec<String>,
    /// The one that refuses what is asked for, if that is certain.
    refuses: Option<String>,
}

pub fn run(arguments: &Explain) -> Result<ExitCode, Stop> {
    let mut template = Template {
        template: arguments.template.first().cloned(),
        more: arguments.template.iter().skip(1).cloned().collect(),
        template_file: None,
        region_given: arguments.region_given,
        configured: None,
        parameter_overrides: arguments.parameter_overrides.clone(),
        imports: arguments.imports.clone(),
        stack_name: arguments.stack_name.clone(),
        region: arguments.region.clone(),
        strict: false,
    };
    stack::take_region(&mut template);
    let Some(path) = stack::find(&template) else {
        return Err(Stop::Usage(stack::hinted(
            "no template here: give --template FILE",
            "onrush explain -t",
        )));
    };
    let read = stack::read_briefly(&path, &template, port_of(arguments.endpoint.as_deref()))?;
    let (era, own) = super::figures(&arguments.figures)?;
    let network = Network::from_stack(&read.stack);
    let now = Now::look(arguments.endpoint.as_deref())?;
    // The running platform was given figures; those of this command line come first.
    let mut overrides = now.as_ref().map(|now| now.given(&network)).unwrap_or_default();
    own.iter().for_each(|(limit, figure)| overrides.set(limit, figure));
    let settings =
        NetworkSettings::from_era(&era, &template.region, &overrides).context("the limits' figures")?;
    let view = View { stack: &read.stack, network, settings, now };
    let as_json = arguments.json || arguments.output == Output::Json;
    let (text, arrives) =
        view.answer(&arguments.source, arguments.destination.as_deref(), arguments.protocol, as_json)?;
    super::print(&text)?;
    Ok(if arrives { ExitCode::SUCCESS } else { ExitCode::from(crate::FAILED) })
}

/// A function's name or ARN without the version or alias behind it (all of them share its network); other words as they are.
fn unqualified(word: &str) -> &str {
    let qualifier = FunctionReference::parse(word).ok().and_then(|reference| reference.qualifier);
    qualifier.and_then(|qualifier| word.strip_suffix(&*qualifier)?.strip_suffix(':')).unwrap_or(word)
}

impl View<'_> {
    /// What to print, and whether the packet arrives by every way.
    fn answer(
        &self,
        source: &str,
        destination: Option<&str>,
        protocol: Transport,
        as_json: bool,
    ) -> Result<(String, bool), Stop> {
        let Some(destination) = destination else {
            return Ok((self.describe(source, as_json)?, true));
        };
        let Some(function) = self.function(source) else {
            self.about(source)?;
            let message = format!(
                "{source} is no function, and only functions connect; `onrush explain {source}` tells what it is"
            );
            return Err(Stop::Usage(message));
        };
        let to = match Destination::read(self, destination, protocol)? {
            Wanted::Place(to) => to,
            Wanted::Resource(id) => return Ok((self.describe(&id, as_json)?, true)),
        };
        let name = &self.stack.functions[function].id;
        if let Some(why) = to.never_left() {
            let verdict = format!("No packet leaves {name} for {}: {why}.", to.title);
            let cure = (why == LOOPBACK).then(|| {
                let port = to.port;
                format!("give what listens on this machine a name: onrush up --attach NAME:{port}=127.0.0.1:{port}")
            });
            return Ok((alone(name, &to, &verdict, (None, cure), false, as_json), false));
        }
        let placement = self.network.placements.get(function).and_then(Option::as_ref);
        if to.is_ipv6() && placement.is_none_or(|placement| !placement.ipv6) {
            let verdict = format!("No packet leaves {name} for {}: it has no IPv6 address.", to.title);
            let what = "Ipv6AllowedForDualStack: true and subnets with an IPv6 range";
            let cure = format!("give the VpcConfig of {name} {what}");
            return Ok((alone(name, &to, &verdict, (None, Some(cure)), false, as_json), false));
        }
        if let Some(answers) = self.resolver_answers(placement, &to) {
            let (verdict, cure) = match answers {
                true => (
                    format!(
                        "{name} reaches the resolver at {}: no rule, route or connection of an interface counts there, each \
                         question does (dns.packets).",
                        to.title
                    ),
                    None,
                ),
                false => (
                    format!("Nobody answers {name} at {}: the VPC has no resolver.", to.title),
                    Some("give it EnableDnsSupport: true".to_owned()),
                ),
            };
            return Ok((alone(name, &to, &verdict, (None, cure), answers, as_json), answers));
        }
        let Some(placement) = placement else {
            return Ok(self.outside(name, &to, as_json));
        };
        let ways: Vec<Way> =
            placement.subnets.iter().map(|subnet| self.way(*subnet, placement, &to)).collect();
        let arrives = ways.iter().all(Way::arrives);
        let text = if as_json {
            let found: Vec<Value> = ways.iter().map(|way| self.json(way)).collect();
            let all = json!({
                "from": name, "to": to.title, "protocol": protocol.as_str(), "port": to.port, "arrives": arrives,
                "ways": found,
            });
            format!("{all:#}\n")
        } else {
            self.text(name, &to, protocol, &ways)
        };
        Ok((text, arrives))
    }

    /// The index of a function by its logical id, name or ARN, qualified or not.
    fn function(&self, word: &str) -> Option<usize> {
        let found = self.stack.find_function(word).or_else(|| self.stack.find_function(unqualified(word)))?;
        self.stack.functions.iter().position(|function| function.id == found.id)
    }

    fn way(&self, subnet: usize, placement: &Placement, to: &Destination) -> Way {
        let (address, name) = to.seen_from(self, subnet);
        let (protocol, port) = match to.protocol {
            Transport::Tcp => (TCP, to.port),
            Transport::Udp => (UDP, to.port),
            Transport::Icmp if address.is_ipv6() => (ICMPV6, ECHO_V6),
            Transport::Icmp => (ICMP, ECHO),
        };
        // The function may take any port from 1024 on: the first of them that is barred tells of a rule too narrow.
        let explain = |from_port: u16| {
            let flow = FlowKey { protocol, to: address, port, from_port };
            self.network.explain(subnet, &placement.groups, &flow, &self.settings)
        };
        let mut explanation = explain(network::EPHEMERAL);
        for from_port in [1024, u16::MAX] {
            let other = explain(from_port);
            if matches!(other.path, Path::Barred(..)) && !matches!(explanation.path, Path::Barred(..)) {
                explanation = other;
            }
        }
        if address.is_ipv6() {
            self.need_ipv6(subnet, placement, &mut explanation);
        }
        for step in explanation.steps.iter_mut().filter(|step| step.what == StepKind::Interface) {
            let sharers = self.sharers(subnet, placement);
            let _ = write!(step.rule, ", shared by {}", sharers.join(", "));
        }
        if let Some(stands_for) = to.stands_for(address) {
            let plain = |text: &mut String| {
                *text = text
                    .replace(&format!("{address}/32"), stands_for)
                    .replace(&address.to_string(), stands_for);
            };
            explanation.steps.iter_mut().for_each(|step| plain(&mut step.rule));
            explanation.cure.iter_mut().for_each(plain);
        }
        let nobody = match (&explanation.path, to.private()) {
            (Path::Nat(gateway), Some(private)) if self.network.gateways[*gateway].public => Some(format!(
                "It goes out by {} and reaches nobody: {private} is of a range that the internet does not carry. Connects hang \
                 until something is attached there.",
                self.network.gateways[*gateway].name
            )),
            _ => None,
        };
        let lost = nobody.is_some();
        let used: Vec<_> = explanation.steps.iter().map(|step| self.now.as_ref()?.of(step, to)).collect();
        let is_barred = lost || matches!(explanation.path, Path::Barred(..) | Path::Nothing);
        let full = if is_barred { None } else { self.full(&explanation, &used) };
        let verdict = match (nobody, &full) {
            (Some(nobody), _) => nobody,
            (None, Some((limit, resource, most))) => {
                let (what, cure) = room(*limit, resource);
                explanation.cure = Some(cure);
                format!(
                    "It does not reach {} now: all {} connections {what} are in use ({limit}).",
                    to.title,
                    grouped(*most)
                )
            }
            (None, None) => self.verdict(to, &explanation),
        };
        let full = full.map(|(limit, resource, _)| (limit, resource));
        let policy = self.policy(&explanation.path, to);
        Way { subnet, name, explanation, used, verdict, policy, lost, full }
    }

    /// Whether the resolver answers who asks there; `None` for what is no question to it.
    fn resolver_answers(&self, placement: Option<&Placement>, to: &Destination) -> Option<bool> {
        let vpc = placement.and_then(|placement| {
            let subnet = self.network.subnets.get(*placement.subnets.first()?)?;
            self.network.vpcs.get(subnet.vpc)
        });
        let base = vpc.and_then(|vpc| vpc.ranges.first()).map(|range| u32::from(range.first()));
        let second = base.map(|base| Ipv4Addr::from(base + 2));
        to.asks_resolver(second).then(|| vpc.is_none_or(|vpc| vpc.dns_support))
    }

    /// Ends a way of IPv6 at an interface that has no address of it. NAT64 goes on with the gateway's.
    fn need_ipv6(&self, subnet: usize, placement: &Placement, explanation: &mut Explanation) {
        let own = |found: &&network::Interface| found.subnet == subnet && found.groups == placement.groups;
        let has_address =
            self.network.interfaces.iter().find(own).is_some_and(|found| found.address6.is_some());
        if has_address || matches!(explanation.path, Path::Barred(..) | Path::Nat(_)) {
            return;
        }
        let Some(at) = explanation.steps.iter().position(|step| step.what == StepKind::Interface) else {
            return;
        };
        explanation.steps.truncate(at + 1);
        let step = &mut explanation.steps[at];
        (step.decides, step.passes) = (true, false);
        let who = format!("{} (it has no address)", step.resource);
        explanation.path = Path::Barred(LimitId::NoRoute, who);
        explanation.cure = Some(format!("give {} an Ipv6CidrBlock", self.network.subnets[subnet].name));
    }

    /// The first limit on a way that has no room now, by the platform's figures and by those of the question: whose it is, and
    /// its figure.
    fn full(&self, explanation: &Explanation, used: &[Option<Use>]) -> Option<(LimitId, String, u64)> {
        explanation.steps.iter().zip(used).find_map(|(step, used)| {
            let limit = now::limit_of(step.what)?;
            let asked = match limit {
                LimitId::EniConnections => u64::from(self.settings.interface.connections),
                LimitId::NatPorts => {
                    let gateway = self.network.gateways.iter().find(|found| found.name == step.resource)?;
                    u64::from(self.settings.nat.ports) * u64::from(gateway.addresses)
                }
                _ => 0,
            };
            used.as_ref()?.fills(asked).map(|most| (limit, step.resource.clone(), most))
        })
    }

    /// The policy of the endpoint that a way ends at.
    fn policy(&self, path: &Path, to: &Destination) -> Option<Policy> {
        let endpoint = match path {
            Path::Service(endpoint) => &self.network.endpoints[*endpoint].name,
            Path::Host(host) => &self.network.hosts[*host].name,
            _ => return None,
        };
        let found = self.stack.vpc_endpoints.iter().find(|found| found.id == *endpoint)?;
        let document = found.policy.as_deref()?;
        let service = policy::prefix(&found.service_name);
        Some(Policy {
            endpoint: endpoint.clone(),
            statements: policy::lines(Some(document)),
            refuses: service
                .and_then(|service| policy::refuses(Some(document), service, to.resource.as_deref())),
        })
    }

    /// The functions that share the interface of a subnet and a set of groups.
    fn sharers(&self, subnet: usize, placement: &Placement) -> Vec<&str> {
        let all = self.network.placements.iter().zip(&self.stack.functions);
        let here = all.filter(|(other, _)| {
            other
                .as_ref()
                .is_some_and(|other| other.subnets.contains(&subnet) && other.groups == placement.groups)
        });
        here.map(|(_, function)| &*function.id).collect()
    }

    fn verdict(&self, to: &Destination, explanation: &Explanation) -> String {
        let title = &to.title;
        match &explanation.path {
            Path::Nat(gateway) => {
                let gateway = &self.network.gateways[*gateway];
                let all = u64::from(self.settings.nat.ports) * u64::from(gateway.addresses);
                format!(
                    "It reaches {title} through {}: at most {} connections to it at once (nat.ports), for all functions together.",
                    gateway.name,
                    grouped(all)
                )
            }
            Path::Host(host) => {
                let host = &self.network.hosts[*host];
                let of = match host.what {
                    HostKind::Database(index) => self.network.databases.get(index).and_then(|found| {
                        Some(format!(
                            ": at most {} connections (db.max-connections)",
                            grouped(self.settings.database.or(found.connections)?.into())
                        ))
                    }),
                    HostKind::Proxy(_) => Some(
                        ": clients as many as come, transactions wait for its pool (db.borrow-timeout)"
                            .to_owned(),
                    ),
                    HostKind::Endpoint(_) | HostKind::LoadBalancer(_) | HostKind::Cache(_) => None,
                };
                format!("It reaches {}{}.", host.name, of.unwrap_or_default())
            }
            Path::Service(endpoint) => format!(
                "It reaches {title} through {}: past the NAT gateways, still through the interface.",
                self.network.endpoints[*endpoint].name
            ),
            Path::Egress(gateway) => {
                format!("It reaches {title} through {}.", self.network.egress_gateways[*gateway])
            }
            Path::World => format!("It leaves towards {title}; what lies behind is not of this template."),
            Path::Nothing => match explanation
                .steps
                .last()
                .filter(|step| step.resource.parse::<std::net::IpAddr>().is_err())
            {
                Some(deaf) => {
                    format!("It may go to {title}, but {} takes no connection: connects hang.", deaf.resource)
                }
                None => format!(
                    "It may go to {title}, but nobody of the template is there: connects hang until something is attached."
                ),
            },
            Path::Barred(limit @ LimitId::SubnetAddresses, resource) => {
                format!(
                    "It does not reach {title}: {limit} of {resource}. Its interface finds no address there."
                )
            }
            Path::Barred(limit, resource) => {
                format!("It does not reach {title}: {limit} of {resource}. Connects hang: nobody answers.")
            }
        }
    }

    /// A function without a VPC.
    fn outside(&self, name: &str, to: &Destination, as_json: bool) -> (String, bool) {
        let found = to.host.as_ref().and_then(|id| self.network.hosts.iter().find(|host| host.name == *id));
        let barred = found.and_then(|host| {
            let (protocol, port) = match to.protocol {
                Transport::Tcp => (TCP, to.port),
                Transport::Udp => (UDP, to.port),
                Transport::Icmp => (ICMP, ECHO),
            };
            let (limit, who) = self.network.bars_without_vpc(host.address.into(), protocol, port)?;
            Some((host, limit, who))
        });
        let private = to.private().filter(|_| barred.is_none());
        let verdict = match &barred {
            None if let Some(private) = private => format!(
                "{name} is in no VPC and reaches nobody: {private} is of a range that the internet does not carry. Connects hang \
                 until something is attached there."
            ),
            None => {
                format!("{name} is in no VPC: it goes straight to {}, past every limit of a VPC.", to.title)
            }
            Some((host, limit, _)) if !host.public => format!(
                "{name} is in no VPC and does not reach {}, which has an address in one alone ({limit}). Connects hang: \
                 nobody answers.",
                host.name
            ),
            Some((host, limit, who)) => format!(
                "{name} is in no VPC and does not reach {} over the internet: {limit} of {who}. Connects hang: nobody answers.",
                host.name
            ),
        };
        let cure =
            barred.as_ref().map(|_| format!("give {name} a VpcConfig with subnets and security groups"));
        let arrives = barred.is_none() && private.is_none();
        let limit = barred.as_ref().map(|(_, limit, _)| *limit);
        (alone(name, to, &verdict, (limit, cure), arrives, as_json), arrives)
    }

    fn json(&self, way: &Way) -> Value {
        let steps = way.explanation.steps.iter().zip(&way.used).map(|(step, used)| {
            json!({
                "what": step.what.to_string(), "resource": step.resource, "rule": step.rule,
                "decides": step.decides, "passes": step.passes, "now": used.map(Use::json),
            })
        });
        let (limit, resource) = match (&way.explanation.path, &way.full) {
            (Path::Barred(limit, resource), _) | (_, Some((limit, resource))) => {
                (Some(limit.as_str()), Some(resource))
            }
            _ => (None, None),
        };
        json!({
            "subnet": self.network.subnets[way.subnet].name, "name": way.name, "steps": steps.collect::<Vec<_>>(),
            "arrives": way.arrives(), "limit": limit, "resource": resource, "verdict": way.verdict,
            "cure": way.explanation.cure,
            "policy": way.policy.as_ref().map(|policy| json!({
                "endpoint": policy.endpoint, "statements": policy.statements, "refuses": policy.refuses,
            })),
        })
    }

    fn text(&self, function: &str, to: &Destination, protocol: Transport, ways: &[Way]) -> String {
        let port = if protocol == Transport::Icmp { String::new() } else { format!(":{}", to.port) };
        let mut text = format!("{function} -> {}{port} ({})\n", to.name(), protocol.as_str());
        let mut told: Vec<&Way> = Vec::new();
        for way in ways {
            let subnet = &self.network.subnets[way.subnet].name;
            // What is in use differs from interface to interface.
            let same = told
                .iter()
                .find(|other| other.verdict == way.verdict && way.used.iter().all(Option::is_none));
            if let Some(same) = same {
                let _ = write!(
                    text,
                    "\nThe same from {subnet} as from {}.\n",
                    self.network.subnets[same.subnet].name
                );
                continue;
            }
            text.push('\n');
            let width = |length: fn(&network::Step) -> usize| way.explanation.steps.iter().map(length).max();
            let resources = width(|step| step.resource.len()).unwrap_or(0);
            if let Some(name) = &way.name {
                let _ = writeln!(text, "    {:<14}  {name}", "name");
            }
            for (step, used) in way.explanation.steps.iter().zip(&way.used) {
                let mark = if step.passes { ' ' } else { 'x' };
                let _ = writeln!(
                    text,
                    "  {mark} {:<14}  {:<resources$}  {}",
                    step.what, step.resource, step.rule
                );
                if let Some(used) = used {
                    let _ = writeln!(text, "    {:<14}  {:<resources$}  {used}", "", "");
                }
            }
            for statement in way.policy.iter().flat_map(|policy| &policy.statements) {
                let statement = statement.trim_start_matches("policy: ");
                let _ = writeln!(text, "    {:<14}  {statement}", "policy");
            }
            let _ = writeln!(text, "\n{}", way.verdict);
            if let Some(policy) = &way.policy
                && let Some(why) = &policy.refuses
            {
                let endpoint = &policy.endpoint;
                let _ = writeln!(
                    text,
                    "AWS would answer AccessDenied there: the policy of {endpoint} refuses, {why}."
                );
            }
            if let Some(cure) = &way.explanation.cure {
                let _ = writeln!(text, "Cure: {cure}.");
            }
            told.push(way);
        }
        text
    }
}

impl Way {
    fn arrives(&self) -> bool {
        !self.lost
            && self.full.is_none()
            && !matches!(self.explanation.path, Path::Barred(..) | Path::Nothing)
    }
}

/// Whose connections a full limit counts, in words, with what happens, and what makes room.
fn room(limit: LimitId, resource: &str) -> (String, String) {
    match limit {
        LimitId::NatPorts => {
            (format!("of {resource} to it"), format!("more addresses for {resource}, or fewer connections"))
        }
        LimitId::EniConnections => (
            format!("of {resource}"),
            "one more subnet for the functions that share it, or fewer connections".to_owned(),
        ),
        _ => (format!("of {resource}"), format!("a larger class for {resource}, or fewer connections")),
    }
}

/// A verdict without steps, with the limit and the cure where there are.
fn alone(
    name: &str,
    to: &Destination,
    verdict: &str,
    (limit, cure): (Option<LimitId>, Option<String>),
    arrives: bool,
    as_json: bool,
) -> String {
    if as_json {
        let way = json!({
            "subnet": null, "arrives": arrives, "limit": limit, "verdict": verdict, "cure": cure, "steps": [],
        });
        let all = json!({
            "from": name, "to": to.title, "protocol": to.protocol.as_str(), "port": to.port, "arrives": arrives,
            "ways": [way],
        });
        return format!("{all:#}\n");
    }
    let cure = cure.map(|cure| format!("Cure: {cure}.\n")).unwrap_or_default();
    format!("{verdict}\n{cure}")
}

/// The port of the platform that was named, for the names of its doors.
fn port_of(endpoint: Option<&str>) -> u16 {
    let port = endpoint.and_then(|endpoint| endpoint.trim_end_matches('/').rsplit_once(':')?.1.parse().ok());
    port.unwrap_or(PORT)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod topology_tests;
