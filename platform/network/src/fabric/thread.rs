//! The thread's life: wait, carry packets, obey commands, meet deadlines.

mod passing;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use limits::dns;
use limits::eni::InterfaceId;
use limits::nat::GatewayId;
use model::{Instant, Refusal};
use netdev::device::Device;
use netdev::ring::Ring;
use packets::{
    Attachment, BadLine, EnvironmentId, Event, Offload, PacketEngine, Place, Port, Prepared, craft,
};
use rustix::event::epoll;

use super::alarm::Alarm;
use super::batch::Batch;
use super::board::{Board, DESTINATIONS_MAX, Gateway, Sharing};
use super::capture::{CAPTURES_MAX, Viewer};
use super::command::{Command, Inbox, Reached, Sender, Shortage};
use super::flow_logs::FlowLogs;
use super::frame::Frame;
use super::notice::{Blame, Notice, Notices};
use super::patience::Patience;
use super::{Attached, Hooks, Joining, Opening, Setup};
use crate::world::Outside;

/// Devices that are served between two looks at the clock.
const EVENTS_MAX: usize = 64;
/// Commands obeyed between two rounds of packets.
const COMMANDS_MAX: usize = 256;
/// Pause after a panic, so that one that repeats does not burn a core.
const AFTER_PANIC: Duration = Duration::from_millis(1);
const BELL: u64 = 0;
const WORLD: u64 = 1;
const RELAY: u64 = 2;
const ALARM: u64 = 3;
const HOST_NETWORKS: u64 = 4;
/// Tokens of environments begin here.
const FIRST: u64 = 5;

/// An environment, as the thread knows it.
struct Slot {
    attached: Attached,
    id: EnvironmentId,
    device: Device,
    function: Arc<str>,
    place: Option<Place>,
    vpc: Option<usize>,
    interface: Option<(InterfaceId, Arc<str>)>,
    blame: Arc<Blame>,
}

/// Why a packet was lost outside the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    NoWorld,
    NoRelay,
    HostNetwork,
    NoRoom,
    Gone,
    Questions,
}

impl Lost {
    const fn word(self) -> &'static str {
        match self {
            Self::NoWorld => "no-world",
            Self::NoRelay => "no-relay",
            Self::HostNetwork => "host-network",
            Self::NoRoom => "no-room",
            Self::Gone => "gone",
            Self::Questions => "open-questions",
        }
    }
}

/// What a turn came to.
#[derive(PartialEq, Eq)]
enum Turn {
    Again,
    End,
}

pub(super) struct Thread {
    engine: PacketEngine,
    began: std::time::Instant,
    world: Option<Outside>,
    relay: Option<Device>,
    hooks: Hooks,
    commands: Sender,
    inbox: Inbox,
    epoll: OwnedFd,
    alarm: Alarm,
    /// Tokens of what is ready.
    ready: Vec<u64>,
    /// Packets that were read.
    batch: Batch,
    /// What is known of them ahead.
    prepared: Vec<(Prepared, Offload)>,
    /// Of those that were read, the ones that go on as they are, and where.
    waiting: Vec<(Port, usize)>,
    /// What writes many of them at once, if the kernel has it for us.
    ring: Option<Ring>,
    /// A packet of our own.
    frame: Frame,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_attached: HashMap<Attached, usize>,
    /// Indices of slots, by those of the engine's environments.
    by_id: Vec<usize>,
    resolver: dns::Resolver,
    resolver_source: Arc<str>,
    open_questions: Arc<()>,
    notices: Notices,
    viewers: Vec<Viewer>,
    flow_logs: FlowLogs,
    lost: BTreeMap<Lost, u64>,
    /// A bad line to the world.
    line: Option<BadLine>,
    patience: Patience,
    /// It was told to end: for good, even if a bug of ours comes between.
    is_over: bool,
}

/// The engine's time.
pub(super) fn since(began: std::time::Instant) -> Instant {
    Instant::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

impl Thread {
    pub fn new(setup: Setup, commands: Sender, inbox: Inbox) -> io::Result<Self> {
        let Setup { mut engine, began, flow_logs, world, relay, relayed, hooks, line } = setup;
        let flow_logs = FlowLogs::new(flow_logs, began);
        engine.keep_flow_records(flow_logs.are_wanted());
        engine.set_relayed(relayed);
        let resolver = engine.wired().connections.settings().traffic.resolver.clone();
        let (packets, resolver_source) = resolver.unwrap_or((u32::MAX, "no limit".into()));
        let thread = Self {
            engine,
            began,
            world: None,
            relay: None,
            hooks,
            commands,
            inbox,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            alarm: Alarm::new()?,
            ready: Vec::with_capacity(EVENTS_MAX),
            batch: Batch::default(),
            prepared: Vec::new(),
            waiting: Vec::new(),
            ring: Ring::new().ok(),
            frame: Frame::default(),
            slots: Vec::new(),
            free: Vec::new(),
            by_attached: HashMap::new(),
            by_id: Vec::new(),
            resolver: dns::Resolver::new(packets),
            resolver_source,
            open_questions: Arc::new(()),
            notices: Notices::default(),
            viewers: Vec::new(),
            flow_logs,
            lost: BTreeMap::new(),
            line: line.map(BadLine::new),
            patience: Patience::default(),
            is_over: false,
        };
        thread.watch(&thread.inbox.bell, BELL)?;
        thread.watch(&thread.alarm, ALARM)?;
        let mut thread = thread;
        thread.set_world(world);
        if let Some(relay) = relay {
            thread.watch(&relay, RELAY)?;
            thread.relay = Some(relay.into());
        }
        Ok(thread)
    }

    /// Until it is told to end. A packet that makes somebody panic is lost, and nothing else.
    pub fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Turn::Again) => {}
                Ok(Turn::End) => return,
                Err(_) if self.is_over => return,
                Err(_) => {
                    tracing::error!("the network's thread met a bug of ours; a packet is lost");
                    std::thread::sleep(AFTER_PANIC);
                }
            }
        }
    }

    fn turn(&mut self) -> Turn {
        self.wait();
        let now = since(self.began);
        let mut turn = Turn::Again;
        let mut ready = std::mem::take(&mut self.ready);
        for token in ready.drain(..) {
            match token {
                BELL => {
                    self.inbox.bell.silence();
                    if self.obey(now) == Turn::End {
                        turn = Turn::End;
                    }
                }
                ALARM => self.alarm.silence(),
                HOST_NETWORKS => self.renew_host_networks(),
                WORLD => self.serve(now, Port::World, WORLD),
                RELAY => self.serve(now, Port::Relay, RELAY),
                token => {
                    // It may have left in this very turn.
                    if let Some(id) = slot(&self.slots, token).map(|slot| slot.id) {
                        self.serve(now, Port::Environment(id), token);
                    }
                }
            }
        }
        self.ready = ready;
        if self.engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.engine.advance(now);
        }
        self.tell(now);
        self.flow_logs.write(&mut self.engine, now, turn == Turn::End);
        turn
    }

    /// Does what was asked. Rings again for what is left.
    fn obey(&mut self, now: Instant) -> Turn {
        for _ in 0..COMMANDS_MAX {
            let Ok(command) = self.inbox.queue.try_recv() else { return Turn::Again };
            match *command {
                Command::Attach(attached, joining) => self.attach(now, attached, *joining),
                Command::Detach(attached) => self.detach(now, attached),
                Command::World(outside) => self.set_world(outside.map(|outside| *outside)),
                Command::Relayed(relayed) => self.engine.set_relayed(relayed),
                Command::Engine(act) => {
                    act(&mut self.engine, now);
                    // It may have other addresses now.
                    for Viewer { interface, addresses, .. } in &mut self.viewers {
                        *addresses = self.engine.network().addresses_behind(interface);
                    }
                }
                Command::FlowLogs(logging) => self.flow_logs.set(&mut self.engine, now, *logging),
                Command::Board(sender) => {
                    let _ = sender.send(self.board(now));
                }
                Command::Capture(mut viewer) => {
                    self.viewers.retain(Viewer::looks);
                    if self.viewers.len() < CAPTURES_MAX {
                        viewer.addresses = self.engine.network().addresses_behind(&viewer.interface);
                        self.viewers.push(viewer);
                    }
                }
                Command::Answered { asker, from, to, message } => {
                    if let Some(packet) = craft::datagram(from, to, &message) {
                        self.send_packet(Port::Environment(asker), &packet);
                    }
                }
                Command::Held(held, reached) => self.release(now, held, reached),
                Command::Short(held, shortage) => self.short(now, held, *shortage),
                Command::End => {
                    self.is_over = true;
                    return Turn::End;
                }
            }
        }
        self.inbox.bell.ring();
        Turn::Again
    }

    fn release(&mut self, now: Instant, held: packets::HeldId, reached: Reached) {
        let sent = match reached {
            Reached::Open => self.engine.held_opened(now, held),
            Reached::Refused => self.engine.held_refused(now, held).map(|port| (port, Offload::default())),
            Reached::Silent => {
                self.engine.held_failed(now, held);
                None
            }
        };
        if let Some((port, offload)) = sent {
            self.send_own(port, offload);
        }
    }

    /// A limit of this host's stands where the function waits.
    fn short(&mut self, now: Instant, held: packets::HeldId, shortage: Shortage) {
        self.engine.held_failed(now, held);
        let Shortage { asker, opening: Opening { source, destination, .. }, refusal } = shortage;
        let Port::Environment(environment) = asker else { return };
        self.blame(now, environment, ("SYN", source, destination), refusal);
    }

    /// Notes a refusal for the invocation, and tells it unless it was told just now.
    fn blame(
        &mut self,
        now: Instant,
        environment: EnvironmentId,
        (what, source, destination): (&'static str, SocketAddr, SocketAddr),
        refusal: Refusal,
    ) {
        let slot = self.index_of(environment).and_then(|index| self.slots[index].as_ref());
        if let Some(slot) = slot {
            slot.blame.put(now, &refusal);
        }
        if let Some(times) = self.notices.due(now, &refusal) {
            let function = slot.map_or_else(|| "?".into(), |slot| slot.function.clone());
            (self.hooks.notice)(Notice { refusal, function, what, source, destination, times });
        }
    }

    fn attach(&mut self, now: Instant, attached: Attached, joining: Joining) {
        let Joining { device, address, address6, place, vpc, resolver, function, blame } = joining;
        let Some(id) = self.engine.attach(now, Attachment { address, address6, place, resolver }) else {
            tracing::error!(%function, "an environment has no place in the network and stays without one");
            return;
        };
        let wired = self.engine.wired();
        let interface =
            place.and_then(|place| wired.interfaces.get(place.function)?.get(place.choice).copied());
        let interface = interface.and_then(|id| {
            let (name, _) = wired.connections.counts().nth(id.index())?;
            Some((id, name.clone()))
        });
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Err(error) = self.watch(&device, index as u64 + FIRST) {
            tracing::error!(%error, limit = "host.descriptors", %function, "an environment's network cannot be watched");
        }
        self.resolver.reset(u32::try_from(index).unwrap_or(u32::MAX));
        self.by_attached.insert(attached, index);
        if self.by_id.len() <= id.index() {
            self.by_id.resize(id.index() + 1, usize::MAX);
        }
        self.by_id[id.index()] = index;
        let device = device.into();
        self.slots[index] = Some(Slot { attached, id, device, function, place, vpc, interface, blame });
    }

    fn detach(&mut self, now: Instant, attached: Attached) {
        let Some(index) = self.by_attached.remove(&attached) else { return };
        let Some(slot) = self.slots[index].take() else { return };
        debug_assert_eq!(slot.attached, attached);
        // Before it is closed: others may hold the device open too, and then it would stay in the set.
        let _ = epoll::delete(&self.epoll, &slot.device);
        self.engine.detach(now, slot.id);
        self.free.push(index);
    }

    /// Where an environment is, while it is attached.
    fn index_of(&self, id: EnvironmentId) -> Option<usize> {
        let index = *self.by_id.get(id.index())?;
        self.slots.get(index)?.as_ref().filter(|slot| slot.id == id).map(|_| index)
    }

    fn set_world(&mut self, outside: Option<Outside>) {
        if let Some(old) = self.world.take() {
            let _ = epoll::delete(&self.epoll, &old.device);
            if let Some(refused) = &old.refused {
                let _ = epoll::delete(&self.epoll, refused);
            }
            // Closing a device that does not persist takes the kernel 16 ms, and packets would wait.
            let closing = std::thread::Builder::new().name("world-closing".into());
            drop(closing.spawn(move || drop(old)));
        }
        if let Some(new) = outside {
            let networks = new.refused.as_ref().map_or(Ok(()), |refused| self.watch(refused, HOST_NETWORKS));
            match networks.and_then(|()| self.watch(&new.device, WORLD)) {
                Ok(()) => self.world = Some(new),
                Err(error) => tracing::error!(%error, "the world cannot be watched"),
            }
        }
    }

    /// The host has other addresses now.
    fn renew_host_networks(&mut self) {
        if let Some(refused) = self.world.as_mut().and_then(|world| world.refused.as_mut())
            && let Err(error) = refused.renew()
        {
            tracing::error!(%error, "cannot list the host's networks; those that it had before stay out of reach");
        }
    }

    /// Hands on what the engine has to tell.
    fn tell(&mut self, now: Instant) {
        while let Some(event) = self.engine.take_event() {
            let Event::Refused { environment, protocol, source, destination, refusal, .. } = event;
            let what = match i32::from(protocol) {
                libc::IPPROTO_TCP => "SYN",
                libc::IPPROTO_UDP => "UDP",
                libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => "ICMP",
                _ => "packet",
            };
            self.blame(now, environment, (what, source, destination), refusal);
        }
    }

    fn board(&mut self, now: Instant) -> Board {
        self.engine.advance(now);
        let mut rows = self.engine.board();
        let resolver = self.resolver.row(now, &self.resolver_source);
        if resolver.peak > 0 {
            rows.push(resolver);
        }
        let mut shared: BTreeMap<Arc<str>, BTreeMap<Arc<str>, u32>> = BTreeMap::new();
        for slot in self.slots.iter().flatten() {
            if let Some((_, name)) = &slot.interface {
                *shared.entry(name.clone()).or_default().entry(slot.function.clone()).or_default() += 1;
            }
        }
        let connections = &self.engine.wired().connections;
        let is_shared = connections.interfaces().is_some();
        let interfaces = connections.shared().filter(|_| is_shared).map(|(name, connections)| Sharing {
            interface: name.clone(),
            connections,
            functions: shared.remove(name).unwrap_or_default(),
        });
        let interfaces = interfaces.collect();
        let names: Vec<Arc<str>> =
            self.engine.network().gateways.iter().map(|gateway| gateway.name.as_str().into()).collect();
        let gateways = names.into_iter().enumerate().filter_map(|(index, name)| {
            let metrics = self.engine.metrics(now, index)?;
            let id = GatewayId::of(u32::try_from(index).ok()?);
            if !self.engine.wired().connections.is_shown(id) {
                return None;
            }
            let destinations = self.engine.wired().connections.busiest(id, DESTINATIONS_MAX);
            Some(Gateway { name, metrics, destinations })
        });
        let gateways = gateways.collect();
        let mut dropped: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (reason, count) in self.engine.dropped() {
            *dropped.entry(reason.as_str()).or_default() += count;
        }
        for (why, count) in &self.lost {
            *dropped.entry(why.word()).or_default() += count;
        }
        let environments = self.by_attached.len();
        let network = self.engine.network();
        let others = network.interfaces_of_others().filter_map(|of| Some(network.interface_place(of)?.name));
        let others = others.collect();
        Board { rows, interfaces, others, gateways, environments, flows: self.engine.flows(), dropped }
    }
}

/// The environment with that token.
fn slot(slots: &[Option<Slot>], token: u64) -> Option<&Slot> {
    slots.get(usize::try_from(token.checked_sub(FIRST)?).ok()?)?.as_ref()
}
