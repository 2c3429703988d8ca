//! An OCI image layout: a folder with `index.json` and `blobs/sha256`; or the folder that `podman save --format docker-dir` and
//! `skopeo copy … dir:` write, with `manifest.json` and its blobs beside it.
//!
//! Source: OCI image specification, "Image Layout"; containers-transports(5), "dir", published.

use super::{Found, LayerAt, Source, by_tag, document, resolve};
use crate::ImageError;
use crate::digest::Digest;
use crate::manifest::{Architecture, Document};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// A layout folder, and which of its images is meant.
#[derive(Debug)]
pub(crate) struct Layout {
    pub folder: PathBuf,
    pub tag: Option<String>,
}

impl Layout {
    fn file(&self, relative: &str) -> Result<File, ImageError> {
        let path = self.folder.join(relative);
        let file = File::open(&path).map_err(|source| ImageError::file(&path, source))?;
        // A pipe or device in the place of a file would never end.
        let regular = file.metadata().map_err(|source| ImageError::file(&path, source))?.is_file();
        if regular { Ok(file) } else { Err(ImageError::file(&path, std::io::Error::other("not a file"))) }
    }

    fn blob(&self, digest: Digest) -> Result<File, ImageError> {
        let hex = digest.hex();
        if self.is_flat() { self.file(&hex) } else { self.file(&format!("blobs/sha256/{hex}")) }
    }

    /// Whether it is of the second kind.
    fn is_flat(&self) -> bool {
        !self.folder.join("index.json").exists() && self.folder.join("manifest.json").exists()
    }
}

impl Source for Layout {
    fn find(&self, architecture: Architecture) -> Result<Found, ImageError> {
        if self.is_flat() {
            let top = document(self.file("manifest.json")?, "image manifest")?;
            let digest = Digest::of(&top);
            return resolve(Document::parse(&top)?, Some(digest), architecture, &mut |digest, _| {
                document(self.blob(digest)?, "image manifest")
            });
        }
        if !self.folder.join("index.json").exists() {
            return Err(ImageError::Reference {
                reference: self.folder.display().to_string(),
                why: "the folder has no index.json: it is no OCI layout (`skopeo copy … oci:FOLDER` writes one)".to_owned(),
            });
        }
        let top = document(self.file("index.json")?, "image index")?;
        let top = match Document::parse(&top)? {
            Document::Index(entries) => Document::Index(by_tag(entries, self.tag.as_deref())?),
            manifest => manifest,
        };
        resolve(top, None, architecture, &mut |digest, _| document(self.blob(digest)?, "image manifest"))
    }

    fn open(&self, layer: &LayerAt) -> Result<Box<dyn Read + '_>, ImageError> {
        match layer {
            LayerAt::Blob(digest) => Ok(Box::new(self.blob(*digest)?)),
            LayerAt::Member(name) => Ok(Box::new(self.file(name)?)),
        }
    }
}
