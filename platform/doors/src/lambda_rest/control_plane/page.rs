//! Long lists in pages: `MaxItems`, `Marker`, `NextMarker`.

use super::input::Input;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::error::ApiError;
use ring::hmac;
use ring::rand::SystemRandom;
use std::sync::LazyLock;

/// Items of one page, whatever more is asked for. Source: API reference, ListFunctions, published.
const PAGE_MAX: usize = 50;
/// Bytes that say that a marker is ours: a SHA-256.
const TAG_BYTES: usize = 32;

/// What markers are signed with.
static SECRET: LazyLock<hmac::Key> = LazyLock::new(|| {
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("the system has random bytes")
});

/// A version as a key that sorts as numbers do, `$LATEST` first.
pub fn number_key(version: &str) -> String {
    // `$` sorts before every digit.
    format!("{version:0>20}")
}

/// Cuts the page that a request asks for out of a list that is sorted by name; the marker says which name came last.
///
/// # Errors
/// `MaxItems` is out of its range, or the marker is none of ours.
pub fn cut<T>(
    input: &Input<'_>,
    items_max: i64,
    items: Vec<T>,
    name: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    cut_by(input, items_max, items, |item| name(item).to_owned())
}

/// The same for a list that is sorted by a key which is made for it.
///
/// # Errors
/// `MaxItems` is out of its range, or the marker is none of ours.
pub fn cut_by<T>(
    input: &Input<'_>,
    items_max: i64,
    items: Vec<T>,
    name: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let (size, after) = (size(input, items_max)?, after(input)?);
    let mut page: Vec<T> =
        items.into_iter().filter(|item| after.as_ref().is_none_or(|after| name(item) > *after)).collect();
    let more = page.len() > size;
    page.truncate(size);
    let next = page.last().filter(|_| more).map(|item| marker(input, &name(item)));
    Ok((page, next))
}

/// How many items the page has at most.
///
/// # Errors
/// `MaxItems` is out of its range.
pub fn size(input: &Input<'_>, max: i64) -> Result<usize, ApiError> {
    let text = match input.query("MaxItems") {
        None | Some("") => return Ok(PAGE_MAX),
        Some(text) => text,
    };
    let bad = |constraint: String| {
        Err(ApiError::validation(&text.escape_debug().to_string(), "maxItems", &constraint))
    };
    match text.parse::<i64>() {
        Ok(number) if number > max => bad(format!("Member must have value less than or equal to {max}")),
        Ok(number) if number < 1 => bad("Member must have value greater than or equal to 1".to_owned()),
        Ok(number) => Ok(usize::try_from(number).unwrap_or(PAGE_MAX).min(PAGE_MAX)),
        Err(_) => bad("Member must be an integer".to_owned()),
    }
}

/// The key that came last on the page before, if there was one.
///
/// # Errors
/// The marker was not given out for this list.
pub fn after(input: &Input<'_>) -> Result<Option<String>, ApiError> {
    let marker = match input.query("Marker") {
        None | Some("") => return Ok(None),
        Some(marker) => marker,
    };
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(marker).ok()?;
        let (key, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        hmac::verify(&SECRET, &bound(input, key), tag).ok()?;
        String::from_utf8(key.to_vec()).ok()
    };
    let bad = || ApiError::invalid("Invalid marker: give the NextMarker of the page before.");
    read().map(Some).ok_or_else(bad)
}

/// The marker that says that `key` came last; good for this list of this account alone, until the platform ends.
pub fn marker(input: &Input<'_>, key: &str) -> String {
    let tag = hmac::sign(&SECRET, &bound(input, key.as_bytes()));
    URL_SAFE_NO_PAD.encode([key.as_bytes(), tag.as_ref()].concat())
}

/// A key together with the list that it is a key of.
fn bound(input: &Input<'_>, key: &[u8]) -> Vec<u8> {
    // No path holds a zero.
    [input.list().as_bytes(), &[0], key].concat()
}
