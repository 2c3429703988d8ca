//! Connections whose time somebody else keeps: a table of flows knows when each was last heard, and gives back what it took.
//!
//! The same engines decide as for [`Connections::open`], so the same connection number is refused. What differs is who
//! remembers: no lease is made, the flow's own record says what it holds.

use super::Connections;
use crate::db_connections::DatabaseId;
use crate::eni::InterfaceId;
use crate::nat::{Destination, GatewayId, Translation};
use model::{Instant, Refusal};
use std::sync::Arc;

/// What a flow takes beyond its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing.
    Nothing,
    /// A port of a NAT gateway.
    Port(Translation),
    /// A connection of a database.
    Database(DatabaseId),
}

impl Connections {
    /// One SYN through an interface, to something in the VPC.
    ///
    /// # Errors
    /// The refusal names the interface and its figures.
    #[inline]
    pub fn take_interface(&mut self, now: Instant, interface: InterfaceId) -> Result<(), Refusal> {
        self.interfaces.take(now, interface)
    }

    /// One SYN through an interface and a NAT gateway, to a database behind it if one stands there: all or nothing, as
    /// [`Self::open_through`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn take_port(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        gateway: GatewayId,
        destination: Destination,
        database: Option<DatabaseId>,
    ) -> Result<Translation, Refusal> {
        self.interfaces.check(now, interface)?;
        let translation = self.gateways.take_port(now, gateway, destination)?;
        if let Some(database) = database {
            self.databases.take(now, database).inspect_err(|_| {
                self.gateways.return_port(now, translation, false);
            })?;
        }
        self.interfaces.take(now, interface)?;
        Ok(translation)
    }

    /// One SYN through an interface to a database, which may refuse.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn take_database(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        database: DatabaseId,
    ) -> Result<(), Refusal> {
        self.interfaces.check(now, interface)?;
        self.databases.take(now, database)?;
        self.interfaces.take(now, interface)
    }

    /// One SYN that comes over the internet to a database, which may refuse.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn take_database_freely(&mut self, now: Instant, database: DatabaseId) -> Result<(), Refusal> {
        self.databases.take(now, database)
    }

    /// The interface's part of a flow ends.
    #[inline]
    pub fn give_interface_back(&mut self, now: Instant, interface: InterfaceId) {
        self.interfaces.give_back(now, interface);
    }

    /// What a flow took beyond its interface ends; `silent`: as nothing was heard of it for the idle time-out.
    pub fn give_taken_back(&mut self, now: Instant, taken: Taken, silent: bool) {
        match taken {
            Taken::Nothing => {}
            Taken::Port(translation) => self.gateways.return_port(now, translation, silent),
            Taken::Database(database) => self.databases.give_back(now, database),
        }
    }

    /// Connections through a NAT gateway that ended in silence (`IdleTimeoutCount`).
    pub fn idle_timeouts(&self, gateway: GatewayId) -> u64 {
        self.gateways.idle_timeouts(gateway)
    }

    /// The name of an interface.
    pub fn interface_name(&self, interface: InterfaceId) -> &Arc<str> {
        self.interfaces.name(interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Protocol;
    use crate::settings::NetworkSettings;
    use model::{Era, Overrides};
    use proptest::prelude::*;

    fn network() -> (Connections, InterfaceId, GatewayId) {
        let mut given = Overrides::default();
        for text in ["nat.ports=5", "eni.connections=12", "nat.port-cooldown=2"] {
            given.read(text).unwrap();
        }
        let era = Era::named("today").unwrap();
        let mut all = Connections::new(NetworkSettings::from_era(&era, "us-east-1", &given).unwrap());
        let interface = all.add_interface("eni-a".into());
        let gateway = all.add_gateway("nat-a".into(), 2);
        (all, interface, gateway)
    }

    proptest! {
        #[test]
        fn what_is_taken_and_what_is_leased_meet_the_same_limits(
            steps in prop::collection::vec((0u8..3, 0usize..64, 0u64..3), 1..120),
        ) {
            let (mut leased, interface, gateway) = network();
            let (mut taken, ..) = network();
            let (mut now, mut held) = (0, Vec::new());
            for (what, index, wait) in steps {
                now += wait;
                let at = Instant::from_secs(now);
                if what < 2 {
                    let address = [203, 0, 113, what].into();
                    let to = Destination { address, port: 443, protocol: Protocol::Tcp };
                    let one = leased.open_through(at, interface, gateway, to);
                    let other = taken.take_port(at, interface, gateway, to, None);
                    prop_assert_eq!(one.as_ref().err(), other.as_ref().err());
                    held.extend(one.ok().zip(other.ok()));
                } else if !held.is_empty() {
                    let (connection, translation) = held.swap_remove(index % held.len());
                    leased.close(at, connection);
                    taken.give_taken_back(at, Taken::Port(translation), false);
                    taken.give_interface_back(at, interface);
                }
                prop_assert_eq!(leased.board(), taken.board());
                // Nothing may fall due by itself here: only leases know idleness.
                if now > 300 { break; }
            }
        }
    }

    #[test]
    fn a_refused_port_leaves_nothing_on_the_interface() {
        let (mut all, interface, gateway) = network();
        let to = Destination { address: [203, 0, 113, 9].into(), port: 0, protocol: Protocol::Icmp };
        let taken: Vec<_> = (0..11)
            .filter_map(|_| all.take_port(Instant::START, interface, gateway, to, None).ok())
            .collect();
        assert_eq!((taken.len(), all.interfaces.used(interface)), (10, 10));
        let refusal = all.take_port(Instant::START, interface, gateway, to, None).unwrap_err();
        assert_eq!(refusal.to_string(), "nat.ports of nat-a to 203.0.113.9/icmp: 10 of 10 connections");
        all.give_taken_back(Instant::START, Taken::Port(taken[0]), true);
        assert_eq!((all.idle_timeouts(gateway), all.interfaces.used(interface)), (1, 10));
        assert_eq!(Translation::of(taken[0].pool(), taken[0].address, taken[0].port), taken[0]);
    }
}
