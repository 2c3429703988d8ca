//! Work on bytes that nobody vouches for, done by a process that may do nothing else.
//!
//! [`fork_workshop`] forks a small process first thing in `main`; for each order it forks a child that is confined and does
//! the work: a user of its own where we are root, no new privileges, no capabilities, no network nor any other system call than
//! files and memory need, no file but those below one folder and the open input, bounded memory. What it answers, and what it
//! leaves in the folder, is as little trusted as what it read.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{Resource, Rlimit, Signal};
use seccompiler::BpfProgram;

use crate::jailer::{close_all_but, is_root_of_all};
use crate::socket::{self, PACKET_BYTES_MAX};
use crate::syscalls::{self, Cloned};
use crate::{landlock, resident, seccomp, users};

/// What is done: the order, the open input, the folder to write below; the answer's bytes. Runs in the confined child, whose
/// memory is a copy of the process as it was when the workshop was forked.
pub type Work = fn(&[u8], OwnedFd, OwnedFd) -> Vec<u8>;

/// Confined children at the same time; more orders wait.
const CHILDREN_MAX: usize = 16;
/// Largest answer.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Memory of one child's own, in bytes: an archive's directory and what is planned from it.
const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Time that one child may compute.
const COMPUTE_SECONDS_MAX: u64 = 900;
/// Files that a child may have open.
const OPEN_FILES_MAX: u64 = 512;
/// The user that children are on a host where we are root: no environment's.
const USER: u32 = users::FIRST_USER - 1;

/// What an answer ends with.
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// The workshop, seen from the platform.
#[derive(Debug)]
pub struct Workshop {
    socket: OwnedFd,
    busy: Mutex<usize>,
    freed: Condvar,
}

/// Forks the workshop. Call while the process has one thread, as [`fork_jailer`](crate::fork_jailer).
///
/// # Errors
/// The process cannot be forked.
pub fn fork_workshop(work: Work) -> io::Result<Workshop> {
    let (ours, theirs) = socket::pair()?;
    // Compiled once: a child only installs it.
    let filter = seccomp::compile_for_files();
    // SAFETY: callers have one thread, as the documentation demands, so the copy may do anything.
    #[allow(unsafe_code)]
    match unsafe { syscalls::clone3(0, None) }? {
        Cloned::Parent { .. } => Ok(Workshop { socket: ours, busy: Mutex::new(0), freed: Condvar::new() }),
        Cloned::Child => {
            close_all_but(&[theirs.as_raw_fd()]);
            // In case /proc could not be read; the platform's end must not live on in us.
            syscalls::close(ours.as_raw_fd());
            let life = std::panic::AssertUnwindSafe(|| serve(&theirs, &filter, work));
            drop(std::panic::catch_unwind(life));
            syscalls::exit_now(0);
        }
    }
}

impl Workshop {
    /// Has the work done. Blocks until it is.
    ///
    /// # Errors
    /// The folder cannot be handed over, or the child could not be confined, or ended before it was done.
    pub fn run(&self, order: &[u8], input: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        let _turn = self.turn();
        if is_root_of_all() {
            rustix::fs::fchown(folder, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER)))?;
        }
        let (answer, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        socket::send(&self.socket, order, &[input, folder, theirs.as_fd()])?;
        drop(theirs);
        let mut bytes = Vec::new();
        File::from(answer).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
        match bytes.pop() {
            Some(DONE) => Ok(bytes),
            Some(FAILED) => Err(io::Error::other(String::from_utf8_lossy(&bytes).into_owned())),
            _ => Err(io::Error::other("the confined process ended before it was done")),
        }
    }

    fn turn(&self) -> Turn<'_> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_while(busy, |busy| *busy >= CHILDREN_MAX);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Turn(self)
    }
}

/// One of the children that may be there.
struct Turn<'a>(&'a Workshop);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

/// The workshop's life: one order after another, until the platform closes its end.
fn serve(orders: &OwnedFd, filter: &BpfProgram, work: Work) {
    let _ = rustix::thread::set_name(c"onrush-workshop");
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // A terminal's Ctrl-C is for the platform, which then ends us.
    syscalls::block_signals();
    syscalls::leave_children_to_kernel();
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    resident::let_go_of_code();
    loop {
        let Ok((count, descriptors)) = socket::receive(orders, &mut buffer) else { return };
        if count == 0 {
            return;
        }
        let Ok([input, folder, answer]) = <[OwnedFd; 3]>::try_from(descriptors) else { continue };
        // SAFETY: this process has one thread.
        #[allow(unsafe_code)]
        if let Ok(Cloned::Child) = unsafe { syscalls::clone3(0, None) } {
            let mut answer = File::from(answer);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                confine(folder.as_fd(), filter).map(|()| work(&buffer[..count], input, folder))
            }));
            let (mut bytes, end) = match done {
                Ok(Ok(bytes)) => (bytes, DONE),
                Ok(Err(error)) => (format!("a process could not be confined: {error}").into_bytes(), FAILED),
                Err(_) => syscalls::exit_now(101),
            };
            bytes.push(end);
            let _ = answer.write_all(&bytes);
            syscalls::exit_now(0);
        }
    }
}

/// Gives up everything but files below `folder`.
fn confine(folder: BorrowedFd<'_>, filter: &BpfProgram) -> io::Result<()> {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    for (resource, limit) in [
        (Resource::Data, MEMORY_BYTES_MAX),
        (Resource::Cpu, COMPUTE_SECONDS_MAX),
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Core, 0),
    ] {
        // No more than there is: raising it is root's, and not of every root.
        let limit = rustix::process::getrlimit(resource).maximum.map_or(limit, |most| limit.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    if is_root_of_all() {
        // From root to a user: the capabilities go with it.
        syscalls::become_user(USER)?;
    }
    syscalls::give_up_new_privileges()?;
    if landlock::version() > 0 {
        landlock::confine_to(folder).map_err(io::Error::from_raw_os_error)?;
    }
    syscalls::install_filter(filter)
}
