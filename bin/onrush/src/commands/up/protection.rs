//! What the kernel does when something goes wrong: whom it kills when the host has no memory left, which must not be us, and
//! what it writes down of a process that crashed, which must not be secrets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Environments have 500, whatever we have; what else runs on the host mostly 0. Source: proc(5), `oom_score_adj`.
const SCORE: &str = "-500";
/// Not 0: with 1 the kernel neither writes a core file nor starts the host's core collector. Source: core(5).
const CORE_BYTES: u64 = 1;

/// Protects this process and the jailer, which inherits it. Only root may have a lower score; others are told in the log, at
/// level debug.
pub fn begin() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", SCORE) {
        tracing::debug!(%error, "this process is no better protected from the out-of-memory killer than others");
    }
    if let Err(error) = forgo_core_files() {
        tracing::debug!(%error, "a crash may leave a core file, with all that this process had in memory");
    }
}

/// A core file would hold variables, events and signing keys. Who wants one for all that raises the limit again, which stays
/// allowed: `prlimit --core=unlimited --pid PID`.
fn forgo_core_files() -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Core);
    let current = limit.maximum.map_or(CORE_BYTES, |most| most.min(CORE_BYTES));
    setrlimit(Resource::Core, Rlimit { current: Some(current), maximum: limit.maximum })
}
