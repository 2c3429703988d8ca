//! The lines that Lambda itself writes into a function's log.
//!
//! Source: AWS Lambda Developer Guide, "Execution environment lifecycle" (REPORT and INIT_REPORT examples);
//! field order and the trailing tab as recorded on AWS.

use std::fmt;
use std::time::Duration;

/// How an invocation ended, as its REPORT line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The runtime answered; also with a function error of its own.
    Success,
    /// The function's timeout struck.
    Timeout,
    /// The runtime failed; holds the error type, for instance `Runtime.ExitError`.
    Error(String),
}

/// One invocation's figures; prints as the REPORT line without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// The request id.
    pub request_id: &'a str,
    /// Time in the handler.
    pub duration: Duration,
    /// Time in INIT, on a cold start.
    pub init: Option<Duration>,
    /// Whether INIT is billed (since 2025-08-01 always).
    pub init_billed: bool,
    /// Time that the restore of a SnapStart environment took, its after-restore hooks included.
    pub restore: Option<Duration>,
    /// MemorySize.
    pub memory_mb: u32,
    /// Most memory the environment used.
    pub memory_peak_bytes: u64,
    /// How it ended.
    pub status: Status,
}

impl Report<'_> {
    /// Whole milliseconds that AWS would bill: `ceil(Duration + Init Duration)`, at least 1; with a restore its billed
    /// milliseconds besides.
    ///
    /// Source: AWS Compute Blog, "AWS Lambda standardizes billing for INIT Phase"; the sum is taken before it
    /// is rounded (133.61 + 80.00 ms are 214 ms). Developer Guide, "Monitoring for Lambda SnapStart": 139.28 ms and 173 ms of
    /// restore are 313 ms.
    pub fn billed_ms(&self) -> u64 {
        let init = self.init.filter(|_| self.init_billed).unwrap_or_default();
        let restore = self.restore.map_or(0, whole_ms);
        whole_ms(self.duration + init).saturating_add(restore).max(1)
    }
}

impl Report<'_> {
    /// Most memory used, in whole MiB, never more than there is.
    pub fn memory_used_mb(&self) -> u64 {
        self.memory_peak_bytes.div_ceil(1 << 20).min(u64::from(self.memory_mb))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "REPORT RequestId: {}\tDuration: {}\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            self.request_id,
            Millis(self.duration),
            self.billed_ms(),
            self.memory_mb,
            self.memory_used_mb(),
        )?;
        if let Some(init) = self.init {
            write!(formatter, "Init Duration: {}\t", Millis(init))?;
        }
        if let Some(restore) = self.restore {
            // AWS bills what loads the runtime and runs the hooks; that is all there is here.
            let billed = whole_ms(restore);
            write!(
                formatter,
                "Restore Duration: {}\tBilled Restore Duration: {billed} ms\t",
                Millis(restore)
            )?;
        }
        match &self.status {
            Status::Success => Ok(()),
            Status::Timeout => formatter.write_str("Status: timeout"),
            Status::Error(kind) => write!(formatter, "Status: error\tError Type: {kind}"),
        }
    }
}

/// The INIT_REPORT line of an INIT that failed; `phase` is `init` or `invoke`.
pub fn init_report(duration: Duration, phase: &str, status: &Status) -> String {
    let duration = Millis(duration);
    match status {
        Status::Success => format!("INIT_REPORT Init Duration: {duration}\tPhase: {phase}\tStatus: success"),
        Status::Timeout => format!("INIT_REPORT Init Duration: {duration}\tPhase: {phase}\tStatus: timeout"),
        Status::Error(kind) => {
            format!(
                "INIT_REPORT Init Duration: {duration}\tPhase: {phase}\tStatus: error\tError Type: {kind}"
            )
        }
    }
}

/// The RESTORE_REPORT line of a SnapStart environment. What it was restored from is not AWS's: no memory was loaded, and the
/// line says so.
pub fn restore_report(duration: Duration, status: &Status) -> String {
    let status = match status {
        Status::Success => String::new(),
        Status::Timeout => "\tStatus: timeout".to_owned(),
        Status::Error(kind) => format!("\tStatus: error\tError Type: {kind}"),
    };
    format!("RESTORE_REPORT Restore Duration: {}{status}\tRestored From: initialised ahead", Millis(duration))
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Milliseconds with two decimals, rounded down to whole microseconds and half up to hundredths.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.0.as_micros() + 5) / 10;
        write!(formatter, "{}.{:02} ms", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn report(
        duration: Duration,
        init: Option<Duration>,
        init_billed: bool,
        status: Status,
    ) -> Report<'static> {
        Report {
            request_id: "id",
            duration,
            init,
            init_billed,
            restore: None,
            memory_mb: 1769,
            memory_peak_bytes: 240 << 20,
            status,
        }
    }

    /// The developer guide's own examples, and two lines recorded by users.
    #[test]
    fn billed_duration_is_the_rounded_sum() {
        let billed =
            |duration, init, billed| report(micros(duration), init, billed, Status::Success).billed_ms();
        assert_eq!(billed(133_610, Some(micros(80_000)), true), 214);
        assert_eq!(billed(3_016_780, Some(micros(84_000)), true), 3_101);
        assert_eq!(billed(3_510, Some(micros(9_249_760)), true), 9_254);
        assert_eq!(billed(409_460, Some(micros(2_397_350)), false), 410);
        assert_eq!(billed(0, None, true), 1);
    }

    #[test]
    fn the_line_is_tab_separated_with_a_trailing_tab() {
        let line = report(micros(3_510), Some(micros(9_249_760)), true, Status::Success).to_string();
        assert_eq!(
            line,
            "REPORT RequestId: id\tDuration: 3.51 ms\tBilled Duration: 9254 ms\tMemory Size: 1769 MB\tMax Memory Used: 240 MB\tInit Duration: 9249.76 ms\t"
        );
    }

    #[test]
    fn a_restore_is_billed_besides() {
        let restore = Some(micros(172_510));
        let report = Report { restore, ..report(micros(139_280), None, true, Status::Success) };
        assert_eq!(report.billed_ms(), 313);
        let line = report.to_string();
        assert!(line.ends_with("Restore Duration: 172.51 ms\tBilled Restore Duration: 173 ms\t"), "{line}");
    }

    #[test]
    fn failures_carry_their_status() {
        let line =
            report(micros(1_000_000), None, true, Status::Error("Runtime.ExitError".into())).to_string();
        assert!(line.ends_with("MB\tStatus: error\tError Type: Runtime.ExitError"), "{line}");
        assert_eq!(
            init_report(micros(9_999_790), "init", &Status::Timeout),
            "INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout"
        );
    }
}
