//! Bytes both ways between two connections, with half-close, back-pressure and resets as they come.
//!
//! One buffer a thread, none a connection: what a receiver does not take at once is kept until it does, and no more is
//! read meanwhile. Ten thousand idle connections hold nothing.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::message;

/// Bytes moved at once.
const BUFFER_BYTES: usize = 256 << 10;
/// How often a silent connection is looked at.
const SILENCE_CHECK: Duration = Duration::from_secs(300);
/// A connection from which no segment came for so long, not even a keep-alive, has lost its other end: the packets' path
/// forgets flows much earlier (350 s at gateways) and says nothing to either side.
const SILENCE_MAX: Duration = Duration::from_secs(3_600);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// Carries until both sides have ended, one was reset, the function's side fell silent, or `ended` is called.
pub(super) async fn both_ways(function: &TcpStream, host: &TcpStream, ended: oneshot::Receiver<()>) {
    let carried = async { tokio::try_join!(one_way(function, host), one_way(host, function)) };
    let over = tokio::select! {
        over = carried => over.map(drop),
        // A sender that is dropped asks for nothing.
        Ok(()) = ended => Err(io::ErrorKind::ConnectionAborted.into()),
        () = silence(function) => Err(io::ErrorKind::TimedOut.into()),
    };
    if over.is_err() {
        reset(function);
        reset(host);
    }
}

/// Makes closing send a reset instead of an end.
pub(super) fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        // Read and written in one borrow: no wait lies between.
        let moved = BUFFER.with_borrow_mut(|buffer| {
            let bytes = from.try_read(buffer)?;
            let written = match to.try_write(&buffer[..bytes]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            };
            Ok((bytes, buffer[written..bytes].to_vec()))
        });
        let (bytes, rest) = match moved {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => continue,
            moved => moved?,
        };
        if bytes == 0 {
            return match rustix::net::shutdown(to, Shutdown::Write) {
                // The other side went first.
                Err(rustix::io::Errno::NOTCONN) => Ok(()),
                ended => Ok(ended?),
            };
        }
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Ends when nothing at all has come from the other end for too long.
async fn silence(stream: &TcpStream) {
    loop {
        tokio::time::sleep(SILENCE_CHECK).await;
        if message::silent_for(stream).is_none_or(|silent| silent > SILENCE_MAX) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// A function's end, a server's end, the copy between them, and what ends it.
    async fn carried() -> (TcpStream, TcpStream, tokio::task::JoinHandle<()>, oneshot::Sender<()>) {
        let ((function, inside), (outside, server)) = (pair().await, pair().await);
        let (end, ended) = oneshot::channel();
        let copy = tokio::spawn(async move { both_ways(&inside, &outside, ended).await });
        (function, server, copy, end)
    }

    #[tokio::test]
    async fn bytes_pass_and_each_side_ends_by_itself() {
        let (mut function, mut server, copy, _end) = carried().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            function.write_all(&sent).await.unwrap();
            function.shutdown().await.unwrap();
            let mut answer = Vec::new();
            function.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert!(got == expected);
        server.write_all(b"after the other's end").await.unwrap();
        drop(server);
        assert_eq!(writer.await.unwrap(), b"after the other's end");
        copy.await.unwrap();
    }

    #[tokio::test]
    async fn a_slow_reader_holds_its_writer_back() {
        let (function, server, copy, _end) = carried().await;
        let mut sent = 0;
        // Nobody reads: the kernel's buffers fill, and then the writer is held.
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(300), function.writable()).await {
            sent += function.try_write(&[0; 65_536]).unwrap_or(0);
            assert!(sent < 64 << 20, "nothing holds the writer back");
        }
        assert!(sent > 0);
        drop((function, server));
        copy.await.unwrap();
    }

    #[tokio::test]
    async fn a_reset_passes_through() {
        let (mut function, server, copy, _end) = carried().await;
        reset(&server);
        drop(server);
        let error = function.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        copy.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_forgotten_is_reset_on_both_sides() {
        let (mut function, mut server, copy, end) = carried().await;
        function.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        end.send(()).unwrap();
        copy.await.unwrap();
        assert_eq!(function.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
