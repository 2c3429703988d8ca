//! What the kernel does when the host has no memory left: it kills whoever has the highest score, and that must not be us.

/// Environments have 500, whatever we have; what else runs on the host mostly 0. Source: proc(5), `oom_score_adj`.
const SCORE: &str = "-500";

/// Protects this process and the jailer, which inherits it. Only root may; others are told in the log, at level debug.
pub fn begin() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", SCORE) {
        tracing::debug!(%error, "this process is no better protected from the out-of-memory killer than others");
    }
}
