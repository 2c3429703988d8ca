//! Lines of VPC flow logs: a record when a flow ends or is refused, and each minute of those that go on.
//!
//! Source: VPC User Guide, "Logging IP traffic using VPC Flow Logs": an aggregation interval of one minute is the shortest.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::Instant;
use packets::PacketEngine;

use super::FlowLog;

const INTERVAL: Duration = Duration::from_secs(60);
/// Flows that are looked at in one go, so that packets do not wait.
const FLOWS: u32 = 4_096;
/// Lines written in one go.
const LINES: usize = 1_024;

pub(super) struct FlowLogs {
    sink: Option<FlowLog>,
    account: String,
    /// When the engine's clock began, in seconds since 1970.
    epoch_s: u64,
    due: Instant,
    /// Whether the last go left lines behind.
    are_waiting: bool,
}

impl FlowLogs {
    pub fn new(sink: Option<FlowLog>, account: String, began: std::time::Instant) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch_s = now.saturating_sub(began.elapsed()).as_secs();
        Self { sink, account, epoch_s, due: Instant::START + INTERVAL, are_waiting: false }
    }

    pub fn are_wanted(&self) -> bool {
        self.sink.is_some()
    }

    /// When there is something to write at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sink.as_ref().map(|_| if self.are_waiting { Instant::START } else { self.due })
    }

    /// Writes what there is; at the `end` of everything that goes on, too.
    pub fn write(&mut self, engine: &mut PacketEngine, now: Instant, end: bool) {
        let Some(sink) = &mut self.sink else { return };
        if end {
            while !engine.log_flows(FLOWS) {}
        } else if now >= self.due && engine.log_flows(FLOWS) {
            self.due = now + INTERVAL;
        }
        let mut written = 0;
        while let Some(record) = engine.take_flow_record() {
            let names = engine.wired().connections.counts().nth(record.interface.index());
            let name = names.map_or_else(|| "-".into(), |(name, _)| name.clone());
            sink(&record.line(&self.account, &name, self.epoch_s));
            written += 1;
            if written >= LINES && !end {
                break;
            }
        }
        self.are_waiting = written >= LINES && !end;
    }
}
