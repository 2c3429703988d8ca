//! The VPC of a running platform: the template's network, the thread that carries packets, and the world.

mod called;
mod carrier;
mod flow_logs;
mod own_interfaces;
mod pages;

use crate::Stop;
pub use carrier::{Carrier, physical};

use super::answers::{self, Answers, Ingredients};
use anyhow::{Context as _, anyhow};
use flow_logs::FlowFiles;
use limits::{Network, NetworkSettings};
use model::stack::{Function, Stack};
use model::{LimitId, Overrides};
use network::fabric::{Fabric, Hooks, Notice, Setup};
use network::relay::{Namespace, Relay};
use network::world::{self, Keeper, Outside, World, WorldError};
use network::{Attachments, Resolver};
use own_interfaces::OwnInterfaces;
use packets::{Bandwidth, PacketEngine, PacketSettings};
use pages::Pages;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is wanted.
pub struct Wanted<'a> {
    /// The template, if there is one.
    pub stack: Option<&'a Stack>,
    pub region: &'a str,
    /// `--attach`.
    pub attachments: &'a Attachments,
    /// AWS's endpoints.
    pub services: &'a Arc<services::Services>,
    /// `--aws-passthrough`.
    pub passthrough: bool,
    /// Where the relay stands.
    pub namespace: Option<Namespace>,
    pub settings: NetworkSettings,
    /// `--limit`, for those of this host's.
    pub overrides: &'a Overrides,
    /// Environments' interfaces are pairs of devices, not TUN devices.
    pub pairs: bool,
    /// `--world` as it was given.
    pub world: Option<&'a str>,
    /// `--flow-logs`.
    pub flow_logs: Option<&'a Path>,
    /// Where the template's flow logs are, unless that says otherwise.
    pub flow_folder: PathBuf,
    /// Where changes of the host's settings are written down.
    pub state_dir: PathBuf,
    /// The moment that the engines' clock counts from.
    pub began: std::time::Instant,
}

/// A running network.
pub struct Vpc {
    pub carrier: Arc<Carrier>,
    pub pages: Arc<Pages>,
    /// What `up` says of it.
    pub summary: String,
    fabric: Fabric,
    /// Held for as long as the network is: the relay ends with its last handle.
    _answers: Answers,
    _world_relay: Option<Relay>,
    keeper: Option<Keeper>,
}

/// Which world: the one that was asked for, or what this user may have.
///
/// # Errors
/// There is no such world.
pub fn world(given: Option<&str>) -> Result<World, Stop> {
    match given {
        Some(text) => text.parse().map_err(|error| Stop::Usage(format!("--world: {error}"))),
        None if sandbox::is_root_of_all() => Ok(World::Host),
        None => Ok(World::Relay),
    }
}

impl Vpc {
    /// Starts the network. Call inside the tokio runtime.
    ///
    /// # Errors
    /// A world that was asked for by name cannot be opened, or the host has no thread or descriptor left.
    pub fn start(wanted: Wanted<'_>) -> Result<Self, Stop> {
        let Wanted { stack, region, mut settings, world: given, state_dir, began, .. } = wanted;
        settings.nat.first_port = random()? as u16;
        let world = world(given)?;
        world::restore_forwarding(&state_dir);
        let (outside, world_relay, said) = match world {
            World::Relay => by_relay(wanted.namespace.is_some(), given.is_some())?,
            _ => open(&world, given.is_some(), &state_dir).map(|(outside, said)| (outside, None, said))?,
        };
        let stack = stack.cloned().unwrap_or_default();
        let takes_ipv6 = |function: &Function| function.vpc.as_ref().is_some_and(|vpc| vpc.ipv6);
        if world == World::Host && outside.is_some() && stack.functions.iter().any(takes_ipv6) {
            let switch =
                std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap_or_default();
            if switch.trim() != "1" {
                tracing::warn!(
                    "functions reach nothing outside by IPv6: this host does not forward it; sysctl net.ipv6.conf.all.forwarding=1"
                );
            }
        }
        if world != World::Host && of_host(wanted.overrides, LimitId::HostPorts).is_some() {
            tracing::warn!(
                "--limit host.ports has no effect with --world {world}: only --world host goes through a masquerade"
            );
        }
        let mut network = Network::from_stack(&stack);
        network.service_names = network::names::service_names(region, wanted.attachments);
        tell_of_quotas(&network, &settings);
        let mut answers = Answers::start(Ingredients {
            region,
            stack: &stack,
            network: &network,
            attachments: wanted.attachments,
            services: wanted.services,
            passthrough: wanted.passthrough,
            namespace: wanted.namespace,
        })?;
        let resolver = answers.resolver();
        let own = network.attachments(&settings).map(|attachments| OwnInterfaces::new(attachments, began));
        let wired = network.wire(settings);
        carrier::without_room(wired.undeployed.iter().flatten());
        let carrier_network = network.clone();
        let shown = (network.gateways.len(), wired.connections.interfaces().unwrap_or(0));
        let packet_settings = PacketSettings {
            private_world: matches!(world, World::Namespace(_)),
            seed: [random()?, random()?],
            masquerade_ports: (world == World::Host).then(|| {
                let given = of_host(wanted.overrides, LimitId::HostPorts).unwrap_or(u32::MAX);
                given.min(world::MASQUERADE_PORTS)
            }),
            new_flows_max: of_host(wanted.overrides, LimitId::HostNewFlows),
            // This machine's speed is no limit of AWS's: only figures that were given bound it.
            bandwidth: Bandwidth {
                environment: wanted.overrides.get(LimitId::EnvironmentBandwidth),
                interface: wanted.overrides.get(LimitId::EniBandwidth),
                gateway: wanted.overrides.get(LimitId::NatBandwidth),
                gateway_packets: wanted.overrides.get(LimitId::NatPackets),
            },
            ..PacketSettings::default()
        };
        let flows_max = of_host(wanted.overrides, LimitId::HostFlows).unwrap_or(packet_settings.flows_max);
        let packet_settings = packet_settings.with_flows(flows_max);
        let files = FlowFiles::new(wanted.flow_logs, wanted.flow_folder, region);
        let setup = Setup {
            engine: PacketEngine::new(network, wired, packet_settings),
            began,
            flow_logs: files.open(&stack)?,
            world: outside,
            relay: answers.device.take(),
            relayed: std::mem::take(&mut answers.relayed),
            hooks: Hooks {
                resolve: answers.resolve(),
                ask: answers.ask(),
                notice: {
                    let resolver = resolver.clone();
                    Box::new(move |notice| say(&notice, &resolver))
                },
            },
            line: None,
        };
        let is_open = setup.world.is_some();
        let fabric = Fabric::start(setup).context("cannot start the network's thread")?;
        let keeper = match world {
            World::None | World::Relay => None,
            // A default that did not work is not tried again and again.
            _ if !is_open => None,
            _ => {
                let told = fabric.clone();
                let tell = move |outside| told.set_world(outside);
                Some(Keeper::start(world, is_open, state_dir, tell).context("cannot watch over the world")?)
            }
        };
        let (gateways, interfaces) = shown;
        let logged = files.said(&stack);
        Ok(Self {
            carrier: Arc::new(Carrier::new(
                fabric.clone(),
                stack,
                carrier_network,
                began,
                (resolver.clone(), answers.renewing()),
                own.clone(),
                files,
            )),
            pages: Arc::new(Pages::new(
                fabric.clone(),
                resolver,
                answers.relay(),
                own,
                wanted.overrides.clone(),
            )),
            summary: format!(
                "{}, {}{}; world: {said}{logged}",
                number_of(interfaces, "shared interface"),
                number_of(gateways as u64, "NAT gateway"),
                if wanted.pairs { ", packet sockets in place of TUN devices" } else { "" }
            ),
            fabric,
            _answers: answers,
            _world_relay: world_relay,
            keeper,
        })
    }

    /// Lets go of every device.
    pub fn end(self) {
        // First of all: it would miss the world, and change the host's settings once more.
        drop(self.keeper);
        self.fabric.end();
    }
}

/// Says what AWS refuses until it is asked for more, and runs here.
fn tell_of_quotas(network: &Network, settings: &NetworkSettings) {
    let quota = settings.nat_addresses;
    for gateway in network.gateways.iter().filter(|gateway| gateway.is_beyond(quota)) {
        let (name, addresses) = (&gateway.name, gateway.addresses);
        tracing::warn!(
            "{name} has {addresses} addresses, which all serve; AWS gives {quota} until it is asked for more (nat.addresses)"
        );
    }
}

/// The world, and what is said of it. A default that cannot be had is said, never an error.
fn open(world: &World, asked_for: bool, state_dir: &Path) -> Result<(Option<Outside>, String), Stop> {
    match world.open(state_dir) {
        Ok(Some(outside)) => {
            for warning in &outside.warnings {
                tracing::warn!("{warning}");
            }
            Ok((Some(outside), world.to_string()))
        }
        Ok(None) if asked_for => Ok((None, "none".to_owned())),
        Ok(None) => Ok((None, "none (only root may forward; see --world)".to_owned())),
        Err(error) => {
            let cure = cure(world, &error);
            if asked_for {
                return Err(Stop::Failed(anyhow!("--world {world}: {error}{cure}")));
            }
            let error = format!("{error}{cure}");
            tracing::warn!(%world, %error, "functions reach nothing outside");
            Ok((None, format!("none ({error})")))
        }
    }
}

/// The way out where the host's kernel may not be used, or another run uses it.
fn cure(world: &World, error: &WorldError) -> &'static str {
    match (world, error) {
        (World::Host, WorldError::Taken { .. }) => "; beside it start with --world relay",
        (World::Host, WorldError::Kernel { error, .. })
            if error.kind() == io::ErrorKind::PermissionDenied =>
        {
            "; only root may forward: take --world relay"
        }
        _ => "",
    }
}

/// A relay of its own as the world: for users who may not forward. `possible`: this host lets namespaces be made.
fn by_relay(possible: bool, asked_for: bool) -> Result<(Option<Outside>, Option<Relay>, String), Stop> {
    let made = if possible { answers::world().map(Some) } else { Ok(None) };
    match made {
        Ok(Some((relay, device))) => {
            Ok((Some(Outside::behind(device)), Some(relay), World::Relay.to_string()))
        }
        Ok(None) if asked_for => Err(Stop::Failed(anyhow!("--world relay: no relay can be made here"))),
        Ok(None) => Ok((None, None, "none (no relay can be made here)".to_owned())),
        Err(error) if asked_for => Err(error),
        Err(_) => Ok((None, None, "none (no relay can be made here)".to_owned())),
    }
}

fn number_of(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A limit of this host's that was given.
fn of_host(overrides: &Overrides, limit: LimitId) -> Option<u32> {
    overrides.get(limit).map(|figure| u32::try_from(figure).unwrap_or(u32::MAX))
}

fn random() -> Result<u64, Stop> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no randomness: {error}"))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A dropped packet in the platform's own log.
fn say(notice: &Notice, resolver: &Resolver) {
    let Notice { refusal, function, what, source, destination, times } = notice;
    let model::Refusal { limit, resource, used, max, .. } = refusal;
    let name =
        called::name_of_end(resolver, *destination).map(|name| format!(" ({name})")).unwrap_or_default();
    tracing::info!(%limit, %resource, used, max, %function, times, "dropped {what} {source} -> {destination}{name}");
}
