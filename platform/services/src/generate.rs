//! `GenerateSecretString`: a password as Secrets Manager makes it.
//!
//! Source: Secrets Manager API Reference, "GetRandomPassword" (published): upper and lower case letters, digits and
//! punctuation, at least one of each kind that is not excluded.

use model::stack::GenerateSecret;
use serde_json::Value;

const KINDS: [&str; 4] = [
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "abcdefghijklmnopqrstuvwxyz",
    "0123456789",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
];
/// Longest password. Source: the same, 4,096.
const LENGTH_MAX: usize = 4_096;

/// Why no secret can be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Every character is excluded.
    #[error("every character is excluded")]
    NoCharacters,
    /// `SecretStringTemplate` is no JSON object.
    #[error("SecretStringTemplate is no JSON object")]
    Template,
    /// The host has no randomness.
    #[error("no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// The secret's string: a password, or the template's JSON with the password in it.
///
/// # Errors
/// When the wishes cannot be met.
pub fn generate(wish: &GenerateSecret) -> Result<String, GenerateError> {
    let password = password(wish)?;
    let (Some(template), Some(key)) = (&wish.template, &wish.key) else { return Ok(password) };
    let mut object: Value = serde_json::from_str(template).map_err(|_| GenerateError::Template)?;
    let fields = object.as_object_mut().ok_or(GenerateError::Template)?;
    fields.insert(key.clone(), Value::String(password));
    Ok(object.to_string())
}

fn password(wish: &GenerateSecret) -> Result<String, GenerateError> {
    let allowed = |kind: &str| -> Vec<u8> {
        kind.bytes().filter(|byte| !wish.exclude_characters.as_bytes().contains(byte)).collect()
    };
    let count = if wish.exclude_punctuation { KINDS.len() - 1 } else { KINDS.len() };
    let kinds: Vec<Vec<u8>> =
        KINDS[..count].iter().map(|kind| allowed(kind)).filter(|kind| !kind.is_empty()).collect();
    let all: Vec<u8> = kinds.concat();
    if all.is_empty() {
        return Err(GenerateError::NoCharacters);
    }
    let length = (wish.length as usize).clamp(1, LENGTH_MAX);
    let mut made = Vec::with_capacity(length);
    for kind in kinds.iter().take(length) {
        made.push(kind[below(kind.len())?]);
    }
    while made.len() < length {
        made.push(all[below(all.len())?]);
    }
    // Those that had to be there stand anywhere (Fisher and Yates).
    for last in (1..made.len()).rev() {
        made.swap(last, below(last + 1)?);
    }
    Ok(made.into_iter().map(char::from).collect())
}

/// An even choice of `0..count`, which is at most 65,536.
fn below(count: usize) -> Result<usize, GenerateError> {
    loop {
        let random = getrandom::u32().map_err(GenerateError::Randomness)? as usize;
        // The last, incomplete stretch of the range would favour small numbers.
        if random < (u32::MAX as usize / count) * count {
            return Ok(random % count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(length: u32) -> GenerateSecret {
        GenerateSecret {
            length,
            exclude_characters: String::new(),
            exclude_punctuation: false,
            template: None,
            key: None,
        }
    }

    #[test]
    fn passwords_hold_every_kind_and_nothing_excluded() {
        for _ in 0..200 {
            let made = generate(&wish(4)).unwrap();
            assert_eq!(made.len(), 4);
            for kind in KINDS {
                assert!(made.chars().any(|letter| kind.contains(letter)), "{made}");
            }
            let made = generate(&GenerateSecret {
                exclude_punctuation: true,
                exclude_characters: "abc019".into(),
                ..wish(32)
            });
            let made = made.unwrap();
            assert!(made.len() == 32 && !made.contains(['a', 'b', 'c', '0', '1', '9']), "{made}");
            assert!(made.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn a_template_gets_the_password_as_a_field() {
        let template = Some("{\"username\": \"orders\"}".to_owned());
        let made = generate(&GenerateSecret { template, key: Some("password".into()), ..wish(20) }).unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        assert_eq!(
            (made["username"].as_str(), made["password"].as_str().unwrap().len()),
            (Some("orders"), 20)
        );
        let wrong = GenerateSecret { template: Some("[]".into()), key: Some("k".into()), ..wish(20) };
        assert!(generate(&wrong).is_err());
        let none = GenerateSecret { exclude_characters: KINDS.concat(), ..wish(20) };
        assert!(matches!(generate(&none), Err(GenerateError::NoCharacters)));
    }
}
