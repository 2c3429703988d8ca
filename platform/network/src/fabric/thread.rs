//! The thread's life: wait, read packets in batches, ask the engine, write; between them, commands and deadlines.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use limits::dns;
use limits::eni::InterfaceId;
use limits::nat::GatewayId;
use model::Instant;
use packets::{Attachment, EnvironmentId, Event, Offload, Packet, PacketEngine, Place, Port, Verdict, craft};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use super::board::{Board, DESTINATIONS_MAX, Gateway, Sharing};
use super::capture::Viewer;
use super::command::{Command, DnsReply, HeldReply, Inbox, Reached, Sender};
use super::device::{self, Read, Written};
use super::flow_logs::FlowLogs;
use super::frame::Frame;
use super::notice::{Blame, Notice, Notices};
use super::patience::{POLL, Patience};
use super::{Attached, Hooks, Joining, Opening, Question, Setup};
use crate::world::{self, Outside};

/// Packets read from one device before the next has its turn.
const BATCH: usize = 64;
/// Devices that are served between two looks at the clock.
const EVENTS_MAX: usize = 64;
/// Commands obeyed between two rounds of packets.
const COMMANDS_MAX: usize = 256;
/// Questions that the resolver works at, at once; beyond it they are dropped, and asked again.
const OPEN_QUESTIONS_MAX: usize = 1_024;
/// Longest DNS message over UDP that is taken for a question.
const QUESTION_BYTES_MAX: usize = 4_096;
/// Viewers of packets at once.
const VIEWERS_MAX: usize = 16;
/// Pause after a panic, so that one that repeats does not burn a core.
const AFTER_PANIC: Duration = Duration::from_millis(1);
const BELL: u64 = 0;
const WORLD: u64 = 1;
const RELAY: u64 = 2;
/// Tokens of environments begin here.
const FIRST: u64 = 3;

/// An environment, as the thread knows it.
struct Slot {
    attached: Attached,
    id: EnvironmentId,
    device: OwnedFd,
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
    relay: Option<OwnedFd>,
    hooks: Hooks,
    commands: Sender,
    inbox: Inbox,
    epoll: OwnedFd,
    /// Tokens of what is ready.
    ready: Vec<u64>,
    frame: Frame,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_attached: HashMap<Attached, usize>,
    by_id: HashMap<EnvironmentId, usize>,
    resolver: dns::Resolver,
    resolver_source: Arc<str>,
    open_questions: Arc<()>,
    notices: Notices,
    viewers: Vec<Viewer>,
    flow_logs: FlowLogs,
    lost: BTreeMap<Lost, u64>,
    patience: Patience,
}

/// The engine's time.
pub(super) fn since(began: std::time::Instant) -> Instant {
    Instant::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

impl Thread {
    pub fn new(setup: Setup, commands: Sender, inbox: Inbox) -> io::Result<Self> {
        let Setup { mut engine, began, account, world, relay, relayed, mut hooks } = setup;
        let flow_logs = FlowLogs::new(hooks.flow_log.take(), account, began);
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
            ready: Vec::with_capacity(EVENTS_MAX),
            frame: Frame::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_attached: HashMap::new(),
            by_id: HashMap::new(),
            resolver: dns::Resolver::new(packets),
            resolver_source,
            open_questions: Arc::new(()),
            notices: Notices::default(),
            viewers: Vec::new(),
            flow_logs,
            lost: BTreeMap::new(),
            patience: Patience::default(),
        };
        thread.watch(&thread.inbox.bell, BELL)?;
        let mut thread = thread;
        thread.set_world(world);
        if let Some(relay) = relay {
            thread.watch(&relay, RELAY)?;
            thread.relay = Some(relay);
        }
        Ok(thread)
    }

    /// Until it is told to end. A packet that makes somebody panic is lost, and nothing else.
    pub fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Turn::Again) => {}
                Ok(Turn::End) => return,
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

    /// Waits for packets, commands or the next deadline; polls first while packets come quickly.
    fn wait(&mut self) {
        let began = std::time::Instant::now();
        if self.patience.polls() {
            loop {
                if self.look(Some(Duration::ZERO)) {
                    return self.patience.waited(began.elapsed());
                }
                if began.elapsed() >= POLL {
                    break;
                }
                std::thread::yield_now();
            }
            self.patience.missed();
        }
        let deadlines = [self.engine.next_deadline(), self.flow_logs.next_deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = deadline.map(|deadline| deadline.since(since(self.began)));
        // A millisecond is as fine as epoll counts; rounding up, it never wakes too early in vain.
        if self.look(timeout.map(|timeout| timeout + Duration::from_millis(1))) {
            self.patience.waited(began.elapsed());
        }
    }

    /// Whether something is ready.
    fn look(&mut self, timeout: Option<Duration>) -> bool {
        self.ready.clear();
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs().min(3_600)).unwrap_or(3_600),
            tv_nsec: i64::from(timeout.subsec_millis()) * 1_000_000,
        });
        let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(BELL) };
        let mut events = [nothing; EVENTS_MAX];
        // Interrupted is as good as nothing.
        let count = epoll::wait(&self.epoll, &mut events, timeout.as_ref()).unwrap_or(0);
        self.ready.extend(events[..count].iter().map(|event| event.data.u64()));
        count > 0
    }

    fn watch(&self, descriptor: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Carries what waits at one device.
    fn serve(&mut self, now: Instant, from: Port, token: u64) {
        for _ in 0..BATCH {
            let device = match from {
                Port::World => self.world.as_ref().map(|world| &world.device),
                Port::Relay => self.relay.as_ref(),
                Port::Environment(_) => slot(&self.slots, token).map(|slot| &slot.device),
            };
            let Some(device) = device else { return };
            match device::read(device, &mut self.frame) {
                Read::Packet => self.carry(now, from, token),
                Read::Nonsense => {}
                Read::Nothing => return,
                Read::Gone => return self.device_gone(from, token),
            }
        }
    }

    /// The device answers with errors: others removed it, or its namespace.
    fn device_gone(&mut self, from: Port, token: u64) {
        match from {
            Port::World => self.set_world(None),
            Port::Relay => {
                if let Some(relay) = self.relay.take() {
                    let _ = epoll::delete(&self.epoll, &relay);
                    tracing::error!("the relay is gone; what is attached cannot be reached any more");
                }
            }
            Port::Environment(_) => {
                if let Some(slot) = slot(&self.slots, token) {
                    let _ = epoll::delete(&self.epoll, &slot.device);
                    tracing::warn!(function = %slot.function, "an environment's network device is gone");
                }
            }
        }
    }

    /// One packet, which is in the frame.
    fn carry(&mut self, now: Instant, from: Port, token: u64) {
        if !self.viewers.is_empty() && token >= FIRST {
            self.show(token);
        }
        let offload = self.frame.offload();
        let packet = Packet { bytes: self.frame.packet_mut(), offload };
        match self.engine.receive(now, from, packet) {
            Verdict::Forward(to) => self.send(to),
            Verdict::Answer => {
                self.frame.put(self.engine.answer(), Offload::default());
                self.send(from);
            }
            Verdict::Resolve { payload } => self.resolve(now, from, token, payload),
            Verdict::Ask { held, source, destination } => {
                let reply = HeldReply { commands: self.commands.clone(), held: Some(held) };
                (self.hooks.ask)(Opening { source, destination }, reply);
            }
            // Counted by the engine.
            Verdict::Drop(_) => {}
        }
    }

    /// Writes the frame where it goes.
    fn send(&mut self, to: Port) {
        let (written, token) = match to {
            Port::World => match &self.world {
                None => return self.lose(Lost::NoWorld),
                Some(world) => {
                    let packet = self.frame.packet();
                    if !world.refused.is_empty()
                        && destination(packet).is_none_or(|to| world::is_in(&world.refused, to))
                    {
                        return self.lose(Lost::HostNetwork);
                    }
                    (device::write(&world.device, &self.frame), WORLD)
                }
            },
            Port::Relay => match &self.relay {
                None => return self.lose(Lost::NoRelay),
                Some(relay) => (device::write(relay, &self.frame), RELAY),
            },
            Port::Environment(id) => {
                let Some(index) = self.by_id.get(&id).copied() else { return self.lose(Lost::Gone) };
                let token = index as u64 + FIRST;
                if !self.viewers.is_empty() {
                    self.show(token);
                }
                let Some(slot) = &self.slots[index] else { return self.lose(Lost::Gone) };
                (device::write(&slot.device, &self.frame), token)
            }
        };
        match written {
            Written::Whole => {}
            Written::Lost => self.lose(Lost::NoRoom),
            Written::Gone => {
                self.lose(Lost::Gone);
                self.device_gone(to, token);
            }
        }
    }

    fn lose(&mut self, why: Lost) {
        *self.lost.entry(why).or_default() += 1;
    }

    /// Copies the frame's packet for those who look at its environment's interface.
    fn show(&mut self, token: u64) {
        let Some(slot) = slot(&self.slots, token) else { return };
        let Some((_, name)) = &slot.interface else { return };
        let packet = self.frame.packet();
        self.viewers.retain(|viewer| *viewer.interface != **name || viewer.show(packet));
    }

    /// A question to the resolver: within the interface's packets a second, and not too many at once.
    fn resolve(&mut self, now: Instant, from: Port, token: u64, payload: std::ops::Range<usize>) {
        let Port::Environment(asker) = from else { return };
        let Some(slot) = slot(&self.slots, token) else { return };
        let packet = self.frame.packet();
        let Some((source, destination)) = ends(packet, payload.start) else { return };
        let index = u32::try_from(token - FIRST).unwrap_or(u32::MAX);
        if let Some(refusal) = self.resolver.packet(now, index) {
            slot.blame.put(now, &refusal);
            let function = slot.function.clone();
            if let Some(times) = self.notices.due(now, &refusal) {
                (self.hooks.notice)(Notice {
                    refusal,
                    function,
                    what: "a question",
                    source,
                    destination,
                    times,
                });
            }
            return;
        }
        let Some(message) = packet.get(payload).filter(|message| message.len() <= QUESTION_BYTES_MAX) else {
            return;
        };
        if Arc::strong_count(&self.open_questions) > OPEN_QUESTIONS_MAX {
            return self.lose(Lost::Questions);
        }
        let question = Question { place: slot.place, vpc: slot.vpc, message: message.to_vec() };
        let (commands, open) = (self.commands.clone(), self.open_questions.clone());
        let reply = DnsReply { commands, asker, from: destination, to: source, _open: open };
        (self.hooks.resolve)(question, reply);
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
                Command::Engine(act) => act(&mut self.engine, now),
                Command::Board(sender) => {
                    let _ = sender.send(self.board(now));
                }
                Command::Capture(interface, packets) => {
                    if self.viewers.len() < VIEWERS_MAX {
                        self.viewers.push(Viewer { interface, packets });
                    }
                }
                Command::Answered { asker, from, to, message } => {
                    if let Some(packet) = craft::datagram(from, to, &message) {
                        self.frame.put(&packet, Offload::default());
                        self.send(Port::Environment(asker));
                    }
                }
                Command::Held(held, reached) => self.release(now, held, reached),
                Command::End => return Turn::End,
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
            self.frame.put(self.engine.answer(), offload);
            self.send(port);
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
        self.by_id.insert(id, index);
        self.slots[index] = Some(Slot { attached, id, device, function, place, vpc, interface, blame });
    }

    fn detach(&mut self, now: Instant, attached: Attached) {
        let Some(index) = self.by_attached.remove(&attached) else { return };
        let Some(slot) = self.slots[index].take() else { return };
        debug_assert_eq!(slot.attached, attached);
        // Before it is closed: others may hold the device open too, and then it would stay in the set.
        let _ = epoll::delete(&self.epoll, &slot.device);
        self.engine.detach(now, slot.id);
        self.by_id.remove(&slot.id);
        self.free.push(index);
    }

    fn set_world(&mut self, outside: Option<Outside>) {
        if let Some(old) = self.world.take() {
            let _ = epoll::delete(&self.epoll, &old.device);
            // Closing a device that does not persist takes the kernel 16 ms, and packets would wait.
            let closing = std::thread::Builder::new().name("world-closing".into());
            drop(closing.spawn(move || drop(old)));
        }
        if let Some(new) = outside {
            match self.watch(&new.device, WORLD) {
                Ok(()) => self.world = Some(new),
                Err(error) => tracing::error!(%error, "the world cannot be watched"),
            }
        }
    }

    /// Hands on what the engine has to tell.
    fn tell(&mut self, now: Instant) {
        while let Some(event) = self.engine.take_event() {
            let Event::Refused { environment, protocol, source, destination, refusal, .. } = event;
            let slot = self.by_id.get(&environment).and_then(|index| self.slots[*index].as_ref());
            if let Some(slot) = slot {
                slot.blame.put(now, &refusal);
            }
            if let Some(times) = self.notices.due(now, &refusal) {
                let function = slot.map_or_else(|| "?".into(), |slot| slot.function.clone());
                let what = match i32::from(protocol) {
                    libc::IPPROTO_TCP => "SYN",
                    libc::IPPROTO_UDP => "UDP",
                    libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => "ICMP",
                    _ => "packet",
                };
                (self.hooks.notice)(Notice { refusal, function, what, source, destination, times });
            }
        }
    }

    fn board(&mut self, now: Instant) -> Board {
        self.engine.advance(now);
        let mut rows = self.engine.board();
        let resolver = self.resolver.row(now, &self.resolver_source);
        if resolver.peak > 0 {
            rows.push(resolver);
        }
        let mut shared: BTreeMap<usize, BTreeMap<Arc<str>, u32>> = BTreeMap::new();
        for slot in self.slots.iter().flatten() {
            if let Some((id, _)) = &slot.interface {
                *shared.entry(id.index()).or_default().entry(slot.function.clone()).or_default() += 1;
            }
        }
        let connections = &self.engine.wired().connections;
        let count = usize::try_from(connections.interfaces().unwrap_or(0)).unwrap_or(0);
        let interfaces =
            connections.counts().take(count).enumerate().map(|(index, (name, connections))| Sharing {
                interface: name.clone(),
                connections,
                functions: shared.remove(&index).unwrap_or_default(),
            });
        let interfaces = interfaces.collect();
        let names: Vec<Arc<str>> =
            self.engine.network().gateways.iter().map(|gateway| gateway.name.as_str().into()).collect();
        let gateways = names.into_iter().enumerate().filter_map(|(index, name)| {
            let metrics = self.engine.take_metrics(now, index)?;
            let id = GatewayId::of(u32::try_from(index).ok()?);
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
        Board { rows, interfaces, gateways, environments, flows: self.engine.flows(), dropped }
    }
}

/// The environment with that token.
fn slot(slots: &[Option<Slot>], token: u64) -> Option<&Slot> {
    slots.get(usize::try_from(token.checked_sub(FIRST)?).ok()?)?.as_ref()
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(16..20)?.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*packet.get(24..40)?.first_chunk::<16>()?)),
    }
}

/// Source and destination of a UDP packet whose payload begins there.
fn ends(packet: &[u8], payload: usize) -> Option<(SocketAddr, SocketAddr)> {
    let ports = packet.get(payload.checked_sub(8)?..payload)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let source: IpAddr = match packet.first()? >> 4 {
        4 => IpAddr::from(*packet.get(12..16)?.first_chunk::<4>()?),
        _ => IpAddr::from(*packet.get(8..24)?.first_chunk::<16>()?),
    };
    Some((SocketAddr::new(source, port(0)), SocketAddr::new(destination(packet)?, port(2))))
}
