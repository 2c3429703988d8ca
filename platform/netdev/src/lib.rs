//! Network devices of the kernel, and its settings around them.
//!
//! Everything here acts in the network namespace of the calling thread and asks the kernel directly, without any
//! program of the host's. [`device`] makes devices and moves their packets, by [`tun`] or by [`pair`]; [`route`] gives them
//! addresses and ways, [`nft`] makes tables of packet rules, [`linger`] ends sockets that outlive their programs;
//! [`netlink`] is the language of the last three.

pub mod device;
pub mod linger;
pub mod netlink;
pub mod nft;
pub mod pair;
pub mod ring;
pub mod route;
pub mod tun;
