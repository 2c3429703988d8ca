//! The floor of streaming: `stream-floor` is a hyper server that streams, `stream-floor PORT` copies between its connections and
//! those to that port, as whatever stands between a function and its client must at least. Either prints the port that it took.
//!
//! `/bytes/N` is answered with N bytes, `/clock/N` with N lines, each the time of its writing in nanoseconds of Unix time.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Pieces of a large body, as the function of the bench writes them, and buffers of the copying.
const PIECE: usize = 128 * 1024;
/// Between two lines of the clock.
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> std::io::Result<()> {
    match std::env::args().nth(1) {
        Some(port) => copy(port.parse().map_err(std::io::Error::other)?),
        None => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve()),
    }
}

async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that goes away is no failure of the floor.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
    let path = request.uri().path();
    let (kind, count) = path.trim_start_matches('/').split_once('/').unwrap_or(("bytes", "0"));
    let mut left: usize = count.parse().unwrap_or(0);
    let is_clock = kind == "clock";
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        static PIECES: [u8; PIECE] = [b'x'; PIECE];
        while left > 0 {
            let piece = if is_clock {
                left -= 1;
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Bytes::from(format!("{}\n", since.as_nanos()))
            } else {
                let next = left.min(PIECE);
                left -= next;
                Bytes::from_static(&PIECES[..next])
            };
            if sender.send(piece).await.is_err() {
                return;
            }
            if is_clock {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    Ok(Response::new(Pieces(pieces)))
}

/// A body that comes piece by piece.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

fn copy(port: u16) -> std::io::Result<()> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (client, _) = listener.accept()?;
        let server = std::net::TcpStream::connect(("127.0.0.1", port))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (back_from, back_to) = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || pump(client, server));
        thread::spawn(move || pump(back_from, back_to));
    }
}

/// Copies until one side ends.
fn pump(mut from: std::net::TcpStream, mut to: std::net::TcpStream) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
        && to.write_all(&buffer[..count]).is_ok()
    {}
    let _ = to.shutdown(Shutdown::Write);
}
