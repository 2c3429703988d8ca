//! Who is connected: how many connections one address may have, and how long a client may stand still.
//!
//! Both are limits of this host and never AWS's: a client that sends a byte a second, or reads nothing of its answer, must not keep
//! its place for ever, and one address must not take all places from the others.

use bytes::Bytes;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most connections served at once; more wait in the listener's backlog.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;
/// Most connections of one client address unless told otherwise: a quarter is left for everybody else.
pub const CLIENT_CONNECTIONS_MAX: u32 = (CONNECTIONS_MAX - CONNECTIONS_MAX / 4) as u32;
/// How long a client may stand still unless told otherwise: with a request's head, between two pieces of a body, and with an
/// answer that it does not take.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The slowest pace that is still taken for progress, in bytes a second, once a client has had its time to stand still. Without
/// it a byte a second would be progress, and 6 MB ten weeks.
pub(crate) const PACE_BYTES_PER_S: u64 = 1_024;
/// A client of IPv6 has a network of its own, of so many bits.
const CLIENT_BITS_V6: u32 = 64;

/// All clients of one listener.
#[derive(Debug)]
pub struct Clients {
    max: u32,
    timeout: Duration,
    is_given: (bool, bool),
    started: std::time::Instant,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Connections by address. Bound: nobody is in it without a connection.
    held: HashMap<IpAddr, u32>,
    connections: Refusals,
    slow: Refusals,
}

#[derive(Debug, Default)]
struct Refusals {
    peak: u64,
    count: u64,
    first_at: Option<Instant>,
}

impl Refusals {
    /// Whether it is to be said: each time as often as before.
    fn count(&mut self, now: Instant) -> bool {
        self.count += 1;
        self.first_at.get_or_insert(now);
        self.count.is_power_of_two()
    }
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Guest {
    clients: Arc<Clients>,
    address: IpAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut book = self.clients.book();
        if let Some(count) = book.held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                book.held.remove(&self.address);
            }
        }
    }
}

impl Clients {
    /// Nobody yet; `max` connections of one address and so long a time, where the user said so.
    pub fn new(max: Option<u32>, timeout: Option<Duration>) -> Self {
        Self {
            max: max.unwrap_or(CLIENT_CONNECTIONS_MAX),
            timeout: timeout.unwrap_or(CLIENT_TIMEOUT),
            is_given: (max.is_some(), timeout.is_some()),
            started: std::time::Instant::now(),
            book: Mutex::default(),
        }
    }

    /// How long a client may stand still.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A place for one more connection.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Guest, Refusal> {
        let address = client_of(address);
        let now = self.now();
        let mut book = self.book();
        let held = book.held.get(&address).copied().unwrap_or(0);
        if held >= self.max {
            let is_said = book.connections.count(now);
            drop(book);
            let refusal = Refusal {
                limit: LimitId::HostClientConnections,
                resource: address.to_string().into(),
                destination: None,
                used: u64::from(held),
                max: u64::from(self.max),
                retry_at: None,
            };
            if is_said {
                tracing::warn!("{refusal}");
            }
            return Err(refusal);
        }
        book.held.insert(address, held + 1);
        book.connections.peak = book.connections.peak.max(u64::from(held) + 1);
        Ok(Guest { clients: Arc::clone(self), address })
    }

    /// A client stood still for too long, or was too slow.
    pub(crate) fn was_slow(&self, what: &'static str) {
        let now = self.now();
        if self.book().slow.count(now) {
            tracing::warn!(limit = %LimitId::HostClientTimeout, what, "a client was too slow and is cut off");
        }
    }

    /// The limits board.
    pub(crate) fn board(&self) -> [LimitRow; 2] {
        let book = self.book();
        let row = |id: LimitId, max, used, refusals: &Refusals, is_given: bool| LimitRow {
            id,
            resource: "host".into(),
            max,
            used,
            peak: refusals.peak,
            refused: refusals.count,
            first_refused_at: refusals.first_at,
            source: if is_given { "--limit" } else { "Onrush's own bound" }.into(),
            raisable: id.raisable(),
        };
        let most = u64::from(book.held.values().copied().max().unwrap_or(0));
        let (connections, timeout) = self.is_given;
        [
            row(LimitId::HostClientConnections, u64::from(self.max), most, &book.connections, connections),
            row(LimitId::HostClientTimeout, self.timeout.as_secs(), 0, &book.slow, timeout),
        ]
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The one client behind an address.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = u128::from(address) & (u128::MAX << (128 - CLIENT_BITS_V6));
            IpAddr::V6(Ipv6Addr::from(network))
        }
        other => other,
    }
}

/// Until when a client that has moved `bytes` since `begun`, the last of them at `last`, may take for more.
pub(crate) fn due(
    timeout: Duration,
    begun: tokio::time::Instant,
    last: tokio::time::Instant,
    bytes: u64,
) -> tokio::time::Instant {
    let paced = Duration::from_millis(bytes.saturating_mul(1_000) / PACE_BYTES_PER_S);
    (last + timeout).min(begun + timeout + paced)
}

/// What a connection beyond its client's limit is told before it is closed.
pub(crate) fn refusal_answer(refusal: &Refusal) -> Bytes {
    let body = "{\"message\":\"Too many connections from one client\"}";
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nx-onrush-limit: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        crate::router::limit_text(refusal),
        body.len()
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places() {
        let clients = Arc::new(Clients::new(Some(2), None));
        let one: IpAddr = "127.0.0.1".parse().unwrap();
        let guests = [clients.enter(one).unwrap(), clients.enter(one).unwrap()];
        // The same address as a listener of both families sees it.
        let refusal = clients.enter("::ffff:127.0.0.1".parse().unwrap()).unwrap_err();
        assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::HostClientConnections, 2, 2));
        assert!(clients.enter("127.0.0.2".parse().unwrap()).is_ok());
        drop(guests);
        assert!(clients.book().held.is_empty() && clients.enter(one).is_ok());
        let row = &clients.board()[0];
        assert_eq!((row.used, row.peak, row.refused), (0, 2, 1));
        let network = ["2001:db8::1", "2001:db8::ffff"].map(|text| client_of(text.parse().unwrap()));
        assert_eq!(network[0], network[1]);
        assert_ne!(network[0], client_of("2001:db8:0:1::1".parse().unwrap()));
    }

    #[test]
    fn a_trickle_is_no_progress() {
        let begun = tokio::time::Instant::now();
        let timeout = Duration::from_secs(30);
        let at = |seconds, bytes| due(timeout, begun, begun + Duration::from_secs(seconds), bytes) - begun;
        assert_eq!(at(0, 0), timeout);
        assert_eq!(at(29, 29), Duration::from_millis(30_028), "a byte a second");
        assert_eq!(at(100, 10 << 20), Duration::from_secs(130), "fast, then still");
    }
}
