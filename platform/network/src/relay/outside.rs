//! What of the world a function may reach: neither the host, nor its networks, nor anything private.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use netdev::route::{Connected, Range};

/// Ranges that are not the public internet, IPv4.
///
/// Source: IANA IPv4 Special-Purpose Address Registry; 198.18.0.0/15 holds addresses of ours.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The host's own addresses and networks, and whatever is not public.
#[derive(Debug)]
pub struct Outside {
    connected: Mutex<Connected>,
}

impl Outside {
    /// As this host's devices are, now and later.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn of_this_host() -> io::Result<Self> {
        Ok(Self { connected: Mutex::new(Connected::watch()?) })
    }

    /// Whether a function may reach the address. Nothing is allowed while the kernel does not say what the host has.
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.renew().is_ok_and(|connected| is_foreign(address, connected))
    }
}

fn is_foreign(address: IpAddr, connected: &[Range]) -> bool {
    let address = address.to_canonical();
    is_public(address) && !connected.iter().any(|(range, prefix)| is_within(address, *range, *prefix))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => {
            !NOT_PUBLIC_V4.iter().any(|(range, prefix)| is_within(address, IpAddr::V4(*range), *prefix))
        }
        IpAddr::V6(address) => {
            // Global unicast is 2000::/3; of it, tunnels (6to4, Teredo) and NAT64 could carry a private IPv4 address.
            let [first, second, ..] = address.segments();
            let global = first & 0xE000 == 0x2000;
            let tunnel = first == 0x2002 || (first == 0x2001 && second == 0);
            let documentation = first == 0x2001 && second == 0xDB8;
            global && !tunnel && !documentation && address != Ipv6Addr::UNSPECIFIED
        }
    }
}

fn is_within(address: IpAddr, range: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let shift = 128_u32.saturating_sub(u32::from(prefix));
    address.is_ipv4() == range.is_ipv4()
        && bits(address).checked_shr(shift).unwrap_or(0) == bits(range).checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_its_networks_and_private_ranges_are_out_of_reach() {
        let connected = [("8.8.4.0".parse().unwrap(), 24)];
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.19.1.1",
            "8.8.4.4",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(!is_foreign(text.parse().unwrap(), &connected), "{text}");
        }
        for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_foreign(text.parse().unwrap(), &connected), "{text}");
        }
    }

    #[test]
    fn this_hosts_own_addresses_are_known() {
        let outside = Outside::of_this_host().unwrap();
        let connected = outside.connected.lock().unwrap();
        assert!(connected.known().iter().any(|(address, _)| address.is_loopback()));
    }
}
