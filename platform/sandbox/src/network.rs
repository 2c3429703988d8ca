//! Network namespaces, made ahead, with the listener that stands inside each and, when asked for, an interface.
//!
//! The interface `eth0` is a TUN device, or where those cannot be had an end of a pair: what the environment sends is read
//! from its descriptor, whoever holds that.
//! Recipe and figures: a namespace 0.23 ms, the device 0.07 ms, its settings in one netlink send 0.06 ms (measured).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use netdev::device::{self, Kind, Maker};
use netdev::netlink::{Batch, Socket};
use netdev::route;
use netdev::{linger, tun};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};

use crate::address::{Block, Blocks, Lease};
use crate::syscalls;

/// Where the Runtime API is found inside an environment (AWS_LAMBDA_RUNTIME_API).
pub(crate) const RUNTIME_API: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001);
/// Connections that may wait to be accepted. A runtime and its extensions need a handful.
const BACKLOG: i32 = 128;
const DEVICE: &std::ffi::CStr = c"eth0";
/// What most networks carry. Larger TCP packets leave the device whole all the same and are cut at the end.
const MTU: u32 = 1_500;
/// Of a pair: it takes in no packet that is larger, where a TUN device takes in every one. Its route keeps what it sends small.
const MTU_OF_PAIRS: u32 = 65_535;
/// A /30: the environment and the other side.
const PREFIX: u8 = 30;
const PREFIX_6: u8 = 126;

/// Buckets of a namespace's own table of TCP connections, 8 bytes each; half as many connections may be in TIME_WAIT,
/// as many as one program has descriptors. In the host's table, of 262,144 on a machine of 24 GB, looking for an
/// environment's last connections takes 0.6 ms (measured); here 4 us.
const CONNECTION_BUCKETS: &str = "2048";

/// Namespaces whose settings are written through one instance of `/proc`. The kernel remembers each setting that was
/// looked up, under the same name for all namespaces: with 1,000 of them finding one takes 0.6 ms and its traces 1 KB
/// each (measured). A new instance remembers nothing.
const WRITTEN_PER_PROC: u32 = 64;

/// The namespace that all others are made from: they get from it what only a parent can give.
pub(crate) struct Nursery {
    namespace: OwnedFd,
    settings: Mutex<Settings>,
    devices: Maker,
}

/// An instance of `/proc` that nobody else sees, for the settings of new namespaces.
#[derive(Default)]
struct Settings {
    proc: Option<OwnedFd>,
    written: u32,
}

impl Settings {
    /// Writes one setting of the calling thread's network namespace; `path` is below `/proc`.
    fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        if self.written.is_multiple_of(WRITTEN_PER_PROC) {
            // Where there can be none, the usual one serves.
            self.proc = Self::proc().ok();
        }
        self.written = self.written.wrapping_add(1);
        let Some(proc) = &self.proc else { return fs::write(Path::new("/proc").join(path), value) };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(proc, path, flags, Mode::empty())?;
        rustix::io::write(&file, value.as_bytes())?;
        Ok(())
    }

    fn proc() -> io::Result<OwnedFd> {
        use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        let restricted = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, restricted)?)
    }
}

impl Nursery {
    /// **The calling thread ends up inside.**
    pub fn create() -> io::Result<Nursery> {
        syscalls::unshare(libc::CLONE_NEWNET)?;
        // Since Linux 6.1; before, namespaces share the host's table.
        drop(fs::write("/proc/sys/net/ipv4/tcp_child_ehash_entries", CONNECTION_BUCKETS));
        Ok(Nursery { namespace: current()?, settings: Mutex::default(), devices: Maker::default() })
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).write(path, value)
    }
}

/// Whether we may have the kernel forget what TCP has learnt: an ordinary user may not, and must keep it from learning.
/// Tried once, in the calling thread's namespace.
fn may_forget_peers() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| linger::forget_peers().is_ok())
}

/// Leaves the queue before the first device out, and says whether that can be done with each further one.
fn leave_out_queue(index: u32) -> bool {
    static LEAVES: OnceLock<bool> = OnceLock::new();
    *LEAVES.get_or_init(|| {
        let mut batch = Batch::default();
        route::no_queue(&mut batch, index);
        Socket::route().and_then(|socket| socket.send(batch)).is_ok()
    })
}

fn kernel_speaks_ipv6() -> bool {
    static SPEAKS: OnceLock<bool> = OnceLock::new();
    *SPEAKS.get_or_init(|| Path::new("/proc/sys/net/ipv6").exists())
}

/// The calling thread's namespace.
fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?)
}

/// One network namespace and the listener in it.
pub(crate) struct Network {
    namespace: OwnedFd,
    listener: Option<OwnedFd>,
    interface: Option<Interface>,
}

/// The device inside.
struct Interface {
    device: OwnedFd,
    lease: Lease,
    dual_stack: bool,
}

impl Network {
    /// Makes a namespace with loopback up and a listener, and with `blocks` an interface that has an address of them.
    /// **The calling thread ends up inside.**
    pub fn create(nursery: &Nursery, blocks: Option<&Blocks>) -> io::Result<Network> {
        syscalls::setns(nursery.namespace.as_fd(), libc::CLONE_NEWNET)?;
        syscalls::unshare(libc::CLONE_NEWNET)?;
        let namespace = current()?;
        let interface = match blocks {
            Some(blocks) => Some(Interface::create(nursery, blocks)?),
            None => {
                syscalls::bring_up_loopback(tcp_socket()?.as_fd())?;
                None
            }
        };
        Ok(Network { namespace, listener: Some(listen(RUNTIME_API)?), interface })
    }

    /// The namespace, for a process to be cloned in.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The device's descriptor and its block, if there is an interface.
    pub fn interface(&self) -> Option<(BorrowedFd<'_>, Block)> {
        self.interface.as_ref().map(|interface| (interface.device.as_fd(), interface.lease.block()))
    }

    /// Gives the interface an IPv6 address too, if it has none. **The calling thread may end up inside.**
    pub fn speak_ipv6(&mut self) -> io::Result<()> {
        match &mut self.interface {
            Some(interface) if !interface.dual_stack => {
                syscalls::setns(self.namespace.as_fd(), libc::CLONE_NEWNET)?;
                interface.speak_ipv6()
            }
            _ => Ok(()),
        }
    }

    /// Puts a new listener in place of the old. Whatever the last program left unread in the backlog is refused, never
    /// read by the next. **The calling thread ends up inside.**
    ///
    /// # Errors
    /// When somebody still holds the old port: then the namespace must not be used again.
    pub fn renew(&mut self) -> io::Result<()> {
        self.silence();
        syscalls::setns(self.namespace.as_fd(), libc::CLONE_NEWNET)?;
        self.listener = Some(listen(RUNTIME_API)?);
        Ok(())
    }

    /// Takes away what the kernel keeps of the last environment's connections, whose processes are all gone. The calling
    /// thread is inside.
    ///
    /// # Errors
    /// When something may be left: then the namespace must not be used again.
    pub fn clean(&mut self) -> io::Result<()> {
        if let Some(interface) = &self.interface {
            linger::end_connections()?;
            if may_forget_peers() {
                linger::forget_peers()?;
            }
            device::drain(&interface.device);
        }
        Ok(())
    }

    /// The listener, to hand out.
    ///
    /// # Errors
    /// When the last was silenced and not renewed.
    pub fn listener(&self) -> io::Result<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// A TCP socket inside. **The calling thread ends up inside.**
    pub fn socket(&self) -> io::Result<OwnedFd> {
        syscalls::setns(self.namespace.as_fd(), libc::CLONE_NEWNET)?;
        tcp_socket()
    }

    /// Ends listening, whoever else holds the listener, and gives the port back.
    fn silence(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = rustix::net::shutdown(&listener, Shutdown::Both);
        }
    }
}

impl Interface {
    /// In the calling thread's namespace, which is new: the device, loopback, the address and the default route.
    fn create(nursery: &Nursery, blocks: &Blocks) -> io::Result<Interface> {
        let exhausted = || io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        let lease = blocks.take().ok_or_else(exhausted)?;
        // Echo requests without a privilege, as Amazon Linux and most others have it: `ping` works.
        drop(nursery.write("sys/net/ipv4/ping_group_range", "0 2147483647"));
        let device = nursery.devices.open(DEVICE, tun::Life::Namespace)?;
        let index = route::index(DEVICE)?;
        if !may_forget_peers() {
            // What one environment learnt of its peers is no business of the next.
            nursery.write("sys/net/ipv4/tcp_no_metrics_save", "1")?;
        }
        let mut batch = Batch::default();
        // Said by netlink: a setting in /proc/sys is looked up among those of all namespaces (measured: with 1,000 of
        // them 0.2 ms each).
        if kernel_speaks_ipv6() {
            route::no_own_ipv6_address(&mut batch, index);
        }
        if leave_out_queue(index) {
            route::no_queue(&mut batch, index);
        }
        route::up(&mut batch, route::LOOPBACK, None);
        let kind = Kind::of(&device);
        route::up(&mut batch, index, Some(if kind == Kind::Pair { MTU_OF_PAIRS } else { MTU }));
        route::address(&mut batch, index, (IpAddr::V4(lease.block().address()), PREFIX));
        default_route(&mut batch, index, kind, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Socket::route()?.send(batch)?;
        Ok(Interface { device, lease, dual_stack: false })
    }

    /// The calling thread is inside.
    fn speak_ipv6(&mut self) -> io::Result<()> {
        fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0")?;
        let index = route::index(DEVICE)?;
        let mut batch = Batch::default();
        route::address(&mut batch, index, (IpAddr::V6(self.lease.block().address6()), PREFIX_6));
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        default_route(&mut batch, index, Kind::of(&self.device), any);
        Socket::route()?.send(batch)?;
        self.dual_stack = true;
        Ok(())
    }
}

fn default_route(batch: &mut Batch, index: u32, kind: Kind, any: IpAddr) {
    route::route(batch, index, (any, 0), None, kind.way(any));
    if kind == Kind::Pair {
        route::at_most(batch, MTU);
    }
}

/// A listener on a free loopback port of the host, for environments without namespaces.
pub(crate) fn listen_on_host() -> io::Result<(OwnedFd, String)> {
    let listener = listen(SocketAddrV4::new(*RUNTIME_API.ip(), 0))?;
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&listener)?)?;
    Ok((listener, address.to_string()))
}

/// A non-blocking TCP socket in the calling thread's network namespace.
pub(crate) fn tcp_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}

fn listen(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let listener = tcp_socket()?;
    // Connections of the last environment may linger in TIME_WAIT.
    rustix::net::sockopt::set_socket_reuseaddr(&listener, true)?;
    rustix::net::bind(&listener, &address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}
