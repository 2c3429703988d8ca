//! What a running platform has in use on the way, beside what the template says of it.

use super::destination::Destination;
use crate::Stop;
use crate::arguments::Transport;
use crate::commands::client::{block_on, page};
use limits::network::{Network, Step, StepKind};
use model::{LimitId, Overrides};
use plan::report::grouped;
use serde_json::{Value, json};
use std::time::Duration;

/// Where a platform is looked for that nobody named.
const USUAL: &str = "http://127.0.0.1:4566";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running platform's limits board.
pub(super) struct Now(Value);

/// What a limit has in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    used: u64,
    max: u64,
    peak: u64,
    refused: u64,
}

impl Now {
    /// Looks at the platform that was named, or at the usual one, where it need not be.
    ///
    /// # Errors
    /// The one that was named does not answer.
    pub(super) fn look(given: Option<&str>) -> Result<Option<Self>, Stop> {
        let asked = block_on(async {
            let page = page(given.unwrap_or(USUAL), "/_onrush/limits");
            let late = |_| Stop::Failed(anyhow::anyhow!("no Onrush answers there"));
            tokio::time::timeout(PATIENCE, page).await.map_err(late)?
        });
        match asked {
            Ok(board) => Ok(Some(Self(board))),
            Err(error) if given.is_some() => Err(error),
            // Nothing runs, or it is not ours.
            Err(_) => Ok(None),
        }
    }

    /// What the limit of a step has in use now; `None` where there is none, or the platform runs another template.
    pub(super) fn of(&self, step: &Step, to: &Destination) -> Option<Use> {
        let limit = limit_of(step.what)?;
        let row = self.row(limit.as_str(), &step.resource)?;
        if limit != LimitId::NatPorts {
            return Some(row);
        }
        let gateway = self.named("gateways", &step.resource)?;
        let towards = gateway["destinations"].as_array()?.iter().find(|row| is_to(row, to));
        Some(towards.map_or(Use { used: 0, peak: 0, refused: 0, ..row }, Use::of))
    }

    /// What each limit of a resource has in use, behind its id: a NAT gateway's ports towards each of its busiest destinations,
    /// and what its rules refused. Limits of time have nothing in use.
    pub(super) fn about(&self, resource: &str) -> Vec<(String, Use)> {
        let gateway = self.named("gateways", resource);
        let towards =
            gateway.and_then(|gateway| gateway["destinations"].as_array()).map_or(&[][..], Vec::as_slice);
        let rows = self.0["limits"].as_array().into_iter().flatten().filter_map(|row| {
            let limit: LimitId = row["id"].as_str()?.parse().ok()?;
            // What is barred has its destination behind its name: `Group to 203.0.113.9:443`.
            let to = row["resource"].as_str()?.strip_prefix(resource)?;
            let is_its = to.is_empty() || to.starts_with(" to ");
            let is_told_below = limit == LimitId::NatPorts && !towards.is_empty();
            let is_time = matches!(limit.unit(), "s" | "ms");
            (is_its && !is_time && !is_told_below).then(|| (format!("{limit}{to}"), Use::of(row)))
        });
        let towards = towards.iter().map(|row| {
            let name = row["name"].as_str().map(|name| format!(" ({name})")).unwrap_or_default();
            let destination = row["destination"].as_str().unwrap_or_default();
            (format!("{} to {destination}{name}", LimitId::NatPorts), Use::of(row))
        });
        rows.chain(towards).collect()
    }

    /// The figures that the platform was given (`--limit`); none where it runs another template, whose subnets have other
    /// names.
    pub(super) fn given(&self, network: &Network) -> Overrides {
        let mut overrides = Overrides::default();
        if network.subnets.iter().all(|subnet| self.row("subnet.addresses", &subnet.name).is_none()) {
            return overrides;
        }
        for (id, figure) in self.0["given"].as_object().into_iter().flatten() {
            if let (Ok(limit), Some(figure)) = (id.parse(), figure.as_u64()) {
                overrides.set(limit, figure);
            }
        }
        overrides
    }

    fn row(&self, limit: &str, resource: &str) -> Option<Use> {
        let rows = self.0["limits"].as_array()?;
        rows.iter().find(|row| row["id"] == limit && row["resource"] == resource).map(Use::of)
    }

    fn named(&self, list: &str, name: &str) -> Option<&Value> {
        self.0[list].as_array()?.iter().find(|found| found["name"] == name)
    }
}

/// The limit that counts connections at a step.
pub(super) fn limit_of(step: StepKind) -> Option<LimitId> {
    match step {
        StepKind::Interface => Some(LimitId::EniConnections),
        StepKind::Nat => Some(LimitId::NatPorts),
        StepKind::End => Some(LimitId::DbMaxConnections),
        _ => None,
    }
}

/// Whether a gateway's row is of that destination: by its address, or by the name that functions used.
fn is_to(row: &Value, to: &Destination) -> bool {
    let text = row["destination"].as_str().unwrap_or_default();
    let (end, protocol) = text.split_once('/').unwrap_or((text, Transport::Tcp.as_str()));
    protocol == to.protocol.as_str() && (end == to.title || row["name"] == to.title.as_str())
}

impl Use {
    fn of(row: &Value) -> Self {
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        Self { used: number("used"), max: number("max"), peak: number("peak"), refused: number("refused") }
    }

    /// The figure, where nothing is left of it, nor of the one that was asked about.
    pub(super) fn fills(self, asked: u64) -> Option<u64> {
        (self.max > 0 && self.used >= self.max.max(asked)).then_some(self.max)
    }

    pub(super) fn json(self) -> Value {
        json!({ "used": self.used, "max": self.max, "peak": self.peak, "refused": self.refused })
    }
}

impl std::fmt::Display for Use {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { used, max, peak, refused } = *self;
        if max == 0 && used == 0 {
            return write!(formatter, "{} refused", grouped(refused));
        }
        write!(formatter, "now {} of {} in use, at most {}", grouped(used), grouped(max), grouped(peak))?;
        if refused > 0 {
            write!(formatter, ", {} refused", grouped(refused))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) fn board(value: Value) -> Now {
    Now(value)
}
