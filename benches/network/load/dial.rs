//! Connections that are begun without waiting, to several addresses in turn.

use anyhow::Result;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Who is called: as many addresses from the first on, in turn.
#[derive(Debug)]
pub struct Targets {
    pub first: Ipv4Addr,
    pub addresses: u32,
    pub port: u16,
}

impl Targets {
    /// A connection to the address whose turn it is, begun and not yet there. It is cut, not closed, when dropped, so that
    /// neither side remembers it.
    pub fn dial(&self, turn: usize) -> Result<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        let address = Ipv4Addr::from_bits(self.first.to_bits() + (turn as u32) % self.addresses);
        match connect(&socket, &SocketAddrV4::new(address, self.port)) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }
}
