//! A buffer for one packet behind its virtio-net header, and what that header says.
//!
//! Source: Virtual I/O Device (VIRTIO) 1.2, section 5.1.6; TUN devices have it in the host's byte order.

use std::num::NonZeroU16;

use netdev::tun::{FRAME_BYTES_MAX, HEADER_BYTES};
use packets::{Offload, Partial};

const NEEDS_CHECKSUM: u8 = 1;
const UNSEGMENTED: u8 = 0;
const SEGMENT_TCP4: u8 = 1;
const SEGMENT_TCP6: u8 = 4;
const SEGMENT_UDP: u8 = 5;
const PROTOCOL_UDP: u8 = 17;

/// One frame at a time.
pub(super) struct Frame {
    bytes: Box<[u8]>,
    length: usize,
}

impl Frame {
    pub fn new() -> Self {
        Self { bytes: vec![0; FRAME_BYTES_MAX].into(), length: 0 }
    }

    /// Where the next frame is read to.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// So many bytes were read. `false`: it is no packet.
    pub fn set_length(&mut self, length: usize) -> bool {
        self.length = length.min(self.bytes.len());
        self.length > HEADER_BYTES
    }

    /// The frame as it is written.
    pub fn whole(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The packet, without its header.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..self.length.max(HEADER_BYTES)]
    }

    /// The packet, to be rewritten.
    pub fn packet_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[HEADER_BYTES..self.length.max(HEADER_BYTES)]
    }

    /// What the device left undone.
    pub fn offload(&self) -> Offload {
        let number = |at: usize| u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        let checksum =
            (self.bytes[0] & NEEDS_CHECKSUM != 0).then(|| Partial { start: number(6), offset: number(8) });
        let segment = if self.bytes[1] == UNSEGMENTED { None } else { NonZeroU16::new(number(4)) };
        Offload { checksum, segment }
    }

    /// Puts a packet of ours in.
    pub fn put(&mut self, packet: &[u8], offload: Offload) {
        let packet = &packet[..packet.len().min(FRAME_BYTES_MAX - HEADER_BYTES)];
        self.length = HEADER_BYTES + packet.len();
        self.bytes[..HEADER_BYTES].fill(0);
        self.bytes[HEADER_BYTES..self.length].copy_from_slice(packet);
        if let Some(Partial { start, offset }) = offload.checksum {
            self.bytes[0] = NEEDS_CHECKSUM;
            self.bytes[6..8].copy_from_slice(&start.to_ne_bytes());
            self.bytes[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        if let Some(size) = offload.segment {
            self.bytes[1] = segment_kind(packet);
            self.bytes[4..6].copy_from_slice(&size.get().to_ne_bytes());
        }
    }
}

fn segment_kind(packet: &[u8]) -> u8 {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.get(9) == Some(&PROTOCOL_UDP) => SEGMENT_UDP,
        Some(6) if packet.get(6) == Some(&PROTOCOL_UDP) => SEGMENT_UDP,
        Some(6) => SEGMENT_TCP6,
        _ => SEGMENT_TCP4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_reads_back() {
        let mut frame = Frame::new();
        let packet = [0x45; 60];
        let offload =
            Offload { checksum: Some(Partial { start: 20, offset: 16 }), segment: NonZeroU16::new(1_448) };
        frame.put(&packet, offload);
        assert_eq!((frame.offload(), frame.packet(), frame.whole().len()), (offload, &packet[..], 72));
        frame.put(&packet[..20], Offload::default());
        assert_eq!((frame.offload(), frame.packet().len()), (Offload::default(), 20));
    }

    #[test]
    fn headers_alone_and_too_much_are_no_packets() {
        let mut frame = Frame::new();
        assert!(!frame.set_length(0) && !frame.set_length(HEADER_BYTES));
        assert!(frame.packet().is_empty());
        assert!(frame.set_length(usize::MAX) && frame.whole().len() == FRAME_BYTES_MAX);
        frame.put(&vec![0; 70_000], Offload::default());
        assert_eq!(frame.whole().len(), FRAME_BYTES_MAX);
    }
}
