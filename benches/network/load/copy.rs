//! The floor of every network in user space: packets are copied from one device to the other, and nothing else.

use crate::{device, namespace};
use anyhow::{Context as _, Result};
use netdev::netlink::{Batch, Socket};
use netdev::route::{self, To};
use netdev::tun::{self, FRAME_BYTES_MAX, Life};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::{read, write};
use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

/// Packets of one device before the other has its turn.
const BATCH: usize = 64;
const OUTSIDE: &CStr = c"onrush0";
const OUTSIDE_MTU: u32 = 65_535;

pub fn run(inside: &str, outside: &str) -> Result<()> {
    let inside = namespace::within(inside, || device::environment(0, Life::Descriptor));
    let outside = namespace::within(outside, world);
    let devices = [inside.context("no device inside")?, outside.context("no device outside")?];
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, device) in devices.iter().enumerate() {
        epoll::add(&epoll, device, EventData::new_u64(index as u64), EventFlags::IN)?;
    }
    println!("ready");
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut events: Vec<Event> = Vec::with_capacity(devices.len());
    loop {
        events.clear();
        let _ = epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None);
        for event in &events {
            let from = event.data.u64() as usize;
            copy(&devices[from], &devices[1 - from], &mut buffer);
        }
    }
}

/// The world's device, with the way back to the environment.
fn world() -> Result<OwnedFd> {
    let device = tun::open(OUTSIDE, Life::Descriptor)?;
    let index = route::index(OUTSIDE)?;
    let mut batch = Batch::default();
    route::up(&mut batch, index, Some(OUTSIDE_MTU));
    route::route(&mut batch, index, (Ipv4Addr::new(169, 254, 0, 0).into(), 16), None, To::Device);
    Socket::route()?.send(batch)?;
    Ok(device)
}

fn copy(from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) {
    for _ in 0..BATCH {
        let Ok(count @ 1..) = read(from, &mut *buffer) else { return };
        // What finds no room is lost.
        let _ = write(to, &buffer[..count]);
    }
}
