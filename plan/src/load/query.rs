//! The step `query`: statements to a database, through its proxy's pool or straight to it.

use super::{ConnectStep, Hold, Name, name_of};
use crate::distribution::Distribution;
use limits::connect::Patience;
use template::yaml::{Node, Problems};

/// The most statements of one step.
const COUNT_MAX: i64 = 10_000;

const KEYS: &[&str] = &["database", "count", "for", "transaction", "pins"];

/// Statements of a step, one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryStep {
    /// Logical id of a database instance or of a database proxy.
    pub database: Name,
    /// How many.
    pub count: u32,
    /// How long the database takes for each.
    pub time: Distribution,
    /// They are one transaction, rather than one each.
    pub transaction: bool,
    /// They leave a state in the session, so that a proxy pins it.
    pub pins: bool,
}

impl QueryStep {
    pub(super) fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let keys = node.mapping(problems)?;
        keys.only(KEYS, problems);
        let database = keys.require("database", "`query`", node.span, problems)?;
        let database = name_of(database, problems)?;
        let time = keys.require("for", "`query`", node.span, problems)?;
        let time = Distribution::read(time, problems)?;
        let count = match keys.get("count") {
            Some(count) => count.integer("the number of statements", 1..=COUNT_MAX, problems)?,
            None => 1,
        };
        let mut whether = |key: &str| keys.get(key).map_or(Some(false), |value| value.boolean(problems));
        let (transaction, pins) = (whether("transaction")?, whether("pins")?);
        Some(Self { database, count: u32::try_from(count).ok()?, time, transaction, pins })
    }
}

impl ConnectStep {
    /// The connection of an environment that queries open by themselves.
    pub fn for_queries(host: &str, port: u16) -> Self {
        let patience = Patience::default();
        Self { host: host.to_owned(), port, count: 1, hold: Hold::Environment, patience, bytes: None }
    }
}
