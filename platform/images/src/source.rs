//! Where images come from: each source finds an image's documents and opens its layers; all of it is checked by the caller.

pub(crate) mod archive;
mod credentials;
pub(crate) mod engine;
mod http;
pub(crate) mod layout;
mod mortal;
mod proxy;
pub(crate) mod registry;

use crate::ImageError;
use crate::digest::{Digest, Hashing};
use crate::manifest::{
    Architecture, Configuration, DOCUMENT_BYTES_MAX, Descriptor, Document, Manifest, choose, digest_of, unfit,
};
use crate::place::means;
use std::io::Read;

/// Indexes within indexes.
const NESTING_MAX: usize = 3;
/// What an OCI layout calls its images. Source: OCI image specification, "Annotations".
const NAME_ANNOTATIONS: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// Something that has images.
pub(crate) trait Source {
    /// Finds the image that is asked for.
    fn find(&self, architecture: Architecture) -> Result<Found, ImageError>;

    /// Opens a layer of an image that was found here.
    fn open(&self, layer: &LayerAt) -> Result<Box<dyn Read + '_>, ImageError>;
}

/// An image's documents, checked against their digests.
#[derive(Debug)]
pub(crate) struct Found {
    /// Of its manifest; archives of Docker's have none.
    pub digest: Option<Digest>,
    /// Of its configuration: what Docker calls the image's id.
    pub id: Digest,
    pub configuration: Configuration,
    /// Lowest first, as many as the configuration has.
    pub layers: Vec<LayerAt>,
}

/// Where a layer is in its source.
#[derive(Clone, Debug)]
pub(crate) enum LayerAt {
    /// A blob by its digest.
    Blob(Digest),
    /// A member of an archive, which is the digest of nothing.
    Member(String),
}

impl LayerAt {
    /// What the bytes must be, if that is known.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Blob(digest) => Some(*digest),
            Self::Member(_) => None,
        }
    }
}

impl Found {
    pub fn new(
        digest: Option<Digest>,
        id: Digest,
        configuration: Configuration,
        layers: Vec<LayerAt>,
        architecture: Architecture,
    ) -> Result<Self, ImageError> {
        let Configuration { os, architecture: found, diff_ids, .. } = &configuration;
        let fits = |text: &str, wanted: &str| text.is_empty() || text == wanted;
        if !fits(os, "linux") || !fits(found, architecture.word()) {
            return Err(unfit(&format!("{os}/{found}"), architecture));
        }
        if diff_ids.len() != layers.len() {
            let why = format!("it has {} layers and the manifest {}", diff_ids.len(), layers.len());
            return Err(ImageError::Document { document: "image configuration", why });
        }
        Ok(Self { digest, id, configuration, layers })
    }
}

/// What a document is: registries have them at different addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Manifest,
    Configuration,
}

/// Goes from a document to the manifest for `architecture`, and to its configuration. `fetch` gives a document by its digest.
pub(crate) fn resolve(
    top: Document,
    mut digest: Option<Digest>,
    architecture: Architecture,
    fetch: &mut dyn FnMut(Digest, Part) -> Result<Vec<u8>, ImageError>,
) -> Result<Found, ImageError> {
    let mut document = top;
    for _ in 0..=NESTING_MAX {
        match document {
            Document::Index(entries) => {
                let wanted = digest_of(choose(&entries, architecture)?)?;
                document = Document::parse(&checked(wanted, fetch(wanted, Part::Manifest)?)?)?;
                digest = Some(wanted);
            }
            Document::Manifest(Manifest { config, layers }) => {
                let configuration =
                    Configuration::parse(&checked(config, fetch(config, Part::Configuration)?)?)?;
                let layers = layers.into_iter().map(LayerAt::Blob).collect();
                return Found::new(digest, config, configuration, layers, architecture);
            }
        }
    }
    let why = format!("indexes are nested more than {NESTING_MAX} deep");
    Err(ImageError::Document { document: "image index", why })
}

/// Chooses among the images of a layout: by tag, or the only one.
pub(crate) fn by_tag(entries: Vec<Descriptor>, tag: Option<&str>) -> Result<Vec<Descriptor>, ImageError> {
    let name =
        |entry: &Descriptor| NAME_ANNOTATIONS.iter().find_map(|key| entry.annotations.get(*key)).cloned();
    let wrong = |why: String| ImageError::Document { document: "image index", why };
    let tags = || entries.iter().filter_map(name).take(20).collect::<Vec<_>>().join(", ");
    if let Some(tag) = tag {
        let is_it = |entry: &Descriptor| name(entry).is_some_and(|name| means(tag, &name));
        let chosen: Vec<_> = entries.iter().filter(|entry| is_it(entry)).cloned().collect();
        return if chosen.is_empty() {
            Err(wrong(format!("it has no image `{tag}`; there is: {}", tags())))
        } else {
            Ok(chosen)
        };
    }
    if entries.len() > 1 && entries.iter().any(|entry| entry.platform.is_none()) {
        return Err(wrong(format!("it has several images, say which behind a colon: {}", tags())));
    }
    Ok(entries)
}

/// The same bytes, if they are what they should be.
pub(crate) fn checked(expected: Digest, bytes: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let found = Digest::of(&bytes);
    if found == expected { Ok(bytes) } else { Err(ImageError::Digest { expected, found }) }
}

/// Reads a document whole, and no more than a document may have.
pub(crate) fn document(source: impl Read, document: &'static str) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let read = Hashing::new(source, DOCUMENT_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| ImageError::Document { document, why: error.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_the_latest_as_docker_has_it() {
        let named = |name: &str, wanted: &str| {
            let digest = Digest::of(b"x");
            let index = format!(
                r#"{{"manifests": [{{"digest": "{digest}", "size": 1, "annotations": {{"{}": "{name}"}}}}]}}"#,
                NAME_ANNOTATIONS[1]
            );
            match Document::parse(index.as_bytes()).unwrap() {
                Document::Index(entries) => by_tag(entries, Some(wanted)).is_ok(),
                manifest => panic!("{manifest:?}"),
            }
        };
        for name in ["app", "app:latest", "docker.io/library/app:latest", "localhost/app:latest"] {
            assert!(named(name, "app") && named(name, "app:latest"), "{name}");
        }
        for name in ["app:v1", "team/app:latest", "example.com/app:latest", "happ:latest"] {
            assert!(!named(name, "app"), "{name}");
        }
        assert!(named("team/app:v1", "v1") && named("team/app:v1", "docker.io/team/app:v1"));
    }
}
