//! The VPC's I/O: devices and the thread that moves packets between them, names, attached servers, the world.
//!
//! Which packet goes where is decided by [`packets`]; this room carries them.

pub mod attach;
pub mod directory;
pub mod fabric;
pub mod names;
pub mod relay;
mod told;
pub mod world;

pub use attach::{AttachError, Attachments};
pub use names::{Asker, Book, Name, Resolver, ServiceAddresses, Transport, Upstream, VpcNames};
