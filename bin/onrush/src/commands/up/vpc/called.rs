//! Destinations by the names that functions used for them.

use model::Refusal;
use network::Resolver;
use std::net::{IpAddr, SocketAddr};

/// The name of a destination as limits write it (`203.0.113.10:443`, `…/udp`, `203.0.113.10/icmp`), with its port, if a
/// function was told its address under a name.
pub fn name_of(resolver: &Resolver, destination: &str) -> Option<String> {
    let (end, _) = parts(destination)?;
    name_of_end(resolver, end)
}

/// The same of an address and a port; port 0 is none.
pub fn name_of_end(resolver: &Resolver, end: SocketAddr) -> Option<String> {
    let name = resolver.called(end.ip())?;
    Some(if end.port() == 0 { name.to_string() } else { format!("{name}:{}", end.port()) })
}

/// The refusal with its destination's name before the address: `cache.example.com:443 (203.0.113.10)`.
pub fn named(resolver: &Resolver, refusal: Refusal) -> Refusal {
    let destination = refusal.destination.as_deref().and_then(|destination| {
        let (end, protocol) = parts(destination)?;
        Some(format!("{}{protocol} ({})", name_of_end(resolver, end)?, end.ip()).into())
    });
    Refusal { destination: destination.or(refusal.destination), ..refusal }
}

fn parts(destination: &str) -> Option<(SocketAddr, &str)> {
    let (end, protocol) = destination.find('/').map_or((destination, ""), |at| destination.split_at(at));
    let end = end.parse::<SocketAddr>().or_else(|_| end.parse::<IpAddr>().map(|address| (address, 0).into()));
    Some((end.ok()?, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_limits_write_them() {
        let read = |text| parts(text).map(|(end, protocol)| (end.to_string(), protocol));
        assert_eq!(read("203.0.113.10:443"), Some(("203.0.113.10:443".to_owned(), "")));
        assert_eq!(read("203.0.113.10:53/udp"), Some(("203.0.113.10:53".to_owned(), "/udp")));
        assert_eq!(read("203.0.113.10/icmp"), Some(("203.0.113.10:0".to_owned(), "/icmp")));
        assert_eq!(read("[2001:db8::1]:443"), Some(("[2001:db8::1]:443".to_owned(), "")));
        assert_eq!(read("Database:5432"), None);
    }
}
