//! Room for the packets of one batch, one behind the other: many small ones lie close together, of large ones a few are
//! read at once, and all of it stays in a core's own cache.

use std::ops::Range;

use netdev::device::Device;
use netdev::tun::FRAME_BYTES_MAX;

use super::device::{self, Read};
use super::frame::is_packet;

/// Packets of the largest size that are read before they are carried on, and one more that begins in what is left.
const ROOM_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// Packets begin at multiples of it.
const ALIGNMENT: usize = 16;

/// What reading ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There may be more.
    More,
    /// Nothing waits any more.
    Nothing,
    /// The device is gone.
    Gone,
}

/// Packets, each behind its virtio-net header. Its memory is taken with the first of them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Batch {
    /// Reads up to so many packets in place of those that it has.
    pub fn read(&mut self, device: &Device, at_once: usize) -> End {
        self.bytes.resize(ROOM_BYTES, 0);
        self.frames.clear();
        let mut begin = 0;
        for _ in 0..at_once {
            let Some(space) = self.bytes.get_mut(begin..begin + FRAME_BYTES_MAX) else { break };
            match device::read(device, space) {
                Read::Bytes(count) if is_packet(&space[..count]) => {
                    self.frames.push(begin..begin + count);
                    begin = (begin + count).next_multiple_of(ALIGNMENT);
                }
                Read::Bytes(_) => {}
                Read::Nothing => return End::Nothing,
                Read::Gone => return End::Gone,
            }
        }
        End::More
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// One of its packets, with its header.
    pub fn frame(&self, index: usize) -> &[u8] {
        &self.bytes[self.frames[index].clone()]
    }

    /// The same, to be rewritten.
    pub fn frame_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[self.frames[index].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    use netdev::tun::HEADER_BYTES;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    /// A device that keeps packets apart, as TUN devices do, and the other end of it.
    fn device() -> (Device, OwnedFd) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None).unwrap();
        (near.into(), far)
    }

    fn send(device: &OwnedFd, packet: &[u8]) {
        assert_eq!(rustix::io::write(device, packet).unwrap(), packet.len());
    }

    #[test]
    fn packets_lie_one_behind_the_other_as_they_were_read() {
        let (near, far) = device();
        for size in [13, 80, 1_500] {
            send(&far, &vec![size as u8; size]);
        }
        send(&far, &[1; HEADER_BYTES]);
        let mut batch = Batch::default();
        assert_eq!(batch.read(&near, 2), End::More);
        assert_eq!((batch.len(), batch.frame_mut(0).len()), (2, 13));
        assert_eq!(batch.frame_mut(1), [80; 80]);
        assert_eq!(batch.frames[1].start, 16);
        assert_eq!(batch.read(&near, 9), End::Nothing, "a header alone is no packet");
        assert_eq!((batch.len(), batch.frame_mut(0).len()), (1, 1_500));
        assert_eq!((batch.read(&near, 9), batch.len()), (End::Nothing, 0));
    }

    #[test]
    fn of_the_largest_only_as_many_are_read_as_there_is_room_for() {
        let (near, far) = device();
        for size in [FRAME_BYTES_MAX, FRAME_BYTES_MAX - 40, 80] {
            send(&far, &vec![7; size]);
        }
        let mut batch = Batch::default();
        assert_eq!((batch.read(&near, 64), batch.len()), (End::More, 2));
        assert_eq!(batch.frame_mut(1).len(), FRAME_BYTES_MAX - 40);
        assert_eq!((batch.read(&near, 64), batch.len()), (End::Nothing, 1));
    }
}
