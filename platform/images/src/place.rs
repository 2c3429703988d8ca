//! What an `ImageUri` can say: a folder or archive of this machine, or a repository of a registry.

use crate::ImageError;
use crate::digest::Digest;
use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of one reference: Lambda knows no longer ones, and paths are no longer either.
const REFERENCE_MAX: usize = 4_096;
/// Bytes of a repository's name. Source: OCI distribution specification, "Pulling manifests".
const REPOSITORY_MAX: usize = 255;
/// Bytes of a tag. Source: as above.
const TAG_MAX: usize = 128;
/// Where names without a host are, as Docker has it.
const DEFAULT_HOST: &str = "docker.io";

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An OCI layout folder, or an archive as `docker save`, `podman save` and `skopeo copy` write it.
    Path {
        /// Absolute.
        path: PathBuf,
        /// Which of its images, when it holds several.
        tag: Option<String>,
    },
    /// A Docker or Podman that has it here, or else its registry.
    Registry {
        /// Where it is.
        repository: Repository,
        /// As it was written: what engines know it by.
        written: String,
    },
}

/// A name in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `localhost:5000`, `123456789012.dkr.ecr.us-east-1.amazonaws.com`.
    pub host: String,
    /// `team/app`.
    pub name: String,
    /// `latest` unless another is named.
    pub tag: String,
    /// The manifest's digest; it counts more than the tag.
    pub digest: Option<Digest>,
}

impl Place {
    /// Reads a reference: `oci:PATH[:TAG]`, `oci-archive:PATH`, `docker-archive:PATH[:[NAME:]TAG]`; a path that begins with `/`, `./` or
    /// `../`, ends with `.tar`, or is there; or `[HOST/]NAME[:TAG][@DIGEST]`. Relative paths are taken from `folder`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(reference: &str, folder: &Path) -> Result<Self, ImageError> {
        let wrong = |why: &str| ImageError::Reference { reference: shown(reference), why: why.to_owned() };
        if reference.is_empty() || reference.len() > REFERENCE_MAX {
            return Err(wrong("it is empty, or too long"));
        }
        if reference.contains(char::is_control) {
            return Err(wrong("it holds control characters"));
        }
        let transports = ["oci:", "oci-archive:", "docker-archive:"];
        let named = transports.iter().find_map(|transport| reference.strip_prefix(transport));
        let is_path = ["/", "./", "../"].iter().any(|start| reference.starts_with(start))
            || reference.ends_with(".tar") && !reference.contains([':', '@']);
        if let Some(path) = named.or(is_path.then_some(reference)) {
            return Ok(Self::path(path, folder));
        }
        if folder.join(reference).exists() {
            return Ok(Self::Path { path: folder.join(reference), tag: None });
        }
        let repository = Repository::parse(reference).map_err(|why| wrong(&why))?;
        Ok(Self::Registry { repository, written: reference.to_owned() })
    }

    /// What [`Place::parse`] reads as this place, wherever it is taken from.
    pub fn reference(&self) -> String {
        match self {
            // Absolute, so it needs no word before it.
            Self::Path { .. } => self.to_string(),
            Self::Registry { written, .. } => written.clone(),
        }
    }

    /// A path that may have a tag behind it, or, as skopeo and Podman write it, a name and its tag.
    fn path(text: &str, folder: &Path) -> Self {
        let whole = folder.join(text);
        let mut splits = text.rmatch_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
        let named = splits.find(|(path, _)| folder.join(path).exists());
        // Of a file that is not there the path ends at the first colon, as skopeo has it.
        let named = named.or_else(|| text.split_once(':').filter(|(_, name)| !name.is_empty()));
        if let (false, Some((path, tag))) = (whole.exists(), named) {
            return Self::Path { path: folder.join(path), tag: Some(tag.to_owned()) };
        }
        Self::Path { path: whole, tag: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, tag: None } => write!(formatter, "{}", path.display()),
            Self::Path { path, tag: Some(tag) } => write!(formatter, "{}:{tag}", path.display()),
            Self::Registry { repository, .. } => write!(formatter, "{repository}"),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.name)?;
        match &self.digest {
            Some(digest) => write!(formatter, "@{digest}"),
            None => write!(formatter, ":{}", self.tag),
        }
    }
}

impl Repository {
    fn parse(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                (rest, Some(Digest::parse(digest).ok_or("what follows `@` is no sha256 digest")?))
            }
        };
        // Before the first `/` stands a host if it looks like one, as Docker has it.
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (DEFAULT_HOST, rest),
        };
        if !is_host(host) {
            return Err("its host is no host name".to_owned());
        }
        let (name, tag) = match path.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (path, None),
        };
        let fits = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let inner = |byte: u8| plain(byte) || matches!(byte, b'.' | b'_' | b'-');
            part.bytes().all(inner)
                && part.bytes().next().is_some_and(plain)
                && part.bytes().last().is_some_and(plain)
        };
        if name.is_empty() || name.len() > REPOSITORY_MAX || !name.split('/').all(fits) {
            return Err("there is no such file or folder, and a repository's name is of lower-case letters and digits, with `.`, `_`, `-` and `/` between".to_owned());
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("its tag is no tag".to_owned());
        }
        let official = host == DEFAULT_HOST && !name.contains('/');
        Ok(Self {
            host: host.to_owned(),
            name: if official { format!("library/{name}") } else { name.to_owned() },
            tag: tag.unwrap_or("latest").to_owned(),
            digest,
        })
    }
}

/// Whether somebody who says `wanted` means the image that is called `name`: by its name as it is, by its tag, or as Docker and
/// Podman complete names, with a host and `latest`. Podman's own images are of `localhost`.
pub(crate) fn means(wanted: &str, name: &str) -> bool {
    let is_its_tag = name.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted);
    let is_its_name = || {
        let names = [name, name.strip_prefix("localhost/").unwrap_or(name)];
        Repository::parse(wanted)
            .is_ok_and(|wanted| names.into_iter().any(|name| Repository::parse(name).as_ref() == Ok(&wanted)))
    };
    name == wanted || is_its_tag || is_its_name()
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    first && text.len() <= TAG_MAX && text.bytes().all(rest)
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "1"));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty() && name.bytes().all(fits) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_default).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Place, ImageError> {
        Place::parse(text, Path::new("/stack"))
    }

    #[test]
    fn paths_and_tags_are_told_from_repositories() {
        let path =
            |path: &str, tag: Option<&str>| Place::Path { path: path.into(), tag: tag.map(str::to_owned) };
        assert_eq!(parse("./app.tar").unwrap(), path("/stack/./app.tar", None));
        assert_eq!(parse("oci:layout:v1").unwrap(), path("/stack/layout", Some("v1")));
        assert_eq!(parse("docker-archive:/x/app.tar").unwrap(), path("/x/app.tar", None));
        assert_eq!(parse("/x/app").unwrap(), path("/x/app", None));
        assert_eq!(
            parse("images/app.tar").unwrap(),
            path("/stack/images/app.tar", None),
            "it need not be there"
        );
        assert_eq!(
            parse("docker-archive:app.tar:team/app").unwrap(),
            path("/stack/app.tar", Some("team/app"))
        );
        assert_eq!(parse("docker-archive:app.tar:app:v1").unwrap(), path("/stack/app.tar", Some("app:v1")));
        let shown = |text: &str| parse(text).unwrap().to_string();
        assert_eq!(shown("app"), "docker.io/library/app:latest");
        assert_eq!(shown("team/app:1"), "docker.io/team/app:1");
        assert_eq!(shown("localhost:5000/app"), "localhost:5000/app:latest");
        assert_eq!(shown("localhost:5000/app.tar"), "localhost:5000/app.tar:latest");
        let ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com/app";
        assert_eq!(shown(&format!("{ecr}:1")), format!("{ecr}:1"));
        let digest = Digest::of(b"x");
        assert_eq!(shown(&format!("{ecr}:1@{digest}")), format!("{ecr}@{digest}"));
    }

    #[test]
    fn what_is_neither_is_refused_with_the_reason() {
        for (text, words) in [
            ("", "empty"),
            ("App", "lower-case"),
            ("a//b", "lower-case"),
            ("app:", "tag"),
            ("app:a b", "tag"),
            ("app@sha256:12", "digest"),
            ("host.example:99999/app", "host"),
            ("a\nb", "control"),
            ("registry.example/../../etc", "lower-case"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(parse(&"a/".repeat(3_000)).is_err());
    }
}
