//! Whether a thread, when it wakes, may push aside whoever runs on the core.
#![allow(unsafe_code)]

/// Makes the calling thread patient (`SCHED_BATCH`: it waits until whoever runs pauses, or has used up a slice of some
/// milliseconds), or as all others are. Takes no privilege; where it is refused, nothing changes.
pub(super) fn set(patient: bool) {
    let policy = if patient { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: reads a live structure; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
}

/// Whether the calling thread is patient.
#[cfg(test)]
pub(super) fn get() -> bool {
    // SAFETY: numbers alone; 0 is the calling thread.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_BATCH }
}
