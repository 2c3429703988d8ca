//! `lambda.account-concurrency` and `lambda.reserved-concurrency`: requests in flight at once.
//!
//! Source: AWS Lambda Developer Guide, "Understanding Lambda function scaling" and "Configuring
//! reserved concurrency": a reservation is a guarantee and a cap, it leaves the shared pool even when
//! unused, and 100 always stay unreserved; provisioned concurrency is taken out of the function's reservation, or else
//! out of what is unreserved ("Monitoring concurrency": ClaimedAccountConcurrency); published. What happens to requests already in flight when a
//! reservation changes is not published: here they finish, and nothing new enters until there is room.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;

/// One function's part of the account's concurrency.
#[derive(Clone, Debug, Default)]
pub struct Share {
    reserved: Option<u32>,
    /// Provisioned for all of the function's versions and aliases, used or not.
    provisioned: u32,
    in_flight: u32,
    /// Of those, on environments that are provisioned.
    provisioned_in_flight: u32,
    tally: Tally,
}

impl Share {
    /// The function's reservation, if it has one.
    pub const fn reserved(&self) -> Option<u32> {
        self.reserved
    }

    /// What is provisioned for the function.
    pub const fn provisioned(&self) -> u32 {
        self.provisioned
    }

    /// The function's requests in flight.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Forgets refusals and the peak; what is in flight stays.
    pub fn forget(&mut self) {
        self.tally = Tally::default();
    }

    /// What of the account is set aside for this function.
    fn allocated(&self) -> u64 {
        u64::from(self.reserved.unwrap_or(self.provisioned))
    }

    fn on_demand(&self) -> u32 {
        self.in_flight - self.provisioned_in_flight
    }

    /// What of the reservation is used: by requests in flight, and by what is provisioned.
    fn claimed(&self) -> u32 {
        self.on_demand().saturating_add(self.provisioned).max(self.in_flight)
    }

    /// The board's row of the reservation; `None` without one.
    pub fn row(&self, function: &Arc<str>, source: &Arc<str>) -> Option<LimitRow> {
        let max = u64::from(self.reserved?);
        let used = u64::from(self.claimed()).min(max.max(u64::from(self.in_flight)));
        Some(self.tally.row(LimitId::ReservedConcurrency, function, used, max, source))
    }
}

/// The account's concurrency: one shared pool, less what functions reserve.
#[derive(Clone, Debug)]
pub struct Concurrency {
    account: u32,
    unreserved_minimum: u32,
    /// Reservations, and what is provisioned for functions without one.
    allocated: u64,
    /// Requests of functions without a reservation that do not run on provisioned environments.
    unreserved_in_flight: u32,
    in_flight: u32,
    tally: Tally,
}

impl Concurrency {
    /// An idle account. Reservations may not leave less than `unreserved_minimum` of `account`.
    pub fn new(account: u32, unreserved_minimum: u32) -> Self {
        Self {
            account,
            unreserved_minimum,
            allocated: 0,
            unreserved_in_flight: 0,
            in_flight: 0,
            tally: Tally::default(),
        }
    }

    /// Forgets refusals and the peak; what is in flight and reserved stays.
    pub fn forget(&mut self) {
        self.tally = Tally::default();
    }

    /// Requests in flight over all functions.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Concurrency that is spoken for: every reservation and what is provisioned, used or not, and the unreserved
    /// requests in flight (CloudWatch's ClaimedAccountConcurrency).
    pub fn claimed(&self) -> u64 {
        (self.allocated + u64::from(self.unreserved_in_flight)).max(u64::from(self.in_flight))
    }

    /// Whether the function may reserve, or have provisioned, `wanted` of the account instead of what it has now.
    ///
    /// # Errors
    /// [`Floor`] when less than the minimum would stay unreserved.
    pub fn check_allocation(&self, share: &Share, wanted: Option<u32>) -> Result<(), Floor> {
        let Some(wanted) = wanted else { return Ok(()) };
        let others = self.allocated - share.allocated();
        let reservable = u64::from(self.account.saturating_sub(self.unreserved_minimum));
        let most = reservable.saturating_sub(others);
        if u64::from(wanted) <= most {
            return Ok(());
        }
        Err(Floor { requested: wanted, most, minimum: self.unreserved_minimum })
    }

    /// Sets a reservation without a check; requests in flight move between the pools with it.
    pub fn reserve(&mut self, share: &mut Share, reserved: Option<u32>) {
        self.allocated -= share.allocated();
        match (share.reserved.is_some(), reserved.is_some()) {
            (true, false) => self.unreserved_in_flight += share.on_demand(),
            (false, true) => self.unreserved_in_flight -= share.on_demand(),
            _ => {}
        }
        share.reserved = reserved;
        self.allocated += share.allocated();
    }

    /// Sets what is provisioned for all of the function's versions and aliases together, without a check.
    pub fn provision(&mut self, share: &mut Share, provisioned: u32) {
        self.allocated -= share.allocated();
        share.provisioned = provisioned;
        self.allocated += share.allocated();
    }

    /// Whether one more request of the function fits, without counting a refusal.
    pub fn has_room(&self, share: &Share) -> bool {
        let share_full = match share.reserved {
            Some(reserved) => share.claimed() >= reserved,
            None => self.unreserved_full(),
        };
        !share_full && self.in_flight < self.account
    }

    fn unreserved_full(&self) -> bool {
        self.allocated + u64::from(self.unreserved_in_flight) >= u64::from(self.account)
    }

    /// Whether one more request of the function fits. Changes nothing but the count of refusals.
    ///
    /// A function with a reservation meets the account's limit only after a reservation was made over
    /// requests already in flight: otherwise its part is free by construction.
    ///
    /// # Errors
    /// The refusal names the reservation or the account with its figures.
    #[inline]
    pub fn check(
        &mut self,
        now: Instant,
        share: &mut Share,
        function: &Arc<str>,
        account: &Arc<str>,
    ) -> Result<(), Refusal> {
        if let Some(reserved) = share.reserved
            && share.claimed() >= reserved
        {
            return Err(refuse_reserved(now, share, function, reserved, share.claimed()));
        }
        let unreserved_full = share.reserved.is_none() && self.unreserved_full();
        if unreserved_full || self.in_flight >= self.account {
            return Err(self.refuse_account(now, account));
        }
        Ok(())
    }

    /// The same of a request for which a provisioned environment is free. It is refused only where concurrency was
    /// reserved or provisioned over requests already in flight: otherwise its part is free by construction.
    ///
    /// # Errors
    /// The refusal names the reservation or the account with its figures.
    #[inline]
    pub fn check_provisioned(
        &mut self,
        now: Instant,
        share: &mut Share,
        function: &Arc<str>,
        account: &Arc<str>,
    ) -> Result<(), Refusal> {
        if let Some(reserved) = share.reserved
            && share.in_flight >= reserved
        {
            return Err(refuse_reserved(now, share, function, reserved, share.in_flight));
        }
        if self.in_flight >= self.account {
            return Err(self.refuse_account(now, account));
        }
        Ok(())
    }

    fn refuse_account(&mut self, now: Instant, account: &Arc<str>) -> Refusal {
        self.tally.refuse(now);
        Refusal {
            limit: LimitId::AccountConcurrency,
            resource: Arc::clone(account),
            destination: None,
            used: self.claimed(),
            max: u64::from(self.account),
            retry_at: None,
        }
    }

    /// A request of the function is in flight, on a provisioned environment or on another.
    #[inline]
    pub fn enter(&mut self, share: &mut Share, provisioned: bool) {
        share.in_flight += 1;
        self.in_flight += 1;
        share.provisioned_in_flight += u32::from(provisioned);
        if let Some(reserved) = share.reserved {
            share.tally.reach(u64::from(share.claimed().min(reserved.max(share.in_flight))));
        } else {
            self.unreserved_in_flight += u32::from(!provisioned);
        }
        self.tally.reach(self.claimed());
    }

    /// A request of the function is no longer in flight. To be called once for each `enter`, with the same words.
    #[inline]
    pub fn leave(&mut self, share: &mut Share, provisioned: bool) {
        share.in_flight -= 1;
        self.in_flight -= 1;
        share.provisioned_in_flight -= u32::from(provisioned);
        if share.reserved.is_none() {
            self.unreserved_in_flight -= u32::from(!provisioned);
        }
    }

    /// The board's row of the account's limit.
    pub fn row(&self, account: &Arc<str>, source: &Arc<str>) -> LimitRow {
        self.tally.row(LimitId::AccountConcurrency, account, self.claimed(), u64::from(self.account), source)
    }
}

fn refuse_reserved(
    now: Instant,
    share: &mut Share,
    function: &Arc<str>,
    reserved: u32,
    used: u32,
) -> Refusal {
    share.tally.refuse(now);
    Refusal {
        limit: LimitId::ReservedConcurrency,
        resource: Arc::clone(function),
        destination: None,
        used: u64::from(used),
        max: u64::from(reserved),
        retry_at: None,
    }
}

/// A reservation that would leave too little for everyone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// What was asked for.
    pub requested: u32,
    /// The most that could be had.
    pub most: u64,
    /// What must stay unreserved.
    pub minimum: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (Arc<str>, Arc<str>) {
        ("cart".into(), "account".into())
    }

    fn fill(account: &mut Concurrency, share: &mut Share) -> (u32, Refusal) {
        let (function, name) = names();
        let mut entered = 0;
        loop {
            match account.check(Instant::START, share, &function, &name) {
                Ok(()) => account.enter(share, false),
                Err(refusal) => return (entered, refusal),
            }
            entered += 1;
        }
    }

    #[test]
    fn a_reservation_is_a_cap_and_a_guarantee() {
        let mut account = Concurrency::new(1000, 100);
        let (mut orange, mut blue) = (Share::default(), Share::default());
        account.reserve(&mut orange, Some(600));
        let (entered, refusal) = fill(&mut account, &mut blue);
        assert_eq!((entered, refusal.limit), (400, LimitId::AccountConcurrency));
        assert_eq!((refusal.used, refusal.max, &*refusal.resource), (1000, 1000, "account"));
        let (entered, refusal) = fill(&mut account, &mut orange);
        assert_eq!((entered, refusal.limit), (600, LimitId::ReservedConcurrency));
        assert_eq!((refusal.used, refusal.max, &*refusal.resource), (600, 600, "cart"));
    }

    #[test]
    fn a_reservation_of_zero_stops_the_function() {
        let mut account = Concurrency::new(1000, 100);
        let mut share = Share::default();
        account.reserve(&mut share, Some(0));
        let (entered, refusal) = fill(&mut account, &mut share);
        assert_eq!((entered, refusal.used, refusal.max), (0, 0, 0));
    }

    #[test]
    fn one_hundred_stay_unreserved() {
        let mut account = Concurrency::new(2000, 100);
        let mut first = Share::default();
        let new = Share::default();
        assert_eq!(account.check_allocation(&new, Some(1900)), Ok(()));
        account.reserve(&mut first, Some(1500));
        let floor = Floor { requested: 401, most: 400, minimum: 100 };
        assert_eq!(account.check_allocation(&new, Some(401)), Err(floor));
        assert_eq!(account.check_allocation(&first, Some(1900)), Ok(()));
        assert_eq!(Concurrency::new(50, 100).check_allocation(&new, Some(0)), Ok(()));
    }

    #[test]
    fn a_late_reservation_never_lifts_the_account_over_its_limit() {
        let mut account = Concurrency::new(10, 0);
        let (mut early, mut late) = (Share::default(), Share::default());
        assert_eq!(fill(&mut account, &mut early).0, 10);
        account.reserve(&mut late, Some(5));
        let (entered, refusal) = fill(&mut account, &mut late);
        assert_eq!((entered, refusal.limit), (0, LimitId::AccountConcurrency));
        account.leave(&mut early, false);
        assert_eq!(fill(&mut account, &mut late).0, 1);
        assert_eq!(account.in_flight(), 10);
    }

    #[test]
    fn what_is_provisioned_is_claimed_before_anything_runs() {
        // The guide's example: limit 1,000, 600 reserved, 200 provisioned: 800 claimed when idle, 900 with 100 more.
        let mut account = Concurrency::new(1000, 100);
        let [mut orange, mut blue, mut other] = [Share::default(), Share::default(), Share::default()];
        account.reserve(&mut orange, Some(600));
        account.provision(&mut blue, 200);
        assert_eq!(account.claimed(), 800);
        for _ in 0..100 {
            account.enter(&mut other, false);
        }
        assert_eq!(account.claimed(), 900);
        account.enter(&mut blue, true);
        assert_eq!((account.claimed(), account.in_flight()), (900, 101));
        let (entered, refusal) = fill(&mut account, &mut blue);
        assert_eq!((entered, refusal.limit, refusal.used), (100, LimitId::AccountConcurrency, 1000));
    }

    #[test]
    fn a_reservation_that_is_provisioned_whole_leaves_nothing_on_demand() {
        let mut account = Concurrency::new(1000, 100);
        let mut share = Share::default();
        account.reserve(&mut share, Some(5));
        account.provision(&mut share, 5);
        assert_eq!(account.claimed(), 5, "what is provisioned is part of the reservation");
        let (entered, refusal) = fill(&mut account, &mut share);
        assert_eq!((entered, refusal.limit), (0, LimitId::ReservedConcurrency));
        assert_eq!((refusal.used, refusal.max), (5, 5));
        account.provision(&mut share, 3);
        assert_eq!(fill(&mut account, &mut share).0, 2);
        account.reserve(&mut share, None);
        assert_eq!(account.claimed(), 5);
    }

    #[test]
    fn requests_in_flight_follow_a_changed_reservation() {
        let mut account = Concurrency::new(10, 0);
        let mut share = Share::default();
        account.enter(&mut share, false);
        account.reserve(&mut share, Some(4));
        assert_eq!(account.claimed(), 4);
        account.reserve(&mut share, None);
        assert_eq!(account.claimed(), 1);
        account.leave(&mut share, false);
        assert_eq!(account.claimed(), 0);
    }
}
