//! Real sockets through the fabric: environments and the world are network namespaces of the test's own. Without the
//! right to make one, the tests say so and pass.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests: a failure is a panic")]

mod faults;
mod stage;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use limits::network::{Hop, Route};
use model::LimitId;
use netdev::device::Kind;
use netdev::netlink::{Batch, Socket};
use netdev::route;
use network::fabric::{CAPTURES_MAX, HeldReply};
use network::world::Outside;
use stage::{Corner, PATIENCE, SERVER, Shape, Stage, echo, server, stage};

/// Eight megabytes there and back.
fn is_carried_whole(stage: &Stage) -> bool {
    stage.inside.run(|| {
        let stream = TcpStream::connect_timeout(&server(), PATIENCE).unwrap();
        let sent: Vec<u8> = (0..8_000_000_u32).map(|number| ((number * 7) >> 3) as u8).collect();
        let copy = sent.clone();
        let mut writing = stream.try_clone().unwrap();
        let writer = thread::spawn(move || {
            writing.write_all(&copy).unwrap();
            writing.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        (&stream).read_to_end(&mut heard).unwrap();
        writer.join().unwrap();
        heard == sent
    })
}

/// How many bytes come back of datagrams of some sizes.
fn echoed(stage: &Stage) -> Vec<usize> {
    stage.inside.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        for size in [1, 100, 1_400] {
            socket.send_to(&vec![size as u8; size], server()).unwrap();
            let mut buffer = [0; 2_048];
            heard.push(socket.recv_from(&mut buffer).unwrap().0);
        }
        heard
    })
}

#[test]
fn streams_and_datagrams_go_there_and_back_whole_through_devices_of_every_kind() {
    for kinds in
        [(Kind::Tun, Kind::Tun), (Kind::Pair, Kind::Pair), (Kind::Pair, Kind::Tun), (Kind::Tun, Kind::Pair)]
    {
        let Some(stage) = (Shape { kinds, ..Shape::default() }).stage() else { return };
        assert!(is_carried_whole(&stage), "{kinds:?}");
        assert_eq!(echoed(&stage), [1, 100, 1_400], "{kinds:?}");
    }
}

/// Lets so many packets wait before the fabric looks at them.
fn let_wait(stage: &Stage, send: impl FnOnce()) {
    let (wait, waiting) = std::sync::mpsc::channel::<()>();
    stage.fabric.change(move |_, _| _ = waiting.recv_timeout(PATIENCE));
    send();
    drop(wait);
}

#[test]
fn a_crowd_of_packets_arrives_in_its_order_whatever_is_asked_for_in_between() {
    for kinds in [(Kind::Tun, Kind::Tun), (Kind::Pair, Kind::Tun)] {
        let Some(stage) = (Shape { kinds, ..Shape::default() }).stage() else { return };
        let bound = || UdpSocket::bind("0.0.0.0:0").unwrap();
        let (socket, asker) = (stage.inside.run(bound), stage.inside.run(bound));
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let_wait(&stage, || {
            for number in 0..200 {
                socket.send_to(&[number], server()).unwrap();
                if number % 50 == 30 {
                    asker.send_to(&[0; 12], "169.254.169.253:53").unwrap();
                }
            }
        });
        let mut number = [0];
        let heard: Vec<u8> =
            (0..200).map(|_| socket.recv_from(&mut number).map(|_| number[0]).unwrap()).collect();
        assert_eq!(heard, (0..200).collect::<Vec<u8>>(), "{kinds:?}");
    }
}

#[test]
fn a_crowd_that_finds_the_world_gone_is_lost_and_counted() {
    let Some(stage) = stage(&[], |_| {}) else { return };
    let socket = stage.inside.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let_wait(&stage, || {
        for _ in 0..100 {
            socket.send_to(&[1], server()).unwrap();
        }
        stage.world.run(|| {
            let mut header = [0; 16];
            header[4..8].copy_from_slice(&route::index(c"onrush0").unwrap().to_ne_bytes());
            let mut batch = Batch::default();
            batch.message(libc::RTM_DELLINK, 0, &header);
            Socket::route().unwrap().send(batch).unwrap();
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dropped = || runtime.block_on(stage.fabric.board()).unwrap().dropped;
    let began = Instant::now();
    let lost = |word| dropped().get(word).copied().unwrap_or_default();
    while lost("gone") + lost("no-world") < 100 && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(lost("gone") + lost("no-world"), 100, "{:?}", dropped());
    let mut world = Corner::new(c"onrush0", &[(SERVER.into(), 24)], false, (Kind::Tun, 65_535)).unwrap();
    world.run(echo);
    stage.fabric.set_world(Some(Outside::behind(world.device.take().unwrap())));
    assert!(stage.inside.run(|| TcpStream::connect_timeout(&server(), PATIENCE).is_ok()));
}

#[test]
fn the_connection_above_a_limit_hangs_and_the_limit_is_named() {
    let Some(stage) = stage(&["nat.ports=2"], |_| {}) else { return };
    let (open, third) = stage.inside.run(|| {
        let open: Vec<_> = (0..2).map(|_| TcpStream::connect_timeout(&server(), PATIENCE).unwrap()).collect();
        let third = TcpStream::connect_timeout(&server(), Duration::from_millis(300)).unwrap_err();
        (open, third)
    });
    assert_eq!(third.kind(), std::io::ErrorKind::TimedOut, "silence, no reset: {third}");
    let refusal = stage.blame.since(model::Instant::START).unwrap();
    assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::NatPorts, 2, 2));
    let notices = stage.notices.lock().unwrap();
    assert_eq!((notices.len(), &*notices[0].function, notices[0].what), (1, "cart", "SYN"));
    assert_eq!(notices[0].destination, server());
    drop(open);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let board = runtime.block_on(stage.fabric.board()).unwrap();
    let row = board.rows.iter().find(|row| row.id == LimitId::NatPorts).unwrap();
    assert_eq!((row.max, row.peak, row.refused), (2, 2, 1));
    assert_eq!(board.interfaces[0].functions, [("cart".into(), 1)].into());
    let named = board.gateways[0].metrics.named();
    let metric = |name: &str| named.iter().find(|(found, _)| *found == name).unwrap().1;
    assert_eq!(metric("ErrorPortAllocation"), 1);
    assert_eq!(metric("ConnectionEstablishedCount"), 2);
}

#[test]
fn flows_are_logged_when_the_fabric_ends_at_the_latest() {
    let Some(stage) = stage(&["nat.ports=1"], |_| {}) else { return };
    let kept = stage.inside.run(|| TcpStream::connect_timeout(&server(), PATIENCE).unwrap());
    stage.inside.run(|| TcpStream::connect_timeout(&server(), Duration::from_millis(100)).unwrap_err());
    stage.fabric.end();
    let began = Instant::now();
    let has = |word: &str| stage.lines.lock().unwrap().iter().any(|line| line.contains(word));
    while !has(" ACCEPT OK") && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let lines = stage.lines.lock().unwrap();
    let out =
        lines.iter().find(|line| line.contains(" 203.0.113.10 ") && line.ends_with("ACCEPT OK")).unwrap();
    assert!(out.starts_with("2 000000000000 eni-Subnet1-Group "), "{out}");
    drop(kept);
}

#[test]
fn questions_are_answered_beside_the_interface() {
    let Some(stage) = stage(&["nat.ports=1", "dns.packets=5"], |_| {}) else { return };
    let heard = stage.inside.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("169.254.169.253:53").unwrap();
        let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x05cache\x07example\x03com\0\0\x01\0\x01");
        let hear = |patience| {
            let mut buffer = [0; 512];
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.recv(&mut buffer).is_ok_and(|count| count == question.len() && buffer[2] & 0x80 != 0)
        };
        // All at once: on a busy machine their answers, one after the other, may take longer than the limit's second.
        (0..6).for_each(|_| assert_eq!(socket.send(&question).unwrap(), question.len()));
        ((0..5).filter(|_| hear(PATIENCE)).count(), hear(Duration::from_millis(300)))
    });
    assert_eq!(heard, (5, false), "the sixth within a second is dropped");
    assert_eq!(stage.blame.since(model::Instant::START).unwrap().limit, LimitId::DnsPackets);
}

#[test]
fn what_is_attached_is_asked_before_the_environment_hears_of_it() {
    let Some(refusing) = stage(&[], HeldReply::refused) else { return };
    let attached = SocketAddr::from(([198, 19, 192, 1], 5_432));
    let error = refusing.inside.run(move || TcpStream::connect_timeout(&attached, PATIENCE).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(refusing.asked.lock().unwrap()[0].destination, attached);
    let Some(dead) = stage(&[], drop) else { return };
    let error = dead
        .inside
        .run(move || TcpStream::connect_timeout(&attached, Duration::from_millis(300)).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn the_world_can_go_and_come_back() {
    let Some(stage) = stage(&[], |_| {}) else { return };
    let connect = |patience| move || TcpStream::connect_timeout(&server(), patience).is_ok();
    assert!(stage.inside.run(connect(PATIENCE)));
    stage.fabric.set_world(None);
    // An answer shows that what was asked for before is done.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(stage.fabric.board()).unwrap();
    assert!(!stage.inside.run(connect(Duration::from_millis(300))), "nobody carries it");
    let mut world = Corner::new(c"onrush0", &[(SERVER.into(), 24)], false, (Kind::Tun, 65_535)).unwrap();
    world.run(echo);
    stage.fabric.set_world(Some(Outside::behind(world.device.take().unwrap())));
    assert!(stage.inside.run(connect(PATIENCE)));
}

#[test]
fn packets_behind_an_interface_can_be_looked_at() {
    let Some(stage) = stage(&[], |_| {}) else { return };
    let captured = stage.fabric.capture("eni-Subnet1-Group");
    let other = stage.fabric.capture("eni-other");
    stage.inside.run(|| TcpStream::connect_timeout(&server(), PATIENCE).map(drop).unwrap());
    let first = captured.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.bytes[12..20], [169, 254, 0, 2, 203, 0, 113, 10], "as the environment sent it");
    let second = captured.recv_timeout(PATIENCE).unwrap();
    assert_eq!(second.bytes[12..20], [203, 0, 113, 10, 169, 254, 0, 2], "as the environment gets it");
    assert!(other.try_recv().is_err());
}

#[test]
fn captures_that_nobody_reads_any_more_bar_no_further_one() {
    let Some(stage) = stage(&[], |_| {}) else { return };
    let look = || stage.fabric.capture("eni-other");
    let all: Vec<_> = (0..CAPTURES_MAX).map(|_| look()).collect();
    let refused = look().recv_timeout(PATIENCE);
    assert_eq!(refused, Err(RecvTimeoutError::Disconnected), "one too many");
    // Nothing passes there, so that no packet shows that they have gone.
    drop(all);
    let captured = stage.fabric.capture("eni-Subnet1-Group");
    stage.inside.run(|| TcpStream::connect_timeout(&server(), PATIENCE).map(drop).unwrap());
    captured.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn who_looks_at_a_gateway_sees_the_addresses_that_a_change_gives_it() {
    let Some(stage) = stage(&[], |_| {}) else { return };
    let captured = stage.fabric.capture("eni-Public-NatGateway");
    stage.fabric.change(|engine, now| {
        let mut network = engine.network().clone();
        let mut public = network.subnets[0].clone();
        (public.name, public.cidr) = ("Public".into(), Some("10.9.0.0/24".parse().unwrap()));
        public.routes[1] = Route::any("Default", Hop::InternetGateway("Gate".into()));
        network.subnets.push(public);
        let gateway = &mut network.gateways[0];
        (gateway.subnet, gateway.address) = (Some(network.subnets.len() - 1), Some([10, 9, 0, 4].into()));
        engine.renew(now, network);
    });
    stage.inside.run(|| TcpStream::connect_timeout(&server(), PATIENCE).map(drop).unwrap());
    let first = captured.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.bytes[12..20], [198, 18, 0, 1, 203, 0, 113, 10], "as the gateway sends it");
}
