//! Patterns of policies.

/// Whether a pattern means a text: `*` is any run of letters, `?` any one. Goes back to the last `*` alone: at most the
/// product of both lengths. Source: IAM User Guide, "Using wildcards".
pub fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
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
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

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
