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

/// Whether there is a packet behind the header.
pub(super) const fn is_packet(frame: &[u8]) -> bool {
    frame.len() > HEADER_BYTES
}

/// The packet, without its header.
pub(super) fn packet(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_BYTES..).unwrap_or_default()
}

/// The packet, to be rewritten.
pub(super) fn packet_mut(frame: &mut [u8]) -> &mut [u8] {
    frame.get_mut(HEADER_BYTES..).unwrap_or_default()
}

/// What the device left undone.
pub(super) fn offload(frame: &[u8]) -> Offload {
    let Some(header) = frame.first_chunk::<HEADER_BYTES>() else { return Offload::default() };
    let number = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let checksum = (header[0] & NEEDS_CHECKSUM != 0).then(|| Partial { start: number(6), offset: number(8) });
    let segment = if header[1] == UNSEGMENTED { None } else { NonZeroU16::new(number(4)) };
    Offload { checksum, segment }
}

/// A packet of our own. Its memory is taken with the first.
#[derive(Debug, Default)]
pub(super) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// The frame as it is written.
    pub fn whole(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to be rewritten.
    pub fn whole_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Puts a packet of ours in.
    pub fn put(&mut self, packet: &[u8], offload: Offload) {
        let packet = &packet[..packet.len().min(FRAME_BYTES_MAX - HEADER_BYTES)];
        let mut header = [0; HEADER_BYTES];
        if let Some(Partial { start, offset }) = offload.checksum {
            header[0] = NEEDS_CHECKSUM;
            header[6..8].copy_from_slice(&start.to_ne_bytes());
            header[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        if let Some(size) = offload.segment {
            header[1] = segment_kind(packet);
            header[4..6].copy_from_slice(&size.get().to_ne_bytes());
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(packet);
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
        let mut frame = Frame::default();
        let packet = [0x45; 60];
        let offloaded =
            Offload { checksum: Some(Partial { start: 20, offset: 16 }), segment: NonZeroU16::new(1_448) };
        frame.put(&packet, offloaded);
        let whole = frame.whole();
        assert_eq!((offload(whole), super::packet(whole), whole.len()), (offloaded, &packet[..], 72));
        frame.put(&packet[..20], Offload::default());
        assert_eq!((offload(frame.whole()), super::packet(frame.whole()).len()), (Offload::default(), 20));
    }

    #[test]
    fn headers_alone_and_too_much_are_no_packets() {
        for length in [0, 1, HEADER_BYTES - 1, HEADER_BYTES] {
            let header = &[0xff; HEADER_BYTES][..length];
            assert!(!is_packet(header) && packet(header).is_empty());
            let _ = offload(header);
        }
        let mut frame = Frame::default();
        frame.put(&vec![0; 70_000], Offload::default());
        assert_eq!(frame.whole().len(), FRAME_BYTES_MAX);
    }
}
