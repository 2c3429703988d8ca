//! A recording of arrivals: one moment per line, in seconds, Unix time or ISO 8601, kept as differences.
//!
//! The text is pushed in as it is read, so that a file of any size takes a line of memory beside what is kept: mostly
//! three bytes for each arrival.

use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// The most arrivals of one recording: as many as a plan takes requests.
pub const ARRIVALS_MAX: u64 = 200_000_000;
/// The most memory of one recording. A difference takes one to ten bytes.
pub const BYTES_MAX: usize = 1 << 30;
/// The longest line.
pub const LINE_MAX: usize = 4096;
/// The last moment, from the first or from the phase's begin: 366 days.
pub const MOMENT_MAX: u64 = 366 * 86_400 * 1_000_000_000;
/// Seconds from here on are Unix time: this is September 2001, and beyond [`MOMENT_MAX`].
const UNIX_FROM: u64 = 1_000_000_000;
/// Unix time in seconds ends here, in the year 2286; what is larger was written in milliseconds or less.
const UNIX_TO: u64 = 10_000_000_000;
const SECOND: u64 = 1_000_000_000;
/// Digits of a fraction that count.
const FRACTION_DIGITS: usize = 9;

const FORMS: &str = "a moment such as 12.345 (seconds), 1700000000.5 (Unix time) or 2026-11-21T10:15:00.250Z";

/// Moments in order, in nanoseconds from the phase's begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// Differences, seven bits in each byte, the lowest first; the highest bit says that more follow (LEB128).
    differences: Vec<u8>,
    count: u64,
    last: u64,
}

impl Recording {
    /// How many arrivals there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The last moment, in nanoseconds.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Reads a whole text.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn read(text: &str) -> Result<Self, RecordingError> {
        let mut reader = Reader::default();
        reader.push(text.as_bytes())?;
        reader.finish()
    }

    fn push(&mut self, moment: u64) {
        let mut difference = moment - self.last;
        while difference >= 0x80 {
            self.differences.push(difference as u8 | 0x80);
            difference >>= 7;
        }
        self.differences.push(difference as u8);
        self.count += 1;
        self.last = moment;
    }
}

/// Goes through a recording.
#[derive(Clone, Debug)]
pub struct Cursor {
    recording: Arc<Recording>,
    offset: usize,
    moment: u64,
}

impl Cursor {
    /// Before the first arrival.
    pub const fn new(recording: Arc<Recording>) -> Self {
        Self { recording, offset: 0, moment: 0 }
    }
}

impl Iterator for Cursor {
    type Item = u64;

    /// The next moment, in nanoseconds.
    fn next(&mut self) -> Option<u64> {
        let (mut difference, mut shift) = (0_u64, 0);
        loop {
            let byte = *self.recording.differences.get(self.offset)?;
            self.offset += 1;
            difference |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
        self.moment += difference;
        Some(self.moment)
    }
}

/// What is wrong with a recording, and on which line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}: {fault}")]
pub struct RecordingError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// It is no moment.
    #[error("`{0}` is no moment; expected {FORMS}")]
    NoMoment(String),
    /// Its bytes are no UTF-8 text.
    #[error("this is no UTF-8 text")]
    NoText,
    /// It is longer than [`LINE_MAX`].
    #[error("the line has more than {LINE_MAX} bytes")]
    LongLine,
    /// It is written in another form than the first.
    #[error("this moment is {found}, and those before it are {before}; use one form in one file")]
    Mixed {
        /// Its form.
        found: Form,
        /// The first one's.
        before: Form,
    },
    /// It is before the moment above it.
    #[error("this moment is before the one above it; sort the file by time")]
    Unsorted,
    /// It is too long after the first, or after the phase's begin.
    #[error("this moment is more than 366 days after the begin")]
    TooLate,
    /// There are more than [`ARRIVALS_MAX`].
    #[error("more than {ARRIVALS_MAX} arrivals, or {BYTES_MAX} bytes of them; split the file into phases")]
    TooMany,
    /// There is none.
    #[error("there is no moment in this file; expected {FORMS}")]
    Empty,
}

/// How moments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Seconds from the phase's begin.
    Seconds,
    /// Seconds from 1970; the first is the phase's begin.
    Unix,
    /// A date with a time; the first is the phase's begin.
    Date,
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Seconds => "in seconds",
            Self::Unix => "in Unix time",
            Self::Date => "a date with a time",
        })
    }
}

/// Reads a recording piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    recording: Recording,
    /// The begin of a line whose end has not come yet.
    rest: Vec<u8>,
    line: u64,
    /// How the first moment was written, and the moment that is the phase's begin.
    form: Option<(Form, u64)>,
}

impl Reader {
    /// More of the text, cut anywhere.
    ///
    /// # Errors
    /// The first line that is wrong; then the rest need not be pushed.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), RecordingError> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, more) = (&bytes[..end], &bytes[end + 1..]);
            if self.rest.is_empty() {
                self.line(line)?;
            } else {
                self.keep(line)?;
                let whole = std::mem::take(&mut self.rest);
                self.line(&whole)?;
            }
            bytes = more;
        }
        self.keep(bytes)
    }

    /// The text is over.
    ///
    /// # Errors
    /// The last line is wrong, or there was no moment at all.
    pub fn finish(mut self) -> Result<Recording, RecordingError> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest)?;
        }
        if self.recording.count == 0 {
            return Err(RecordingError { line: self.line.max(1), fault: Fault::Empty });
        }
        Ok(self.recording)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        if self.rest.len() + bytes.len() > LINE_MAX {
            return Err(RecordingError { line: self.line + 1, fault: Fault::LongLine });
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        self.line += 1;
        self.moment(bytes).map_err(|fault| RecordingError { line: self.line, fault })
    }

    fn moment(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() > LINE_MAX {
            return Err(Fault::LongLine);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::NoText)?;
        let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        // Other columns may follow.
        let field = text.split([',', ';', '\t']).next().unwrap_or("").trim().trim_matches('"').trim();
        if field.is_empty() && text.trim().is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let Some((form, moment)) = read_moment(field) else {
            // The first line may be a header. One that begins like a moment is a wrong moment.
            let header =
                self.line == 1 && !field.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
            return if header { Ok(()) } else { Err(Fault::NoMoment(field.chars().take(60).collect())) };
        };
        let begin = if form == Form::Seconds { 0 } else { moment };
        let (before, begin) = *self.form.get_or_insert((form, begin));
        if before != form {
            return Err(Fault::Mixed { found: form, before });
        }
        let moment = moment.checked_sub(begin).ok_or(Fault::Unsorted)?;
        if moment < self.recording.last {
            return Err(Fault::Unsorted);
        }
        if moment > MOMENT_MAX {
            return Err(Fault::TooLate);
        }
        if self.recording.count >= ARRIVALS_MAX || self.recording.differences.len() + 10 > BYTES_MAX {
            return Err(Fault::TooMany);
        }
        self.recording.push(moment);
        Ok(())
    }
}

/// A moment in nanoseconds: from the phase's begin, or from 1970.
fn read_moment(text: &str) -> Option<(Form, u64)> {
    if text.as_bytes().get(4) == Some(&b'-') {
        return Some((Form::Date, read_date(text)?));
    }
    let nanos = read_seconds(text)?;
    match nanos / SECOND {
        UNIX_FROM..UNIX_TO => Some((Form::Unix, nanos)),
        UNIX_TO.. => None,
        _ => Some((Form::Seconds, nanos)),
    }
}

/// `12.345` in nanoseconds; digits below are cut.
fn read_seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let scale = 10_u64.pow((FRACTION_DIGITS - fraction.len()) as u32);
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? * scale };
    whole.checked_mul(SECOND)?.checked_add(fraction)
}

/// `2026-11-21T10:15:00.250Z` in nanoseconds from 1970; without a zone it is UTC.
fn read_date(text: &str) -> Option<u64> {
    if !text.is_ascii() || text.len() < 19 || !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let figure = |from: usize, to: usize| -> Option<i64> {
        let digits = &text[from..to];
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let separated =
        [(7, b'-'), (13, b':'), (16, b':')].iter().all(|(at, byte)| text.as_bytes()[*at] == *byte);
    let (year, month, day) = (figure(0, 4)?, figure(5, 7)?, figure(8, 10)?);
    let (hour, minute, second) = (figure(11, 13)?, figure(14, 16)?, figure(17, 19)?);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day);
    // A leap second counts as the one after it.
    if !separated || !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = &text[19..];
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(zone);
    let fraction = match fraction.strip_prefix(['.', ',']) {
        Some(digits) if !digits.is_empty() => read_seconds(&format!("0.{digits}"))?,
        None if fraction.is_empty() => 0,
        _ => return None,
    };
    let seconds =
        days_from_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    u64::try_from(seconds).ok()?.checked_mul(SECOND)?.checked_add(fraction)
}

/// `Z`, `+02:00`, `-0530`, `+02` in seconds.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits[..2].parse().ok()?;
    let minutes: i64 = if digits.len() == 4 { digits[2..].parse().ok()? } else { 0 };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

const fn month_days(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days of the Gregorian calendar from 1 January 1970.
fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let to_year = before * 365 + before / 4 - before / 100 + before / 400;
    let in_year: i64 = (1..month).map(|month| month_days(year, month)).sum();
    // The days before 1970 by the same count.
    to_year + in_year + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moments(text: &str) -> Vec<u64> {
        Cursor::new(Arc::new(Recording::read(text).unwrap())).collect()
    }

    #[test]
    fn every_form_is_read_with_and_without_a_header() {
        assert_eq!(
            moments("0\n0.5\n.75\n12.\n12\n"),
            [0, SECOND / 2, SECOND / 4 * 3, 12 * SECOND, 12 * SECOND]
        );
        assert_eq!(moments("time\n1.5\r\n2.25"), [3 * SECOND / 2, 9 * SECOND / 4]);
        assert_eq!(moments("1700000000.25,GET /\n1700000001.5,GET /\n"), [0, 5 * SECOND / 4]);
        let dates = "\u{feff}\"timestamp\",\"path\"\n\"2024-02-29T23:59:59.5Z\",/a\n2024-03-01 00:00:00,/b\n\
                     2024-03-01T01:00:01+01:00\n2024-02-29T18:30:02-0530\n";
        assert_eq!(moments(dates), [0, SECOND / 2, 3 * SECOND / 2, 5 * SECOND / 2]);
        assert_eq!(moments("# recorded\n\n3\n"), [3 * SECOND]);
    }

    #[test]
    fn days_are_counted_from_1970() {
        for (date, days) in
            [((1970, 1, 1), 0), ((1970, 12, 31), 364), ((2000, 3, 1), 11_017), ((2026, 11, 21), 20_778)]
        {
            assert_eq!(days_from_1970(date.0, date.1, date.2), days, "{date:?}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        for (text, said) in [
            ("1\n2\nnoon\n", "3: `noon` is no moment; expected a moment such as 12.345"),
            ("1\n-2\n", "2: `-2` is no moment"),
            ("-2\n", "1: `-2` is no moment"),
            ("1\nNaN\n", "2: `NaN` is no moment"),
            ("1\ninf\n", "2: `inf` is no moment"),
            ("1\n1e9\n", "2: `1e9` is no moment"),
            ("2\n1\n", "2: this moment is before the one above it"),
            ("1700000000\n1600000000\n", "2: this moment is before the one above it"),
            (
                "1\n2024-01-01T00:00:00Z\n",
                "2: this moment is a date with a time, and those before it are in seconds",
            ),
            ("1\n40000000\n", "2: this moment is more than 366 days"),
            ("1\n1700000000000\n", "2: `1700000000000` is no moment"),
            ("1\n99999999999999999999\n", "2: `99999999999999999999` is no moment"),
            ("time\n2024-02-30T00:00:00Z\n", "2: `2024-02-30T00:00:00Z` is no moment"),
            ("time\n2024-02-20T24:00:00Z\n", "2: `2024-02-20T24:00:00Z` is no moment"),
            ("time\n2024-02-20T20:00:00.Z\n", "2: `2024-02-20T20:00:00.Z` is no moment"),
            ("time\n2024-02-20T20:00:00+2\n", "2: `2024-02-20T20:00:00+2` is no moment"),
            ("", "1: there is no moment"),
            ("time\n\n", "2: there is no moment"),
            (",\n", "1: there is no moment"),
            ("1\n,5\n", "2: `` is no moment"),
        ] {
            let error = Recording::read(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
        let long = format!("1\n{}\n", "1".repeat(LINE_MAX + 1));
        assert_eq!(Recording::read(&long).unwrap_err(), RecordingError { line: 2, fault: Fault::LongLine });
        let mut reader = Reader::default();
        assert_eq!(reader.push(b"\xff\xfe\n").unwrap_err().fault, Fault::NoText);
    }

    #[test]
    fn an_arrival_takes_few_bytes() {
        let text: String =
            (0..10_000).map(|index| format!("{}.{:03}\n", index / 1000, index % 1000)).collect();
        let recording = Recording::read(&text).unwrap();
        assert_eq!((recording.count(), recording.last()), (10_000, 9_999_000_000));
        assert!(recording.differences.len() <= 30_000);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(mut moments in prop::collection::vec(0..MOMENT_MAX, 1..100), cut in 1usize..50) {
            moments.sort_unstable();
            let text: String = moments.iter().map(|at| format!("{}.{:09}\n", at / SECOND, at % SECOND)).collect();
            let mut reader = Reader::default();
            for part in text.as_bytes().chunks(cut) {
                reader.push(part).unwrap();
            }
            let found: Vec<u64> = Cursor::new(Arc::new(reader.finish().unwrap())).collect();
            prop_assert_eq!(found, moments);
        }

        #[test]
        fn no_text_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), date in "[0-9T:Z.+ -]{0,30}") {
            let mut reader = Reader::default();
            let _ = reader.push(&bytes).and_then(|()| reader.finish());
            let _ = Recording::read(&date);
        }
    }
}
