//! A root made of a container image: its layers under one more of our own, which has the places that environments need.
//!
//! Our layer is a tmpfs with `/dev`, `/proc`, `/tmp`, a few files of `/etc` and the places of binds; it comes on top, so none of
//! these places is a link of the image's. Nothing of the host's shows. Layers are named by descriptors that were opened without
//! following a link (`/proc/self/fd/7`), which also keeps 128 of them within the one page that mount options may have.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::mount::MountFlags;

use super::{
    Key, ROOT_OPTIONS, RootError, attach, devices_and_names, doing, make_folders, open_bind, open_folder,
    place, seal,
};

const FOLDERS: [&str; 4] = ["dev", "proc", "tmp", "etc"];
/// Files of ours that hide the image's, where overlays cannot be mounted.
const COVERED: [&str; 4] = ["etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf"];

/// Folders and files that one folder with a whole image must have where overlays cannot be mounted (the ability
/// `image-overlay`), beside the places of its binds; relative paths.
pub fn image_places() -> ([&'static str; 4], [&'static str; 4]) {
    (FOLDERS, COVERED)
}

/// Builds the root at `root`: on a tmpfs of ours, the layers over it.
pub(super) fn build(
    root: &Path,
    key: &Key,
    layers: &[OwnedFd],
    devices: Option<&Path>,
) -> Result<(), RootError> {
    doing(|| "make the root".into(), own_layer(root))?;
    let own = doing(|| "open the root".into(), open_folder(root))?;
    let mut binds = Vec::new();
    for bind in &key.binds {
        let (source, folder) = open_bind(bind)?;
        let made = place(&own, &bind.inside, folder);
        doing(|| format!("make a place for {}", bind.inside.display()), made)?;
        binds.push((bind, source, folder));
    }
    match (overlay(root, &own, layers), layers) {
        (Ok(()), _) => {}
        // All layers in one folder, which has the places.
        (Err(_), [whole]) => doing(|| "bind the image".into(), cover(root, &own, whole))?,
        (Err(error), _) => {
            return Err(RootError { doing: "lay the image's layers over each other".into(), error });
        }
    }
    let top = doing(|| "open the root".into(), open_folder(root))?;
    for (bind, source, folder) in binds {
        let at = doing(
            || format!("find the place for {}", bind.inside.display()),
            place(&top, &bind.inside, folder),
        )?;
        doing(|| format!("bind {}", bind.host.display()), attach(&source, &at))?;
    }
    seal(root, devices)
}

fn own_layer(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    rustix::mount::mount("tmpfs", root, "tmpfs", MountFlags::NOSUID, ROOT_OPTIONS)?;
    for folder in FOLDERS {
        make_folders(root, Path::new(folder))?;
    }
    devices_and_names(root)
}

/// Mounts the layers over each other, lowest first, and `own` above all of them. Without an upper layer it is read-only.
fn overlay(root: &Path, own: &OwnedFd, layers: &[OwnedFd]) -> io::Result<()> {
    let name = |layer: &OwnedFd| format!("/proc/self/fd/{}", layer.as_raw_fd());
    let lower: Vec<String> = std::iter::once(own).chain(layers.iter().rev()).map(name).collect();
    // Marks of opaque folders are ordinary users' attributes, which every mounter may read.
    let options = CString::new(format!("userxattr,lowerdir={}", lower.join(":")))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("overlay", root, "overlay", flags, Some(options.as_c_str()))?)
}

/// Binds a whole image, and on it what is ours.
fn cover(root: &Path, own: &OwnedFd, whole: &OwnedFd) -> io::Result<()> {
    let under = open_folder(root)?;
    attach(whole, &under)?;
    let top = open_folder(root)?;
    let open = |path: &Path, folder| place(own, path, folder);
    let dev = Path::new("/dev");
    attach(&open(dev, true)?, &place(&top, dev, true)?)?;
    for file in COVERED {
        let path = Path::new("/").join(file);
        attach(&open(&path, false)?, &place(&top, &path, false)?)?;
    }
    Ok(())
}

/// Mounts and forgets a small overlay of the kind that images get.
pub(crate) fn try_overlay(stage: &Path) -> io::Result<()> {
    let folder = stage.join("overlay-trial");
    let lower = ["a", "b", "root"].map(|name| folder.join(name));
    lower.iter().try_for_each(fs::create_dir_all)?;
    let [a, b, root] = &lower;
    let mounted = overlay(root, &open_folder(a)?, &[open_folder(b)?]);
    if mounted.is_ok() {
        rustix::mount::unmount(root, rustix::mount::UnmountFlags::DETACH)?;
    }
    fs::remove_dir_all(&folder)?;
    mounted
}
