//! Copies of packets for whoever looks, and the file format that tcpdump and Wireshark read.
//!
//! Packets are copied as the environments send and get them, before any address is translated: environments that share
//! an interface are told apart by their own addresses. At the interfaces of NAT gateways and hosts they are as translated:
//! as they leave and reach the gateway on its outer side, and as the host sees them. Source of the format:
//! draft-ietf-opsawg-pcap, `LINKTYPE_RAW`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Packets that wait for a slow reader; beyond it they are missed.
const WAITING_MAX: usize = 512;
/// Captures at once.
pub const CAPTURES_MAX: usize = 16;
/// Bytes kept of a packet: all of the largest.
const SNAP_BYTES: usize = 65_535;
const MAGIC: u32 = 0xa1b2_c3d4;
/// IPv4 or IPv6, told by the first half byte.
const LINKTYPE_RAW: u32 = 101;

/// One copied packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When, since 1970.
    pub at: Duration,
    /// The packet from its IP header on.
    pub bytes: Vec<u8>,
}

/// Writes the format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pcap;

impl Pcap {
    /// The beginning of a file.
    pub fn header() -> [u8; 24] {
        let mut header = [0; 24];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..6].copy_from_slice(&2_u16.to_le_bytes());
        header[6..8].copy_from_slice(&4_u16.to_le_bytes());
        header[16..20].copy_from_slice(&(SNAP_BYTES as u32).to_le_bytes());
        header[20..24].copy_from_slice(&LINKTYPE_RAW.to_le_bytes());
        header
    }

    /// Appends one packet.
    pub fn append(file: &mut Vec<u8>, packet: &Captured) {
        let kept = &packet.bytes[..packet.bytes.len().min(SNAP_BYTES)];
        // Until 2106.
        let seconds = u32::try_from(packet.at.as_secs()).unwrap_or(u32::MAX);
        let numbers = [seconds, packet.at.subsec_micros(), kept.len() as u32, packet.bytes.len() as u32];
        file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        file.extend_from_slice(kept);
    }
}

/// The copies of one interface, for as long as it is kept. It is disconnected when there were [`CAPTURES_MAX`] already.
#[derive(Debug)]
pub struct Capture {
    packets: Receiver<Captured>,
    _looks: Arc<()>,
}

impl std::ops::Deref for Capture {
    type Target = Receiver<Captured>;

    fn deref(&self) -> &Receiver<Captured> {
        &self.packets
    }
}

/// Somebody who looks at the environments of one interface, or at what bears the addresses behind another one.
pub(super) struct Viewer {
    pub interface: String,
    pub addresses: BTreeSet<IpAddr>,
    packets: SyncSender<Captured>,
    looks: Weak<()>,
}

impl Viewer {
    /// A viewer of an interface, who knows no addresses yet, and what it gets.
    pub fn new(interface: String) -> (Self, Capture) {
        let (sender, packets) = sync_channel(WAITING_MAX);
        let looks = Arc::new(());
        let viewer =
            Self { interface, addresses: BTreeSet::new(), packets: sender, looks: Arc::downgrade(&looks) };
        (viewer, Capture { packets, _looks: looks })
    }

    /// Whether anybody looks, also at an interface where nothing passes.
    pub fn looks(&self) -> bool {
        self.looks.strong_count() > 0
    }

    /// `false`: nobody looks any more.
    pub fn show(&self, packet: &[u8]) -> bool {
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let shown = self.packets.try_send(Captured { at, bytes: packet.to_vec() });
        !matches!(shown, Err(TrySendError::Disconnected(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_bytes_of_the_format() {
        let mut file = Pcap::header().to_vec();
        let at = Duration::new(0x0102_0304, 5_000);
        Pcap::append(&mut file, &Captured { at, bytes: vec![0x45, 7] });
        let expected = [
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 101, 0, 0, 0, 4, 3,
            2, 1, 5, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0x45, 7,
        ];
        assert_eq!(file, expected);
    }
}
