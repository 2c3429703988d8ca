//! Decides what an archive's entries become, before anything is written: which files and folders, where links lead.

use super::archive::{Archive, Entry, ReadAt, printable};
use super::tree::{Tree, WriteError};
use super::{ArchiveError, DEPTH_MAX, ENTRIES_MAX, LINK_MAX, NAME_MAX, PATH_MAX, PackageError};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const KIND_MASK: u32 = 0o170_000;
const KIND_FILE: u32 = 0o100_000;
const KIND_FOLDER: u32 = 0o040_000;
const KIND_LINK: u32 = 0o120_000;
const ANY_EXECUTE: u32 = 0o111;
const HOST_DOS: u8 = 0;
/// Links that may be followed one after another, as Linux has it (path_resolution(7)).
const HOPS_MAX: usize = 40;

/// Why an entry is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The name leads out of the package, or is no name.
    #[error("entry `{name}` has a name that {why}")]
    Name {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: NameFault,
    },
    /// A device, pipe or socket.
    #[error("entry `{name}` is neither a file nor a folder nor a symbolic link (mode {mode:o})")]
    Kind {
        /// Which.
        name: String,
        /// Its Unix mode.
        mode: u32,
    },
    /// Two entries want the same place.
    #[error("entry `{name}` occurs twice, or is both a file and a folder")]
    Twice {
        /// Which.
        name: String,
    },
    /// A link whose target is outside of the package.
    #[error("entry `{name}` is a symbolic link to `{target}`, which leads out of the package")]
    LinkOutside {
        /// Which.
        name: String,
        /// Where it leads.
        target: String,
    },
    /// A link whose target is no path, or that leads in a circle.
    #[error("entry `{name}` is a symbolic link that leads nowhere")]
    LinkNowhere {
        /// Which.
        name: String,
    },
    /// There is no entry at all.
    #[error("it is empty")]
    Empty,
    /// Too many files and folders, counting folders that only stand in names.
    #[error("it has more than {ENTRIES_MAX} files and folders")]
    TooMany,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// It is empty.
    Empty,
    /// It begins with `/`.
    Absolute,
    /// It holds `..`.
    Parent,
    /// It holds a NUL.
    Nul,
    /// It, or a part, is too long.
    TooLong,
    /// Too many folders within folders.
    TooDeep,
}

impl std::fmt::Display for NameFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => formatter.write_str("is empty"),
            Self::Absolute => formatter.write_str("is absolute"),
            Self::Parent => formatter.write_str("leads out of the package with `..`"),
            Self::Nul => formatter.write_str("holds a NUL byte"),
            Self::TooLong => write!(formatter, "is longer than {NAME_MAX} bytes a part or {PATH_MAX} in all"),
            Self::TooDeep => write!(formatter, "is more than {DEPTH_MAX} folders deep"),
        }
    }
}

/// What one path of the package is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File { entry: usize, executable: bool },
    Link { target: OsString },
}

/// The whole package as it will lie on the disk; parents come before children.
pub struct Layout {
    nodes: BTreeMap<PathBuf, Node>,
    /// [`Tree::closed`].
    closed: Option<(String, u32)>,
}

impl Layout {
    /// Decides about every entry. Reads the targets of links, nothing else.
    ///
    /// # Errors
    /// The first entry that is refused, and why.
    pub fn plan<S: ReadAt + ?Sized>(archive: &Archive<'_, S>) -> Result<Self, PackageError> {
        let mut layout = Self { nodes: BTreeMap::new(), closed: None };
        for (index, entry) in archive.entries().iter().enumerate() {
            let (path, ends_as_folder) = path_of(entry)?;
            if layout.closed.is_none() && is_closed(entry, ends_as_folder) {
                layout.closed = Some((printable(&entry.name), entry.mode & 0o777));
            }
            let node = node_of(archive, index, entry, ends_as_folder)?;
            if path.as_os_str().is_empty() {
                // `./`, as some tools begin; it is the package itself.
                if node == Node::Folder {
                    continue;
                }
                return Err(fault(entry, NameFault::Empty).into());
            }
            layout.add(path, node).map_err(|_| LayoutError::Twice { name: printable(&entry.name) })?;
            if layout.nodes.len() > ENTRIES_MAX {
                return Err(LayoutError::TooMany.into());
            }
        }
        if layout.nodes.is_empty() {
            return Err(LayoutError::Empty.into());
        }
        layout.check_links()?;
        Ok(layout)
    }

    /// Writes everything: folders, files, and links last of all.
    ///
    /// # Errors
    /// A file's content is untrue, or the disk refuses.
    pub fn write<S: ReadAt + ?Sized>(
        &self,
        archive: &Archive<'_, S>,
        tree: &mut Tree,
    ) -> Result<(), PackageError> {
        tree.closed.clone_from(&self.closed);
        for (path, node) in &self.nodes {
            match node {
                Node::Folder => tree.folder(path)?,
                Node::File { entry, executable } => {
                    let entry = &archive.entries()[*entry];
                    let mut content = archive.content(entry);
                    tree.file(path, *executable, &mut content, entry.size).map_err(|error| match error {
                        WriteError::Source(error) => Archive::<S>::blame(entry, error).into(),
                        WriteError::Package(error) => error,
                    })?;
                }
                Node::Link { .. } => {}
            }
        }
        for (path, node) in &self.nodes {
            if let Node::Link { target } = node {
                tree.link(path, target)?;
            }
        }
        Ok(())
    }

    /// Puts a node in its place, with the folders above it.
    fn add(&mut self, path: PathBuf, node: Node) -> Result<(), Taken> {
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            match self.nodes.get(parent) {
                Some(Node::Folder) => break,
                Some(_) => return Err(Taken),
                None => {
                    self.nodes.insert(parent.to_owned(), Node::Folder);
                }
            }
        }
        match self.nodes.get(&path) {
            None => {
                self.nodes.insert(path, node);
                Ok(())
            }
            Some(Node::Folder) if node == Node::Folder => Ok(()),
            Some(_) => Err(Taken),
        }
    }

    fn check_links(&self) -> Result<(), LayoutError> {
        for (path, node) in &self.nodes {
            let Node::Link { target } = node else { continue };
            let name = || printable(path.as_os_str().as_bytes());
            let mut hops = 0;
            self.resolve(path, &mut hops).map_err(|lost| match lost {
                Lost::Outside => {
                    LayoutError::LinkOutside { name: name(), target: printable(target.as_bytes()) }
                }
                Lost::Circle => LayoutError::LinkNowhere { name: name() },
            })?;
        }
        Ok(())
    }

    /// Follows a path as the kernel would, with the package as the world. What does not exist leads nowhere harmful as
    /// long as its name stays inside.
    fn resolve(&self, path: &Path, hops: &mut usize) -> Result<PathBuf, Lost> {
        let mut real = PathBuf::new();
        for part in path.as_os_str().as_bytes().split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if !real.pop() {
                        return Err(Lost::Outside);
                    }
                }
                _ => {
                    real.push(OsStr::from_bytes(part));
                    if let Some(Node::Link { target }) = self.nodes.get(&real) {
                        *hops += 1;
                        if *hops > HOPS_MAX {
                            return Err(Lost::Circle);
                        }
                        if target.as_bytes().starts_with(b"/") {
                            return Err(Lost::Outside);
                        }
                        real.pop();
                        // Not `join`: its normalising of `..` is the very thing that must not happen here.
                        let mut next = real.into_os_string();
                        if !next.is_empty() {
                            next.push("/");
                        }
                        next.push(target);
                        real = self.resolve(Path::new(&next), hops)?;
                    }
                }
            }
        }
        Ok(real)
    }
}

struct Taken;

enum Lost {
    Outside,
    Circle,
}

/// The path of an entry, and whether its name ends as a folder's does.
fn path_of(entry: &Entry) -> Result<(PathBuf, bool), LayoutError> {
    let mut name = entry.name.clone();
    if entry.host == HOST_DOS && !name.contains(&b'/') {
        // Some tools on Windows write `\`; a name with `/` as well means it as a letter.
        name.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
    }
    if name.is_empty() {
        return Err(fault(entry, NameFault::Empty));
    }
    if name.contains(&0) {
        return Err(fault(entry, NameFault::Nul));
    }
    if name.starts_with(b"/") {
        return Err(fault(entry, NameFault::Absolute));
    }
    if name.len() > PATH_MAX {
        return Err(fault(entry, NameFault::TooLong));
    }
    let mut path = Vec::with_capacity(name.len());
    let mut depth = 0;
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(fault(entry, NameFault::Parent)),
            _ if part.len() > NAME_MAX => return Err(fault(entry, NameFault::TooLong)),
            _ => depth += 1,
        }
        if depth > DEPTH_MAX {
            return Err(fault(entry, NameFault::TooDeep));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Ok((PathBuf::from(OsString::from_vec(path)), name.ends_with(b"/")))
}

/// Whether others may not read an entry, or not enter it; modes of links, and those that were never set, say nothing.
///
/// Source: Lambda Developer Guide, "Troubleshoot deployment issues in Lambda", permission is denied (published): 644 for files,
/// 755 for folders and programs.
fn is_closed(entry: &Entry, ends_as_folder: bool) -> bool {
    let is_folder = ends_as_folder || entry.mode & KIND_MASK == KIND_FOLDER;
    let wanted = if is_folder { 0o005 } else { 0o004 };
    entry.mode & 0o777 != 0 && entry.mode & KIND_MASK != KIND_LINK && entry.mode & wanted != wanted
}

fn node_of<S: ReadAt + ?Sized>(
    archive: &Archive<'_, S>,
    index: usize,
    entry: &Entry,
    ends_as_folder: bool,
) -> Result<Node, PackageError> {
    let kind = entry.mode & KIND_MASK;
    match kind {
        _ if ends_as_folder && (kind == 0 || kind == KIND_FOLDER) => Ok(Node::Folder),
        KIND_FOLDER if entry.size == 0 => Ok(Node::Folder),
        0 | KIND_FILE if !ends_as_folder => {
            Ok(Node::File { entry: index, executable: entry.mode & ANY_EXECUTE != 0 })
        }
        KIND_LINK if !ends_as_folder => {
            let nowhere = || LayoutError::LinkNowhere { name: printable(&entry.name) };
            if entry.size == 0 || entry.size > LINK_MAX as u64 {
                return Err(nowhere().into());
            }
            let mut target = Vec::new();
            let read = archive.content(entry).read_to_end(&mut target);
            read.map_err(|error| -> ArchiveError { Archive::<S>::blame(entry, error) })?;
            if target.contains(&0) {
                return Err(nowhere().into());
            }
            Ok(Node::Link { target: OsString::from_vec(target) })
        }
        _ => Err(LayoutError::Kind { name: printable(&entry.name), mode: entry.mode }.into()),
    }
}

fn fault(entry: &Entry, why: NameFault) -> LayoutError {
    LayoutError::Name { name: printable(&entry.name), why }
}
