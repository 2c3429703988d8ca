//! IPv4 address ranges.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 range such as `10.0.0.0/16`; no bit is set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// Everything.
    pub const ANY: Self = Self { first: Ipv4Addr::UNSPECIFIED, prefix: 0 };

    /// The range of `prefix` bits around `address`; `None` when `prefix` is above 32.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let bits = u32::from(address) & mask(prefix)?;
        Some(Self { first: bits.into(), prefix })
    }

    /// The first address.
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> Ipv4Addr {
        (u32::from(self.first) | !mask(self.prefix).unwrap_or(u32::MAX)).into()
    }

    /// Number of fixed bits, 0 to 32.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Number of addresses.
    pub fn addresses(self) -> u64 {
        1 << (32 - self.prefix.min(32))
    }

    /// Addresses a subnet of this range can give out: all but five, which AWS keeps
    /// (VPC User Guide, "Subnet CIDR blocks": network, router, DNS, future use, broadcast).
    pub fn usable(self) -> u64 {
        self.addresses().saturating_sub(5)
    }

    /// Whether `address` lies inside.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last()).contains(&address)
    }

    /// Whether all of `other` lies inside.
    pub fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.first)
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

fn mask(prefix: u8) -> Option<u32> {
    match prefix {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - prefix)),
        _ => None,
    }
}

/// Why a text is no IPv4 range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCidr {
    /// It is not of the form `10.0.0.0/16`.
    Form(String),
    /// Bits are set behind the prefix; the range that was meant.
    HostBits(Cidr),
}

impl fmt::Display for BadCidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(text) => write!(formatter, "`{text}` is not an IPv4 range such as 10.0.0.0/16"),
            Self::HostBits(meant) => {
                write!(formatter, "address bits are set behind the prefix; `{meant}` is meant?")
            }
        }
    }
}

impl std::error::Error for BadCidr {}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let form = || BadCidr::Form(text.to_owned());
        let (address, prefix) = text.trim().split_once('/').ok_or_else(form)?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(form());
        }
        let address: Ipv4Addr = address.parse().map_err(|_| form())?;
        let range = prefix.parse().ok().and_then(|prefix| Self::around(address, prefix)).ok_or_else(form)?;
        if range.first == address { Ok(range) } else { Err(BadCidr::HostBits(range)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_and_answer() {
        let vpc: Cidr = "10.0.0.0/16".parse().unwrap();
        let subnet: Cidr = "10.0.1.0/24".parse().unwrap();
        assert!(vpc.covers(subnet) && !subnet.covers(vpc) && vpc.overlaps(subnet));
        assert_eq!((subnet.usable(), subnet.last().to_string().as_str()), (251, "10.0.1.255"));
        assert_eq!("0.0.0.0/0".parse(), Ok(Cidr::ANY));
        assert_eq!(Cidr::ANY.addresses(), 1 << 32);
        assert!(Cidr::ANY.contains(Ipv4Addr::BROADCAST));
        assert_eq!("1.2.3.4/32".parse::<Cidr>().map(Cidr::usable), Ok(0));
    }

    #[test]
    fn bad_ranges_say_why() {
        for text in
            ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "x/8", "10.0.0.0/", "10.0.0.0/+8", "", "10.0.0.0/999"]
        {
            assert!(matches!(text.parse::<Cidr>(), Err(BadCidr::Form(_))), "{text}");
        }
        let meant = "10.0.0.0/16".parse::<Cidr>().unwrap();
        assert_eq!("10.0.1.0/16".parse::<Cidr>(), Err(BadCidr::HostBits(meant)));
    }
}
