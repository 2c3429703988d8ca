//! Watches over the world: when its device, the route to it, or its namespace go away, it is opened again as soon as that
//! works; when the host's default route leads elsewhere, forwarding follows it.

use super::{DEVICE, OURS, Outside, World, WorldError, enter, forwarding, namespace_path};
use netdev::netlink::Socket;
use netdev::route;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between two looks; each costs a few system calls.
const PERIOD: Duration = Duration::from_secs(1);

/// The watching thread. Dropping it ends the watch.
#[derive(Debug)]
pub struct Keeper {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What tells one world from another of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u32,
    namespace: Option<u64>,
}

impl Keeper {
    /// Watches a world that was opened (`is_open`), or could not be. `tell` gets `None` when it is gone and the new one
    /// when it is back, on the watching thread.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(
        world: World,
        is_open: bool,
        state_dir: PathBuf,
        tell: impl Fn(Option<Outside>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (end, ended) = channel();
        let life = move || watch(&world, is_open, &state_dir, &ended, &tell);
        let thread =
            std::thread::Builder::new().name("world-keeper".into()).stack_size(256 * 1024).spawn(life)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    world: &World,
    mut is_open: bool,
    state_dir: &Path,
    ended: &Receiver<()>,
    tell: &dyn Fn(Option<Outside>),
) {
    let mut known = if is_open { identity(world) } else { None };
    let told = (*world == World::Host)
        .then(|| Socket::told_of((libc::RTMGRP_LINK | libc::RTMGRP_IPV4_ROUTE) as u32).ok())
        .flatten();
    if is_open && told.is_some() {
        // It may have led elsewhere before anybody was told.
        follow_uplink(state_dir);
    }
    while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        let found = identity(world);
        if known.is_some() && found == known {
            if told.as_ref().is_some_and(Socket::was_told) {
                follow_uplink(state_dir);
            }
            continue;
        }
        if known.is_some() {
            tracing::warn!(%world, "the world is gone; functions reach nothing outside until it is back");
            // First of all, so that what is left of the old one ends.
            tell(None);
            (known, is_open) = (None, false);
        }
        match world.open(state_dir) {
            Ok(Some(outside)) => {
                (known, is_open) = (identity(world), true);
                tracing::info!(%world, "the world is back");
                tell(Some(outside));
            }
            Ok(None) => return,
            // It is ours, and somebody's rule led elsewhere for a while.
            Err(WorldError::Taken { .. }) if is_open => known = found,
            Err(error) => tracing::debug!(%error, "the world is not back yet"),
        }
    }
}

/// Another device may have the host's default route now, or what VPNs put before it: two routes of half the internet each.
fn follow_uplink(state_dir: &Path) {
    let towards = route::device_towards(route::INTERNET).ok().flatten();
    for uplink in route::uplinks().unwrap_or_default().into_iter().chain(towards) {
        if let Err(error) = route::name(uplink).and_then(|name| forwarding::allow_also(state_dir, &name)) {
            tracing::warn!(%error, "cannot allow forwarding for the device of the default route");
        }
    }
}

/// What there is now; `None` without a device or a route to it.
fn identity(world: &World) -> Option<Identity> {
    match world {
        World::None | World::Relay => None,
        World::Host => Some(Identity { device: leading_here()?, namespace: None }),
        World::Namespace(name) => std::thread::scope(|scope| {
            let look = || {
                let namespace = std::fs::metadata(namespace_path(name)).ok()?.ino();
                enter(name).ok()?;
                Some(Identity { device: leading_here()?, namespace: Some(namespace) })
            };
            scope.spawn(look).join().ok().flatten()
        }),
    }
}

/// The device, by its index, where answers find it: a link that was down for a moment has lost its routes.
fn leading_here() -> Option<u32> {
    let device = route::index(DEVICE).ok()?;
    (route::device_towards(OURS.0).ok()? == Some(device)).then_some(device)
}
