//! Pairs of devices, for hosts where `/dev/net/tun` is closed: one end in the namespace that is to have a device, the
//! other in a namespace where nobody lives, read and written by a packet socket.
//!
//! The near end asks nobody for link addresses: what it sends carries its own, so the kernel at the far end takes it for a
//! packet for somebody else and drops it, once the socket has it. Every pair has the same two addresses, as no two share a
//! link.
//!
//! Source: packet(7); Linux, drivers/net/veth.c, net/packet/af_packet.c, include/uapi/linux/{if_link,veth}.h.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::netlink::{Batch, CREATE, Socket};
use crate::route;

/// The link address of each near end, and of what is sent to it.
pub(crate) const NEAR_ADDRESS: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// That of each far end.
pub(crate) const FAR_ADDRESS: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Whom packets are handed to, which is nobody: the kernel remembers one neighbour instead of every address ever sent to.
/// No environment has it: theirs are 2 above a multiple of 4.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 255, 253);
/// The same for IPv6.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The far end takes whatever the near one may: the largest that a device can have.
const FAR_MTU: u32 = 65_535;
/// Room for packets that wait to be read; the kernel counts twice as much for some hundred of the largest. Ordinary users get
/// what `net.core.rmem_max` allows.
const BUFFER_BYTES: libc::c_int = 4 << 20;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
/// `IFF_NOARP`.
const ASKS_NOBODY: u32 = 0x80;
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_INFO: u16 = 18;
const LINK_NAMESPACE: u16 = 28;
const LINK_TX_QUEUES: u16 = 31;
const LINK_RX_QUEUES: u16 = 32;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const PEER: u16 = 1;

/// A namespace for the far ends. It goes with the last descriptor of it and of its sockets, and the pairs with it.
#[derive(Debug)]
pub struct Far {
    namespace: OwnedFd,
    netlink: Socket,
}

/// `struct ifinfomsg` with these flags set, and those cleared that are not among them of `changed`.
fn link_header(index: u32, flags: u32, changed: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&changed.to_ne_bytes());
    header
}

impl Far {
    /// Makes one; the calling thread is where it was afterwards.
    ///
    /// # Errors
    /// No right to make one; the calling thread may then be elsewhere.
    pub fn create() -> io::Result<Self> {
        let here = current()?;
        // SAFETY: no memory is passed; the calling thread alone moves.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let made = current().and_then(|namespace| Ok(Self { namespace, netlink: Socket::route()? }));
        // Nobody there is to look for routers. A kernel without IPv6 has no such setting.
        drop(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
        enter(here.as_fd())?;
        made
    }

    /// Makes a pair whose near end, down and without address, is in the calling thread's namespace, and the socket that reads and
    /// writes the far end, as a [device](crate::device::Device) does.
    ///
    /// # Errors
    /// Of the kernel: the name is taken or too long; no right to make devices, or packet sockets.
    pub fn open(&mut self, name: &CStr) -> io::Result<OwnedFd> {
        // Names are unique in one namespace; a process may have several, which does no harm.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = name.to_str().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let far_name = format!("far{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = self.socket()?;
        let netlink = Socket::route()?;
        netlink.send(self.pair(name, &far_name))?;
        let listening = self.listen(&socket, &far_name);
        listening.inspect_err(|_| drop(delete(&netlink, name)))?;
        Ok(socket)
    }

    fn pair(&self, name: &str, far_name: &str) -> Batch {
        let one = 1_u32.to_ne_bytes();
        let namespace = self.namespace.as_raw_fd().to_ne_bytes();
        let mut batch = Batch::default();
        batch.message(NEW_LINK, CREATE, &link_header(0, ASKS_NOBODY, ASKS_NOBODY));
        batch.text(LINK_NAME, name).attribute(LINK_ADDRESS, &NEAR_ADDRESS);
        // As many queues as the host has processors, else.
        batch.attribute(LINK_TX_QUEUES, &one).attribute(LINK_RX_QUEUES, &one);
        batch.nested(LINK_INFO, |info| {
            info.text(INFO_KIND, "veth").nested(INFO_DATA, |data| {
                data.nested(PEER, |peer| {
                    peer.raw(&link_header(0, ASKS_NOBODY, ASKS_NOBODY));
                    peer.text(LINK_NAME, far_name).attribute(LINK_ADDRESS, &FAR_ADDRESS);
                    peer.attribute(LINK_MTU, &FAR_MTU.to_ne_bytes()).attribute(LINK_NAMESPACE, &namespace);
                    peer.attribute(LINK_TX_QUEUES, &one).attribute(LINK_RX_QUEUES, &one);
                });
            });
        });
        batch
    }

    /// Brings the far end up, and has the socket hear it and speak to it.
    fn listen(&self, socket: &OwnedFd, device: &str) -> io::Result<()> {
        // The socket looks in its own namespace, whoever asks.
        let index = rustix::net::netdevice::name_to_index(socket, device)?;
        let mut batch = Batch::default();
        route::up(&mut batch, index, None);
        self.netlink.send(batch)?;
        // SAFETY: sockaddr_ll is plain data; all zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: reads `length` bytes of an address that lives across the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// A packet socket in the namespace, which hears nothing before it is bound.
    fn socket(&self) -> io::Result<OwnedFd> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let here = current()?;
        enter(self.namespace.as_fd())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None);
        enter(here.as_fd())?;
        let socket = socket?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        // What we write must not come back; written straight to the device, it does not on older kernels either.
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        drop(set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1));
        for (by_force, asked) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            set(&socket, libc::SOL_SOCKET, by_force, BUFFER_BYTES)
                .or_else(|_| set(&socket, libc::SOL_SOCKET, asked, BUFFER_BYTES))?;
        }
        Ok(socket)
    }
}

/// The calling thread's network namespace.
fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?)
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    let network = rustix::thread::LinkNameSpaceType::Network;
    Ok(rustix::thread::move_into_link_name_space(namespace, Some(network))?)
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: reads one integer that lives across the call.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn delete(netlink: &Socket, name: &str) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.message(DELETE_LINK, 0, &link_header(0, 0, 0)).text(LINK_NAME, name);
    netlink.send(batch)
}

/// A near end in a namespace that outlives it: it is removed when this is dropped, 20 ms later at the latest, instead of some
/// time after its socket is closed.
#[derive(Debug)]
pub struct Guest {
    netlink: Socket,
    index: u32,
}

impl Guest {
    /// The device of that name in the calling thread's namespace.
    ///
    /// # Errors
    /// Of the kernel: there is none, or no descriptor left.
    pub fn named(name: &CStr) -> io::Result<Self> {
        Ok(Self { index: route::index(name)?, netlink: Socket::route()? })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut batch = Batch::default();
        batch.message(DELETE_LINK, 0, &link_header(self.index, 0, 0));
        // It may have gone already.
        drop(self.netlink.send(batch));
    }
}
