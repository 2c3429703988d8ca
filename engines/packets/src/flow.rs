//! One flow: 80 bytes, of whatever version of IP; the two addresses of an IPv6 flow stand beside the table.
//!
//! What packets read and write is one line of a cache; the rest, which a flow's beginning and end need, stands apart.

use model::Instant;

/// No slot.
pub const NONE: u32 = u32::MAX;
/// No gateway.
pub const NO_GATEWAY: u16 = u16::MAX;

/// Where a flow is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The record is free.
    #[default]
    Free,
    /// Nothing has come back yet: a SYN, a datagram, an echo request.
    Opening,
    /// Both sides were heard.
    Open,
    /// It was closed and holds nothing any more; late and repeated packets still pass for a moment.
    Lingering,
    /// Part of its way has forgotten it in silence, the rest holds on.
    Forgotten,
}

/// What a flow has and has seen, a bit each.
pub mod marks {
    /// A connection of its interface.
    pub const INTERFACE: u16 = 1;
    /// A port of a NAT gateway.
    pub const GATEWAY: u16 = 1 << 1;
    /// A connection of a database.
    pub const DATABASE: u16 = 1 << 2;
    /// A port of its interface that is its own.
    pub const INTERFACE_PORT: u16 = 1 << 3;
    /// It leads to the relay rather than to the world.
    pub const RELAY: u16 = 1 << 4;
    /// It leads nowhere: nobody has the address.
    pub const NOWHERE: u16 = 1 << 5;
    /// Its SYN is being held.
    pub const HELD: u16 = 1 << 6;
    /// IPv6: `remote` is an index of the table's wide addresses.
    pub const SIX: u16 = 1 << 7;
    /// The environment has said all it has to say.
    pub const FIN_OUT: u16 = 1 << 8;
    /// The other side has.
    pub const FIN_IN: u16 = 1 << 9;
    /// Of two FINs, the environment's came last.
    pub const LAST_FIN_OUT: u16 = 1 << 10;
    /// More than one exchange: of UDP, a stream.
    pub const STREAM: u16 = 1 << 11;
    /// Its handshake was counted as established.
    pub const ESTABLISHED: u16 = 1 << 12;
    /// The relay has reached its destination.
    pub const REACHED: u16 = 1 << 13;
    /// The environment speaks IPv6, and the rest of the way IPv4.
    pub const NAT64: u16 = 1 << 14;
    /// A port of the world's masquerade.
    pub const MASQUERADE: u16 = 1 << 15;
}

/// What packets of a flow read and write.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub struct Flow {
    /// When a packet of it passed last.
    pub last: Instant,
    /// Bytes from the environment, as IP counts them, since the last record of the flow log.
    pub bytes_out: u64,
    /// Bytes to the environment.
    pub bytes_in: u64,
    /// Packets from the environment.
    pub packets_out: u32,
    /// Packets to the environment.
    pub packets_in: u32,
    /// The environment's slot.
    pub environment: u32,
    /// The other side's IPv4 address, or the place of both IPv6 addresses.
    pub remote: u32,
    /// The IPv4 address under which the other side knows it.
    pub outside: u32,
    /// When its first packet since the last record of the flow log passed, in seconds.
    pub first_s: u32,
    /// The environment's port.
    pub inside_port: u16,
    /// The other side's port.
    pub remote_port: u16,
    /// The port under which the other side knows it.
    pub outside_port: u16,
    /// The gateway's index.
    pub gateway: u16,
    /// What it has and has seen.
    pub marks: u16,
    /// The IP protocol's number.
    pub protocol: u8,
    /// Where it is in its life.
    pub state: State,
    /// FIN, SYN, RST and SYN's ACK that the environment sent since the last record of the flow log.
    pub flags_out: u8,
    /// Those that it got.
    pub flags_in: u8,
}

/// What only its beginning, its end and its timer need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// Of a NAT gateway's port, its pool; of a database without one before it, its index in the network.
    pub pool: u32,
    /// Timer list, or the next free record.
    pub next: u32,
    /// Timer list.
    pub previous: u32,
    /// The interface's port.
    pub interface_port: u16,
    /// Which of a gateway's addresses it has.
    pub gateway_address: u16,
}

const _: () = assert!(size_of::<Flow>() == 64 && size_of::<Rest>() == 16);

impl Flow {
    /// Whether it has all of these marks.
    #[inline]
    pub const fn has(&self, marks: u16) -> bool {
        self.marks & marks == marks
    }
}
