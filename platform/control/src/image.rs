//! Functions from container images: what is known of the image, who fetches it, and what the template overrides of it.

use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Items of EntryPoint and of Command. Source: Lambda API reference, ImageConfig, published.
pub const IMAGE_LIST_MAX: usize = 1_500;
/// Characters of WorkingDirectory. Source: as above.
pub const WORKING_DIRECTORY_MAX: usize = 1_000;

/// Has container images. Calls may take as long as a download; they come from threads that may block.
pub trait Images: Send + Sync + fmt::Debug {
    /// Looks at the image that `source` names, an `ImageUri` or a path of this machine, for `x86_64` or `arm64`; no layer is
    /// fetched for that.
    ///
    /// # Errors
    /// It cannot be had.
    fn look(&self, source: &str, architecture: &str) -> Result<Sight, ImageFault>;

    /// Has an image in place, as long as `wanted` says so.
    ///
    /// # Errors
    /// It cannot be had, or nobody wants it any more.
    fn fetch(
        &self,
        source: &str,
        architecture: &str,
        wanted: &dyn Fn() -> bool,
    ) -> Result<FoundImage, ImageFault>;

    /// An image that was fetched before, by its id; also by a process before this one.
    fn find(&self, id: &str) -> Option<FoundImage>;

    /// Says which images functions refer to, by id; others may go.
    fn keep(&self, ids: HashSet<String>);

    /// Ends the programs of this machine that images are asked of; nothing is asked of them from now on.
    fn stop(&self) {}
}

/// What a look at an image finds.
#[derive(Clone, Debug)]
pub enum Sight {
    /// It is in place.
    Here(FoundImage),
    /// It has to be fetched.
    Elsewhere {
        /// What to fetch: the very image that was seen, where that can be named.
        source: String,
        /// SHA-256 of its manifest, 64 hex digits, if it is known.
        digest: Option<String>,
    },
}

/// Why an image cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageFault {
    /// Nobody has it.
    Missing(String),
    /// Its registry refuses us.
    Denied(String),
    /// It is damaged, hostile, too large or for another platform.
    Invalid(String),
    /// This host or the network failed.
    Failed(String),
}

impl ImageFault {
    /// What happened.
    pub fn text(&self) -> &str {
        match self {
            Self::Missing(text) | Self::Denied(text) | Self::Invalid(text) | Self::Failed(text) => text,
        }
    }
}

/// An image that is in place.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// What it is found by later.
    pub id: String,
    /// SHA-256 of its manifest, 64 hex digits.
    pub digest: String,
    /// What it says of its program.
    pub settings: ImageSettings,
    /// Its files.
    pub root: ImageRoot,
}

/// What an image says of its program: ENTRYPOINT, CMD, WORKDIR and ENV.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSettings {
    /// ENTRYPOINT.
    pub entry_point: Vec<String>,
    /// CMD.
    pub command: Vec<String>,
    /// WORKDIR.
    pub working_directory: Option<String>,
    /// ENV, in order.
    pub environment: Vec<(String, String)>,
}

/// An image's folders, lowest first, and what keeps them there.
#[derive(Clone, Default)]
pub struct ImageRoot {
    /// To be laid over each other; none while the image is not there.
    pub layers: Vec<PathBuf>,
    /// Held as long as somebody may still run it.
    pub lease: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for ImageRoot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ImageRoot").field(&self.layers).finish()
    }
}

impl PartialEq for ImageRoot {
    fn eq(&self, other: &Self) -> bool {
        self.layers == other.layers
    }
}

/// A function's image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// As it was given.
    pub uri: String,
    /// What it is found by in the store.
    pub id: String,
    /// SHA-256 of its manifest, 64 hex digits.
    pub digest: String,
    /// What it says of its program.
    pub settings: ImageSettings,
    /// Its files.
    #[serde(skip)]
    pub root: ImageRoot,
}

impl Image {
    /// An image that was found under that URI.
    pub(crate) fn new(uri: &str, found: FoundImage) -> Self {
        let FoundImage { id, digest, settings, root } = found;
        Self { uri: uri.to_owned(), id, digest, settings, root }
    }

    /// The URI with the digest in place of the tag.
    pub fn resolved_uri(&self) -> String {
        resolved_uri(&self.uri, &self.digest)
    }
}

fn resolved_uri(uri: &str, digest: &str) -> String {
    let without_digest = uri.split('@').next().unwrap_or_default();
    let slash = without_digest.rfind('/').map_or(0, |at| at + 1);
    let name = match without_digest[slash..].find(':') {
        Some(colon) => &without_digest[..slash + colon],
        None => without_digest,
    };
    format!("{name}@sha256:{digest}")
}

impl Pull {
    /// The URI with the digest in place of the tag, once that is known.
    pub fn resolved_uri(&self) -> Option<String> {
        self.digest.as_ref().map(|digest| resolved_uri(&self.uri, digest))
    }
}

/// An image on its way to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// As it was given.
    pub uri: String,
    /// Where it is fetched from.
    pub source: String,
    /// What the function runs on from then on: `x86_64` or `arm64`.
    pub architecture: String,
    /// SHA-256 of its manifest, 64 hex digits, if it is known.
    pub digest: Option<String>,
    /// Whether a version is published once it is there.
    pub publish: bool,
    /// Tells this pull from any other.
    pub ticket: String,
}

/// `ImageConfig`: what takes the place of an image's own settings. An absent or empty list leaves them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// In place of ENTRYPOINT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<Vec<String>>,
    /// In place of CMD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// In place of WORKDIR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
}

impl ImageConfig {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        none(&self.entry_point)
            && none(&self.command)
            && self.working_directory.as_ref().is_none_or(String::is_empty)
    }

    /// An image's settings with these in their place.
    pub fn over(&self, settings: &ImageSettings) -> ImageSettings {
        let list = |own: &Option<Vec<String>>, image: &Vec<String>| {
            own.clone().filter(|own| !own.is_empty()).unwrap_or_else(|| image.clone())
        };
        let folder = self.working_directory.clone().filter(|folder| !folder.is_empty());
        ImageSettings {
            entry_point: list(&self.entry_point, &settings.entry_point),
            command: list(&self.command, &settings.command),
            working_directory: folder.or_else(|| settings.working_directory.clone()),
            environment: settings.environment.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolved_uri_names_the_digest() {
        let resolved = |uri: &str| {
            let image = Image {
                uri: uri.to_owned(),
                id: String::new(),
                digest: "ab".to_owned(),
                settings: ImageSettings::default(),
                root: ImageRoot::default(),
            };
            image.resolved_uri()
        };
        assert_eq!(resolved("localhost:5000/app:1"), "localhost:5000/app@sha256:ab");
        assert_eq!(resolved("localhost:5000/app"), "localhost:5000/app@sha256:ab");
        assert_eq!(resolved("host/app:1@sha256:00"), "host/app@sha256:ab");
    }

    #[test]
    fn overrides_take_the_place_of_what_they_name_alone() {
        let list = |text: &str| vec![text.to_owned()];
        let image =
            ImageSettings { entry_point: list("/run"), command: list("a"), ..ImageSettings::default() };
        let config =
            ImageConfig { command: Some(list("b")), entry_point: Some(Vec::new()), ..Default::default() };
        let over = config.over(&image);
        assert_eq!((over.entry_point, over.command), (list("/run"), list("b")));
        assert!(!config.is_empty() && ImageConfig::default().is_empty());
    }
}
