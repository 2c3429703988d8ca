//! An environment and a world, each a network namespace of the test's own, and the fabric between them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use limits::{Network, NetworkSettings};
use model::stack::{LogFormat, TrafficType};
use model::{Era, Overrides};
use netdev::device::Kind;
use netdev::netlink::{Batch, Socket};
use netdev::pair::Far;
use netdev::{route, tun};
use network::fabric::{
    Blame, DnsReply, Fabric, FlowLog, FlowLogging, HeldReply, Hooks, Joining, Notice, Of, Opening, Question,
    Setup,
};
use network::world::Outside;
use packets::{LineFaults, Mtu, PacketEngine, PacketSettings, Place};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub const PATIENCE: Duration = Duration::from_secs(10);

type Act = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, with a device.
pub struct Corner {
    acts: Sender<Act>,
    pub device: Option<OwnedFd>,
}

impl Corner {
    /// With the default route and these addresses, or with the range of our gateways' addresses.
    pub fn new(
        name: &'static std::ffi::CStr,
        addresses: &[(IpAddr, u8)],
        default: bool,
        (kind, mtu): (Kind, u16),
    ) -> Option<Self> {
        let (acts, todo): (Sender<Act>, Receiver<Act>) = channel();
        let (made, device) = channel();
        let addresses = addresses.to_vec();
        thread::spawn(move || {
            // SAFETY: no memory is passed; the thread ends with its new namespace.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return;
            }
            drop(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
            let device = match kind {
                Kind::Tun => tun::open(name, tun::Life::Namespace),
                Kind::Pair => Far::create().and_then(|mut far| far.open(name)),
            };
            let device = device.unwrap();
            let index = route::index(name).unwrap();
            let mut batch = Batch::default();
            route::up(&mut batch, route::index(c"lo").unwrap(), None);
            route::up(&mut batch, index, Some(mtu.into()));
            for address in addresses {
                route::address(&mut batch, index, address);
            }
            let range = if default { ([0, 0, 0, 0], 0) } else { ([198, 18, 0, 0], 15) };
            let first = IpAddr::from(range.0);
            route::route(&mut batch, index, (first, range.1), None, kind.way(first));
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
    pub fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        self.acts.send(Box::new(move || drop(sender.send(act())))).unwrap();
        receiver.recv().expect("the act did not panic")
    }
}

/// One environment, the world with an echo server, and the fabric between them.
pub struct Stage {
    pub inside: Corner,
    pub world: Corner,
    pub fabric: Fabric,
    pub blame: Arc<Blame>,
    pub notices: Arc<Mutex<Vec<Notice>>>,
    pub asked: Arc<Mutex<Vec<Opening>>>,
    pub lines: Arc<Mutex<Vec<String>>>,
}

/// What a stage may be told.
pub struct Shape {
    pub limits: &'static [&'static str],
    pub ask: fn(HeldReply),
    /// Of the environment's device, and of the world's.
    pub mtu: (u16, u16),
    /// The same two.
    pub kinds: (Kind, Kind),
    pub line: Option<LineFaults>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { limits: &[], ask: |_| {}, mtu: (1_500, 65_535), kinds: (Kind::Tun, Kind::Tun), line: None }
    }
}

pub fn stage(limits: &'static [&'static str], ask: fn(HeldReply)) -> Option<Stage> {
    Shape { limits, ask, ..Shape::default() }.stage()
}

impl Shape {
    pub fn stage(self) -> Option<Stage> {
        let Self { limits, ask, mtu, kinds, line } = self;
        let mut overrides = Overrides::default();
        limits.iter().for_each(|text| overrides.read(text).unwrap());
        let network = Network::simple(1, 1, 1);
        let settings =
            NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &overrides).unwrap();
        let wired = network.wire(settings);
        let address = Ipv4Addr::new(169, 254, 0, 2);
        let mut inside = Corner::new(c"eth0", &[(address.into(), 30)], true, (kinds.0, mtu.0))?;
        let mut world = Corner::new(c"onrush0", &[(SERVER.into(), 24)], false, (kinds.1, mtu.1))?;
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
        };
        let mut engine = PacketEngine::new(network, wired, PacketSettings::default());
        engine.set_mtu(Mtu { world: mtu.1, relay: u16::MAX, environments: mtu.0 });
        let setup = Setup {
            engine,
            began: Instant::now(),
            flow_logs: FlowLogging {
                logs: vec![FlowLog {
                    name: "log".into(),
                    of: Of::All,
                    traffic: TrafficType::All,
                    format: LogFormat::default(),
                    interval: Duration::from_secs(60),
                    lines: Box::new(move |line: &str| {
                        written.lock().unwrap().push(line.to_owned());
                        true
                    }),
                }],
                account: "000000000000".into(),
                ..FlowLogging::default()
            },
            world: Some(Outside::behind(world.device.take().unwrap())),
            relay: None,
            relayed: [(IpAddr::from([198, 19, 192, 1]), Some(5_432))].into(),
            hooks,
            line,
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
        Some(Stage { inside, world, fabric, blame, notices, asked, lines })
    }
}

/// TCP and UDP on port 7.
pub fn echo() {
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

pub fn server() -> SocketAddr {
    SocketAddr::from((SERVER, 7))
}
