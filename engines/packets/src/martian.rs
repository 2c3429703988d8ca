//! Addresses that nothing is routed from or to.
//!
//! Source: RFC 6890 and its registries; RFC 1122, section 3.2.1.3. In AWS link-local addresses belong to the host
//! (169.254.169.254 has its metadata, which functions cannot reach).

use std::net::{IpAddr, Ipv4Addr};

/// Whether no packet is ever forwarded to or from it.
pub fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            // "This network", loopback, link-local, multicast, and what is kept for the future with the broadcast address.
            first == 0 || address.is_loopback() || address.is_link_local() || first >= 224
        }
        IpAddr::V6(address) => {
            address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address.to_ipv4().is_some()
        }
    }
}

/// Whether it means nothing in the outer world: private networks, those of carriers, and those for benchmarks, which
/// our own addresses are from.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || first == 100 && second & 0xc0 == 64 || is_given_out(address)
        }
        // And RFC 3849's range, which VPCs have theirs from here.
        IpAddr::V6(address) => address.is_unique_local() || address.to_bits() >> 96 == 0x2001_0db8,
    }
}

/// Whether it is of the range that gateways and functions have their public addresses from (198.18.0.0/15): nobody else
/// answers there, and a gateway's own address leads nowhere.
pub fn is_given_out(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 198 && second & 0xfe == 18
}

/// Whether it is one of ours for what has none of its own: names of AWS's services, and attached names (198.19.128.0/17).
pub fn is_ours(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if u32::from(address) >> 15 == 0xc613_8000 >> 15)
}

/// Where the VPC's resolver answers in every VPC.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// The same by IPv6: fd00:ec2::253.
pub const RESOLVER6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_routed() {
        for text in [
            "0.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::2",
            "fe80::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
        ] {
            assert!(is_martian(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "10.0.0.5", "223.255.255.255", "2001:db8::1", "fd00:0:1::2"] {
            assert!(!is_martian(text.parse().unwrap()), "{text}");
        }
        for text in [
            "10.1.2.3",
            "172.31.0.4",
            "192.168.1.1",
            "100.64.0.1",
            "198.19.128.4",
            "fd00::1",
            "2001:db8:1::4",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for (text, ours) in [("198.19.128.1", true), ("198.19.255.255", true), ("198.19.127.255", false)] {
            assert_eq!(is_ours(text.parse().unwrap()), ours, "{text}");
        }
        for text in ["9.9.9.9", "100.128.0.1", "198.20.0.1", "172.32.0.1", "2600::1"] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
}
