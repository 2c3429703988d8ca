//! Blank environments: processes that stand ready in namespaces and groups of their own, for whichever version is
//! wanted next.
//!
//! What no version has a say in is done ahead: pid, IPC, UTS, network and group namespaces, groups joined, a user id, a
//! `/proc`, a `/tmp`, pipes. A start then tells one which version it is, with the version's root, and it does the rest:
//! half of the time that a start takes from nothing (measured). A blank that has been told serves that version alone, as
//! any environment; what it is made of was nobody's before. Making blanks is for quiet moments: never while a start is
//! under way.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::cloner::{Descriptors, Order, await_reaped};
use super::house::{House, Unfit, step};
use super::starter::{Parts, pipe};
use crate::child::{STATUS_BYTES, Status};
use crate::socket;
use crate::stock::BLANK;
use crate::temporary::Temporary;

/// Most that stand ready, when starts came faster than blanks could be made.
const READY_MAX: usize = 16;
/// As many stand ready, at least, once there was a start.
const BUSY: usize = 4;
/// One of this many descriptors that the host lets us open may be a blank's; it holds some sixteen.
const DESCRIPTORS_EACH: u64 = 256;
/// After so long without a start, no more than at rest.
pub(super) const REST: Duration = Duration::from_secs(60);
/// Longest time that one may take to get ready.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// One that stands ready.
pub(super) struct Blank {
    pub parts: Parts,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub status: OwnedFd,
    pub output: OwnedFd,
    /// Where it waits for its order; when this is closed, it ends.
    pub orders: OwnedFd,
}

/// All that stand ready.
#[derive(Default)]
pub(super) struct Blanks {
    ready: Mutex<Vec<Blank>>,
    at_rest: usize,
    most: usize,
    wanted: AtomicUsize,
    /// Whether they work here.
    usable: AtomicBool,
}

impl Blanks {
    /// `at_rest` from the beginning, so that the first start finds one; more while they are wanted and `open_files` allows.
    pub fn new(at_rest: usize, open_files: u64) -> Blanks {
        let affordable = usize::try_from(open_files / DESCRIPTORS_EACH).unwrap_or(READY_MAX);
        let most = affordable.clamp(at_rest.min(READY_MAX), READY_MAX);
        let at_rest = at_rest.min(most);
        let wanted = AtomicUsize::new(at_rest);
        Blanks { at_rest, most, wanted, usable: AtomicBool::new(at_rest > 0), ready: Mutex::default() }
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Blank>> {
        self.ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// This host lets none be filled.
    pub fn give_up(&self) {
        self.usable.store(false, Ordering::Relaxed);
    }

    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// One that lives. Finding none is a sign that more are wanted.
    pub fn take(&self, house: &House) -> Option<Blank> {
        if !self.is_usable() {
            return None;
        }
        loop {
            let Some(blank) = self.ready().pop() else {
                let more = |wanted: usize| Some((wanted * 2).max(BUSY).min(self.most));
                let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
                return None;
            };
            house.stock().take_back(1);
            self.wanted.fetch_max(BUSY.min(self.most), Ordering::Relaxed);
            if !has_ended(&blank.pidfd) {
                return Some(blank);
            }
            house.registry().forget(blank.pid);
            house.give_back(blank.parts);
        }
    }

    /// Makes one that is missing; `false` when none is.
    pub fn refill(&self, house: &House) -> Result<bool, Unfit> {
        if !self.is_usable() || self.ready().len() >= self.wanted.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let blank = make(house)?;
        house.stock().lend(1);
        self.ready().push(blank);
        Ok(true)
    }

    /// Whether there are more than at rest.
    pub fn is_crowded(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > self.at_rest
    }

    /// Back to as many as at rest.
    pub fn settle(&self, house: &House) {
        self.wanted.store(self.at_rest, Ordering::Relaxed);
        let ready = &mut *self.ready();
        let surplus = ready.split_off(ready.len().min(self.at_rest));
        house.stock().take_back(surplus.len());
        for blank in surplus {
            let _ = rustix::process::pidfd_send_signal(&blank.pidfd, Signal::KILL);
            wait_for_end(house, blank.pid, &blank.pidfd);
            house.give_back(blank.parts);
        }
    }

    /// Kills all; no more are made. Whether every one has ended.
    pub fn end(&self) -> bool {
        self.give_up();
        let ready = self.ready();
        for blank in ready.iter() {
            let _ = rustix::process::pidfd_send_signal(&blank.pidfd, Signal::KILL);
        }
        ready.iter().all(|blank| has_ended(&blank.pidfd))
    }
}

pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut waiting = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut waiting, Some(&Timespec::default())) == Ok(1)
}

/// Waits for the end of a process that was killed, and for the reaper to know.
fn wait_for_end(house: &House, pid: i32, pidfd: &OwnedFd) {
    let mut waiting = [PollFd::new(pidfd, PollFlags::IN)];
    let _ = poll(&mut waiting, Some(&PATIENCE));
    await_reaped(&house.registry, pid);
}

/// Makes one, and waits until it stands ready. The calling thread may end up in another network namespace.
pub(super) fn make(house: &House) -> Result<Blank, Unfit> {
    let mut parts = Parts::of(BLANK);
    match furnish(house, &mut parts).and_then(|()| bring_up(house, &mut parts)) {
        Ok((pid, pidfd, status, output, orders)) => Ok(Blank { parts, pid, pidfd, status, output, orders }),
        Err(unfit) => {
            house.give_back(parts);
            Err(unfit)
        }
    }
}

fn furnish(house: &House, parts: &mut Parts) -> Result<(), Unfit> {
    let stock = house.stock();
    parts.user = house.take_user(BLANK)?;
    parts.group = house.take_group(BLANK)?;
    house.limit_memory_ahead(parts)?;
    parts.temporary = Some(step("make /tmp", stock.take_temporary(BLANK, stock.tmp_mb()))?);
    parts.network = Some(step("make a network namespace", stock.take_network(BLANK))?);
    Ok(())
}

type Ends = (i32, OwnedFd, OwnedFd, OwnedFd, OwnedFd);

fn bring_up(house: &House, parts: &mut Parts) -> Result<Ends, Unfit> {
    let lost = || Unfit { doing: "make a blank".into(), error: io::ErrorKind::Unsupported.into() };
    let (mounts, network) =
        (house.mounts.as_ref().ok_or_else(lost)?, parts.network.as_ref().ok_or_else(lost)?);
    let (status, status_write) = step("make a pipe", pipe())?;
    let (output, output_write) = step("make a pipe", pipe())?;
    step("set up the output pipe", rustix::io::ioctl_fionbio(&output, true))?;
    let (orders, orders_inside) = step("make a socket pair", socket::pair())?;
    let temporary =
        step("copy /tmp", parts.temporary.as_ref().map(Temporary::open).transpose())?.ok_or_else(lost)?;
    let group = parts.group.as_ref();
    let descriptors = Descriptors {
        status: status_write.as_fd(),
        output: output_write.as_fd(),
        walls: Some([network.namespace(), mounts.small.as_fd(), temporary.as_fd()]),
        birthplace: group.and_then(|group| group.birthplace.as_ref()).map(AsFd::as_fd),
        bell: group.and_then(|group| group.bell.as_ref()).map(AsFd::as_fd),
        user_namespace: None,
        companion_outputs: &[],
        orders: Some(orders_inside.as_fd()),
        entrances: group.map_or(&[], |group| &group.entrances),
    };
    // Its name will be the version's.
    let order =
        Order { host_name: Some(String::new()), in_control_group: group.is_some(), ..Order::default() };
    let (pid, pidfd) = house.quiet_cloner().clone_process(&order, &descriptors, &house.registry)?;
    drop((status_write, output_write, orders_inside));
    match await_parked(&status) {
        Ok(()) => Ok((pid, pidfd, status, output, orders)),
        Err(unfit) => {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            wait_for_end(house, pid, &pidfd);
            Err(unfit)
        }
    }
}

fn await_parked(status: &OwnedFd) -> Result<(), Unfit> {
    let unfit =
        |doing: &str, errno| Unfit { doing: doing.into(), error: io::Error::from_raw_os_error(errno) };
    let mut waiting = [PollFd::new(status, PollFlags::IN)];
    if poll(&mut waiting, Some(&PATIENCE)) != Ok(1) {
        return Err(unfit("wait for a blank", libc::ETIMEDOUT));
    }
    let mut bytes = [0; STATUS_BYTES];
    let read = step("hear from a blank", rustix::io::read(status, &mut bytes))?;
    match Status::from_bytes(bytes).filter(|_| read == STATUS_BYTES) {
        Some(Status::Parked) => Ok(()),
        Some(Status::Failed { step, errno }) => Err(unfit(step.words(), errno)),
        _ => Err(unfit("hear from a blank", libc::EIO)),
    }
}
