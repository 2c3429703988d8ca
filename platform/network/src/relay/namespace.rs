//! The namespace itself: made by a process of its own, which also makes sockets with foreign addresses in it.
//!
//! Nothing of it outlives this process, however it ends: the child ends when its socket to us closes, and the namespace
//! lives by descriptors alone. It works as root, and as an ordinary user in a user namespace. Recipe: facts on Linux, section 6; the transparent proxy, Linux, Documentation/networking/tproxy.rst.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use netdev::device::{Kind, Maker};
use netdev::netlink::{Batch, Socket};
use netdev::{nft, route, tun};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, WaitOptions};

use super::message;

/// The device that the packets' side holds.
const DEVICE: &std::ffi::CStr = c"r0";
const DEVICE_NAME: &str = "r0";
/// Where every connection of the namespace is accepted, whatever port it asked for.
const PORT: u16 = 9_000;
const TABLE: u32 = 100;
const RULE_PRIORITY: u32 = 10;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;
/// Device, two TCP listeners, two UDP sockets.
const PARTS: usize = 5;
const BYTES_MAX: usize = 512;
/// How much room the kernel has for datagrams that were not read yet.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The kernel refused a step.
    #[error("cannot {step}: {error}")]
    Step {
        /// What was tried.
        step: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The process that makes it ended without a word.
    #[error("the process that makes the relay's namespace ended")]
    Ended,
}

/// A network namespace in which every address is local.
#[derive(Debug)]
pub struct Namespace {
    maker: Mutex<OwnedFd>,
    pid: Pid,
    parts: [OwnedFd; PARTS],
}

/// What listens in the namespace.
pub(super) struct Listeners {
    pub tcp: [OwnedFd; 2],
    pub udp: [OwnedFd; 2],
}

impl Namespace {
    /// Makes one. Best called while this process is small: it forks. The child calls `settled` when it has handed the parts
    /// over, before it waits to be asked for more.
    ///
    /// # Errors
    /// With the step that the kernel refused.
    pub fn fork(settled: fn()) -> Result<Self, NamespaceError> {
        let step = |step: &str| {
            let step = step.to_owned();
            move |error: io::Error| NamespaceError::Step { step, error }
        };
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| step("make a pair of sockets")(error.into()))?;
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let pid = message::fork(|| {
            message::close_all_but(&theirs);
            serve(theirs.as_fd(), user, group, settled)
        });
        drop(theirs);
        let pid = pid.map_err(step("start a process"))?;
        let received = receive(&ours);
        let parts = match received {
            Ok((_, parts)) => parts.try_into().map_err(|_| NamespaceError::Ended),
            Err(error) => Err(error),
        };
        match parts {
            Ok(parts) => Ok(Self { maker: Mutex::new(ours), pid, parts }),
            Err(error) => {
                drop(ours);
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                Err(error)
            }
        }
    }

    /// The packets' side of the namespace: whole packets, each behind a virtio-net header; does not block.
    pub fn device(&self) -> BorrowedFd<'_> {
        self.parts[0].as_fd()
    }

    pub(super) fn listeners(&self) -> io::Result<Listeners> {
        let [_, tcp4, tcp6, udp4, udp6] = &self.parts;
        Ok(Listeners {
            tcp: [tcp4.try_clone()?, tcp6.try_clone()?],
            udp: [udp4.try_clone()?, udp6.try_clone()?],
        })
    }

    /// What can be read when the process that holds the namespace has ended.
    pub(super) fn end(&self) -> io::Result<OwnedFd> {
        Ok(rustix::process::pidfd_open(self.pid, rustix::process::PidfdFlags::empty())?)
    }

    /// A datagram socket in the namespace that speaks for an address. Takes some microseconds, and blocks so long.
    pub(super) fn speaker(&self, address: SocketAddr) -> Result<OwnedFd, NamespaceError> {
        let maker = self.maker.lock().unwrap_or_else(PoisonError::into_inner);
        let request = address.to_string();
        let sent = rustix::net::send(&*maker, request.as_bytes(), SendFlags::NOSIGNAL);
        sent.map_err(|_| NamespaceError::Ended)?;
        receive(&*maker)?.1.pop().ok_or(NamespaceError::Ended)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The maker's socket is closed only after this: it is told to end, and waited for.
        let maker = self.maker.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::net::shutdown(&*maker, rustix::net::Shutdown::Both);
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// One message with its descriptors; a message that begins with `!` is the step that failed.
fn receive(socket: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>), NamespaceError> {
    let mut bytes = [0; BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PARTS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC);
    let received = received.map_err(|_| NamespaceError::Ended)?;
    if received.bytes == 0 || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(NamespaceError::Ended);
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let text = bytes[..received.bytes].to_vec();
    match text.strip_prefix(b"!") {
        None => Ok((text, descriptors)),
        Some(failure) => {
            let failure = String::from_utf8_lossy(failure);
            let (code, step) = failure.split_once(' ').unwrap_or(("0", &failure));
            let error = io::Error::from_raw_os_error(code.parse().unwrap_or_default());
            Err(NamespaceError::Step { step: step.to_owned(), error })
        }
    }
}

fn send(socket: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PARTS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn send_failure(socket: BorrowedFd<'_>, step: &str, error: &io::Error) {
    let text = format!("!{} {step}", error.raw_os_error().unwrap_or_default());
    let _ = send(socket, text.as_bytes(), &[]);
}

/// The child: makes the namespace, hands its parts over, and then makes sockets until nobody asks any more.
fn serve(socket: BorrowedFd<'_>, user: u32, group: u32, settled: fn()) -> i32 {
    let (parts, _table) = match make(user, group) {
        Ok(made) => made,
        Err((step, error)) => {
            send_failure(socket, step, &error);
            return 1;
        }
    };
    if send(socket, b"ready", &parts.each_ref().map(AsFd::as_fd)).is_err() {
        return 1;
    }
    drop(parts);
    settled();
    let mut bytes = [0; BYTES_MAX];
    loop {
        let length = match rustix::net::recv(socket, &mut bytes, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) | Ok((0, _)) => return 0,
            Ok((length, _)) => length,
        };
        let address = std::str::from_utf8(&bytes[..length]).ok().and_then(|text| text.parse().ok());
        let made = address
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
            .and_then(|address| message::transparent(SocketType::DGRAM, address));
        match made {
            Ok(made) => drop(send(socket, b"socket", &[made.as_fd()])),
            Err(error) => send_failure(socket, "make a socket that speaks for another address", &error),
        }
    }
}

type Step = (&'static str, io::Error);

fn make(user: u32, group: u32) -> Result<([OwnedFd; PARTS], nft::Table), Step> {
    let step = |step: &'static str| move |error: io::Error| (step, error);
    if message::unshare(libc::CLONE_NEWNET).is_err() {
        message::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
            .map_err(step("make a network namespace, neither as root nor in a user namespace"))?;
        let mapped = std::fs::write("/proc/self/setgroups", "deny")
            .and_then(|()| std::fs::write("/proc/self/uid_map", format!("0 {user} 1")))
            .and_then(|()| std::fs::write("/proc/self/gid_map", format!("0 {group} 1")));
        mapped.map_err(step("become root of a user namespace"))?;
    }
    // Settings that a host may pass on to new namespaces, and chatter on a link where nobody listens.
    for (path, value) in [
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv6/conf/default/disable_ipv6", "0"),
    ] {
        let _ = std::fs::write(format!("/proc/sys/net/{path}"), value);
    }
    let device = Maker::default().open(DEVICE, tun::Life::Namespace).map_err(step("make a device"))?;
    let kind = Kind::of(&device);
    let tcp4 = listener(Ipv4Addr::UNSPECIFIED.into()).map_err(step("listen in the namespace"))?;
    let udp4 = datagrams(Ipv4Addr::UNSPECIFIED.into()).map_err(step("take datagrams in the namespace"))?;
    routes(false, kind).map_err(step("set routes in the namespace"))?;
    // A kernel without IPv6 has no way for it, and needs none.
    let _ = routes(true, kind);
    let any6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let tcp6 = listener(any6).or_else(|_| listener(Ipv4Addr::LOCALHOST.into()));
    let udp6 = datagrams(any6).or_else(|_| datagrams(Ipv4Addr::LOCALHOST.into()));
    let tcp6 = tcp6.map_err(step("listen in the namespace"))?;
    let udp6 = udp6.map_err(step("take datagrams in the namespace"))?;
    let to_listener = |protocol: libc::c_int| {
        vec![
            nft::Step::FromDevice(DEVICE_NAME.to_owned()),
            nft::Step::Protocol(protocol as u8),
            nft::Step::ToLocalPort(PORT),
            nft::Step::Accept,
        ]
    };
    let rules = [to_listener(libc::IPPROTO_TCP), to_listener(libc::IPPROTO_UDP)];
    let before_routing = nft::Place { kind: "filter", hook: 0, priority: -150 };
    let table = nft::Table::create("onrush_relay", "prerouting", before_routing, &rules);
    let table = table.map_err(step("set the rule of a transparent proxy (nf_tables, nft_tproxy)"))?;
    Ok(([device, tcp4, tcp6, udp4, udp6], table))
}

fn listener(any: IpAddr) -> io::Result<OwnedFd> {
    let socket = message::transparent(SocketType::STREAM, SocketAddr::new(any, PORT))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn datagrams(any: IpAddr) -> io::Result<OwnedFd> {
    let socket = message::transparent(SocketType::DGRAM, SocketAddr::new(any, PORT))?;
    message::want_destinations(&socket, any.is_ipv4())?;
    // The host's maximum may be smaller; what it gives will do.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_BUFFER_BYTES);
    Ok(socket)
}

/// Every address is local for what comes in by the device, and everything leaves by it.
fn routes(ipv6: bool, kind: Kind) -> io::Result<()> {
    let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let (loopback, device) = (route::index(c"lo")?, route::index(DEVICE)?);
    let mut batch = Batch::default();
    route::up(&mut batch, loopback, None);
    route::up(&mut batch, device, None);
    route::route(&mut batch, device, (any, 0), None, kind.way(any));
    route::route(&mut batch, loopback, (any, 0), Some(TABLE), route::To::Sockets);
    route::rule(&mut batch, ipv6, DEVICE_NAME, TABLE, RULE_PRIORITY);
    Socket::route()?.send(batch)
}
