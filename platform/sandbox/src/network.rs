//! Network namespaces, made ahead, and the listener that stands inside each.
//!
//! For now a namespace holds loopback alone. It is made and kept as a value of its own, so that an interface
//! can be put in before an environment gets it.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};

use crate::syscalls;

/// Where the Runtime API is found inside an environment (AWS_LAMBDA_RUNTIME_API).
pub(crate) const RUNTIME_API: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9001);
/// Connections that may wait to be accepted. A runtime and its extensions need a handful.
const BACKLOG: i32 = 128;

/// One network namespace and the listener in it.
pub(crate) struct Network {
    namespace: OwnedFd,
    listener: Option<OwnedFd>,
}

impl Network {
    /// Makes a namespace with loopback up and a listener. **The calling thread ends up inside.**
    pub fn create() -> io::Result<Network> {
        syscalls::unshare(libc::CLONE_NEWNET)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?;
        let socket = tcp_socket()?;
        syscalls::bring_up_loopback(socket.as_fd())?;
        Ok(Network { namespace, listener: Some(listen(RUNTIME_API)?) })
    }

    /// The namespace, for a process to be cloned in.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Puts a new listener in place of the old. Whatever the last program left unread in the backlog is refused, never
    /// read by the next. **The calling thread ends up inside.**
    ///
    /// # Errors
    /// When somebody still holds the old port: then the namespace must not be used again.
    pub fn renew(&mut self) -> io::Result<()> {
        self.silence();
        syscalls::setns(self.namespace.as_fd(), libc::CLONE_NEWNET)?;
        self.listener = Some(listen(RUNTIME_API)?);
        Ok(())
    }

    /// The listener, to hand out.
    ///
    /// # Errors
    /// When the last was silenced and not renewed.
    pub fn listener(&self) -> io::Result<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ends listening, whoever else holds the listener, and gives the port back.
    fn silence(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = rustix::net::shutdown(&listener, Shutdown::Both);
        }
    }
}

/// A listener on a free loopback port of the host, for environments without namespaces.
pub(crate) fn listen_on_host() -> io::Result<(OwnedFd, String)> {
    let listener = listen(SocketAddrV4::new(*RUNTIME_API.ip(), 0))?;
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&listener)?)?;
    Ok((listener, address.to_string()))
}

fn tcp_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}

fn listen(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let listener = tcp_socket()?;
    // Connections of the last environment may linger in TIME_WAIT.
    rustix::net::sockopt::set_socket_reuseaddr(&listener, true)?;
    rustix::net::bind(&listener, &address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}
