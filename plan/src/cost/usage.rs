//! What a load uses, and its lines in the bill.

use super::{Ledger, Line, Quantity};
use crate::input::DoorKind;
use limits::billing::{MB_PER_GB, Usage};
use model::price::Item;

/// Parts of a GB-second: MB times milliseconds.
const MB_MS: u64 = MB_PER_GB * 1_000;
/// Bytes of a GB, as AWS bills data.
const GB: u64 = 1 << 30;
/// An HTTP API counts each so many bytes of a request or response as a request (API Gateway pricing).
const HTTP_API_BYTES: u64 = 512 << 10;

/// So many bytes of each streamed response cost nothing (Lambda pricing).
pub const STREAM_FREE: u64 = 6 << 20;

/// What a load used, once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consumption {
    /// Of each function that was invoked.
    pub functions: Vec<FunctionUse>,
    /// Of each phase before which a door stands, and of direct ones.
    pub phases: Vec<PhaseUse>,
    /// Bytes by their way.
    pub data: Vec<(Through, u128)>,
}

/// What one function used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionUse {
    /// Requests and billed time.
    pub usage: Usage,
    /// Memory, MB.
    pub memory_mb: u32,
    /// On arm64.
    pub arm: bool,
    /// `/tmp` beyond what is free, MB.
    pub storage_mb: u32,
    /// Of that, what ran on provisioned concurrency.
    pub provisioned: Usage,
    /// Bytes that it streamed beyond [`STREAM_FREE`] of each response.
    pub streamed: u128,
}

/// What the clients of one phase sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseUse {
    /// Through which door.
    pub door: Option<DoorKind>,
    /// Requests.
    pub requests: u64,
    /// Bytes of a request.
    pub bytes_in: u64,
    /// Bytes of a response.
    pub bytes_out: u64,
}

/// Which way bytes took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Through {
    /// Through a NAT gateway.
    Nat,
    /// Through an interface endpoint.
    Endpoint,
}

impl Consumption {
    /// The lines of `repeat` such loads in a month.
    pub(super) fn lines(&self, ledger: &mut Ledger<'_>, repeat: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        self.lambda(ledger, repeat, &mut lines);
        self.doors(ledger, repeat, &mut lines);
        let mut data: Vec<(Item, u128)> = self.data.iter().map(|(way, bytes)| (item(*way), *bytes)).collect();
        let out =
            self.phases.iter().map(|phase| u128::from(phase.requests) * u128::from(phase.bytes_out)).sum();
        data.push((Item::EgressData, out));
        for (item, bytes) in data {
            let quantity = Quantity { amount: bytes.saturating_mul(u128::from(repeat)), parts: GB };
            let free = u128::from(ledger.prices.get(item).free) * u128::from(GB);
            lines.extend(ledger.used(item, "this load", quantity, free));
        }
        lines
    }

    fn lambda(&self, ledger: &mut Ledger<'_>, repeat: u64, lines: &mut Vec<Line>) {
        let times = |amount: u128| amount.saturating_mul(u128::from(repeat));
        let requests: u128 = self.functions.iter().map(|function| u128::from(function.usage.requests)).sum();
        let free = u128::from(ledger.prices.get(Item::LambdaRequests).free);
        lines.extend(ledger.used(
            Item::LambdaRequests,
            "all functions",
            Quantity::whole(times(requests)),
            free,
        ));
        // One free tier for both architectures; none for time on provisioned concurrency.
        let mut free = u128::from(ledger.prices.get(Item::LambdaDuration).free) * u128::from(MB_MS);
        for arm in [false, true] {
            let which = if arm { "functions on arm64" } else { "functions on x86" };
            let functions = || self.functions.iter().filter(|function| function.arm == arm);
            let provisioned: u128 = functions().map(|found| found.provisioned.mb_ms(found.memory_mb)).sum();
            let all: u128 = functions().map(|found| found.usage.mb_ms(found.memory_mb)).sum();
            let storage: u128 = functions().map(|found| found.usage.mb_ms(found.storage_mb)).sum();
            let (on_demand, on_provisioned) = match arm {
                false => (Item::LambdaDuration, Item::LambdaProvisionedDuration),
                true => (Item::LambdaDurationArm, Item::LambdaProvisionedDurationArm),
            };
            let quantity = |amount| Quantity { amount: times(amount), parts: MB_MS };
            let demand = quantity(all.saturating_sub(provisioned));
            lines.extend(ledger.used(on_demand, which, demand, free));
            free = free.saturating_sub(demand.amount);
            lines.extend(ledger.used(on_provisioned, which, quantity(provisioned), 0));
            lines.extend(ledger.used(Item::LambdaStorage, which, quantity(storage), 0));
        }
        let streamed = self.functions.iter().map(|found| found.streamed);
        let streamed = Quantity { amount: times(streamed.sum()), parts: GB };
        let free = u128::from(ledger.prices.get(Item::LambdaStreamed).free) * u128::from(GB);
        lines.extend(ledger.used(Item::LambdaStreamed, "all functions", streamed, free));
    }

    fn doors(&self, ledger: &mut Ledger<'_>, repeat: u64, lines: &mut Vec<Line>) {
        let counted = |kind| {
            let phases = self.phases.iter().filter(move |phase| phase.door == Some(kind));
            let units = phases.map(|phase| {
                let most = phase.bytes_in.max(phase.bytes_out);
                let each = if kind == DoorKind::HttpApi { most.div_ceil(HTTP_API_BYTES).max(1) } else { 1 };
                u128::from(phase.requests) * u128::from(each)
            });
            units.sum::<u128>().saturating_mul(u128::from(repeat))
        };
        for (kind, item, which) in [
            (DoorKind::RestApi, Item::RestApiRequests, "REST APIs"),
            (DoorKind::HttpApi, Item::HttpApiRequests, "HTTP APIs"),
        ] {
            lines.extend(ledger.used(item, which, Quantity::whole(counted(kind)), 0));
        }
    }
}

const fn item(way: Through) -> Item {
    match way {
        Through::Nat => Item::NatData,
        Through::Endpoint => Item::EndpointData,
    }
}
