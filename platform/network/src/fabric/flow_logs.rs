//! Lines of VPC flow logs: a record when a flow ends, and each minute of those that go on, and of what was refused; and a word
//! of interfaces that had nothing to say, or more than could be written.
//!
//! Source: VPC User Guide, "Flow log records": an aggregation interval of one minute is the shortest; `NODATA` where nothing
//! passed in one, `SKIPDATA` where records were skipped; "Flow log limitations": nothing is seen of an interface before its
//! first traffic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use limits::eni::InterfaceId;
use model::Instant;
use packets::{PacketEngine, Status};

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
    /// The interval whose flows were looked at and whose lines are being written.
    ended: Option<(u64, u64)>,
    /// Interfaces that ever had a record, and those that had one in this interval.
    known: BTreeSet<InterfaceId>,
    heard: BTreeSet<InterfaceId>,
    /// Those of which records were lost in it.
    skipped: BTreeSet<InterfaceId>,
}

impl FlowLogs {
    pub fn new(sink: Option<FlowLog>, account: String, began: std::time::Instant) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::since(sink, account, now.saturating_sub(began.elapsed()).as_secs())
    }

    fn since(sink: Option<FlowLog>, account: String, epoch_s: u64) -> Self {
        Self {
            sink,
            account,
            epoch_s,
            due: Instant::START + INTERVAL,
            are_waiting: false,
            ended: None,
            known: BTreeSet::new(),
            heard: BTreeSet::new(),
            skipped: BTreeSet::new(),
        }
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
        if self.sink.is_none() {
            return;
        }
        if end {
            while !engine.log_flows(FLOWS) {}
        } else if now >= self.due && engine.log_flows(FLOWS) {
            self.due = now + INTERVAL;
            let last_s = self.epoch_s + now.as_nanos() / 1_000_000_000;
            self.ended = Some((last_s.saturating_sub(INTERVAL.as_secs()), last_s));
        }
        let mut written = 0;
        while let Some(record) = engine.take_flow_record() {
            let line = record.line(&self.account, &name(engine, record.interface), self.epoch_s);
            self.say(record.interface, &line);
            written += 1;
            if written >= LINES && !end {
                break;
            }
        }
        self.are_waiting = written >= LINES && !end;
        if !self.are_waiting
            && let Some(interval) = self.ended.take()
        {
            self.end_interval(engine, interval);
        }
    }

    /// A line of an interface; one that has no room is skipped.
    fn say(&mut self, interface: InterfaceId, line: &str) {
        self.known.insert(interface);
        self.heard.insert(interface);
        if self.sink.as_mut().is_some_and(|sink| !sink(line)) {
            self.skipped.insert(interface);
        }
    }

    /// Says what the records of an interval do not: who had none, and who had more.
    fn end_interval(&mut self, engine: &mut PacketEngine, interval: (u64, u64)) {
        let (heard, mut skipped) = (std::mem::take(&mut self.heard), std::mem::take(&mut self.skipped));
        skipped.extend(engine.take_skipped_interfaces());
        self.known.extend(&skipped);
        // One that is gone has nothing to be silent about.
        let there: BTreeSet<Arc<str>> =
            engine.wired().connections.shared().map(|(name, _)| name.clone()).collect();
        self.known.retain(|id| there.contains(&name(engine, *id)));
        let silent = self.known.iter().filter(|id| !heard.contains(id) && !skipped.contains(id));
        let silent: Vec<_> = silent.map(|id| (*id, Status::NoData)).collect();
        for (id, status) in skipped.into_iter().map(|id| (id, Status::SkipData)).chain(silent) {
            let line = status.line(&self.account, &name(engine, id), interval);
            if self.sink.as_mut().is_some_and(|sink| !sink(&line)) && status == Status::SkipData {
                // It is said when there is room again.
                self.skipped.insert(id);
            }
        }
    }
}

fn name(engine: &PacketEngine, interface: InterfaceId) -> Arc<str> {
    let found = engine.wired().connections.counts().nth(interface.index());
    found.map_or_else(|| "-".into(), |(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::{Network, NetworkSettings};
    use model::{Era, Overrides};
    use packets::{Attachment, EnvironmentId, Offload, Packet, PacketSettings, Place, Port, craft};
    use std::net::SocketAddr;
    use std::sync::Mutex;

    struct Rig {
        engine: PacketEngine,
        environment: EnvironmentId,
        logs: FlowLogs,
        lines: Arc<Mutex<Vec<String>>>,
        room: Arc<Mutex<usize>>,
    }

    impl Rig {
        /// Two subnets, an environment in the first.
        fn new() -> Self {
            let network = Network::simple(1, 2, 1);
            let settings =
                NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &Overrides::default());
            let wired = network.wire(settings.unwrap());
            let mut engine = PacketEngine::new(network, wired, PacketSettings::default());
            engine.keep_flow_records(true);
            let place = Some(Place { function: 0, choice: 0 });
            let address = [169, 254, 0, 2].into();
            let attachment = Attachment { address, address6: None, place, resolver: None };
            let environment = engine.attach(Instant::START, attachment).unwrap();
            let (lines, room) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new(usize::MAX)));
            let (written, left) = (lines.clone(), room.clone());
            let sink: FlowLog = Box::new(move |line| {
                let mut left = left.lock().unwrap();
                if *left > 0 {
                    *left -= 1;
                    written.lock().unwrap().push(line.to_owned());
                    return true;
                }
                false
            });
            let logs = FlowLogs::since(Some(sink), "1".into(), 1_000);
            Self { engine, environment, logs, lines, room }
        }

        fn send(&mut self, second: u64, port: u16) {
            let from = SocketAddr::from(([169, 254, 0, 2], port));
            let mut bytes = craft::datagram(from, "203.0.113.9:53".parse().unwrap(), b"?").unwrap();
            let packet = Packet { bytes: &mut bytes, offload: Offload::default() };
            self.engine.receive(Instant::from_secs(second), Port::Environment(self.environment), packet);
        }

        fn told(&mut self, second: u64) -> Vec<String> {
            self.logs.write(&mut self.engine, Instant::from_secs(second), false);
            std::mem::take(&mut self.lines.lock().unwrap())
        }
    }

    #[test]
    fn who_spoke_once_is_said_to_be_silent_in_each_interval_without_a_packet() {
        let mut rig = Rig::new();
        assert!(rig.told(60).is_empty(), "nobody has spoken");
        rig.send(70, 1);
        let said = rig.told(120);
        assert!(said.len() == 1 && said[0].contains(" 203.0.113.9 "), "{said:?}");
        assert_eq!(rig.told(180), ["2 1 eni-Subnet1-Group - - - - - - - 1120 1180 - NODATA"]);
        assert!(rig.told(181).is_empty());
    }

    #[test]
    fn lines_that_found_no_room_are_said_to_be_skipped_when_there_is_some() {
        let mut rig = Rig::new();
        (1..4).for_each(|port| rig.send(1, port));
        *rig.room.lock().unwrap() = 1;
        assert_eq!(rig.told(60).len(), 1);
        assert!(rig.told(120).is_empty());
        *rig.room.lock().unwrap() = usize::MAX;
        assert_eq!(rig.told(180), ["2 1 eni-Subnet1-Group - - - - - - - 1120 1180 - SKIPDATA"]);
        assert_eq!(rig.told(240), ["2 1 eni-Subnet1-Group - - - - - - - 1180 1240 - NODATA"]);
    }
}
