//! The listener: bounded connections, a handler each, one signal to stop.

use crate::clients::{CONNECTIONS_MAX, refusal_answer};
use crate::flushed::Watched;
use crate::router::Doors;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use invoke::Reactors;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
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

/// Serves `doors` on `listener` until `stop` resolves; then lets requests in progress end, briefly. Each connection
/// stays with one of the reactors.
pub async fn serve(
    listener: TcpListener,
    doors: Arc<Doors>,
    reactors: Reactors,
    stop: impl Future<Output = ()>,
) {
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
            accepted = accept(&listener) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely. Back off, not spin.
                    tracing::warn!(limit = "host.descriptors", %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
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

/// A connection that belongs to no reactor yet.
async fn accept(listener: &TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    Ok((stream.into_std()?, peer))
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
