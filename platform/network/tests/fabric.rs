//! Real sockets through the fabric: environments and the world are network namespaces of the test's own. Without the
//! right to make one, the tests say so and pass.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests: a failure is a panic")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use limits::{Network, NetworkSettings};
use model::{Era, LimitId, Overrides};
use netdev::netlink::{Batch, Socket};
use netdev::route::{self, To};
use netdev::tun;
use network::fabric::{Blame, DnsReply, Fabric, HeldReply, Hooks, Joining, Notice, Opening, Question, Setup};
use network::world::Outside;
use packets::{PacketEngine, PacketSettings, Place};

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const PATIENCE: Duration = Duration::from_secs(10);

type Act = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, with a TUN device.
struct Corner {
    acts: Sender<Act>,
    device: Option<OwnedFd>,
}

impl Corner {
    fn new(name: &'static std::ffi::CStr, addresses: &[(IpAddr, u8)], default: bool) -> Option<Self> {
        let (acts, todo): (Sender<Act>, Receiver<Act>) = channel();
        let (made, device) = channel();
        let addresses = addresses.to_vec();
        thread::spawn(move || {
            // SAFETY: no memory is passed; the thread ends with its new namespace.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return;
            }
            drop(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
            let device = tun::open(name, tun::Life::Namespace).unwrap();
            let index = route::index(name).unwrap();
            let mut batch = Batch::default();
            route::up(&mut batch, route::index(c"lo").unwrap(), None);
            route::up(&mut batch, index, Some(if default { 1_500 } else { 65_535 }));
            for address in addresses {
                route::address(&mut batch, index, address);
            }
            let range = if default { ([0, 0, 0, 0], 0) } else { ([198, 18, 0, 0], 15) };
            route::route(&mut batch, index, (range.0.into(), range.1), None, To::Device);
            Socket::route().unwrap().send(batch).unwrap();
            made.send(device).unwrap();
            for act in todo {
                act();
            }
        });
        let device = device.recv().ok();
        if device.is_none() {
            println!("skipped: no right to make a network namespace");
        }
        Some(Self { acts, device: Some(device?) })
    }

    /// Runs in the namespace and waits.
    fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        self.acts.send(Box::new(move || drop(sender.send(act())))).unwrap();
        receiver.recv().expect("the act did not panic")
    }
}

/// One environment, the world with an echo server, and the fabric between them.
struct Stage {
    inside: Corner,
    _world: Corner,
    fabric: Fabric,
    blame: Arc<Blame>,
    notices: Arc<Mutex<Vec<Notice>>>,
    asked: Arc<Mutex<Vec<Opening>>>,
    lines: Arc<Mutex<Vec<String>>>,
}

fn stage(limits: &[&str], relay: Option<OwnedFd>, ask: fn(HeldReply)) -> Option<Stage> {
    let mut overrides = Overrides::default();
    limits.iter().for_each(|text| overrides.read(text).unwrap());
    let network = Network::simple(1, 1, 1);
    let settings = NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &overrides).unwrap();
    let wired = network.wire(settings);
    let address = Ipv4Addr::new(169, 254, 0, 2);
    let mut inside = Corner::new(c"eth0", &[(address.into(), 30)], true)?;
    let mut world = Corner::new(c"onrush0", &[(SERVER.into(), 24)], false)?;
    world.run(echo);
    let (notices, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let (told, heard, written) = (notices.clone(), asked.clone(), lines.clone());
    let hooks = Hooks {
        resolve: Box::new(|question: Question, reply: DnsReply| {
            // Whoever asks hears the question again, marked as an answer.
            let mut message = question.message;
            message[2] |= 0x80;
            reply.send(message);
        }),
        ask: Box::new(move |opening, reply| {
            heard.lock().unwrap().push(opening);
            ask(reply);
        }),
        notice: Box::new(move |notice| told.lock().unwrap().push(notice)),
        flow_log: Some(Box::new(move |line: &str| written.lock().unwrap().push(line.to_owned()))),
    };
    let setup = Setup {
        engine: PacketEngine::new(network, wired, PacketSettings::default()),
        began: Instant::now(),
        account: "000000000000".into(),
        world: Some(Outside::behind(world.device.take().unwrap())),
        relay,
        relayed: [(IpAddr::from([198, 19, 192, 1]), Some(5_432))].into(),
        hooks,
    };
    let fabric = Fabric::start(setup).unwrap();
    let blame = Arc::new(Blame::default());
    fabric.attach(Joining {
        device: inside.device.take().unwrap(),
        address,
        address6: None,
        place: Some(Place { function: 0, choice: 0 }),
        vpc: None,
        resolver: None,
        function: "cart".into(),
        blame: blame.clone(),
    });
    Some(Stage { inside, _world: world, fabric, blame, notices, asked, lines })
}

/// TCP and UDP on port 7.
fn echo() {
    let listener = TcpListener::bind((SERVER, 7)).unwrap();
    let socket = UdpSocket::bind((SERVER, 7)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = (&stream).read(&mut buffer) {
                    (&stream).write_all(&buffer[..count]).unwrap();
                }
            });
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..count], from).unwrap();
        }
    });
}

fn server() -> SocketAddr {
    SocketAddr::from((SERVER, 7))
}

#[test]
fn a_stream_goes_there_and_back_whole() {
    let Some(stage) = stage(&[], None, |_| {}) else { return };
    let same = stage.inside.run(|| {
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
    });
    assert!(same);
}

#[test]
fn datagrams_go_there_and_back() {
    let Some(stage) = stage(&[], None, |_| {}) else { return };
    let heard = stage.inside.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        for size in [1, 100, 1_400] {
            socket.send_to(&vec![size as u8; size], server()).unwrap();
            let mut buffer = [0; 2_048];
            heard.push(socket.recv_from(&mut buffer).unwrap().0);
        }
        heard
    });
    assert_eq!(heard, [1, 100, 1_400]);
}

#[test]
fn the_connection_above_a_limit_hangs_and_the_limit_is_named() {
    let Some(stage) = stage(&["nat.ports=2"], None, |_| {}) else { return };
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
    let Some(stage) = stage(&["nat.ports=1"], None, |_| {}) else { return };
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
    let Some(stage) = stage(&["nat.ports=1", "dns.packets=5"], None, |_| {}) else { return };
    let heard = stage.inside.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.connect("169.254.169.253:53").unwrap();
        let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x05cache\x07example\x03com\0\0\x01\0\x01");
        let ask = |_| {
            let mut buffer = [0; 512];
            socket.send(&question).unwrap();
            socket.recv(&mut buffer).is_ok_and(|count| count == question.len() && buffer[2] & 0x80 != 0)
        };
        (0..6).filter(|turn| ask(*turn)).count()
    });
    assert_eq!(heard, 5, "the sixth within a second is dropped");
    assert_eq!(stage.blame.since(model::Instant::START).unwrap().limit, LimitId::DnsPackets);
}

#[test]
fn what_is_attached_is_asked_before_the_environment_hears_of_it() {
    let Some(refusing) = stage(&[], None, HeldReply::refused) else { return };
    let attached = SocketAddr::from(([198, 19, 192, 1], 5_432));
    let error = refusing.inside.run(move || TcpStream::connect_timeout(&attached, PATIENCE).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(refusing.asked.lock().unwrap()[0].destination, attached);
    let Some(dead) = stage(&[], None, drop) else { return };
    let error = dead
        .inside
        .run(move || TcpStream::connect_timeout(&attached, Duration::from_millis(300)).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn the_world_can_go_and_come_back() {
    let Some(stage) = stage(&[], None, |_| {}) else { return };
    let connect = || TcpStream::connect_timeout(&server(), Duration::from_millis(300)).is_ok();
    assert!(stage.inside.run(connect));
    stage.fabric.set_world(None);
    assert!(!stage.inside.run(connect), "nobody carries it");
    let mut world = Corner::new(c"onrush0", &[(SERVER.into(), 24)], false).unwrap();
    world.run(echo);
    stage.fabric.set_world(Some(Outside::behind(world.device.take().unwrap())));
    assert!(stage.inside.run(connect));
}

#[test]
fn packets_behind_an_interface_can_be_looked_at() {
    let Some(stage) = stage(&[], None, |_| {}) else { return };
    let captured = stage.fabric.capture("eni-Subnet1-Group");
    let other = stage.fabric.capture("eni-other");
    stage.inside.run(|| TcpStream::connect_timeout(&server(), PATIENCE).map(drop).unwrap());
    let first = captured.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.bytes[12..20], [169, 254, 0, 2, 203, 0, 113, 10], "as the environment sent it");
    let second = captured.recv_timeout(PATIENCE).unwrap();
    assert_eq!(second.bytes[12..20], [203, 0, 113, 10, 169, 254, 0, 2], "as the environment gets it");
    assert!(other.try_recv().is_err());
}
