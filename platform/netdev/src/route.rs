//! Links, addresses, routes and rules, through rtnetlink.
//!
//! Source: rtnetlink(7), include/uapi/linux/{if_link,if_addr,rtnetlink,fib_rules}.h.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};

use crate::netlink::{ACKNOWLEDGE, Batch, CREATE, DUMP, REPLACE, Socket, attributes};

/// An address of the internet, where nothing is sent.
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const NEW_DISCIPLINE: u16 = 36;
const DISCIPLINE_KIND: u16 = 1;
/// `TC_H_ROOT`.
const ROOT: u32 = u32::MAX;
const UP: u32 = 1;
const LINK_MTU: u16 = 4;
const LINK_FAMILIES: u16 = 26;
const LINK_ADDRESSES_MADE: u16 = 8;
const MADE_BY_NOBODY: u8 = 1;
/// The index of `lo` in every network namespace.
pub const LOOPBACK: u32 = 1;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// No duplicate address detection: nobody else is on the link, and the first packet must not wait.
const NO_DETECTION: u8 = 0x02;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_DEVICE: u16 = 4;
const ROUTE_METRICS: u16 = 8;
/// Several ways: `struct rtnexthop` each, and its own attributes.
const ROUTE_MULTIPATH: u16 = 9;
const NEXT_HOP_BYTES: usize = 8;
const METRIC_MTU: u16 = 2;
const ROUTE_GATEWAY: u16 = 5;
/// `RTNH_F_ONLINK`: whether the gateway's address is the link's is not asked.
const ON_LINK: u32 = 4;
const ROUTE_TABLE: u16 = 15;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const KIND_UNICAST: u8 = 1;
const KIND_LOCAL: u8 = 2;
const RULE_PRIORITY: u16 = 6;
const RULE_INTERFACE: u16 = 3;
const RULE_TABLE: u16 = 15;

/// Addresses that begin alike.
pub type Range = (IpAddr, u8);

/// The index of the device with that name.
///
/// # Errors
/// There is none.
pub fn index(name: &CStr) -> io::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    let name = name.to_str().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Brings a device up, with that MTU if one is given.
pub fn up(batch: &mut Batch, device: u32, mtu: Option<u32>) {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    header[8..12].copy_from_slice(&UP.to_ne_bytes());
    header[12..16].copy_from_slice(&UP.to_ne_bytes());
    batch.message(NEW_LINK, 0, &header);
    if let Some(mtu) = mtu {
        batch.attribute(LINK_MTU, &mtu.to_ne_bytes());
    }
}

/// Keeps a device that is down from making itself an IPv6 address when it comes up, and so from looking for routers and
/// neighbours. A kernel without IPv6 refuses.
pub fn no_own_ipv6_address(batch: &mut Batch, device: u32) {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    batch.message(NEW_LINK, 0, &header).nested(LINK_FAMILIES, |families| {
        families.nested(libc::AF_INET6 as u16, |ipv6| {
            ipv6.attribute(LINK_ADDRESSES_MADE, &[MADE_BY_NOBODY]);
        });
    });
}

/// Has packets handed to a device at once, without a queue before it: right for a device that has a queue of its own and
/// never asks to wait, as a TUN device. The kernel's usual queue holds 12 KB, those of some distributions 70 KB. A kernel
/// without packet scheduling refuses.
pub fn no_queue(batch: &mut Batch, device: u32) {
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    header[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    batch.message(NEW_DISCIPLINE, REPLACE, &header).text(DISCIPLINE_KIND, "noqueue");
}

/// Gives a device an address of a range.
pub fn address(batch: &mut Batch, device: u32, (address, prefix): Range) {
    let mut header = [family(address), prefix, NO_DETECTION, 0, 0, 0, 0, 0];
    if address.is_ipv4() {
        header[2] = 0;
    }
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    batch.message(NEW_ADDRESS, REPLACE, &header);
    batch.attribute(LOCAL, &octets(address)).attribute(ADDRESS, &octets(address));
}

/// Where a route's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Out of the device.
    Device,
    /// To somebody behind the device, who is there without being asked for; for IPv6 an address of the link.
    Gateway(IpAddr),
    /// To sockets of this namespace, whatever the address.
    Sockets,
}

/// A route of a table (`None`: the main one) through a device; the range of length 0 is the default route.
pub fn route(batch: &mut Batch, device: u32, (range, prefix): Range, table: Option<u32>, to: To) {
    let (kind, scope) = match to {
        To::Device => (KIND_UNICAST, SCOPE_LINK),
        To::Gateway(_) => (KIND_UNICAST, SCOPE_UNIVERSE),
        To::Sockets => (KIND_LOCAL, SCOPE_HOST),
    };
    // Tables above 255 are said in an attribute alone.
    let low = table.map_or(TABLE_MAIN, |table| u8::try_from(table).unwrap_or(0));
    let mut header = [family(range), prefix, 0, 0, low, PROTOCOL_BOOT, scope, kind, 0, 0, 0, 0];
    if let To::Gateway(IpAddr::V4(_)) = to {
        header[8..12].copy_from_slice(&ON_LINK.to_ne_bytes());
    }
    batch.message(NEW_ROUTE, REPLACE, &header);
    if prefix > 0 {
        batch.attribute(ROUTE_DESTINATION, &octets(range));
    }
    batch.attribute(ROUTE_DEVICE, &device.to_ne_bytes());
    if let To::Gateway(gateway) = to {
        batch.attribute(ROUTE_GATEWAY, &octets(gateway));
    }
    if let Some(table) = table {
        batch.attribute(ROUTE_TABLE, &table.to_ne_bytes());
    }
}

/// Packets by the route that was said last are of at most so many bytes, however large its device takes them.
pub fn at_most(batch: &mut Batch, mtu: u32) {
    batch.nested(ROUTE_METRICS, |metrics| {
        metrics.attribute(METRIC_MTU, &mtu.to_ne_bytes());
    });
}

/// What comes in by a device is looked up in that table first.
pub fn rule(batch: &mut Batch, ipv6: bool, device: &str, table: u32, priority: u32) {
    const TO_TABLE: u8 = 1;
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    let low = u8::try_from(table).unwrap_or(0);
    batch.message(NEW_RULE, CREATE, &[family, 0, 0, 0, low, 0, 0, TO_TABLE, 0, 0, 0, 0]);
    batch
        .text(RULE_INTERFACE, device)
        .attribute(RULE_TABLE, &table.to_ne_bytes())
        .attribute(RULE_PRIORITY, &priority.to_ne_bytes());
}

/// Every range that an address of a namespace's devices is of, loopback included: also of those that come later.
#[derive(Debug)]
pub struct Connected {
    asked: Socket,
    told: Socket,
    ranges: Vec<Range>,
    /// The kernel told of something that is not in the ranges yet.
    is_behind: bool,
}

impl Connected {
    /// Of the calling thread's namespace, for good.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn watch() -> io::Result<Self> {
        // Told before it asks: no change is missed.
        // Of an address of IPv6 the kernel tells when nobody else has it, a second later; of its route at once.
        let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_IPV6_ROUTE;
        let told = Socket::told_of(groups as u32)?;
        let asked = Socket::route()?;
        let ranges = connected(&asked)?;
        Ok(Self { asked, told, ranges, is_behind: false })
    }

    /// As they were when last looked at.
    pub fn known(&self) -> &[Range] {
        &self.ranges
    }

    /// As they are now. Costs one system call while nothing has changed.
    ///
    /// # Errors
    /// Of the kernel; what was known stays, and the next look asks again.
    pub fn renew(&mut self) -> io::Result<&[Range]> {
        self.is_behind |= self.told.was_told();
        if self.is_behind {
            self.ranges = connected(&self.asked)?;
            self.is_behind = false;
        }
        Ok(&self.ranges)
    }
}

/// Readable when there is something to renew.
impl AsFd for Connected {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}

fn of_addresses() -> Batch {
    let mut batch = Batch::default();
    batch.message(GET_ADDRESS, DUMP, &[0; 8]);
    batch
}

fn connected(asked: &Socket) -> io::Result<Vec<Range>> {
    let mut found = Vec::new();
    asked.dump(&of_addresses(), |kind, body| {
        if kind != NEW_ADDRESS || body.len() < 8 {
            return;
        }
        let mut addresses = attributes(&body[8..]).filter(|(kind, _)| matches!(*kind, ADDRESS | LOCAL));
        found.extend(addresses.by_ref().filter_map(|(_, value)| Some((read_address(value)?, body[1]))));
    })?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The device that packets for that address leave by, by its index, in the calling thread's namespace.
///
/// # Errors
/// Of the kernel: there is no way to it.
pub fn device_towards(address: Ipv4Addr) -> io::Result<Option<u32>> {
    let mut header = [0; 12];
    (header[0], header[1]) = (libc::AF_INET as u8, 32);
    let mut batch = Batch::default();
    batch.message(GET_ROUTE, ACKNOWLEDGE, &header).attribute(ROUTE_DESTINATION, &address.octets());
    let mut found = None;
    Socket::route()?.dump(&batch, |kind, body| {
        if kind == NEW_ROUTE && body.len() >= 12 {
            let device = attributes(&body[12..]).find(|(kind, _)| *kind == ROUTE_DEVICE);
            found = device
                .and_then(|(_, value)| value.first_chunk::<4>())
                .map(|bytes| u32::from_ne_bytes(*bytes));
        }
    })?;
    Ok(found)
}

/// The devices that the default route for IPv4 leads to, by their indices: several of a route of several ways, none without a
/// route. Of several routes, the first that the kernel lists: it lists them as it uses them. Of one that names a nexthop object
/// alone, as with `net.ipv4.nexthop_compat_mode=0`, the way that the kernel takes now.
///
/// # Errors
/// Of the kernel.
pub fn uplinks() -> io::Result<Vec<u32>> {
    let mut batch = Batch::default();
    let mut header = [0; 12];
    header[0] = libc::AF_INET as u8;
    batch.message(GET_ROUTE, DUMP, &header);
    let (mut found, mut is_there) = (Vec::new(), false);
    Socket::route()?.dump(&batch, |kind, body| {
        if !found.is_empty()
            || kind != NEW_ROUTE
            || body.len() < 12
            || body[1] != 0
            || body[4] != TABLE_MAIN
            || body[7] != KIND_UNICAST
        {
            return;
        }
        is_there = true;
        for (kind, value) in attributes(&body[12..]) {
            match (kind, value.first_chunk::<4>()) {
                (ROUTE_DEVICE, Some(device)) => found.push(u32::from_ne_bytes(*device)),
                (ROUTE_MULTIPATH, _) => found.extend(next_hops(value)),
                _ => {}
            }
        }
    })?;
    if is_there && found.is_empty() {
        found.extend(device_towards(INTERNET)?);
    }
    Ok(found)
}

/// The devices of a route's ways.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut devices = Vec::new();
    while let Some(head) = bytes.first_chunk::<NEXT_HOP_BYTES>() {
        devices.push(u32::from_ne_bytes([head[4], head[5], head[6], head[7]]));
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]])).max(NEXT_HOP_BYTES);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    devices
}

/// The name of the device with that index.
///
/// # Errors
/// There is none.
pub fn name(device: u32) -> io::Result<String> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::index_to_name(socket, device)?)
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_look_that_failed_is_not_the_last_one() {
        // An answer that nobody has read yet is as good as being told, and of addresses the other family knows nothing.
        let told = Socket::route().unwrap();
        told.ask(&of_addresses()).unwrap();
        let asked = Socket::netfilter().unwrap();
        let mut connected = Connected { asked, told, ranges: Vec::new(), is_behind: false };
        connected.renew().unwrap_err();
        connected.renew().unwrap_err();
        connected.asked = Socket::route().unwrap();
        assert!(!connected.renew().unwrap().is_empty());
    }

    #[test]
    fn each_way_of_a_route_of_several_has_its_device() {
        let way =
            |device: u8, rest: &[u8]| [&[8 + rest.len() as u8, 0, 0, 0, device, 0, 0, 0], rest].concat();
        let gateway = [8, 0, 5, 0, 192, 168, 77, 1];
        assert_eq!(next_hops(&[way(3, &gateway), way(7, &[])].concat()), [3, 7]);
        assert_eq!(next_hops(&way(3, &gateway)[..7]), []);
        // A length that is none ends nowhere.
        assert_eq!(next_hops(&[&[0; 4][..], &[9, 0, 0, 0, 1]].concat()), [9]);
    }

    #[test]
    fn loopback_is_connected_and_has_a_name() {
        let found = Connected::watch().unwrap();
        let found = found.known();
        assert!(found.contains(&(IpAddr::V4(Ipv4Addr::LOCALHOST), 8)), "{found:?}");
        let loopback = index(c"lo").unwrap();
        assert_eq!(name(loopback).unwrap(), "lo");
        assert!(index(c"onrush-no-such").is_err());
    }
}
