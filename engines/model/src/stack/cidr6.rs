//! IPv6 address ranges.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An IPv6 range such as `2001:db8::/56`; no bit is set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr6 {
    first: Ipv6Addr,
    prefix: u8,
}

impl Cidr6 {
    /// Everything.
    pub const ANY: Self = Self { first: Ipv6Addr::UNSPECIFIED, prefix: 0 };

    /// The range of `prefix` bits around `address`; `None` when `prefix` is above 128.
    pub fn around(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        let bits = u128::from(address) & mask(prefix)?;
        Some(Self { first: bits.into(), prefix })
    }

    /// The first address.
    pub fn first(self) -> Ipv6Addr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> Ipv6Addr {
        (u128::from(self.first) | !mask(self.prefix).unwrap_or(u128::MAX)).into()
    }

    /// Number of fixed bits, 0 to 128.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies inside.
    pub fn contains(self, address: Ipv6Addr) -> bool {
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

fn mask(prefix: u8) -> Option<u128> {
    match prefix {
        0 => Some(0),
        1..=128 => Some(u128::MAX << (128 - prefix)),
        _ => None,
    }
}

/// Why a text is no IPv6 range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCidr6 {
    /// It is not of the form `2001:db8::/56`.
    Form(String),
    /// Bits are set behind the prefix; the range that was meant.
    HostBits(Cidr6),
}

impl fmt::Display for BadCidr6 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(text) => write!(formatter, "`{text}` is no IPv6 range such as 2001:db8::/56"),
            Self::HostBits(meant) => {
                write!(formatter, "address bits are set behind the prefix; `{meant}` is meant?")
            }
        }
    }
}

impl std::error::Error for BadCidr6 {}

impl FromStr for Cidr6 {
    type Err = BadCidr6;

    fn from_str(text: &str) -> Result<Self, BadCidr6> {
        let form = || BadCidr6::Form(text.to_owned());
        let (address, prefix) = text.trim().split_once('/').ok_or_else(form)?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(form());
        }
        let address: Ipv6Addr = address.parse().map_err(|_| form())?;
        let range = prefix.parse().ok().and_then(|prefix| Self::around(address, prefix)).ok_or_else(form)?;
        if range.first == address { Ok(range) } else { Err(BadCidr6::HostBits(range)) }
    }
}

impl fmt::Display for Cidr6 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

impl Serialize for Cidr6 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_and_answer() {
        let vpc: Cidr6 = "2001:db8:1200::/56".parse().unwrap();
        let subnet: Cidr6 = "2001:db8:1200:1::/64".parse().unwrap();
        assert!(vpc.covers(subnet) && !subnet.covers(vpc) && vpc.overlaps(subnet));
        assert!(subnet.contains("2001:db8:1200:1::5".parse().unwrap()));
        assert!(!subnet.contains("2001:db8:1200:2::5".parse().unwrap()));
        assert_eq!("::/0".parse(), Ok(Cidr6::ANY));
        assert!(Cidr6::ANY.contains(Ipv6Addr::LOCALHOST));
        assert_eq!("::1/128".parse::<Cidr6>().map(Cidr6::last), Ok(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn bad_ranges_say_why() {
        for text in ["::", "::/129", "10.0.0.0/8", "x/8", "::/", "::/+8", ""] {
            assert!(matches!(text.parse::<Cidr6>(), Err(BadCidr6::Form(_))), "{text}");
        }
        assert_eq!(
            "2001:db8::1/64".parse::<Cidr6>(),
            Err(BadCidr6::HostBits("2001:db8::/64".parse().unwrap()))
        );
    }
}
