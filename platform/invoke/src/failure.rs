//! The error documents that Lambda itself writes when a runtime cannot answer.
//!
//! Source: bodies as recorded on AWS.

use bytes::Bytes;
use runtime_api::RESPONSE_BYTES_MAX;
use sandbox::{Exit, OutOfMemory};
use std::io;
use std::time::Duration;

/// `ENOEXEC` of Linux.
const ENOEXEC: i32 = 8;

/// An error document with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: String,
    pub(crate) body: Bytes,
}

impl Failure {
    /// The function's timeout struck.
    pub(crate) fn timed_out(request_id: &str, timeout: Duration) -> Self {
        let seconds = timeout.as_secs_f64();
        Self::new(
            "Sandbox.Timedout",
            &format!("RequestId: {request_id} Error: Task timed out after {seconds:.2} seconds"),
        )
    }

    /// The runtime's process ended.
    pub(crate) fn exited(request_id: &str, exit: &Exit) -> Self {
        let kind = match exit.out_of_memory {
            Some(OutOfMemory::Environment) => "Runtime.OutOfMemory",
            Some(OutOfMemory::Host) | None => "Runtime.ExitError",
        };
        Self::new(kind, &format!("RequestId: {request_id} Error: {}", exit_reason(exit)))
    }

    /// The program could not be executed. Source: recorded by users of custom runtimes; type from the Runtime
    /// Interface Emulator.
    pub(crate) fn not_executable(request_id: &str, program: &str, error: &io::Error) -> Self {
        let cause = exec_cause(error);
        let message = format!("RequestId: {request_id} Error: fork/exec {program}: {cause}");
        Self::new("Runtime.InvalidEntrypoint", &message)
    }

    /// The working directory could not be entered. Source: type from the Runtime Interface Emulator.
    pub(crate) fn no_working_directory(request_id: &str, folder: &str, error: &io::Error) -> Self {
        let message = format!("RequestId: {request_id} Error: chdir {folder}: {}", exec_cause(error));
        Self::new("Runtime.InvalidWorkingDir", &message)
    }

    /// The result was too large.
    pub(crate) fn too_large() -> Self {
        Self::stream_too_large(RESPONSE_BYTES_MAX as u64)
    }

    /// A streamed response was larger than so many bytes. Source: type from the Runtime Interface Emulator; the message is
    /// that of a result, which is recorded.
    pub(crate) fn stream_too_large(max: u64) -> Self {
        let message = format!("Response payload size exceeded maximum allowed payload size ({max} bytes).");
        Self::new("Function.ResponseSizeTooLarge", &message)
    }

    /// A streamed response broke off. Source: type from the Runtime Interface Emulator, seen by users on AWS; the message is
    /// assumed.
    pub(crate) fn truncated(request_id: &str) -> Self {
        let message = format!("RequestId: {request_id} Error: The response ended before it was complete");
        Self::new("Runtime.TruncatedResponse", &message)
    }

    pub(crate) fn new(kind: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string();
        Self { kind: kind.to_owned(), body: body.into() }
    }
}

/// Why a program could not be executed, as AWS's supervisor words it.
pub(crate) fn exec_cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) if number == ENOEXEC => "exec format error".to_owned(),
        _ => match error.kind() {
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        },
    }
}

/// `Runtime exited with error: exit status 1`, as AWS's supervisor words it.
pub(crate) fn exit_reason(exit: &Exit) -> String {
    match (exit.signal, exit.code) {
        (Some(signal), _) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
        (None, Some(code)) if code != 0 => format!("Runtime exited with error: exit status {code}"),
        _ => "Runtime exited without providing a reason".to_owned(),
    }
}

pub(crate) fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        31 => "bad system call",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: &Failure) -> &str {
        std::str::from_utf8(&failure.body).unwrap()
    }

    #[test]
    fn bodies_are_those_recorded_on_aws() {
        assert_eq!(
            text(&Failure::timed_out("ID", Duration::from_secs(1))),
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 1.00 seconds"}"#
        );
        let exit = |code, signal, out_of_memory| Exit { code, signal, out_of_memory };
        assert_eq!(
            text(&Failure::exited("ID", &exit(Some(0), None, None))),
            r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited without providing a reason"}"#
        );
        assert!(text(&Failure::exited("ID", &exit(Some(127), None, None))).contains("exit status 127"));
        let killed = Failure::exited("ID", &exit(None, Some(9), Some(OutOfMemory::Environment)));
        assert_eq!(killed.kind, "Runtime.OutOfMemory");
        let by_host = Failure::exited("ID", &exit(None, Some(9), Some(OutOfMemory::Host)));
        assert_eq!(by_host.kind, "Runtime.ExitError");
        assert!(text(&killed).contains("Runtime exited with error: signal: killed"));
        let denied = Failure::not_executable("ID", "/var/task/bootstrap", &io::Error::from_raw_os_error(13));
        assert_eq!(
            text(&denied),
            r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: ID Error: fork/exec /var/task/bootstrap: permission denied"}"#
        );
        assert!(text(&Failure::too_large()).contains("(6291556 bytes)"));
    }
}
