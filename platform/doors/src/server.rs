//! The listener: bounded connections, a handler each, one signal to stop.

use crate::clients::{CONNECTIONS_MAX, refusal_answer};
use crate::flushed::Watched;
use crate::router::Doors;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use invoke::Reactors;
use model::LimitId;
use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections beyond their client's limit that are told so at once; more are closed without a word.
const REFUSALS_MAX: usize = 64;
/// How long one of them may take to hear it.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest request head, in bytes: request line and headers. Source: Lambda quotas, 1 MB request line and headers
/// for the API; API Gateway's 10,240 bytes are the doors' own affair.
pub(crate) const HEAD_BYTES_MAX: usize = 1 << 20;
/// How long requests in progress may still take after the signal.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long to wait for a descriptor before looking again.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(20);
/// A shortage of them is told so often at most.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Descriptors that new connections leave to what runs, to its environments, logs and packages; a quarter of them where they
/// are few.
const DESCRIPTORS_KEPT: u64 = 256;

/// Serves `doors` on `listener` until `stop` resolves; then lets requests in progress end, briefly. Each connection
/// stays with one of the reactors. Of the `descriptors` that this process may have the last are not for connections: where no
/// others are free, who connects waits.
pub async fn serve(
    listener: TcpListener,
    doors: Arc<Doors>,
    reactors: Reactors,
    descriptors: u64,
    stop: impl Future<Output = ()>,
) {
    let kept = DESCRIPTORS_KEPT.min(descriptors / 4);
    let mut shortage = Shortage { first_kept: descriptors - kept, told_at: None };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let (closing, closed) = watch::channel(false);
    let port = listener.local_addr().map_or(0, |address| address.port());
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = &mut stop => break,
        };
        let Ok(place) = place else { break };
        let (stream, peer) = tokio::select! {
            accepted = shortage.accept(&listener) => accepted,
            () = &mut stop => break,
        };
        let guest = match doors.clients.enter(peer.ip()) {
            Ok(guest) => guest,
            Err(refusal) => {
                if let Ok(turn) = refusals.clone().try_acquire_owned() {
                    tokio::spawn(refuse(stream, refusal_answer(&refusal), turn));
                }
                continue;
            }
        };
        let (doors, closed) = (doors.clone(), closed.clone());
        reactors.next().spawn(async move {
            if let Err(error) = converse(stream, peer, port, doors, closed).await {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop((guest, place));
        });
    }
    drop(listener);
    closing.send_replace(true);
    let everyone = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(FAREWELL, places.acquire_many(everyone)).await;
}

/// Few descriptors are left.
struct Shortage {
    /// The kernel gives out the lowest number that is free: with this one all that connections may have are taken.
    first_kept: u64,
    told_at: Option<Instant>,
}

impl Shortage {
    /// The next connection, which belongs to no reactor yet. It waits, and all after it, while only descriptors that are kept
    /// are free.
    async fn accept(&mut self, listener: &TcpListener) -> (std::net::TcpStream, SocketAddr) {
        let (stream, peer) = loop {
            match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok(accepted) => break accepted,
                // Out of descriptors, most likely. Back off, not spin.
                Err(error) => self.tell(&error),
            }
            tokio::time::sleep(DESCRIPTOR_PAUSE).await;
        };
        if !self.is_kept(&stream) {
            return (stream, peer);
        }
        loop {
            // It moves: were it to stay where it is, what is kept would fill up, one connection after the other.
            match stream.try_clone() {
                Ok(moved) if !self.is_kept(&moved) => return (moved, peer),
                _ => self.tell(&"those that are left are kept for what runs"),
            }
            tokio::time::sleep(DESCRIPTOR_PAUSE).await;
        }
    }

    fn is_kept(&self, stream: &std::net::TcpStream) -> bool {
        u64::try_from(stream.as_raw_fd()).is_ok_and(|number| number >= self.first_kept)
    }

    fn tell(&mut self, why: &dyn Display) {
        if self.told_at.is_none_or(|at| at.elapsed() > TELL_EVERY) {
            self.told_at = Some(Instant::now());
            tracing::warn!(limit = %LimitId::HostDescriptors, %why, "new connections wait for a descriptor");
        }
    }
}

/// Tells a client that it has too many connections, and ends this one once it has heard.
async fn refuse(stream: std::net::TcpStream, answer: Bytes, _turn: OwnedSemaphorePermit) {
    let Ok(mut stream) = TcpStream::from_std(stream) else { return };
    let told = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        // What it has sent must be read, or the kernel takes the answer back.
        let mut request = [0; 4_096];
        while stream.read(&mut request).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
}

/// One connection, until it ends or everything does.
async fn converse(
    stream: std::net::TcpStream,
    peer: SocketAddr,
    port: u16,
    doors: Arc<Doors>,
    mut closed: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::from_std(stream)?;
    let _ = stream.set_nodelay(true);
    let (stream, flushes) = Watched::new(stream, doors.clients.clone());
    let service = service_fn(async |request| {
        let answer = doors.answer(request, peer.ip(), port).await?;
        Ok::<_, Infallible>(answer.map(|body| body.over(&flushes)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(doors.clients.timeout())
        .max_buf_size(HEAD_BYTES_MAX)
        // A client may close its sending side and still wait for the answer.
        .half_close(true)
        .serve_connection(stream, service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => ended?,
        () = async { drop(closed.wait_for(|closing| *closing).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await?;
        }
    }
    Ok(())
}
