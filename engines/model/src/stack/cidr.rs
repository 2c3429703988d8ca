//! Address ranges of both versions.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 range such as `10.0.0.0/16`.
pub type Cidr = Range<Ipv4Addr>;
/// An IPv6 range such as `2001:db8::/56`.
pub type Cidr6 = Range<Ipv6Addr>;

/// The addresses that share their first `prefix` bits; no bit is set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range<A> {
    first: A,
    prefix: u8,
}

/// An address of either version.
pub trait Address: Copy + Ord + fmt::Display + FromStr {
    /// Bits of an address.
    const BITS: u8;
    /// The address without a bit.
    const ZERO: Self;
    /// What a range of such addresses looks like.
    const FORM: &'static str;

    /// The address with all bits behind the first `prefix` (at most `BITS`) cleared, and with all of them set.
    fn ends(self, prefix: u8) -> (Self, Self);
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;
    const ZERO: Self = Self::UNSPECIFIED;
    const FORM: &'static str = "an IPv4 range such as 10.0.0.0/16";

    fn ends(self, prefix: u8) -> (Self, Self) {
        let behind = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        ((u32::from(self) & !behind).into(), (u32::from(self) | behind).into())
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;
    const ZERO: Self = Self::UNSPECIFIED;
    const FORM: &'static str = "an IPv6 range such as 2001:db8::/56";

    fn ends(self, prefix: u8) -> (Self, Self) {
        let behind = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        ((u128::from(self) & !behind).into(), (u128::from(self) | behind).into())
    }
}

impl<A: Address> Range<A> {
    /// Everything.
    pub const ANY: Self = Self { first: A::ZERO, prefix: 0 };

    /// The range of `prefix` bits around `address`; `None` when an address has fewer bits.
    pub fn around(address: A, prefix: u8) -> Option<Self> {
        (prefix <= A::BITS).then(|| Self { first: address.ends(prefix).0, prefix })
    }

    /// The first address.
    pub fn first(self) -> A {
        self.first
    }

    /// The last address.
    pub fn last(self) -> A {
        self.first.ends(self.prefix).1
    }

    /// Number of fixed bits, 0 to 32 or 128.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies inside.
    pub fn contains(self, address: A) -> bool {
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

impl Cidr {
    /// Number of addresses.
    pub fn addresses(self) -> u64 {
        1 << (32 - self.prefix)
    }

    /// Addresses a subnet of this range can give out: all but five, which AWS keeps
    /// (VPC User Guide, "Subnet CIDR blocks": network, router, DNS, future use, broadcast).
    pub fn usable(self) -> u64 {
        self.addresses().saturating_sub(5)
    }
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRange<A> {
    /// It is not of the form `10.0.0.0/16` or `2001:db8::/56`.
    Form(String),
    /// Bits are set behind the prefix; the range that was meant.
    HostBits(Range<A>),
}

impl<A: Address> fmt::Display for BadRange<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(text) => write!(formatter, "`{text}` is not {}", A::FORM),
            Self::HostBits(meant) => {
                write!(formatter, "address bits are set behind the prefix; `{meant}` is meant?")
            }
        }
    }
}

impl<A: Address + fmt::Debug> std::error::Error for BadRange<A> {}

impl<A: Address> FromStr for Range<A> {
    type Err = BadRange<A>;

    fn from_str(text: &str) -> Result<Self, BadRange<A>> {
        let form = || BadRange::Form(text.to_owned());
        let (address, prefix) = text.trim().split_once('/').ok_or_else(form)?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(form());
        }
        let address: A = address.parse().map_err(|_| form())?;
        let range = prefix.parse().ok().and_then(|prefix| Self::around(address, prefix)).ok_or_else(form)?;
        if range.first == address { Ok(range) } else { Err(BadRange::HostBits(range)) }
    }
}

impl<A: Address> fmt::Display for Range<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

impl<A: Address> Serialize for Range<A> {
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
            assert!(matches!(text.parse::<Cidr>(), Err(BadRange::Form(_))), "{text}");
        }
        let meant = "10.0.0.0/16".parse::<Cidr>().unwrap();
        assert_eq!("10.0.1.0/16".parse::<Cidr>(), Err(BadRange::HostBits(meant)));
    }

    #[test]
    fn ranges_of_version_6_read_and_answer() {
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
    fn bad_ranges_of_version_6_say_why() {
        for text in ["::", "::/129", "10.0.0.0/8", "x/8", "::/", "::/+8", ""] {
            assert!(matches!(text.parse::<Cidr6>(), Err(BadRange::Form(_))), "{text}");
        }
        assert_eq!(
            "2001:db8::1/64".parse::<Cidr6>(),
            Err(BadRange::HostBits("2001:db8::/64".parse().unwrap()))
        );
    }
}
