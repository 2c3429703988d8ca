//! The access keys that are taken: from `KEY:SECRET`, or from a file such as `~/.aws/credentials`.

use super::time;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Keys that are read at most.
const KEYS_MAX: usize = 1_000;
/// Bytes of a credentials file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id, `AKIA…`.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// What a request with temporary credentials must bring along.
    pub session_token: Option<SessionToken>,
    /// When temporary credentials end, in seconds since 1970.
    pub expires_s: Option<u64>,
    /// The account that it is of, twelve digits; `None`: whichever the platform was started for.
    pub account_id: Option<String>,
}

/// A session token, whole or by its beginning.
#[derive(Clone, PartialEq, Eq)]
pub enum SessionToken {
    /// This one.
    Is(String),
    /// Any that starts so: functions' own, which end in the function's name.
    Begins(String),
}

impl fmt::Debug for Key {
    /// The id alone.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// All keys that are taken, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    all: Vec<Key>,
    /// Where each is, by id.
    places: BTreeMap<String, usize>,
}

/// Why keys could not be read. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the credentials file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than a credentials file.
    #[error("the credentials file {} has more than {FILE_BYTES_MAX} bytes or {KEYS_MAX} keys", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A profile lacks something.
    #[error("the credentials file {}: the profile [{profile}] has no {member}", path.display())]
    Incomplete {
        /// Which file.
        path: PathBuf,
        /// Which profile.
        profile: String,
        /// What is missing.
        member: &'static str,
    },
    /// There is no key in it.
    #[error("the credentials file {} has no aws_access_key_id; KEY:SECRET also works", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

impl Keys {
    /// Reads `KEY:SECRET` or `KEY:SECRET@ACCOUNT`, or the file of that name in the format of the AWS CLI, by `open`.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn add<R: io::Read>(
        &mut self,
        word: &str,
        open: impl FnOnce(&Path) -> io::Result<R>,
    ) -> Result<(), KeysError> {
        if let Some((id, secret)) =
            word.split_once(':').filter(|(id, secret)| is_id(id) && !secret.is_empty())
        {
            let with_account =
                secret.rsplit_once('@').filter(|(_, account)| model::name::is_account(account));
            self.put(Key {
                id: id.to_owned(),
                secret: with_account.map_or(secret, |(secret, _)| secret).to_owned(),
                session_token: None,
                expires_s: None,
                account_id: with_account.map(|(_, account)| account.to_owned()),
            });
            return Ok(());
        }
        let path = Path::new(word);
        let fail = |source| KeysError::File { path: path.to_owned(), source };
        let text = io::read_to_string(open(path).map_err(fail)?.take(FILE_BYTES_MAX + 1)).map_err(fail)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(KeysError::TooLarge { path: path.to_owned() });
        }
        for key in read(&text, path)? {
            self.put(key);
        }
        if self.all.len() > KEYS_MAX {
            return Err(KeysError::TooLarge { path: path.to_owned() });
        }
        Ok(())
    }

    /// Takes one more; one of the same id makes way for it.
    pub fn put(&mut self, key: Key) {
        let place = *self.places.entry(key.id.clone()).or_insert(self.all.len());
        match self.all.get_mut(place) {
            Some(former) => *former = key,
            None => self.all.push(key),
        }
    }

    /// The accounts that keys are of, each once.
    pub fn accounts(&self) -> BTreeSet<String> {
        self.all.iter().filter_map(|key| key.account_id.clone()).collect()
    }

    /// Whether there is none: then nothing is verified.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The first key of an account that is for more than a session; keys that name no account are of `home_account_id`.
    pub fn lasting(&self, account_id: &str, home_account_id: &str) -> Option<&Key> {
        let of = |key: &Key| key.account_id.as_deref().unwrap_or(home_account_id) == account_id;
        self.all.iter().find(|key| key.session_token.is_none() && of(key))
    }

    /// The key of that id, if the session token is the one that belongs to it.
    pub(super) fn find(&self, id: &str, session_token: Option<&str>) -> Option<&Key> {
        let key = self.all.get(*self.places.get(id)?)?;
        let fits = match (&key.session_token, session_token) {
            (None, None) => true,
            (Some(SessionToken::Is(own)), Some(given)) => own == given,
            (Some(SessionToken::Begins(own)), Some(given)) => given.starts_with(own.as_str()),
            _ => false,
        };
        fits.then_some(key)
    }
}

/// Letters, digits and `_`: what no path on the command line is together with a colon.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Every profile of a file. Source: AWS CLI User Guide, "Configuration and credential file settings", published.
fn read(text: &str, path: &Path) -> Result<Vec<Key>, KeysError> {
    let mut profiles: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            profiles.push((name.trim().to_owned(), BTreeMap::new()));
        } else if let (Some((key, value)), Some((_, members))) = (line.split_once('='), profiles.last_mut()) {
            members.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut keys = Vec::new();
    for (profile, mut members) in profiles {
        let Some(id) = members.remove("aws_access_key_id") else { continue };
        let member = "aws_secret_access_key";
        let Some(secret) = members.remove(member).filter(|secret| !secret.is_empty()) else {
            return Err(KeysError::Incomplete { path: path.to_owned(), profile, member });
        };
        let expires = members.remove("x_security_token_expires").or_else(|| members.remove("aws_expiration"));
        keys.push(Key {
            id,
            secret,
            session_token: members.remove("aws_session_token").map(SessionToken::Is),
            expires_s: expires.and_then(|text| expiry(&text)),
            account_id: members.remove("aws_account_id").filter(|account| model::name::is_account(account)),
        });
    }
    if keys.is_empty() {
        return Err(KeysError::Empty { path: path.to_owned() });
    }
    Ok(keys)
}

/// `2025-11-24T23:08:11Z`, with any fraction, in UTC.
fn expiry(text: &str) -> Option<u64> {
    let whole = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let whole = whole.split('.').next()?;
    let plain: String = whole.chars().filter(|letter| !matches!(letter, '-' | ':')).collect();
    time::seconds(&format!("{plain}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn open(path: &Path) -> io::Result<File> {
        File::open(path)
    }

    #[test]
    fn profiles_of_a_credentials_file_are_keys() {
        let text = "# mine\n[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key=a/b+c=\n\n[temporary]\n\
                    aws_access_key_id=ASIA1\naws_secret_access_key=s\naws_session_token=t\nx_security_token_expires=2025-11-24T23:08:11Z\n\
                    [sso]\nsso_session = x\n";
        let keys = read(text, Path::new("f")).unwrap();
        assert_eq!((keys[0].id.as_str(), keys[0].secret.as_str()), ("AKIDEXAMPLE", "a/b+c="));
        assert_eq!(keys[1].expires_s, Some(1_764_025_691));
        let mut all = Keys::default();
        keys.into_iter().for_each(|key| all.put(key));
        assert!(all.find("AKIDEXAMPLE", None).is_some() && all.find("AKIDEXAMPLE", Some("t")).is_none());
        assert!(all.find("ASIA1", Some("t")).is_some() && all.find("ASIA1", None).is_none());
        assert!(!format!("{all:?}").contains("a/b+c="), "no secret is shown");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_by_profile() {
        let error = read("[a]\naws_access_key_id=x\n", Path::new("f")).unwrap_err();
        assert_eq!(error.to_string(), "the credentials file f: the profile [a] has no aws_secret_access_key");
        assert!(matches!(read("", Path::new("f")), Err(KeysError::Empty { .. })));
        assert!(matches!(Keys::default().add("/nowhere/at:all", open), Err(KeysError::File { .. })));
        let mut keys = Keys::default();
        keys.add("AKID:a:b", open).unwrap();
        assert_eq!(keys.find("AKID", None).unwrap().secret, "a:b");
    }

    #[test]
    fn a_key_may_be_of_another_account() {
        let mut keys = Keys::default();
        keys.add("AKID:a@b@123456789012", open).unwrap();
        keys.add("OTHER:a@123", open).unwrap();
        let key = keys.find("AKID", None).unwrap();
        assert_eq!((key.secret.as_str(), key.account_id.as_deref()), ("a@b", Some("123456789012")));
        let key = keys.find("OTHER", None).unwrap();
        assert_eq!((key.secret.as_str(), key.account_id.as_deref()), ("a@123", None));
        let text = "[d]\naws_access_key_id=x\naws_secret_access_key=y\naws_account_id=210987654321\n";
        read(text, Path::new("f")).unwrap().into_iter().for_each(|key| keys.put(key));
        assert_eq!(keys.accounts().into_iter().collect::<Vec<_>>(), ["123456789012", "210987654321"]);
    }

    #[test]
    fn the_first_lasting_key_of_an_account_is_the_first_that_was_given() {
        let (home, other) = ("000000000000", "123456789012");
        let mut keys = Keys::default();
        for word in ["ZULU:s@123456789012", "YANKEE:s@000000000000", "ALPHA:s", "BRAVO:s@123456789012"] {
            keys.add(word, open).unwrap();
        }
        let of = |keys: &Keys, account| keys.lasting(account, home).map(|key| key.id.clone());
        assert_eq!(of(&keys, home).as_deref(), Some("YANKEE"), "it may name its account");
        assert_eq!(of(&keys, other).as_deref(), Some("ZULU"));
        assert_eq!(of(&keys, "210987654321"), None);
        let text = "[d]\naws_access_key_id=YANKEE\naws_secret_access_key=y\naws_session_token=t\n";
        read(text, Path::new("f")).unwrap().into_iter().for_each(|key| keys.put(key));
        assert_eq!(of(&keys, home).as_deref(), Some("ALPHA"), "a session's is none");
        assert!(keys.find("YANKEE", Some("t")).is_some() && keys.find("YANKEE", None).is_none());
    }
}
