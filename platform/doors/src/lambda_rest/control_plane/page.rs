//! Long lists in pages: `MaxItems`, `Marker`, `NextMarker`.

use super::input::Input;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::error::ApiError;

/// Items of one page, whatever more is asked for. Source: API reference, ListFunctions, published.
const PAGE_MAX: usize = 50;

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
    let size = match input.query("MaxItems") {
        None | Some("") => PAGE_MAX,
        Some(text) => size(text, items_max)?,
    };
    let after = match input.query("Marker") {
        None | Some("") => None,
        Some(marker) => Some(read(marker)?),
    };
    let mut page: Vec<T> =
        items.into_iter().filter(|item| after.as_ref().is_none_or(|after| name(item) > *after)).collect();
    let more = page.len() > size;
    page.truncate(size);
    let next = page.last().filter(|_| more).map(|item| URL_SAFE_NO_PAD.encode(name(item)));
    Ok((page, next))
}

fn size(text: &str, max: i64) -> Result<usize, ApiError> {
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

fn read(marker: &str) -> Result<String, ApiError> {
    let name = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| ApiError::invalid("Invalid marker: give the NextMarker of the page before."))
}
