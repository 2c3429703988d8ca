//! The room's only clock and its only randomness: times of change and revision ids.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, as the API writes it: `2025-11-24T23:08:11.000+0000`.
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    timestamp(since.as_secs(), since.subsec_millis())
}

/// Milliseconds since 1970.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment as the API writes it.
fn timestamp(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}+0000")
}

/// Year, month and day of a day counted from 1970-01-01, by 400-year eras of 146,097 days that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Now in whole seconds, as provisioned concurrency writes it: `2025-11-24T23:08:11+0000`.
pub(crate) fn now_in_seconds() -> String {
    let now = now();
    format!("{}+0000", now.split('.').next().unwrap_or_default())
}

/// A random number, at least 0 and less than 1; 0 if the system has none to give.
pub(crate) fn lot() -> f64 {
    let bits = getrandom::u64().unwrap_or(0) >> 11;
    // 53 bits are what a double holds exactly.
    bits as f64 / (1_u64 << 53) as f64
}

/// A random UUID, version 4.
pub(crate) fn uuid() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = crate::package::hex(&bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_api_does() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000+0000");
        assert_eq!(timestamp(1_764_025_691, 7), "2025-11-24T23:08:11.007+0000");
        assert_eq!(timestamp(951_782_400, 0), "2000-02-29T00:00:00.000+0000");
        assert_eq!(timestamp(4_107_542_399, 999), "2100-02-28T23:59:59.999+0000");
        assert_eq!(timestamp(4_107_542_400, 0), "2100-03-01T00:00:00.000+0000");
    }

    #[test]
    fn revision_ids_are_uuids_and_differ() {
        let (one, two) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"));
    }
}
