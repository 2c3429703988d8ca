//! What the kernel makes of our messages, in a network namespace of the test's own. Without the right to make one, the
//! tests say so and pass.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a panic")]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::thread;

use netdev::netlink::{Batch, Socket};
use netdev::nft::{Place, Step, Table};
use netdev::route::{self, To};
use netdev::{linger, nft, tun};

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

fn device() -> io::Result<(OwnedFd, u32)> {
    let device = tun::open(c"eth0", tun::Life::Namespace)?;
    let index = route::index(c"eth0")?;
    let mut batch = Batch::default();
    route::up(&mut batch, route::index(c"lo")?, None);
    route::up(&mut batch, index, Some(1_500));
    route::address(&mut batch, index, (IpAddr::from([169, 254, 0, 2]), 30));
    route::address(&mut batch, index, ("fd00::2".parse().unwrap(), 126));
    route::route(&mut batch, index, (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), None, To::Device);
    route::route(&mut batch, index, ("::".parse().unwrap(), 0), None, To::Device);
    Socket::route()?.send(batch)?;
    Ok((device, index))
}

#[test]
fn a_device_with_an_address_and_a_route_carries_packets() {
    inside(|| {
        let (device, index) = device().unwrap();
        assert_eq!(route::uplink().unwrap(), Some(index));
        assert_eq!(route::name(index).unwrap(), "eth0");
        assert!(route::connected().unwrap().contains(&(IpAddr::from([169, 254, 0, 2]), 30)));
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"hello", "203.0.113.10:7").unwrap();
        let mut frame = [0; tun::FRAME_BYTES_MAX];
        let mut found = false;
        while let Ok(count) = rustix::io::read(&device, &mut frame) {
            let packet = &frame[tun::HEADER_BYTES..count];
            found |= packet[0] >> 4 == 4 && packet[16..20] == [203, 0, 113, 10] && packet.ends_with(b"hello");
        }
        assert!(found, "the packet came out of the device");
        socket.send_to(b"hello", "203.0.113.10:7").unwrap();
        tun::drain(&device);
        assert!(rustix::io::read(&device, &mut frame).is_err());
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
