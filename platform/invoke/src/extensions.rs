//! Which extensions a function has: every file in `/opt/extensions`, by name.
//!
//! Source: Lambda Developer Guide, "Lambda extensions", published; that also a file which cannot be executed counts, and fails,
//! as the public Runtime Interface Emulator has it.
//!
//! Folders of images hold whatever their makers put there. Links are therefore followed as they lead inside, never out here: where
//! one names a folder of this host, its files are nobody's extensions.

use runtime_api::EXTENSIONS_MAX;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Where extensions lie inside.
pub(crate) const FOLDER: &str = "/opt/extensions";
/// Most files that are looked at in one folder: more extensions than may be are an error anyhow.
const FILES_MAX: usize = 1_000;
/// Most links on one way. Source: path_resolution(7), 40.
const LINKS_MAX: usize = 40;
/// Most names that are looked up for one function: what its links name beyond leads nowhere.
const STEPS_MAX: usize = 10_000;

/// Names of the extensions of an image, whose layers' folders are laid over each other, lowest first, as an overlay shows them; in
/// order, as many as may be and one more.
///
/// # Errors
/// A folder is there but cannot be read.
pub(crate) fn of_image(layers: &[PathBuf]) -> io::Result<Vec<Arc<str>>> {
    View { layers, are_opt: false, steps: Cell::new(0) }.list()
}

/// The same of the folder that becomes `/opt`, if there is one.
///
/// # Errors
/// As [`of_image`].
pub(crate) fn of_layers(opt: Option<&PathBuf>) -> io::Result<Vec<Arc<str>>> {
    View { layers: opt.map_or(&[], std::slice::from_ref), are_opt: true, steps: Cell::new(0) }.list()
}

/// Folders over each other, as they look from inside.
struct View<'a> {
    /// Lowest first.
    layers: &'a [PathBuf],
    /// Whether they are `/opt` rather than the whole root. What else is inside is then not known here.
    are_opt: bool,
    steps: Cell<usize>,
}

/// What stands at a place.
enum Found {
    Nothing,
    File,
    Link(PathBuf),
    /// The folders that are shown as this one, lowest first.
    Folder(Vec<PathBuf>),
}

impl View<'_> {
    fn list(&self) -> io::Result<Vec<Arc<str>>> {
        let Found::Folder(folders) = self.find(Path::new(FOLDER))? else { return Ok(Vec::new()) };
        let mut names = BTreeSet::new();
        for folder in &folders {
            for entry in fs::read_dir(folder)?.take(FILES_MAX) {
                names.insert(entry?.file_name());
            }
        }
        let mut extensions = Vec::new();
        for name in names {
            let is_one = match step(&folders, &name)? {
                Found::File => true,
                Found::Nothing | Found::Folder(_) => false,
                // One that leads nowhere is a file that cannot be executed.
                Found::Link(_) => !matches!(self.find(&Path::new(FOLDER).join(&name))?, Found::Folder(_)),
            };
            if is_one {
                extensions.push(name.to_string_lossy().into());
            }
            if extensions.len() > EXTENSIONS_MAX {
                break;
            }
        }
        Ok(extensions)
    }

    /// What stands at `path` inside once every link on the way, and at its end, is followed.
    fn find(&self, path: &Path) -> io::Result<Found> {
        let root = if self.are_opt { Vec::new() } else { self.layers.to_vec() };
        let mut way = vec![root];
        let mut ahead: Vec<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                way.truncate((way.len() - 1).max(1));
                continue;
            }
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() > STEPS_MAX {
                return Ok(Found::Nothing);
            }
            let here = way.last().map_or(&[][..], Vec::as_slice);
            let found = match self.are_opt && way.len() == 1 {
                true if name == "opt" && !self.layers.is_empty() => Found::Folder(self.layers.to_vec()),
                true => Found::Nothing,
                false => step(here, &name)?,
            };
            match found {
                Found::Nothing => return Ok(Found::Nothing),
                Found::File if ahead.is_empty() => return Ok(Found::File),
                Found::File => return Ok(Found::Nothing),
                Found::Folder(folders) => way.push(folders),
                Found::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Ok(Found::Nothing);
                    }
                    if target.is_absolute() {
                        way.truncate(1);
                    }
                    ahead.extend(names(&target));
                }
            }
        }
        Ok(Found::Folder(way.pop().unwrap_or_default()))
    }
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let wanted = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    wanted.map(OsStr::to_owned).collect()
}

/// What `name` is in folders over each other, lowest first. No link is followed.
fn step(folders: &[PathBuf], name: &OsStr) -> io::Result<Found> {
    let mut found = Vec::new();
    for folder in folders.iter().rev() {
        let path = folder.join(name);
        let kind = match fs::symlink_metadata(&path) {
            Err(error) if leads_nowhere(&error) => continue,
            about => about?.file_type(),
        };
        if kind.is_dir() {
            let hides = is_opaque(&path);
            found.push(path);
            if hides {
                break;
            }
            continue;
        }
        // Folders alone are shown together with what is below them. What a layer hides of those below is a device there.
        if !found.is_empty() || kind.is_char_device() {
            break;
        }
        return Ok(if kind.is_symlink() { Found::Link(fs::read_link(&path)?) } else { Found::File });
    }
    found.reverse();
    Ok(if found.is_empty() { Found::Nothing } else { Found::Folder(found) })
}

/// Whether there cannot be what was looked for: links name what they like, also what is too long for any file system.
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename)
}

/// Whether nothing of lower layers shows in a folder.
fn is_opaque(folder: &Path) -> bool {
    let marked = |name: &str| {
        let mut value = [0_u8; 1];
        rustix::fs::getxattr(folder, name, &mut value) == Ok(1) && value == *b"y"
    };
    marked("trusted.overlay.opaque") || marked("user.overlay.opaque")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("onrush-extensions-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn file(&self, path: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }

        fn link(&self, path: &str, target: impl AsRef<Path>) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }

        fn image(&self, layers: &[&str]) -> Vec<String> {
            let layers: Vec<_> = layers.iter().map(|layer| self.0.join(layer)).collect();
            of_image(&layers).unwrap().iter().map(ToString::to_string).collect()
        }

        fn opt(&self, folder: &str) -> Vec<String> {
            of_layers(Some(&self.0.join(folder))).unwrap().iter().map(ToString::to_string).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn every_file_is_one_and_folders_are_none() {
        let scratch = Scratch::new("files");
        for name in ["b", "a", "10", "lib/inner"] {
            scratch.file(&format!("one/opt/extensions/{name}"));
        }
        // A layer above replaces one by a folder and adds another.
        scratch.file("two/opt/extensions/b/inner");
        scratch.file("two/opt/extensions/c");
        assert_eq!(scratch.opt("one/opt"), ["10", "a", "b"]);
        assert_eq!(scratch.image(&["one", "two"]), ["10", "a", "c"]);
        assert_eq!(scratch.image(&["two", "one"]), ["10", "a", "b", "c"]);
        assert!(scratch.opt("one").is_empty() && scratch.image(&[]).is_empty());
        assert!(of_layers(None).unwrap().is_empty());
        // A file in a folder's place hides what is below it.
        scratch.file("three/opt/extensions");
        assert!(scratch.image(&["one", "three"]).is_empty());
        assert_eq!(scratch.image(&["three", "one"]), ["10", "a", "b"]);
    }

    #[test]
    fn links_lead_where_they_lead_inside() {
        let scratch = Scratch::new("links");
        scratch.file("one/agents/x");
        scratch.file("one/agents/deep/y");
        scratch.link("one/opt/extensions", "../agents");
        scratch.link("one/agents/folder", "/agents/deep");
        scratch.link("one/agents/file", "deep/../deep/y");
        scratch.link("one/agents/nowhere", "/agents/z");
        scratch.link("one/agents/circle", "circle");
        assert_eq!(scratch.image(&["one"]), ["circle", "file", "nowhere", "x"]);
        // Of `/opt` alone nothing is known but itself.
        scratch.file("layer/lib/x");
        scratch.link("layer/extensions", "/opt/lib");
        scratch.link("layer/lib/folder", "/opt/lib");
        scratch.link("layer/lib/python", "/usr/bin");
        assert_eq!(scratch.opt("layer"), ["python", "x"]);
    }

    #[test]
    fn no_link_leads_to_this_host() {
        let scratch = Scratch::new("host");
        scratch.file("host/secret");
        scratch.file("host/extensions/secret");
        let host = scratch.0.join("host");
        scratch.link("one/opt/extensions", &host);
        scratch.link("two/opt", &host);
        scratch.link("three/opt/extensions", "../../../../../../../../../host");
        scratch.link("four/opt/extensions/hint", &host);
        for layer in ["one", "two", "three"] {
            assert!(scratch.image(&[layer]).is_empty(), "{layer}");
        }
        // Not even whether there is such a folder is told.
        assert_eq!(scratch.image(&["four"]), ["hint"]);
        scratch.link("opt/extensions", &host);
        assert!(scratch.opt("opt").is_empty());
    }

    #[test]
    fn a_link_to_a_name_too_long_leads_nowhere() {
        let scratch = Scratch::new("long");
        scratch.link("one/opt/extensions", "x".repeat(300));
        assert!(scratch.image(&["one"]).is_empty());
        scratch.file("two/opt/extensions/a");
        scratch.link("two/opt/extensions/b", "x".repeat(300));
        assert_eq!(scratch.image(&["two"]), ["a", "b"]);
        // Each name fits; all of them below each other are longer than a path may be.
        let extensions = scratch.0.join("three/opt/extensions");
        let mut folder = extensions.clone();
        while folder.as_os_str().len() < 3_850 {
            folder.push("d".repeat(50));
        }
        fs::create_dir_all(&folder).unwrap();
        let target = folder.strip_prefix(&extensions).unwrap().join("e".repeat(250));
        scratch.link("three/opt/extensions/long", target);
        assert_eq!(scratch.image(&["three"]), ["long"]);
    }

    #[test]
    fn what_is_looked_at_is_bounded() {
        let scratch = Scratch::new("bounded");
        for number in 0..200 {
            scratch.file(&format!("one/opt/extensions/z{number:03}"));
            scratch.link(&format!("one/opt/extensions/a{number:03}"), "d/".repeat(1_000));
        }
        scratch.link("one/opt/extensions/d", ".");
        assert_eq!(scratch.image(&["one"]).len(), EXTENSIONS_MAX + 1);
    }
}
