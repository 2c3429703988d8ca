//! The relay beside a real kernel: a namespace of the test's own is the function's side, its device copied to the relay's.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a panic")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netdev::netlink::{Batch, Socket};
use netdev::{route, tun};
use network::attach::Server;
use network::relay::{Destinations, Everywhere, Flow, Namespace, Opening, Outside, Relay, Target};
use rustix::event::{PollFd, PollFlags};

const FUNCTION: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const REFUSED: u16 = 1;
const SERVED: u16 = 2;

/// Everybody who asks for port 1 is refused, port 2 is served here, all else leads to the server.
struct Here(Server);

impl Destinations for Here {
    fn target(&self, flow: Flow, _udp: bool) -> Target {
        match flow.destination.port() {
            REFUSED => Target::Refused,
            SERVED => Target::Serve(Arc::new(|flow, stream| {
                tokio::spawn(async move {
                    let stream = stream.into_std().unwrap();
                    stream.set_nonblocking(false).unwrap();
                    let text = format!("{} asked for {}", flow.source.ip(), flow.destination);
                    tokio::task::spawn_blocking(move || (&stream).write_all(text.as_bytes())).await.unwrap()
                });
            })),
            _ => Target::Server(self.0.clone()),
        }
    }
}

/// Makes this thread's namespace the function's side.
fn function_side() -> OwnedFd {
    // SAFETY: no memory is passed; the thread ends with its new namespace.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    let device = tun::open(c"f0", tun::Life::Namespace).unwrap();
    let index = route::index(c"f0").unwrap();
    let mut batch = Batch::default();
    route::up(&mut batch, index, None);
    route::address(&mut batch, index, (FUNCTION.into(), 24));
    route::route(&mut batch, index, (Ipv4Addr::UNSPECIFIED.into(), 0), None, route::To::Device);
    Socket::route().unwrap().send(batch).unwrap();
    device
}

/// Carries packets between two devices until the other end of `over` is closed.
fn carry(one: &OwnedFd, other: impl AsFd, over: &OwnedFd) {
    let mut frame = vec![0; tun::FRAME_BYTES_MAX];
    loop {
        let mut polled = [
            PollFd::new(one, PollFlags::IN),
            PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN),
            PollFd::new(over, PollFlags::IN),
        ];
        rustix::event::poll(&mut polled, None).unwrap();
        if !polled[2].revents().is_empty() {
            return;
        }
        for (from, to) in [(one.as_fd(), other.as_fd()), (other.as_fd(), one.as_fd())] {
            while let Ok(bytes) = rustix::io::read(from, &mut frame) {
                let _ = rustix::io::write(to, &frame[..bytes]);
            }
        }
    }
}

#[test]
fn connections_and_datagrams_reach_an_attached_server() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: the function's side of this test needs root");
        return;
    }
    // The server, on the host's side.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let datagrams = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all);
                all.reverse();
                let _ = stream.write_all(&all);
            });
        }
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 2_000];
        while let Ok((length, client)) = datagrams.recv_from(&mut bytes) {
            bytes[..length].reverse();
            datagrams.send_to(&bytes[..length], client).unwrap();
        }
    });

    let namespace = Namespace::fork(|| ()).unwrap();
    let device = namespace.device().try_clone_to_owned().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let here = Here(Server { host: "127.0.0.1".into(), port, tls: false });
    let relay = {
        let _entered = runtime.enter();
        Relay::start(namespace, Arc::new(here), Outside::of_this_host().unwrap()).unwrap()
    };

    let (over, end) = std::io::pipe().unwrap();
    let over = OwnedFd::from(over);
    let (ready, made) = mpsc::channel();
    let function = std::thread::spawn(move || {
        let own = function_side();
        let copied = own.try_clone().unwrap();
        let copy = std::thread::spawn(move || carry(&copied, device, &over));
        ready.send(()).unwrap();
        let connect = |address: &str| {
            let address: SocketAddr = address.parse().unwrap();
            TcpStream::connect_timeout(&address, Duration::from_secs(5))
        };
        // Nobody asked first: the kernel accepts, and then it is said.
        for address in ["198.18.7.7:443", "203.0.113.10:65535"] {
            let mut stream = connect(address).unwrap();
            let sent: Vec<u8> = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
            let copy = stream.try_clone().unwrap();
            let writer = {
                let sent = sent.clone();
                std::thread::spawn(move || {
                    (&copy).write_all(&sent).unwrap();
                    copy.shutdown(std::net::Shutdown::Write).unwrap();
                })
            };
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            writer.join().unwrap();
            got.reverse();
            assert!(got == sent, "{address}");
        }
        // The reset comes right behind the handshake, and may overtake what the client is told of it.
        let refused = connect(&format!("198.18.7.7:{REFUSED}"));
        let error = refused.and_then(|mut stream| stream.read(&mut [0])).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let mut served = String::new();
        connect(&format!("198.18.7.8:{SERVED}")).unwrap().read_to_string(&mut served).unwrap();
        assert_eq!(served, format!("{FUNCTION} asked for 198.18.7.8:{SERVED}"));
        // Answers to datagrams come from the address that was asked.
        let socket = UdpSocket::bind((FUNCTION, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for address in ["198.18.7.7:53", "203.0.113.10:9", "198.18.7.7:53"] {
            socket.send_to(b"abc", address).unwrap();
            let mut bytes = [0; 9];
            let (length, from) = socket.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..length], from.to_string().as_str()), (&b"cba"[..], address));
        }
        drop(own);
        copy
    });
    made.recv().unwrap();
    let copy = function.join().unwrap();
    assert_eq!(relay.figures().conversations, 2);
    // Asked first: what the server says is known before any handshake.
    let flow = |port: u16| Flow {
        source: SocketAddr::new(IpAddr::V4(FUNCTION), 40_000),
        destination: SocketAddr::new(IpAddr::from([198, 18, 7, 7]), port),
    };
    assert_eq!(runtime.block_on(relay.connect(flow(443))), Opening::Opened);
    assert_eq!(runtime.block_on(relay.connect(flow(SERVED))), Opening::Opened);
    assert_eq!(runtime.block_on(relay.connect(flow(REFUSED))), Opening::Refused);
    assert!(relay.figures().connections >= 1);
    drop(end);
    copy.join().unwrap();
    let began = Instant::now();
    drop(relay);
    drop(runtime);
    assert!(began.elapsed() < Duration::from_secs(2), "the namespace's process ends at once");
}

/// The whole host of this test is a namespace, with a server at a public address.
#[test]
fn the_world_is_reached_and_what_is_private_is_not() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: the host's side of this test needs root");
        return;
    }
    // Out of reach are the networks of the host around it: the server's address would be its own.
    let outside = Outside::of_this_host().unwrap();
    let host = std::thread::spawn(|| {
        // SAFETY: no memory is passed; the thread ends with its new namespace.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        let public: IpAddr = "8.8.4.4".parse().unwrap();
        let loopback = route::index(c"lo").unwrap();
        let mut batch = Batch::default();
        route::up(&mut batch, loopback, None);
        route::address(&mut batch, loopback, (public, 32));
        route::address(&mut batch, loopback, ("10.0.0.1".parse().unwrap(), 32));
        Socket::route().unwrap().send(batch).unwrap();
        let servers = [TcpListener::bind((public, 443)).unwrap(), TcpListener::bind("10.0.0.1:443").unwrap()];
        let namespace = Namespace::fork(|| ()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let relay = Relay::start(namespace, Arc::new(Everywhere), outside).unwrap();
        drop(entered);
        let flow = |destination: &str| Flow {
            source: SocketAddr::new(FUNCTION.into(), 40_000),
            destination: destination.parse().unwrap(),
        };
        let connect = |destination: &str| runtime.block_on(relay.connect(flow(destination)));
        assert_eq!(connect("8.8.4.4:443"), Opening::Opened);
        assert_eq!(connect("8.8.4.4:444"), Opening::Refused);
        assert_eq!(connect("10.0.0.1:443"), Opening::Unreachable);
        assert_eq!(connect("127.0.0.1:443"), Opening::Unreachable);
        drop(servers);
    });
    host.join().unwrap();
}
