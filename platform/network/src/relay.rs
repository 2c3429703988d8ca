//! The relay: a network namespace of ours where every address is local and the kernel speaks TCP, and the host's side of
//! each connection that ends there.
//!
//! Attached servers and AWS's endpoints stand behind it, and for ordinary users the world. The packet engine holds a SYN
//! and asks [`Relay::connect`] first, so that a function sees what the real server says: refused is refused, silent is
//! silent. Then the kernel in the namespace completes the handshake, and bytes are carried both ways with two descriptors.

mod copy;
mod datagrams;
mod message;
mod namespace;
mod outside;

pub use namespace::Namespace;
pub use outside::Outside;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::attach::Server;
use crate::told::Told;

/// How long a server may take to accept. The function's SYN is held as long, and then gets no answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an opened connection waits for the function's handshake, which one held SYN away.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the host refused to accept for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Descriptors that the platform keeps for everything else.
const DESCRIPTORS_KEPT: u64 = 2_000;
/// Each connection has one descriptor on either side.
const DESCRIPTORS_EACH: u64 = 2;
/// Most connections, whatever the host allows.
const CONNECTIONS_MAX: u64 = 65_000;

/// Both ends of a connection as packets in the namespace have them: who opened it, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The source, after every translation before the relay.
    pub source: SocketAddr,
    /// The destination that the function asked for.
    pub destination: SocketAddr,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, self.destination)
    }
}

/// What takes a connection inside this process.
pub type Serve = Arc<dyn Fn(Flow, TcpStream) + Send + Sync>;

/// What stands at a destination.
#[derive(Clone)]
pub enum Target {
    /// A server of the host's.
    Server(Server),
    /// A server in this process.
    Serve(Serve),
    /// The destination itself, in the world.
    World,
    /// Nobody, and that is said at once.
    Refused,
    /// Nobody, in silence.
    Nothing,
}

/// Who knows what stands where.
pub trait Destinations: Send + Sync + 'static {
    /// What stands at the flow's destination; `udp` or TCP.
    fn target(&self, flow: Flow, udp: bool) -> Target;
}

/// The world by relay: everything stands where it is.
#[derive(Clone, Copy, Debug)]
pub struct Everywhere;

impl Destinations for Everywhere {
    fn target(&self, _: Flow, _: bool) -> Target {
        Target::World
    }
}

/// How an attempt to open came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Opened: let the SYN through.
    Opened,
    /// Refused: answer RST.
    Refused,
    /// No answer, or nobody there: no answer.
    Unreachable,
    /// This host has no descriptor left (`host.descriptors`): no answer.
    NoDescriptors,
    /// This host has no port left towards that server (`host.ports`): no answer.
    NoPorts,
}

/// Figures of the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections open or opening.
    pub connections: u64,
    /// Most of them.
    pub connections_max: u64,
    /// The most that there were at once.
    pub connections_peak: u64,
    /// Refused since there was no descriptor left.
    pub no_descriptors: u64,
    /// Refused since this host had no port left towards a server.
    pub no_ports: u64,
    /// UDP conversations.
    pub conversations: u64,
    /// Datagrams of conversations for which there was no room.
    pub datagrams_dropped: u64,
}

/// A handle to the relay; clones are the same relay, and when the last is dropped it ends.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
    _tasks: Arc<JoinSet<()>>,
}

struct Shared {
    destinations: Arc<dyn Destinations>,
    outside: Outside,
    turns: Arc<Semaphore>,
    connections_max: u64,
    /// Opened and not yet accepted.
    waiting: Mutex<HashMap<Flow, Waiting>>,
    /// Carried now; the sender's end resets the connection.
    carried: Mutex<HashMap<Flow, oneshot::Sender<()>>>,
    peak: AtomicU64,
    no_descriptors: AtomicU64,
    no_ports: AtomicU64,
    datagrams: datagrams::Counts,
    /// Attached servers that are not reached.
    told: Told<String>,
}

struct Waiting {
    side: Side,
    number: u64,
    _turn: OwnedSemaphorePermit,
}

impl Shared {
    /// Open or opening.
    fn connections(&self) -> u64 {
        self.connections_max.saturating_sub(self.turns.available_permits() as u64)
    }

    /// An attached server is silent, or its name leads nowhere: the function only sees that nobody answers.
    fn tell(&self, flow: Flow, target: &Target, why: &dyn fmt::Display) {
        let Target::Server(server) = target else {
            return tracing::debug!(%flow, %why, "the other side of a flow cannot be opened");
        };
        if self.told.is_due(server.to_string()) {
            tracing::warn!("connects to {} hang: {server}, which is attached there: {why}", flow.destination);
        }
    }
}

enum Side {
    Stream(TcpStream),
    Serve(Serve),
}

impl Relay {
    /// Starts relaying on the runtime of the caller. The packets' side is [`Namespace::device`].
    ///
    /// # Errors
    /// Of the kernel.
    pub fn start(
        namespace: Namespace,
        destinations: Arc<dyn Destinations>,
        outside: Outside,
    ) -> io::Result<Self> {
        let sockets = namespace.listeners()?;
        let connections_max = connections_max();
        let shared = Arc::new(Shared {
            destinations,
            outside,
            turns: Arc::new(Semaphore::new(connections_max as usize)),
            connections_max,
            waiting: Mutex::default(),
            carried: Mutex::default(),
            peak: AtomicU64::new(0),
            no_descriptors: AtomicU64::new(0),
            no_ports: AtomicU64::new(0),
            datagrams: datagrams::Counts::default(),
            told: Told::default(),
        });
        let mut tasks = JoinSet::new();
        // Its rules go with it, and then nobody answers in there. Kernels before 5.3 do not tell.
        if let Ok(end) = namespace.end() {
            let end = message::watch(end)?;
            tasks.spawn(async move {
                let _ = end.readable().await;
                tracing::error!(
                    "the relay's process has ended; connects that lead through it hang until a restart"
                );
            });
        }
        let namespace = Arc::new(namespace);
        for listener in sockets.tcp {
            tasks.spawn(accept(shared.clone(), listener_of(listener)?));
        }
        for socket in sockets.udp {
            tasks.spawn(datagrams::relay(shared.clone(), namespace.clone(), socket_of(socket)?));
        }
        Ok(Self { shared, _tasks: Arc::new(tasks) })
    }

    /// Opens the host's side of a flow whose SYN is held. After `Opened` the SYN must come within some seconds.
    pub async fn connect(&self, flow: Flow) -> Opening {
        self.connect_to(flow, self.shared.destinations.target(flow, false)).await
    }

    /// The same where the caller knows what stands at the flow's destination.
    pub async fn connect_to(&self, flow: Flow, target: Target) -> Opening {
        let (side, turn) = match open(&self.shared, flow, target).await {
            Ok(opened) => opened,
            Err(opening) => return opening,
        };
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.waiting).insert(flow, Waiting { side, number, _turn: turn });
        let shared = self.shared.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HANDSHAKE_TIMEOUT).await;
            let mut waiting = lock(&shared.waiting);
            if waiting.get(&flow).is_some_and(|there| there.number == number) {
                waiting.remove(&flow);
            }
        });
        Opening::Opened
    }

    /// Resets a connection whose other end is gone without a word, as when its environment was ended.
    pub fn forget(&self, flow: Flow) {
        lock(&self.shared.waiting).remove(&flow);
        if let Some(end) = lock(&self.shared.carried).remove(&flow) {
            let _ = end.send(());
        }
    }

    /// How much is going on.
    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        Figures {
            connections: shared.connections(),
            connections_max: shared.connections_max,
            connections_peak: shared.peak.load(Ordering::Relaxed),
            no_descriptors: shared.no_descriptors.load(Ordering::Relaxed),
            no_ports: shared.no_ports.load(Ordering::Relaxed),
            conversations: shared.datagrams.open.load(Ordering::Relaxed),
            datagrams_dropped: shared.datagrams.dropped.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connections_max() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_EACH).clamp(16, CONNECTIONS_MAX)
}

/// The host's side of a flow.
async fn open(shared: &Shared, flow: Flow, target: Target) -> Result<(Side, OwnedSemaphorePermit), Opening> {
    let Ok(turn) = shared.turns.clone().try_acquire_owned() else {
        shared.no_descriptors.fetch_add(1, Ordering::Relaxed);
        return Err(Opening::NoDescriptors);
    };
    shared.peak.fetch_max(shared.connections(), Ordering::Relaxed);
    if let Target::Serve(serve) = &target {
        return Ok((Side::Serve(serve.clone()), turn));
    }
    let connecting = async {
        match &target {
            Target::Server(server) => TcpStream::connect((server.host.as_str(), server.port)).await,
            Target::World if shared.outside.is_allowed(flow.destination.ip()) => {
                TcpStream::connect(flow.destination).await
            }
            Target::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            Target::Serve(_) | Target::World | Target::Nothing => Err(io::ErrorKind::HostUnreachable.into()),
        }
    };
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => Ok((Side::Stream(stream), turn)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Opening::Refused),
        Ok(Err(error)) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
            shared.no_ports.fetch_add(1, Ordering::Relaxed);
            Err(Opening::NoPorts)
        }
        Ok(Err(error)) if is_exhaustion(&error) => {
            shared.no_descriptors.fetch_add(1, Ordering::Relaxed);
            Err(Opening::NoDescriptors)
        }
        Ok(Err(error)) => {
            shared.tell(flow, &target, &error);
            Err(Opening::Unreachable)
        }
        Err(_) => {
            let why = format!("silent for {} s", CONNECT_TIMEOUT.as_secs());
            shared.tell(flow, &target, &why);
            Err(Opening::Unreachable)
        }
    }
}

/// No descriptor in this process or on this host, no memory.
fn is_exhaustion(error: &io::Error) -> bool {
    let full = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| full.contains(&code))
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, source)) => {
                let Ok(destination) = stream.local_addr() else { continue };
                tokio::spawn(carry(shared.clone(), Flow { source, destination }, stream));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted (host.descriptors)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Carries one accepted connection to its end.
async fn carry(shared: Arc<Shared>, flow: Flow, stream: TcpStream) {
    let waiting = lock(&shared.waiting).remove(&flow);
    let (side, _turn) = match waiting {
        Some(Waiting { side, _turn, .. }) => (side, _turn),
        // Nobody asked first, and so the function learns late what the server says.
        None => match open(&shared, flow, shared.destinations.target(flow, false)).await {
            Ok(opened) => opened,
            Err(_) => return copy::reset(&stream),
        },
    };
    let _ = stream.set_nodelay(true);
    match side {
        Side::Serve(serve) => serve(flow, stream),
        Side::Stream(host) => {
            let _ = host.set_nodelay(true);
            let (end, ended) = oneshot::channel();
            lock(&shared.carried).insert(flow, end);
            copy::both_ways(&stream, &host, ended).await;
            lock(&shared.carried).remove(&flow);
        }
    }
}

fn listener_of(socket: OwnedFd) -> io::Result<TcpListener> {
    TcpListener::from_std(socket.into())
}

fn socket_of(socket: OwnedFd) -> io::Result<tokio::net::UdpSocket> {
    tokio::net::UdpSocket::from_std(socket.into())
}
