//! `host.ports` of a world that masquerades: the ports that it has towards each destination.
//!
//! The kernel behind the world's device gives each flow a source port of its own address, and drops in silence what finds
//! none. Counted here, the flow that is one too many is refused by name before. Flows from ports below [`PORT_MIN`] are not
//! counted: the kernel looks for their ports among those below, too.

use limits::nat::{Destination, PORT_MIN};
use limits::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands as the resource of its refusals.
const MASQUERADE: &str = "masquerade";
/// Destinations with a row of their own; those that come later share one.
const ROWS_MAX: usize = 64;

/// The flows towards each destination, and what was refused.
#[derive(Debug)]
pub struct Masquerade {
    max: u32,
    /// Only those with a flow.
    used: BTreeMap<Destination, u32>,
    refused: BTreeMap<Destination, Tally>,
    others: Tally,
}

impl Masquerade {
    /// With `max` ports towards each destination.
    pub fn new(max: u32) -> Self {
        Self { max, used: BTreeMap::new(), refused: BTreeMap::new(), others: Tally::default() }
    }

    /// Takes a port, where a flow from `port` needs one: whether it did. O(log destinations).
    ///
    /// # Errors
    /// There is none left (`host.ports`).
    pub fn take(&mut self, now: Instant, destination: Destination, port: u16) -> Result<bool, Refusal> {
        if port < PORT_MIN {
            return Ok(false);
        }
        let used = self.used(&destination);
        if used < self.max {
            self.used.insert(destination, used + 1);
            return Ok(true);
        }
        let has_row = self.refused.len() < ROWS_MAX || self.refused.contains_key(&destination);
        let tally = if has_row { self.refused.entry(destination).or_default() } else { &mut self.others };
        tally.reach(used.into());
        tally.refuse(now);
        let (used, max) = (used.into(), self.max.into());
        let (resource, destination) = (MASQUERADE.into(), Some(destination.to_string().into()));
        Err(Refusal { limit: LimitId::HostPorts, resource, destination, used, max, retry_at: None })
    }

    /// Gives a port back that was taken.
    pub fn give_back(&mut self, destination: Destination) {
        match self.used(&destination) {
            0 | 1 => self.used.remove(&destination),
            used => self.used.insert(destination, used - 1),
        };
    }

    /// Ports in use towards a destination.
    pub fn used(&self, destination: &Destination) -> u32 {
        self.used.get(destination).copied().unwrap_or(0)
    }

    /// A row for each destination that something was refused towards.
    pub fn rows<'a>(&'a self, source: &'a Arc<str>) -> impl Iterator<Item = LimitRow> + 'a {
        let row = move |tally: &Tally, to: &str, used: u32| {
            let resource = format!("{MASQUERADE} to {to}").into();
            tally.row(LimitId::HostPorts, &resource, used.into(), self.max.into(), source)
        };
        let others = (self.others != Tally::default()).then(|| row(&self.others, "others", 0));
        let each = self.refused.iter().map(move |(to, tally)| row(tally, &to.to_string(), self.used(to)));
        each.chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::nat::Protocol;
    use proptest::prelude::*;

    fn to(port: u16) -> Destination {
        Destination { address: [203, 0, 113, 9].into(), port, protocol: Protocol::Tcp }
    }

    fn refusals(ports: &Masquerade) -> Vec<(String, u64, u64)> {
        ports.rows(&"test".into()).map(|row| (row.resource.to_string(), row.used, row.refused)).collect()
    }

    #[test]
    fn a_port_below_1024_is_not_among_them() {
        let mut ports = Masquerade::new(0);
        assert_eq!(ports.take(Instant::START, to(7), 1023), Ok(false));
        let refusal = ports.take(Instant::START, to(7), 1024).unwrap_err();
        assert_eq!(refusal.to_string(), "host.ports of masquerade to 203.0.113.9:7: 0 of 0 ports");
    }

    #[test]
    fn more_destinations_than_rows_share_one() {
        let mut ports = Masquerade::new(0);
        (0..100).for_each(|port| assert!(ports.take(Instant::START, to(port), 5000).is_err()));
        let rows = refusals(&ports);
        assert_eq!((rows.len(), &rows[64]), (65, &("masquerade to others".to_owned(), 0, 36)));
    }

    proptest! {
        #[test]
        fn it_counts_as_lists_of_flows_do(
            max in 0u32..4, steps in prop::collection::vec((any::<bool>(), 0u16..5, 1020u16..1030), 1..400),
        ) {
            let mut ports = Masquerade::new(max);
            let (mut lists, mut refused) = (vec![0; 5], [0; 5]);
            for (takes, port, from) in steps {
                let list: &mut u32 = &mut lists[usize::from(port)];
                if !takes && *list > 0 {
                    *list -= 1;
                    ports.give_back(to(port));
                } else if takes {
                    let (counts, fits) = (from >= 1024, *list < max);
                    let taken = ports.take(Instant::START, to(port), from);
                    prop_assert_eq!(taken.ok(), (fits || !counts).then_some(counts));
                    *list += u32::from(counts && fits);
                    refused[usize::from(port)] += u64::from(counts && !fits);
                }
                prop_assert_eq!(ports.used(&to(port)), *list);
                prop_assert_eq!(ports.used.len(), lists.iter().filter(|list| **list > 0).count(), "no more is kept");
            }
            let expected: Vec<_> = (0..5).filter(|port| refused[*port] > 0).map(|port| {
                (format!("masquerade to 203.0.113.9:{port}"), lists[port].into(), refused[port])
            }).collect();
            prop_assert_eq!(refusals(&ports), expected);
        }
    }
}
