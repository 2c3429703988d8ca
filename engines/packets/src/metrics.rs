//! What NAT gateways count, under CloudWatch's names (namespace `AWS/NATGateway`).
//!
//! Source: VPC User Guide, "NAT gateway CloudWatch metrics"; published. How peaks are taken is not: here the highest
//! average of ten whole seconds.

use model::Instant;

/// Over which a peak is averaged.
const PEAK_WINDOW_NS: u64 = 10_000_000_000;
const PEAK_WINDOW_S: u64 = PEAK_WINDOW_NS / 1_000_000_000;

/// One gateway's counters since the engine's start; of the peaks, since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatMetrics {
    /// `ActiveConnectionCount`: TCP connections now.
    pub active_connections: u64,
    /// `ConnectionAttemptCount`.
    pub connection_attempts: u64,
    /// `ConnectionEstablishedCount`.
    pub connections_established: u64,
    /// `ErrorPortAllocation`.
    pub port_allocation_errors: u64,
    /// `IdleTimeoutCount`.
    pub idle_timeouts: u64,
    /// `PacketsDropCount`.
    pub packets_dropped: u64,
    /// `BytesInFromSource`.
    pub bytes_in_from_source: u64,
    /// `BytesOutToDestination`.
    pub bytes_out_to_destination: u64,
    /// `BytesInFromDestination`.
    pub bytes_in_from_destination: u64,
    /// `BytesOutToSource`.
    pub bytes_out_to_source: u64,
    /// `PacketsInFromSource`.
    pub packets_in_from_source: u64,
    /// `PacketsOutToDestination`.
    pub packets_out_to_destination: u64,
    /// `PacketsInFromDestination`.
    pub packets_in_from_destination: u64,
    /// `PacketsOutToSource`.
    pub packets_out_to_source: u64,
    /// `PeakBytesPerSecond`.
    pub peak_bytes_per_second: u64,
    /// `PeakPacketsPerSecond`.
    pub peak_packets_per_second: u64,
}

impl NatMetrics {
    /// Every metric by CloudWatch's name.
    pub fn named(&self) -> [(&'static str, u64); 16] {
        [
            ("ActiveConnectionCount", self.active_connections),
            ("ConnectionAttemptCount", self.connection_attempts),
            ("ConnectionEstablishedCount", self.connections_established),
            ("ErrorPortAllocation", self.port_allocation_errors),
            ("IdleTimeoutCount", self.idle_timeouts),
            ("PacketsDropCount", self.packets_dropped),
            ("BytesInFromSource", self.bytes_in_from_source),
            ("BytesOutToDestination", self.bytes_out_to_destination),
            ("BytesInFromDestination", self.bytes_in_from_destination),
            ("BytesOutToSource", self.bytes_out_to_source),
            ("PacketsInFromSource", self.packets_in_from_source),
            ("PacketsOutToDestination", self.packets_out_to_destination),
            ("PacketsInFromDestination", self.packets_in_from_destination),
            ("PacketsOutToSource", self.packets_out_to_source),
            ("PeakBytesPerSecond", self.peak_bytes_per_second),
            ("PeakPacketsPerSecond", self.peak_packets_per_second),
        ]
    }
}

/// A gateway's counters and the window of its peaks.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    pub metrics: NatMetrics,
    window_ends: Instant,
    bytes: u64,
    packets: u64,
}

impl Meter {
    /// Packets pass from the source to the destination, or back.
    #[inline]
    pub fn pass(&mut self, now: Instant, out: bool, packets: u64, bytes: u64) {
        let metrics = &mut self.metrics;
        if out {
            metrics.packets_in_from_source += packets;
            metrics.packets_out_to_destination += packets;
            metrics.bytes_in_from_source += bytes;
            metrics.bytes_out_to_destination += bytes;
        } else {
            metrics.packets_in_from_destination += packets;
            metrics.packets_out_to_source += packets;
            metrics.bytes_in_from_destination += bytes;
            metrics.bytes_out_to_source += bytes;
        }
        self.weigh(now);
        self.bytes += bytes;
        self.packets += packets;
    }

    /// Packets come in and are dropped.
    pub fn drop(&mut self, out: bool, packets: u64, bytes: u64) {
        let metrics = &mut self.metrics;
        metrics.packets_dropped += packets;
        if out {
            metrics.packets_in_from_source += packets;
            metrics.bytes_in_from_source += bytes;
        } else {
            metrics.packets_in_from_destination += packets;
            metrics.bytes_in_from_destination += bytes;
        }
    }

    /// The counters at `now`; the peaks begin anew.
    pub fn take(&mut self, now: Instant) -> NatMetrics {
        self.weigh(now);
        let metrics = self.metrics;
        (self.metrics.peak_bytes_per_second, self.metrics.peak_packets_per_second) = (0, 0);
        metrics
    }

    /// Ends a window that is over.
    #[inline]
    fn weigh(&mut self, now: Instant) {
        if now < self.window_ends {
            return;
        }
        let metrics = &mut self.metrics;
        metrics.peak_bytes_per_second = metrics.peak_bytes_per_second.max(self.bytes / PEAK_WINDOW_S);
        metrics.peak_packets_per_second = metrics.peak_packets_per_second.max(self.packets / PEAK_WINDOW_S);
        let next = now.as_nanos() / PEAK_WINDOW_NS + 1;
        self.window_ends = Instant::from_nanos(next.saturating_mul(PEAK_WINDOW_NS));
        (self.bytes, self.packets) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_the_best_ten_seconds() {
        let mut meter = Meter::default();
        for second in 0..25 {
            let bytes = if (10..20).contains(&second) { 3000 } else { 1000 };
            meter.pass(Instant::from_secs(second), true, 2, bytes);
        }
        let taken = meter.take(Instant::from_secs(25));
        assert_eq!((taken.peak_bytes_per_second, taken.peak_packets_per_second), (3000, 2));
        assert_eq!(taken.bytes_out_to_destination, 45_000);
        let taken = meter.take(Instant::from_secs(60));
        assert_eq!((taken.peak_bytes_per_second, taken.packets_in_from_source), (500, 50));
        assert_eq!(meter.take(Instant::from_secs(90)).peak_bytes_per_second, 0);
    }
}
