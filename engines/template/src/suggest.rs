//! The nearest of some known names, for "did you mean".

/// Names longer than this are not compared: a suggestion is for a slip of the finger.
const MAX_NAME_CHARS: usize = 80;

/// Comparing stops after this many candidates, so that a wrong name in a huge template stays cheap.
const MAX_CANDIDATES: usize = 10_000;

/// The candidate that is nearest to `name`: equal but for case, or at most one edit in three characters away.
///
/// Costs `name.len() * candidate.len()` for each candidate of about the same length.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.chars().take(MAX_NAME_CHARS + 1).flat_map(char::to_lowercase).collect();
    if wanted.is_empty() || wanted.len() > MAX_NAME_CHARS {
        return None;
    }
    let worst = (wanted.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().take(MAX_CANDIDATES) {
        let limit = best.map_or(worst, |(distance, _)| distance.saturating_sub(1));
        if let Some(distance) = distance_within(&wanted, candidate, limit) {
            best = Some((distance, candidate));
            if distance == 0 {
                break;
            }
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// "did you mean `X`?" when something is near.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|near| format!("did you mean `{near}`?"))
}

/// Edits (insert, delete, replace, swap of neighbours) between two names without regard to case, if at most `limit`.
fn distance_within(wanted: &[char], candidate: &str, limit: usize) -> Option<usize> {
    let other: Vec<char> = candidate.chars().take(MAX_NAME_CHARS + 1).flat_map(char::to_lowercase).collect();
    if other.len().abs_diff(wanted.len()) > limit || other.len() > MAX_NAME_CHARS {
        return None;
    }
    let mut before: Vec<usize> = vec![0; other.len() + 1];
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, from) in wanted.iter().enumerate() {
        let mut current = vec![row + 1; other.len() + 1];
        for (column, to) in other.iter().enumerate() {
            let replace = last[column] + usize::from(from != to);
            let mut cost = replace.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *from == other[column - 1] && wanted[row - 1] == *to {
                cost = cost.min(before[column - 1] + 1);
            }
            current[column + 1] = cost;
        }
        before = last;
        last = current;
    }
    last.last().copied().filter(|distance| *distance <= limit)
}

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
