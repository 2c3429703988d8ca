//! What goes in and what comes out: packets with their offloads, where they come from, and what becomes of them.

use crate::environment::EnvironmentId;
use model::LimitId;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::Range;

/// One IP packet, as a device gave it.
#[derive(Debug)]
pub struct Packet<'bytes> {
    /// The packet from its first header on, exactly as long as that says.
    pub bytes: &'bytes mut [u8],
    /// What the device left undone.
    pub offload: Offload,
}

/// What a device left to whoever sends the packet on (the virtio-net header): it stays undone, and stays right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum holds only the pseudo header's sum.
    pub checksum: Option<Partial>,
    /// The packet stands for several, each with so many bytes of payload (TSO, USO).
    pub segment: Option<NonZeroU16>,
}

/// Where a partial checksum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// From where it counts, in bytes from the packet's first.
    pub start: u16,
    /// Where it goes, in bytes from `start`.
    pub offset: u16,
}

/// Where a packet comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// The device of an execution environment.
    Environment(EnvironmentId),
    /// The outside.
    World,
    /// What is attached, and our own endpoints.
    Relay,
}

/// A SYN that waits until the relay has reached what is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeldId(pub(crate) u64);

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes there, rewritten in place.
    Forward(Port),
    /// It goes there as what [`PacketEngine::answer`](crate::PacketEngine::answer) holds, with this left undone: a packet of
    /// the other version of IP.
    Carry(Port, Offload),
    /// It is dropped, and what [`PacketEngine::answer`](crate::PacketEngine::answer) holds goes back where it came from.
    Answer,
    /// A question to the VPC's resolver; its payload is this range of the packet's bytes.
    Resolve {
        /// Of the DNS message.
        payload: Range<usize>,
    },
    /// The SYN is kept until the driver says whether the relay has reached the destination.
    Ask {
        /// To say it with.
        held: HeldId,
        /// The source as the relay will see it.
        source: SocketAddr,
        /// The destination.
        destination: SocketAddr,
    },
    /// It is dropped; a refusal by a limit says which in [`Reason::limit`].
    Drop(Reason),
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its headers are cut short or contradict each other, or a checksum of a header is wrong.
    Malformed,
    /// Its source is not the sender's.
    Spoofed,
    /// Its source or destination is an address that is never routed: loopback, multicast, broadcast, link-local, itself.
    Martian,
    /// A fragment that nothing is known about, overlaps another, or is of a protocol whose fragments a NAT gateway drops.
    Fragment,
    /// A protocol, or a kind of ICMP message, that is not translated.
    Protocol,
    /// It belongs to no flow.
    NoFlow,
    /// The NAT gateway or the interface has forgotten the flow.
    Forgotten,
    /// Nobody has the address, or nothing is attached to it.
    Nobody,
    /// The environment is gone.
    Detached,
    /// Its SYN is being held already.
    Held,
    /// It is larger than what the way takes and may not be cut, or it is never cut here.
    TooBig,
    /// Its hops are used up, and it is nothing that is told so.
    Expired,
    /// A limit refuses it.
    Refused(LimitId),
}

impl Reason {
    /// The limit that refused it.
    pub const fn limit(self) -> Option<LimitId> {
        match self {
            Self::Refused(limit) => Some(limit),
            _ => None,
        }
    }

    /// Its word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Spoofed => "spoofed",
            Self::Martian => "martian",
            Self::Fragment => "fragment",
            Self::Protocol => "protocol",
            Self::NoFlow => "no-flow",
            Self::Forgotten => "forgotten",
            Self::Nobody => "nobody",
            Self::Detached => "detached",
            Self::Held => "held",
            Self::TooBig => "too-big",
            Self::Expired => "expired",
            Self::Refused(limit) => limit.as_str(),
        }
    }
}
