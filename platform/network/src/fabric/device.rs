//! Reading and writing frames of TUN devices.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::frame::Frame;

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A packet is in the frame.
    Packet,
    /// Something that is no packet.
    Nonsense,
    /// Nothing waits.
    Nothing,
    /// The device is gone.
    Gone,
}

pub(super) fn read(device: &OwnedFd, frame: &mut Frame) -> Read {
    match rustix::io::read(device.as_fd(), frame.space()) {
        Ok(0) => Read::Gone,
        Ok(count) if frame.set_length(count) => Read::Packet,
        Ok(_) => Read::Nonsense,
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

pub(super) fn write(device: &OwnedFd, frame: &Frame) -> Written {
    match rustix::io::write(device.as_fd(), frame.whole()) {
        Ok(_) => Written::Whole,
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL | Errno::MSGSIZE) => {
            Written::Lost
        }
        Err(_) => Written::Gone,
    }
}
