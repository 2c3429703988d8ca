//! What goes over the ways of connections: transfers over links, and lookups at the resolver.
//!
//! This joins [`bandwidth`](crate::bandwidth) and [`dns`](crate::dns) for a way: an environment's own link, then that of
//! its shared interface, then those of a NAT gateway.

use crate::bandwidth::{ENI_MBITS_MAX, Link, NAT_MBITS_MAX, NAT_PACKETS_MAX};
use crate::dns::Resolver;
use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// A figure with its source.
pub type Figure = (u32, Arc<str>);

/// The figures of one era; what is `None` has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficFigures {
    /// Mbit/s of one environment.
    pub environment: Option<Figure>,
    /// Mbit/s of one shared interface, at first.
    pub interface: Option<Figure>,
    /// Mbit/s of one NAT gateway, at first.
    pub gateway: Option<Figure>,
    /// Packets a second of one NAT gateway, at first.
    pub gateway_packets: Option<Figure>,
    /// Packets a second from one interface to the resolver.
    pub resolver: Option<Figure>,
}

/// Which of a way's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// The environment's own.
    Environment,
    /// That of the interface with this index.
    Interface(usize),
    /// That of the NAT gateway with this index.
    Gateway(usize),
    /// The same in packets.
    GatewayPackets(usize),
}

/// A transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// When it is over.
    pub done: Instant,
    /// What it waited for longest; `None` where nothing limits it.
    pub bottleneck: Option<Bottleneck>,
}

/// All links and the resolver.
#[derive(Clone, Debug)]
pub struct Traffic {
    figures: TrafficFigures,
    environments: Tally,
    interfaces: Vec<Link>,
    gateways: Vec<(Link, Link)>,
    resolver: Option<Resolver>,
}

impl Traffic {
    /// No link yet.
    pub fn new(figures: TrafficFigures) -> Self {
        let resolver = figures.resolver.as_ref().map(|(packets, _)| Resolver::new(*packets));
        let (interfaces, gateways) = (Vec::new(), Vec::new());
        Self { figures, environments: Tally::default(), interfaces, gateways, resolver }
    }

    /// Adds the link of the next interface.
    pub fn add_interface(&mut self, name: Arc<str>) {
        let rate = boundless(self.figures.interface.as_ref());
        self.interfaces.push(Link::bits(LimitId::EniBandwidth, name, rate, ENI_MBITS_MAX, self.each()));
    }

    /// Adds the links of the next NAT gateway.
    pub fn add_gateway(&mut self, name: Arc<str>) {
        let rates = [&self.figures.gateway, &self.figures.gateway_packets];
        let [bits, packets] = rates.map(|figure| boundless(figure.as_ref()));
        let bits = Link::bits(LimitId::NatBandwidth, Arc::clone(&name), bits, NAT_MBITS_MAX, self.each());
        let packets = Link::packets(LimitId::NatPackets, name, packets, NAT_PACKETS_MAX, self.each());
        self.gateways.push((bits, packets));
    }

    /// Mbit/s that one transfer takes at most.
    fn each(&self) -> u64 {
        boundless(self.figures.environment.as_ref())
    }

    /// An environment moves so many bytes, through an interface and a NAT gateway if there are any.
    pub fn transfer(
        &mut self,
        now: Instant,
        interface: Option<usize>,
        gateway: Option<usize>,
        bytes: u64,
    ) -> Transfer {
        let (mut slowest, mut began) = (Transfer { done: now, bottleneck: None }, now);
        let mut reach = |(begins, done): (Instant, Instant), bottleneck| {
            if done > slowest.done {
                (slowest, began) = (Transfer { done, bottleneck: Some(bottleneck) }, begins);
            }
        };
        let bits = u128::from(bytes) * 8;
        if let Some((rate, _)) = self.figures.environment {
            // Bits at Mbit/s are microseconds.
            let time = (bits * 1000).div_ceil(u128::from(rate.max(1)));
            let time = Duration::from_nanos(u64::try_from(time).unwrap_or(u64::MAX));
            reach((now, now + time), Bottleneck::Environment);
        }
        if let Some(index) = interface {
            reach(self.interfaces[index].send(now, bytes), Bottleneck::Interface(index));
        }
        if let Some(index) = gateway {
            let (link, packets) = &mut self.gateways[index];
            reach(link.send(now, bytes), Bottleneck::Gateway(index));
            reach(packets.send(now, bytes), Bottleneck::GatewayPackets(index));
        }
        let done = slowest.done;
        // The environment's use of its link in its busiest second.
        let length = u128::from(done.since(began).as_nanos() as u64).max(1_000_000_000);
        let used = (bits * 1000).div_ceil(length);
        let most = self.figures.environment.as_ref().map_or(u32::MAX, |(rate, _)| *rate);
        self.environments.reach(u64::try_from(used).unwrap_or(u64::MAX).min(u64::from(most)));
        if let Some(index) = interface {
            self.interfaces[index].note(now, began, done, bytes);
        }
        if let Some(index) = gateway {
            let (link, packets) = &mut self.gateways[index];
            link.note(now, began, done, bytes);
            packets.note(now, began, done, bytes);
        }
        slowest
    }

    /// What is said of a transfer of the function that waits for this.
    pub fn slow(&self, bottleneck: Bottleneck, function: &Arc<str>) -> Refusal {
        match bottleneck {
            Bottleneck::Environment => {
                let max = u64::from(self.figures.environment.as_ref().map_or(0, |(rate, _)| *rate));
                let (limit, resource) = (LimitId::EnvironmentBandwidth, Arc::clone(function));
                Refusal { limit, resource, destination: None, used: max, max, retry_at: None }
            }
            Bottleneck::Interface(index) => self.interfaces[index].slow(),
            Bottleneck::Gateway(index) => self.gateways[index].0.slow(),
            Bottleneck::GatewayPackets(index) => self.gateways[index].1.slow(),
        }
    }

    /// Somebody waits no longer for a transfer that this makes wait.
    pub fn gives_up(&mut self, now: Instant, bottleneck: Bottleneck) {
        match bottleneck {
            Bottleneck::Environment => self.environments.refuse(now),
            Bottleneck::Interface(index) => self.interfaces[index].gives_up(now),
            Bottleneck::Gateway(index) => self.gateways[index].0.gives_up(now),
            Bottleneck::GatewayPackets(index) => self.gateways[index].1.gives_up(now),
        }
    }

    /// An environment's interface, by a small index, looks up so many names: see [`Resolver::lookup`].
    #[inline]
    pub fn lookup(&mut self, now: Instant, environment: u32, wanted: u32) -> (u32, Option<Refusal>) {
        match &mut self.resolver {
            Some(resolver) => resolver.lookup(now, environment, wanted),
            None => (wanted, None),
        }
    }

    /// The environment with this index is a new one.
    #[inline]
    pub fn reset(&mut self, environment: u32) {
        if let Some(resolver) = &mut self.resolver {
            resolver.reset(environment);
        }
    }

    /// Bytes that went through each NAT gateway, in the order in which they were added.
    pub fn gateway_bytes(&self) -> impl Iterator<Item = u64> {
        self.gateways.iter().map(|(link, _)| link.carried())
    }

    /// The board's rows: environments, interfaces, gateways, the resolver, as far as the era limits them.
    pub fn rows(&self, now: Instant) -> Vec<LimitRow> {
        let figures = &self.figures;
        let mut rows = Vec::new();
        if let Some((rate, source)) = &figures.environment {
            let each = "each environment".into();
            let id = LimitId::EnvironmentBandwidth;
            rows.push(self.environments.row(id, &each, 0, u64::from(*rate), source));
        }
        if let Some((_, source)) = &figures.interface {
            rows.extend(self.interfaces.iter().map(|link| link.row(now, source)));
        }
        for (bits, packets) in &self.gateways {
            rows.extend(figures.gateway.as_ref().map(|(_, source)| bits.row(now, source)));
            rows.extend(figures.gateway_packets.as_ref().map(|(_, source)| packets.row(now, source)));
        }
        if let (Some(resolver), Some((_, source))) = (&self.resolver, &figures.resolver) {
            rows.push(resolver.row(now, source));
        }
        rows
    }
}

/// What has no figure is as fast as a link can be.
fn boundless(figure: Option<&Figure>) -> u64 {
    figure.map_or(u64::from(u32::MAX), |(rate, _)| u64::from(*rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::NetworkSettings;
    use model::{Era, Overrides};

    const MB: u64 = 1_000_000;

    fn traffic(era: &str, overrides: &[&str]) -> Traffic {
        let mut given = Overrides::default();
        overrides.iter().for_each(|text| given.read(text).unwrap());
        let era = Era::named(era).unwrap();
        let settings = NetworkSettings::from_era(&era, "us-east-1", &given).unwrap();
        let mut all = Traffic::new(settings.traffic);
        all.add_interface("eni-a".into());
        all.add_gateway("nat-a".into());
        all
    }

    #[test]
    fn the_narrowest_link_decides() {
        for (overrides, interface, gateway, expected) in [
            (&[][..], Some(0), Some(0), Bottleneck::Environment),
            (&["nat.bandwidth=100"], Some(0), Some(0), Bottleneck::Gateway(0)),
            (&["nat.bandwidth=100"], Some(0), None, Bottleneck::Environment),
            (&["nat.packets=100"], Some(0), Some(0), Bottleneck::GatewayPackets(0)),
            (&["eni.bandwidth=100"], Some(0), Some(0), Bottleneck::Interface(0)),
            (&["eni.bandwidth=100"], None, None, Bottleneck::Environment),
        ] {
            let found = traffic("today", overrides).transfer(Instant::START, interface, gateway, 100 * MB);
            assert_eq!(found.bottleneck, Some(expected), "{overrides:?}");
        }
        let mut all = traffic("today", &[]);
        let done = all.transfer(Instant::START, Some(0), Some(0), 100 * MB).done;
        assert_eq!(done, Instant::from_millis(1280), "625 Mbit/s");
        assert_eq!(all.gateway_bytes().collect::<Vec<_>>(), [100 * MB]);
        assert_eq!(all.transfer(done, None, None, 0), Transfer { done, bottleneck: None });
    }

    #[test]
    fn nine_environments_at_full_speed_fill_five_gigabits() {
        let mut all = traffic("today", &[]);
        let ends: Vec<Instant> =
            (0..16).map(|_| all.transfer(Instant::START, Some(0), Some(0), 100 * MB).done).collect();
        assert_eq!((ends[7], ends[15]), (Instant::from_millis(1280), Instant::from_millis(2560)));
        let rows = all.rows(Instant::START);
        let peaks: Vec<(LimitId, u64, u64)> = rows.iter().map(|row| (row.id, row.peak, row.max)).collect();
        assert_eq!(
            peaks[..3],
            [
                (LimitId::EnvironmentBandwidth, 625, 625),
                (LimitId::EniBandwidth, 5000, 5000),
                (LimitId::NatBandwidth, 5000, 5000)
            ]
        );
        assert_eq!(
            all.slow(Bottleneck::Environment, &"cart".into()).to_string(),
            "environment.bandwidth of cart: 625 of 625 Mbit/s"
        );
    }

    #[test]
    fn in_may_2019_an_interface_has_no_published_rate() {
        let mut all = traffic("2019-05", &["nat.bandwidth=1000000"]);
        let done = all.transfer(Instant::START, Some(0), Some(0), 100 * MB).done;
        assert_eq!(done, Instant::from_millis(1280));
        assert!(all.rows(done).iter().all(|row| row.id != LimitId::EniBandwidth));
        assert_eq!(all.lookup(Instant::START, 0, 513).0, 512);
    }
}
