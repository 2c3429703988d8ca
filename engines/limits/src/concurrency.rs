//! `lambda.account-concurrency` and `lambda.reserved-concurrency`: requests in flight at once.
//!
//! Source: AWS Lambda Developer Guide, "Understanding Lambda function scaling" and "Configuring
//! reserved concurrency": a reservation is a guarantee and a cap, it leaves the shared pool even when
//! unused, and 100 always stay unreserved; published. What happens to requests already in flight when a
//! reservation changes is not published: here they finish, and nothing new enters until there is room.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;

/// One function's part of the account's concurrency.
#[derive(Clone, Debug, Default)]
pub struct Share {
    reserved: Option<u32>,
    in_flight: u32,
    tally: Tally,
}

impl Share {
    /// The function's reservation, if it has one.
    pub const fn reserved(&self) -> Option<u32> {
        self.reserved
    }

    /// The function's requests in flight.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The board's row of the reservation; `None` without one.
    pub fn row(&self, function: &Arc<str>, source: &Arc<str>) -> Option<LimitRow> {
        let max = u64::from(self.reserved?);
        Some(self.tally.row(LimitId::ReservedConcurrency, function, u64::from(self.in_flight), max, source))
    }
}

/// The account's concurrency: one shared pool, less what functions reserve.
#[derive(Clone, Debug)]
pub struct Concurrency {
    account: u32,
    unreserved_minimum: u32,
    reserved: u64,
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
            reserved: 0,
            unreserved_in_flight: 0,
            in_flight: 0,
            tally: Tally::default(),
        }
    }

    /// Requests in flight over all functions.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Concurrency that is spoken for: every reservation, used or not, and the unreserved requests in
    /// flight (CloudWatch's ClaimedAccountConcurrency without provisioned concurrency).
    pub fn claimed(&self) -> u64 {
        (self.reserved + u64::from(self.unreserved_in_flight)).max(u64::from(self.in_flight))
    }

    /// Whether a function that reserves `current` may reserve `wanted` instead.
    ///
    /// # Errors
    /// [`Floor`] when less than the minimum would stay unreserved.
    pub fn check_reservation(&self, current: Option<u32>, wanted: Option<u32>) -> Result<(), Floor> {
        let Some(wanted) = wanted else { return Ok(()) };
        let others = self.reserved - u64::from(current.unwrap_or(0));
        let reservable = u64::from(self.account.saturating_sub(self.unreserved_minimum));
        let most = reservable.saturating_sub(others);
        if u64::from(wanted) <= most {
            return Ok(());
        }
        Err(Floor { requested: wanted, most, minimum: self.unreserved_minimum })
    }

    /// Sets a reservation without a check; requests in flight move between the pools with it.
    pub fn reserve(&mut self, share: &mut Share, reserved: Option<u32>) {
        self.reserved -= u64::from(share.reserved.unwrap_or(0));
        self.reserved += u64::from(reserved.unwrap_or(0));
        match (share.reserved.is_some(), reserved.is_some()) {
            (true, false) => self.unreserved_in_flight += share.in_flight,
            (false, true) => self.unreserved_in_flight -= share.in_flight,
            _ => {}
        }
        share.reserved = reserved;
    }

    /// Whether one more request of the function fits, without counting a refusal.
    pub fn has_room(&self, share: &Share) -> bool {
        let share_full = match share.reserved {
            Some(reserved) => share.in_flight >= reserved,
            None => self.unreserved_full(),
        };
        !share_full && self.in_flight < self.account
    }

    fn unreserved_full(&self) -> bool {
        self.reserved + u64::from(self.unreserved_in_flight) >= u64::from(self.account)
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
            && share.in_flight >= reserved
        {
            share.tally.refuse(now);
            return Err(Refusal {
                limit: LimitId::ReservedConcurrency,
                resource: Arc::clone(function),
                destination: None,
                used: u64::from(share.in_flight),
                max: u64::from(reserved),
                retry_at: None,
            });
        }
        let unreserved_full = share.reserved.is_none() && self.unreserved_full();
        if unreserved_full || self.in_flight >= self.account {
            self.tally.refuse(now);
            return Err(Refusal {
                limit: LimitId::AccountConcurrency,
                resource: Arc::clone(account),
                destination: None,
                used: self.claimed(),
                max: u64::from(self.account),
                retry_at: None,
            });
        }
        Ok(())
    }

    /// A request of the function is in flight.
    #[inline]
    pub fn enter(&mut self, share: &mut Share) {
        share.in_flight += 1;
        self.in_flight += 1;
        if share.reserved.is_some() {
            share.tally.reach(u64::from(share.in_flight));
        } else {
            self.unreserved_in_flight += 1;
        }
        self.tally.reach(self.claimed());
    }

    /// A request of the function is no longer in flight. To be called once for each `enter`.
    #[inline]
    pub fn leave(&mut self, share: &mut Share) {
        share.in_flight -= 1;
        self.in_flight -= 1;
        if share.reserved.is_none() {
            self.unreserved_in_flight -= 1;
        }
    }

    /// The board's row of the account's limit.
    pub fn row(&self, account: &Arc<str>, source: &Arc<str>) -> LimitRow {
        self.tally.row(LimitId::AccountConcurrency, account, self.claimed(), u64::from(self.account), source)
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
                Ok(()) => account.enter(share),
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
        assert_eq!(account.check_reservation(None, Some(1900)), Ok(()));
        account.reserve(&mut first, Some(1500));
        let floor = Floor { requested: 401, most: 400, minimum: 100 };
        assert_eq!(account.check_reservation(None, Some(401)), Err(floor));
        assert_eq!(account.check_reservation(Some(1500), Some(1900)), Ok(()));
        assert_eq!(Concurrency::new(50, 100).check_reservation(None, Some(0)), Ok(()));
    }

    #[test]
    fn a_late_reservation_never_lifts_the_account_over_its_limit() {
        let mut account = Concurrency::new(10, 0);
        let (mut early, mut late) = (Share::default(), Share::default());
        assert_eq!(fill(&mut account, &mut early).0, 10);
        account.reserve(&mut late, Some(5));
        let (entered, refusal) = fill(&mut account, &mut late);
        assert_eq!((entered, refusal.limit), (0, LimitId::AccountConcurrency));
        account.leave(&mut early);
        assert_eq!(fill(&mut account, &mut late).0, 1);
        assert_eq!(account.in_flight(), 10);
    }

    #[test]
    fn requests_in_flight_follow_a_changed_reservation() {
        let mut account = Concurrency::new(10, 0);
        let mut share = Share::default();
        account.enter(&mut share);
        account.reserve(&mut share, Some(4));
        assert_eq!(account.claimed(), 4);
        account.reserve(&mut share, None);
        assert_eq!(account.claimed(), 1);
        account.leave(&mut share);
        assert_eq!(account.claimed(), 0);
    }
}
