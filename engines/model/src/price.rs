//! Prices: what AWS asks for its services, as data. One file per Region, with a date, each price with its source.
//!
//! Money is counted in millionths of a millionth of a dollar, as prices have up to ten decimals; no float is involved.

use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

const FILES: &[&str] =
    &[include_str!("../prices/us-east-1.toml"), include_str!("../prices/ap-northeast-1.toml")];
/// The Region whose prices stand in for those of Regions without a file.
const STAND_IN: &str = "us-east-1";
/// Decimals of a price.
const DECIMALS: usize = 12;
const PICO: i128 = 1_000_000_000_000;
const PICO_PER_MICRO: i128 = 1_000_000;
/// Hours of a month, as AWS's own calculator has it.
pub const HOURS_PER_MONTH: u64 = 730;

/// An amount of dollars, exact to 10^-12; sums of real bills stay far below the i128's end, and saturate there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i128);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many millionths of a millionth.
    pub const fn from_pico(pico: i128) -> Self {
        Self(pico)
    }

    /// Reads `0.0000166667`, `-3.65`, `21`: at most 12 decimals.
    pub fn read(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = [whole, fraction].concat();
        let well_formed = !whole.is_empty() && all.bytes().all(|byte| byte.is_ascii_digit());
        if !well_formed || fraction.len() > DECIMALS || all.len() > 24 {
            return None;
        }
        // At most 24 digits and 12 zeros: below 10^36.
        let scale = 10_i128.pow((DECIMALS - fraction.len()) as u32);
        let pico = all.parse::<i128>().ok()?.checked_mul(scale)?;
        Some(Self(if negative { -pico } else { pico }))
    }

    /// This price for `quantity / per` units, rounded to the nearest 10^-12, halves up.
    ///
    /// Overflow: prices are below 10^18 in this unit, so that quantities up to 10^20 are exact; beyond, it saturates.
    pub fn times(self, quantity: u128, per: u128) -> Self {
        let (quantity, per) =
            (i128::try_from(quantity).unwrap_or(i128::MAX), i128::try_from(per.max(1)).unwrap_or(i128::MAX));
        Self(self.0.saturating_mul(quantity).saturating_add(per / 2).div_euclid(per))
    }

    /// Rounded to whole millionths of a dollar, halves up: what lines of a bill are, so that their sum is the bill.
    #[must_use]
    pub fn to_micros(self) -> Self {
        Self((self.0.saturating_add(PICO_PER_MICRO / 2)).div_euclid(PICO_PER_MICRO) * PICO_PER_MICRO)
    }

    /// For reports and comparisons by people only.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / PICO as f64
    }

    /// With so many decimals, halves up; at most 12.
    pub fn rounded(self, decimals: usize) -> String {
        let decimals = decimals.min(DECIMALS);
        let unit = 10_i128.pow((DECIMALS - decimals) as u32);
        let rounded = (self.0.unsigned_abs() + unit.unsigned_abs() / 2) / unit.unsigned_abs();
        let scale = 10_u128.pow(decimals as u32);
        let sign = if self.0 < 0 && rounded > 0 { "-" } else { "" };
        if decimals == 0 {
            return format!("{sign}{rounded}");
        }
        format!("{sign}{}.{:0decimals$}", rounded / scale, rounded % scale)
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// All decimals that are not zero, at least two.
impl fmt::Display for Usd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.rounded(DECIMALS);
        let end = text.trim_end_matches('0').len();
        let point = text.find('.').map_or(text.len(), |point| point + 3);
        formatter.pad(&text[..end.max(point)])
    }
}

/// As a number: the nearest double to the exact amount.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.rounded(DECIMALS).parse().unwrap_or_default())
    }
}

macro_rules! items {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $unit:literal, $per:literal;)*) => {
        /// What has a price. The id stands in the price files and in bills.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Item { $($(#[$doc])* $variant,)* }

        impl Item {
            /// Every item.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for files and scripts.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What quantities count.
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)* }
            }

            /// For how many of those the price is.
            pub const fn per(self) -> u64 {
                match self { $(Self::$variant => $per,)* }
            }
        }
    };
}

items! {
    /// Invocations.
    LambdaRequests = "lambda.requests", "requests", 1_000_000;
    /// Billed time on x86.
    LambdaDuration = "lambda.duration", "GB-s", 1;
    /// Billed time on arm64.
    LambdaDurationArm = "lambda.duration-arm", "GB-s", 1;
    /// Environments kept ready.
    LambdaProvisioned = "lambda.provisioned", "GB-s", 1;
    /// Environments kept ready, on arm64.
    LambdaProvisionedArm = "lambda.provisioned-arm", "GB-s", 1;
    /// Billed time on environments kept ready.
    LambdaProvisionedDuration = "lambda.provisioned-duration", "GB-s", 1;
    /// Billed time on environments kept ready, on arm64.
    LambdaProvisionedDurationArm = "lambda.provisioned-duration-arm", "GB-s", 1;
    /// What is streamed beyond the first 6 MB of a response.
    LambdaStreamed = "lambda.streamed-data", "GB", 1;
    /// `/tmp` beyond 512 MB.
    LambdaStorage = "lambda.storage", "GB-s", 1;
    /// Requests to REST APIs.
    RestApiRequests = "apigw.rest-requests", "requests", 1_000_000;
    /// Requests to HTTP APIs.
    HttpApiRequests = "apigw.http-requests", "requests", 1_000_000;
    /// A NAT gateway, or a zone of a regional one.
    NatHours = "nat.hours", "h", 1;
    /// What a NAT gateway processes.
    NatData = "nat.data", "GB", 1;
    /// Public IPv4 addresses, in use or idle.
    PublicIpv4Hours = "ipv4.hours", "h", 1;
    /// An interface endpoint in one zone.
    EndpointHours = "endpoint.hours", "h", 1;
    /// What interface endpoints process.
    EndpointData = "endpoint.data", "GB", 1;
    /// To the internet.
    EgressData = "egress.data", "GB", 1;
    /// An application load balancer.
    AlbHours = "alb.hours", "h", 1;
    /// A database proxy, for each vCPU of its database.
    ProxyHours = "proxy.vcpu-hours", "vCPU-h", 1;
    /// A database proxy, for each capacity unit of its `db.serverless` database.
    ProxyAcuHours = "proxy.acu-hours", "ACU-h", 1;
    /// A capacity unit of a `db.serverless` instance (Aurora Standard).
    DbAcuHours = "db.acu-hours", "ACU-h", 1;
    /// Storage of a database.
    DbStorage = "db.storage", "GB-months", 1;
    /// A secret.
    Secrets = "secrets.months", "secrets", 1;
}

/// A part of a graduated price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Up to this quantity of the month; `None`: all beyond.
    pub up_to: Option<u64>,
    /// The price for [`Item::per`] units.
    pub usd: Usd,
}

/// A price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Its parts, ascending; the last one has no end.
    pub tiers: Vec<Tier>,
    /// This much a month is free.
    pub free: u64,
    /// Where it comes from.
    pub source: String,
    /// The source is weak.
    pub unconfirmed: bool,
}

impl Price {
    /// What `quantity / parts` units of a month cost, of which `free / parts` are free.
    ///
    /// Exact per tier, rounded once to a millionth of a dollar.
    pub fn charge(&self, quantity: u128, parts: u64, free: u128, per: u64) -> Usd {
        let parts = u128::from(parts.max(1));
        let paid = quantity.saturating_sub(free);
        let mut from = 0;
        let mut usd = Usd::ZERO;
        for tier in &self.tiers {
            let to = tier.up_to.map_or(paid, |up_to| u128::from(up_to).saturating_mul(parts).min(paid));
            usd = usd + tier.usd.times(to.saturating_sub(from), parts * u128::from(per));
            from = from.max(to);
        }
        usd.to_micros()
    }

    /// The price of the first units.
    pub fn first(&self) -> Usd {
        self.tiers.first().map_or(Usd::ZERO, |tier| tier.usd)
    }
}

/// The prices of a Region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// The Region that they are of.
    pub region: String,
    /// `USD`.
    pub currency: String,
    /// When they were collected.
    pub date: String,
    items: BTreeMap<Item, Price>,
    databases: BTreeMap<String, Price>,
    caches: BTreeMap<String, Price>,
}

impl Prices {
    /// The prices of a Region; those of us-east-1 where there is no file, as [`Prices::region`] then says.
    pub fn of(region: &str) -> Self {
        let read = |text: &&str| -> Self { read(text).expect("price files are checked by a test") };
        let mut all = FILES.iter().map(read);
        let stand_in = |found: &Self| found.region == STAND_IN;
        all.find(|found| found.region == region)
            .or_else(|| FILES.iter().map(read).find(stand_in))
            .expect("the stand-in has a file: checked by a test")
    }

    /// The Regions that have a file.
    pub fn regions() -> Vec<String> {
        FILES.iter().filter_map(|text| Some(read(text)?.region)).collect()
    }

    /// An item's price.
    pub fn get(&self, item: Item) -> &Price {
        self.items.get(&item).expect("every file prices every item: checked by a test")
    }

    /// A database instance of the class, an hour, in one zone.
    pub fn database(&self, class: &str) -> Option<&Price> {
        self.databases.get(class)
    }

    /// Classes that have a price, with it.
    pub fn databases(&self) -> impl Iterator<Item = (&str, &Price)> {
        self.databases.iter().map(|(class, price)| (&**class, price))
    }

    /// A REST API's cache of so many GB, an hour.
    pub fn cache(&self, size_gb: &str) -> Option<&Price> {
        self.caches.get(size_gb)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    region: String,
    currency: String,
    date: String,
    prices: BTreeMap<String, PriceFile>,
    #[serde(default)]
    database_hours: BTreeMap<String, PriceFile>,
    #[serde(default)]
    cache_hours: BTreeMap<String, PriceFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceFile {
    usd: Option<String>,
    #[serde(default)]
    tiers: Vec<TierFile>,
    #[serde(default)]
    free: u64,
    source: String,
    #[serde(default)]
    unconfirmed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierFile {
    up_to: Option<u64>,
    usd: String,
}

fn read(text: &str) -> Option<Prices> {
    let file: File = toml::from_str(text).ok()?;
    let by_name = |prices: BTreeMap<String, PriceFile>| -> Option<BTreeMap<String, Price>> {
        prices.into_iter().map(|(name, found)| Some((name, price(found)?))).collect()
    };
    let mut items = BTreeMap::new();
    for (name, found) in by_name(file.prices)? {
        let item = Item::ALL.iter().find(|item| item.as_str() == name)?;
        items.insert(*item, found);
    }
    Some(Prices {
        region: file.region,
        currency: file.currency,
        date: file.date,
        items,
        databases: by_name(file.database_hours)?,
        caches: by_name(file.cache_hours)?,
    })
}

fn price(file: PriceFile) -> Option<Price> {
    let tiers: Option<Vec<Tier>> = match file.usd {
        Some(usd) if file.tiers.is_empty() => Some(vec![Tier { up_to: None, usd: Usd::read(&usd)? }]),
        Some(_) => None,
        None => {
            let tiers = file.tiers.iter();
            tiers.map(|tier| Some(Tier { up_to: tier.up_to, usd: Usd::read(&tier.usd)? })).collect()
        }
    };
    let tiers = tiers?;
    let ascending = tiers.windows(2).all(|pair| pair[0].up_to < pair[1].up_to || pair[1].up_to.is_none());
    let ends = tiers
        .split_last()
        .is_some_and(|(last, before)| last.up_to.is_none() && before.iter().all(|tier| tier.up_to.is_some()));
    (ascending && ends).then_some(Price {
        tiers,
        free: file.free,
        source: file.source,
        unconfirmed: file.unconfirmed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_prices_everything() {
        for text in FILES {
            let prices = read(text).unwrap_or_else(|| panic!("{}", &text[..40]));
            for item in Item::ALL {
                assert!(prices.items.contains_key(item), "{}: {}", prices.region, item.as_str());
            }
            assert!(prices.databases.len() >= 2 && prices.date.len() == "2026-06-01".len());
            assert_eq!(prices.currency, "USD");
        }
        assert_eq!(Prices::of("eu-west-1").region, STAND_IN);
        assert_eq!(Prices::of("ap-northeast-1").get(Item::NatHours).first(), Usd::read("0.062").unwrap());
    }

    #[test]
    fn dollars_are_read_and_written_exactly() {
        for text in ["0.0000166667", "-3.65", "21.00", "0.000000000001", "1000000000.50"] {
            assert_eq!(Usd::read(text).unwrap().to_string(), text);
        }
        for text in ["", ".5", "1e3", "0.0000000000001", "-", "1.-5", "+1", "9999999999999999999999999"] {
            assert_eq!(Usd::read(text), None, "{text}");
        }
        assert_eq!(Usd::read("-0.005").unwrap().rounded(2), "-0.01");
        assert_eq!(Usd::read("-0.004").unwrap().rounded(2), "0.00");
        assert_eq!(Usd::read("1.5").unwrap().rounded(0), "2");
    }

    #[test]
    fn the_pricing_pages_examples_come_out() {
        let prices = Prices::of("us-east-1");
        let charge = |prices: &Prices, item: Item, quantity: u128, parts: u64| {
            let price = prices.get(item);
            price.charge(quantity, parts, u128::from(price.free) * u128::from(parts), item.per())
        };
        let charge_here = |item, quantity, parts| charge(&prices, item, quantity, parts);
        // 512 MB, 3 M requests of 1 s: 1.1 M GB-s and 2 M requests are paid.
        assert_eq!(charge_here(Item::LambdaDuration, 3_000_000 * 1000 * 512, 1_024_000).rounded(2), "18.33");
        assert_eq!(charge_here(Item::LambdaRequests, 3_000_000, 1).rounded(2), "0.40");
        // 1,769 MB x 100 ms x 1 M are 172,753.9 GB-s: free.
        assert_eq!(charge_here(Item::LambdaDuration, 1_769 * 100 * 1_000_000, 1_024_000), Usd::ZERO);
        let paid = prices.get(Item::LambdaDuration).charge(1_769 * 100 * 1_000_000, 1_024_000, 0, 1);
        assert_eq!(paid.rounded(2), "2.88");
        let gateway = charge_here(Item::NatHours, 730, 1) + charge_here(Item::PublicIpv4Hours, 730, 1);
        assert_eq!(gateway, Usd::read("36.50").unwrap());
        let tokyo = Prices::of("ap-northeast-1");
        let gateway = charge(&tokyo, Item::NatHours, 730, 1) + charge(&tokyo, Item::PublicIpv4Hours, 730, 1);
        assert_eq!(gateway, Usd::read("48.91").unwrap());
    }

    #[test]
    fn tiers_are_passed_one_after_another() {
        let tier = |up_to, usd| Tier { up_to, usd: Usd::read(usd).unwrap() };
        let tiers = vec![tier(Some(10), "3"), tier(Some(30), "2"), tier(None, "1")];
        let price = Price { tiers, free: 5, source: String::new(), unconfirmed: false };
        // 5 free, 10 at 3, 20 at 2, 5 at 1.
        assert_eq!(price.charge(40, 1, 5, 1), Usd::read("75").unwrap());
        assert_eq!(price.charge(4, 1, 5, 1), Usd::ZERO);
        // In tenths, per thousand.
        assert_eq!(price.charge(400, 10, 50, 1000), Usd::read("0.075").unwrap());
    }
}
