//! What outlives a restart: secrets that were made up, and values that were put by an API call. One small file, written
//! whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Largest file that is read back.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub value: String,
    /// Source of the value in the template when it was stored: a template that says something else since then wins.
    pub template: Option<String>,
    /// `String`, `StringList`, `SecureString`; empty for secrets.
    #[serde(default)]
    pub kind: String,
    /// Counts from 1, for parameters.
    #[serde(default)]
    pub version: u64,
    /// Of secrets.
    #[serde(default)]
    pub version_id: String,
    /// When it was put, Unix milliseconds.
    pub changed_ms: u64,
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub parameters: BTreeMap<String, Stored>,
    pub secrets: BTreeMap<String, Stored>,
}

/// Where it is kept; none for a store that forgets.
#[derive(Clone, Debug)]
pub(crate) struct Store(Option<PathBuf>);

impl Store {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<(Self, Content)> {
        let store = Self(path.map(Path::to_owned));
        let Some(path) = path else { return Ok((store, Content::default())) };
        let text = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((store, Content::default())),
            Ok(found) if found.len() > FILE_BYTES_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
            _ => fs::read(path)?,
        };
        let content = serde_json::from_slice(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((store, content))
    }

    /// Durable when it returns.
    pub(crate) fn save(&self, content: &Content) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        crate::authority::write(path, &serde_json::to_vec(content)?, 0o600)
    }
}
