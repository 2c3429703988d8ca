//! How figures are written.

/// A number with a comma before each three digits, as reports and explanations print it.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn a_comma_stands_before_each_three_digits() {
        let texts = [0, 999, 1_000, 55_000, 1_000_000].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "55,000", "1,000,000"]);
    }
}
