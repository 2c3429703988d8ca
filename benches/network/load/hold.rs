//! Many connections at once, held: how many were answered, and how many still are in the end.

use crate::dial::Targets;
use anyhow::Result;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::{read, write};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Events taken at once.
const EVENTS: usize = 512;
/// Connections that are being opened at once: fewer than a device's queue holds, or SYNs are lost and come a second later.
const OPENING_MAX: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dialled,
    Asked,
    Answered,
    Broken,
}

struct Held {
    socket: OwnedFd,
    stage: Stage,
}

/// Opens so many; those that nobody has answered after `patience` without any progress hang.
pub fn run(targets: &Targets, connections: usize, patience: Duration) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut held: Vec<Held> = Vec::with_capacity(connections);
    let answered = ask(&epoll, &mut held, connections, patience, |held, index| {
        let socket = targets.dial(index)?;
        epoll::add(&epoll, &socket, EventData::new_u64(index as u64), EventFlags::OUT)?;
        held.push(Held { socket, stage: Stage::Dialled });
        Ok(())
    })?;
    println!("{answered}");
    // Whoever started this says when.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // What hangs would get through once others let go.
    held.retain(|held| held.stage == Stage::Answered);
    let alive = ask(&epoll, &mut held, answered, patience, |held, index| {
        let one = &mut held[index];
        one.stage = Stage::Dialled;
        Ok(epoll::modify(&epoll, &one.socket, EventData::new_u64(index as u64), EventFlags::OUT)?)
    })?;
    println!("{alive}");
    Ok(())
}

/// Asks each of so many connections, a few at once, which `begin` makes ready. How many answered.
fn ask(
    epoll: &OwnedFd,
    held: &mut Vec<Held>,
    count: usize,
    patience: Duration,
    mut begin: impl FnMut(&mut Vec<Held>, usize) -> Result<()>,
) -> Result<usize> {
    let (mut begun, mut answered, mut progress) = (0, 0, Instant::now());
    while answered < count && progress.elapsed() < patience {
        while begun < count && begun - answered < OPENING_MAX {
            begin(held, begun)?;
            begun += 1;
        }
        let gained = turn(epoll, held)?;
        if gained > 0 {
            progress = Instant::now();
            answered += gained;
        }
    }
    Ok(answered)
}

/// How many more have been answered.
fn turn(epoll: &OwnedFd, held: &mut [Held]) -> Result<usize> {
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    let silence = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let _ = epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&silence));
    let mut answered = 0;
    for event in &events {
        let (token, flags) = (event.data.u64(), event.flags);
        let Some(one) = held.get_mut(token as usize) else { continue };
        let mut interest = EventFlags::empty();
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            one.stage = Stage::Broken;
        } else if one.stage == Stage::Dialled && write(&one.socket, b"x") == Ok(1) {
            one.stage = Stage::Asked;
            interest = EventFlags::IN;
        } else if one.stage == Stage::Asked && read(&one.socket, &mut [0; 8]) == Ok(1) {
            one.stage = Stage::Answered;
            answered += 1;
        }
        if one.stage == Stage::Broken {
            epoll::delete(epoll, &one.socket)?;
        } else {
            epoll::modify(epoll, &one.socket, EventData::new_u64(token), interest)?;
        }
    }
    Ok(answered)
}
