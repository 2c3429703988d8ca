//! What functions are told of names, and what stands at the addresses that they are told.

use crate::Stop;
use anyhow::Context as _;
use limits::Network;
use model::stack::Stack;
use model::{LimitId, LimitRow, Refusal};
use network::directory::{Directory, EndpointPort};
use network::fabric::{DnsReply, HeldReply, Opening, Question};
use network::relay::{self, Flow, Namespace, Outside, Relay};
use network::{Asker, Attachments, Book, Resolver, ServiceAddresses, Transport, Upstream, VpcNames};
use services::{Security, Services};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What the host's own resolvers are read from.
const RESOLVERS: &str = "/etc/resolv.conf";

/// What stands as the resource of its limits.
const RELAY: &str = "relay";

/// What answers are made of.
pub struct Ingredients<'a> {
    pub region: &'a str,
    pub stack: &'a Stack,
    pub network: &'a Network,
    pub attachments: &'a Attachments,
    pub services: &'a Arc<Services>,
    /// `--aws-passthrough`.
    pub passthrough: bool,
    /// Where the relay stands; without one, nothing attached is reached.
    pub namespace: Option<Namespace>,
}

/// What makes them again when the network changes.
#[derive(Debug)]
pub struct Renewing {
    region: String,
    attachments: Attachments,
    served: BTreeSet<String>,
    passthrough: bool,
    resolver: Arc<Resolver>,
    directory: Option<Arc<Directory>>,
}

impl Renewing {
    /// The names and the places of another network from now on. The destinations that lead to the relay.
    pub fn renew(&self, network: &Network, stack: &Stack) -> BTreeSet<(IpAddr, Option<u16>)> {
        self.resolver.set_book(Arc::new(self.book(network, stack)));
        let Some(directory) = &self.directory else { return BTreeSet::new() };
        for clash in directory.renew(network, stack, &self.attachments) {
            tracing::warn!("{clash}");
        }
        directory.relayed()
    }

    fn book(&self, network: &Network, stack: &Stack) -> Book {
        book((&self.region, &self.served, self.passthrough), network, stack, &self.attachments)
    }
}

fn book(
    (region, served, passthrough): (&str, &BTreeSet<String>, bool),
    network: &Network,
    stack: &Stack,
    attachments: &Attachments,
) -> Book {
    let addresses = ServiceAddresses::new(region, served.iter().cloned(), passthrough);
    let names = VpcNames::of_network(network, stack);
    Book::new(region, names, attachments, addresses).with_outside(VpcNames::outside(network))
}

/// The resolver and the relay.
pub struct Answers {
    renewing: Arc<Renewing>,
    resolver: Arc<Resolver>,
    relay: Option<Relay>,
    /// The packets' side of the relay.
    pub device: Option<OwnedFd>,
    /// Destinations that lead to the relay beside those that always do.
    pub relayed: BTreeSet<(IpAddr, Option<u16>)>,
}

/// The relay's namespace; without the right to make one, that is said. Early, since it forks.
pub fn namespace() -> Option<Namespace> {
    let made = Namespace::fork(sandbox::let_go_of_code);
    made.inspect_err(|error| {
        tracing::warn!("functions reach no attached server and no AWS endpoint: {error}");
    })
    .ok()
}

/// A relay whose every destination is the world, and its packets' side. Call inside the tokio runtime.
pub fn world() -> Result<(Relay, OwnedFd), Stop> {
    let namespace = Namespace::fork(sandbox::let_go_of_code).context("cannot make the world's relay")?;
    let device = namespace.device().try_clone_to_owned().context("no descriptor for the world's device")?;
    let outside = Outside::of_this_host().context("cannot list this host's own addresses")?;
    let relay = Relay::start(namespace, Arc::new(relay::Everywhere), outside)
        .context("cannot start the world's relay")?;
    Ok((relay, device))
}

fn host_limit(limit: LimitId, flow: Flow, (used, max): (u64, u64)) -> Refusal {
    let destination = Some(flow.destination.to_string().into());
    Refusal { limit, resource: RELAY.into(), destination, used, max, retry_at: None }
}

/// The ports that this host gives its own connections.
fn local_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    // The kernel's default.
    (words.next().unwrap_or(32_768), words.next().unwrap_or(60_999))
}

/// The relay's rows of the limits board, those of its limits that were ever in use.
pub fn rows(relay: &Relay, source: &Arc<str>) -> Vec<LimitRow> {
    let figures = relay.figures();
    let row = |id: LimitId, max, used, peak, refused| LimitRow {
        id,
        resource: RELAY.into(),
        max,
        used,
        peak,
        refused,
        first_refused_at: None,
        source: source.clone(),
        raisable: id.raisable(),
    };
    let mut rows = Vec::new();
    if figures.connections_peak > 0 {
        let (max, used, peak) = (figures.connections_max, figures.connections, figures.connections_peak);
        rows.push(row(LimitId::HostDescriptors, max, used, peak, figures.no_descriptors));
    }
    if figures.no_ports > 0 {
        let (first, last) = local_ports();
        let ports = u64::from(last.saturating_sub(first)) + 1;
        rows.push(row(LimitId::HostPorts, ports, 0, ports, figures.no_ports));
    }
    rows
}

impl Answers {
    /// The relay, if there is one.
    pub fn relay(&self) -> Option<Relay> {
        self.relay.clone()
    }

    /// Puts them together. Call inside the tokio runtime.
    pub fn start(from: Ingredients<'_>) -> Result<Self, Stop> {
        let Ingredients { region, stack, network, attachments, services, passthrough, namespace } = from;
        let served: BTreeSet<String> = services.names().collect();
        let book = book((region, &served, passthrough), network, stack, attachments);
        let resolver = Arc::new(Resolver::new(Arc::new(book), Upstream::of_file(RESOLVERS)));
        let renewing = Renewing {
            region: region.to_owned(),
            attachments: attachments.clone(),
            served: served.clone(),
            passthrough,
            resolver: resolver.clone(),
            directory: None,
        };
        let Some(namespace) = namespace else {
            let renewing = Arc::new(renewing);
            return Ok(Self { renewing, resolver, relay: None, device: None, relayed: BTreeSet::new() });
        };
        let device =
            namespace.device().try_clone_to_owned().context("no descriptor for the relay's device")?;
        let (runtime, taken) = (tokio::runtime::Handle::current(), services.clone());
        let endpoints = Arc::new(move |stream, port| {
            let security = match port {
                EndpointPort::Tls => Security::Tls,
                EndpointPort::Plain => Security::Plain,
            };
            runtime.spawn(taken.clone().serve(stream, security));
        });
        let directory = Directory::new(network, stack, attachments, resolver.clone(), (served, endpoints))
            .map_err(|clash| Stop::Usage(clash.to_string()))?;
        let directory = Arc::new(directory);
        let renewing = Arc::new(Renewing { directory: Some(directory.clone()), ..renewing });
        let relayed = directory.relayed();
        let outside = Outside::of_this_host().context("cannot list this host's own addresses")?;
        let relay = Relay::start(namespace, directory, outside).context("cannot start the relay")?;
        Ok(Self { renewing, resolver, relay: Some(relay), device: Some(device), relayed })
    }

    /// What makes names and places again when the network changes.
    pub fn renewing(&self) -> Arc<Renewing> {
        self.renewing.clone()
    }

    /// What knows the names of addresses.
    pub fn resolver(&self) -> Arc<Resolver> {
        self.resolver.clone()
    }

    /// Answers questions of environments.
    pub fn resolve(&self) -> Box<dyn Fn(Question, DnsReply) + Send> {
        let (runtime, resolver) = (tokio::runtime::Handle::current(), self.resolver.clone());
        Box::new(move |question, reply| {
            let resolver = resolver.clone();
            runtime.spawn(async move {
                let asker = Asker { vpc: question.vpc, dns64: question.dns64 };
                reply.send(resolver.answer(asker, &question.message, Transport::Udp).await);
            });
        })
    }

    /// Opens what environments connect to.
    pub fn ask(&self) -> Box<dyn Fn(Opening, HeldReply) + Send> {
        let Some(relay) = self.relay.clone() else { return Box::new(|_, reply| reply.refused()) };
        let runtime = tokio::runtime::Handle::current();
        let directory = self.renewing.directory.clone();
        Box::new(move |opening, reply| {
            let relay = relay.clone();
            let flow = Flow { source: opening.source, destination: opening.destination };
            let resolver = opening.asker.zip(directory.as_ref()).map(|(asker, found)| found.resolver(asker));
            runtime.spawn(async move {
                let opened = match resolver {
                    Some(resolver) => relay.connect_to(flow, resolver).await,
                    None => relay.connect(flow).await,
                };
                match opened {
                    relay::Opening::Opened => reply.open(),
                    relay::Opening::Refused => reply.refused(),
                    relay::Opening::Unreachable => reply.silent(),
                    relay::Opening::NoDescriptors => {
                        let figures = relay.figures();
                        reply.short(host_limit(
                            LimitId::HostDescriptors,
                            flow,
                            (figures.connections, figures.connections_max),
                        ));
                    }
                    relay::Opening::NoPorts => {
                        let (first, last) = local_ports();
                        let ports = u64::from(last.saturating_sub(first)) + 1;
                        reply.short(host_limit(LimitId::HostPorts, flow, (ports, ports)));
                    }
                }
            });
        })
    }
}
