//! The nearest of some known names, for "did you mean".

/// Names longer than this are not compared: a suggestion is for a slip of the finger.
const MAX_NAME_CHARS: usize = 80;

/// Comparing stops after this many candidates, so that a wrong name in a huge template stays cheap.
const MAX_CANDIDATES: usize = 10_000;

/// A name as it is compared: its lower-case characters, in place.
struct Word {
    letters: [char; MAX_NAME_CHARS],
    len: usize,
}

impl Word {
    /// Nothing when the name is too long.
    fn of(name: &str) -> Option<Self> {
        let mut word = Self { letters: ['\0'; MAX_NAME_CHARS], len: 0 };
        for letter in name.chars() {
            let lower = if letter.is_ascii() { letter.to_ascii_lowercase() } else { letter };
            *word.letters.get_mut(word.len)? = lower;
            word.len += 1;
        }
        Some(word)
    }

    fn letters(&self) -> &[char] {
        &self.letters[..self.len]
    }
}

/// The candidate that is nearest to `name`: equal but for case, or at most one edit in three characters away.
///
/// Costs `name.len() * candidate.len()` for each candidate of about the same length.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_within(name, (name.chars().count() / 3).max(1), candidates)
}

/// The candidate that is nearest to `name`, at most `worst` edits away.
pub fn nearest_within<'a>(
    name: &str,
    worst: usize,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = Word::of(name).filter(|word| word.len > 0)?;
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().take(MAX_CANDIDATES) {
        let limit = match best {
            Some((0, _)) => break,
            Some((distance, _)) => distance - 1,
            None => worst,
        };
        if let Some(distance) = distance_within(&wanted, candidate, limit) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// "did you mean `X`?" when something is near.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|near| format!("did you mean `{near}`?"))
}

/// Edits (insert, delete, replace, swap of neighbours) between two names without regard to case, if at most `limit`.
fn distance_within(wanted: &Word, candidate: &str, limit: usize) -> Option<usize> {
    // Nearly all candidates are ASCII and of another length: they fall out here.
    if candidate.is_ascii() && candidate.len().abs_diff(wanted.len) > limit {
        return None;
    }
    let other = Word::of(candidate).filter(|other| other.len.abs_diff(wanted.len) <= limit)?;
    let (wanted, other) = (wanted.letters(), other.letters());
    // Rows of the usual table; no entry is above MAX_NAME_CHARS.
    let mut before = [0_u8; MAX_NAME_CHARS + 1];
    let mut last = [0_u8; MAX_NAME_CHARS + 1];
    let mut current = [0_u8; MAX_NAME_CHARS + 1];
    for (column, cost) in last.iter_mut().enumerate() {
        *cost = column as u8;
    }
    for (row, from) in wanted.iter().enumerate() {
        current[0] = row as u8 + 1;
        let mut least = current[0];
        for (column, to) in other.iter().enumerate() {
            let replace = last[column] + u8::from(from != to);
            let mut cost = replace.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *from == other[column - 1] && wanted[row - 1] == *to {
                cost = cost.min(before[column - 1] + 1);
            }
            current[column + 1] = cost;
            least = least.min(cost);
        }
        // Rows grow; only a swap reaches back over one, and costs one.
        if usize::from(least) > limit + 1 {
            return None;
        }
        (before, last, current) = (last, current, before);
    }
    Some(usize::from(last[other.len()])).filter(|distance| *distance <= limit)
}

const _: () = assert!(MAX_NAME_CHARS < u8::MAX as usize / 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["CartFunction", "CartTable", "StorefrontApi", "Vpc"];
        for (typed, expected) in [
            ("CartFuncton", Some("CartFunction")),
            ("cartfunction", Some("CartFunction")),
            ("CratTable", Some("CartTable")),
            ("VPC", Some("Vpc")),
            ("Vcp", Some("Vpc")),
            ("Orders", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), expected, "{typed}");
        }
    }

    #[test]
    fn an_endless_name_is_not_compared() {
        let long = "x".repeat(1_000_000);
        assert_eq!(nearest(&long, ["Vpc"]), None);
        assert_eq!(nearest("Vpc", [long.as_str()]), None);
    }
}
