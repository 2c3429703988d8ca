//! Datagrams to attached servers: conversations, bounded and ended by silence.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::namespace::Namespace;
use super::{Flow, Shared, Target, lock, message};

/// Conversations at once, by source and destination.
const CONVERSATIONS_MAX: usize = 1_024;
/// Datagrams that wait while a conversation is opened or its server is slow.
const QUEUE_MAX: usize = 64;
/// A conversation in which nothing was said for so long is over, as for security groups a UDP stream is.
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// Largest datagram.
const BYTES_MAX: usize = 65_535;
/// Pause after a failure that may last.
const PAUSE: Duration = Duration::from_millis(50);

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub open: AtomicU64,
    pub dropped: AtomicU64,
}

/// Sockets that speak for a destination, shared by the conversations with it.
type Speakers = Arc<Mutex<HashMap<SocketAddr, Weak<UdpSocket>>>>;

/// Relays what comes to one of the namespace's sockets.
pub(super) async fn relay(shared: Arc<Shared>, namespace: Arc<Namespace>, socket: UdpSocket) {
    let mut conversations: HashMap<Flow, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let speakers = Speakers::default();
    let mut buffer = vec![0; BYTES_MAX];
    loop {
        let received = socket.async_io(Interest::READABLE, || message::receive(&socket, &mut buffer)).await;
        let (bytes, source, destination) = match received {
            Ok(Some(received)) => received,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let flow = Flow { source, destination };
        let datagram = buffer[..bytes].to_vec();
        let datagram = match conversations.get(&flow).map(|queue| queue.try_send(datagram)) {
            Some(Ok(())) => continue,
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                shared.datagrams.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            // The last conversation of this kind is over.
            Some(Err(mpsc::error::TrySendError::Closed(datagram))) => datagram,
            None => buffer[..bytes].to_vec(),
        };
        if conversations.len() >= CONVERSATIONS_MAX {
            conversations.retain(|_, queue| !queue.is_closed());
        }
        if conversations.len() >= CONVERSATIONS_MAX {
            shared.datagrams.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (queue, datagrams) = mpsc::channel(QUEUE_MAX);
        let _ = queue.try_send(datagram);
        conversations.insert(flow, queue);
        let (shared, namespace, speakers) = (shared.clone(), namespace.clone(), speakers.clone());
        tokio::spawn(async move {
            shared.datagrams.open.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = converse(&shared, namespace, &speakers, flow, datagrams).await {
                tracing::debug!(%flow, %error, "a conversation of datagrams ended");
            }
            shared.datagrams.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// One conversation, until it is silent.
async fn converse(
    shared: &Shared,
    namespace: Arc<Namespace>,
    speakers: &Speakers,
    flow: Flow,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let to = match shared.destinations.target(flow, true) {
        Target::Server(server) => {
            let mut found = tokio::net::lookup_host((server.host.as_str(), server.port)).await?;
            found.next().ok_or(io::ErrorKind::NotFound)?
        }
        Target::World if shared.outside.is_allowed(flow.destination.ip()) => flow.destination,
        _ => return Err(io::ErrorKind::HostUnreachable.into()),
    };
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let host = UdpSocket::bind((any, 0)).await?;
    host.connect(to).await?;
    let speaker = speaker(namespace, speakers, flow.destination).await?;
    let mut answer = vec![0; BYTES_MAX];
    loop {
        let next = timeout(SILENCE_MAX, async {
            tokio::select! {
                said = datagrams.recv() => Ok(said),
                answered = host.recv(&mut answer) => Err(answered),
            }
        });
        match next.await {
            // Silence, or the relay is gone.
            Err(_) | Ok(Ok(None)) => return Ok(()),
            // What one side refuses is lost, as datagrams are; the conversation goes on.
            Ok(Ok(Some(datagram))) => drop(host.send(&datagram).await),
            Ok(Err(Ok(bytes))) => drop(speaker.send_to(&answer[..bytes], flow.source).await),
            Ok(Err(Err(_))) => {}
        }
    }
}

/// The socket that speaks for a destination.
async fn speaker(
    namespace: Arc<Namespace>,
    speakers: &Speakers,
    address: SocketAddr,
) -> io::Result<Arc<UdpSocket>> {
    if let Some(known) = lock(speakers).get(&address).and_then(Weak::upgrade) {
        return Ok(known);
    }
    let made = tokio::task::spawn_blocking(move || namespace.speaker(address)).await;
    let made = made.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let made = Arc::new(UdpSocket::from_std(made.into())?);
    let mut speakers = lock(speakers);
    speakers.retain(|_, speaker| speaker.strong_count() > 0);
    speakers.insert(address, Arc::downgrade(&made));
    Ok(made)
}
