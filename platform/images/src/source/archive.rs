//! A tar archive with images: as `docker save` and `podman save` write it, or an OCI layout in a tar.
//!
//! Source: Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format". Members are found in one pass over
//! the headers; contents are read where they lie.

use super::{Found, LayerAt, Source, by_tag, document, resolve};
use crate::ImageError;
use crate::digest::Digest;
use crate::manifest::{Architecture, Configuration, Document};
use crate::place::means;
use crate::store::LAYERS_MAX;
use crate::tar::{Kind, Tar};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Members of one archive: each image has a few files a layer.
const MEMBERS_MAX: usize = 100_000;
const NAME: &str = "archive's manifest.json";

/// An archive, its members found.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    tag: Option<String>,
    members: HashMap<String, Member>,
}

#[derive(Debug)]
enum Member {
    File {
        at: u64,
        size: u64,
    },
    /// Older Dockers write a layer that is there twice as a link.
    Link(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Looks through an archive's headers.
    ///
    /// # Errors
    /// It cannot be read, or is no tar archive.
    pub fn open(path: &Path, tag: Option<&str>) -> Result<Self, ImageError> {
        let fail = |source: io::Error| ImageError::file(path, source);
        let wrong = |why: &str| {
            let why = format!("{} {why}", path.display());
            ImageError::Document { document: "archive", why }
        };
        let mut file = File::open(path).map_err(fail)?;
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(wrong("is not a file"));
        }
        let mut head = [0; 4];
        let count = file.read_at(&mut head, 0).map_err(fail)?;
        if head[..count].starts_with(&[0x1f, 0x8b]) || head == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(wrong("is compressed: decompress it first (gunzip, unzstd)"));
        }
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        let members = members(&file).map_err(|error| match error {
            crate::tar::TarError::Read(source) => fail(source),
            other => wrong(&format!("is no archive of an image: {other}")),
        })?;
        Ok(Self { path: path.to_owned(), file, tag: tag.map(str::to_owned), members })
    }

    /// A member's content; links are followed once, within the archive.
    fn member(&self, name: &str) -> Option<Section<'_>> {
        let name = clean(name);
        let member = match self.members.get(&name)? {
            Member::Link(target) => self.members.get(target)?,
            member => member,
        };
        match member {
            Member::File { at, size } => Some(Section { file: &self.file, at: *at, left: *size }),
            Member::Link(_) => None,
        }
    }

    fn require(&self, name: &str) -> Result<Section<'_>, ImageError> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("the archive has no member `{name}`"));
        self.member(name).ok_or_else(|| ImageError::file(&self.path, missing()))
    }

    fn blob(&self, digest: Digest) -> Result<Section<'_>, ImageError> {
        self.require(&format!("blobs/sha256/{}", digest.hex()))
    }

    fn saved(&self, manifest: Section<'_>, architecture: Architecture) -> Result<Found, ImageError> {
        let wrong = |why: String| ImageError::Document { document: NAME, why };
        let bytes = document(manifest, NAME)?;
        let all: Vec<Saved> = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
        let known = || all.iter().flat_map(tags).take(20).collect::<Vec<_>>().join(", ");
        let saved = match (&self.tag, all.as_slice()) {
            (None, [saved]) => saved,
            (None, []) => return Err(wrong("it lists no image".to_owned())),
            (None, _) => {
                return Err(wrong(format!("it has several images, say which behind a colon: {}", known())));
            }
            (Some(tag), _) => {
                let found = all.iter().find(|saved| tags(saved).iter().any(|name| means(tag, name)));
                found.ok_or_else(|| wrong(format!("it has no image `{tag}`; there is: {}", known())))?
            }
        };
        if saved.layers.len() > LAYERS_MAX {
            return Err(ImageError::Layers { count: saved.layers.len() });
        }
        let bytes = document(self.require(&saved.config)?, "image configuration")?;
        let configuration = Configuration::parse(&bytes)?;
        let layers = saved.layers.iter().cloned().map(LayerAt::Member).collect();
        Found::new(None, Digest::of(&bytes), configuration, layers, architecture)
    }
}

impl Source for Archive {
    fn find(&self, architecture: Architecture) -> Result<Found, ImageError> {
        if let Some(manifest) = self.member("manifest.json") {
            return self.saved(manifest, architecture);
        }
        let Some(index) = self.member("index.json") else {
            let why = "the archive has neither manifest.json nor index.json: no image was saved to it";
            return Err(ImageError::Reference {
                reference: self.path.display().to_string(),
                why: why.to_owned(),
            });
        };
        let top = match Document::parse(&document(index, "image index")?)? {
            Document::Index(entries) => Document::Index(by_tag(entries, self.tag.as_deref())?),
            manifest => manifest,
        };
        resolve(top, None, architecture, &mut |digest, _| document(self.blob(digest)?, "image manifest"))
    }

    fn open(&self, layer: &LayerAt) -> Result<Box<dyn Read + '_>, ImageError> {
        Ok(Box::new(match layer {
            LayerAt::Blob(digest) => self.blob(*digest)?,
            LayerAt::Member(name) => self.require(name)?,
        }))
    }
}

fn members(file: &File) -> Result<HashMap<String, Member>, crate::tar::TarError> {
    let mut tar = Tar::new(io::BufReader::new(file));
    let mut members = HashMap::new();
    while let Some(entry) = tar.entry()? {
        let Ok(name) = String::from_utf8(entry.name) else { continue };
        let name = clean(&name);
        let member = match entry.kind {
            Kind::File => Member::File { at: tar.position(), size: entry.size },
            Kind::Symlink | Kind::HardLink => {
                let Ok(target) = String::from_utf8(entry.link) else { continue };
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let from_top = entry.kind == Kind::HardLink;
                Member::Link(clean(&if from_top { target } else { format!("{folder}/{target}") }))
            }
            _ => continue,
        };
        members.insert(name, member);
        if members.len() > MEMBERS_MAX {
            return Err(io::Error::other(format!("it has more than {MEMBERS_MAX} members")).into());
        }
    }
    Ok(members)
}

/// A name with `.`, `..` and empty parts resolved, as text: it only looks up other members.
fn clean(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..want], self.at)?;
        if count == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
