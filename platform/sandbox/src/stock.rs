//! Parts made ahead, and parts that go round within one function version.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use netdev::device::Kind;

use crate::address::Blocks;
use crate::cgroup::{ControlGroups, Group};
use crate::network::{Network, Nursery};
use crate::spec::PoolSizes;
use crate::temporary::{Temporaries, Temporary};
use crate::users::{Lease, Shared};

/// Processes and threads of one environment (AWS Lambda Developer Guide, "Lambda quotas").
pub(crate) const PROCESSES_MAX: u32 = 1_024;
/// The version that blank environments take parts for: none that exists.
pub(crate) const BLANK: u64 = u64::MAX - 1;
/// Below a quarter of its size a stock is low.
const LOW_SHARE: usize = 4;
/// Used networks and file systems kept per version, and in all.
const RECYCLED_PER_VERSION_MAX: usize = 64;
const RECYCLED_MAX: usize = 256;

/// Things kept for the version that used them. Nothing ever goes to another version: what a network
/// namespace counted stays readable in `/proc/net` (measured).
struct Recycled<T> {
    by_version: HashMap<u64, Vec<T>>,
    /// Versions in the order in which things came, so that the oldest goes first.
    order: VecDeque<u64>,
}

impl<T> Recycled<T> {
    fn new() -> Recycled<T> {
        Recycled { by_version: HashMap::new(), order: VecDeque::new() }
    }

    /// Keeps `thing`; hands back what has to go for it.
    fn put(&mut self, version_key: u64, thing: T) -> Option<T> {
        let kept = self.by_version.entry(version_key).or_default();
        if kept.len() >= RECYCLED_PER_VERSION_MAX {
            return Some(thing);
        }
        kept.push(thing);
        self.order.push_back(version_key);
        if self.order.len() <= RECYCLED_MAX {
            return None;
        }
        let oldest = self.order.front().copied()?;
        self.take(oldest)
    }

    fn has(&self, version_key: u64) -> bool {
        self.by_version.contains_key(&version_key)
    }

    fn take(&mut self, version_key: u64) -> Option<T> {
        let kept = self.by_version.get_mut(&version_key)?;
        let thing = kept.pop();
        if kept.is_empty() {
            self.by_version.remove(&version_key);
        }
        if let Some(at) = self.order.iter().position(|key| *key == version_key) {
            self.order.remove(at);
        }
        thing
    }

    /// Hands back all that is kept for a version.
    fn forget(&mut self, version_key: u64) -> Vec<T> {
        let Some(kept) = self.by_version.remove(&version_key) else { return Vec::new() };
        self.order.retain(|key| *key != version_key);
        kept
    }
}

/// A user id of its own for an environment, and once one has run as that user, the user namespace that maps it: another
/// life of the same version enters it, where making one and writing its maps are a twentieth of a start (measured).
pub(crate) struct User {
    pub id: u32,
    pub namespace: Option<OwnedFd>,
}

/// User ids that no living environment has.
struct Users {
    /// Never used yet.
    unused: Range<u32>,
    /// Used before, the longest ago first.
    used: VecDeque<u32>,
}

/// Everything that starts draw from. Methods that make something may take milliseconds; no lock is held then.
pub(crate) struct Stock {
    sizes: PoolSizes,
    tmp_mb: u32,
    groups_of: Arc<ControlGroups>,
    temporaries_of: Temporaries,
    nursery: OnceLock<Nursery>,
    /// Addresses of interfaces; `None`: networks hold loopback alone.
    blocks: OnceLock<Blocks>,
    networks: Mutex<Vec<Network>>,
    used_networks: Mutex<Recycled<Network>>,
    groups: Mutex<Vec<Group>>,
    used_groups: Mutex<Recycled<Group>>,
    temporaries: Mutex<Vec<Temporary>>,
    used_temporaries: Mutex<Recycled<Temporary>>,
    users: Mutex<Users>,
    used_users: Mutex<Recycled<User>>,
    lease: Option<Lease>,
    /// How many of each part blank environments hold: as good as in stock.
    lent: AtomicUsize,
    next_group: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Stock {
    /// `lease`: none where environments get no user ids of their own.
    pub fn new(
        sizes: PoolSizes,
        tmp_mb: u32,
        groups: Arc<ControlGroups>,
        temporaries: Temporaries,
        lease: Option<Lease>,
    ) -> Stock {
        let unused = lease.as_ref().map_or(0..0, |lease| lease.users.clone());
        Stock {
            sizes,
            tmp_mb,
            groups_of: groups,
            temporaries_of: temporaries,
            nursery: OnceLock::new(),
            blocks: OnceLock::new(),
            networks: Mutex::default(),
            used_networks: Mutex::new(Recycled::new()),
            groups: Mutex::default(),
            used_groups: Mutex::new(Recycled::new()),
            temporaries: Mutex::default(),
            used_temporaries: Mutex::new(Recycled::new()),
            users: Mutex::new(Users { unused, used: VecDeque::new() }),
            lease,
            used_users: Mutex::new(Recycled::new()),
            lent: AtomicUsize::new(0),
            next_group: AtomicU64::new(1),
        }
    }

    /// Why another platform's environments may have the same user ids, if they may.
    pub fn users_shared(&self) -> Option<&Shared> {
        self.lease.as_ref()?.shared.as_ref()
    }

    /// The size of `/tmp` that is made ahead, MiB.
    pub fn tmp_mb(&self) -> u32 {
        self.tmp_mb
    }

    /// `count` blank environments have taken parts.
    pub fn lend(&self, count: usize) {
        self.lent.fetch_add(count, Ordering::Relaxed);
    }

    /// `count` blank environments are none any more.
    pub fn take_back(&self, count: usize) {
        self.lent.fetch_sub(count, Ordering::Relaxed);
    }

    /// Whether there is a network that this version has used: with it come the other parts.
    pub fn has_used(&self, version_key: u64) -> bool {
        locked(&self.used_networks).has(version_key)
    }

    /// Whether `/tmp` is counted as the group's memory.
    pub fn tmp_counts_as_memory(&self) -> bool {
        self.temporaries_of.counts_as_memory()
    }

    /// From now on each network gets an interface; says of which kind. Called before the first is made.
    ///
    /// # Errors
    /// This host cannot make one. The calling thread may end up in another network namespace.
    pub fn offer_interfaces(&self) -> io::Result<Kind> {
        let blocks = Blocks::default();
        let network = Network::create(self.nursery()?, Some(&blocks))?;
        let kind = network.interface().map_or(Kind::Tun, |(device, _)| Kind::of(device));
        drop(network);
        drop(self.blocks.set(blocks));
        Ok(kind)
    }

    fn nursery(&self) -> io::Result<&Nursery> {
        if self.nursery.get().is_none() {
            drop(self.nursery.set(Nursery::create()?));
        }
        Ok(self.nursery.get().expect("just set, here or by another thread"))
    }

    fn make_network(&self) -> io::Result<Network> {
        Network::create(self.nursery()?, self.blocks.get())
    }

    /// A network this version has used, one from the stock, or a new one; the calling thread may end up inside.
    pub fn take_network(&self, version_key: u64) -> io::Result<Network> {
        let used = locked(&self.used_networks).take(version_key);
        let ready = used.or_else(|| locked(&self.networks).pop());
        ready.map_or_else(|| self.make_network(), Ok)
    }

    /// Takes a network back; what comes back out must be destroyed, slowly. The calling thread ends up inside.
    pub fn put_network(&self, version_key: u64, mut network: Network) -> Option<Network> {
        if network.renew().and_then(|()| network.clean()).is_err() {
            return Some(network);
        }
        locked(&self.used_networks).put(version_key, network)
    }

    /// A group of its own for one life of one environment: one this version has used, one from the stock, or
    /// a new one. `None` where the host has no groups for us.
    pub fn take_group(&self, version_key: u64) -> io::Result<Option<Group>> {
        let used = locked(&self.used_groups).take(version_key);
        if used.is_some() {
            return Ok(used);
        }
        let ready = locked(&self.groups).pop();
        if ready.is_some() { Ok(ready) } else { self.make_group() }
    }

    /// Takes back the group of an environment whose processes are gone: kept for its version, or removed.
    pub fn put_group(&self, version_key: u64, group: Group) {
        let surplus = match self.groups_of.refresh(&group) {
            Ok(()) => locked(&self.used_groups).put(version_key, group),
            Err(_) => Some(group),
        };
        if let Some(group) = surplus {
            drop(self.groups_of.remove(&group.name));
        }
    }

    fn make_group(&self) -> io::Result<Option<Group>> {
        // One more for the supervisor, which is ours.
        let name = format!("e{}", self.next_group.fetch_add(1, Ordering::Relaxed));
        self.groups_of.create(&name, PROCESSES_MAX + 1)
    }

    /// A file system for `/tmp`, empty.
    pub fn take_temporary(&self, version_key: u64, size_mb: u32) -> io::Result<Temporary> {
        let used = locked(&self.used_temporaries).take(version_key);
        if let Some(temporary) = used.filter(|temporary| temporary.size_mb == size_mb) {
            return Ok(temporary);
        }
        let ready = if size_mb == self.tmp_mb { locked(&self.temporaries).pop() } else { None };
        ready.map_or_else(|| self.temporaries_of.create(size_mb), Ok)
    }

    /// Takes a file system back: wiped and kept for its version, or destroyed.
    pub fn put_temporary(&self, version_key: u64, temporary: Temporary) {
        if temporary.wipe() {
            let surplus = locked(&self.used_temporaries).put(version_key, temporary);
            drop(surplus);
        }
    }

    /// Destroys what is kept for a version that is gone. Networks are handed back, to be destroyed slowly.
    pub fn forget(&self, version_key: u64) -> Vec<Network> {
        let groups = locked(&self.used_groups).forget(version_key);
        for group in groups {
            drop(self.groups_of.remove(&group.name));
        }
        let temporaries = locked(&self.used_temporaries).forget(version_key);
        drop(temporaries);
        let users = locked(&self.used_users).forget(version_key);
        locked(&self.users).used.extend(users.iter().map(|user| user.id));
        locked(&self.used_networks).forget(version_key)
    }

    /// A user id that no living environment has: one that this version has used, or any. Ids go round, so one is not used
    /// by another version for long.
    pub fn take_user(&self, version_key: u64) -> Option<User> {
        let used = locked(&self.used_users).take(version_key);
        used.or_else(|| {
            let users = &mut *locked(&self.users);
            let id = users.unused.next().or_else(|| users.used.pop_front())?;
            Some(User { id, namespace: None })
        })
    }

    /// Takes back the user id of an environment whose processes are gone: kept for its version with its namespace, if that
    /// comes along.
    pub fn put_user(&self, version_key: u64, user: User) {
        let surplus = match user.namespace {
            Some(_) => locked(&self.used_users).put(version_key, user),
            None => Some(user),
        };
        if let Some(user) = surplus {
            locked(&self.users).used.push_back(user.id);
        }
    }

    /// Whether so little is made ahead that the next starts would have to wait for parts.
    pub fn is_low(&self) -> bool {
        let lent = self.lent.load(Ordering::Relaxed);
        let low = |ready: usize, size: usize| ready + lent < size.div_ceil(LOW_SHARE);
        low(locked(&self.networks).len(), self.sizes.networks)
            || low(locked(&self.temporaries).len(), self.sizes.temporaries)
            || (!self.groups_of.folders().is_empty() && low(locked(&self.groups).len(), self.sizes.groups))
    }

    /// Makes one missing part. `false` when nothing is missing. The calling thread may end up in another
    /// network namespace.
    pub fn refill(&self) -> io::Result<bool> {
        let lent = self.lent.load(Ordering::Relaxed);
        if locked(&self.networks).len() + lent < self.sizes.networks {
            let network = self.make_network()?;
            locked(&self.networks).push(network);
        } else if locked(&self.groups).len() + lent < self.sizes.groups {
            let Some(group) = self.make_group()? else { return self.refill_temporary() };
            locked(&self.groups).push(group);
        } else {
            return self.refill_temporary();
        }
        Ok(true)
    }

    fn refill_temporary(&self) -> io::Result<bool> {
        let lent = self.lent.load(Ordering::Relaxed);
        if locked(&self.temporaries).len() + lent >= self.sizes.temporaries {
            return Ok(false);
        }
        let temporary = self.temporaries_of.create(self.tmp_mb)?;
        locked(&self.temporaries).push(temporary);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recycled_things_stay_within_their_version() {
        let mut recycled = Recycled::new();
        assert_eq!(recycled.put(1, "a"), None);
        assert_eq!(recycled.put(2, "b"), None);
        assert_eq!(recycled.take(3), None);
        assert_eq!(recycled.take(2), Some("b"));
        assert_eq!(recycled.take(2), None);
        assert_eq!(recycled.take(1), Some("a"));
    }

    #[test]
    fn what_was_kept_for_a_version_goes_with_it() {
        let mut recycled = Recycled::new();
        for (version, thing) in [(1, "a"), (2, "b"), (1, "c")] {
            assert_eq!(recycled.put(version, thing), None);
        }
        assert_eq!(recycled.forget(1), ["a", "c"]);
        assert!(recycled.forget(1).is_empty() && !recycled.has(1));
        assert_eq!((recycled.order.len(), recycled.take(2)), (1, Some("b")));
    }

    #[test]
    fn recycled_things_are_bounded_per_version_and_in_all() {
        let mut recycled = Recycled::new();
        for thing in 0..RECYCLED_PER_VERSION_MAX {
            assert_eq!(recycled.put(1, thing), None);
        }
        assert_eq!(recycled.put(1, 999), Some(999));
        let mut pushed_out = 0;
        for version in 2..(RECYCLED_MAX as u64 + 2) {
            pushed_out += usize::from(recycled.put(version, 0).is_some());
        }
        assert_eq!(pushed_out, RECYCLED_PER_VERSION_MAX);
        assert!(recycled.by_version.values().map(Vec::len).sum::<usize>() <= RECYCLED_MAX);
    }
}
