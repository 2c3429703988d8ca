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
    let mut progress = Instant::now();
    let mut answered = 0;
    while answered < connections && progress.elapsed() < patience {
        while held.len() < connections && held.len() - answered < OPENING_MAX {
            let socket = targets.dial(held.len())?;
            epoll::add(&epoll, &socket, EventData::new_u64(held.len() as u64), EventFlags::OUT)?;
            held.push(Held { socket, stage: Stage::Dialled });
        }
        let gained = turn(&epoll, &mut held)?;
        if gained > 0 {
            progress = Instant::now();
            answered += gained;
        }
    }
    println!("{answered}");
    // Whoever started this says when.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let mut waiting = 0;
    for (index, held) in held.iter_mut().enumerate().filter(|(_, held)| held.stage == Stage::Answered) {
        write(&held.socket, b"y")?;
        held.stage = Stage::Asked;
        waiting += 1;
        epoll::modify(&epoll, &held.socket, EventData::new_u64(index as u64), EventFlags::IN)?;
    }
    let (mut alive, mut progress) = (0, Instant::now());
    while alive < waiting && progress.elapsed() < patience {
        let gained = turn(&epoll, &mut held)?;
        if gained > 0 {
            progress = Instant::now();
            alive += gained;
        }
    }
    println!("{alive}");
    Ok(())
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
