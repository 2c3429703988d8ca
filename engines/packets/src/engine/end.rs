//! Flows that end: closed, cut, silent or displaced, and what they give back.

use super::PacketEngine;
use crate::flow::{Flow, Rest, State, marks};
use crate::wire::TCP;
use limits::connections::Taken;
use limits::nat::{PoolId, Translation};
use model::Instant;

/// Of the table, the part that may linger: more would take room from flows that live.
const LINGERING_PART: u32 = 8;

impl PacketEngine {
    /// A flow is over: everything is given back, and its record is free.
    pub(super) fn end(&mut self, slot: u32) {
        self.give_back(slot, marks::GATEWAY | marks::INTERFACE, self.now, false);
        self.timers.remove(self.table.timed().1, slot);
        self.erase(slot);
    }

    /// Both sides have closed a flow: it holds nothing any more, but late packets still pass for a moment.
    pub(super) fn linger(&mut self, slot: u32) {
        if self.lingering >= self.table.max() / LINGERING_PART {
            return self.end(slot);
        }
        self.give_back(slot, marks::GATEWAY | marks::INTERFACE, self.now, false);
        self.timers.remove(self.table.timed().1, slot);
        self.table.flows_mut()[slot as usize].state = State::Lingering;
        self.lingering += 1;
        self.schedule(slot);
    }

    /// Nothing was heard of a flow until `due`, when one of those on its way forgets it. It stands in no timer.
    pub(super) fn fall_silent(&mut self, slot: u32, due: Instant) {
        let flow = &self.table.flows()[slot as usize];
        let (silent, idle, is_tcp) = (due - flow.last, self.idle(), flow.protocol == TCP);
        let mut parts = 0;
        if !is_tcp || idle.gateway <= silent {
            parts |= marks::GATEWAY;
        }
        if !is_tcp || idle.interface <= silent {
            parts |= marks::INTERFACE;
        }
        let is_over = flow.state == State::Lingering;
        self.give_back(slot, parts, due, is_tcp && !is_over);
        let flow = &mut self.table.flows_mut()[slot as usize];
        if flow.marks & (marks::GATEWAY | marks::INTERFACE) == 0 {
            return self.erase(slot);
        }
        flow.state = State::Forgotten;
        self.schedule(slot);
    }

    /// Gives back those of `parts` that a flow has.
    fn give_back(&mut self, slot: u32, parts: u16, at: Instant, silent: bool) {
        let flow = &mut self.table.flows_mut()[slot as usize];
        let given = flow.marks & parts;
        // What has no interface has only the database to give back.
        let ends = given & marks::INTERFACE != 0 || !flow.has(marks::INTERFACE);
        flow.marks &= !given;
        let flow = *flow;
        let Rest { pool, interface_port, gateway_address, .. } = *self.table.rest(slot);
        let connections = &mut self.wired.connections;
        if given & marks::GATEWAY != 0 {
            let pool = PoolId::of(pool);
            let port = Translation::of(pool, gateway_address, flow.outside_port);
            connections.give_taken_back(at, Taken::Port(port), silent);
            if let Some(meter) = self.meters.get_mut(usize::from(flow.gateway)) {
                let active = &mut meter.metrics.active_connections;
                *active = active.saturating_sub(u64::from(flow.protocol == TCP));
            }
        }
        if given & marks::INTERFACE != 0
            && let Some(interface) = self.environments[flow.environment as usize].interface
        {
            connections.give_interface_back(at, interface);
            if flow.has(marks::INTERFACE_PORT) {
                self.ports[interface.index()].give_back(interface_port);
                self.table.flows_mut()[slot as usize].marks &= !marks::INTERFACE_PORT;
            }
        }
        if ends && flow.has(marks::MASQUERADE) {
            let destination = self.table.inside_key(&flow).destination();
            if let Some(masquerade) = &mut self.masquerade {
                masquerade.give_back(destination);
            }
            self.table.flows_mut()[slot as usize].marks &= !marks::MASQUERADE;
        }
        if ends && flow.has(marks::DATABASE) {
            let of_pool = || self.wired.databases.get(pool as usize).copied().flatten();
            if let Some(database) = self.behind.remove(&slot).or_else(of_pool) {
                self.wired.connections.give_taken_back(at, Taken::Database(database), silent);
            }
            self.table.flows_mut()[slot as usize].marks &= !marks::DATABASE;
        }
    }

    /// Frees a record that holds nothing and stands in no timer.
    fn erase(&mut self, slot: u32) {
        self.record(slot);
        let flow: Flow = self.table.remove(slot);
        if flow.has(marks::HELD) {
            self.held.remove(slot);
        }
        if flow.state == State::Lingering {
            self.lingering -= 1;
        }
        let environment = &mut self.environments[flow.environment as usize];
        environment.flows -= 1;
        if environment.flows == 0 && !environment.attached {
            self.free_environments.push(flow.environment);
        }
    }
}
