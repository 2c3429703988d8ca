//! What the kernel makes of our messages, in a network namespace of the test's own. Without the right to make one, the
//! tests say so and pass.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a panic")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::thread;

use netdev::device::{self, Device, Kind};
use netdev::netlink::{Batch, Socket};
use netdev::nft::{Place, Step, Table};
use netdev::pair::{Far, Guest};
use netdev::route;
use netdev::tun::{self, HEADER_BYTES};
use netdev::{linger, nft};

/// Runs on a thread of its own in a new network namespace; `None` where that is refused.
fn inside<T: Send>(act: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: no memory is passed; the thread ends with its new namespace.
            let refused = unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0;
            if refused {
                println!("skipped: no right to make a network namespace");
                return None;
            }
            Some(act())
        });
        thread.join().unwrap()
    })
}

/// With an address and default routes, of both versions.
fn device(kind: Kind) -> io::Result<(OwnedFd, u32)> {
    let device = match kind {
        Kind::Tun => tun::open(c"eth0", tun::Life::Namespace)?,
        Kind::Pair => Far::create()?.open(c"eth0")?,
    };
    assert_eq!(Kind::of(&device), kind);
    let index = route::index(c"eth0")?;
    let mut batch = Batch::default();
    route::up(&mut batch, route::index(c"lo")?, None);
    route::up(&mut batch, index, Some(1_500));
    route::address(&mut batch, index, (IpAddr::from([169, 254, 0, 2]), 30));
    route::address(&mut batch, index, ("fd00::2".parse().unwrap(), 126));
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        route::route(&mut batch, index, (any, 0), None, kind.way(any));
    }
    Socket::route()?.send(batch)?;
    Ok((device, index))
}

/// The next packet of IPv4 that ends so, behind its header.
fn next(device: &Device, end: &[u8]) -> Option<Vec<u8>> {
    let mut frame = vec![0; tun::FRAME_BYTES_MAX];
    while let Ok(count) = device.read(&mut frame) {
        if frame[HEADER_BYTES..count].first() == Some(&0x45) && frame[..count].ends_with(end) {
            return Some(frame[..count].to_vec());
        }
    }
    None
}

#[test]
fn a_default_route_by_a_nexthop_object_has_a_device() {
    inside(|| {
        let (_device, index) = device(Kind::Pair).unwrap();
        let ip = |words: &str| {
            let done = std::process::Command::new("ip").args(words.split(' ')).output();
            done.is_ok_and(|done| done.status.success())
        };
        // The setting is that of the calling thread's namespace.
        if std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").is_err()
            || !ip("route del default")
            || !ip("nexthop add id 7 dev eth0")
            || !ip("route add default nhid 7")
        {
            println!("skipped: no nexthop objects, or no ip to make them");
            return;
        }
        assert_eq!(route::uplinks().unwrap(), [index]);
    });
}

fn carries_packets(kind: Kind) {
    inside(|| {
        let (descriptor, index) = device(kind).unwrap();
        assert_eq!(route::uplinks().unwrap(), [index]);
        assert_eq!(route::name(index).unwrap(), "eth0");
        assert_eq!(route::device_towards(Ipv4Addr::new(9, 9, 9, 9)).unwrap(), Some(index));
        assert_eq!(route::device_towards(Ipv4Addr::LOCALHOST).unwrap(), Some(route::LOOPBACK));
        let mut connected = route::Connected::watch().unwrap();
        let later = ("fd00:1::2".parse().unwrap(), 64);
        assert!(connected.known().contains(&(IpAddr::from([169, 254, 0, 2]), 30)));
        assert!(!connected.renew().unwrap().contains(&later));
        let mut batch = Batch::default();
        route::address(&mut batch, index, later);
        Socket::route().unwrap().send(batch).unwrap();
        assert!(connected.renew().unwrap().contains(&later), "what came after the first look");
        let device = Device::from(descriptor);
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket.send_to(b"hello", "203.0.113.10:7").unwrap();
        let mut frame = next(&device, b"hello").expect("the packet came out of the device");
        let packet = &mut frame[HEADER_BYTES..];
        assert_eq!((packet.len(), &packet[16..20]), (33, &[203, 0, 113, 10][..]));
        // Back to where it came from: addresses and ports change places, which no sum notices.
        let (addresses, ports) = (packet[12..20].to_vec(), packet[20..24].to_vec());
        packet[12..20].rotate_left(4);
        packet[20..24].rotate_left(2);
        assert_ne!((addresses, ports), (packet[12..20].to_vec(), packet[20..24].to_vec()));
        device.write(&frame).unwrap();
        let mut heard = [0; 16];
        let (count, from) = socket.recv_from(&mut heard).unwrap();
        assert_eq!((&heard[..count], from), (&b"hello"[..], "203.0.113.10:7".parse().unwrap()));
        // A header that speaks of more than there is, and what is no IP.
        frame[0] = 1;
        frame[6..8].copy_from_slice(&60_000_u16.to_ne_bytes());
        assert_eq!(device.write(&frame).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(device.write(&[0; HEADER_BYTES + 20]).is_err());
        socket.send_to(b"hello", "203.0.113.10:7").unwrap();
        device::drain(&device);
        assert!(next(&device, b"hello").is_none());
    });
}

#[test]
fn a_device_with_an_address_and_a_route_carries_packets() {
    carries_packets(Kind::Tun);
}

#[test]
fn a_pair_does_as_well() {
    carries_packets(Kind::Pair);
}

#[test]
fn a_pair_keeps_one_neighbour_whomever_it_sends_to_and_leaves_with_its_guest() {
    inside(|| {
        let (descriptor, _) = device(Kind::Pair).unwrap();
        let guest = Guest::named(c"eth0").unwrap();
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for host in 1..100 {
            socket.send_to(b"hello", (Ipv4Addr::new(203, 0, 113, host), 7)).unwrap();
        }
        assert!(next(&Device::from(descriptor), b"hello").is_some());
        let neighbours = std::fs::read_to_string("/proc/thread-self/net/arp").unwrap();
        assert!(neighbours.lines().count() <= 2, "a title and the gateway: {neighbours}");
        drop(guest);
        assert!(route::index(c"eth0").is_err());
    });
}

#[test]
fn tables_of_rules_go_with_their_socket() {
    inside(|| {
        let place = Place { kind: "filter", hook: 2, priority: 0 };
        let rules = [vec![Step::FromDevice("lo".into()), Step::NotToDevice("lo".into()), Step::Accept]];
        let table = Table::create("onrush-test", "forward", place, &rules).unwrap();
        assert!(table.is_held());
        let again = Table::create("onrush-test", "forward", place, &rules).unwrap_err();
        assert!(matches!(again.raw_os_error(), Some(libc::EPERM | libc::EEXIST)), "{again}");
        assert!(nft::dropping_forward_chains().unwrap().is_empty(), "it accepts");
        drop(table);
        let masquerade = [vec![Step::FromDevice("lo".into()), Step::Masquerade]];
        let place = Place { kind: "nat", hook: 4, priority: 100 };
        drop(Table::create("onrush-test", "after", place, &masquerade).unwrap());
        let to_port =
            [vec![Step::FromDevice("lo".into()), Step::Protocol(6), Step::ToLocalPort(9_000), Step::Accept]];
        let place = Place { kind: "filter", hook: 0, priority: -150 };
        match Table::create("onrush-test", "before", place, &to_port) {
            Ok(_) => {}
            // The kernel may be built without it.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}"),
        }
    });
}

#[test]
fn a_lingering_connection_is_ended() {
    inside(|| {
        let mut batch = Batch::default();
        route::up(&mut batch, route::index(c"lo").unwrap(), None);
        Socket::route().unwrap().send(batch).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop(client);
        drop(server);
        let waiting =
            || std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap().matches(" 06 ").count();
        assert_eq!(waiting(), 1);
        linger::end_connections().unwrap();
        assert_eq!(waiting(), 0);
    });
}
