//! Patterns of policies.

/// Whether a pattern means a text: `*` is any run of letters, `?` any one. Goes back to the last `*` alone: at most the
/// product of both lengths. Source: IAM User Guide, "Using wildcards".
pub fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    let mut steps = u64::MAX;
    is_like_within(pattern, text, &mut steps).unwrap_or(false)
}

/// The same in so many steps at most, of which those that it took are taken away; `None`: they were not enough.
pub fn is_like_within(pattern: &[u8], text: &[u8], steps: &mut u64) -> Option<bool> {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        *steps = steps.checked_sub(1)?;
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((back, matched)) => {
                    star = Some((back, matched + 1));
                    (at, from) = (back + 1, matched + 1);
                }
                None => return Some(false),
            },
        }
    }
    Some(pattern[at..].iter().all(|letter| *letter == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_no_more_steps_than_it_may() {
        let (pattern, text) = ("*".to_owned() + &"a".repeat(500) + "b", "a".repeat(2000));
        let like = |steps: &mut u64| is_like_within(pattern.as_bytes(), text.as_bytes(), steps);
        assert_eq!(like(&mut 100_000), None);
        let mut steps = 10_000_000;
        assert_eq!(like(&mut steps), Some(false));
        assert!(10_000_000 - steps > 100_000);
        let mut steps = 3;
        assert_eq!((is_like_within(b"a?c", b"abc", &mut steps), steps), (Some(true), 0));
    }

    #[test]
    fn stars_are_any_run_and_question_marks_one_letter() {
        let like = |pattern: &str, text: &str| is_like(pattern.as_bytes(), text.as_bytes());
        for (pattern, text) in
            [("", ""), ("*", ""), ("a*c", "abc"), ("a*c", "ac"), ("*ab", "aab"), ("a?c*", "abc"), ("**", "x")]
        {
            assert!(like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("?", ""), ("a*c", "abd"), ("ab", "abc"), ("a?c", "ac")] {
            assert!(!like(pattern, text), "{pattern} {text}");
        }
    }
}
