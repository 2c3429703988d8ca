//! The throttles once more, slowly and without the engine's code: fractions of tokens as whole numbers, every level asked by
//! name.

/// A bucket whose level is kept in billionths of a thousandth of a token.
#[derive(Clone, Debug)]
pub(super) struct NaiveBucket {
    pub(super) rate_thousandths: u128,
    pub(super) burst: u128,
    level: u128,
    at: u128,
}

const TOKEN: u128 = 1_000_000_000_000;

impl NaiveBucket {
    pub(super) fn new(rate_thousandths: u128, burst: u128) -> Self {
        Self { rate_thousandths, burst, level: burst * TOKEN, at: 0 }
    }

    fn fill(&mut self, now: u128) {
        self.level = (self.level + (now - self.at) * self.rate_thousandths).min(self.burst * TOKEN);
        self.at = now;
    }
}

/// Requests of one key to one method: buckets by level, and what is left of a quota.
pub(super) struct NaiveThrottle {
    pub(super) buckets: Vec<Option<NaiveBucket>>,
    pub(super) quota: Option<u64>,
    pub(super) spends_as_asked: bool,
    pub(super) quota_first: bool,
}

impl NaiveThrottle {
    /// `Ok`, or which level refuses: a bucket's index, or `None` for the quota.
    pub(super) fn admit(&mut self, now: u128) -> Result<(), Option<usize>> {
        let mut order: Vec<Option<usize>> = (0..self.buckets.len()).map(Some).collect();
        order.insert(if self.quota_first { 0 } else { order.len() }, None);
        let mut given = Vec::new();
        for level in order {
            let there = match level {
                None => self.quota.is_none_or(|left| left > 0),
                Some(index) => self.buckets[index].as_mut().is_none_or(|bucket| {
                    bucket.fill(now);
                    bucket.level >= TOKEN
                }),
            };
            if !there {
                if self.spends_as_asked {
                    self.spend(&given);
                }
                return Err(level);
            }
            given.push(level);
        }
        self.spend(&given);
        Ok(())
    }

    fn spend(&mut self, levels: &[Option<usize>]) {
        for level in levels {
            match level {
                None => self.quota = self.quota.map(|left| left - 1),
                Some(index) => {
                    if let Some(bucket) = &mut self.buckets[*index] {
                        bucket.level -= TOKEN;
                    }
                }
            }
        }
    }
}
