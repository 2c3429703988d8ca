//! `apigw.key-quota`: how many requests an API key may send in a day, a week or a month.
//!
//! Source: API Gateway API reference, UsagePlan, QuotaSettings: `limit`, `period`, and `offset`, "the number of requests
//! subtracted from the given limit in the initial time period"; published. That periods begin at 00:00 UTC, weeks on
//! Sunday and months on their first day is not confirmed.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

const DAY_S: u64 = 86_400;

/// What a quota counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaPeriod {
    /// A day, from 00:00 UTC.
    Day,
    /// A week, from Sunday.
    Week,
    /// A month, from its first day.
    Month,
}

impl QuotaPeriod {
    const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// AWS's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
        }
    }

    /// The period of AWS's word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.as_str() == word)
    }
}

/// A quota's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaFigures {
    /// Requests in each period.
    pub limit: u64,
    /// Requests that count as sent already in the first period.
    pub offset: u64,
    /// How long a period is.
    pub period: QuotaPeriod,
}

/// What day it is at the start: seconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar(pub u64);

impl Default for Calendar {
    /// Sunday, 1 October 2023, 00:00 UTC: a day, a week and a month begin at once.
    fn default() -> Self {
        Self(1_696_118_400)
    }
}

impl Calendar {
    /// When the period that `now` is in ends, in the driver's time that began at `start`.
    fn end_of(self, start: Instant, now: Instant, period: QuotaPeriod) -> Instant {
        let unix = self.0.saturating_add(now.since(start).as_secs());
        let day = unix / DAY_S;
        let next = match period {
            QuotaPeriod::Day => day + 1,
            // The first of January 1970 was a Thursday.
            QuotaPeriod::Week => day - (day + 4) % 7 + 7,
            QuotaPeriod::Month => first_of_next_month(day),
        };
        start + Duration::from_secs(next.saturating_mul(DAY_S).saturating_sub(self.0))
    }
}

/// The first day of the month after that of `day`; days since 1970-01-01. The Gregorian calendar repeats after 146,097 days;
/// its years are counted from March, so that a leap day is the last of its year.
fn first_of_next_month(day: u64) -> u64 {
    const CYCLE: u64 = 146_097;
    let shifted = day + 719_468;
    let of_cycle = shifted % CYCLE;
    let year = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let next = if month == 11 {
        // From February to March: the first day of the next year of this count.
        let next = year + 1;
        365 * next + next / 4 - next / 100 + next / 400
    } else {
        of_cycle - of_year + (153 * (month + 1) + 2) / 5
    };
    shifted - of_cycle + next - 719_468
}

/// The running day, week and month, each with its end and its number.
#[derive(Clone, Debug)]
pub(super) struct Periods {
    calendar: Calendar,
    start: Instant,
    running: [(Instant, u64); QuotaPeriod::ALL.len()],
}

impl Periods {
    pub(super) fn new(start: Instant, calendar: Calendar) -> Self {
        let running = QuotaPeriod::ALL.map(|period| (calendar.end_of(start, start, period), 0));
        Self { calendar, start, running }
    }

    /// The number of the period that `now` is in; a `now` before the running one counts as in it.
    #[inline]
    pub(super) fn roll(&mut self, now: Instant, period: QuotaPeriod) -> u64 {
        let (ends, epoch) = &mut self.running[period as usize];
        if now >= *ends && *ends < Instant::NEVER {
            (*ends, *epoch) = (self.calendar.end_of(self.start, now, period), *epoch + 1);
        }
        *epoch
    }

    pub(super) fn ends(&self, period: QuotaPeriod) -> Instant {
        self.running[period as usize].0
    }
}

/// One key's quota.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    resource: Arc<str>,
    figures: QuotaFigures,
    epoch: u64,
    used: u64,
    tally: Tally,
}

impl Quota {
    pub(super) fn new(resource: Arc<str>, figures: QuotaFigures, epoch: u64) -> Self {
        let mut tally = Tally::default();
        tally.reach(figures.offset);
        Self { resource, figures, epoch, used: figures.offset, tally }
    }

    pub(super) fn period(&self) -> QuotaPeriod {
        self.figures.period
    }

    pub(super) fn left(&self) -> u64 {
        self.figures.limit.saturating_sub(self.used)
    }

    /// A new period begins with nothing used.
    #[inline]
    pub(super) fn enter(&mut self, epoch: u64) {
        if epoch != self.epoch {
            (self.epoch, self.used) = (epoch, 0);
        }
    }

    /// Whether a request is left; takes none. `ends` is when the period does.
    #[inline]
    pub(super) fn check(&mut self, now: Instant, epoch: u64, ends: Instant) -> Result<(), Refusal> {
        self.enter(epoch);
        if self.used < self.figures.limit {
            return Ok(());
        }
        self.tally.refuse(now);
        Err(Refusal {
            limit: LimitId::ApiKeyQuota,
            resource: Arc::clone(&self.resource),
            destination: None,
            used: self.used,
            max: self.figures.limit,
            retry_at: (self.figures.limit > 0).then_some(ends),
        })
    }

    #[inline]
    pub(super) fn spend(&mut self) {
        self.used += 1;
        self.tally.reach(self.used);
    }

    pub(super) fn row(&self, source: &Arc<str>) -> LimitRow {
        self.tally.row(LimitId::ApiKeyQuota, &self.resource, self.used, self.figures.limit, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days since 1970 of a date, the slow way.
    fn day(year: u64, month: u64, day: u64) -> u64 {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let lengths = |year| [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
        let months: u64 = lengths(year)[..month as usize - 1].iter().sum();
        years + months + day - 1
    }

    #[test]
    fn months_end_where_the_calendar_says() {
        for year in [1970, 1999, 2000, 2023, 2024, 2100, 2400] {
            for month in 1..=12 {
                let next = if month == 12 { day(year + 1, 1, 1) } else { day(year, month + 1, 1) };
                for today in [day(year, month, 1), day(year, month, 17), next - 1] {
                    assert_eq!(first_of_next_month(today), next, "{year}-{month}");
                }
            }
        }
    }

    #[test]
    fn the_default_start_begins_a_day_a_week_and_a_month() {
        let calendar = Calendar::default();
        assert_eq!(calendar.0, day(2023, 10, 1) * DAY_S);
        let end = |period| {
            calendar.end_of(Instant::START, Instant::START, period).as_nanos() / 1_000_000_000 / DAY_S
        };
        assert_eq!(QuotaPeriod::ALL.map(end), [1, 7, 31]);
        // In the middle of a Wednesday.
        let calendar = Calendar(day(2026, 7, 15) * DAY_S + 3600);
        let hours =
            |period| calendar.end_of(Instant::START, Instant::START, period).as_nanos() / 3_600_000_000_000;
        assert_eq!(QuotaPeriod::ALL.map(hours), [23, 4 * 24 - 1, 17 * 24 - 1]);
    }
}
