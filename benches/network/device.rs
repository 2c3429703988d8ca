//! The device of an environment, set up as a sandbox's is.

use anyhow::Result;
use netdev::device::{Kind, Maker};
use netdev::netlink::{Batch, Socket};
use netdev::route;
use netdev::tun::Life;
use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

const DEVICE: &CStr = c"eth0";
const MTU: u32 = 1_500;
/// Of a pair's near end, whose route keeps packets to the other.
const MTU_OF_PAIRS: u32 = 65_535;

/// What makes them: TUN devices, or pairs where `/dev/net/tun` is closed.
static MAKER: LazyLock<Maker> = LazyLock::new(Maker::default);

/// The address of that environment: the second of its /30.
pub const fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xa9fe_0002 + index * 4)
}

/// In the calling thread's namespace.
pub fn environment(index: u32, life: Life) -> Result<OwnedFd> {
    // Neither router solicitations nor memories of earlier runs.
    drop(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
    drop(std::fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1"));
    let device = MAKER.open(DEVICE, life)?;
    let kind = Kind::of(&device);
    let number = route::index(DEVICE)?;
    let mut batch = Batch::default();
    route::up(&mut batch, route::index(c"lo")?, None);
    route::up(&mut batch, number, Some(if kind == Kind::Pair { MTU_OF_PAIRS } else { MTU }));
    route::address(&mut batch, number, (address(index).into(), 30));
    let any = Ipv4Addr::UNSPECIFIED.into();
    route::route(&mut batch, number, (any, 0), None, kind.way(any));
    if kind == Kind::Pair {
        route::at_most(&mut batch, MTU);
    }
    Socket::route()?.send(batch)?;
    Ok(device)
}
