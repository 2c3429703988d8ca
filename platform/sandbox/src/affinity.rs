//! On which cores an environment's processes run.

use crate::sandbox::Sandbox;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs;
use std::io;

impl Sandbox {
    /// Keeps every thread of the environment, and what they start from now on, on these cores. A thread that starts
    /// meanwhile may be missed.
    ///
    /// Cost: some 10 us for a runtime of one thread.
    ///
    /// # Errors
    /// The environment's processes are not known (no control group), or this host refuses.
    pub fn keep_on(&self, cores: &CpuSet) -> io::Result<()> {
        for process in self.processes()? {
            // A process that has ended has no threads.
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for thread in threads.flatten() {
                let number = thread.file_name().to_str().and_then(|name| name.parse().ok());
                match number.and_then(Pid::from_raw).map(|thread| sched_setaffinity(Some(thread), cores)) {
                    None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => {}
                    Some(Err(error)) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
