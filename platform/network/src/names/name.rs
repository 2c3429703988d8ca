//! A host name, checked and in lower case.

use std::fmt;
use std::sync::Arc;

/// Longest name, in characters without the final dot (RFC 1035, section 2.3.4: 255 bytes on the wire).
const CHARACTERS_MAX: usize = 253;
/// Longest label.
const LABEL_CHARACTERS_MAX: usize = 63;

/// A host name: labels of letters, digits, `-` and `_`, a first label of `*` allowed, lower case, no final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name, if it is one.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let label_is_sound = |(index, label): (usize, &str)| {
            (index == 0 && label == "*")
                || (!label.is_empty()
                    && label.len() <= LABEL_CHARACTERS_MAX
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'))
        };
        let sound = text.len() <= CHARACTERS_MAX && text.split('.').enumerate().all(label_is_sound);
        sound.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(rest.into()))
    }

    /// Whether it is `zone` or below it.
    pub fn is_in(&self, zone: &Self) -> bool {
        self.0.strip_suffix(&*zone.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_compared_without_case() {
        assert_eq!(Name::new("Cache.Example.COM."), Name::new("cache.example.com"));
        assert_eq!(Name::new("_srv.a-b.c").unwrap().as_str(), "_srv.a-b.c");
        for wrong in ["", ".", "a..b", "a b", "a.*.b", "é.com", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(Name::new(wrong), None, "{wrong}");
        }
        let zone = Name::new("example.com").unwrap();
        assert!(Name::new("a.example.com").unwrap().is_in(&zone) && zone.is_in(&zone));
        assert!(!Name::new("notexample.com").unwrap().is_in(&zone));
        assert_eq!(Name::new("*.b.c").unwrap().parent(), Name::new("b.c"));
    }
}
