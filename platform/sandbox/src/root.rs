//! The read-only root that an environment sees, built once per set of folders and cloned for each start.
//!
//! A root is a small tmpfs with the host's `/usr` bound in, minimal `/etc` and `/dev`, empty `/proc` and
//! `/tmp` to mount on, `/var/task`, `/opt` and the caller's binds. It stands in a mount namespace of its own that
//! environments are cloned from: a clone copies the mounts anyhow, and so need neither change its root nor let go of
//! an old one, which takes an RCU grace period (measured: 0.24 ms of each start).

pub(crate) mod image;

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::spec::{Bind, Spec};
use crate::syscalls;

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;

/// Roots kept built; the one unused for longest goes first.
const ROOTS_MAX: usize = 256;
const ROOT_OPTIONS: &std::ffi::CStr = c"size=2m,nr_inodes=1024,mode=755";
const DEVICES_OPTIONS: &std::ffi::CStr = c"size=4k,nr_inodes=16,mode=755";
/// Largest file of the host's `/etc` that is copied in.
const COPY_BYTES_MAX: u64 = 512 * 1024;

/// The user and group that a program sees itself as; Lambda's are of this kind (`sbx_user1051`).
pub(crate) const INSIDE_USER: u32 = 993;
pub(crate) const INSIDE_GROUP: u32 = 990;

const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib64", "lib32", "libx32"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const FOLDERS: [&str; 8] = ["usr", "etc", "dev", "proc", "tmp", "var/task", "var/tmp", "opt"];
const ETC_COPIES: [&str; 4] = ["ld.so.cache", "localtime", "mime.types", "protocols"];
const ETC_FOLDERS: [&str; 4] = ["ssl", "alternatives", "pki", "ca-certificates"];

/// What one root was built from, and the identity of the task folder: a path can come to name another folder.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    image: Vec<PathBuf>,
    task: PathBuf,
    /// Of the task folder, or of an image's layers.
    identities: Vec<(u64, u64)>,
    opt: Option<PathBuf>,
    binds: Vec<Bind>,
}

struct Built {
    namespace: Arc<OwnedFd>,
    used: u64,
    /// Whose root it is: versions with the same code share one.
    versions: HashSet<u64>,
}

/// The mount namespaces that roots are made from, and the jailer's own `/proc`.
pub(crate) struct Mounts {
    /// The host's mounts and the stage; the jailer's threads live here.
    pub host: OwnedFd,
    /// Nothing but an empty `/proc` and a place to stage.
    pub small: OwnedFd,
    pub proc: OwnedFd,
}

impl Mounts {
    /// The mount namespace that the calling thread is in.
    pub fn current(proc: &OwnedFd) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(proc, "thread-self/ns/mnt", flags, Mode::empty())?)
    }
}

/// Every root that stands ready.
pub(crate) struct Roots {
    stage: PathBuf,
    /// What all have as `/dev`; `None` within: this host lets us make no nodes.
    devices: OnceCell<Option<PathBuf>>,
    /// The folder of a [`Base`] that the next root is made of.
    base: Option<PathBuf>,
    built: HashMap<Key, Built>,
    clock: u64,
}

/// What could not be built, and why.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {error}")]
pub(crate) struct RootError {
    pub doing: String,
    pub error: io::Error,
}

fn doing<T>(what: impl FnOnce() -> String, result: io::Result<T>) -> Result<T, RootError> {
    result.map_err(|error| RootError { doing: what(), error })
}

impl Roots {
    /// `stage` is a folder in a mount namespace of our own.
    pub fn new(stage: &Path) -> Roots {
        Roots {
            stage: stage.join("roots"),
            devices: OnceCell::new(),
            base: None,
            built: HashMap::new(),
            clock: 0,
        }
    }

    /// What is to be made ahead and [put](Roots::put_base) here, for the next root; `None` when it is.
    pub fn lacks_base(&mut self) -> Option<Base> {
        if self.base.is_some() {
            return None;
        }
        self.clock += 1;
        Some(Base(self.stage.join(self.clock.to_string())))
    }

    /// Keeps what was made ahead.
    pub fn put_base(&mut self, base: Base) {
        if let Some(surplus) = self.base.replace(base.0) {
            tear_down(&surplus);
        }
    }

    /// One file system for all roots: in place of a mount for each device, which every environment has a copy of.
    fn devices(&self) -> Option<&Path> {
        let made = self.devices.get_or_init(|| {
            let folder = self.stage.join("devices");
            let made = make_devices(&folder).inspect_err(|_| tear_down(&folder));
            made.is_ok().then_some(folder)
        });
        made.as_deref()
    }

    /// The mount namespace with the root for `spec`. The calling thread is in `mounts.host`, and shares its working
    /// directory and root with no other.
    pub fn namespace(&mut self, spec: &Spec, mounts: &Mounts) -> Result<Arc<OwnedFd>, RootError> {
        let sources = if spec.image.is_empty() { std::slice::from_ref(&spec.task) } else { &spec.image[..] };
        let open = |path: &PathBuf| doing(|| format!("open {}", path.display()), open_folder(path));
        let sources = sources.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let identity = |source: &OwnedFd| -> io::Result<(u64, u64)> {
            let found = rustix::fs::fstat(source)?;
            Ok((found.st_dev, found.st_ino))
        };
        let identities = sources.iter().map(identity).collect::<io::Result<_>>();
        let key = Key {
            image: spec.image.clone(),
            task: spec.task.clone(),
            identities: doing(|| "look at the task folder".into(), identities)?,
            opt: spec.opt.clone(),
            binds: spec.binds.clone(),
        };
        self.clock += 1;
        if let Some(built) = self.built.get_mut(&key) {
            built.used = self.clock;
            built.versions.insert(spec.version_key);
            return Ok(built.namespace.clone());
        }
        while self.built.len() >= ROOTS_MAX {
            self.forget_oldest();
        }
        let base = if key.image.is_empty() { self.base.take() } else { None };
        let is_begun = base.is_some();
        let folder = base.unwrap_or_else(|| self.stage.join(self.clock.to_string()));
        let built = if !key.image.is_empty() {
            image::build(&folder, &key, &sources, self.devices())
        } else if is_begun {
            complete(&folder, &key, &sources[0], self.devices())
        } else {
            begin(&folder).and_then(|()| complete(&folder, &key, &sources[0], self.devices()))
        };
        let made = built
            .and_then(|()| doing(|| "make a mount namespace for the root".into(), enclose(&folder, mounts)));
        tear_down(&folder);
        let namespace = Arc::new(made?);
        let versions = HashSet::from([spec.version_key]);
        self.built.insert(key, Built { namespace: namespace.clone(), used: self.clock, versions });
        Ok(namespace)
    }

    /// A version is gone: hands back the roots that no other uses. They hold its code's files, also deleted ones.
    pub fn forget(&mut self, version_key: u64) -> Vec<Arc<OwnedFd>> {
        let is_unused = |built: &mut Built| built.versions.remove(&version_key) && built.versions.is_empty();
        let unused = self.built.extract_if(|_, built| is_unused(built));
        unused.map(|(_, built)| built.namespace).collect()
    }

    fn forget_oldest(&mut self) {
        let oldest = self.built.iter().min_by_key(|(_, built)| built.used).map(|(key, _)| key.clone());
        drop(oldest.and_then(|key| self.built.remove(&key)));
    }
}

/// What all roots but those of images have in common, to be made when nobody waits for it: two thirds of the time that a
/// root takes.
pub(crate) struct Base(PathBuf);

impl Base {
    /// Makes it. The calling thread is in `Mounts::host`.
    pub fn make(&self) -> Result<(), RootError> {
        begin(&self.0).inspect_err(|_| tear_down(&self.0))
    }
}

/// A mount namespace with the tree at `folder` as its root, and below its `/proc` the empty one: the kernel lets a
/// new `/proc` be mounted only where one is fully visible.
fn enclose(folder: &Path, mounts: &Mounts) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, folder, flags)?;
    syscalls::setns(mounts.small.as_fd(), libc::CLONE_NEWNS)?;
    let enclosed = enclose_here(&tree, &mounts.proc);
    syscalls::setns(mounts.host.as_fd(), libc::CLONE_NEWNS)?;
    enclosed
}

fn enclose_here(tree: &OwnedFd, proc: &OwnedFd) -> io::Result<OwnedFd> {
    syscalls::unshare(libc::CLONE_NEWNS)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", rustix::fs::CWD, "/staging", flags)?;
    rustix::mount::mount_bind("/proc", "/staging/proc")?;
    rustix::process::chdir("/staging")?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Mounts::current(proc)
}

fn tear_down(folder: &Path) {
    // An image's root lies on what it has beside its layers.
    while rustix::mount::unmount(folder, UnmountFlags::DETACH).is_ok() {}
    drop(fs::remove_dir(folder));
}

/// What does not depend on whose root it is.
fn begin(root: &Path) -> Result<(), RootError> {
    doing(|| "make the root".into(), skeleton(root))?;
    bind(Path::new("/usr"), &root.join("usr"))?;
    for name in MERGED {
        let host = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&host) else { continue };
        let inside = root.join(name);
        if metadata.is_symlink() {
            let libraries = if name == "lib64" { system_libraries(&host) } else { None };
            let linked = libraries
                .map_or_else(|| fs::read_link(&host), Ok)
                .and_then(|target| symlink(target, &inside));
            doing(|| format!("copy symlink {}", host.display()), linked)?;
        } else if metadata.is_dir() {
            doing(|| format!("make {}", inside.display()), fs::create_dir(&inside))?;
            bind(&host, &inside)?;
        }
    }
    for name in ETC_FOLDERS {
        let host = Path::new("/etc").join(name);
        if host.is_dir() {
            let inside = root.join("etc").join(name);
            doing(|| format!("make {}", inside.display()), fs::create_dir(&inside))?;
            bind(&host, &inside)?;
        }
    }
    Ok(())
}

/// Makes the root for `key` of one that has [begun](begin).
fn complete(root: &Path, key: &Key, task: &OwnedFd, devices: Option<&Path>) -> Result<(), RootError> {
    let top = doing(|| "open the root".into(), open_folder(root))?;
    let attach = |host: &Path, source: &OwnedFd, inside: &Path, folder: bool| {
        let place = doing(|| format!("make a place for {}", inside.display()), place(&top, inside, folder))?;
        doing(|| format!("bind {}", host.display()), attach(source, &place))
    };
    attach(&key.task, task, Path::new("/var/task"), true)?;
    if let Some(opt) = &key.opt {
        let source = doing(|| format!("open {}", opt.display()), open_folder(opt))?;
        attach(opt, &source, Path::new("/opt"), true)?;
    }
    for extra in &key.binds {
        let (source, folder) = open_bind(extra)?;
        attach(&extra.host, &source, &extra.inside, folder)?;
    }
    seal(root, devices)
}

/// Where the system's libraries are on a host whose `/lib64` holds the loader alone. In Lambda they are in `/lib64`, the
/// first folder that a runtime's `LD_LIBRARY_PATH` names: there the loader finds them at once, and no layer's come
/// before them. Without, each start looks for each of them in seven other folders (measured: 150 failed calls).
fn system_libraries(lib64: &Path) -> Option<PathBuf> {
    let folder = PathBuf::from(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let entries = fs::read_dir(lib64).ok()?.collect::<io::Result<Vec<_>>>().ok()?;
    let host = Path::new("/").join(&folder);
    let same = |name: &OsStr| {
        let real = |folder: &Path| fs::canonicalize(folder.join(name)).ok();
        real(&host).is_some_and(|found| real(lib64).as_ref() == Some(&found))
    };
    entries.iter().all(|entry| same(&entry.file_name())).then_some(folder).filter(|_| host.is_dir())
}

/// What a bind names, and whether it is a folder.
fn open_bind(bind: &Bind) -> Result<(OwnedFd, bool), RootError> {
    let source = doing(|| format!("open {}", bind.host.display()), open_any(&bind.host))?;
    let found = doing(|| "look at a bind".into(), rustix::fs::fstat(&source).map_err(io::Error::from))?;
    Ok((source, rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir()))
}

/// Makes the whole root read-only, and gives it its devices.
fn seal(root: &Path, devices: Option<&Path>) -> Result<(), RootError> {
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    doing(|| "make the root read-only".into(), syscalls::set_mount_attributes(root, attributes, true))?;
    // Devices come last: `nodev` on everything above must not reach them.
    if let Some(devices) = devices {
        return bind_one(devices, &root.join("dev"));
    }
    for name in DEVICES {
        let inside = root.join("dev").join(name);
        bind(&Path::new("/dev").join(name), &inside)?;
        let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY;
        doing(
            || format!("restrict /dev/{name}"),
            syscalls::set_mount_attributes(&inside, attributes, false),
        )?;
    }
    Ok(())
}

/// The tmpfs with everything that is not a mount.
fn skeleton(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    rustix::mount::mount("tmpfs", root, "tmpfs", MountFlags::NOSUID, ROOT_OPTIONS)?;
    for folder in FOLDERS {
        make_folders(root, Path::new(folder))?;
    }
    devices_and_names(root)?;
    let etc = root.join("etc");
    publish(&etc.join("nsswitch.conf"), b"passwd: files\ngroup: files\nhosts: files dns\n")?;
    for name in ETC_COPIES {
        let host = Path::new("/etc").join(name);
        let small = fs::metadata(&host).is_ok_and(|found| found.is_file() && found.len() <= COPY_BYTES_MAX);
        if small && let Ok(bytes) = fs::read(&host) {
            publish(&etc.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Mounts a `/dev` with nodes of our own at `folder`.
///
/// # Errors
/// Not as an ordinary user, nor where nodes cannot be opened.
fn make_devices(folder: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, mknodat, stat};
    fs::create_dir_all(folder)?;
    rustix::mount::mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, DEVICES_OPTIONS)?;
    for name in DEVICES {
        let (host, node) = (Path::new("/dev").join(name), folder.join(name));
        let everybody = Mode::from_raw_mode(0o666);
        mknodat(CWD, &node, FileType::CharacterDevice, everybody, stat(&host)?.st_rdev)?;
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666))?;
        fs::File::open(&node)?;
    }
    standard_streams(folder)?;
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY;
    syscalls::set_mount_attributes(folder, attributes, false)
}

fn standard_streams(dev: &Path) -> io::Result<()> {
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// What every root has: places for devices, who one is, and where names are asked for.
fn devices_and_names(root: &Path) -> io::Result<()> {
    for name in DEVICES {
        fs::write(root.join("dev").join(name), "")?;
    }
    standard_streams(&root.join("dev"))?;
    let etc = root.join("etc");
    let user = "sbx_user1051";
    let passwd = format!(
        "root:x:0:0:root:/root:/sbin/nologin\n{user}:x:{INSIDE_USER}:{INSIDE_GROUP}::/home/{user}:/sbin/nologin\n"
    );
    publish(&etc.join("passwd"), passwd.as_bytes())?;
    publish(&etc.join("group"), format!("root:x:0:\n{user}:x:{INSIDE_GROUP}:\n").as_bytes())?;
    // `sandbox` is where Lambda's telemetry finds who subscribed (Lambda Developer Guide, "Telemetry API").
    let hosts = b"127.0.0.1 localhost\n::1 localhost\n127.0.0.1 sandbox.localdomain sandbox\n";
    publish(&etc.join("hosts"), hosts)?;
    // The VPC's resolver, at the address that every VPC has it (VPC User Guide, "DNS attributes for your VPC").
    publish(&etc.join("resolv.conf"), b"nameserver 169.254.169.253\n")
}

/// Writes a file that everybody may read, whatever the umask.
fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Binds with everything mounted below: without, a tree that has submounts is refused in a user namespace.
fn bind(host: &Path, inside: &Path) -> Result<(), RootError> {
    let bound = rustix::mount::mount_bind_recursive(host, inside);
    doing(|| format!("bind {}", host.display()), bound.map_err(io::Error::from))
}

/// Binds a single mount, with its attributes.
fn bind_one(from: &Path, inside: &Path) -> Result<(), RootError> {
    let bound = rustix::mount::mount_bind(from, inside);
    doing(|| format!("bind {}", inside.display()), bound.map_err(io::Error::from))
}

/// A folder of the host by a descriptor, so that what was looked at is what is bound; the last step may be no link.
fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A folder or file of the host by a descriptor.
fn open_any(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Mounts what `source` names, with everything below, on what `place` names. No path is looked up.
fn attach(source: &OwnedFd, place: &OwnedFd) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(source, "", flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&tree, "", place, "", flags)?)
}

/// The place for a bind below `root`, made where it is missing. Only the root's own tmpfs is ever written: a place
/// inside another bind must exist. Each step is taken from a descriptor of the last and follows no link, so a folder
/// that is swapped for a link meanwhile cannot lead anywhere else.
fn place(root: &OwnedFd, inside: &Path, folder: bool) -> io::Result<OwnedFd> {
    let relative = inside.strip_prefix("/").map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let own = rustix::fs::fstat(root)?.st_dev;
    let mut at = root.try_clone()?;
    let mut components = relative.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else { return Err(io::ErrorKind::InvalidInput.into()) };
        at = match step_into(&at, name) {
            Err(rustix::io::Errno::NOENT) => {
                if rustix::fs::fstat(&at)?.st_dev != own {
                    return Err(io::Error::from_raw_os_error(libc::EROFS));
                }
                make(&at, name, components.peek().is_some() || folder)?;
                step_into(&at, name)?
            }
            found => found?,
        };
    }
    Ok(at)
}

/// One name below `at`, mounts crossed, links refused with `ELOOP`.
fn step_into(at: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{FileType, ResolveFlags, fstat, openat, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(at, name, flags, Mode::empty(), resolve) {
        // Before Linux 5.6. For a single name a look at what was opened is as good.
        Err(rustix::io::Errno::NOSYS) => {
            let found = openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
            let is_link = FileType::from_raw_mode(fstat(&found)?.st_mode).is_symlink();
            if is_link { Err(rustix::io::Errno::LOOP) } else { Ok(found) }
        }
        found => found,
    }
}

/// Makes a folder or an empty file that everybody may read, whatever the umask.
fn make(at: &OwnedFd, name: &OsStr, folder: bool) -> io::Result<()> {
    use rustix::fs::{fchmod, mkdirat, openat};
    let made = if folder {
        match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
            Err(rustix::io::Errno::EXIST) => {}
            made => made?,
        }
        openat(at, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(at, name, flags, Mode::from_raw_mode(0o644))?
    };
    Ok(fchmod(made, Mode::from_raw_mode(if folder { 0o755 } else { 0o644 }))?)
}

/// Makes folders that everybody may enter, whatever the umask.
fn make_folders(parent: &Path, relative: &Path) -> io::Result<()> {
    let mut at = parent.to_path_buf();
    for component in relative.components() {
        at.push(component);
        match fs::create_dir(&at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_root_goes_with_the_last_version_that_has_it() {
        let mut roots = Roots::new(Path::new("/nowhere"));
        for (task, versions) in [("/one", vec![1, 2]), ("/two", vec![1])] {
            let key = Key {
                image: Vec::new(),
                task: task.into(),
                identities: Vec::new(),
                opt: None,
                binds: Vec::new(),
            };
            let namespace = Arc::new(OwnedFd::from(fs::File::open("/").unwrap()));
            let versions = versions.into_iter().collect();
            roots.built.insert(key, Built { namespace, used: 1, versions });
        }
        assert_eq!(roots.forget(1).len(), 1);
        assert!(roots.forget(1).is_empty() && roots.built.keys().all(|key| key.task == Path::new("/one")));
        assert_eq!((roots.forget(2).len(), roots.built.len()), (1, 0));
    }

    fn scratch(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("sandbox-root-{}-{name}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        root
    }

    /// Where a descriptor leads.
    fn path_of(place: &OwnedFd) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd())).unwrap()
    }

    #[test]
    fn a_place_is_made_below_the_root_and_nowhere_else() {
        let root = scratch("place");
        let top = open_folder(&root).unwrap();
        let made = place(&top, Path::new("/opt/python/3.12"), true).unwrap();
        assert_eq!(path_of(&made), root.join("opt/python/3.12"));
        assert!(root.join("opt/python/3.12").is_dir());
        place(&top, Path::new("/etc/extra.conf"), false).unwrap();
        assert!(root.join("etc/extra.conf").is_file());
        for wrong in ["relative", "/a/../../b"] {
            let error = place(&top, Path::new(wrong), true).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
        symlink("/", root.join("out")).unwrap();
        let error = place(&top, Path::new("/out/etc"), true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        symlink("/etc", root.join("task")).unwrap();
        assert!(open_folder(&root.join("task")).is_err());
        fs::remove_dir_all(root).unwrap();
    }

    /// `SANDBOX_TEST_RACES` sets the rounds; `.ci/long` asks for 100,000.
    #[test]
    fn a_folder_that_is_swapped_for_a_link_never_leads_out() {
        let rounds: u32 = std::env::var("SANDBOX_TEST_RACES").map_or(2_000, |text| text.parse().unwrap());
        let root = scratch("race");
        let outside = scratch("race-outside");
        let (swapped, link) = (root.join("swapped"), root.join("link"));
        fs::create_dir(&swapped).unwrap();
        symlink(&outside, &link).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        let top = open_folder(&root).unwrap();
        let (mut reached, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let (from, to, exchange) = (&swapped, &link, rustix::fs::RenameFlags::EXCHANGE);
                    rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, exchange).unwrap();
                }
            });
            // On a busy machine the other thread may not get its turn for all of the rounds.
            let enough = |round, reached, refused| round >= rounds && reached > 0 && refused > 0;
            for round in 0..rounds.saturating_mul(100) {
                if enough(round, reached, refused) {
                    break;
                }
                match place(&top, Path::new(&format!("/swapped/{}", round % 8)), true) {
                    Ok(place) => {
                        assert!(path_of(&place).starts_with(&root), "{:?}", path_of(&place));
                        reached += 1;
                    }
                    Err(_) => refused += 1,
                }
                if let Ok(task) = open_folder(&swapped) {
                    assert!(path_of(&task).starts_with(&root), "{:?}", path_of(&task));
                }
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
        assert!(reached > 0 && refused > 0, "no race was run: {reached} reached, {refused} refused");
        fs::remove_dir_all(root).unwrap();
        fs::remove_dir_all(outside).unwrap();
    }
}
