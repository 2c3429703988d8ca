//! What NAT gateways count, under CloudWatch's names (namespace `AWS/NATGateway`).
//!
//! Source: VPC User Guide, "NAT gateway CloudWatch metrics", and AWS re:Post, "How can I use CloudWatch metrics to identify NAT
//! gateway bandwidth issues?" (a peak's maximum is that of the averages of each 10 seconds within 60); published. CloudWatch's
//! minutes are calendar's, of which the last is minutes old; here it is the last six whole windows, whoever asks and how often.

use model::Instant;

/// Over which a peak is averaged.
const PEAK_WINDOW_NS: u64 = 10_000_000_000;
const PEAK_WINDOW_S: u64 = PEAK_WINDOW_NS / 1_000_000_000;
/// Windows of CloudWatch's period, a minute.
const PEAK_WINDOWS: usize = 6;

/// One gateway's counters since the engine's start; the peaks, of the last minute.
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

/// A gateway's counters and the windows of its peaks.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    pub metrics: NatMetrics,
    /// Which window it is, counted from the start, and what passed in it.
    window: u64,
    bytes: u64,
    packets: u64,
    /// Bytes and packets of the windows before, each in the place of its number.
    before: [(u64, u64); PEAK_WINDOWS],
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

    /// The counters at `now`.
    pub fn read(&mut self, now: Instant) -> NatMetrics {
        self.weigh(now);
        let most = |part: fn(&(u64, u64)) -> u64| self.before.iter().map(part).max().unwrap_or(0);
        NatMetrics {
            peak_bytes_per_second: most(|window| window.0) / PEAK_WINDOW_S,
            peak_packets_per_second: most(|window| window.1) / PEAK_WINDOW_S,
            ..self.metrics
        }
    }

    /// Ends windows that are over. O(1).
    #[inline]
    fn weigh(&mut self, now: Instant) {
        let window = now.as_nanos() / PEAK_WINDOW_NS;
        if window <= self.window {
            return;
        }
        let place = |window: u64| (window % PEAK_WINDOWS as u64) as usize;
        let passed = (window - self.window).min(PEAK_WINDOWS as u64 + 1);
        self.before[place(self.window)] = (self.bytes, self.packets);
        // Nothing passed in those between.
        (1..passed).for_each(|step| self.before[place(self.window + step)] = (0, 0));
        (self.window, self.bytes, self.packets) = (window, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_the_best_ten_seconds_of_the_last_minute() {
        let mut meter = Meter::default();
        for second in 0..25 {
            let bytes = if (10..20).contains(&second) { 3000 } else { 1000 };
            meter.pass(Instant::from_secs(second), true, 2, bytes);
        }
        for now in [25, 25, 79] {
            let read = meter.read(Instant::from_secs(now));
            assert_eq!((read.peak_bytes_per_second, read.peak_packets_per_second), (3000, 2), "{now}");
            assert_eq!(read.bytes_out_to_destination, 45_000);
        }
        let read = meter.read(Instant::from_secs(80));
        assert_eq!((read.peak_bytes_per_second, read.packets_in_from_source), (500, 50));
        assert_eq!(meter.read(Instant::from_secs(90)).peak_bytes_per_second, 0);
    }

    #[test]
    fn windows_are_weighed_as_by_a_list_of_all_packets() {
        let mut sequence = 7_u64;
        let mut draw = |most: u64| {
            sequence = sequence.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (sequence >> 33) % most
        };
        let (mut meter, mut all, mut now) = (Meter::default(), Vec::new(), 0);
        for _ in 0..2_000 {
            now += draw(20) * draw(2) * draw(2);
            let bytes = draw(1_000);
            meter.pass(Instant::from_secs(now), draw(2) == 0, 1, bytes);
            all.push((now / PEAK_WINDOW_S, bytes));
            let last = now / PEAK_WINDOW_S;
            let sum = |window: u64| all.iter().filter(|(of, _)| *of == window).map(|(_, bytes)| bytes).sum();
            let expected: u64 = (last.saturating_sub(6)..last).map(sum).max().unwrap_or(0);
            assert_eq!(meter.read(Instant::from_secs(now)).peak_bytes_per_second, expected / PEAK_WINDOW_S);
        }
    }
}
