//! Wall-clock time as AWS writes it. Limits never use it: they run on the monotonic clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the wall clock is set ahead, in milliseconds: for tests of clocks that jump.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// Sets the wall clock of this process ahead of the host's, or with a negative number behind it; in milliseconds.
pub fn set_wall_clock_ahead(ms: i64) {
    AHEAD_MS.store(ms, Ordering::Relaxed);
}

/// Milliseconds of Unix time, now.
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    now.saturating_add_signed(AHEAD_MS.load(Ordering::Relaxed))
}

/// `2024-03-04T17:22:38.033Z`.
pub fn iso_time(unix_millis: u64) -> String {
    let Civil { year, month, day, hour, minute, second } = civil(unix_millis / 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", unix_millis % 1_000)
}

/// `12/Mar/2020:19:03:58 +0000`, as API Gateway and function URLs put it into events.
pub fn apache_time(unix_millis: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Civil { year, month, day, hour, minute, second } = civil(unix_millis / 1_000);
    let month = MONTHS[month as usize - 1];
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// Days to civil date, by H. Hinnant's algorithm for the proleptic Gregorian calendar (years from 1970).
fn civil(unix_seconds: u64) -> Civil {
    let (days, rest) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    Civil { year, month, day, hour: rest / 3_600, minute: rest / 60 % 60, second: rest % 60 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(iso_time(1_709_572_958_033), "2024-03-04T17:22:38.033Z");
        assert_eq!(iso_time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(apache_time(1_584_039_838_000), "12/Mar/2020:19:03:58 +0000");
    }
}
