//! Connections a second: each is opened, says one byte, hears it again, and is cut.

use crate::dial::Targets;
use anyhow::{Result, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::{read, write};
use std::collections::HashMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Events taken at once.
const EVENTS: usize = 512;
/// How long nothing may happen.
const SILENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

struct Connection {
    socket: OwnedFd,
    has_spoken: bool,
}

pub fn run(targets: &Targets, length: Duration, at_once: usize) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    let (mut turn, mut done, mut failed) = (0, 0_u64, 0_u64);
    let begun = Instant::now();
    while begun.elapsed() < length {
        while connections.len() < at_once {
            let socket = targets.dial(turn)?;
            turn += 1;
            let token = socket.as_raw_fd() as u64;
            epoll::add(&epoll, &socket, EventData::new_u64(token), EventFlags::OUT)?;
            connections.insert(token, Connection { socket, has_spoken: false });
        }
        events.clear();
        let _ = epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&SILENCE));
        for event in &events {
            let (token, flags) = (event.data.u64(), event.flags);
            let Some(connection) = connections.get_mut(&token) else { continue };
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            if !broken && !connection.has_spoken && write(&connection.socket, b"x") == Ok(1) {
                connection.has_spoken = true;
                epoll::modify(&epoll, &connection.socket, EventData::new_u64(token), EventFlags::IN)?;
                continue;
            }
            let heard = !broken && connection.has_spoken && read(&connection.socket, &mut [0; 8]) == Ok(1);
            *(if heard { &mut done } else { &mut failed }) += 1;
            connections.remove(&token);
        }
    }
    let rate = done as f64 / begun.elapsed().as_secs_f64();
    ensure!(done > 0 && failed <= done / 100, "{failed} connections failed, {done} did not");
    println!("{rate}");
    Ok(())
}
