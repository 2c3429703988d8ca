//! `/tmp`: private, limited in bytes and inodes, and not counted as memory where the host allows.
//!
//! As root each environment gets a file system of its own on a loop device over a sparse image. A process's
//! writes then are page cache that the kernel can write back and drop, so a 128 MB function may hold 400 MB
//! in `/tmp`, and a full one answers ENOSPC as Lambda's does. (One image with project quotas would be cheaper
//! but answers EDQUOT on ext4, and kernels without quota support are common.) Elsewhere it is a tmpfs, whose
//! pages are the group's memory; the caller then raises the memory limit by the size.
//!
//! The image's name is removed as soon as the loop device has it, and the device frees itself when unmounted,
//! so that nothing outlives the jailer, however it ends.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags};

use crate::syscalls;

/// Inodes of `/tmp`, the figure seen in Lambda (linux-recipes.md section 1).
const INODES: u32 = 65_536;
/// Bytes per inode in the image, the smallest that holds times past 2038.
const INODE_BYTES: u32 = 256;
/// Space for ext4's own tables beside the inodes, MiB.
const TABLES_MB: u64 = 4;
/// A used file system is wiped for reuse up to this many inodes and bytes; above, a new one is cheaper.
const WIPE_INODES_MAX: u64 = 64;
const WIPE_BYTES_MAX: u64 = 4 << 20;
/// Attempts to get a loop device that another process may be taking at the same time.
const LOOP_ATTEMPTS: u32 = 64;
const MKFS_PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// One file system for one environment, mounted in the jailer's mount namespace.
pub(crate) struct Temporary {
    folder: PathBuf,
    pub size_mb: u32,
    /// Used inodes and bytes when new; `None` for a tmpfs, which is never reused.
    fresh: Option<(u64, u64)>,
}

impl Temporary {
    /// A detached copy of the mount, to be attached in an environment.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(rustix::fs::CWD, &self.folder, flags)?)
    }

    /// Empties it. `false` when a new one is the better choice.
    pub fn wipe(&self) -> bool {
        let Some(fresh) = self.fresh else { return false };
        let Ok(used) = used(&self.folder) else { return false };
        if used.0.saturating_sub(fresh.0) > WIPE_INODES_MAX || used.1.saturating_sub(fresh.1) > WIPE_BYTES_MAX {
            return false;
        }
        empty(&self.folder).is_ok() && self::used(&self.folder).is_ok_and(|used| used.0 == fresh.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.folder, UnmountFlags::DETACH);
        drop(fs::remove_dir(&self.folder));
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

/// Makes file systems for `/tmp`.
pub(crate) struct Temporaries {
    stage: PathBuf,
    images: PathBuf,
    control: Option<OwnedFd>,
    /// One formatted image per size, copied for each file system.
    templates: Mutex<HashMap<u32, File>>,
    next: AtomicU64,
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
        let mut temporaries = Temporaries {
            stage,
            images: images.to_path_buf(),
            control: None,
            templates: Mutex::new(HashMap::new()),
            next: AtomicU64::new(0),
        };
        if !loops {
            return Ok((temporaries, Some("only root may use loop devices".into())));
        }
        let refusal = match temporaries.try_loops(size_mb) {
            Ok(()) => None,
            Err(error) => {
                temporaries.control = None;
                Some(error.to_string())
            }
        };
        Ok((temporaries, refusal))
    }

    fn try_loops(&mut self, size_mb: u32) -> io::Result<()> {
        use rustix::fs::{Mode, OFlags};
        fs::create_dir_all(&self.images)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let control = rustix::fs::open("/dev/loop-control", flags, Mode::empty())
            .map_err(|error| io::Error::other(format!("/dev/loop-control: {error}")))?;
        self.control = Some(control);
        self.create(size_mb).map(drop)
    }

    /// Whether `/tmp` is counted as the group's memory.
    pub fn counts_as_memory(&self) -> bool {
        self.control.is_none()
    }

    /// Makes an empty file system of `size_mb` MiB.
    pub fn create(&self, size_mb: u32) -> io::Result<Temporary> {
        let folder = self.stage.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder)?;
        let mut temporary = Temporary { folder, size_mb, fresh: None };
        let Some(control) = &self.control else {
            let options = format!("size={size_mb}m,nr_inodes={INODES},mode=1777");
            let options = std::ffi::CString::new(options)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("tmpfs", &temporary.folder, "tmpfs", flags, options.as_c_str())?;
            return Ok(temporary);
        };
        let image = self.image(size_mb)?;
        mount_image(control, &image, &temporary.folder)?;
        temporary.fresh = Some(used(&temporary.folder)?);
        Ok(temporary)
    }

    /// A fresh image without a name: a copy of the template's data, holes kept.
    fn image(&self, size_mb: u32) -> io::Result<File> {
        let mut templates = self.templates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let template = match templates.entry(size_mb) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(self.template(size_mb)?),
        };
        let template = template.try_clone()?;
        drop(templates);
        let image = self.nameless()?;
        let size = template.metadata()?.len();
        image.set_len(size)?;
        copy_data(&template, &image, size)?;
        Ok(image)
    }

    fn nameless(&self) -> io::Result<File> {
        let path = self.images.join(format!("image-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(path)?;
        Ok(file)
    }

    /// Formats an image, once per size. ext4 without a journal: it never survives a crash anyway.
    fn template(&self, size_mb: u32) -> io::Result<File> {
        let path = self.images.join(format!("template-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let made = self.format(&path, &file, size_mb);
        fs::remove_file(&path)?;
        made.map(|()| file)
    }

    fn format(&self, path: &Path, file: &File, size_mb: u32) -> io::Result<()> {
        let inodes_mb = u64::from(INODES * INODE_BYTES) >> 20;
        file.set_len((u64::from(size_mb) + inodes_mb + TABLES_MB) << 20)?;
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
        let folder = self.stage.join("template");
        fs::create_dir_all(&folder)?;
        let control = self.control.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        mount_image(control, file, &folder)?;
        let prepared = fs::remove_dir(folder.join("lost+found"))
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)));
        // Not detached: the copies need what is written back here.
        rustix::mount::unmount(&folder, UnmountFlags::empty())?;
        prepared
    }
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

/// Mounts the image through a loop device.
fn mount_image(control: &OwnedFd, image: &File, folder: &Path) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    for _ in 0..LOOP_ATTEMPTS {
        let name = format!("/dev/loop{}", syscalls::free_loop_device(control.as_fd())?);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let device = match rustix::fs::open(&name, flags, Mode::empty()) {
            Ok(device) => device,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NXIO) => continue, // taken and freed meanwhile
            Err(error) => return Err(error.into()),
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
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        rustix::mount::mount(name.as_str(), folder, "ext4", flags, c"noinit_itable,discard")?;
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// Copies what is data and skips what is hole.
fn copy_data(from: &File, to: &File, size: u64) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let count = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            from.read_exact_at(&mut buffer[..count], at)?;
            to.write_all_at(&buffer[..count], at)?;
            at += count as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_keeps_data_and_holes() {
        let folder = std::env::temp_dir();
        let open = |name: &str| {
            let path = folder.join(format!("sandbox-copy-{}-{name}", std::process::id()));
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
            fs::remove_file(path).unwrap();
            file
        };
        let (from, to) = (open("from"), open("to"));
        from.set_len(8 << 20).unwrap();
        to.set_len(8 << 20).unwrap();
        from.write_all_at(b"start", 0).unwrap();
        from.write_all_at(b"middle", 5 << 20).unwrap();
        copy_data(&from, &to, 8 << 20).unwrap();
        let mut bytes = [0; 6];
        to.read_exact_at(&mut bytes, 5 << 20).unwrap();
        assert_eq!(&bytes, b"middle");
        let blocks = |file: &File| std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
        assert!(blocks(&to) <= blocks(&from).max(64));
    }
}
