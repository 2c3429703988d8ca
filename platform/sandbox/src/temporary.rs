//! `/tmp`: private, limited in bytes and inodes, and not counted as memory where the host allows.
//!
//! As root each environment gets a file system of its own on a loop device over a sparse image. A process's
//! writes then are page cache that the kernel can write back and drop, so a 128 MB function may hold 400 MB
//! in `/tmp`, and a full one answers ENOSPC as Lambda's does. (One image with project quotas would be cheaper
//! but answers EDQUOT on ext4, and kernels without quota support are common.) Elsewhere it is a tmpfs, whose
//! pages are the group's memory; the caller then raises the memory limit by the size.
//!
//! A disk, that is an image with its loop device, is kept when its file system is unmounted, and formatted anew
//! for the next: making a disk costs more than writing 60 KB of fresh tables, and deleting an image can cost
//! the host tens of milliseconds. Fresh tables name none of the old blocks, so nothing can be read back. The
//! devices free themselves when the jailer ends, however it ends; the images stay in the state folder and are
//! taken up by the next run. Images are opened through a copy of the mount they lie in: an image holds its mount, and the
//! file systems on images are mounted below that mount. Where its mountpoint is removed, the kernel keeps the two together,
//! and each would wait for the other until the host restarts.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags, flock, openat, statx};
use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags};

use crate::syscalls;

/// Inodes of `/tmp`, the figure of a `/tmp` in Lambda (unconfirmed).
const INODES: u32 = 65_536;
/// Bytes per inode in the image, the smallest that holds times past 2038.
const INODE_BYTES: u32 = 256;
/// Space for ext4's own tables beside the inodes, MiB, and what it holds back for delayed allocation: 2 %, at
/// most 16 MiB.
const TABLES_MB: u64 = 4;
const HELD_BACK_MB_MAX: u64 = 16;
/// A used file system is wiped for reuse up to this many inodes and bytes; above, a new one is cheaper.
const WIPE_INODES_MAX: u64 = 64;
const WIPE_BYTES_MAX: u64 = 4 << 20;
/// Attempts to get a loop device that another process may be taking at the same time.
const LOOP_ATTEMPTS: u32 = 64;
/// An image that holds more than this on the host's disk is deleted rather than kept.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// Images of an earlier run that are taken up; the others are deleted.
const ADOPTED_MAX: usize = 128;
/// Free disks that are tried before a new one is made: a mount can live on for a moment in a dying namespace.
const FREE_TRIED_MAX: usize = 4;
/// How a file system is mounted. The kernel's thread need not look at each for tables to write or read ahead, where most
/// hold a few files, if any. Files that happen to have the same extended attributes need not share them: the cache for it
/// takes 8 KB of each file system.
const OPTIONS: &CStr = c"noinit_itable,no_prefetch_block_bitmaps,barrier=0,nombcache";
const OPTIONS_BEFORE: &CStr = c"noinit_itable,barrier=0,nombcache";
const MKFS_PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// One file system for one environment, mounted in the jailer's mount namespace.
pub(crate) struct Temporary {
    folder: PathBuf,
    pub size_mb: u32,
    /// Used inodes and bytes when new; `None` for a tmpfs, which is never reused.
    fresh: Option<(u64, u64)>,
    disk: Option<(Disk, Arc<Disks>)>,
}

impl Temporary {
    /// A detached copy of the mount, to be attached in an environment.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(CWD, &self.folder, flags)?)
    }

    /// Empties it. `false` when a new one is the better choice.
    pub fn wipe(&self) -> bool {
        let Some(fresh) = self.fresh else { return false };
        let Ok(used) = used(&self.folder) else { return false };
        if used.0.saturating_sub(fresh.0) > WIPE_INODES_MAX || used.1.saturating_sub(fresh.1) > WIPE_BYTES_MAX
        {
            return false;
        }
        if used == fresh {
            return true;
        }
        empty(&self.folder).is_ok() && self::used(&self.folder).is_ok_and(|used| used.0 == fresh.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.folder, UnmountFlags::DETACH);
        drop(fs::remove_dir(&self.folder));
        if let Some((disk, disks)) = self.disk.take() {
            disks.put(self.size_mb, disk);
        }
    }
}

/// Used inodes and bytes.
fn used(folder: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(folder)?;
    Ok((found.f_files - found.f_ffree, (found.f_blocks - found.f_bfree) * found.f_frsize))
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// An image and the loop device it is behind.
struct Disk {
    image: File,
    image_path: PathBuf,
    device: File,
    device_name: String,
}

/// What a fresh file system consists of: offsets and bytes; all else is zero or never read.
type Template = Arc<Vec<(u64, Vec<u8>)>>;

/// Every disk that is not in use, and how to make more.
struct Disks {
    images: PathBuf,
    /// The same folder, in a mount that nothing is mounted below.
    folder: OwnedFd,
    control: OwnedFd,
    /// One per size, MiB.
    templates: Mutex<HashMap<u32, Template>>,
    free: Mutex<HashMap<u32, Vec<Disk>>>,
    /// Images of an earlier run, with their size.
    adopted: Mutex<Vec<(u32, PathBuf)>>,
    next: AtomicU64,
}

/// Makes file systems for `/tmp`.
pub(crate) struct Temporaries {
    stage: PathBuf,
    disks: Option<Arc<Disks>>,
    next: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Temporaries {
    /// `stage` is a folder in a mount namespace of our own, `images` one on a disk. Without `loops`, or when
    /// they turn out not to work, everything is tmpfs; the second value then says why.
    pub fn new(
        stage: &Path,
        images: &Path,
        loops: bool,
        size_mb: u32,
    ) -> io::Result<(Temporaries, Option<String>)> {
        let stage = stage.join("tmp");
        fs::create_dir_all(&stage)?;
        let mut temporaries = Temporaries { stage, disks: None, next: AtomicU64::new(0) };
        if !loops {
            return Ok((temporaries, Some("only root may use loop devices".into())));
        }
        let refusal = temporaries.try_loops(images, size_mb).err().map(|error| error.to_string());
        if refusal.is_some() {
            temporaries.disks = None;
        }
        Ok((temporaries, refusal))
    }

    fn try_loops(&mut self, images: &Path, size_mb: u32) -> io::Result<()> {
        self.disks = Some(Arc::new(Disks::open(images)?));
        self.create(size_mb).map(drop)
    }

    /// Whether `/tmp` is counted as the group's memory.
    pub fn counts_as_memory(&self) -> bool {
        self.disks.is_none()
    }

    /// Makes an empty file system of `size_mb` MiB.
    pub fn create(&self, size_mb: u32) -> io::Result<Temporary> {
        let folder = self.stage.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder)?;
        let mut temporary = Temporary { folder, size_mb, fresh: None, disk: None };
        let Some(disks) = &self.disks else {
            let options = std::ffi::CString::new(format!("size={size_mb}m,nr_inodes={INODES},mode=1777"))?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("tmpfs", &temporary.folder, "tmpfs", flags, options.as_c_str())?;
            return Ok(temporary);
        };
        let template = disks.template(size_mb, &self.stage)?;
        let disk = disks.take(size_mb)?;
        for (at, bytes) in template.iter() {
            disk.device.write_all_at(bytes, *at)?;
        }
        mount_device(&disk.device_name, &temporary.folder)?;
        temporary.disk = Some((disk, disks.clone()));
        temporary.fresh = Some(used(&temporary.folder)?);
        Ok(temporary)
    }
}

/// Bytes of an image for a file system that holds `size_mb` MiB.
fn image_bytes(size_mb: u32) -> u64 {
    let inodes_mb = u64::from(INODES * INODE_BYTES) >> 20;
    let held_back_mb = (u64::from(size_mb) / 50 + 1).min(HELD_BACK_MB_MAX);
    (u64::from(size_mb) + inodes_mb + TABLES_MB + held_back_mb) << 20
}

impl Disks {
    fn open(images: &Path) -> io::Result<Disks> {
        fs::create_dir_all(images)?;
        let control = File::options()
            .read(true)
            .write(true)
            .open("/dev/loop-control")
            .map_err(|error| io::Error::other(format!("/dev/loop-control: {error}")))?;
        let (adopted, surplus) = survey(images)?;
        if !surplus.is_empty() {
            // Slow on some disks, and nobody's concern.
            let delete = move || surplus.into_iter().for_each(|image| drop(fs::remove_file(image)));
            drop(std::thread::Builder::new().name("sweeper".into()).spawn(delete));
        }
        Ok(Disks {
            images: images.to_path_buf(),
            folder: open_apart(images)?,
            control: control.into(),
            templates: Mutex::default(),
            free: Mutex::default(),
            adopted: Mutex::new(adopted),
            next: AtomicU64::new(0),
        })
    }

    /// A disk that nothing has mounted.
    fn take(&self, size_mb: u32) -> io::Result<Disk> {
        for _ in 0..FREE_TRIED_MAX {
            let Some(disk) = locked(&self.free).get_mut(&size_mb).and_then(Vec::pop) else { break };
            // Opening for ourselves alone succeeds only when no mount is left anywhere.
            let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
            if rustix::fs::open(&disk.device_name, flags, Mode::empty()).is_ok() {
                return Ok(disk);
            }
            locked(&self.free).entry(size_mb).or_default().insert(0, disk);
        }
        self.make(size_mb)
    }

    fn put(&self, size_mb: u32, disk: Disk) {
        if disk.image.metadata().is_ok_and(|image| image.blocks() * 512 <= KEPT_BYTES_MAX) {
            locked(&self.free).entry(size_mb).or_default().push(disk);
        } else {
            drop(fs::remove_file(&disk.image_path));
        }
    }

    fn make(&self, size_mb: u32) -> io::Result<Disk> {
        let mut adopted = locked(&self.adopted);
        let known = adopted.iter().position(|(size, _)| *size == size_mb);
        let image_path = known.map_or_else(|| self.new_path(size_mb), |at| adopted.swap_remove(at).1);
        drop(adopted);
        let image = self.open_image(&image_path, OFlags::empty())?;
        // The device has the very same open file: as long as it lives, `survey` finds the image locked.
        flock(&image, FlockOperation::NonBlockingLockExclusive)?;
        image.set_len(image_bytes(size_mb))?;
        let (device, device_name) = attach(&self.control, &image)?;
        Ok(Disk { image, image_path, device, device_name })
    }

    /// Makes the image where there is none.
    fn open_image(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let name = path.file_name().unwrap_or_default();
        let flags = flags | OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        Ok(openat(&self.folder, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    fn new_path(&self, size_mb: u32) -> PathBuf {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = self.images.join(format!("{size_mb}-{number}"));
            if !path.exists() {
                return path;
            }
        }
    }

    /// Formats once per size and keeps what was written. ext4 without a journal: it never has to survive a
    /// crash.
    fn template(&self, size_mb: u32, stage: &Path) -> io::Result<Template> {
        let mut templates = locked(&self.templates);
        if let Some(template) = templates.get(&size_mb) {
            return Ok(template.clone());
        }
        let path = self.images.join("template");
        drop(fs::remove_file(&path));
        let file = self.open_image(&path, OFlags::EXCL)?;
        let made = self.format(&path, &file, size_mb, &stage.join("template"));
        let written = made.and_then(|()| data(&file, image_bytes(size_mb)));
        drop(fs::remove_file(&path));
        let template = Arc::new(written?);
        templates.insert(size_mb, template.clone());
        Ok(template)
    }

    fn format(&self, path: &Path, file: &File, size_mb: u32, folder: &Path) -> io::Result<()> {
        file.set_len(image_bytes(size_mb))?;
        let program = MKFS_PLACES
            .iter()
            .map(|place| Path::new(place).join("mkfs.ext4"))
            .find(|program| program.exists())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "mkfs.ext4 is not installed"))?;
        let child = Command::new(program)
            .args(["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode", "-b", "4096"])
            .args(["-N", &INODES.to_string(), "-I", &INODE_BYTES.to_string()])
            .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
            .arg(path)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        wait_for_end(&child);
        fs::create_dir_all(folder)?;
        let (_device, name) = attach(&self.control, file)?;
        mount_device(&name, folder)?;
        let prepared = fs::remove_dir(folder.join("lost+found"))
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)));
        // Not detached: what is written back here is what will be read.
        rustix::mount::unmount(folder, UnmountFlags::empty())?;
        prepared
    }
}

/// Opens the folder in a copy of its mount that is attached nowhere and has none of the mounts below it. Where the host
/// refuses one, as it is.
fn open_apart(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount = |path: &Path| {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID).then_some(found.stx_mnt_id)
    };
    let apart = || {
        let own = mount(folder)?;
        // From its root on, so that whoever lists loop devices reads where the images are.
        let root = folder.ancestors().take_while(|above| mount(above) == Some(own)).last()?;
        let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let root_apart = rustix::mount::open_tree(CWD, root, copy).ok()?;
        let below = folder.strip_prefix(root).ok()?;
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        openat(&root_apart, below, flags, Mode::empty()).ok()
    };
    apart().map_or_else(|| Ok(openat(CWD, folder, flags, Mode::empty())?), Ok)
}

/// Images of an earlier run to take up, and those to delete: too many, too large, of no known size, or still
/// behind a device that is on its way out.
#[allow(clippy::type_complexity)]
fn survey(images: &Path) -> io::Result<(Vec<(u32, PathBuf)>, Vec<PathBuf>)> {
    let is_free = |path: &Path| {
        File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
    };
    let (mut adopted, mut surplus) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let size = name.to_str().and_then(|name| name.split_once('-')?.0.parse::<u32>().ok());
        let small = entry.metadata()?.blocks() * 512 <= KEPT_BYTES_MAX;
        match size {
            Some(size) if small && adopted.len() < ADOPTED_MAX && is_free(&path) => {
                adopted.push((size, path));
            }
            _ => surplus.push(path),
        }
    }
    Ok((adopted, surplus))
}

/// Waits without reaping: the jailer has one reaper for all its children, and it may have been faster.
/// Whether the child worked shows when the image is mounted.
fn wait_for_end(child: &Child) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pidfd = Pid::from_raw(child.id().cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    if let Some(Ok(pidfd)) = pidfd {
        while poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
    }
}

/// Puts the image behind a free loop device.
fn attach(control: &OwnedFd, image: &File) -> io::Result<(File, String)> {
    for _ in 0..LOOP_ATTEMPTS {
        let name = format!("/dev/loop{}", syscalls::free_loop_device(control.as_fd())?);
        let device = match File::options().read(true).write(true).open(&name) {
            Ok(device) => device,
            // Taken and freed meanwhile.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)) => continue,
            Err(error) => return Err(error),
        };
        // A disk that cannot bypass its cache (a tmpfs on older kernels) says EINVAL.
        let configured = syscalls::configure_loop(device.as_fd(), image.as_fd(), true).or_else(|error| {
            if error.raw_os_error() == Some(libc::EINVAL) {
                return syscalls::configure_loop(device.as_fd(), image.as_fd(), false);
            }
            Err(error)
        });
        match configured {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => continue,
            result => result?,
        }
        return Ok((device, name));
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// Without barriers: each would flush the host's disk, tens of milliseconds when it is busy, for contents that
/// nobody will read after a crash.
fn mount_device(device: &str, folder: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    let mount = |options: &CStr| rustix::mount::mount(device, folder, "ext4", flags, options);
    let mounted = match mount(OPTIONS) {
        // Before Linux 5.13 nothing is read ahead, and nothing can be told so.
        Err(rustix::io::Errno::INVAL) => mount(OPTIONS_BEFORE),
        result => result,
    };
    Ok(mounted?)
}

/// What is data in the file, by offset; holes are left out.
fn data(file: &File, size: u64) -> io::Result<Vec<(u64, Vec<u8>)>> {
    use rustix::fs::{SeekFrom, seek};
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = seek(file, SeekFrom::Hole(start))?;
        let mut bytes = vec![0; usize::try_from(at - start).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start)?;
        pieces.push((start, bytes));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_found_between_holes() {
        let path = std::env::temp_dir().join(format!("sandbox-data-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        fs::remove_file(path).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"middle", 5 << 20).unwrap();
        let pieces = data(&file, 8 << 20).unwrap();
        let found = |at: u64| {
            pieces.iter().find(|(start, bytes)| (*start..*start + bytes.len() as u64).contains(&at))
        };
        assert!(found(0).is_some_and(|(_, bytes)| bytes.starts_with(b"start")));
        let (start, bytes) = found(5 << 20).unwrap();
        assert!(bytes[((5 << 20) - start) as usize..].starts_with(b"middle"));
        assert!(pieces.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 1 << 20);
    }

    #[test]
    fn images_of_known_size_are_taken_up_and_others_swept() {
        let images = std::env::temp_dir().join(format!("sandbox-images-{}", std::process::id()));
        fs::create_dir_all(&images).unwrap();
        for name in ["512-0", "1024-7", "template", "x-1"] {
            fs::write(images.join(name), "").unwrap();
        }
        let (mut adopted, surplus) = survey(&images).unwrap();
        adopted.sort();
        assert_eq!(adopted, [(512, images.join("512-0")), (1024, images.join("1024-7"))]);
        assert_eq!(surplus.len(), 2);
        let held = File::open(images.join("512-0")).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(
            survey(&images).unwrap().0,
            [(1024, images.join("1024-7"))],
            "a device still has the other"
        );
        fs::remove_dir_all(images).unwrap();
    }
}
