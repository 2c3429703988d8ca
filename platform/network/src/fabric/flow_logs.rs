//! Lines of VPC flow logs: a record when a flow ends, and each minute of those that go on, and of what was refused; and a word
//! of interfaces that had nothing to say, or more than could be written. A log of ten minutes makes one record of a flow's.
//!
//! Source: VPC User Guide, "Flow log records": aggregation intervals of one minute and of ten; `NODATA` where nothing
//! passed in one, `SKIPDATA` where records were skipped; "Flow log limitations": nothing is seen of an interface before its
//! first traffic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use limits::Network;
use limits::network::{InterfaceOf, InterfacePlace};
use model::Instant;
use model::name::zone_id;
use model::stack::{LogFormat, TrafficType};
use packets::{Action, FlowKey, FlowRecord, Origin, PacketEngine, Status};

/// Takes lines, and says whether it had room; must not wait.
pub type Lines = Box<dyn FnMut(&str) -> bool + Send>;

/// A flow log.
pub struct FlowLog {
    /// Its name; one that comes in its place goes on where it was.
    pub name: String,
    /// Whose interfaces it is of.
    pub of: Of,
    /// Which traffic it has.
    pub traffic: TrafficType,
    /// The fields of its lines.
    pub format: LogFormat,
    /// What passes within it is one record of a flow; whole minutes.
    pub interval: Duration,
    /// Where its lines go.
    pub lines: Lines,
}

/// What a flow log is of, as the network calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Every interface.
    All,
    /// Those of a VPC, by any of its names.
    Vpc(Vec<String>),
    /// Those of a subnet.
    Subnet(String),
    /// One.
    Interface(String),
}

/// All flow logs, and what their lines call things.
#[derive(Default)]
pub struct FlowLogging {
    /// The logs.
    pub logs: Vec<FlowLog>,
    /// Twelve digits.
    pub account: String,
    /// The Region.
    pub region: String,
    /// AWS's ids of VPCs and subnets, by their names in the network; what has none is called by its name.
    pub ids: BTreeMap<String, String>,
}

impl std::fmt::Debug for FlowLogging {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.logs.iter().map(|log| &*log.name).collect();
        formatter.debug_struct("FlowLogging").field("logs", &names).finish_non_exhaustive()
    }
}

/// The shortest interval: what passed within it is recorded.
const MINUTE: Duration = Duration::from_secs(60);
/// Flows that are looked at in one go, so that packets do not wait.
const FLOWS: u32 = 4_096;
/// Lines written in one go.
const LINES: usize = 1_024;
/// Records that a log of more than a minute keeps for its interval; what comes on top is skipped.
const KEPT_MAX: usize = 65_536;

/// Seconds since 1970, now.
type WallClock = Box<dyn Fn() -> u64 + Send>;

pub(super) struct FlowLogs {
    logs: Vec<Log>,
    names: Names,
    wall_s: WallClock,
    /// When the engine's clock began by the wall clock of the last minute's end, in seconds since 1970.
    epoch_s: u64,
    /// When the minute is over.
    due: Instant,
    /// Whether the last go left lines behind.
    are_waiting: bool,
    /// The end of the minute whose flows were looked at and whose records are being taken.
    ended: Option<u64>,
    /// Minutes that are over.
    minutes: u64,
}

/// What lines call things.
struct Names {
    account: String,
    region: String,
    ids: BTreeMap<String, String>,
}

struct Log {
    settings: FlowLog,
    /// Records of the interval, where that is more than a minute, and those of the last that wait to be written.
    kept: BTreeMap<FlowKey, FlowRecord>,
    leaving: VecDeque<FlowRecord>,
    /// Interfaces that ever had a record, and those that had one in this interval.
    known: BTreeSet<InterfaceOf>,
    heard: BTreeSet<InterfaceOf>,
    /// Those of which records were lost in it.
    skipped: BTreeSet<InterfaceOf>,
}

/// An interface, as lines speak of it.
struct Place<'a> {
    name: Arc<str>,
    vpc: &'a str,
    subnet: &'a str,
    zone: &'a str,
}

fn seconds(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000_000
}

impl FlowLogs {
    pub fn new(logging: FlowLogging, began: std::time::Instant) -> Self {
        let now = Instant::START + began.elapsed();
        Self::by(Box::new(|| telemetry::unix_millis() / 1_000), logging, now)
    }

    fn by(wall_s: WallClock, FlowLogging { logs, account, region, ids }: FlowLogging, now: Instant) -> Self {
        let epoch_s = wall_s().saturating_sub(seconds(now));
        Self {
            wall_s,
            logs: logs.into_iter().map(Log::new).collect(),
            names: Names { account, region, ids },
            epoch_s,
            due: Instant::START + MINUTE,
            are_waiting: false,
            ended: None,
            minutes: 0,
        }
    }

    /// Others from now on. One that is as before goes on with what it has; what another kept is written. O(flows) where one
    /// comes, goes or changes: what passed before is of those that were there, or nobody's.
    pub fn set(&mut self, engine: &mut PacketEngine, now: Instant, logging: FlowLogging) {
        let FlowLogging { logs, account, region, ids } = logging;
        let goes_on = |old: &Log| logs.iter().any(|new| old.goes_on_as(new));
        if logs.len() != self.logs.len() || !self.logs.iter().all(goes_on) {
            if self.are_wanted() {
                self.take(engine, now, true);
            } else {
                while !engine.log_flows(FLOWS) {}
                self.due = now + MINUTE;
                self.minutes = 0;
            }
            let Self { logs, names, epoch_s, .. } = self;
            for log in logs.iter_mut().filter(|log| !goes_on(log)) {
                log.leave();
                log.write_kept(engine, names, *epoch_s, usize::MAX);
            }
        }
        self.names = Names { account, region, ids };
        let mut before = std::mem::take(&mut self.logs);
        for log in logs {
            let log = match before.iter_mut().find(|old| old.settings.name == log.name) {
                Some(old) => old.succeeded(log),
                None => Log::new(log),
            };
            self.logs.push(log);
        }
        self.are_waiting |= self.logs.iter().any(|log| !log.leaving.is_empty());
        engine.keep_flow_records(self.are_wanted());
    }

    pub fn are_wanted(&self) -> bool {
        !self.logs.is_empty()
    }

    /// When there is something to write at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.are_wanted().then_some(if self.are_waiting { Instant::START } else { self.due })
    }

    /// Writes what there is; at the `end` of everything that goes on, too.
    pub fn write(&mut self, engine: &mut PacketEngine, now: Instant, end: bool) {
        if !self.are_wanted() {
            return;
        }
        if end || now >= self.due {
            self.set_by_the_wall_clock(now);
        }
        let some = self.take(engine, now, end);
        let Self { logs, names, epoch_s, .. } = self;
        for log in logs {
            if end {
                log.leave();
            }
            self.are_waiting |= log.write_kept(engine, names, *epoch_s, some);
        }
    }

    /// Somebody set the wall clock, or the machine slept and it alone went on. A second more or less is the rounding's.
    fn set_by_the_wall_clock(&mut self, now: Instant) {
        let epoch_s = (self.wall_s)().saturating_sub(seconds(now));
        if epoch_s.abs_diff(self.epoch_s) > 1 {
            self.epoch_s = epoch_s;
        }
    }

    /// Takes what records there are, at the `end` of what goes on, too; how many in one go. Flows are looked at only when nothing
    /// waits: those of one look fit, however many there are.
    fn take(&mut self, engine: &mut PacketEngine, now: Instant, end: bool) -> usize {
        let some = if end { usize::MAX } else { LINES };
        if end {
            self.hand_out(engine, some);
            while !engine.log_flows(FLOWS) {
                self.hand_out(engine, some);
            }
        } else if now >= self.due && !self.are_waiting && engine.log_flows(FLOWS) {
            self.due = now + MINUTE;
            self.minutes += 1;
            self.ended = Some(self.epoch_s + seconds(now));
        }
        self.are_waiting = self.hand_out(engine, some) == some;
        if !self.are_waiting
            && let Some(last_s) = self.ended.take()
        {
            self.end_minute(engine, last_s);
        }
        some
    }

    /// Gives `some` of the records that wait to the logs; how many there were.
    fn hand_out(&mut self, engine: &mut PacketEngine, some: usize) -> usize {
        let Self { logs, names, epoch_s, .. } = self;
        let mut taken = 0;
        while taken < some
            && let Some(record) = engine.take_flow_record()
        {
            let Some(place) = Place::of(engine, record.interface) else { continue };
            logs.iter_mut().filter(|log| log.is_of(&place, record.action)).for_each(|log| {
                log.take(record, &place, names, *epoch_s);
            });
            taken += 1;
        }
        taken
    }

    /// Ends the intervals that are over with a minute.
    fn end_minute(&mut self, engine: &mut PacketEngine, last_s: u64) {
        let lost = engine.take_skipped_interfaces();
        // One that is gone has nothing to be silent about.
        let shared = engine.wired().connections.shared().map(|(name, _)| name.clone());
        let others = engine.network().interfaces_of_others().filter_map(|of| engine.interface_place(of));
        let there: BTreeSet<Arc<str>> = shared.chain(others.map(|place| place.name)).collect();
        for log in &mut self.logs {
            for id in &lost {
                if Place::of(engine, *id).is_some_and(|place| log.covers(&place)) {
                    log.skipped.insert(*id);
                }
            }
            let seconds = log.settings.interval.as_secs();
            if self.minutes.is_multiple_of((seconds / MINUTE.as_secs()).max(1)) {
                log.leave();
                log.end_interval(engine, &self.names, &there, (last_s.saturating_sub(seconds), last_s));
            }
        }
    }
}

impl Log {
    fn new(settings: FlowLog) -> Self {
        Self {
            settings,
            kept: BTreeMap::new(),
            leaving: VecDeque::new(),
            known: BTreeSet::new(),
            heard: BTreeSet::new(),
            skipped: BTreeSet::new(),
        }
    }

    /// Whether a log with these settings is the same.
    fn goes_on_as(&self, new: &FlowLog) -> bool {
        let FlowLog { name, of, traffic, format, interval, .. } = &self.settings;
        (name, of, traffic, format, interval)
            == (&new.name, &new.of, &new.traffic, &new.format, &new.interval)
    }

    /// The log that comes in its place, with what it has of the same.
    fn succeeded(&mut self, settings: FlowLog) -> Self {
        let mut log = Self::new(settings);
        if self.goes_on_as(&log.settings) {
            (log.kept, log.leaving) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.leaving));
        }
        if (&self.settings.of, self.settings.traffic) == (&log.settings.of, log.settings.traffic) {
            log.known = std::mem::take(&mut self.known);
            log.heard = std::mem::take(&mut self.heard);
            log.skipped = std::mem::take(&mut self.skipped);
        }
        log
    }

    /// Whether it is of an interface.
    fn covers(&self, place: &Place<'_>) -> bool {
        match &self.settings.of {
            Of::All => true,
            Of::Vpc(names) => names.iter().any(|name| name == place.vpc),
            Of::Subnet(name) => name == place.subnet,
            Of::Interface(name) => **name == *place.name,
        }
    }

    fn is_of(&self, place: &Place<'_>, action: Action) -> bool {
        let wants = match self.settings.traffic {
            TrafficType::All => true,
            TrafficType::Accept => action == Action::Accept,
            TrafficType::Reject => action == Action::Reject,
        };
        wants && self.covers(place)
    }

    /// Writes a record, or keeps it for its interval.
    fn take(&mut self, record: FlowRecord, place: &Place<'_>, names: &Names, epoch_s: u64) {
        self.known.insert(record.interface);
        self.heard.insert(record.interface);
        if self.settings.interval <= MINUTE {
            return self.say(record, place, names, epoch_s);
        }
        if let Some(found) = self.kept.get_mut(&record.key()) {
            found.add(&record);
        } else if self.kept.len() + self.leaving.len() < KEPT_MAX {
            self.kept.insert(record.key(), record);
        } else {
            self.skipped.insert(record.interface);
        }
    }

    /// A line; one that has no room is skipped.
    fn say(&mut self, record: FlowRecord, place: &Place<'_>, names: &Names, epoch_s: u64) {
        let line = names.called(place, |origin| record.line(&self.settings.format, origin, epoch_s));
        if !(self.settings.lines)(&line) {
            self.skipped.insert(record.interface);
        }
    }

    /// What was kept may be written.
    fn leave(&mut self) {
        self.leaving.extend(std::mem::take(&mut self.kept).into_values());
    }

    /// Writes some of what may be; whether there is more.
    fn write_kept(&mut self, engine: &PacketEngine, names: &Names, epoch_s: u64, some: usize) -> bool {
        for _ in 0..some.min(self.leaving.len()) {
            let Some(record) = self.leaving.pop_front() else { break };
            if let Some(place) = Place::of(engine, record.interface) {
                self.say(record, &place, names, epoch_s);
            }
        }
        !self.leaving.is_empty()
    }

    /// Says what the records of an interval do not: who had none, and who had more.
    fn end_interval(
        &mut self,
        engine: &PacketEngine,
        names: &Names,
        there: &BTreeSet<Arc<str>>,
        interval: (u64, u64),
    ) {
        let (heard, skipped) = (std::mem::take(&mut self.heard), std::mem::take(&mut self.skipped));
        self.known.extend(&skipped);
        self.known.retain(|id| Place::of(engine, *id).is_some_and(|place| there.contains(&place.name)));
        let silent = self.known.iter().filter(|id| !heard.contains(id) && !skipped.contains(id));
        let silent: Vec<_> = silent.map(|id| (*id, Status::NoData)).collect();
        for (id, status) in skipped.into_iter().map(|id| (id, Status::SkipData)).chain(silent) {
            let Some(place) = Place::of(engine, id) else { continue };
            let line = names.called(&place, |origin| status.line(&self.settings.format, origin, interval));
            if !(self.settings.lines)(&line) && status == Status::SkipData {
                // It is said when there is room again.
                self.skipped.insert(id);
            }
        }
    }
}

impl Names {
    /// Makes a line with what things are called in it.
    fn called(&self, place: &Place<'_>, line: impl Fn(&Origin<'_>) -> String) -> String {
        let id = |name| self.ids.get(name).map_or(name, String::as_str);
        line(&Origin {
            account: &self.account,
            region: &self.region,
            interface: &place.name,
            vpc: id(place.vpc),
            subnet: id(place.subnet),
            zone_id: &zone_id(place.zone).unwrap_or_default(),
        })
    }
}

impl<'a> Place<'a> {
    fn of(engine: &'a PacketEngine, interface: InterfaceOf) -> Option<Self> {
        let InterfacePlace { name, vpc, subnet } = engine.interface_place(interface)?;
        let network: &Network = engine.network();
        let subnet = subnet.and_then(|subnet| network.subnets.get(subnet));
        Some(Self {
            name,
            vpc: network.vpcs.get(vpc).map_or("", |vpc| &vpc.name),
            subnet: subnet.map_or("", |subnet| &subnet.name),
            zone: subnet.map_or("", |subnet| &subnet.zone),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::NetworkSettings;
    use model::{Era, Overrides};
    use packets::{Attachment, EnvironmentId, Offload, Packet, PacketSettings, Port, craft};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 53);

    type Written = Arc<Mutex<Vec<String>>>;

    struct Rig {
        engine: PacketEngine,
        environment: EnvironmentId,
        logs: FlowLogs,
        lines: Written,
        room: Arc<Mutex<usize>>,
        wall_s: Arc<AtomicU64>,
        /// What the wall clock shows at the engine's start.
        set_s: u64,
    }

    /// A log of all traffic in the default format, of a minute.
    fn log(of: Of, lines: Lines) -> FlowLog {
        let (name, format) = ("log".into(), LogFormat::default());
        FlowLog { name, of, traffic: TrafficType::All, format, interval: MINUTE, lines }
    }

    /// Takes every line.
    fn taker() -> (Written, Lines) {
        let written = Written::default();
        let taken = written.clone();
        let lines = move |line: &str| {
            taken.lock().unwrap().push(line.to_owned());
            true
        };
        (written, Box::new(lines))
    }

    fn logging(logs: Vec<FlowLog>) -> FlowLogging {
        let ids = BTreeMap::from([("Subnet1".into(), "subnet-1".into()), ("Vpc".into(), "vpc-1".into())]);
        FlowLogging { logs, account: "1".into(), region: "us-east-1".into(), ids }
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
            let place = Some(packets::Place { function: 0, choice: 0 });
            let address = [169, 254, 0, 2].into();
            let attachment = Attachment { address, address6: None, place, resolver: None };
            let environment = engine.attach(Instant::START, attachment).unwrap();
            let (lines, room) = (Written::default(), Arc::new(Mutex::new(usize::MAX)));
            let (written, left) = (lines.clone(), room.clone());
            let sink: Lines = Box::new(move |line| {
                let mut left = left.lock().unwrap();
                if *left > 0 {
                    *left -= 1;
                    written.lock().unwrap().push(line.to_owned());
                    return true;
                }
                false
            });
            let wall_s = Arc::new(AtomicU64::new(1_000));
            let clock = wall_s.clone();
            let clock: WallClock = Box::new(move || clock.load(Ordering::Relaxed));
            let logs = FlowLogs::by(clock, logging(vec![log(Of::All, sink)]), Instant::START);
            Self { engine, environment, logs, lines, room, wall_s, set_s: 1_000 }
        }

        /// A datagram; answers with who the other side takes for its sender.
        fn send(&mut self, second: u64, port: u16) -> SocketAddr {
            let from = SocketAddr::from(([169, 254, 0, 2], port));
            let mut bytes = craft::datagram(from, SERVER, b"?").unwrap();
            let packet = Packet { bytes: &mut bytes, offload: Offload::default() };
            self.engine.receive(Instant::from_secs(second), Port::Environment(self.environment), packet);
            let [a, b, c, d] = bytes[12..16] else { unreachable!("four bytes") };
            SocketAddr::from(([a, b, c, d], u16::from_be_bytes([bytes[20], bytes[21]])))
        }

        /// The same with an answer.
        fn ask(&mut self, second: u64, port: u16) {
            let from = self.send(second, port);
            let mut bytes = craft::datagram(SERVER, from, b"!").unwrap();
            let packet = Packet { bytes: &mut bytes, offload: Offload::default() };
            self.engine.receive(Instant::from_secs(second), Port::World, packet);
        }

        fn told(&mut self, second: u64) -> Vec<String> {
            self.wall_s.store(self.set_s + second, Ordering::Relaxed);
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
    fn lines_have_the_wall_clocks_times_once_it_was_set() {
        let mut rig = Rig::new();
        rig.send(10, 1);
        assert_eq!(rig.told(60).len(), 1);
        for (set_s, second, line) in [
            (1_001, 120, "1060 1120"),
            (4_600, 180, "4720 4780"),
            (4_600, 240, "4780 4840"),
            (500, 300, "740 800"),
        ] {
            rig.set_s = set_s;
            assert_eq!(rig.told(second), [format!("2 1 eni-Subnet1-Group - - - - - - - {line} - NODATA")]);
        }
    }

    #[test]
    fn lines_that_found_no_room_are_said_to_be_skipped_when_there_is_some() {
        let mut rig = Rig::new();
        for port in 1..4 {
            rig.send(1, port);
        }
        *rig.room.lock().unwrap() = 1;
        assert_eq!(rig.told(60).len(), 1);
        assert!(rig.told(120).is_empty());
        *rig.room.lock().unwrap() = usize::MAX;
        assert_eq!(rig.told(180), ["2 1 eni-Subnet1-Group - - - - - - - 1120 1180 - SKIPDATA"]);
        assert_eq!(rig.told(240), ["2 1 eni-Subnet1-Group - - - - - - - 1180 1240 - NODATA"]);
    }

    #[test]
    fn more_flows_than_records_may_wait_have_all_their_lines_in_each_interval_and_at_the_end() {
        let mut rig = Rig::new();
        let flows: u16 = 40_000;
        (1..=flows).for_each(|port| rig.ask(1, port));
        let mut lines = 0;
        while rig.logs.next_deadline() <= Some(Instant::from_secs(60)) {
            lines += rig.told(60).len();
        }
        assert_eq!(lines, 2 * usize::from(flows));
        (1..=flows).for_each(|port| rig.ask(61, port));
        rig.logs.write(&mut rig.engine, Instant::from_secs(62), true);
        assert_eq!(rig.lines.lock().unwrap().len(), 2 * usize::from(flows));
    }

    #[test]
    fn a_log_has_the_interfaces_and_the_traffic_that_it_is_of() {
        let mut rig = Rig::new();
        let vpc = rig.engine.network().vpcs[0].name.clone();
        let (mut logs, mut written) = (Vec::new(), Vec::new());
        for (of, traffic) in [
            (Of::Vpc(vec!["Else".into(), vpc]), TrafficType::All),
            (Of::Vpc(vec!["Other".into()]), TrafficType::All),
            (Of::Subnet("Subnet1".into()), TrafficType::Accept),
            (Of::Subnet("Subnet2".into()), TrafficType::All),
            (Of::Interface("eni-Subnet1-Group".into()), TrafficType::All),
            (Of::Subnet("Subnet1".into()), TrafficType::Reject),
        ] {
            let (lines, taker) = taker();
            let name = logs.len().to_string();
            logs.push(FlowLog { name, traffic, ..log(of, taker) });
            written.push(lines);
        }
        logs[2].format = "${subnet-id} ${srcport}".parse().unwrap();
        rig.logs.set(&mut rig.engine, Instant::START, logging(logs));
        rig.send(1, 7);
        rig.told(60);
        let counts: Vec<usize> = written.iter().map(|lines| lines.lock().unwrap().len()).collect();
        assert_eq!(counts, [1, 0, 1, 0, 1, 0]);
        assert_eq!(*written[2].lock().unwrap(), ["subnet-1 1024"]);
    }

    #[test]
    fn a_log_of_ten_minutes_has_one_record_of_what_goes_on_in_them() {
        let mut rig = Rig::new();
        let (lines, taker) = taker();
        let ten = FlowLog { interval: 10 * MINUTE, ..log(Of::All, taker) };
        rig.logs.set(&mut rig.engine, Instant::START, logging(vec![ten]));
        for minute in 0..10 {
            // Twice a minute, so that the flow goes on.
            for second in [10, 30, 50] {
                rig.send(minute * 60 + second, 7);
            }
            assert!(lines.lock().unwrap().is_empty(), "minute {minute}");
            rig.told((minute + 1) * 60);
        }
        let said = std::mem::take(&mut *lines.lock().unwrap());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with(" 17 30 870 1010 1590 ACCEPT OK"), "{said:?}");
        // Another ten without a packet.
        (11..=20).for_each(|minute| drop(rig.told(minute * 60)));
        assert_eq!(*lines.lock().unwrap(), ["2 1 eni-Subnet1-Group - - - - - - - 1600 2200 - NODATA"]);
    }

    #[test]
    fn a_log_that_comes_in_anothers_place_has_nothing_of_before_and_one_that_goes_writes_what_it_kept() {
        let mut rig = Rig::new();
        rig.logs.set(&mut rig.engine, Instant::START, logging(Vec::new()));
        rig.send(1, 7);
        let (lines, lines_taker) = taker();
        let ten = FlowLog { interval: 10 * MINUTE, ..log(Of::All, lines_taker) };
        rig.logs.set(&mut rig.engine, Instant::from_secs(2), logging(vec![ten]));
        rig.send(20, 7);
        rig.told(62);
        assert!(lines.lock().unwrap().is_empty());
        let (others, others_taker) = taker();
        rig.logs.set(&mut rig.engine, Instant::from_secs(70), logging(vec![log(Of::All, others_taker)]));
        let said = std::mem::take(&mut *lines.lock().unwrap());
        assert!(said.len() == 1 && said[0].contains(" 17 1 29 1020 1020 "), "{said:?}");
        // It knows of whom the other one had heard.
        rig.told(122);
        assert!(others.lock().unwrap().is_empty(), "the interval had a record");
        rig.told(182);
        assert!(others.lock().unwrap()[0].ends_with(" 1122 1182 - NODATA"));
    }

    #[test]
    fn a_change_of_one_log_leaves_the_ten_minutes_of_another() {
        let mut rig = Rig::new();
        let ten = |taker| FlowLog { name: "ten".into(), interval: 10 * MINUTE, ..log(Of::All, taker) };
        let (lines, first) = taker();
        let (_, other) = taker();
        rig.logs.set(&mut rig.engine, Instant::START, logging(vec![ten(first), log(Of::All, other)]));
        for minute in 0..10 {
            for second in [10, 30, 50] {
                rig.send(minute * 60 + second, 7);
            }
            if minute == 4 {
                let (_, other) = taker();
                let again = lines.clone();
                let sink: Lines = Box::new(move |line| {
                    again.lock().unwrap().push(line.to_owned());
                    true
                });
                let changed = FlowLog { traffic: TrafficType::Reject, ..log(Of::All, other) };
                rig.logs.set(&mut rig.engine, Instant::from_secs(295), logging(vec![ten(sink), changed]));
            }
            rig.told((minute + 1) * 60);
        }
        let said = std::mem::take(&mut *lines.lock().unwrap());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with(" 17 30 870 1010 1590 ACCEPT OK"), "{said:?}");
    }

    #[test]
    fn a_log_of_something_else_by_the_same_name_says_nothing_of_what_it_was_of() {
        let mut rig = Rig::new();
        rig.send(1, 7);
        assert_eq!(rig.told(60).len(), 1);
        let (lines, taken) = taker();
        let elsewhere = log(Of::Subnet("Subnet2".into()), taken);
        rig.logs.set(&mut rig.engine, Instant::from_secs(61), logging(vec![elsewhere]));
        (2..5).for_each(|minute| drop(rig.told(minute * 60)));
        assert_eq!(*lines.lock().unwrap(), [""; 0]);
    }

    #[test]
    fn what_a_deployment_adds_is_called_by_its_id_in_logs_that_go_on() {
        let mut rig = Rig::new();
        let format: LogFormat = "${subnet-id}".parse().unwrap();
        let (before, first) = taker();
        let mut unnamed = logging(vec![FlowLog { format: format.clone(), ..log(Of::All, first) }]);
        unnamed.ids.clear();
        rig.logs.set(&mut rig.engine, Instant::START, unnamed);
        rig.send(1, 7);
        let (lines, second) = taker();
        let named = logging(vec![FlowLog { format, ..log(Of::All, second) }]);
        rig.logs.set(&mut rig.engine, Instant::from_secs(2), named);
        rig.told(60);
        assert!(before.lock().unwrap().is_empty(), "nothing was cut");
        assert_eq!(*lines.lock().unwrap(), ["subnet-1"]);
    }
}
