//! The thread that owns the packet engine and moves packets between environments, the world and the relay.
//!
//! ```text
//!   environments' devices ------+                       +-- the world's device
//!                               +-- epoll, one thread --+
//!   commands and answers -------+    PacketEngine       +-- the relay's device
//! ```
//!
//! Nothing on that thread waits for anything but epoll. Whoever wants something of it sends a command and rings a bell;
//! what takes time (a question to the resolver, a connection of the relay's) is handed out by [`Hooks`] and comes back as
//! a command.

mod alarm;
mod batch;
mod bell;
mod board;
mod capture;
mod command;
mod device;
mod flow_logs;
mod frame;
mod notice;
mod patience;
mod thread;

pub use board::{Board, DESTINATIONS_MAX, Gateway, Sharing};
pub use capture::{CAPTURES_MAX, Capture, Captured, Pcap};
pub use command::{DnsReply, HeldReply};
pub use flow_logs::{FlowLog, FlowLogging, Lines, Of};
pub use notice::{Blame, Notice};

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use model::Instant;
use packets::{LineFaults, PacketEngine, Place};
use tokio::sync::oneshot;

use crate::names::Asker;
use crate::world::Outside;
use command::{Command, Sender};

/// A question that an environment asks the VPC's resolver.
#[derive(Clone, Debug)]
pub struct Question {
    /// The function's place; `None`: it has no VPC.
    pub place: Option<Place>,
    /// The function's VPC, as an index of the network's; `None`: it has none.
    pub vpc: Option<usize>,
    /// Whether its subnet has `EnableDns64`.
    pub dns64: bool,
    /// The DNS message.
    pub message: Vec<u8>,
}

/// A SYN for something attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Where it comes from, as the relay will see it.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Who asks, where it goes to the VPC's resolver.
    pub asker: Option<Asker>,
}

/// What others do for the thread. Called on it, so they must not wait.
pub struct Hooks {
    /// Answers a question, sooner or later, or never.
    pub resolve: Box<dyn Fn(Question, DnsReply) + Send>,
    /// Reaches what is attached, and says whether it could.
    pub ask: Box<dyn Fn(Opening, HeldReply) + Send>,
    /// Something that a person should know.
    pub notice: Box<dyn Fn(Notice) + Send>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// What the thread begins with.
#[derive(Debug)]
pub struct Setup {
    /// The engine, its clock at the start.
    pub engine: PacketEngine,
    /// The moment that the engine's clock counts from.
    pub began: std::time::Instant,
    /// Flow logs.
    pub flow_logs: FlowLogging,
    /// The world, if there is one.
    pub world: Option<Outside>,
    /// The relay's device, if there is one: a descriptor as [`netdev::device::Device`] takes it.
    pub relay: Option<OwnedFd>,
    /// Destinations that lead to the relay: an address with one port, or with all.
    pub relayed: BTreeSet<(IpAddr, Option<u16>)>,
    /// What others do for it.
    pub hooks: Hooks,
    /// A bad line to the world, for tests of what lives with one.
    pub line: Option<LineFaults>,
}

/// An environment's device and who it is.
#[derive(Debug)]
pub struct Joining {
    /// The non-blocking descriptor of its device, as [`netdev::device::Device`] takes it.
    pub device: OwnedFd,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if it speaks IPv6.
    pub address6: Option<Ipv6Addr>,
    /// The function's place; `None`: it has no VPC.
    pub place: Option<Place>,
    /// The VPC, as an index of the network's; `None`: it has none.
    pub vpc: Option<usize>,
    /// Where the VPC's resolver answers beside 169.254.169.253: its base + 2.
    pub resolver: Option<Ipv4Addr>,
    /// The function's name, for the log.
    pub function: Arc<str>,
    /// Where the thread notes what it dropped of the environment's.
    pub blame: Arc<Blame>,
}

/// One attached environment; unique for the life of the fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attached(u64);

/// The handle. Cheap to clone; the thread ends when [`Fabric::end`] is called.
#[derive(Clone, Debug)]
pub struct Fabric {
    commands: Sender,
    next: Arc<std::sync::atomic::AtomicU64>,
    began: std::time::Instant,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// How long the thread may take to answer before it is taken for dead.
const ANSWER: Duration = Duration::from_secs(2);

/// The thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network's thread is gone")]
pub struct Gone;

impl Fabric {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the host has no descriptor or thread left.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let began = setup.began;
        let (commands, received) = command::channel()?;
        let thread = thread::Thread::new(setup, commands.clone(), received)?;
        let thread = std::thread::Builder::new().name("network".into()).spawn(move || thread.run())?;
        Ok(Self { commands, next: Arc::default(), began, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Carries an environment's packets from now on. Cheap: the thread does the work.
    pub fn attach(&self, joining: Joining) -> Attached {
        let id = Attached(self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.commands.send(Command::Attach(id, Box::new(joining)));
        id
    }

    /// Lets go of an environment's device; its flows stay until they fall silent, as at AWS. What is sent after this is
    /// done after it.
    pub fn detach(&self, id: Attached) {
        self.commands.send(Command::Detach(id));
    }

    /// The world is gone (`None`), or there is another.
    pub fn set_world(&self, world: Option<Outside>) {
        self.commands.send(Command::World(world.map(Box::new)));
    }

    /// Changes which destinations lead to the relay.
    pub fn set_relayed(&self, relayed: BTreeSet<(IpAddr, Option<u16>)>) {
        self.commands.send(Command::Relayed(relayed));
    }

    /// Other flow logs from now on. Those that were there by the same name go on.
    pub fn set_flow_logs(&self, logging: FlowLogging) {
        self.commands.send(Command::FlowLogs(Box::new(logging)));
    }

    /// Runs `act` with the engine, on the thread, after what was asked for before. It must be short: packets wait.
    pub fn change(&self, act: impl FnOnce(&mut PacketEngine, Instant) + Send + 'static) {
        self.commands.send(Command::Engine(Box::new(act)));
    }

    /// As [`Self::change`], and waits for what `act` answers: the thread gets to it between two rounds of packets.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut PacketEngine, Instant) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (sender, receiver) = sync_channel(1);
        self.change(move |engine, now| drop(sender.send(act(engine, now))));
        receiver.recv_timeout(ANSWER).map_err(|_| Gone)
    }

    /// The limits board, who shares each interface, and the gateways' metrics.
    ///
    /// # Errors
    /// The thread is gone.
    pub async fn board(&self) -> Result<Board, Gone> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(Command::Board(sender));
        match tokio::time::timeout(ANSWER, receiver).await {
            Ok(Ok(board)) => Ok(board),
            _ => Err(Gone),
        }
    }

    /// Copies packets of the environments behind an interface, or what passes that of a gateway or host, until the capture is
    /// dropped. One that is read too slowly misses some.
    pub fn capture(&self, interface: &str) -> Capture {
        let (viewer, capture) = capture::Viewer::new(interface.to_owned());
        self.commands.send(Command::Capture(viewer));
        capture
    }

    /// The engine's time.
    pub fn now(&self) -> Instant {
        thread::since(self.began)
    }

    /// Ends the thread and waits for it, some 20 ms: then devices are gone and the host's settings as they were.
    pub fn end(&self) {
        self.commands.send(Command::End);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // One that panicked is gone, too.
            let _ = thread.join();
        }
    }
}
