//! Rates, bursts, and what AWS does not publish about throttles.

use super::{Calendar, Level, QuotaFigures};
use crate::settings::SettingsError;
use crate::token_bucket::Refill;
use model::{Era, LimitId, Overrides};
use std::sync::Arc;
use std::time::Duration;

/// Requests per second, in thousandths: API Gateway takes fractions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

const PARTS: u64 = 1000;

impl Rate {
    /// So many a second.
    pub const fn per_second(requests: u32) -> Self {
        Self(requests as u64 * PARTS)
    }

    /// So many thousandths of a request a second.
    pub const fn from_thousandths(thousandths: u64) -> Self {
        Self(thousandths)
    }

    /// A rate as templates write it, to a thousandth; `None` for what is no number or below zero.
    pub fn from_f64(rate: f64) -> Option<Self> {
        // The cast saturates; 2^32 a second is more than any limit.
        (rate >= 0.0).then(|| Self(((rate * PARTS as f64).round() as u64).min(u64::from(u32::MAX) * PARTS)))
    }

    /// In thousandths of a request per second.
    pub const fn thousandths(self) -> u64 {
        self.0
    }

    /// Whole requests a second, rounded up, for messages.
    pub const fn whole(self) -> u64 {
        self.0.div_ceil(PARTS)
    }

    /// As a bucket refills: exact below 4.2 million a second, above that to whole requests.
    pub(super) fn refill(self) -> Refill {
        match u32::try_from(self.0) {
            Ok(tokens) => Refill { tokens, period: Duration::from_secs(PARTS) },
            Err(_) => {
                let tokens = u32::try_from(self.0 / PARTS).unwrap_or(u32::MAX);
                Refill { tokens, period: Duration::from_secs(1) }
            }
        }
    }
}

/// A bucket's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiFigures {
    /// How fast it fills.
    pub rate: Rate,
    /// How much it holds.
    pub burst: u32,
}

/// What a template says of a throttle; either half may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Requests per second.
    pub rate: Option<Rate>,
    /// Requests at once.
    pub burst: Option<u32>,
}

impl Throttle {
    /// This where it says something, else `other`: a method's own setting before that of all methods.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { rate: self.rate.or(other.rate), burst: self.burst.or(other.burst) }
    }
}

/// What becomes of tokens when a later level refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spending {
    /// A refused request spends nothing anywhere. Assumed: AWS publishes nothing.
    #[default]
    OnlyIfAdmitted,
    /// Levels that were asked before have given theirs.
    AsAsked,
}

/// When a quota is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Before all throttles. Assumed: AWS does not publish it.
    #[default]
    QuotaFirst,
    /// After all throttles.
    ThrottlesFirst,
}

/// The figures of the account and what the user gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// Of all APIs of the account in the Region.
    pub account: ApiFigures,
    /// Where the account's rate comes from.
    pub rate_source: Arc<str>,
    /// Where the account's burst comes from.
    pub burst_source: Arc<str>,
    /// Where figures of stages and usage plans come from.
    pub template_source: Arc<str>,
    /// The user's own figures of each level, instead of the template's.
    pub given: [Throttle; Level::ALL.len()],
    /// The user's own figure for every quota.
    pub given_quota: Option<u64>,
    /// What becomes of tokens when a later level refuses.
    pub spending: Spending,
    /// When a quota is asked.
    pub order: Order,
    /// What day it is at the start.
    pub calendar: Calendar,
}

impl ApiSettings {
    /// The figures of an era in a Region, with the user's own instead where given.
    ///
    /// # Errors
    /// A figure that is missing from the era and the overrides, or does not fit 32 bits.
    pub fn from_era(era: &Era, region: &str, overrides: &Overrides) -> Result<Self, SettingsError> {
        let whole = |limit, value| u32::try_from(value).map_err(|_| SettingsError::TooLarge { limit, value });
        let figure = |limit| {
            let figure = era.figure(limit, region, overrides);
            let figure = figure.ok_or_else(|| SettingsError::Missing { limit, era: era.name.clone() })?;
            Ok::<_, SettingsError>((whole(limit, figure.value)?, figure.source))
        };
        let given = |limit| overrides.get(limit).map(|value| whole(limit, value)).transpose();
        let (rate, rate_source) = figure(LimitId::ApiAccountRate)?;
        let (burst, burst_source) = figure(LimitId::ApiAccountBurst)?;
        let mut throttles = [Throttle::default(); Level::ALL.len()];
        for (level, throttle) in Level::ALL.into_iter().zip(&mut throttles) {
            *throttle = Throttle {
                rate: given(level.rate_id())?.map(Rate::per_second),
                burst: given(level.burst_id())?,
            };
        }
        Ok(Self {
            account: ApiFigures { rate: Rate::per_second(rate), burst },
            rate_source,
            burst_source,
            template_source: "the template".into(),
            given: throttles,
            given_quota: overrides.get(LimitId::ApiKeyQuota),
            spending: Spending::default(),
            order: Order::default(),
            calendar: Calendar::default(),
        })
    }

    /// A level's figures: the user's, else the template's, else for a half that is missing the account's. `None` where
    /// the template sets neither half, save that the user's figures for stages hold for every method.
    pub(super) fn figures(&self, level: Level, throttle: Throttle) -> Option<ApiFigures> {
        let given = self.given[level as usize];
        let wanted = if level == Level::Stage || throttle != Throttle::default() {
            given.or(throttle)
        } else {
            throttle
        };
        (wanted != Throttle::default()).then(|| ApiFigures {
            rate: wanted.rate.unwrap_or(self.account.rate),
            burst: wanted.burst.unwrap_or(self.account.burst),
        })
    }

    /// Where a level's figures come from: rate, then burst.
    pub(super) fn sources(&self, level: Level) -> [&Arc<str>; 2] {
        if level == Level::Account {
            [&self.rate_source, &self.burst_source]
        } else {
            [&self.template_source, &self.template_source]
        }
    }

    /// A quota's figures, with the user's own limit.
    pub(super) fn quota(&self, figures: QuotaFigures) -> QuotaFigures {
        QuotaFigures { limit: self.given_quota.unwrap_or(figures.limit), ..figures }
    }
}
