//! Packets from one device to another, in batches: read, prepared, received by the engine, written.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use model::Instant;
use netdev::device::{Device, Kind};
use packets::{BadLine, Offload, Packet, Place, Port, Verdict};
use rustix::event::epoll;

use super::super::batch::{Batch, End};
use super::super::capture::Viewer;
use super::super::command::{DnsReply, HeldReply};
use super::super::device::{self, Written};
use super::super::frame;
use super::super::notice::Notice;
use super::super::{Opening, Question};
use super::{FIRST, Lost, RELAY, Slot, Thread, WORLD, slot};
use crate::names::Asker;
use crate::world;

/// Packets read from one device before the next has its turn.
const TURN: usize = 64;
/// Batches of one device before the next has its turn: large packets come by twos.
const BATCHES: usize = 6;
/// Questions that the resolver works at, at once; beyond it they are dropped, and asked again.
const OPEN_QUESTIONS_MAX: usize = 1_024;
/// Longest DNS message over UDP that is taken for a question.
const QUESTION_BYTES_MAX: usize = 4_096;

impl Thread {
    /// Carries what waits at one device. The first packet goes on before the next is looked for, as it is mostly alone;
    /// what waits behind it is read before it is written, so that one system call writes it.
    pub(super) fn serve(&mut self, now: Instant, from: Port, token: u64) {
        let mut batch = std::mem::take(&mut self.batch);
        let (mut at_once, mut left) = (1, TURN);
        for _ in 0..BATCHES {
            let device = match from {
                Port::World => self.world.as_ref().map(|world| &world.device),
                Port::Relay => self.relay.as_ref(),
                Port::Environment(_) => slot(&self.slots, token).map(|slot| &slot.device),
            };
            let Some(device) = device else { break };
            let end = batch.read(device, at_once);
            if from == Port::World && self.line.is_some() {
                self.carry_from_line(now, &mut batch);
            } else {
                self.carry_all(now, from, token, &mut batch);
            }
            match end {
                End::More => {}
                End::Nothing => break,
                End::Gone => {
                    self.device_gone(from, token);
                    break;
                }
            }
            left -= batch.len();
            if left == 0 {
                break;
            }
            at_once = left;
        }
        self.batch = batch;
    }

    /// What the engine will need of memory is asked for at once for all packets, then each has its turn.
    fn carry_all(&mut self, now: Instant, from: Port, token: u64, batch: &mut Batch) {
        let mut prepared = std::mem::take(&mut self.prepared);
        prepared.clear();
        // A panic may have left some of another batch.
        self.waiting.clear();
        for index in 0..batch.len() {
            let whole = batch.frame_mut(index);
            let offload = frame::offload(whole);
            let packet = Packet { bytes: frame::packet_mut(whole), offload };
            prepared.push((self.engine.prepare(from, &packet), offload));
        }
        if prepared.len() > 1 {
            self.engine.load(prepared.iter().map(|(prepared, _)| prepared));
        }
        for (index, (prepared, offload)) in prepared.iter().enumerate() {
            let whole = batch.frame_mut(index);
            if !self.viewers.is_empty() {
                match token {
                    FIRST.. => self.show(token, frame::packet(whole)),
                    _ => self.show_translated(frame::packet(whole)),
                }
            }
            let packet = Packet { bytes: frame::packet_mut(whole), offload: *offload };
            match self.engine.receive_prepared(now, packet, prepared) {
                Verdict::Forward(to) if self.line.is_none() => self.waiting.push((to, index)),
                verdict => {
                    // Packets go in the order that they came in.
                    self.send_waiting(batch);
                    self.follow(now, from, token, verdict, batch.frame(index));
                }
            }
        }
        self.send_waiting(batch);
        self.prepared = prepared;
    }

    /// The same of what came from the world, over a bad line: each packet that leaves it, one by one.
    fn carry_from_line(&mut self, now: Instant, batch: &mut Batch) {
        let Some(mut line) = self.line.take() else { return };
        let mut single = frame::Frame::default();
        for index in 0..batch.len() {
            let whole = batch.frame_mut(index);
            line.from_world(frame::packet(whole), frame::offload(whole), |packet| {
                let offload = Offload::default();
                single.put(packet, offload);
                let whole = single.whole_mut();
                let packet = Packet { bytes: frame::packet_mut(whole), offload };
                let verdict = self.engine.receive(now, Port::World, packet);
                self.follow(now, Port::World, WORLD, verdict, whole);
            });
        }
        self.line = Some(line);
    }

    /// Does what the engine said of a packet.
    fn follow(&mut self, now: Instant, from: Port, token: u64, verdict: Verdict, whole: &[u8]) {
        match verdict {
            Verdict::Forward(to) => self.send(to, whole),
            Verdict::Carry(to, offload) => self.send_own(to, offload),
            Verdict::Answer => self.send_own(from, Offload::default()),
            Verdict::Resolve { payload } => {
                self.resolve(now, from, token, frame::packet(whole), payload);
            }
            Verdict::Ask { held, source, destination } => {
                let asker = self.asker(from, token, destination);
                let (commands, opening) = (self.commands.clone(), Opening { source, destination, asker });
                let reply = HeldReply { commands, held: Some(held), asker: from, opening };
                (self.hooks.ask)(opening, reply);
            }
            // Counted by the engine.
            Verdict::Drop(_) => {}
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
                    // A pair goes with its environment's namespace, which may be before the environment leaves here.
                    match slot.device.kind() {
                        Kind::Tun => {
                            tracing::warn!(function = %slot.function, "an environment's network device is gone");
                        }
                        Kind::Pair => {
                            tracing::debug!(function = %slot.function, "an environment's pair is gone");
                        }
                    }
                }
            }
        }
    }

    /// Sends what the engine has made: [`packets::PacketEngine::answer`].
    pub(super) fn send_own(&mut self, to: Port, offload: Offload) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.put(self.engine.answer(), offload);
        self.send(to, frame.whole());
        self.frame = frame;
    }

    /// Sends a packet that stands alone.
    pub(super) fn send_packet(&mut self, to: Port, packet: &[u8]) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.put(packet, Offload::default());
        self.send(to, frame.whole());
        self.frame = frame;
    }

    /// Writes a packet with its header where it goes.
    fn send(&mut self, to: Port, whole: &[u8]) {
        if let Err(why) = self.admit(to, whole) {
            return self.lose(why);
        }
        let line = if to == Port::World { self.line.take() } else { None };
        let written = match (self.way(to), line) {
            (None, _) => Written::Lost,
            (Some(device), None) => device::write(device, whole),
            (Some(device), Some(mut line)) => {
                let written = write_over_line(&mut line, device, whole);
                self.line = Some(line);
                written
            }
        };
        self.wrote(to, written);
    }

    /// Writes those packets of a batch where they go, many by one system call where the kernel has one for it.
    fn send_waiting(&mut self, batch: &mut Batch) {
        let mut waiting = std::mem::take(&mut self.waiting);
        match (self.ring.take(), waiting.len()) {
            (Some(mut ring), 2..) => {
                waiting.retain(|&(to, index)| {
                    let admitted = self.admit(to, batch.frame(index));
                    admitted.map_err(|why| self.lose(why)).is_ok()
                });
                let packets: Vec<_> = waiting
                    .iter()
                    .filter_map(|&(to, index)| Some((self.way(to)?, batch.frame(index))))
                    .collect();
                debug_assert_eq!(packets.len(), waiting.len(), "what is admitted has a device");
                let mut unwritten = Vec::new();
                ring.write(&packets, |index, error| unwritten.push((index, device::unwritten(&error))));
                self.ring = Some(ring);
                for (index, written) in unwritten {
                    self.wrote(waiting[index].0, written);
                }
            }
            (ring, _) => {
                self.ring = ring;
                waiting.iter().for_each(|&(to, index)| self.send(to, batch.frame(index)));
            }
        }
        waiting.clear();
        self.waiting = waiting;
    }

    /// Whether a packet may go there now, as those who look at it see it go.
    fn admit(&mut self, to: Port, whole: &[u8]) -> Result<(), Lost> {
        let packet = frame::packet(whole);
        if !self.viewers.is_empty() && !matches!(to, Port::Environment(_)) {
            self.show_translated(packet);
        }
        match to {
            Port::World => {
                let world = self.world.as_ref().ok_or(Lost::NoWorld)?;
                let is_refused = world.refused.as_ref().is_some_and(|refused| {
                    destination(packet).is_none_or(|to| world::is_in(refused.known(), to))
                });
                if is_refused { Err(Lost::HostNetwork) } else { Ok(()) }
            }
            Port::Relay => self.relay.as_ref().map(drop).ok_or(Lost::NoRelay),
            Port::Environment(id) => {
                let index = self.index_of(id).ok_or(Lost::Gone)?;
                if !self.viewers.is_empty() {
                    self.show(index as u64 + FIRST, packet);
                }
                Ok(())
            }
        }
    }

    /// The device there, if there is one.
    fn way(&self, to: Port) -> Option<&Device> {
        match to {
            Port::World => self.world.as_ref().map(|world| &world.device),
            Port::Relay => self.relay.as_ref(),
            Port::Environment(id) => self.slots[self.index_of(id)?].as_ref().map(|slot| &slot.device),
        }
    }

    /// What came of writing a packet.
    fn wrote(&mut self, to: Port, written: Written) {
        match written {
            Written::Whole => {}
            Written::Lost => self.lose(Lost::NoRoom),
            Written::Gone => {
                self.lose(Lost::Gone);
                let token = match to {
                    Port::World => WORLD,
                    Port::Relay => RELAY,
                    Port::Environment(id) => match self.index_of(id) {
                        Some(index) => index as u64 + FIRST,
                        None => return,
                    },
                };
                self.device_gone(to, token);
            }
        }
    }

    fn lose(&mut self, why: Lost) {
        *self.lost.entry(why).or_default() += 1;
    }

    /// Copies a packet for those who look at its environment's interface.
    fn show(&mut self, token: u64, packet: &[u8]) {
        let Some(slot) = slot(&self.slots, token) else { return };
        let Some((_, name)) = &slot.interface else { return };
        self.viewers.retain(|viewer| *viewer.interface != **name || viewer.show(packet));
    }

    /// Copies a packet between here and the world or the relay for those who look at a gateway or host whose address it bears.
    fn show_translated(&mut self, packet: &[u8]) {
        let ends = [source(packet), destination(packet)];
        let bears = |viewer: &Viewer| ends.iter().flatten().any(|address| viewer.addresses.contains(address));
        self.viewers.retain(|viewer| !bears(viewer) || viewer.show(packet));
    }

    /// Who asks the resolver, if that is what a SYN is for.
    fn asker(&self, from: Port, token: u64, destination: SocketAddr) -> Option<Asker> {
        let Port::Environment(id) = from else { return None };
        let slot = slot(&self.slots, token)?;
        self.engine.asks_resolver(id, destination).then(|| self.asker_in(slot))
    }

    /// An environment, as the resolver knows it.
    fn asker_in(&self, slot: &Slot) -> Asker {
        let dns64 = |place: Place| self.engine.network().has_dns64(place.function, place.choice);
        Asker { vpc: slot.vpc, dns64: slot.place.is_some_and(dns64) }
    }

    /// A question to the resolver: within the interface's packets a second, and not too many at once.
    fn resolve(&mut self, now: Instant, from: Port, token: u64, packet: &[u8], payload: Range<usize>) {
        let Port::Environment(asker) = from else { return };
        let Some(slot) = slot(&self.slots, token) else { return };
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
        let Asker { vpc, dns64 } = self.asker_in(slot);
        let question = Question { place: slot.place, vpc, dns64, message: message.to_vec() };
        let (commands, open) = (self.commands.clone(), self.open_questions.clone());
        let reply = DnsReply { commands, asker, from: destination, to: source, _open: open };
        (self.hooks.resolve)(question, reply);
    }
}

/// Writes what leaves the line of a packet, and perhaps of others before it.
fn write_over_line(line: &mut BadLine, device: &Device, whole: &[u8]) -> Written {
    let mut single = frame::Frame::default();
    let mut written = Written::Whole;
    line.to_world(frame::packet(whole), frame::offload(whole), |packet| {
        single.put(packet, Offload::default());
        written = device::write(device, single.whole());
    });
    written
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(16..20)?.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*packet.get(24..40)?.first_chunk::<16>()?)),
    }
}

fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(12..16)?.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*packet.get(8..24)?.first_chunk::<16>()?)),
    }
}

/// Source and destination of a UDP packet whose payload begins there.
fn ends(packet: &[u8], payload: usize) -> Option<(SocketAddr, SocketAddr)> {
    let ports = packet.get(payload.checked_sub(8)?..payload)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((SocketAddr::new(source(packet)?, port(0)), SocketAddr::new(destination(packet)?, port(2))))
}
