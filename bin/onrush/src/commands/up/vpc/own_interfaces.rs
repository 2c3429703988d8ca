//! Interfaces of environments, in eras that made them at cold starts: room is taken before a sandbox starts, and given back
//! when its environment is gone.

use limits::Network;
use limits::eni_per_environment::GroupId;
use limits::network::Attachments;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All of them; cheap to clone.
#[derive(Clone, Debug)]
pub struct OwnInterfaces {
    began: std::time::Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    attachments: Attachments,
    /// Which of its subnets the next environment of a function gets.
    turns: BTreeMap<usize, usize>,
}

/// One environment's part of an interface; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    own: OwnInterfaces,
    group: GroupId,
    memory_mb: u32,
    choice: usize,
    ready: Instant,
}

impl OwnInterfaces {
    pub fn new(attachments: Attachments, began: std::time::Instant) -> Self {
        Self { began, state: Arc::new(Mutex::new(State { attachments, turns: BTreeMap::new() })) }
    }

    /// The network was renewed.
    pub fn renew(&self, network: &Network) {
        self.lock().attachments.renew(network);
    }

    /// A function was added to the network.
    pub fn add_function(&self, network: &Network, function: usize) {
        self.lock().attachments.add_function(network, function);
    }

    /// A new environment, as the planner begins one: in the next of its function's subnets that has room. `draw` / 2^32 says
    /// how long its interface takes among all.
    ///
    /// # Errors
    /// The limit in the way.
    pub fn reserve(
        &self,
        function: usize,
        memory_mb: u32,
        draw: u32,
    ) -> Result<Option<Reservation>, Refusal> {
        let now = self.now();
        let State { attachments, turns } = &mut *self.lock();
        let groups = attachments.groups.get(function).cloned().unwrap_or_default();
        let turn = turns.entry(function).or_default();
        let mut refused = None;
        for _ in 0..groups.len() {
            let choice = *turn % groups.len();
            *turn = choice + 1;
            let group = groups[choice];
            match attachments.engine.begin(now, group, memory_mb, draw) {
                Ok(ready) => {
                    return Ok(Some(Reservation { own: self.clone(), group, memory_mb, choice, ready }));
                }
                Err(refusal) if refusal.limit == LimitId::SubnetAddresses => refused = Some(refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// The board's rows, in place of those of shared interfaces.
    pub fn board(&self, rows: &mut Vec<LimitRow>) {
        let room = [LimitId::EniPerRegion, LimitId::EniPerVpc, LimitId::SubnetAddresses];
        rows.retain(|row| !room.contains(&row.id));
        rows.extend(self.lock().attachments.engine.board(self.now()));
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl invoke::Reservation for Reservation {
    fn ready(&self) -> std::time::Instant {
        self.own.began + self.ready.since(Instant::START)
    }

    fn choice(&self) -> usize {
        self.choice
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let now = self.own.now();
        self.own.lock().attachments.engine.end(now, self.group, self.memory_mb);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use invoke::Reservation as _;
    use limits::NetworkSettings;
    use model::{Era, Overrides};
    use std::time::Duration;

    fn own(limits: &[&str], subnets: usize) -> OwnInterfaces {
        let mut overrides = Overrides::default();
        limits.iter().for_each(|text| overrides.read(text).unwrap());
        let era = Era::named("2019-05").unwrap();
        let settings = NetworkSettings::from_era(&era, "us-east-1", &overrides).unwrap();
        let network = Network::simple(1, subnets, 1);
        OwnInterfaces::new(network.attachments(&settings).unwrap(), std::time::Instant::now())
    }

    #[test]
    fn environments_wait_for_their_interfaces_in_turn_over_the_subnets() {
        let (own, began) = (own(&[], 2), std::time::Instant::now());
        let first = own.reserve(0, 3_008, 0).unwrap().unwrap();
        let second = own.reserve(0, 3_008, 0).unwrap().unwrap();
        assert_eq!((first.choice(), second.choice()), (0, 1));
        assert!(first.ready() >= began + Duration::from_secs(5));
        assert!(own.reserve(7, 128, 0).unwrap().is_none(), "a function without a VPC waits for nothing");
    }

    #[test]
    fn who_finds_no_room_is_refused_until_another_is_gone() {
        let own = own(&["subnet.addresses=1"], 1);
        let first = own.reserve(0, 3_008, 0).unwrap();
        let refusal = own.reserve(0, 128, 0).unwrap_err();
        assert_eq!((refusal.limit, refusal.used, refusal.max), (LimitId::SubnetAddresses, 1, 1));
        let mut rows = Vec::new();
        own.board(&mut rows);
        let row = rows.iter().find(|row| row.id == LimitId::SubnetAddresses).unwrap();
        assert_eq!((row.used, row.refused), (1, 1));
        drop(first);
        assert!(own.reserve(0, 128, 0).unwrap().is_some());
    }
}
