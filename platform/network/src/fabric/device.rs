//! What comes of reading and writing frames of devices.

use std::io;

use netdev::device::Device;
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

pub(super) fn read(device: &Device, space: &mut [u8]) -> Read {
    match device.read(space) {
        Ok(0) => Read::Gone,
        Ok(count) => Read::Bytes(count),
        Err(error) => match number(&error) {
            Some(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => Read::Nothing,
            _ => Read::Gone,
        },
    }
}

fn number(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
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

pub(super) fn write(device: &Device, frame: &[u8]) -> Written {
    device.write(frame).map_or_else(|error| unwritten(&error), |()| Written::Whole)
}

/// What an error of writing means.
pub(super) fn unwritten(error: &io::Error) -> Written {
    match number(error) {
        Some(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL | Errno::MSGSIZE) => {
            Written::Lost
        }
        _ => Written::Gone,
    }
}
