//! Tables that read the same in the text and on the page: their titles and cells.

use super::{AuthorizerRow, CacheRow, PoolReport, ProvisionedRow, grouped};

pub(super) const PROVISIONED: [&str; 5] = ["of", "environments", "peak", "invocations", "spilled over"];
pub(super) const CACHES: [&str; 6] = ["cache", "GiB", "hits", "misses", "pushed out", "too large"];
pub(super) const AUTHORIZERS: [&str; 6] =
    ["authorizer", "function", "asked", "answer kept", "denied", "no answer"];
pub(super) const POOLS: [&str; 8] =
    ["of", "most clients", "now", "idle closed", "opened", "lent", "most waiting", "pinned"];

impl ProvisionedRow {
    pub(super) fn cells(&self) -> [String; PROVISIONED.len()] {
        [
            format!("{}:{}", self.function, self.qualifier),
            grouped(u64::from(self.environments)),
            grouped(u64::from(self.peak)),
            grouped(self.invocations),
            grouped(self.spillover),
        ]
    }
}

impl CacheRow {
    pub(super) fn cells(&self) -> [String; CACHES.len()] {
        [
            self.stage.to_string(),
            format!("{:.1}", self.bytes as f64 / f64::from(1 << 30)),
            grouped(self.hits),
            grouped(self.misses),
            grouped(self.evicted),
            grouped(self.too_large),
        ]
    }
}

impl AuthorizerRow {
    pub(super) fn cells(&self) -> [String; AUTHORIZERS.len()] {
        [
            self.authorizer.clone(),
            self.function.to_string(),
            grouped(self.asked),
            grouped(self.kept),
            grouped(self.denied),
            grouped(self.failed),
        ]
    }
}

impl PoolReport {
    pub(super) fn cells(&self) -> [String; POOLS.len()] {
        [
            self.name.to_string(),
            grouped(u64::from(self.clients_peak)),
            grouped(u64::from(self.clients)),
            grouped(self.idle_closed),
            grouped(self.opened),
            grouped(self.lent),
            grouped(u64::from(self.waiting_peak)),
            grouped(self.pinned),
        ]
    }
}
