//! Sees edits of files: inotify below the folders that matter, one answer when a save is over.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// A save is over when nothing happened for this long: editors and version control write several files, one after another.
const QUIET: Duration = Duration::from_millis(60);
/// A file that is being written is waited for this long after its last write: who saves truncates first, and on a busy machine
/// may write the rest much later. No longer: a log may be kept open for ever.
const UNFINISHED: Duration = Duration::from_millis(500);
/// A change is told after this long, even if there is no end of it.
const LONGEST: Duration = Duration::from_secs(2);
/// Folders that are watched; with more, all of them are looked at now and then.
const FOLDERS_MAX: usize = 20_000;
/// Folders within folders.
const DEPTH_MAX: usize = 64;
/// Files that are told by name; with more, everything may have changed.
const PATHS_MAX: usize = 4_096;
/// How often everything is looked at where nothing can be watched.
const PERIOD: Duration = Duration::from_secs(1);
/// Bytes of events that are read at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// Folders below a function's that hold what tools make, by name; so do all whose names begin with a dot.
const MADE_BY_TOOLS: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// After these nobody writes a file on, under that name.
const FINISHED: ReadFlags =
    ReadFlags::CLOSE_WRITE.union(ReadFlags::DELETE).union(ReadFlags::MOVED_FROM).union(ReadFlags::MOVED_TO);

/// What is watched. All paths are absolute, links resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Folders with all that is below them.
    pub folders: BTreeSet<PathBuf>,
    /// Single files, which need not exist.
    pub files: BTreeSet<PathBuf>,
    /// What lies in these is nobody's code.
    pub except: BTreeSet<PathBuf>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// These files or folders.
    Paths(BTreeSet<PathBuf>),
    /// Nobody knows what: look at everything.
    Everything,
}

/// Watches what is of interest.
#[derive(Debug)]
pub struct Watcher {
    interest: Interest,
    /// `None`: this host cannot watch so much, and everything is looked at periodically.
    inotify: Option<AsyncFd<OwnedFd>>,
    watched: HashMap<i32, PathBuf>,
    /// Seen, and not told yet.
    seen: BTreeSet<PathBuf>,
    /// Files among them that were written and not closed yet.
    unfinished: BTreeSet<PathBuf>,
}

/// The path as the kernel's events will name it.
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(found) = fs::canonicalize(&absolute) {
        return found;
    }
    match (absolute.parent().map(fs::canonicalize), absolute.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

impl Interest {
    /// Whether a change there matters.
    fn matters(&self, path: &Path) -> bool {
        if self.files.contains(path) {
            return true;
        }
        if path.file_name().is_none_or(is_scratch)
            || self.except.iter().any(|except| path.starts_with(except))
        {
            return false;
        }
        self.folders.iter().any(|folder| match path.strip_prefix(folder) {
            Ok(below) => {
                let above = below.parent().unwrap_or(Path::new(""));
                !above.iter().any(is_made_by_tools) && !below.file_name().is_some_and(is_tools_folder)
            }
            Err(_) => false,
        })
    }

    /// Whether what is below a folder matters.
    fn descends(&self, path: &Path) -> bool {
        self.matters(path) && !path.file_name().is_none_or(is_made_by_tools) || self.folders.contains(path)
    }
}

/// What editors write beside the file that they save: swap files, backups, locks, and vim's trial of the folder.
fn is_scratch(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let ends = [&b"~"[..], b".swp", b".swx", b".swo", b".tmp", b"___jb_tmp___", b"___jb_old___"];
    name == b"4913"
        || name.starts_with(b".#")
        || name.starts_with(b"#")
        || ends.iter().any(|end| name.ends_with(end))
}

fn is_tools_folder(name: &OsStr) -> bool {
    MADE_BY_TOOLS.iter().any(|made| name == *made) || name == ".git" || name == ".onrush"
}

fn is_made_by_tools(name: &OsStr) -> bool {
    name.as_bytes().first() == Some(&b'.') || is_tools_folder(name)
}

impl Watcher {
    /// Begins to watch. Where inotify has no room for all folders, they are looked at periodically, which is said. Call inside
    /// the tokio runtime.
    pub fn start(interest: Interest) -> Self {
        let mut watcher = Self {
            interest,
            inotify: None,
            watched: HashMap::new(),
            seen: BTreeSet::new(),
            unfinished: BTreeSet::new(),
        };
        if let Err(error) = watcher.watch_all() {
            tracing::warn!(
                "edits are looked for every second, not watched: {error} (fs.inotify.max_user_watches)"
            );
            watcher.inotify = None;
            watcher.watched.clear();
        }
        watcher
    }

    /// What is watched.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// The next change, once it is over. May be dropped while it waits: what was not told is told the next time.
    pub async fn next(&mut self) -> Seen {
        if self.inotify.is_none() {
            tokio::time::sleep(PERIOD).await;
            return Seen::Everything;
        }
        loop {
            if self.seen.is_empty() {
                self.ready().await;
            }
            if let Some(seen) = self.take() {
                return seen;
            }
            if self.seen.is_empty() {
                continue;
            }
            let end = Instant::now() + LONGEST;
            loop {
                let quiet = (Instant::now() + self.quiet()).min(end);
                if tokio::time::timeout_at(quiet, self.ready()).await.is_err() {
                    self.unfinished.clear();
                    return Seen::Paths(std::mem::take(&mut self.seen));
                }
                if let Some(seen) = self.take() {
                    return seen;
                }
            }
        }
    }

    /// How long nothing may happen until the save is over.
    fn quiet(&self) -> Duration {
        if self.unfinished.is_empty() { QUIET } else { UNFINISHED }
    }

    async fn ready(&self) {
        match &self.inotify {
            // Readiness is cleared by `take`, which reads until nothing is left.
            Some(inotify) => drop(inotify.readable().await.map(|mut guard| guard.retain_ready())),
            None => std::future::pending().await,
        }
    }

    /// Reads all events that are there; everything may have changed if some were lost.
    fn take(&mut self) -> Option<Seen> {
        let mut events = Vec::new();
        let mut lost = false;
        if let Some(inotify) = &self.inotify {
            // Taken before the events are read: what comes after the last one makes it ready again.
            let mut context = Context::from_waker(Waker::noop());
            let ready = inotify.poll_read_ready(&mut context);
            let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
            let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
            while let Ok(event) = reader.next() {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                events.push((event.wd(), event.events(), name));
                if events.len() > PATHS_MAX {
                    lost = true;
                    events.clear();
                }
            }
            if let Poll::Ready(Ok(mut guard)) = ready {
                guard.clear_ready();
            }
        }
        for (watch, kind, name) in events {
            if kind.contains(ReadFlags::IGNORED) {
                self.watched.remove(&watch);
                continue;
            }
            let Some(folder) = self.watched.get(&watch) else { continue };
            let path = name.map_or_else(|| folder.clone(), |name| folder.join(name));
            if !self.interest.matters(&path) && !self.interest.folders.contains(&path) {
                continue;
            }
            let came = kind.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            if came && kind.contains(ReadFlags::ISDIR) && self.tree(&path, 0).is_err() {
                lost = true;
            }
            if kind.contains(ReadFlags::MODIFY) {
                self.unfinished.insert(path.clone());
            } else if kind.intersects(FINISHED) {
                self.unfinished.remove(&path);
            }
            self.seen.insert(path);
        }
        let everything = lost || self.seen.len() > PATHS_MAX;
        if everything {
            self.seen.clear();
            self.unfinished.clear();
        }
        everything.then_some(Seen::Everything)
    }

    fn watch_all(&mut self) -> io::Result<()> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on, and neither replaced nor closed while it is.
        #[allow(unsafe_code)]
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, tokio::io::Interest::READABLE) }?;
        self.inotify = Some(inotify);
        let interest = self.interest.clone();
        // The folders around, too: a file is replaced by renaming, a folder of build results by making it anew.
        for path in interest.files.iter().chain(&interest.folders) {
            if let Some(around) = path.parent().filter(|around| around.is_dir()) {
                self.watch(around)?;
            }
        }
        for folder in &interest.folders {
            self.tree(folder, 0)?;
        }
        Ok(())
    }

    /// Watches a folder and all below it.
    fn tree(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX || !self.interest.descends(folder) {
            return Ok(());
        }
        // Watched before it is read: what comes in between is seen twice, and not never.
        match self.watch(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.tree(&entry.path(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn watch(&mut self, folder: &Path) -> io::Result<()> {
        let Some(inotify) = &self.inotify else { return Ok(()) };
        if self.watched.len() >= FOLDERS_MAX {
            return Err(io::Error::other(format!("more than {FOLDERS_MAX} folders")));
        }
        let wanted = WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::MOVE
            | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(inotify.get_ref(), folder, wanted)?;
        self.watched.insert(watch, folder.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(folder: &Path) -> Interest {
        Interest {
            folders: [folder.join("cart")].into(),
            files: [folder.join("template.yaml")].into(),
            except: [folder.join("cart").join("data")].into(),
        }
    }

    #[test]
    fn what_tools_and_editors_make_does_not_matter() {
        let root = Path::new("/w");
        let interest = interest(root);
        for path in ["cart/app.py", "cart/lib/x.js", "cart/.env", "template.yaml", "cart"] {
            assert!(interest.matters(&root.join(path)), "{path}");
        }
        for path in [
            "other.py",
            "cart/.git/index",
            "cart/target",
            "cart/target/debug/x",
            "cart/node_modules/a/b.js",
            "cart/lib/__pycache__/a.pyc",
            "cart/.onrush/store",
            "cart/.app.py.swp",
            "cart/app.py~",
            "cart/4913",
            "cart/data/x",
            "template.yaml~",
        ] {
            assert!(!interest.matters(&root.join(path)), "{path}");
        }
        // What somebody named as a function's code is code, whatever it is called.
        let built = Interest { folders: ["/w/target/lambda/cart".into()].into(), ..Interest::default() };
        assert!(built.matters(Path::new("/w/target/lambda/cart/bootstrap")));
    }

    #[tokio::test]
    async fn a_file_that_is_still_open_is_waited_for() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let app = root.join("cart/app.py");
        fs::create_dir_all(root.join("cart")).unwrap();
        fs::write(&app, "1").unwrap();
        let mut watcher = Watcher::start(interest(&root));
        // Truncated; what it is to hold comes later.
        let mut file = fs::File::create(&app).unwrap();
        assert_eq!((watcher.take(), watcher.quiet()), (None, UNFINISHED));
        file.write_all(b"2").unwrap();
        assert_eq!((watcher.take(), watcher.quiet()), (None, UNFINISHED));
        drop(file);
        // A process that another test starts holds the file as well, until it executes its program.
        let end = Instant::now() + Duration::from_secs(10);
        while (watcher.take(), watcher.quiet()) != (None, QUIET) {
            assert!(Instant::now() < end, "closed, and still waited for");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Nobody will close what was renamed over or removed.
        let open = fs::File::create(&app).unwrap();
        assert_eq!((watcher.take(), watcher.quiet()), (None, UNFINISHED));
        fs::write(root.join("new"), "3").unwrap();
        fs::rename(root.join("new"), &app).unwrap();
        assert_eq!((watcher.take(), watcher.quiet()), (None, QUIET));
        let appended = fs::File::options()
            .append(true)
            .open(&app)
            .and_then(|mut file| file.write_all(b"4").map(|()| file));
        assert_eq!((watcher.take(), watcher.quiet()), (None, UNFINISHED));
        fs::remove_file(&app).unwrap();
        assert_eq!((watcher.take(), watcher.quiet()), (None, QUIET));
        drop((open, appended));
    }

    #[tokio::test]
    async fn every_way_of_saving_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (cart, template) = (root.join("cart"), root.join("template.yaml"));
        fs::create_dir_all(cart.join("lib")).unwrap();
        fs::write(cart.join("app.py"), "1").unwrap();
        let mut watcher = Watcher::start(interest(&root));
        assert!(watcher.inotify.is_some(), "inotify is there");
        let mut seen = move || {
            assert_eq!(watcher.take(), None);
            let paths = std::mem::take(&mut watcher.seen);
            let names = paths.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string());
            names.collect::<Vec<_>>().join(" ")
        };
        fs::write(cart.join("app.py"), "2").unwrap();
        assert_eq!(seen(), "cart/app.py");
        fs::write(cart.join(".app.py.swp"), "3").unwrap();
        fs::write(folder.path().join("note"), "3").unwrap();
        assert_eq!(seen(), "");
        fs::write(folder.path().join("new"), "3").unwrap();
        fs::rename(folder.path().join("new"), &template).unwrap();
        assert_eq!(seen(), "template.yaml");
        fs::create_dir_all(cart.join("a")).unwrap();
        assert_eq!(seen(), "cart/a");
        fs::write(cart.join("a/b.py"), "4").unwrap();
        assert_eq!(seen(), "cart/a/b.py");
        // Build tools make their folder anew.
        fs::rename(&cart, folder.path().join("old")).unwrap();
        fs::create_dir_all(cart.join("lib")).unwrap();
        assert_eq!(seen(), "cart");
        fs::write(cart.join("lib/c.py"), "5").unwrap();
        assert_eq!(seen(), "cart/lib/c.py");
    }
}
