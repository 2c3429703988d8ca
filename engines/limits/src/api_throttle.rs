//! API Gateway's throttles: a quota and up to four token buckets stand before a request.
//!
//! Order of precedence (API Gateway Developer Guide, "Throttle requests to your REST APIs", read 2023-06; published): an API
//! key's limit for the method, the key's limit, the method's limit in the stage, the account's limit in the Region. The
//! first one that is used up refuses. A limit of the stage holds for each of its methods apart, whether it is set for one
//! method or for all; a limit of a usage plan holds for each of its keys, over all stages of the plan.
//!
//! AWS publishes neither whether a quota is asked before or after the throttles, nor what becomes of the tokens that levels
//! gave before a later level refused: both are settings ([`Order`], [`Spending`]). AWS calls all of these figures targets.
//!
//! Asking is O(1): a [`Way`] names the levels once for each method and key.

mod figures;
mod level;
mod quota;

pub use figures::{ApiFigures, ApiSettings, Order, Rate, Spending, Throttle};
pub use level::Level;
pub use quota::{Calendar, QuotaFigures, QuotaPeriod};

use level::Bucket;
use model::{Instant, LimitRow, Refusal};
use quota::{Periods, Quota};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A method of a stage, or a route of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodId(u32);

/// An API key in a usage plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u32);

const NONE: u32 = u32::MAX;

/// What a request passes: indices of a quota and of buckets in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    quota: u32,
    buckets: [u32; Level::ALL.len()],
}

#[derive(Clone, Debug)]
struct Client {
    resource: Arc<str>,
    bucket: u32,
    quota: u32,
}

/// All throttles of an account's APIs in a Region.
#[derive(Clone, Debug)]
pub struct ApiThrottle {
    settings: ApiSettings,
    buckets: Vec<Bucket>,
    quotas: Vec<Quota>,
    periods: Periods,
    /// Of each method its resource and its bucket.
    methods: Vec<(Arc<str>, u32)>,
    clients: Vec<Client>,
    by_key_and_method: BTreeMap<(ClientId, MethodId), u32>,
}

/// The account's bucket is always there.
const ACCOUNT: u32 = 0;

impl ApiThrottle {
    /// Full buckets; `now` is the moment that the settings' calendar speaks of.
    pub fn new(now: Instant, settings: ApiSettings) -> Self {
        let account = Bucket::new(now, Level::Account, "account".into(), settings.account, &settings);
        let periods = Periods::new(now, settings.calendar);
        Self {
            settings,
            buckets: vec![account],
            quotas: Vec::new(),
            periods,
            methods: Vec::new(),
            clients: Vec::new(),
            by_key_and_method: BTreeMap::new(),
        }
    }

    /// The figures it was made with.
    pub fn settings(&self) -> &ApiSettings {
        &self.settings
    }

    /// Adds a method of a stage, called `Api/prod GET /cart` in messages.
    pub fn add_method(&mut self, now: Instant, resource: Arc<str>, throttle: Throttle) -> MethodId {
        let id = MethodId(count(self.methods.len()));
        let bucket = self.bucket(now, Level::Stage, &resource, throttle);
        self.methods.push((resource, bucket));
        id
    }

    /// Adds an API key of a usage plan, called `AppKey of BasicPlan` in messages.
    pub fn add_client(
        &mut self,
        now: Instant,
        resource: Arc<str>,
        throttle: Throttle,
        quota: Option<QuotaFigures>,
    ) -> ClientId {
        let id = ClientId(count(self.clients.len()));
        let bucket = self.bucket(now, Level::Key, &resource, throttle);
        let quota = quota.map_or(NONE, |figures| {
            let figures = self.settings.quota(figures);
            let epoch = self.periods.roll(now, figures.period);
            self.quotas.push(Quota::new(Arc::clone(&resource), figures, epoch));
            count(self.quotas.len() - 1)
        });
        self.clients.push(Client { resource, bucket, quota });
        id
    }

    /// Adds the limit of an API key for one method.
    pub fn add_client_method(
        &mut self,
        now: Instant,
        client: ClientId,
        method: MethodId,
        throttle: Throttle,
    ) {
        let resource =
            format!("{} at {}", self.clients[client.0 as usize].resource, self.methods[method.0 as usize].0);
        let bucket = self.bucket(now, Level::KeyMethod, &resource.into(), throttle);
        if bucket != NONE {
            self.by_key_and_method.insert((client, method), bucket);
        }
    }

    /// Whether an API key has a limit of its own for a method.
    pub fn has_client_method(&self, client: ClientId, method: MethodId) -> bool {
        self.by_key_and_method.contains_key(&(client, method))
    }

    /// What requests to a method pass. A client counts only where the method asks for an API key.
    pub fn way(&self, method: MethodId, client: Option<ClientId>) -> Way {
        let known = client.map(|client| (client, &self.clients[client.0 as usize]));
        let key_method = known.and_then(|(id, _)| self.by_key_and_method.get(&(id, method)).copied());
        Way {
            quota: known.map_or(NONE, |(_, client)| client.quota),
            buckets: [
                key_method.unwrap_or(NONE),
                known.map_or(NONE, |(_, client)| client.bucket),
                self.methods[method.0 as usize].1,
                ACCOUNT,
            ],
        }
    }

    /// Lets one request pass, or names the first limit that is used up.
    ///
    /// # Errors
    /// The refusal names its level: the burst where no more came since the bucket was full than the rate allows within a
    /// second, else the rate.
    #[inline]
    pub fn admit(&mut self, now: Instant, way: &Way) -> Result<(), Refusal> {
        match self.settings.spending {
            Spending::OnlyIfAdmitted => {
                self.ask(now, way)?;
                for bucket in way.buckets.into_iter().filter(|bucket| *bucket != NONE) {
                    self.buckets[bucket as usize].spend(now);
                }
                if way.quota != NONE {
                    self.quotas[way.quota as usize].spend();
                }
                Ok(())
            }
            Spending::AsAsked => self.ask(now, way),
        }
    }

    /// Asks one level after the other.
    fn ask(&mut self, now: Instant, way: &Way) -> Result<(), Refusal> {
        let at_once = self.settings.spending == Spending::AsAsked;
        if way.quota != NONE && self.settings.order == Order::QuotaFirst {
            self.ask_quota(now, way.quota, at_once)?;
        }
        for bucket in way.buckets.into_iter().filter(|bucket| *bucket != NONE) {
            let bucket = &mut self.buckets[bucket as usize];
            bucket.check(now)?;
            if at_once {
                bucket.spend(now);
            }
        }
        if way.quota != NONE && self.settings.order == Order::ThrottlesFirst {
            self.ask_quota(now, way.quota, at_once)?;
        }
        Ok(())
    }

    fn ask_quota(&mut self, now: Instant, index: u32, at_once: bool) -> Result<(), Refusal> {
        let quota = &mut self.quotas[index as usize];
        let epoch = self.periods.roll(now, quota.period());
        quota.check(now, epoch, self.periods.ends(quota.period()))?;
        if at_once {
            quota.spend();
        }
        Ok(())
    }

    /// When `advance` has something to do next: the end of a quota's period. Buckets fill without being looked at.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.quotas.iter().map(|quota| self.periods.ends(quota.period())).min()
    }

    /// Begins the periods of quotas that are due. O(quotas) when one is.
    pub fn advance(&mut self, now: Instant) {
        for quota in &mut self.quotas {
            let epoch = self.periods.roll(now, quota.period());
            quota.enter(epoch);
        }
    }

    /// Requests that a client may still send in the quota's period; `None` without a quota.
    pub fn quota_left(&mut self, now: Instant, client: ClientId) -> Option<u64> {
        let quota = self.quotas.get_mut(self.clients[client.0 as usize].quota as usize)?;
        let epoch = self.periods.roll(now, quota.period());
        quota.enter(epoch);
        Some(quota.left())
    }

    /// The board's rows: each bucket's rate and burst in the order of their levels, then quotas.
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        let mut buckets: Vec<&Bucket> = self.buckets.iter().collect();
        buckets.sort_by_key(|bucket| bucket.level());
        let rows = buckets.into_iter().flat_map(|bucket| bucket.rows(now));
        rows.chain(self.quotas.iter().map(|quota| quota.row(&self.settings.template_source))).collect()
    }

    /// A bucket with what is given, and the account's figure for the half that is not; `NONE` where nothing is.
    fn bucket(&mut self, now: Instant, level: Level, resource: &Arc<str>, throttle: Throttle) -> u32 {
        let Some(figures) = self.settings.figures(level, throttle) else { return NONE };
        self.buckets.push(Bucket::new(now, level, Arc::clone(resource), figures, &self.settings));
        count(self.buckets.len() - 1)
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).ok().filter(|number| *number != NONE).expect("fewer throttles than 2^32 - 1")
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
