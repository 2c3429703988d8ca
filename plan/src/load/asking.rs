//! What a phase's requests bring along for the door: an API key, who asks, the parameters that a cache tells apart, bytes.

use super::{Name, name_of};
use crate::quantity;
use template::yaml::{Kind, Mapping, Node, Problem, Problems};

/// The most keys of one phase.
pub const KEYS_MAX: u32 = 10_000_000;
/// A part of a whole is counted in millionths.
const WHOLE_PPM: u32 = 1_000_000;
/// The steepest skew: beyond it all but the first key are rounding errors.
const SKEW_MAX: f64 = 20.0;

/// What requests bring along.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asking {
    /// Logical id of the API key that they send.
    pub client: Option<Name>,
    /// How many different ones there are, to a cache.
    pub keys: Option<Keys>,
    /// Whose requests they are, to an authorizer.
    pub callers: Callers,
    /// Which part of the callers an authorizer denies, ppm.
    pub denied_ppm: u32,
    /// They want a cached answer made anew (`Cache-Control: max-age=0`).
    pub fresh: Option<Fresh>,
    /// Bytes of each request.
    pub bytes_in: u64,
    /// Bytes of each answer.
    pub bytes_out: u64,
}

/// Whether who wants an answer made anew may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// Without the permission `execute-api:InvalidateCache`.
    Unsigned,
    /// With it.
    Signed,
}

/// Who asks, to an authorizer that remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Callers {
    /// The load does not say: each user of a closed loop is one, each request of an open loop comes from another.
    #[default]
    Unsaid,
    /// Each request comes from one of so many.
    Some(Keys),
    /// Each request comes from one who was never there before.
    New,
}

/// Different requests, to a cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keys {
    /// How many.
    pub count: u32,
    /// The exponent of Zipf's law, by which the second is asked for 2^skew times less often than the first; 0 where each
    /// is as likely.
    pub skew: f64,
}

impl Asking {
    /// Whether an authorizer denies the caller with this number: of `n` callers the part that is to be denied, evenly spread.
    #[inline]
    pub fn is_denied(denied_ppm: u32, caller: u64) -> bool {
        let denied = |callers: u64| callers.saturating_mul(u64::from(denied_ppm)) / u64::from(WHOLE_PPM);
        denied(caller.saturating_add(1)) > denied(caller)
    }

    /// Reads `client`, `identities`, `denied`, `keys`, `fresh` and `bytes` of a phase. `None` or recorded problems mean that they cannot be used.
    pub(super) fn read(keys: &Mapping, problems: &mut Problems) -> Option<Self> {
        let client = keys.get("client").map(|client| name_of(client, problems));
        let different = keys.get("keys").map(|keys| read_keys(keys, "keys", problems));
        let callers = keys.get("identities").map(|node| match node.as_str() {
            Some("new") => Some(Callers::New),
            _ => read_keys(node, "identities", problems).map(Callers::Some),
        });
        let denied = keys.get("denied").map(|node| read_part(node, problems));
        let fresh = keys.get("fresh").map(|fresh| {
            let word = fresh.one_of(&["none", "unsigned", "signed"], problems)?;
            Some(match word {
                "signed" => Some(Fresh::Signed),
                "unsigned" => Some(Fresh::Unsigned),
                _ => None,
            })
        });
        let (mut bytes_in, mut bytes_out) = (0, 0);
        if let Some(bytes) = keys.get("bytes").and_then(|bytes| bytes.mapping(problems)) {
            bytes.only(&["in", "out"], problems);
            let mut size = |key| bytes.get(key).and_then(|node| quantity::size(node, problems));
            bytes_in = size("in").unwrap_or(0);
            bytes_out = size("out").unwrap_or(0);
        }
        let wrong = client == Some(None) || different == Some(None) || fresh == Some(None);
        let wrong = wrong || callers == Some(None) || denied == Some(None);
        let fresh = fresh.flatten().flatten();
        let (client, different) = (client.flatten(), different.flatten());
        let (callers, denied_ppm) = (callers.flatten().unwrap_or_default(), denied.flatten().unwrap_or(0));
        let asking = Self { client, keys: different, callers, denied_ppm, fresh, bytes_in, bytes_out };
        (!wrong).then_some(asking)
    }
}

/// A part of a whole, 0 to 1, in millionths.
fn read_part(node: &Node, problems: &mut Problems) -> Option<u32> {
    let part = node.number(problems)?;
    if !(0.0..=1.0).contains(&part) {
        let message = format!("the part of callers that is denied is {part}, and must be 0 to 1");
        problems.push(Problem::at(node.span, message));
        return None;
    }
    // At most a million, so that it fits.
    Some(libm::round(part * f64::from(WHOLE_PPM)) as u32)
}

/// `1000`, or `{zipf: {n: 1000, s: 1.1}}`.
fn read_keys(node: &Node, what: &'static str, problems: &mut Problems) -> Option<Keys> {
    let number = match what {
        "keys" => "the number of keys",
        _ => "the number of identities",
    };
    let count = |node: &Node, problems: &mut Problems| {
        let count = node.integer(number, 1..=i64::from(KEYS_MAX), problems)?;
        u32::try_from(count).ok()
    };
    if !matches!(node.kind, Kind::Mapping(_)) {
        return Some(Keys { count: count(node, problems)?, skew: 0.0 });
    }
    let outer = node.mapping(problems)?;
    outer.only(&["zipf"], problems);
    let zipf = outer.require("zipf", what, node.span, problems)?;
    let figures = zipf.mapping(problems)?;
    figures.only(&["n", "s"], problems);
    let number = figures.require("n", "zipf", zipf.span, problems).and_then(|node| count(node, problems));
    let exponent = figures.require("s", "zipf", zipf.span, problems)?;
    let skew = exponent.number(problems)?;
    if !(0.0..=SKEW_MAX).contains(&skew) {
        problems.push(Problem::at(exponent.span, format!("s is {skew}, and must be 0 to {SKEW_MAX}")));
        return None;
    }
    Some(Keys { count: number?, skew })
}

#[cfg(test)]
mod tests {
    use super::*;
    use template::yaml;

    fn read(text: &str) -> Result<Asking, Vec<String>> {
        let document = yaml::parse("d", text).unwrap();
        let mut problems = Problems::new();
        let mapping = document.root.mapping(&mut problems).unwrap();
        let found = Asking::read(mapping, &mut problems);
        let said: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
        if said.is_empty() { Ok(found.unwrap()) } else { Err(said) }
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read("{a: 1}"), Ok(Asking::default()));
        let asking = read("{client: AppKey, keys: 1000, bytes: {in: 1KB, out: 5B}}").unwrap();
        assert_eq!((asking.client.unwrap().text, asking.bytes_out), ("AppKey".into(), 5));
        assert_eq!(asking.keys, Some(Keys { count: 1000, skew: 0.0 }));
        assert_eq!(read("{fresh: signed}").unwrap().fresh, Some(Fresh::Signed));
        assert_eq!(read("{fresh: none}"), Ok(Asking::default()));
        let asking = read("{identities: 500, denied: 0.02}").unwrap();
        assert_eq!(asking.callers, Callers::Some(Keys { count: 500, skew: 0.0 }));
        assert_eq!(asking.denied_ppm, 20_000);
        assert_eq!(read("{identities: new}").unwrap().callers, Callers::New);
        let skewed = Callers::Some(Keys { count: 7, skew: 1.1 });
        assert_eq!(read("{identities: {zipf: {n: 7, s: 1.1}}}").unwrap().callers, skewed);
        assert_eq!(read("{keys: {zipf: {n: 7, s: 1.1}}}").unwrap().keys, Some(Keys { count: 7, skew: 1.1 }));
    }

    #[test]
    fn the_denied_part_is_spread_evenly_and_exact() {
        let denied = |ppm, callers| (0..callers).filter(|caller| Asking::is_denied(ppm, *caller)).count();
        assert_eq!([denied(0, 1000), denied(20_000, 1000), denied(1_000_000, 1000)], [0, 20, 1000]);
        assert_eq!((denied(20_000, 49), denied(20_000, 50)), (0, 1));
        assert!(!Asking::is_denied(0, u64::MAX));
    }

    #[test]
    fn wrong_figures_are_named() {
        for (text, said) in [
            ("{keys: 0}", "the number of keys is 0"),
            ("{keys: 10000001}", "the number of keys is 10000001"),
            ("{keys: {zipf: {n: 5, s: -1}}}", "s is -1"),
            ("{keys: {zipf: {n: 5, s: 1e9}}}", "must be 0 to 20"),
            ("{keys: {zipf: {n: 5}}}", "needs `s`"),
            ("{keys: {zpf: {n: 5}}}", "the key `zpf` does not exist"),
            ("{identities: 0}", "the number of identities is 0"),
            ("{identities: 10000001}", "the number of identities is 10000001"),
            ("{identities: old}", "a whole number"),
            ("{denied: -0.1}", "must be 0 to 1"),
            ("{denied: 2}", "must be 0 to 1"),
            ("{denied: nan}", "a number"),
            ("{fresh: always}", "unsigned"),
            ("{bytes: {ot: 5B}}", "the key `ot` does not exist"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.iter().any(|one| one.contains(said)), "{text}: {found:?}");
        }
    }
}
