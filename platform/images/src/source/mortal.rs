//! Programs that do not outlive this process, however it ends.

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Has the kernel kill the program when the thread that starts it ends: after a `kill -9` of this process, too. That thread has
/// to wait for the program. What the program itself has started is told nothing.
pub(super) fn mortal(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Too late to be told of it.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: three system calls, and an error without memory of its own: nothing that another thread's lock could hold up.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(ask)
    }
}
