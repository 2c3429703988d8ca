//! How an invocation ended, put into words: what the caller gets, what the log says, what becomes of the environment.

use crate::failure::{Failure, exit_reason};
use bytes::Bytes;
use control::Function;
use limits::Outcome;
use model::{LimitId, Refusal};
use runtime_api::{RESPONSE_BYTES_MAX, Reply};
use sandbox::{Exit, HostMemory, Memory, OutOfMemory};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{Status, iso_time, unix_millis};

/// How the wait for a handler ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The runtime answered, or ended a streamed answer.
    Replied(Reply),
    /// A streamed answer became larger than it may be.
    TooLarge(Refusal),
    /// The connection that carried a streamed answer broke; the runtime lives.
    Truncated,
    /// Its process ended.
    Exited(Exit),
    /// It could not be executed: the program, and errno.
    NotExecuted { program: String, errno: i32 },
    /// An extension's process ended, or it gave up.
    Extension { kind: &'static str, reason: String },
    /// It could not be initialised anew.
    InitFailed { body: Bytes, error_type: Option<String> },
    /// The function's timeout struck.
    TimedOut,
}

impl End {
    /// Whether the runtime has said what it will, and may go on to its next event.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(self, Self::Replied(_) | Self::TooLarge(_) | Self::Truncated)
    }
}

/// What a caller gets.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) payload: Bytes,
    /// Whether that is an error document.
    pub(crate) failed: bool,
    /// The limit that made it one, or dropped packets of the function's.
    pub(crate) limit: Option<Arc<Refusal>>,
    /// What the runtime said of a streamed answer.
    pub(crate) content_type: Option<Arc<str>>,
}

/// An end in words.
#[derive(Debug)]
pub(crate) struct Conclusion {
    /// What the caller gets.
    pub(crate) said: Said,
    /// What the dispatcher hears.
    pub(crate) outcome: Outcome,
    /// What the REPORT line says.
    pub(crate) status: Status,
    /// Time in the handler.
    pub(crate) duration: Duration,
    /// Log lines before END.
    pub(crate) lines: Vec<String>,
    /// INIT ran inside the invocation, and failed.
    pub(crate) init_failed: bool,
}

impl Conclusion {
    /// A limit dropped packets of the function's: what it waited for, if it failed or timed out; and where its own code
    /// took the time-out, the log says whose it was.
    pub(crate) fn blame(&mut self, id: &str, refusal: &Refusal) {
        match self.lines.last_mut() {
            Some(line) if self.outcome == Outcome::TimedOut => {
                line.push_str(&format!(", while packets were dropped by {refusal}"));
            }
            _ => self.lines.push(format!("RequestId: {id} packets were dropped by {refusal}")),
        }
        // What ended the function by itself stays its limit.
        let known = self.said.limit.as_ref().map(|limit| limit.limit);
        if known.is_none_or(|limit| limit == LimitId::FunctionTimeout) {
            self.said.limit = Some(Arc::new(refusal.clone()));
        }
    }

    /// `initialising` says that a suppressed INIT was not over.
    pub(crate) fn of(end: End, function: &Function, id: &str, elapsed: Duration, initialising: bool) -> Self {
        let conclusion = Self::after_init(end, function, id, elapsed);
        let init_failed = initialising && conclusion.outcome != Outcome::Done;
        Self { init_failed, ..conclusion }
    }

    fn after_init(end: End, function: &Function, id: &str, elapsed: Duration) -> Self {
        let ended = |payload, failed, outcome, status| Self {
            said: Said { payload, failed, limit: None, content_type: None },
            outcome,
            status,
            duration: elapsed,
            lines: Vec::new(),
            init_failed: false,
        };
        match end {
            End::Replied(Reply::Response(body)) => ended(body, false, Outcome::Done, Status::Success),
            End::Replied(Reply::Error { body, .. }) => ended(body, true, Outcome::Done, Status::Success),
            End::Replied(Reply::TooLarge) => {
                let failure = Failure::too_large();
                // It was refused as soon as it passed the limit: by how much is not known.
                let max = RESPONSE_BYTES_MAX as u64;
                let limit = limited(function, LimitId::PayloadSize, max.saturating_add(1), max);
                ended(failure.body, true, Outcome::Done, Status::Error(failure.kind)).with(limit)
            }
            End::TooLarge(refusal) => {
                let failure = Failure::stream_too_large(refusal.max);
                let lines =
                    vec![format!("RequestId: {id} Error: a streamed response was cut (limit {refusal})")];
                let ended = ended(failure.body, true, Outcome::Done, Status::Error(failure.kind));
                Self { lines, ..ended }.with(refusal)
            }
            End::Truncated => {
                let failure = Failure::truncated(id);
                ended(failure.body, true, Outcome::Done, Status::Error(failure.kind))
            }
            End::InitFailed { body, error_type } => {
                let kind = error_type.unwrap_or_else(|| "Runtime.Unknown".to_owned());
                ended(body, true, Outcome::Crashed, Status::Error(kind))
            }
            End::Exited(exit) => {
                let failure = Failure::exited(id, &exit);
                let lines =
                    vec![format!("RequestId: {id} Error: {}", exit_reason(&exit)), failure.kind.clone()];
                let limit = exit.out_of_memory.map(|whose| match whose {
                    OutOfMemory::Environment => {
                        let max = u64::from(function.memory_mb);
                        limited(function, LimitId::FunctionMemory, max, max)
                    }
                    OutOfMemory::Host => {
                        let max = HostMemory::of_this_process().read().map_or(0, Memory::total_mb);
                        Refusal {
                            resource: "host".into(),
                            ..limited(function, LimitId::HostMemory, max, max)
                        }
                    }
                });
                let ended = ended(failure.body, true, Outcome::Crashed, Status::Error(failure.kind));
                let ended = Self { lines, ..ended };
                if let Some(limit) = limit { ended.with(limit) } else { ended }
            }
            End::NotExecuted { program, errno } => {
                let error = std::io::Error::from_raw_os_error(errno);
                let failure = Failure::not_executable(id, &program, &error);
                ended(failure.body, true, Outcome::Crashed, Status::Error(failure.kind))
            }
            End::Extension { kind, reason } => {
                let line = format!("RequestId: {id} Error: {reason}");
                let failure = Failure::new(kind, &line);
                let ended = ended(failure.body, true, Outcome::Crashed, Status::Error(failure.kind));
                Self { lines: vec![line, kind.to_owned()], ..ended }
            }
            End::TimedOut => {
                let seconds = function.timeout.as_secs_f64();
                let (name, now) = (&function.name, iso_time(unix_millis()));
                let line = format!(
                    "{now} {id} Task timed out after {seconds:.2} seconds (limit function.timeout of {name}: {seconds} s)"
                );
                let failure = Failure::timed_out(id, function.timeout);
                let max = function.timeout.as_secs();
                let limit = limited(function, LimitId::FunctionTimeout, max, max);
                let ended = ended(failure.body, true, Outcome::TimedOut, Status::Timeout).with(limit);
                Self { duration: function.timeout, lines: vec![line], ..ended }
            }
        }
    }

    fn with(mut self, limit: Refusal) -> Self {
        self.said.limit = Some(Arc::new(limit));
        self
    }
}

/// The refusal that stands for a failure of `function`.
fn limited(function: &Function, limit: LimitId, used: u64, max: u64) -> Refusal {
    Refusal { limit, resource: function.name.as_str().into(), destination: None, used, max, retry_at: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn conclude(end: End, initialising: bool) -> Conclusion {
        let mut function = Function::new("cart", PathBuf::new());
        function.timeout = Duration::from_secs(3);
        Conclusion::of(end, &function, "ID", Duration::from_millis(5), initialising)
    }

    #[test]
    fn a_time_out_names_its_limit_and_lasts_as_long_as_the_limit() {
        let conclusion = conclude(End::TimedOut, false);
        assert_eq!(conclusion.duration, Duration::from_secs(3));
        let limit = conclusion.said.limit.unwrap();
        assert_eq!((limit.limit, &*limit.resource, limit.max), (LimitId::FunctionTimeout, "cart", 3));
        let [line] = &conclusion.lines[..] else { panic!("{:?}", conclusion.lines) };
        assert!(
            line.ends_with(" ID Task timed out after 3.00 seconds (limit function.timeout of cart: 3 s)"),
            "{line}"
        );
    }

    fn no_ports() -> Refusal {
        Refusal {
            limit: LimitId::NatPorts,
            resource: "NatGateway".into(),
            destination: Some("203.0.113.10:443".into()),
            used: 50,
            max: 50,
            retry_at: None,
        }
    }

    #[test]
    fn a_function_that_took_the_time_out_itself_has_the_limit_in_its_log() {
        let mut conclusion = conclude(End::Replied(Reply::Response("{}".into())), false);
        conclusion.blame("ID", &no_ports());
        let line = "RequestId: ID packets were dropped by nat.ports of NatGateway to 203.0.113.10:443: 50 of 50 connections";
        assert_eq!(conclusion.lines, [line]);
        assert_eq!(conclusion.said.limit.unwrap().limit, LimitId::NatPorts);
        assert!(!conclusion.said.failed);
    }

    #[test]
    fn a_time_out_names_the_limit_that_dropped_packets_meanwhile() {
        let mut conclusion = conclude(End::TimedOut, false);
        conclusion.blame("ID", &no_ports());
        let end = ", while packets were dropped by nat.ports of NatGateway to 203.0.113.10:443: 50 of 50 connections";
        assert!(conclusion.lines[0].ends_with(end), "{:?}", conclusion.lines);
        assert_eq!(conclusion.said.limit.unwrap().limit, LimitId::NatPorts);
    }

    #[test]
    fn what_a_limit_ended_names_it() {
        let exit = |out_of_memory| Exit { code: None, signal: Some(9), out_of_memory };
        let limit = |end| conclude(end, false).said.limit.map(|limit| (limit.limit, limit.used, limit.max));
        let own = exit(Some(OutOfMemory::Environment));
        assert_eq!(limit(End::Exited(own)), Some((LimitId::FunctionMemory, 128, 128)));
        let hosts = limit(End::Exited(exit(Some(OutOfMemory::Host)))).unwrap();
        assert!(hosts.0 == LimitId::HostMemory && hosts.1 == hosts.2, "{hosts:?}");
        assert_eq!(limit(End::Exited(exit(None))), None);
        let max = RESPONSE_BYTES_MAX as u64;
        assert_eq!(limit(End::Replied(Reply::TooLarge)), Some((LimitId::PayloadSize, max + 1, max)));
    }

    #[test]
    fn a_stream_that_was_cut_says_by_what() {
        let refusal = Refusal {
            limit: LimitId::ResponseStreamSize,
            resource: "cart".into(),
            destination: None,
            used: 101,
            max: 100,
            retry_at: None,
        };
        let conclusion = conclude(End::TooLarge(refusal), false);
        let line = "RequestId: ID Error: a streamed response was cut (limit lambda.response-stream-size of cart: 101 of 100 bytes)";
        assert_eq!((conclusion.outcome, &conclusion.lines[..]), (Outcome::Done, &[line.to_owned()][..]));
        assert_eq!(conclusion.said.limit.map(|limit| limit.limit), Some(LimitId::ResponseStreamSize));
        let body = String::from_utf8(conclusion.said.payload.to_vec()).unwrap();
        assert!(body.contains("Function.ResponseSizeTooLarge") && body.contains("(100 bytes)"), "{body}");
    }

    #[test]
    fn a_failed_second_init_is_reported_in_phase_invoke() {
        let exit = Exit { code: Some(1), signal: None, out_of_memory: None };
        let conclusion = conclude(End::Exited(exit), true);
        assert!(conclusion.init_failed && conclusion.status == Status::Error("Runtime.ExitError".into()));
        let lines = ["RequestId: ID Error: Runtime exited with error: exit status 1", "Runtime.ExitError"];
        assert_eq!(conclusion.lines, lines);
    }

    #[test]
    fn an_extension_that_ends_fails_the_invocation_in_lambdas_words() {
        let end = End::Extension { kind: "Extension.Crash", reason: "exit code 0".into() };
        let conclusion = conclude(end, false);
        let body = r#"{"errorType":"Extension.Crash","errorMessage":"RequestId: ID Error: exit code 0"}"#;
        assert_eq!((conclusion.outcome, &conclusion.said.payload[..]), (Outcome::Crashed, body.as_bytes()));
        assert_eq!(conclusion.lines, ["RequestId: ID Error: exit code 0", "Extension.Crash"]);
        let end = End::NotExecuted { program: "/var/task/bootstrap".into(), errno: 13 };
        assert_eq!(conclude(end, true).status, Status::Error("Runtime.InvalidEntrypoint".into()));
    }

    #[test]
    fn an_answer_adds_nothing_to_the_log() {
        let reply = Reply::Error { body: Bytes::from_static(b"{}"), error_type: None };
        let conclusion = conclude(End::Replied(reply), false);
        assert!(conclusion.said.failed && conclusion.lines.is_empty());
        assert_eq!(conclusion.outcome, Outcome::Done);
    }
}
