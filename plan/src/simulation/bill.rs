//! From what a plan did to what it used, for the month's bill.

use super::Simulation;
use crate::cost::{Bill, Consumption, FunctionUse, Inventory, PhaseUse, Through};
use crate::input::PlanInput;
use crate::load::Load;
use crate::options::Options;
use limits::billing::Usage;
use limits::network::{Host, HostKind, Target, Verdict, means};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Stands for the addresses of names that a load gives none.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);

impl Simulation {
    /// The month's bill; none where no template says what there is.
    pub(super) fn bill(&self, input: &PlanInput, load: &Load, options: &Options) -> Option<Bill> {
        let inventory = input.inventory.as_ref()?;
        let functions = self.functions.iter().zip(&self.record.functions).map(|(function, record)| {
            let shape = inventory.functions.get(function.index).copied().unwrap_or_default();
            FunctionUse {
                usage: Usage { requests: record.invocations, billed_ms: record.billed_ms },
                memory_mb: function.memory_mb,
                arm: shape.arm,
                storage_mb: shape.storage_mb,
                provisioned: self.on_provisioned(input, function.index),
                streamed: record.streamed,
            }
        });
        let phases = self.phases.iter().zip(&load.phases).map(|(run, phase)| PhaseUse {
            door: run.target.door,
            requests: run.sent,
            bytes_in: phase.asks.bytes_in,
            bytes_out: phase.asks.bytes_out,
        });
        let consumption = Consumption {
            functions: functions.collect(),
            phases: phases.collect(),
            data: self.data(input, load, inventory),
        };
        Some(Bill::new(inventory, &consumption, &options.region, load.repeat_per_month))
    }

    /// What ran on a function's provisioned concurrency, whose time has a price of its own.
    fn on_provisioned(&self, input: &PlanInput, function: usize) -> Usage {
        let pools =
            input.provisioned.iter().zip(&self.pools).filter(|(wanted, _)| wanted.function == function);
        pools.fold(Usage::default(), |sum, (_, pool)| {
            let requests = self.dispatcher.provisioned(*pool).map_or(0, |counts| counts.invocations);
            let billed_ms = self.record.provisioned_ms.get(pool).copied().unwrap_or(0);
            Usage {
                requests: sum.requests.saturating_add(requests),
                billed_ms: sum.billed_ms.saturating_add(billed_ms),
            }
        })
    }

    /// Bytes of connections by their way. An environment is in each of its function's subnets in turn, so that each gets
    /// an equal part.
    fn data(&self, input: &PlanInput, load: &Load, inventory: &Inventory) -> Vec<(Through, u128)> {
        let mut sums = BTreeMap::from([(Through::Nat, 0), (Through::Endpoint, 0)]);
        for run in &self.network.connects {
            let (Some(bytes), Some(Some(place))) = (run.bytes, input.network.placements.get(run.function))
            else {
                continue;
            };
            let Some((host, port)) = run.destination.rsplit_once(':') else { continue };
            let given = load.hosts.iter().find(|found| found.name == host);
            let address = given.and_then(|found| found.addresses.first().copied());
            let address = address.or_else(|| host.parse().ok()).unwrap_or(SOMEWHERE);
            let to = Target { host, address, port: port.parse().unwrap_or(0) };
            let moved = u128::from(bytes) * u128::from(run.opened.saturating_add(run.reused));
            let parts = place.subnets.len().max(1) as u128;
            for subnet in &place.subnets {
                let way = match input.network.verdict(*subnet, &place.groups, &to) {
                    Verdict::Nat(..) => Through::Nat,
                    Verdict::Inside if is_endpoint(input, inventory, host) => Through::Endpoint,
                    _ => continue,
                };
                *sums.entry(way).or_default() += moved / parts;
            }
        }
        sums.into_iter().collect()
    }
}

/// Whether an interface endpoint, and not a database's proxy, answers to the name.
fn is_endpoint(input: &PlanInput, inventory: &Inventory, host: &str) -> bool {
    let is_endpoint = |found: &&Host| matches!(found.what, HostKind::Endpoint(_));
    let mut endpoints = input.network.hosts.iter().filter(is_endpoint);
    let inside = endpoints.any(|found| {
        found.name == host || found.names.iter().chain(&found.private_names).any(|name| means(name, host))
    });
    inside && !inventory.proxies.iter().any(|proxy| proxy == host)
}
