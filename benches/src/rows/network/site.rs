//! One way of carrying packets, set up between two or three network namespaces: an environment's, the world's, and for
//! peers a host's between them. Everything goes with the value.

use crate::bench::Bench;
use crate::process::{Running, bound};
use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The first of the world's addresses, and their prefix.
pub const WORLD: &str = "203.0.113.10";
/// How many it has.
pub const ADDRESSES: u8 = 16;
/// Names of namespaces begin so, then comes our process.
const PREFIX: &str = "onrush-bench-";
/// One of those that the template's security group lets out.
const IPERF_PORT: &str = "7900";
/// How long a peer may take to make its device.
const SET_UP_MAX: Duration = Duration::from_secs(5);
const RULES: &str = "table ip nat { chain post { type nat hook postrouting priority 100; oifname \"world\" masquerade\n}\n}\n";

/// A way of carrying packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The platform's.
    Ours,
    /// The platform's where `/dev/net/tun` is closed: pairs of devices, read by packet sockets.
    Pairs,
    /// The floor.
    Copy,
    Kernel,
    Slirp,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Ours, Self::Copy, Self::Kernel, Self::Slirp, Self::Pairs];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "Onrush",
            Self::Pairs => "Onrush without TUN",
            Self::Copy => "TUN copy loop",
            Self::Kernel => "kernel masquerade",
            Self::Slirp => "slirp4netns",
        }
    }
}

/// Whether the namespaces can be made here, or why not.
pub fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may make network namespaces with names".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("/dev/net/tun is not there".to_owned());
    }
    installed("ip").then_some(()).ok_or_else(|| "`ip` is not installed (iproute2)".to_owned())
}

pub fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v -- \"$0\"", program]).output();
    found.is_ok_and(|found| found.status.success())
}

/// Removes what runs that were killed left behind.
pub fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let process = rest.split('-').next().and_then(|id| Pid::from_raw(id.parse().ok()?));
        if process.is_none_or(|process| test_kill_process(process).is_err()) {
            let _ = run("ip", ["netns", "del", &name]);
        }
    }
}

/// A network namespace with a name, and loopback up; goes with the value.
#[derive(Debug)]
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Self(format!("{PREFIX}{}-{name}", std::process::id()));
        run("ip", ["netns", "add", &namespace.0])?;
        namespace.ip("link set lo up")?;
        // As many connections as a host may have: without, the load's own ports and queues are the limit.
        for (setting, value) in [
            ("net.ipv4.ip_local_port_range", "1024 65535"),
            ("net.ipv4.tcp_tw_reuse", "1"),
            ("net.core.somaxconn", "65535"),
            ("net.ipv4.tcp_max_syn_backlog", "65535"),
            ("net.ipv6.conf.all.disable_ipv6", "1"),
        ] {
            namespace.within("sysctl").args(["-qw", &format!("{setting}={value}")]).status()?;
        }
        Ok(namespace)
    }

    /// `ip`, inside; words by blanks.
    pub fn ip(&self, words: &str) -> Result<()> {
        run("ip", ["-n", &self.0].into_iter().chain(words.split(' ')))
    }

    /// A program that runs inside and ends with this process.
    pub fn within(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = bound("ip");
        command.args(["netns", "exec", &self.0]).arg(program).stdin(Stdio::null());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run("ip", ["netns", "del", &self.0]);
    }
}

/// A program that says `ready`, and then answers questions line by line.
#[derive(Debug)]
pub struct Talker {
    running: Running,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Talker {
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let input = running.child().stdin.take();
        let output = BufReader::new(running.child().stdout.take().context("its output is piped")?);
        Ok(Self { running, input, output })
    }

    /// As [`Self::start`], and waits for the word.
    pub fn ready(command: &mut Command) -> Result<Self> {
        let mut talker = Self::start(command)?;
        match talker.line()?.as_str() {
            "ready" => Ok(talker),
            other => bail!("{command:?} said `{other}`"),
        }
    }

    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Lines up to an empty one.
    pub fn ask(&mut self, question: &str) -> Result<Vec<String>> {
        let input = self.input.as_mut().context("its input is open")?;
        writeln!(input, "{question}")?;
        let mut lines = Vec::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Ok(lines),
                line => lines.push(line),
            }
        }
    }

    /// Nothing more will be asked.
    pub fn close(&mut self) {
        self.input = None;
    }

    pub fn id(&mut self) -> u32 {
        self.running.child().id()
    }
}

/// Two ends and what carries packets between them. Fields are dropped in this order.
#[derive(Debug)]
pub struct Site {
    carrier: Option<Talker>,
    _peer: Option<Running>,
    server: Talker,
    inside: Namespace,
    _between: Option<Namespace>,
    world: Namespace,
    load: PathBuf,
}

impl Site {
    /// `None`: the peer is not installed.
    pub fn new(bench: &Bench, kind: Kind) -> Result<Option<Self>> {
        let needed = match kind {
            Kind::Kernel => "nft",
            Kind::Slirp => "slirp4netns",
            Kind::Ours | Kind::Copy => "ip",
            Kind::Pairs => "unshare",
        };
        if !installed(needed) {
            return Ok(None);
        }
        let short = &format!("{kind:?}").to_lowercase();
        let inside = Namespace::new(&format!("{short}-inside"))?;
        let world = world(&format!("{short}-world"))?;
        let load = bench.program("network-load")?;
        let (mut carrier, mut peer, mut between) = (None, None, None);
        match kind {
            Kind::Ours => carrier = Some(carry(bench, &world, &[&inside], &["--addresses", "8"])?),
            Kind::Pairs => {
                // The node is covered for this one process.
                let mut command = bound("unshare");
                command.args(["-m", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$0\" \"$@\""]);
                command.arg(bench.program("network-carry")?);
                carrier = Some(carry_by(command, bench, &world, &[&inside], &["--addresses", "8"])?);
            }
            Kind::Copy => {
                let mut command = bound(&load);
                carrier = Some(Talker::ready(command.args(["copy", &inside.0, &world.0]))?);
            }
            Kind::Kernel | Kind::Slirp => {
                let host = host(short, &world)?;
                match kind {
                    Kind::Kernel => masquerade(&host, &inside)?,
                    _ => peer = Some(slirp(&host, &inside)?),
                }
                between = Some(host);
            }
        }
        let server = Talker::ready(world.within(&load).args(["serve", "7000"]))?;
        let site = Self { carrier, _peer: peer, server, inside, _between: between, world, load };
        Ok(Some(site))
    }

    /// A stream of iperf3's to the world for some whole seconds, or `back` from it: Gbit/s as received.
    pub fn iperf(&self, to: &str, seconds: &str, back: bool) -> Result<f64> {
        // It serves one client and ends; whoever comes before it listens is refused and comes again.
        let mut server = self.world.within("iperf3");
        let _server = Running::start(
            server.args(["-s", "-1", "-p", IPERF_PORT]).stdout(Stdio::null()).stderr(Stdio::null()),
        )?;
        let begun = Instant::now();
        loop {
            let mut client = self.inside.within("iperf3");
            client.args(["-c", to, "-p", IPERF_PORT, "-t", seconds, "-J"]).args(back.then_some("-R"));
            let output = client.output()?;
            match received(&output.stdout) {
                Some(speed) => return Ok(speed),
                None if begun.elapsed() < SET_UP_MAX => thread::sleep(Duration::from_millis(20)),
                None => bail!("iperf3: {}", String::from_utf8_lossy(&output.stdout)),
            }
        }
    }

    /// As [`Self::load`], with the load, what carries its packets and the server on one core. A sleeper on another core costs a
    /// virtual machine more to wake than all the packets do, and where everybody fell asleep is chance.
    pub fn load_on_one_core(&mut self, arguments: &[&str]) -> Result<Vec<f64>> {
        let all = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).context("a process has a core")?);
        let processes: Vec<u32> = self.carrier.iter_mut().chain([&mut self.server]).map(Talker::id).collect();
        let numbers = keep_on(&one, &processes).and_then(|()| self.load(arguments));
        keep_on(&all, &processes)?;
        numbers
    }

    /// The numbers that a load inside prints.
    pub fn load(&self, arguments: &[&str]) -> Result<Vec<f64>> {
        let output = self.inside.within(&self.load).args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>();
        match numbers {
            Ok(numbers) if output.status.success() && !numbers.is_empty() => Ok(numbers),
            _ => bail!("{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// Keeps the calling thread, whose children take after it, and every thread of these processes on those cores.
fn keep_on(cores: &CpuSet, processes: &[u32]) -> Result<()> {
    sched_setaffinity(None, cores)?;
    for process in processes {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let id: i32 = thread?.file_name().to_string_lossy().parse()?;
            match sched_setaffinity(Pid::from_raw(id), cores) {
                // It has ended since it was listed.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// What the far end of an iperf3 run got, in Gbit/s.
fn received(report: &[u8]) -> Option<f64> {
    let report: serde_json::Value = serde_json::from_slice(report).ok()?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().filter(|bits| *bits > 0.0)?;
    Some(bits / 1e9)
}

/// The world's namespace, with its addresses.
pub fn world(name: &str) -> Result<Namespace> {
    let world = Namespace::new(name)?;
    for number in 0..ADDRESSES.into() {
        world.ip(&format!("address add {}/32 dev lo", address(number)))?;
    }
    Ok(world)
}

/// One of the world's addresses.
pub fn address(number: usize) -> String {
    let first: Ipv4Addr = WORLD.parse().expect("it is an address");
    Ipv4Addr::from_bits(first.to_bits() + number as u32).to_string()
}

/// The platform's network between environments and the world.
pub fn carry(bench: &Bench, world: &Namespace, inside: &[&Namespace], more: &[&str]) -> Result<Talker> {
    carry_by(bound(bench.program("network-carry")?), bench, world, inside, more)
}

fn carry_by(
    mut command: Command,
    bench: &Bench,
    world: &Namespace,
    inside: &[&Namespace],
    more: &[&str],
) -> Result<Talker> {
    command.args(["--world", &world.0]).arg("--state").arg(bench.folder("carry")?).args(more);
    for namespace in inside {
        command.args(["--inside", &namespace.0]);
    }
    Talker::ready(&mut command)
}

/// A host beside the world.
fn host(name: &str, world: &Namespace) -> Result<Namespace> {
    let host = Namespace::new(&format!("{name}-host"))?;
    host.ip(&format!("link add world type veth peer name host netns {}", world.0))?;
    host.ip("address add 198.51.100.1/24 dev world")?;
    world.ip("address add 198.51.100.2/24 dev host")?;
    host.ip("link set world up")?;
    world.ip("link set host up")?;
    host.ip("route add default via 198.51.100.2")?;
    Ok(host)
}

fn masquerade(host: &Namespace, inside: &Namespace) -> Result<()> {
    host.ip(&format!("link add inside type veth peer name eth0 netns {}", inside.0))?;
    host.ip("address add 192.0.2.1/24 dev inside")?;
    inside.ip("address add 192.0.2.2/24 dev eth0")?;
    host.ip("link set inside up")?;
    inside.ip("link set eth0 up")?;
    inside.ip("route add default via 192.0.2.1")?;
    for (program, words) in [("sysctl", &["-qw", "net.ipv4.ip_forward=1"][..]), ("nft", &[RULES])] {
        if !host.within(program).args(words).status()?.success() {
            bail!("{program} {words:?} failed");
        }
    }
    Ok(())
}

fn slirp(host: &Namespace, inside: &Namespace) -> Result<Running> {
    let mut command = host.within("slirp4netns");
    command.args(["--configure", "--mtu=65520", "--netns-type=path"]);
    command.arg(Path::new("/run/netns").join(&inside.0)).arg("tap0");
    let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let begun = Instant::now();
    let is_up = || {
        let routes = inside.within("ip").args(["route", "show", "default"]).output();
        routes.is_ok_and(|routes| !routes.stdout.is_empty())
    };
    while !is_up() {
        if begun.elapsed() > SET_UP_MAX {
            bail!("slirp4netns makes no device");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(running)
}

fn run<'a>(program: &str, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut command = Command::new(program);
    let output = command.args(words).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
