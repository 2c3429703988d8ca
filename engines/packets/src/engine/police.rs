//! `environment.bandwidth`, `eni.bandwidth`, `nat.bandwidth`, `nat.packets` on packets: where a figure was given, what is above it
//! is dropped, and TCP finds its pace.
//!
//! Each link has a token bucket for each direction, which holds a tenth of a second's worth, and room for one large segment at
//! least (assumed: AWS says neither how bursts are treated nor whether directions count together). Without a figure nothing is
//! counted and nothing costs time: the platform's own speed is no limit of AWS's. A figure stays as it was given: links scale in
//! plans alone.

use super::{PacketEngine, pass};
use crate::environment::EnvironmentId;
use crate::event::Event;
use crate::flow::NO_GATEWAY;
use crate::packet::{Offload, Reason, Verdict};
use crate::wire::View;
use limits::tally::Tally;
use limits::token_bucket::{Refill, TokenBucket};
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What links carry; `None`: as much as comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Mbit/s of one environment.
    pub environment: Option<u64>,
    /// Mbit/s of one shared interface.
    pub interface: Option<u64>,
    /// Mbit/s of one NAT gateway.
    pub gateway: Option<u64>,
    /// Packets a second of one NAT gateway.
    pub gateway_packets: Option<u64>,
}

impl Bandwidth {
    const fn of(self, limit: LimitId) -> Option<u64> {
        match limit {
            LimitId::EnvironmentBandwidth => self.environment,
            LimitId::EniBandwidth => self.interface,
            LimitId::NatBandwidth => self.gateway,
            LimitId::NatPackets => self.gateway_packets,
            _ => None,
        }
    }
}

const BYTES_PER_MEGABIT: u64 = 125_000;
/// A bucket holds what comes in this part of a second.
const BURST_PARTS: u64 = 10;
/// The largest segments that devices hand over, twice.
const BURST_BYTES_MIN: u64 = 2 * 65_536;
const BURST_PACKETS_MIN: u64 = 2 * 64;

/// Every link that has a figure.
#[derive(Clone, Debug, Default)]
pub(super) struct Police {
    figures: Bandwidth,
    links: BTreeMap<(LimitId, u32), Link>,
    /// What each limit's links refused, by name: environments are one row.
    tallies: BTreeMap<(LimitId, Arc<str>), Tally>,
}

#[derive(Clone, Debug)]
struct Link {
    name: Arc<str>,
    max: u64,
    /// Out and back.
    buckets: [TokenBucket; 2],
}

impl Link {
    fn new(now: Instant, limit: LimitId, name: Arc<str>, max: u64) -> Self {
        let (rate, least) = match limit {
            LimitId::NatPackets => (max, BURST_PACKETS_MIN),
            _ => (max.saturating_mul(BYTES_PER_MEGABIT), BURST_BYTES_MIN),
        };
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let refill = Refill { tokens: small(rate), period: Duration::from_secs(1) };
        let bucket = TokenBucket::new(now, small((rate / BURST_PARTS).max(least)), refill);
        Self { name, max, buckets: [bucket.clone(), bucket] }
    }

    /// The busier direction's part of the figure.
    fn used(&self, now: Instant) -> u64 {
        let part = |bucket: &TokenBucket| {
            let missing = u128::from(bucket.spent(now)) * u128::from(self.max);
            u64::try_from(missing / u128::from(bucket.capacity().max(1))).unwrap_or(self.max)
        };
        self.buckets.iter().map(part).max().unwrap_or(0)
    }
}

impl Police {
    pub(super) const fn new(figures: Bandwidth) -> Self {
        Self { figures, links: BTreeMap::new(), tallies: BTreeMap::new() }
    }

    const fn is_idle(&self) -> bool {
        let Bandwidth { environment, interface, gateway, gateway_packets } = self.figures;
        environment.is_none() && interface.is_none() && gateway.is_none() && gateway_packets.is_none()
    }

    /// An environment is gone; its slot is the next one's.
    pub(super) fn forget(&mut self, environment: u32) {
        self.links.remove(&(LimitId::EnvironmentBandwidth, environment));
    }

    pub(super) fn rows(&self, now: Instant) -> impl Iterator<Item = LimitRow> {
        self.tallies.iter().map(move |((limit, name), tally)| {
            let links = self.links.iter().filter(|((of, _), link)| of == limit && link.name == *name);
            let used = links.map(|(_, link)| link.used(now)).max().unwrap_or(0);
            let max = self.figures.of(*limit).unwrap_or(0);
            tally.row(*limit, name, used, max, &"given with --limit".into())
        })
    }
}

impl PacketEngine {
    /// Counts a packet of a flow against the links on its way, or drops it: all of them carry it, or none.
    #[inline]
    pub(super) fn police(
        &mut self,
        slot: u32,
        view: &View,
        bytes: &[u8],
        offload: Offload,
        out: bool,
    ) -> Option<Verdict> {
        if self.police.is_idle() {
            return None;
        }
        let refusal = self.over(slot, pass::weigh(view, bytes, offload), out)?;
        let flow = &self.table.flows()[slot as usize];
        let limit = refusal.limit;
        let environment = &self.environments[flow.environment as usize];
        let is_gateways = matches!(limit, LimitId::NatBandwidth | LimitId::NatPackets);
        if let Some(meter) = self.meters.get_mut(usize::from(flow.gateway)) {
            let (packets, size) = pass::weigh(view, bytes, offload);
            match (is_gateways, out) {
                (true, _) => meter.drop(out, packets.into(), size),
                // It came through the gateway, and no further.
                (false, false) => meter.pass(self.now, false, packets.into(), size),
                (false, true) => {}
            }
        }
        self.tell(Event::Refused {
            environment: EnvironmentId { slot: flow.environment, generation: environment.generation },
            interface: environment.interface,
            // Of no flow's first packet.
            protocol: 0,
            source: SocketAddr::new(view.source, view.source_port),
            destination: SocketAddr::new(view.destination, view.destination_port),
            refusal,
        });
        Some(Verdict::Drop(Reason::Refused(limit)))
    }

    fn over(&mut self, slot: u32, (packets, size): (u32, u64), out: bool) -> Option<Refusal> {
        let flow = &self.table.flows()[slot as usize];
        let figures = self.police.figures;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let interface = self.environments[flow.environment as usize].interface;
        let interface = interface.and_then(|id| Some((id, u32::try_from(id.index()).ok()?)));
        let gateway = (flow.gateway != NO_GATEWAY).then_some(u32::from(flow.gateway));
        let gateway_name = |index: u32| self.network.gateways[index as usize].name.as_str().into();
        let wanted: [Option<(LimitId, u32, u64, u32)>; 4] = [
            figures.environment.map(|max| (LimitId::EnvironmentBandwidth, flow.environment, max, size)),
            figures.interface.zip(interface).map(|(max, (_, at))| (LimitId::EniBandwidth, at, max, size)),
            figures.gateway.zip(gateway).map(|(max, at)| (LimitId::NatBandwidth, at, max, size)),
            figures.gateway_packets.zip(gateway).map(|(max, at)| (LimitId::NatPackets, at, max, packets)),
        ];
        let now = self.now;
        for (limit, at, max, tokens) in wanted.iter().flatten() {
            let link = self.police.links.entry((*limit, *at)).or_insert_with(|| {
                let name: Arc<str> = match (limit, interface) {
                    (LimitId::EnvironmentBandwidth, _) => "environment".into(),
                    (LimitId::EniBandwidth, Some((id, _))) => {
                        Arc::clone(self.wired.connections.interface_name(id))
                    }
                    _ => gateway_name(*at),
                };
                Link::new(now, *limit, name, *max)
            });
            if !link.buckets[usize::from(!out)].has(now, *tokens) {
                let tally = self.police.tallies.entry((*limit, Arc::clone(&link.name))).or_default();
                tally.refuse(now);
                tally.reach(link.max);
                let (resource, max) = (Arc::clone(&link.name), link.max);
                return Some(Refusal {
                    limit: *limit,
                    resource,
                    destination: None,
                    used: max,
                    max,
                    retry_at: None,
                });
            }
        }
        for (limit, at, _, tokens) in wanted.iter().flatten() {
            if let Some(link) = self.police.links.get_mut(&(*limit, *at)) {
                link.buckets[usize::from(!out)].take(now, *tokens);
                let used = link.used(now);
                self.police.tallies.entry((*limit, Arc::clone(&link.name))).or_default().reach(used);
            }
        }
        None
    }
}
