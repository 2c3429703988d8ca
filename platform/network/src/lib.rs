//! The VPC's I/O: TUN devices and the thread that moves packets between them, names, attached servers, the world.
//!
//! Which packet goes where is decided by [`packets`]; this room carries them.

mod lease;

pub use lease::{InsideAddress, InsideAddresses};
