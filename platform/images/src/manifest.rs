//! The documents that describe an image: index, manifest, configuration. Read with bounds, and only what is needed.
//!
//! Source: OCI image specification 1.1, "Image Index", "Image Manifest", "Image Configuration"; Docker's manifest version 2,
//! schema 2, which has the same members.

use crate::ImageError;
use crate::digest::Digest;
use crate::store::LAYERS_MAX;
use serde::{Deserialize, Serialize};

/// Bytes of one document. Source: OCI distribution specification, "Pushing Manifests": registries take 4 MiB at least, and
/// hardly one takes more.
pub const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Manifests that one index may list.
const MANIFESTS_MAX: usize = 1_000;
/// Bytes of an image's own settings. Source: Lambda quotas, "Container image settings size", 16 KB, published.
pub const SETTINGS_BYTES_MAX: usize = 16 * 1024;

/// The processor that an image is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64` to Lambda, `amd64` to images.
    Amd64,
    /// `arm64` to both.
    Arm64,
}

impl Architecture {
    /// As images spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// What an index or a manifest says of a document or layer elsewhere.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Descriptor {
    pub digest: String,
    #[serde(default)]
    pub urls: Vec<String>,
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
}

/// An index or a manifest: they are told apart by their members, media types are often left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    schema_version: Option<u32>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// An index or a manifest.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

/// Where an image's configuration and layers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub config: Digest,
    /// Lowest first.
    pub layers: Vec<Digest>,
}

/// What an image says of the program that it runs. Source: OCI image specification, "Image Configuration", `config`. What
/// Lambda does not honour (USER, EXPOSE, VOLUME, HEALTHCHECK, STOPSIGNAL) is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// ENTRYPOINT.
    pub entry_point: Vec<String>,
    /// CMD.
    pub command: Vec<String>,
    /// WORKDIR.
    pub working_directory: Option<String>,
    /// ENV, in order.
    pub environment: Vec<(String, String)>,
}

/// A configuration as it is checked.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub architecture: String,
    pub os: String,
    /// Of the layers' uncompressed archives, lowest first.
    pub diff_ids: Vec<Digest>,
    pub settings: Settings,
}

fn wrong(document: &'static str, why: impl Into<String>) -> ImageError {
    ImageError::Document { document, why: why.into() }
}

fn digest(document: &'static str, text: &str) -> Result<Digest, ImageError> {
    let shown: String = text.chars().flat_map(char::escape_default).take(100).collect();
    Digest::parse(text).ok_or_else(|| wrong(document, format!("`{shown}` is no sha256 digest")))
}

/// Where lines and columns are of no help, the reason alone.
fn json<'a, T: Deserialize<'a>>(document: &'static str, bytes: &'a [u8]) -> Result<T, ImageError> {
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(wrong(document, format!("it is longer than {DOCUMENT_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|error| wrong(document, error.to_string()))
}

impl Document {
    /// Reads either.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        const NAME: &str = "image manifest";
        let either: Either = json(NAME, bytes)?;
        if either.schema_version.is_some_and(|version| version != 2) {
            return Err(wrong(NAME, "its schema version is not 2; push the image again with a newer Docker"));
        }
        if let Some(manifests) = either.manifests {
            if manifests.len() > MANIFESTS_MAX {
                return Err(wrong(NAME, format!("it lists more than {MANIFESTS_MAX} manifests")));
            }
            return Ok(Self::Index(manifests));
        }
        let (Some(config), Some(layers)) = (either.config, either.layers) else {
            return Err(wrong(NAME, "it has neither `manifests` nor `config` and `layers`"));
        };
        if layers.len() > LAYERS_MAX {
            return Err(ImageError::Layers { count: layers.len() });
        }
        if let Some(foreign) = layers.iter().find(|layer| !layer.urls.is_empty()) {
            let why = format!(
                "layer {} is to be fetched from elsewhere (`urls`), which is not done",
                foreign.digest
            );
            return Err(wrong(NAME, why));
        }
        let layers = layers.iter().map(|layer| digest(NAME, &layer.digest)).collect::<Result<_, _>>()?;
        Ok(Self::Manifest(Manifest { config: digest(NAME, &config.digest)?, layers }))
    }
}

/// The one entry of an index that is made for `architecture`; entries that name no platform may be.
///
/// # Errors
/// There is none.
pub(crate) fn choose(entries: &[Descriptor], architecture: Architecture) -> Result<&Descriptor, ImageError> {
    let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture.word();
    let named = entries.iter().find(|entry| entry.platform.as_ref().is_some_and(fits));
    let unnamed = || entries.iter().find(|entry| entry.platform.is_none());
    named.or_else(unnamed).ok_or_else(|| {
        let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
        // What build tools attach beside the images has an unknown platform.
        let known = platforms.filter(|platform| platform.os != "unknown");
        let found: Vec<String> = known.map(|found| format!("{}/{}", found.os, found.architecture)).collect();
        let found = if found.is_empty() { "no platform".to_owned() } else { found.join(", ") };
        unfit(&found, architecture)
    })
}

/// The error for an image of another platform.
pub(crate) fn unfit(found: &str, architecture: Architecture) -> ImageError {
    let shown: String = found.chars().flat_map(char::escape_default).take(200).collect();
    let hint = match architecture {
        Architecture::Amd64 => {
            "; build it with --platform linux/amd64, or set Architectures: [arm64] where the host is one"
        }
        Architecture::Arm64 => "; build it with --platform linux/arm64, or set Architectures: [x86_64]",
    };
    ImageError::Platform { found: shown, wanted: architecture.word(), hint }
}

/// The digest that an index's entry names.
pub(crate) fn digest_of(entry: &Descriptor) -> Result<Digest, ImageError> {
    digest("image index", &entry.digest)
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    rootfs: RawRootfs,
    config: Option<RawSettings>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSettings {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    env: Option<Vec<String>>,
}

impl Configuration {
    /// Reads and checks one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        const NAME: &str = "image configuration";
        let raw: RawConfiguration = json(NAME, bytes)?;
        if raw.rootfs.diff_ids.len() > LAYERS_MAX {
            return Err(ImageError::Layers { count: raw.rootfs.diff_ids.len() });
        }
        let diff_ids = raw.rootfs.diff_ids.iter().map(|text| digest(NAME, text)).collect::<Result<_, _>>()?;
        let raw_settings = raw.config.unwrap_or_default();
        let variables = raw_settings.env.unwrap_or_default();
        let environment = variables.iter().filter_map(|line| line.split_once('='));
        let settings = Settings {
            entry_point: raw_settings.entrypoint.unwrap_or_default(),
            command: raw_settings.cmd.unwrap_or_default(),
            working_directory: raw_settings.working_dir.filter(|folder| !folder.is_empty()),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        settings.check().map_err(|why| wrong(NAME, why))?;
        Ok(Self { architecture: raw.architecture, os: raw.os, diff_ids, settings })
    }
}

impl Settings {
    fn check(&self) -> Result<(), String> {
        let texts = self.entry_point.iter().chain(&self.command).chain(&self.working_directory);
        let variables = self.environment.iter().flat_map(|(name, value)| [name, value]);
        let mut bytes = 0;
        for text in texts.chain(variables) {
            bytes += text.len() + 1;
            if text.contains('\0') {
                return Err("a text holds a NUL character".to_owned());
            }
        }
        if bytes > SETTINGS_BYTES_MAX {
            return Err(format!(
                "its settings are larger than the {SETTINGS_BYTES_MAX} bytes that Lambda allows"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_index_offers_what_fits_and_says_what_there_is() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"digest":"sha256:{HEX}","platform":{{"os":"unknown","architecture":"unknown"}}}},
                {{"digest":"sha256:{HEX}","platform":{{"os":"linux","architecture":"arm64"}}}}]}}"#
        );
        let Document::Index(entries) = Document::parse(text.as_bytes()).unwrap() else { panic!() };
        assert_eq!(
            choose(&entries, Architecture::Arm64).unwrap().platform.as_ref().unwrap().architecture,
            "arm64"
        );
        let error = choose(&entries, Architecture::Amd64).unwrap_err().to_string();
        assert!(error.contains("is for linux/arm64, the function for linux/amd64"), "{error}");
        assert!(error.contains("--platform linux/amd64") && !error.contains("unknown"), "{error}");
    }

    #[test]
    fn wrong_documents_are_named() {
        let refused = |text: &str, words: &str| {
            let error = Document::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused("{}", "neither");
        refused("[", "EOF");
        refused(r#"{"schemaVersion":1}"#, "schema version");
        refused(r#"{"config":{"digest":"sha256:../../etc"},"layers":[]}"#, "no sha256 digest");
        let layer = format!(r#"{{"digest":"sha256:{HEX}","urls":["http://169.254.169.254/"]}}"#);
        refused(&format!(r#"{{"config":{{"digest":"sha256:{HEX}"}},"layers":[{layer}]}}"#), "from elsewhere");
        let many = vec![format!(r#"{{"digest":"sha256:{HEX}"}}"#); 10_000].join(",");
        refused(&format!(r#"{{"config":{{"digest":"sha256:{HEX}"}},"layers":[{many}]}}"#), "10000 layers");
    }

    #[test]
    fn settings_are_read_and_bounded() {
        let text = r#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[]},"config":
            {"Entrypoint":["/run"],"Cmd":null,"WorkingDir":"","User":"node","Env":["A=b=c","odd"]}}"#;
        let read = Configuration::parse(text.as_bytes()).unwrap();
        assert_eq!(read.settings.entry_point, ["/run"]);
        assert_eq!(read.settings.environment, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(read.settings.working_directory, None);
        let large = format!(r#"{{"rootfs":{{}},"config":{{"Cmd":["{}"]}}}}"#, "x".repeat(SETTINGS_BYTES_MAX));
        assert!(Configuration::parse(large.as_bytes()).unwrap_err().to_string().contains("16384 bytes"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_them_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            drop(Document::parse(&bytes));
            drop(Configuration::parse(&bytes));
        }
    }
}
