//! The environments that packets come from: their addresses and their place in the network.

use limits::eni::InterfaceId;
use limits::token_bucket::TokenBucket;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One attached environment: its slot, and which of the slot's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl EnvironmentId {
    /// A small number that no other environment has at the same time.
    pub const fn index(self) -> usize {
        self.slot as usize
    }
}

/// Where a function's environment is in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function's index in [`limits::Network::placements`].
    pub function: usize,
    /// Which of its subnets.
    pub choice: usize,
}

/// What is known of an environment when its device is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The only IPv4 address that it may send from.
    pub address: Ipv4Addr,
    /// The only IPv6 address, if it has one.
    pub address6: Option<Ipv6Addr>,
    /// Where it is; `None`: the function has no VPC.
    pub place: Option<Place>,
    /// Where the VPC's resolver answers beside 169.254.169.253; `None`: at the base + 2 that the network says.
    pub resolver: Option<Ipv4Addr>,
}

/// An environment, as the engine keeps it.
#[derive(Clone, Debug)]
pub struct Environment {
    pub generation: u32,
    pub attachment: Attachment,
    pub interface: Option<InterfaceId>,
    pub subnet: usize,
    /// Flows that are of it, also after it is gone.
    pub flows: u32,
    pub attached: bool,
    /// What is left of its new flows, where they are bounded.
    pub new_flows: Option<TokenBucket>,
}

impl Environment {
    /// The address that the world sees where no VPC stands between: the low bits of its own, of 198.19.0.0/17.
    pub fn public(&self) -> Ipv4Addr {
        const PUBLIC: u32 = 0xc613_0000;
        let low = u32::from(self.attachment.address) & 0xffff;
        (PUBLIC | low >> 1).into()
    }

    /// The router's address that it sees in errors: the other one of its /30.
    pub fn router(&self) -> Ipv4Addr {
        (u32::from(self.attachment.address) & !3 | 1).into()
    }
}
