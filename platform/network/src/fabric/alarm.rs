//! An alarm clock that wakes a thread out of epoll.
//!
//! Deadlines mostly move on before they come: of a flow, with each of its packets. So the alarm is set for the first and
//! left as it is; a time-out of epoll's own would be set and taken back at every sleep, which a virtual machine pays for
//! with two exits (a third of a round trip, measured).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use model::Instant;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Deadlines that are closer together than this are met together.
const TOGETHER: Duration = Duration::from_millis(1);
/// Longest time that it is set for.
const LONGEST: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it will ring.
    set: Option<Instant>,
}

impl Alarm {
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, set: None })
    }

    /// It will ring at the deadline or, if it was set for an earlier one, then.
    pub fn wake_by(&mut self, now: Instant, deadline: Instant) {
        if self.set.is_some_and(|set| set <= deadline + TOGETHER) {
            return;
        }
        let time = (deadline.since(now) + TOGETHER).min(LONGEST);
        let it_value = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let set =
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value });
        self.set = set.is_ok().then(|| now + time);
    }

    /// It rang.
    pub fn silence(&mut self) {
        let mut rings = [0; 8];
        let _ = rustix::io::read(&self.timer, &mut rings);
        self.set = None;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn rings(alarm: &Alarm) -> bool {
        let patience = Timespec { tv_sec: 2, tv_nsec: 0 };
        poll(&mut [PollFd::new(alarm, PollFlags::IN)], Some(&patience)).unwrap() > 0
    }

    #[test]
    fn it_rings_for_the_first_deadline_and_is_not_set_anew_for_a_later_one() {
        let mut alarm = Alarm::new().unwrap();
        let now = Instant::from_secs(5);
        alarm.wake_by(now, now + Duration::from_secs(600));
        let late = alarm.set;
        alarm.wake_by(now, now + Duration::from_secs(900));
        assert_eq!(alarm.set, late);
        alarm.wake_by(now, now + TOGETHER);
        assert_eq!(alarm.set, Some(now + TOGETHER * 2));
        assert!(rings(&alarm));
        alarm.silence();
        assert_eq!(alarm.set, None);
        alarm.wake_by(now, Instant::START);
        assert!(rings(&alarm), "what is long due rings at once");
    }

    #[test]
    fn the_farthest_deadline_is_no_overflow() {
        let mut alarm = Alarm::new().unwrap();
        alarm.wake_by(Instant::START, Instant::NEVER);
        assert_eq!(alarm.set, Some(Instant::START + LONGEST));
    }
}
