//! Addresses of IPv4 as IPv6 has them behind a NAT gateway: 64:ff9b::/96.
//!
//! Sources: VPC User Guide, "DNS64 and NAT64" (a subnet's `EnableDns64`, a route of 64:ff9b::/96 to a NAT gateway); RFC 6052,
//! section 2.1 (the well-known prefix); published.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// 64:ff9b::/96, the bits before the IPv4 address.
const PREFIX: u128 = 0x0064_ff9b << 96;

/// The IPv4 address that an IPv6 address stands for, if it does.
pub fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V6(six) if six.to_bits() >> 32 == PREFIX >> 32 => Some((six.to_bits() as u32).into()),
        _ => None,
    }
}

/// The IPv6 address that stands for an IPv4 address.
pub fn synthesized(address: Ipv4Addr) -> Ipv6Addr {
    (PREFIX | u128::from(u32::from(address))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_one() {
        let six = synthesized([203, 0, 113, 10].into());
        assert_eq!(six, "64:ff9b::203.0.113.10".parse::<Ipv6Addr>().unwrap());
        assert_eq!(embedded(six.into()), Some([203, 0, 113, 10].into()));
        for other in ["64:ff9b:1::1", "64:ff9b::1:0:0", "64:ff9a::1.2.3.4", "2001:db8::1", "1.2.3.4"] {
            assert_eq!(embedded(other.parse().unwrap()), None, "{other}");
        }
    }
}
