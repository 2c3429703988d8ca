//! The few socket calls that neither the standard library nor rustix has: original destinations of datagrams, transparent
//! sockets, descriptors as messages, and how long a connection has been silent.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const IP_RECVORIGDSTADDR: libc::c_int = 20;
const IPV6_RECVORIGDSTADDR: libc::c_int = 74;
const IPV6_TRANSPARENT: libc::c_int = 75;
/// Room for one address and its head.
const CONTROL_BYTES: usize = 128;

fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn switch_on(socket: impl AsFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: reads one integer that lives across the call.
    let result = unsafe {
        let value = (&raw const on).cast();
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, value, length)
    };
    check(result as libc::ssize_t).map(drop)
}

/// A socket bound to an address that need not be one of this namespace's.
///
/// # Errors
/// Of the kernel; without CAP_NET_ADMIN over the namespace it is refused.
pub(super) fn transparent(kind: SocketType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    match address {
        SocketAddr::V4(_) => switch_on(&socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT)?,
        SocketAddr::V6(_) => {
            switch_on(&socket, libc::IPPROTO_IPV6, IPV6_TRANSPARENT)?;
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// From now on each datagram says for whom it was meant.
pub(super) fn want_destinations(socket: impl AsFd, ipv4: bool) -> io::Result<()> {
    match ipv4 {
        true => switch_on(socket, libc::IPPROTO_IP, IP_RECVORIGDSTADDR),
        false => switch_on(socket, libc::IPPROTO_IPV6, IPV6_RECVORIGDSTADDR),
    }
}

/// Receives a datagram: its length, source and original destination; `None` for one that does not say its destination.
pub(super) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, SocketAddr, SocketAddr)>> {
    // SAFETY: these are plain data; all zero is valid.
    let (mut source, mut head) = unsafe { (zeroed::<libc::sockaddr_storage>(), zeroed::<libc::msghdr>()) };
    let mut control = [0_u64; CONTROL_BYTES / 8];
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    head.msg_name = (&raw mut source).cast();
    head.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    head.msg_iov = &raw mut slice;
    head.msg_iovlen = 1;
    head.msg_control = control.as_mut_ptr().cast();
    head.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: every pointer leads to a live value of the length that stands beside it.
    let bytes = check(unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut head, 0) })?;
    let mut destination = None;
    // SAFETY: the kernel filled `control`, which is aligned; the macros stay within msg_controllen.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const head);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, IP_RECVORIGDSTADDR) => {
                    destination = Some(v4(&data.cast::<libc::sockaddr_in>().read_unaligned()));
                }
                (libc::IPPROTO_IPV6, IPV6_RECVORIGDSTADDR) => {
                    destination = Some(v6(&data.cast::<libc::sockaddr_in6>().read_unaligned()));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(&raw const head, message);
        }
    }
    let source = match libc::c_int::from(source.ss_family) {
        // SAFETY: the family says which of the two the kernel wrote; the storage is large enough for both.
        libc::AF_INET => v4(unsafe { &*(&raw const source).cast() }),
        // SAFETY: as above.
        libc::AF_INET6 => v6(unsafe { &*(&raw const source).cast() }),
        _ => return Ok(None),
    };
    Ok(destination.map(|destination| (bytes, source, destination)))
}

fn v4(raw: &libc::sockaddr_in) -> SocketAddr {
    let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
    SocketAddr::new(IpAddr::V4(address), u16::from_be(raw.sin_port))
}

fn v6(raw: &libc::sockaddr_in6) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(raw.sin6_addr.s6_addr)), u16::from_be(raw.sin6_port))
}

/// How long ago the last segment of any kind came; `None` when the socket is past asking.
pub(super) fn silent_for(socket: impl AsFd) -> Option<Duration> {
    // SAFETY: plain data; all zero is valid.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of a live structure.
    let result = unsafe {
        let value = (&raw mut info).cast();
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            value,
            &raw mut length,
        )
    };
    let milliseconds = info.tcpi_last_ack_recv.min(info.tcpi_last_data_recv);
    (result == 0).then(|| Duration::from_millis(u64::from(milliseconds)))
}

/// Forks. The child runs `child` and ends with what it returns, without running anything of the parent's.
///
/// # Errors
/// Of the kernel.
pub(super) fn fork(child: impl FnOnce() -> i32) -> io::Result<rustix::process::Pid> {
    // SAFETY: the C library's fork leaves its allocator usable in the child of a process with threads; `child` takes no
    // other lock, and the child never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = child();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) }
        }
        pid => rustix::process::Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::Other.into()),
    }
}

/// Moves the calling thread into new namespaces.
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: passes numbers only.
    check(unsafe { libc::unshare(flags) } as libc::ssize_t).map(drop)
}

/// Registers a descriptor that becomes readable with the calling task's runtime.
pub(super) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is the value's own, which keeps it open for as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Closes every descriptor but one.
pub(super) fn close_all_but(kept: impl AsFd) {
    let kept = kept.as_fd().as_raw_fd() as libc::c_uint;
    // SAFETY: the caller owns this process alone and uses none of the others again.
    unsafe {
        if kept > 0 {
            libc::syscall(libc::SYS_close_range, 0_u32, kept - 1, 0_u32);
        }
        libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0_u32);
    }
}
