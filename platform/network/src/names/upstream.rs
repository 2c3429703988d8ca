//! The host's own resolvers, asked on behalf of functions: over UDP, and over TCP when an answer is cut.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::wire::{self, Question};

/// Questions asked at once; more are answered with a failure, and clients ask again.
const IN_FLIGHT_MAX: usize = 512;
/// How long one server is waited for. Clients wait 5 s by default, so two servers fit.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Servers asked for one question, as resolv.conf(5) reads no more.
const SERVERS_MAX: usize = 3;
/// Largest answer over UDP that is taken.
const UDP_BYTES_MAX: usize = 4_096;
/// Strange datagrams passed over while one answer is waited for.
const STRANGERS_MAX: usize = 32;

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Too many questions at once.
    #[error("{IN_FLIGHT_MAX} questions are being asked already")]
    Busy,
    /// The host has no resolver.
    #[error("{0} names no resolver")]
    NoServers(PathBuf),
    /// None of them answered.
    #[error("no resolver of the host answered, the last failed with: {0}")]
    NoAnswer(io::Error),
    /// No randomness.
    #[error("no randomness for a question's id: {0}")]
    Randomness(getrandom::Error),
}

/// Whom the host asks.
#[derive(Debug)]
pub struct Upstream {
    servers: Servers,
    in_flight: Semaphore,
}

#[derive(Debug)]
enum Servers {
    File(PathBuf),
    Fixed(Vec<SocketAddr>),
}

impl Upstream {
    /// The servers of a resolv.conf(5), read again for every question: laptops move.
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        Self { servers: Servers::File(path.into()), in_flight: Semaphore::new(IN_FLIGHT_MAX) }
    }

    /// These servers.
    pub fn of(servers: Vec<SocketAddr>) -> Self {
        Self { servers: Servers::Fixed(servers), in_flight: Semaphore::new(IN_FLIGHT_MAX) }
    }

    /// Asks; the answer carries the client's id.
    ///
    /// # Errors
    /// When nobody answered.
    pub async fn ask(&self, question: &Question<'_>, query: &[u8]) -> Result<Vec<u8>, UpstreamError> {
        let _turn = self.in_flight.try_acquire().map_err(|_| UpstreamError::Busy)?;
        let servers = match &self.servers {
            Servers::Fixed(servers) => servers.clone(),
            Servers::File(path) => {
                let servers = read_servers(&std::fs::read_to_string(path).unwrap_or_default());
                if servers.is_empty() {
                    return Err(UpstreamError::NoServers(path.clone()));
                }
                servers
            }
        };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for server in servers.into_iter().take(SERVERS_MAX) {
            match ask_one(server, question, query).await? {
                Ok(mut answer) => {
                    answer[..2].copy_from_slice(&question.id());
                    return Ok(answer);
                }
                Err(error) => last = error,
            }
        }
        Err(UpstreamError::NoAnswer(last))
    }
}

/// One server, first over UDP, then over TCP. The outer error is ours, the inner the server's.
async fn ask_one(
    server: SocketAddr,
    question: &Question<'_>,
    query: &[u8],
) -> Result<io::Result<Vec<u8>>, UpstreamError> {
    // An id of our own for every try: a function that guesses the client's id cannot answer for the server.
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(UpstreamError::Randomness)?;
    let mut query = query.to_owned();
    query[..2].copy_from_slice(&id);
    let over_udp = timeout(SERVER_TIMEOUT, over_udp(server, question, &query, id)).await;
    let answer = match over_udp.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(answer) if wire::is_truncated(&answer) => answer,
        other => return Ok(other),
    };
    let over_tcp = timeout(SERVER_TIMEOUT, over_tcp(server, &query)).await;
    // What was cut is still an answer: the client learns that there is more.
    Ok(Ok(match over_tcp {
        Ok(Ok(whole)) if question.is_answered_by(&whole, id) => whole,
        _ => answer,
    }))
}

async fn over_udp(
    server: SocketAddr,
    question: &Question<'_>,
    query: &[u8],
    id: [u8; 2],
) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    for _ in 0..STRANGERS_MAX {
        let bytes = socket.recv(&mut answer).await?;
        if question.is_answered_by(&answer[..bytes], id) {
            answer.truncate(bytes);
            return Ok(answer);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The `nameserver` lines of a resolv.conf(5). Without any, the C library asks this machine.
fn read_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A zone (`fe80::1%eth0`) names an interface; the kernel finds global addresses without it.
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        servers.extend(address.map(|address| SocketAddr::new(address, 53)));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let text =
            "# nameserver 1.1.1.1\nsearch lan\nnameserver 127.0.0.53\n nameserver ::1 # mine\nnameserver x\n";
        let servers: Vec<_> = read_servers(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["127.0.0.53:53", "[::1]:53"]);
    }
}
