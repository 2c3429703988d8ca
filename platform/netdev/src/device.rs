//! A network device of ours: how it is made, and how whoever carries its packets reads and writes them.
//!
//! A TUN device where `/dev/net/tun` can be opened, and elsewhere a [pair](crate::pair) read through a packet socket.
//! Both hand over one packet at a time, behind the same virtio-net header.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use crate::pair::{self, Far};
use crate::route::To;
use crate::tun::{self, HEADER_BYTES, Life};

/// Bytes of an Ethernet header without tags.
const ETHERNET_BYTES: usize = 14;
/// Bytes of `struct virtio_net_hdr`, as packet sockets have it: all that matters of the longer one.
const SHORT_HEADER_BYTES: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Most packets thrown away by [`drain`]; a TUN device's queue holds 500.
const DRAIN_MAX: usize = 4_096;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TUN device.
    Tun,
    /// One end of a pair, whose other end a packet socket reads and writes.
    Pair,
}

impl Kind {
    /// What a descriptor is of: a packet socket is a pair's, all else reads and writes as a TUN device does.
    pub fn of(descriptor: impl AsFd) -> Self {
        let mut domain: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: writes at most `length` bytes to an integer that lives across the call.
        let asked = unsafe {
            libc::getsockopt(
                descriptor.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_DOMAIN,
                (&raw mut domain).cast(),
                &raw mut length,
            )
        };
        if asked == 0 && domain == libc::AF_PACKET { Self::Pair } else { Self::Tun }
    }

    /// Where a route through such a device leads, for addresses of the family of `any`.
    pub const fn way(self, any: IpAddr) -> To {
        match (self, any) {
            (Self::Tun, _) => To::Device,
            (Self::Pair, IpAddr::V4(_)) => To::Gateway(IpAddr::V4(pair::GATEWAY)),
            (Self::Pair, IpAddr::V6(_)) => To::Gateway(IpAddr::V6(pair::GATEWAY6)),
        }
    }
}

/// Makes devices, of the kind that this host allows.
#[derive(Debug, Default)]
pub struct Maker {
    far: Mutex<Option<Far>>,
}

impl Maker {
    /// Makes a device in the calling thread's network namespace. The non-blocking descriptor works from every namespace;
    /// [`Device`] reads and writes it. `life` is a TUN device's: a pair goes with its namespace, or some time after the
    /// maker and every descriptor of its devices are gone.
    ///
    /// # Errors
    /// Of the kernel: the name is taken or longer than 15 bytes; no right to make devices, or no descriptors left. Where
    /// neither kind can be had, what was said of a pair; [`tun::refusal`] says the other half.
    pub fn open(&self, name: &CStr, life: Life) -> io::Result<OwnedFd> {
        match tun::node() {
            Ok(node) => return tun::make(node, name, life),
            Err(error) if tun::is_closed(&error) => {}
            Err(error) => return Err(error),
        }
        let mut far = self.far.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *far {
            Some(far) => far.open(name),
            None => Far::create().and_then(|made| far.insert(made).open(name)),
        }
    }
}

/// A device's descriptor. Packets are read and written behind [`HEADER_BYTES`], whatever its kind.
#[derive(Debug)]
pub struct Device {
    descriptor: OwnedFd,
    kind: Kind,
}

impl From<OwnedFd> for Device {
    fn from(descriptor: OwnedFd) -> Self {
        let kind = Kind::of(&descriptor);
        Self { descriptor, kind }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Device {
    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads one packet and says how many bytes it has with its header; a header alone stands for a frame that carries no
    /// IP. What does not fit is cut.
    ///
    /// # Errors
    /// Of the kernel: nothing waits (`WouldBlock`), or the device is gone.
    pub fn read(&self, frame: &mut [u8]) -> io::Result<usize> {
        match (self.kind, frame.split_at_mut_checked(HEADER_BYTES)) {
            (Kind::Pair, Some((header, packet))) => self.read_link(header, packet),
            _ => Ok(rustix::io::read(&self.descriptor, frame)?),
        }
    }

    /// Writes one packet with its header.
    ///
    /// # Errors
    /// Of the kernel: no room, a header that contradicts the packet (`InvalidInput`), or the device is gone.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        match (self.kind, frame.split_at_checked(HEADER_BYTES)) {
            (Kind::Pair, Some((header, packet))) => self.write_link(header, packet),
            _ => Ok(rustix::io::write(&self.descriptor, frame).map(drop)?),
        }
    }

    fn read_link(&self, header: &mut [u8], packet: &mut [u8]) -> io::Result<usize> {
        let (short, rest) = header.split_at_mut(SHORT_HEADER_BYTES);
        let mut ethernet = [0; ETHERNET_BYTES];
        let mut parts = [IoSliceMut::new(short), IoSliceMut::new(&mut ethernet), IoSliceMut::new(packet)];
        let count = match rustix::io::readv(&self.descriptor, &mut parts) {
            Ok(count) => count,
            // A large packet of a kind that the header has no word for; it is gone.
            Err(rustix::io::Errno::INVAL) => return Ok(HEADER_BYTES),
            Err(error) => return Err(error.into()),
        };
        rest.fill(0);
        let is_ip = matches!([ethernet[12], ethernet[13]], IPV4 | IPV6);
        let Some(length) = count.checked_sub(SHORT_HEADER_BYTES + ETHERNET_BYTES).filter(|_| is_ip) else {
            return Ok(HEADER_BYTES);
        };
        shift(header, |offset| offset.saturating_sub(ETHERNET_BYTES as u16));
        Ok(HEADER_BYTES + length)
    }

    fn write_link(&self, header: &[u8], packet: &[u8]) -> io::Result<()> {
        let protocol = match packet.first().map(|byte| byte >> 4) {
            Some(4) => IPV4,
            Some(6) => IPV6,
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        let mut short = [0; SHORT_HEADER_BYTES];
        short.copy_from_slice(&header[..SHORT_HEADER_BYTES]);
        shift(&mut short, |offset| offset.saturating_add(ETHERNET_BYTES as u16));
        let mut ethernet = [0; ETHERNET_BYTES];
        ethernet[..6].copy_from_slice(&pair::NEAR_ADDRESS);
        ethernet[6..12].copy_from_slice(&pair::FAR_ADDRESS);
        ethernet[12..].copy_from_slice(&protocol);
        let parts = [IoSlice::new(&short), IoSlice::new(&ethernet), IoSlice::new(packet)];
        Ok(rustix::io::writev(&self.descriptor, &parts).map(drop)?)
    }
}

/// Packet sockets count from the link's header on: the length of the headers, and where the sum begins.
fn shift(header: &mut [u8], moved: impl Fn(u16) -> u16) {
    const HEADERS: usize = 2;
    const SUM_START: usize = 6;
    let has_sum = header[0] & NEEDS_CHECKSUM != 0;
    for at in [Some(HEADERS), has_sum.then_some(SUM_START)].into_iter().flatten() {
        let value = moved(u16::from_ne_bytes([header[at], header[at + 1]]));
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
}

/// Throws away what waits to be read of a device of either kind.
pub fn drain(device: impl AsFd) {
    // A packet that does not fit is cut, and gone all the same.
    let mut frame = [0; HEADER_BYTES + 64];
    for _ in 0..DRAIN_MAX {
        match rustix::io::read(&device, &mut frame) {
            Ok(_) | Err(rustix::io::Errno::INVAL) => {}
            Err(_) => return,
        }
    }
}
