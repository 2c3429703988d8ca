//! Times as signatures write them: `20150830T123600Z`.

/// Seconds since 1970, or `None` when the text is no such time.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' || !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let part = &text[from..to];
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The other way.
pub(super) fn text(seconds: u64) -> String {
    // `2015-08-30T12:36:00.000Z`
    let iso = telemetry::iso_time(seconds * 1_000);
    let plain: String = iso.chars().filter(|letter| !matches!(letter, '-' | ':')).collect();
    format!("{}Z", plain.split('.').next().unwrap_or_default())
}

/// Days since 1970-01-01, by 400-year eras that begin on 1 March; the year is 1970 or later.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (written, number) in [
            ("19700101T000000Z", 0),
            ("20150830T123600Z", 1_440_938_160),
            ("20240229T235959Z", 1_709_251_199),
        ] {
            assert_eq!(seconds(written), Some(number), "{written}");
            assert_eq!(text(number), written);
        }
        for wrong in ["", "20150830T123600", "20151330T123600Z", "2015-08-30T12:36:00Z", "20150830T12360éZ"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
