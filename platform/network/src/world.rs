//! The outer world: where packets go that leave through a gateway, and what of it is out of bounds.
//!
//! A world is a device in some network namespace whose kernel does the rest. Addresses that the packet engine gives
//! out, 198.18.0.0/15 and 2001:db8::/32, are routed back to the device. The device, its routes and the host's packet rules go with the
//! descriptors that hold them, however the process ends.

mod forwarding;
mod host;
mod keeper;

pub use forwarding::restore as restore_forwarding;
pub use keeper::Keeper;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use netdev::device::{Device, Kind, Maker};
use netdev::netlink::{Batch, Socket};
use netdev::pair::Guest;
use netdev::route::{self, Range};
use netdev::tun;

/// The device's name in the world's namespace.
pub const DEVICE: &std::ffi::CStr = c"onrush0";
/// What is given out by the packet engine: NAT gateways, functions without a VPC (RFC 2544's range for benchmarks, which
/// nobody routes).
pub const OURS: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
/// The ranges that Amazon would provide to VPCs, where interfaces have their addresses from (RFC 3849's, for documents:
/// nobody routes it either).
pub const OURS6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32);
/// Flows towards one destination that the kernel masquerades. For those that come from a port of 1024 or more it has the 64,512
/// ports from there on, but looks at 248 alone for each SYN (Linux, `net/netfilter/nf_nat_core.c`,
/// `nf_nat_l4proto_unique_tuple`), and some may be the host's own; so a few are left to be found.
pub const MASQUERADE_PORTS: u32 = 64_000;
/// Large enough for every packet; the far ends agree on less.
const MTU: u32 = 65_535;
/// How long a pair of a killed run may take to go.
const LEAVING: Duration = Duration::from_secs(1);
/// Longest name of a namespace (a file's name).
const NAME_BYTES_MAX: usize = 255;

/// Which world there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum World {
    /// What the host reaches, by forwarding and masquerade.
    Host,
    /// What a named network namespace (`ip netns`) reaches, with the addresses as the engine gives them.
    Namespace(String),
    /// What the host reaches, through a relay that opens each connection itself: needs no right over the host's network.
    Relay,
    /// Nothing.
    None,
}

impl FromStr for World {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "relay" => Ok(Self::Relay),
            "none" => Ok(Self::None),
            _ => match text.strip_prefix("netns:") {
                Some(name) if is_name(name) => Ok(Self::Namespace(name.to_owned())),
                Some(name) => {
                    Err(format!("`{name}` is no name of a network namespace; `ip netns` lists them"))
                }
                None => Err(format!("`{text}` is no world; there are host, relay, netns:NAME and none")),
            },
        }
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => formatter.write_str("host"),
            Self::Namespace(name) => write!(formatter, "netns:{name}"),
            Self::Relay => formatter.write_str("relay"),
            Self::None => formatter.write_str("none"),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('/') && name != "." && name != ".."
}

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The namespace is not there, or may not be entered.
    #[error("cannot enter the network namespace {name}: {error} (`ip netns` lists them)")]
    Namespace {
        /// Its name.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The device is there already.
    #[error("another Onrush has the world of this {place} already (the device onrush0 is there)")]
    Taken {
        /// `host`, or `namespace`.
        place: &'static str,
    },
    /// The device or its settings were refused.
    #[error("cannot {doing}: {error}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// An open world.
#[derive(Debug)]
pub struct Outside {
    /// Packets that leave are written here, and answers read.
    pub device: Device,
    /// Destinations that are out of bounds: the host's own networks, as they change.
    pub refused: Option<route::Connected>,
    /// What somebody should know: rules of others that are in the way.
    pub warnings: Vec<String>,
    /// What keeps packets flowing for as long as it is held.
    _held: Option<host::Held>,
    /// The device, where it would stay a while.
    _guest: Option<Guest>,
}

impl Outside {
    /// A world behind a device that somebody else has set up.
    pub fn behind(device: OwnedFd) -> Self {
        let device = device.into();
        Self { device, refused: None, warnings: Vec::new(), _held: None, _guest: None }
    }
}

impl World {
    /// Opens the world; `None` without one, and for a relay, which is its own affair ([`Outside::behind`]). `state_dir` is where changes of the host's settings are written down.
    ///
    /// # Errors
    /// See [`WorldError`]; nothing half-made stays behind.
    pub fn open(&self, state_dir: &Path) -> Result<Option<Outside>, WorldError> {
        match self {
            Self::None | Self::Relay => Ok(None),
            Self::Host => host::open(state_dir).map(Some),
            Self::Namespace(name) => {
                let opened = elsewhere(|| {
                    enter(name)?;
                    device("namespace")
                })?;
                Ok(Some(opened))
            }
        }
    }
}

/// Runs on a thread of its own, which may end up in another namespace.
fn elsewhere<T: Send>(act: impl FnOnce() -> Result<T, WorldError> + Send) -> Result<T, WorldError> {
    let lost = || WorldError::Kernel { doing: "run a thread", error: io::ErrorKind::Other.into() };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap_or_else(|_| Err(lost())))
}

fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Moves the calling thread into the named namespace.
fn enter(name: &str) -> Result<(), WorldError> {
    let entered = File::open(namespace_path(name)).and_then(|file| {
        let network = rustix::thread::LinkNameSpaceType::Network;
        Ok(rustix::thread::move_into_link_name_space(file.as_fd(), Some(network))?)
    });
    entered.map_err(|error| WorldError::Namespace { name: name.to_owned(), error })
}

/// The device with its route, in the calling thread's namespace.
fn device(place: &'static str) -> Result<Outside, WorldError> {
    let device = make().map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => WorldError::Taken { place },
        _ => WorldError::Kernel { doing: "make a network device", error },
    })?;
    let failed = |error| WorldError::Kernel { doing: "set up the device onrush0", error };
    let kind = Kind::of(&device);
    let guest = (kind == Kind::Pair).then(|| Guest::named(DEVICE)).transpose().map_err(failed)?;
    let set_up = route::index(DEVICE).and_then(|index| {
        let socket = Socket::route()?;
        // A kernel without IPv6 refuses, and so does a namespace where it is off: then IPv4 is all that there is.
        let mut batch = Batch::default();
        route::no_own_ipv6_address(&mut batch, index);
        let speaks_ipv6 = socket.send(batch);
        let mut batch = Batch::default();
        route::up(&mut batch, index, Some(MTU));
        let ours = IpAddr::V4(OURS.0);
        route::route(&mut batch, index, (ours, OURS.1), None, kind.way(ours));
        socket.send(batch)?;
        let mut batch = Batch::default();
        let ours = IpAddr::V6(OURS6.0);
        route::route(&mut batch, index, (ours, OURS6.1), None, kind.way(ours));
        if let Err(error) = speaks_ipv6.and_then(|()| socket.send(batch)) {
            tracing::debug!(%error, "the world has no IPv6");
        }
        Ok(())
    });
    set_up.map_err(failed)?;
    Ok(Outside { _guest: guest, ..Outside::behind(device) })
}

/// A device that a killed run has left goes within moments where the kernel takes it away by itself, as it does with
/// pairs.
fn make() -> io::Result<OwnedFd> {
    let began = Instant::now();
    loop {
        match Maker::default().open(DEVICE, tun::Life::Descriptor) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && began.elapsed() < LEAVING => {
                std::thread::sleep(LEAVING / 20);
            }
            made => return made,
        }
    }
}

/// Whether the address is in one of the ranges.
pub fn is_in(ranges: &[Range], address: IpAddr) -> bool {
    ranges.iter().any(|(first, prefix)| match (first, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let shift = 32_u32.saturating_sub(u32::from(*prefix));
            (u64::from(first.to_bits()) >> shift) == (u64::from(address.to_bits()) >> shift)
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            let shift = 128_u32.saturating_sub(u32::from(*prefix));
            first.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_are_read_and_bad_ones_explained() {
        assert_eq!("host".parse(), Ok(World::Host));
        assert_eq!("none".parse(), Ok(World::None));
        assert_eq!("relay".parse(), Ok(World::Relay));
        assert_eq!("netns:w1".parse(), Ok(World::Namespace("w1".into())));
        for world in [World::Host, World::Relay, World::None, World::Namespace("w1".into())] {
            assert_eq!(world.to_string().parse(), Ok(world));
        }
        for wrong in ["", "netns:", "netns:a/b", "netns:..", "moon"] {
            assert!(wrong.parse::<World>().is_err(), "{wrong}");
        }
        assert!("moon".parse::<World>().unwrap_err().contains("netns:NAME"));
    }

    #[test]
    fn ranges_hold_their_addresses_and_no_other() {
        let ranges = [
            ("10.1.2.3".parse().unwrap(), 16),
            ("192.0.2.7".parse().unwrap(), 32),
            ("2001:db8::1".parse().unwrap(), 64),
        ];
        let is_in = |address: &str| is_in(&ranges, address.parse().unwrap());
        assert!(is_in("10.1.255.1") && is_in("192.0.2.7") && is_in("2001:db8::ffff"));
        assert!(!is_in("10.2.0.1") && !is_in("192.0.2.8") && !is_in("2001:db8:1::1"));
        assert!(super::is_in(&[("0.0.0.0".parse().unwrap(), 0)], "1.2.3.4".parse().unwrap()));
        assert!(super::is_in(&[("::".parse().unwrap(), 0)], "::5".parse().unwrap()));
    }
}
