//! What the platform says of a function's life, in the forms it is said in: lines of a log, or JSON objects for logs in
//! JSON and for extensions that subscribed.
//!
//! Source: AWS Lambda Developer Guide, "Lambda Telemetry API Event schema reference", "Lambda Logs API" (event types), "Log-level
//! filtering" (the table of events and levels). Published.

use crate::report::{Report, Status, init_report, restore_report};
use crate::time::iso_time;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Something that happened to a function's environment.
#[derive(Clone, Debug)]
pub enum PlatformEvent<'a> {
    /// INIT begins.
    InitStart {
        /// Of which kind, and in which phase.
        init: Init<'a>,
        /// `python:3.12.onrush`; managed runtimes have one.
        runtime_version: Option<String>,
        /// The function's name.
        function_name: &'a str,
        /// `$LATEST` or a number.
        function_version: &'a str,
    },
    /// The runtime is ready, or INIT failed.
    InitRuntimeDone {
        /// Of which kind, and in which phase.
        init: Init<'a>,
        /// How it ended.
        status: &'a Status,
    },
    /// INIT is over.
    InitReport {
        /// Of which kind, and in which phase.
        init: Init<'a>,
        /// How it ended.
        status: &'a Status,
        /// How long it took.
        duration: Duration,
    },
    /// A SnapStart environment is taken into use.
    RestoreStart {
        /// `python3.13.onrush (initialised ahead)`.
        runtime_version: String,
        /// The function's name.
        function_name: &'a str,
        /// The version's number.
        function_version: &'a str,
    },
    /// Its after-restore hooks have run, or failed.
    RestoreRuntimeDone {
        /// How it ended.
        status: &'a Status,
    },
    /// The restore is over.
    RestoreReport {
        /// How it ended.
        status: &'a Status,
        /// How long it took.
        duration: Duration,
    },
    /// An invocation begins.
    Start {
        /// The request id.
        request_id: &'a str,
        /// `$LATEST` or a number.
        version: &'a str,
        /// The X-Ray header.
        trace_id: Option<&'a str>,
    },
    /// The runtime is done with an invocation.
    RuntimeDone {
        /// The request id.
        request_id: &'a str,
        /// How it ended.
        status: &'a Status,
        /// Time in the handler.
        duration: Duration,
        /// Size of the answer.
        produced_bytes: Option<usize>,
    },
    /// An invocation is over, in the log's own word.
    End {
        /// The request id.
        request_id: &'a str,
    },
    /// An invocation's figures.
    Report(&'a Report<'a>),
    /// An extension at the end of INIT.
    Extension {
        /// Its name.
        name: &'a str,
        /// `Ready` if all is well.
        state: &'a str,
        /// What it registered for.
        events: &'a [&'static str],
        /// What it failed with.
        error_type: Option<&'a str>,
    },
    /// An extension has subscribed.
    Subscription {
        /// Its name.
        name: &'a str,
        /// `platform`, `function`, `extension`.
        types: &'a [&'static str],
        /// By which API.
        kind: SubscriptionKind,
    },
    /// A subscriber was too slow.
    LogsDropped {
        /// Events that it did not get.
        records: u64,
        /// Their size.
        bytes: u64,
        /// Why.
        reason: &'a str,
    },
    /// Something went wrong, in plain words.
    Fault(&'a str),
}

/// Which INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init<'a> {
    /// `on-demand`, `provisioned-concurrency` or `snap-start`.
    pub initialization_type: &'a str,
    /// `init`, or `invoke` when it runs inside an invocation.
    pub phase: &'a str,
}

/// The two APIs that extensions subscribe with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionKind {
    /// `PUT /2022-07-01/telemetry`.
    Telemetry,
    /// `PUT /2020-08-15/logs`.
    Logs,
}

/// How detailed a line is; the later, the graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The finest.
    Trace,
    /// For whoever looks for faults.
    Debug,
    /// The normal course of things.
    Info,
    /// May become a fault.
    Warn,
    /// A fault.
    Error,
    /// The end.
    Fatal,
}

impl Level {
    /// Reads a name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let levels = [
            ("TRACE", Self::Trace),
            ("DEBUG", Self::Debug),
            ("INFO", Self::Info),
            ("WARN", Self::Warn),
            ("ERROR", Self::Error),
            ("FATAL", Self::Fatal),
        ];
        levels.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| level)
    }

    /// The level of a line that a function prints: that of a JSON object with a key `level`, else INFO.
    pub fn of_line(line: &str) -> Self {
        if !line.starts_with('{') {
            return Self::Info;
        }
        #[derive(serde::Deserialize)]
        struct Leveled {
            #[serde(default)]
            level: Value,
        }
        let found = serde_json::from_str::<Leveled>(line).ok();
        found.and_then(|found| Self::parse(found.level.as_str()?)).unwrap_or(Self::Info)
    }
}

impl PlatformEvent<'_> {
    /// The line of a log in plain text; `None` for what only JSON tells.
    pub fn line(&self) -> Option<String> {
        match self {
            Self::InitStart { runtime_version: Some(version), .. } => {
                Some(format!("INIT_START Runtime Version: {version}"))
            }
            Self::InitReport { init, status, duration }
                if **status != Status::Success || init.runs_ahead() =>
            {
                Some(init_report(*duration, init.phase, status))
            }
            Self::RestoreStart { runtime_version, .. } => {
                Some(format!("RESTORE_START Runtime Version: {runtime_version}"))
            }
            Self::RestoreReport { status, duration } => Some(restore_report(*duration, status)),
            Self::Start { request_id, version, .. } => {
                Some(format!("START RequestId: {request_id} Version: {version}"))
            }
            Self::End { request_id } => Some(format!("END RequestId: {request_id}")),
            Self::Report(report) => Some(report.to_string()),
            Self::Extension { name, state, events, error_type } => {
                let error = error_type.map(|kind| format!("\tError Type: {kind}")).unwrap_or_default();
                Some(format!(
                    "EXTENSION\tName: {name}\tState: {state}\tEvents: [{}]{error}",
                    events.join(",")
                ))
            }
            Self::Subscription { name, types, kind } => {
                let word = if *kind == SubscriptionKind::Telemetry { "TELEMETRY" } else { "LOGS" };
                let types: Vec<String> = types.iter().map(|name| capitalised(name)).collect();
                Some(format!("{word}\tName: {name}\tState: Subscribed\tTypes: [{}]", types.join(", ")))
            }
            Self::Fault(text) => Some((*text).to_owned()),
            Self::InitStart { .. }
            | Self::InitRuntimeDone { .. }
            | Self::InitReport { .. }
            | Self::RestoreRuntimeDone { .. }
            | Self::RuntimeDone { .. }
            | Self::LogsDropped { .. } => None,
        }
    }

    /// Its place in the table of levels, by which a log in JSON is filtered.
    pub fn level(&self) -> Level {
        let by_status = |status: &Status, well| if *status == Status::Success { well } else { Level::Warn };
        match self {
            Self::InitStart { runtime_version, .. } => {
                if runtime_version.is_some() {
                    Level::Info
                } else {
                    Level::Debug
                }
            }
            Self::InitRuntimeDone { status, .. }
            | Self::RestoreRuntimeDone { status }
            | Self::RuntimeDone { status, .. } => by_status(status, Level::Debug),
            Self::InitReport { init, status, .. } => {
                by_status(status, if init.runs_ahead() { Level::Info } else { Level::Debug })
            }
            Self::RestoreReport { status, .. } => by_status(status, Level::Info),
            Self::Report(report) => by_status(&report.status, Level::Info),
            Self::Extension { error_type, .. } => {
                if error_type.is_none() {
                    Level::Info
                } else {
                    Level::Warn
                }
            }
            Self::RestoreStart { .. } | Self::Start { .. } | Self::Subscription { .. } => Level::Info,
            Self::LogsDropped { .. } | Self::Fault(_) => Level::Warn,
            Self::End { .. } => Level::Debug,
        }
    }

    /// The line of a log in JSON: what the Telemetry API gets, and in the same form what went wrong.
    pub fn json_line(&self, at_ms: u64) -> Option<String> {
        match self {
            Self::Fault(text) => Some(object(at_ms, "fault", &json!(text))),
            event => event.telemetry(at_ms),
        }
    }

    /// The object of the Telemetry API, at a time in milliseconds of Unix time; `None` for what it
    /// does not know.
    pub fn telemetry(&self, at_ms: u64) -> Option<String> {
        let (kind, record) = match self {
            Self::InitStart { init, runtime_version, function_name, function_version } => {
                let mut record = init.record();
                if let Some(version) = runtime_version {
                    record.insert("runtimeVersion".to_owned(), json!(version));
                }
                record.insert("functionName".to_owned(), json!(function_name));
                record.insert("functionVersion".to_owned(), json!(function_version));
                ("initStart", Value::Object(record))
            }
            Self::InitRuntimeDone { init, status } => {
                let mut record = init.record();
                put_status(&mut record, status);
                ("initRuntimeDone", Value::Object(record))
            }
            Self::InitReport { init, status, duration } => {
                let mut record = init.record();
                put_status(&mut record, status);
                record.insert("metrics".to_owned(), json!({"durationMs": millis(*duration)}));
                ("initReport", Value::Object(record))
            }
            Self::RestoreStart { runtime_version, function_name, function_version } => (
                "restoreStart",
                json!({"runtimeVersion": runtime_version, "functionName": function_name, "functionVersion": function_version}),
            ),
            Self::RestoreRuntimeDone { status } => {
                let mut record = Map::new();
                put_status(&mut record, status);
                ("restoreRuntimeDone", Value::Object(record))
            }
            Self::RestoreReport { status, duration } => {
                let mut record = Map::new();
                put_status(&mut record, status);
                record.insert("metrics".to_owned(), json!({"durationMs": millis(*duration)}));
                ("restoreReport", Value::Object(record))
            }
            Self::Start { request_id, version, trace_id } => {
                let mut record = json!({"requestId": request_id, "version": version});
                if let Some(trace_id) = trace_id {
                    record["tracing"] = json!({"type": "X-Amzn-Trace-Id", "value": trace_id});
                }
                ("start", record)
            }
            Self::RuntimeDone { request_id, status, duration, produced_bytes } => {
                let mut metrics = json!({"durationMs": millis(*duration)});
                if let Some(bytes) = produced_bytes {
                    metrics["producedBytes"] = json!(bytes);
                }
                let mut record = Map::from_iter([
                    ("requestId".to_owned(), json!(request_id)),
                    ("metrics".to_owned(), metrics),
                ]);
                put_status(&mut record, status);
                ("runtimeDone", Value::Object(record))
            }
            Self::Report(report) => {
                let mut record = Map::from_iter([
                    ("requestId".to_owned(), json!(report.request_id)),
                    ("metrics".to_owned(), metrics(report)),
                ]);
                put_status(&mut record, &report.status);
                ("report", Value::Object(record))
            }
            Self::Extension { name, state, events, error_type } => {
                let mut record = json!({"name": name, "state": state, "events": events});
                if let Some(error_type) = error_type {
                    record["errorType"] = json!(error_type);
                }
                ("extension", record)
            }
            Self::Subscription { name, types, .. } => {
                ("telemetrySubscription", json!({"name": name, "state": "Subscribed", "types": types}))
            }
            Self::LogsDropped { records, bytes, reason } => {
                ("logsDropped", json!({"droppedRecords": records, "droppedBytes": bytes, "reason": reason}))
            }
            // Not of this schema, whose readers may refuse what they do not know.
            Self::Fault(_) | Self::End { .. } => return None,
        };
        Some(object(at_ms, kind, &record))
    }

    /// The object of the Logs API, and whether only its second version (2021-03-18) knows it.
    pub fn logs(&self, at_ms: u64) -> Option<(String, bool)> {
        let mut later = false;
        let (kind, record) = match self {
            Self::Start { request_id, version, .. } => {
                ("start", json!({"requestId": request_id, "version": version}))
            }
            Self::End { request_id } => ("end", json!({"requestId": request_id})),
            Self::Report(report) => {
                ("report", json!({"requestId": report.request_id, "metrics": metrics(report)}))
            }
            Self::RuntimeDone { request_id, status, .. } => {
                later = true;
                // This API knows three words.
                let status = if let Status::Error(_) = status { "failure" } else { word(status) };
                ("runtimeDone", json!({"requestId": request_id, "status": status}))
            }
            Self::Extension { name, state, events, .. } => {
                ("extension", json!({"name": name, "state": state, "events": events}))
            }
            Self::Subscription { name, types, .. } => {
                ("logsSubscription", json!({"name": name, "state": "Subscribed", "types": types}))
            }
            Self::LogsDropped { records, bytes, reason } => {
                ("logsDropped", json!({"droppedRecords": records, "droppedBytes": bytes, "reason": reason}))
            }
            Self::Fault(text) => ("fault", json!(text)),
            Self::InitStart { .. }
            | Self::InitRuntimeDone { .. }
            | Self::InitReport { .. }
            | Self::RestoreStart { .. }
            | Self::RestoreRuntimeDone { .. }
            | Self::RestoreReport { .. } => return None,
        };
        Some((object(at_ms, kind, &record), later))
    }
}

impl Init<'_> {
    /// Whether nobody waits for it: then the log tells of it, whatever came of it.
    fn runs_ahead(&self) -> bool {
        self.initialization_type != "on-demand" && self.phase == "init"
    }

    fn record(&self) -> Map<String, Value> {
        Map::from_iter([
            ("initializationType".to_owned(), json!(self.initialization_type)),
            ("phase".to_owned(), json!(self.phase)),
        ])
    }
}

fn object(at_ms: u64, kind: &str, record: &Value) -> String {
    format!(r#"{{"time":"{}","type":"platform.{kind}","record":{record}}}"#, iso_time(at_ms))
}

fn word(status: &Status) -> &'static str {
    match status {
        Status::Success => "success",
        Status::Timeout => "timeout",
        Status::Error(_) => "error",
    }
}

fn put_status(record: &mut Map<String, Value>, status: &Status) {
    record.insert("status".to_owned(), json!(word(status)));
    if let Status::Error(kind) = status {
        record.insert("errorType".to_owned(), json!(kind));
    }
}

fn metrics(report: &Report<'_>) -> Value {
    let mut metrics = json!({
        "durationMs": millis(report.duration),
        "billedDurationMs": report.billed_ms(),
        "memorySizeMB": report.memory_mb,
        "maxMemoryUsedMB": report.memory_used_mb(),
    });
    if let Some(init) = report.init {
        metrics["initDurationMs"] = json!(millis(init));
    }
    if let Some(restore) = report.restore {
        metrics["restoreDurationMs"] = json!(millis(restore));
    }
    metrics
}

/// Milliseconds with three decimals.
fn millis(duration: Duration) -> f64 {
    // Up to 2^53 microseconds this is exact.
    duration.as_micros() as f64 / 1_000.0
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_MS: u64 = 1_709_572_958_033;
    const INIT: Init<'_> = Init { initialization_type: "on-demand", phase: "init" };

    fn report(status: Status) -> Report<'static> {
        Report {
            request_id: "id",
            duration: Duration::from_micros(1_500),
            init: Some(Duration::from_micros(80_100)),
            restore: None,
            init_billed: true,
            memory_mb: 128,
            memory_peak_bytes: 33 << 20,
            status,
        }
    }

    fn telemetry(event: &PlatformEvent<'_>) -> Value {
        serde_json::from_str(&event.telemetry(AT_MS).unwrap()).unwrap()
    }

    fn logs(event: &PlatformEvent<'_>) -> Value {
        serde_json::from_str(&event.logs(AT_MS).unwrap().0).unwrap()
    }

    #[test]
    fn a_report_has_the_shape_of_the_schema() {
        let failed = Status::Error("Runtime.ExitError".into());
        assert_eq!(
            telemetry(&PlatformEvent::Report(&report(failed))),
            json!({"time": "2024-03-04T17:22:38.033Z", "type": "platform.report", "record": {
                "requestId": "id", "status": "error", "errorType": "Runtime.ExitError",
                "metrics": {"durationMs": 1.5, "billedDurationMs": 82, "memorySizeMB": 128, "maxMemoryUsedMB": 33,
                    "initDurationMs": 80.1}}})
        );
        let record = &logs(&PlatformEvent::Report(&report(Status::Success)))["record"];
        assert_eq!((record.get("status"), &record["metrics"]["billedDurationMs"]), (None, &json!(82)));
    }

    #[test]
    fn starts_and_ends_have_the_shapes_of_their_schemas() {
        let start = PlatformEvent::Start { request_id: "id", version: "$LATEST", trace_id: Some("Root=1") };
        assert_eq!(
            telemetry(&start)["record"],
            json!({"requestId": "id", "version": "$LATEST",
                "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"}})
        );
        assert_eq!(logs(&start)["record"], json!({"requestId": "id", "version": "$LATEST"}));
        let end = PlatformEvent::End { request_id: "id" };
        assert!(end.telemetry(0).is_none());
        assert_eq!(logs(&end)["type"], "platform.end");
        let done = PlatformEvent::RuntimeDone {
            request_id: "id",
            status: &Status::Error("X".into()),
            duration: Duration::from_millis(140),
            produced_bytes: Some(16),
        };
        assert_eq!(
            telemetry(&done)["record"],
            json!({"requestId": "id", "status": "error", "errorType": "X",
                "metrics": {"durationMs": 140.0, "producedBytes": 16}})
        );
        assert_eq!(logs(&done)["record"], json!({"requestId": "id", "status": "failure"}));
        assert!(done.logs(0).unwrap().1 && !start.logs(0).unwrap().1);
    }

    #[test]
    fn a_restore_has_the_shapes_of_its_schemas() {
        let start = PlatformEvent::RestoreStart {
            runtime_version: "python3.13.onrush (initialised ahead)".to_owned(),
            function_name: "cart",
            function_version: "1",
        };
        assert_eq!(
            telemetry(&start),
            json!({"time": "2024-03-04T17:22:38.033Z", "type": "platform.restoreStart", "record": {
                "runtimeVersion": "python3.13.onrush (initialised ahead)",
                "functionName": "cart", "functionVersion": "1"}})
        );
        assert!(start.logs(0).is_none(), "the Logs API is older");
        let failed = Status::Error("Runtime.AfterRestoreError".into());
        let done = PlatformEvent::RestoreRuntimeDone { status: &failed };
        assert_eq!(
            telemetry(&done)["record"],
            json!({"status": "error", "errorType": "Runtime.AfterRestoreError"})
        );
        assert_eq!((done.line(), done.level()), (None, Level::Warn));
        let duration = Duration::from_micros(15_190);
        let over = PlatformEvent::RestoreReport { status: &Status::Success, duration };
        assert_eq!(
            telemetry(&over)["record"],
            json!({"status": "success", "metrics": {"durationMs": 15.19}})
        );
        assert_eq!(
            (over.line().unwrap(), over.level()),
            (restore_report(duration, &Status::Success), Level::Info)
        );
        let report = Report { restore: Some(duration), init: None, ..report(Status::Success) };
        let record = &telemetry(&PlatformEvent::Report(&report))["record"];
        assert_eq!(record["metrics"]["restoreDurationMs"], json!(15.19));
    }

    #[test]
    fn an_init_that_ran_ahead_is_always_told() {
        let told = |initialization_type, phase| {
            let init = Init { initialization_type, phase };
            let duration = Duration::from_millis(80);
            PlatformEvent::InitReport { init, status: &Status::Success, duration }.line()
        };
        assert!(told("on-demand", "init").is_none());
        assert!(told("snap-start", "invoke").is_none());
        for kind in ["snap-start", "provisioned-concurrency"] {
            let line = told(kind, "init").unwrap();
            assert_eq!(line, "INIT_REPORT Init Duration: 80.00 ms\tPhase: init\tStatus: success");
        }
    }

    #[test]
    fn faults_are_for_logs_alone() {
        let fault = PlatformEvent::Fault("it broke");
        assert!(fault.telemetry(AT_MS).is_none());
        let line: Value = serde_json::from_str(&fault.json_line(AT_MS).unwrap()).unwrap();
        assert_eq!((&line["type"], &line["record"]), (&json!("platform.fault"), &json!("it broke")));
        assert_eq!(logs(&fault)["record"], "it broke");
    }

    #[test]
    fn lines_are_those_of_lambdas_log() {
        let subscribed = PlatformEvent::Subscription {
            name: "agent",
            types: &["platform", "function"],
            kind: SubscriptionKind::Telemetry,
        };
        let line = "TELEMETRY\tName: agent\tState: Subscribed\tTypes: [Platform, Function]";
        assert_eq!(subscribed.line().as_deref(), Some(line));
        let ready = |error_type| PlatformEvent::Extension {
            name: "agent",
            state: "Ready",
            events: &["INVOKE", "SHUTDOWN"],
            error_type,
        };
        let line = "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE,SHUTDOWN]";
        assert_eq!(ready(None).line().as_deref(), Some(line));
        assert_eq!(ready(Some("X")).line().unwrap(), format!("{line}\tError Type: X"));
        let quiet =
            PlatformEvent::InitReport { init: INIT, status: &Status::Success, duration: Duration::ZERO };
        assert_eq!(quiet.line(), None, "a good INIT on demand is told by the REPORT line");
    }

    #[test]
    fn levels_are_those_of_the_table() {
        let failed = Status::Error("X".into());
        let ahead = Init { initialization_type: "provisioned-concurrency", phase: "init" };
        let start = |runtime_version| PlatformEvent::InitStart {
            init: INIT,
            runtime_version,
            function_name: "f",
            function_version: "1",
        };
        let done = |status| PlatformEvent::InitRuntimeDone { init: INIT, status };
        let initialised = |init, status| PlatformEvent::InitReport { init, status, duration: Duration::ZERO };
        for (event, level) in [
            (start(Some("python:3.13".into())), Level::Info),
            (start(None), Level::Debug),
            (done(&Status::Success), Level::Debug),
            (done(&failed), Level::Warn),
            (initialised(INIT, &Status::Success), Level::Debug),
            (initialised(ahead, &Status::Success), Level::Info),
            (initialised(INIT, &failed), Level::Warn),
            (PlatformEvent::Report(&report(Status::Success)), Level::Info),
            (PlatformEvent::Report(&report(Status::Timeout)), Level::Warn),
            (PlatformEvent::LogsDropped { records: 1, bytes: 1, reason: "" }, Level::Warn),
        ] {
            assert_eq!(event.level(), level, "{event:?}");
        }
    }

    #[test]
    fn a_line_without_a_level_is_information() {
        for (line, level) in [
            (r#"{"level":"ERROR","message":"x"}"#, Level::Error),
            (r#"{"msg":"x","level":"debug"}"#, Level::Debug),
            (r#"{"level":"NOTICE"}"#, Level::Info),
            (r#"{"level":30}"#, Level::Info),
            (r#"{"level":"ERROR""#, Level::Info),
            (r#"["level","ERROR"]"#, Level::Info),
            ("ERROR: x", Level::Info),
            ("", Level::Info),
        ] {
            assert_eq!(Level::of_line(line), level, "{line}");
        }
        assert!(Level::Trace < Level::Debug && Level::Error < Level::Fatal);
    }
}
