//! Eras: what AWS's limits were at a time, as data. One file per era, each figure with its source.

use crate::limit::{LimitId, UnknownLimit};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

const FILES: &[(&str, &str)] = &[
    ("2019-05", include_str!("../eras/2019-05.toml")),
    ("2019-10", include_str!("../eras/2019-10.toml")),
    ("2022-12", include_str!("../eras/2022-12.toml")),
    ("today", include_str!("../eras/today.toml")),
];

/// The era used when nobody asks for another.
pub const DEFAULT_ERA: &str = "today";
/// The Region used when nobody asks for another.
pub const DEFAULT_REGION: &str = "us-east-1";

/// The figures of one era.
#[derive(Clone, Debug, PartialEq)]
pub struct Era {
    /// Its name, as `--era` takes it.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// What is not a limit but belongs to the time.
    pub settings: EraSettings,
    figures: BTreeMap<LimitId, EraFigure>,
}

/// Behaviour of a time that is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraSettings {
    /// How long an environment stays warm without work, in seconds.
    pub idle_timeout_s: u64,
    /// How long after its start an environment is used again, in seconds.
    #[serde(default = "environment_lifetime_s")]
    pub environment_lifetime_s: u64,
    /// How long INIT may take on demand, in seconds.
    pub init_timeout_s: u64,
    /// Concurrency that reservations may not touch.
    pub unreserved_minimum: u32,
    /// Whether INIT is billed for zip packages with managed runtimes.
    pub init_billed: bool,
    /// How long a deployment waits for a shared network interface, in seconds.
    #[serde(default)]
    pub interface_creation_s: u64,
    /// What Billed Duration is a whole number of, ms: 1, or 100 before December 2020.
    #[serde(default = "one")]
    pub billed_step_ms: u64,
    /// How interfaces are made at cold starts; `None` where they are shared and made at deployment.
    #[serde(default)]
    pub environment_interfaces: Option<EnvironmentInterfaces>,
}

/// How interfaces were made at cold starts, until autumn 2019.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentInterfaces {
    /// One interface serves environments that have so much memory together, in MB.
    pub memory_mb: u32,
    /// How many may be made at once before `eni.create-rate` counts.
    pub create_burst: u32,
    /// From an interface's making until an environment can use it: permille of the environments up to so many
    /// milliseconds, from 0 to 1000, both ascending.
    pub attach_ms: Vec<(u32, u32)>,
}

/// About 14 hours: the guide says that environments end every few hours, even under steady traffic, and gives no
/// figure; 14 h is assumed.
const fn environment_lifetime_s() -> u64 {
    14 * 3_600
}

const fn one() -> u64 {
    1
}

/// A limit's figure with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The number, in the limit's unit.
    pub value: u64,
    /// Where it comes from.
    pub source: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct EraFigure {
    value: u64,
    source: String,
    #[serde(default)]
    regions: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EraFile {
    name: String,
    summary: String,
    figures: BTreeMap<String, EraFigure>,
    settings: EraSettings,
}

impl Era {
    /// The era of that name.
    ///
    /// # Errors
    /// [`UnknownEra`] names the eras that exist.
    pub fn named(name: &str) -> Result<Self, UnknownEra> {
        let (_, text) =
            FILES.iter().find(|(known, _)| *known == name).ok_or_else(|| UnknownEra(name.to_owned()))?;
        let file: EraFile = toml::from_str(text).expect("era files are checked by a test");
        let figures = file.figures.into_iter().map(|(id, figure)| {
            (id.parse::<LimitId>().expect("era files name known limits: checked by a test"), figure)
        });
        Ok(Self {
            name: file.name,
            summary: file.summary,
            settings: file.settings,
            figures: figures.collect(),
        })
    }

    /// The names of all eras, oldest first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// The figure of `limit` in `region`, or the user's own; `None` when the era has no such limit and the user
    /// gave none.
    pub fn figure(&self, limit: LimitId, region: &str, overrides: &Overrides) -> Option<Figure> {
        if let Some(value) = overrides.get(limit) {
            return Some(Figure { value, source: "given with --limit".into() });
        }
        let figure = self.figures.get(&limit)?;
        let value = figure.regions.get(region).copied().unwrap_or(figure.value);
        Some(Figure { value, source: figure.source.as_str().into() })
    }
}

/// Figures that the user gives instead of the era's, as `--limit ID=N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<LimitId, u64>);

impl Overrides {
    /// The user's figure for `limit`.
    pub fn get(&self, limit: LimitId) -> Option<u64> {
        self.0.get(&limit).copied()
    }

    /// Sets a figure.
    pub fn set(&mut self, limit: LimitId, value: u64) {
        self.0.insert(limit, value);
    }

    /// Every override, by id.
    pub fn iter(&self) -> impl Iterator<Item = (LimitId, u64)> + '_ {
        self.0.iter().map(|(id, value)| (*id, *value))
    }

    /// Reads `ID=N`; `N` may have `_` or `,` between its digits, and a limit in time may be given as `90s`, `5m` or
    /// `2h`.
    ///
    /// # Errors
    /// Which half could not be read.
    pub fn read(&mut self, text: &str) -> Result<(), BadOverride> {
        let (id, value) = text.split_once('=').ok_or_else(|| BadOverride::NoEquals(text.to_owned()))?;
        let limit: LimitId = id.trim().parse().map_err(BadOverride::Unknown)?;
        let digits: String = value.trim().chars().filter(|c| *c != '_' && *c != ',').collect();
        let (digits, factor): (&str, u64) = match limit.unit() {
            "s" => seconds(&digits),
            "ms" => digits.strip_suffix("ms").map_or_else(
                || {
                    let (plain, factor) = seconds(&digits);
                    (plain, if plain.len() < digits.len() { 1000 * factor } else { 1 })
                },
                |plain| (plain.trim_end(), 1),
            ),
            _ => (&*digits, 1),
        };
        let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        self.set(limit, number.ok_or_else(|| BadOverride::NotANumber(limit, value.trim().to_owned()))?);
        Ok(())
    }
}

/// The digits of a time, and how many seconds its unit has.
fn seconds(text: &str) -> (&str, u64) {
    let units = [("s", 1), ("min", 60), ("m", 60), ("h", 3600)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    found.map_or((text, 1), |(digits, factor)| (digits.trim_end(), factor))
}

/// Why `--limit` could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadOverride {
    /// There is no `=`.
    NoEquals(String),
    /// No limit has that id.
    Unknown(UnknownLimit),
    /// What stands after `=` is no whole number, nor a time where the limit is one.
    NotANumber(LimitId, String),
}

impl fmt::Display for BadOverride {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEquals(text) => write!(formatter, "`{text}` is not of the form ID=NUMBER"),
            Self::Unknown(unknown) => write!(formatter, "{unknown}"),
            Self::NotANumber(limit, text) => {
                let time = match limit.unit() {
                    "s" => ", nor a time such as 90s or 5m",
                    "ms" => ", nor a time such as 500ms or 29s",
                    _ => "",
                };
                write!(formatter, "{limit} is `{text}`, which is no whole number up to {}{time}", u64::MAX)
            }
        }
    }
}

impl std::error::Error for BadOverride {}

/// No era has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEra(pub String);

impl fmt::Display for UnknownEra {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Era::names().collect();
        write!(formatter, "no era is called `{}`; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownEra {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_era_file_reads_and_bears_its_own_name() {
        for name in Era::names() {
            let era = Era::named(name).unwrap();
            assert_eq!(era.name, name);
            if let Some(interfaces) = era.settings.environment_interfaces {
                let points = &interfaces.attach_ms;
                assert!(
                    interfaces.memory_mb > 0
                        && points.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1)
                );
                assert_eq!((points[0].0, points[points.len() - 1].0), (0, 1000));
            }
        }
        assert!(Era::named(DEFAULT_ERA).is_ok());
        assert!(Era::named("2031").is_err());
    }

    #[test]
    fn burst_depends_on_the_region() {
        let era = Era::named("2022-12").unwrap();
        let value = |region| era.figure(LimitId::Burst, region, &Overrides::default()).unwrap().value;
        assert_eq!((value("us-east-1"), value("ap-northeast-1"), value("sa-east-1")), (3000, 1000, 500));
        let ohio = |era: &str| {
            let era = Era::named(era).unwrap();
            era.figure(LimitId::Burst, "us-east-2", &Overrides::default()).unwrap().value
        };
        assert_eq!(["2019-05", "2019-10", "2022-12"].map(ohio), [500, 500, 1000]);
    }

    #[test]
    fn an_override_wins_and_says_so() {
        let mut overrides = Overrides::default();
        overrides.read("lambda.account-concurrency=5,000").unwrap();
        let era = Era::named("today").unwrap();
        let figure = era.figure(LimitId::AccountConcurrency, "us-east-1", &overrides).unwrap();
        assert_eq!((figure.value, &*figure.source), (5000, "given with --limit"));
        for (text, seconds) in [("90", 90), ("90s", 90), ("5 min", 300), ("5m", 300), ("1h", 3600)] {
            overrides.read(&format!("eni.growth-after={text}")).unwrap();
            assert_eq!(overrides.get(LimitId::EniGrowthAfter), Some(seconds), "{text}");
        }
        for (text, millis) in [("90", 90), ("90ms", 90), ("5s", 5000), ("2 min", 120_000)] {
            overrides.read(&format!("apigw.integration-timeout={text}")).unwrap();
            assert_eq!(overrides.get(LimitId::IntegrationTimeout), Some(millis), "{text}");
        }
        let said = |text: &str| Overrides::default().read(text).unwrap_err().to_string();
        assert_eq!(
            said("nat.ports=9s"),
            format!("nat.ports is `9s`, which is no whole number up to {}", u64::MAX)
        );
        assert!(said("eni.growth-after= -5 ").ends_with(", nor a time such as 90s or 5m"));
        assert!(matches!(overrides.read("lambda.nope=1"), Err(BadOverride::Unknown(_))));
        assert!(matches!(overrides.read("lambda.burst=x"), Err(BadOverride::NotANumber(..))));
        assert!(matches!(overrides.read("lambda.burst"), Err(BadOverride::NoEquals(_))));
    }
}
