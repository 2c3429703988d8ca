//! Reading and writing frames of TUN devices.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes: a packet behind its header.
    Bytes(usize),
    /// Nothing waits.
    Nothing,
    /// The device is gone.
    Gone,
}

pub(super) fn read(device: &OwnedFd, space: &mut [u8]) -> Read {
    match rustix::io::read(device.as_fd(), space) {
        Ok(0) => Read::Gone,
        Ok(count) => Read::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => Read::Nothing,
        Err(_) => Read::Gone,
    }
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The kernel has it.
    Whole,
    /// The kernel has no room for it, or thinks nothing of it: it is lost, as packets are.
    Lost,
    /// The device is gone.
    Gone,
}

pub(super) fn write(device: &OwnedFd, frame: &[u8]) -> Written {
    match rustix::io::write(device.as_fd(), frame) {
        Ok(_) => Written::Whole,
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL | Errno::MSGSIZE) => {
            Written::Lost
        }
        Err(_) => Written::Gone,
    }
}
