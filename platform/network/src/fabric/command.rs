//! What is asked of the thread, from anywhere.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, mpsc};

use model::{Instant, Refusal};
use packets::{EnvironmentId, HeldId, PacketEngine, Port};
use tokio::sync::oneshot;

use super::bell::Bell;
use super::board::Board;
use super::capture::Viewer;
use super::flow_logs::FlowLogging;
use super::{Attached, Joining, Opening};
use crate::world::Outside;

type Act = Box<dyn FnOnce(&mut PacketEngine, Instant) + Send>;

/// One request. There is at most one of each environment's, question's and SYN's at a time, so the queue is as bounded as
/// those are.
pub(super) enum Command {
    Attach(Attached, Box<Joining>),
    Detach(Attached),
    World(Option<Box<Outside>>),
    Relayed(BTreeSet<(IpAddr, Option<u16>)>),
    Engine(Act),
    FlowLogs(Box<FlowLogging>),
    Board(oneshot::Sender<Board>),
    Capture(Viewer),
    /// The resolver has answered a question of that environment.
    Answered {
        asker: EnvironmentId,
        from: SocketAddr,
        to: SocketAddr,
        message: Vec<u8>,
    },
    Held(HeldId, Reached),
    /// A limit of this host's stood in the way.
    Short(HeldId, Box<Shortage>),
    End,
}

/// What came of a connection of the relay's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Open,
    Refused,
    Silent,
}

/// Whose SYN it was, and what this host has too little of.
pub(super) struct Shortage {
    pub asker: Port,
    pub opening: Opening,
    pub refusal: Refusal,
}

#[derive(Clone, Debug)]
pub(super) struct Sender {
    queue: mpsc::Sender<Box<Command>>,
    bell: Arc<Bell>,
}

impl Sender {
    /// Does nothing once the thread is gone.
    pub fn send(&self, command: Command) {
        if self.queue.send(Box::new(command)).is_ok() {
            self.bell.ring();
        }
    }
}

pub(super) struct Inbox {
    pub queue: Receiver<Box<Command>>,
    pub bell: Arc<Bell>,
}

pub(super) fn channel() -> io::Result<(Sender, Inbox)> {
    let (sender, queue) = mpsc::channel();
    let bell = Arc::new(Bell::new()?);
    Ok((Sender { queue: sender, bell: bell.clone() }, Inbox { queue, bell }))
}

/// Where an answer of the resolver's goes. Dropping it is no answer at all, which the asker takes for a lost packet.
#[derive(Debug)]
pub struct DnsReply {
    pub(super) commands: Sender,
    pub(super) asker: EnvironmentId,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Held for as long as the question is open.
    pub(super) _open: Arc<()>,
}

impl DnsReply {
    /// Sends the DNS message; an empty one is none.
    pub fn send(self, message: Vec<u8>) {
        if !message.is_empty() {
            let Self { commands, asker, from, to, .. } = self;
            commands.send(Command::Answered { asker, from, to, message });
        }
    }
}

/// Where the relay says what came of a connection. Dropping it is as good as [`HeldReply::silent`].
#[derive(Debug)]
pub struct HeldReply {
    pub(super) commands: Sender,
    pub(super) held: Option<HeldId>,
    pub(super) asker: Port,
    pub(super) opening: Opening,
}

impl HeldReply {
    /// It is open: the SYN goes on to the relay.
    pub fn open(mut self) {
        self.say(Reached::Open);
    }

    /// It was refused: the environment gets a reset.
    pub fn refused(mut self) {
        self.say(Reached::Refused);
    }

    /// Nobody answered: nor does anybody answer the environment.
    pub fn silent(mut self) {
        self.say(Reached::Silent);
    }

    /// This host has too little of something: nobody answers the environment, and whose limit it was is told.
    pub fn short(mut self, refusal: Refusal) {
        if let Some(held) = self.held.take() {
            let shortage = Shortage { asker: self.asker, opening: self.opening, refusal };
            self.commands.send(Command::Short(held, Box::new(shortage)));
        }
    }

    fn say(&mut self, reached: Reached) {
        if let Some(held) = self.held.take() {
            self.commands.send(Command::Held(held, reached));
        }
    }
}

impl Drop for HeldReply {
    fn drop(&mut self) {
        self.say(Reached::Silent);
    }
}
