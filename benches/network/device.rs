//! The device of an environment, set up as a sandbox's is.

use anyhow::Result;
use netdev::netlink::{Batch, Socket};
use netdev::route::{self, To};
use netdev::tun::{self, Life};
use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

const DEVICE: &CStr = c"eth0";
const MTU: u32 = 1_500;

/// The address of that environment: the second of its /30.
pub const fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xa9fe_0002 + index * 4)
}

/// In the calling thread's namespace.
pub fn environment(index: u32, life: Life) -> Result<OwnedFd> {
    // Neither router solicitations nor memories of earlier runs.
    drop(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
    drop(std::fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1"));
    let device = tun::open(DEVICE, life)?;
    let number = route::index(DEVICE)?;
    let mut batch = Batch::default();
    route::up(&mut batch, route::index(c"lo")?, None);
    route::up(&mut batch, number, Some(MTU));
    route::address(&mut batch, number, (address(index).into(), 30));
    route::route(&mut batch, number, (Ipv4Addr::UNSPECIFIED.into(), 0), None, To::Device);
    Socket::route()?.send(batch)?;
    Ok(device)
}
