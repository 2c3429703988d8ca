//! What a stack costs in a month: what stands there by the hour, and what a load uses.
//!
//! Every line is a quantity times a price, exact, rounded once to a millionth of a dollar; the bill is the sum of its
//! lines. Prices are data (`model::price`), each with a source.

mod inventory;
mod usage;

pub use inventory::{Inventory, Priced, Standing};
pub use usage::{Consumption, FunctionUse, PhaseUse, STREAM_FREE, Through};

use crate::report::Assumption;
use model::price::{Item, Price, Prices, Usd};
use serde::{Serialize, Serializer};

/// A month's bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// `USD`.
    pub currency: String,
    /// The Region whose prices were used.
    pub region: String,
    /// When the prices were collected.
    pub price_date: String,
    /// How often a month the load runs.
    pub repeat: u64,
    /// What stands there, whether used or not: 730 hours.
    pub fixed: Vec<Line>,
    /// What the load uses, times `repeat`.
    pub usage: Vec<Line>,
    /// Sum of `fixed`.
    pub fixed_usd: Usd,
    /// Sum of `usage`.
    pub usage_usd: Usd,
    /// Both.
    pub monthly_usd: Usd,
    /// What was assumed; part of the report's assumptions.
    #[serde(skip)]
    pub notes: Vec<Assumption>,
}

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// `nat.hours`, `lambda.requests`, `db.hours` and the like.
    pub item: String,
    /// What of the stack it is for.
    pub resource: String,
    /// How much.
    pub quantity: Quantity,
    /// What that counts.
    pub unit: &'static str,
    /// Of those, what the month's free tier covers.
    #[serde(skip_serializing_if = "Quantity::is_zero")]
    pub free: Quantity,
    /// The price of the first `per` units.
    pub price_usd: Usd,
    /// How many units that price is for.
    pub per: u64,
    /// The amount.
    pub usd: Usd,
}

/// An exact quantity: so many parts of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantity {
    /// How many parts.
    pub amount: u128,
    /// Parts of one unit; 0 counts as 1.
    pub parts: u64,
}

impl Quantity {
    /// Whole units.
    pub const fn whole(amount: u128) -> Self {
        Self { amount, parts: 1 }
    }

    /// For reports only.
    pub fn as_f64(self) -> f64 {
        self.amount as f64 / self.parts.max(1) as f64
    }

    fn is_zero(&self) -> bool {
        self.amount == 0
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl Bill {
    /// The bill of what stands there and of what a load uses, run `repeat` times a month, at the Region's prices.
    pub fn new(inventory: &Inventory, consumption: &Consumption, region: &str, repeat: u64) -> Self {
        let prices = Prices::of(region);
        let mut ledger = Ledger { prices: &prices, notes: Vec::new() };
        let fixed: Vec<Line> =
            inventory.standing.iter().filter_map(|standing| ledger.standing(standing)).collect();
        let usage = consumption.lines(&mut ledger, repeat);
        let sum = |lines: &[Line]| lines.iter().map(|line| line.usd).sum::<Usd>();
        let (fixed_usd, usage_usd) = (sum(&fixed), sum(&usage));
        let mut notes = ledger.notes;
        if prices.region != region {
            let why = "there is no price file of this Region";
            notes.push(Assumption::new(
                format!("prices in {region}"),
                format!("those of {}", prices.region),
                why,
            ));
        }
        if usage.iter().any(|line| !line.free.is_zero()) {
            let value = "used by this stack alone";
            notes.push(Assumption::new(
                "free tier of the account",
                value,
                "it is the account's, not the stack's",
            ));
        }
        notes.extend(inventory.notes.iter().cloned());
        Self {
            currency: prices.currency.clone(),
            region: prices.region.clone(),
            price_date: prices.date.clone(),
            repeat,
            fixed,
            usage,
            fixed_usd,
            usage_usd,
            monthly_usd: fixed_usd + usage_usd,
            notes,
        }
    }
}

/// Writes lines, and what was assumed on the way.
struct Ledger<'prices> {
    prices: &'prices Prices,
    notes: Vec<Assumption>,
}

impl Ledger<'_> {
    fn standing(&mut self, standing: &Standing) -> Option<Line> {
        let (price, name, unit, per) = match &standing.what {
            Priced::Item(item) => (self.prices.get(*item).clone(), item.as_str(), item.unit(), item.per()),
            Priced::Database(class) => (self.database(class, &standing.resource)?, "db.hours", "h", 1),
            Priced::Cache(size) => (self.cache(size, &standing.resource)?, "apigw.cache-hours", "h", 1),
        };
        self.doubt(&price, name);
        let Standing { resource, quantity, .. } = standing;
        Some(line(&price, (name, unit, per), resource, *quantity, Quantity::default()))
    }

    /// A line of a load's use; none for nothing.
    fn used(&mut self, item: Item, resource: &str, quantity: Quantity, free: u128) -> Option<Line> {
        if quantity.is_zero() {
            return None;
        }
        let price = self.prices.get(item).clone();
        self.doubt(&price, item.as_str());
        let free = Quantity { amount: free.min(quantity.amount), parts: quantity.parts };
        Some(line(&price, (item.as_str(), item.unit(), item.per()), resource, quantity, free))
    }

    fn database(&mut self, class: &str, resource: &str) -> Option<Price> {
        let found = self.prices.database(class).cloned();
        if found.is_none() {
            let why = "its price is not in the price file";
            self.notes.push(Assumption::new(
                format!("{resource} in the bill"),
                format!("{class} is left out"),
                why,
            ));
        }
        found
    }

    fn cache(&mut self, size: &str, resource: &str) -> Option<Price> {
        let found = self.prices.cache(size).cloned();
        if found.is_none() {
            let why = "its price is not in the price file";
            self.notes.push(Assumption::new(
                format!("{resource} in the bill"),
                format!("its cache of {size} GB is left out"),
                why,
            ));
        }
        found
    }

    fn doubt(&mut self, price: &Price, name: &str) {
        let what = format!("price of {name}");
        if price.unconfirmed && self.notes.iter().all(|note| note.what != what) {
            let value = format!("{} USD", price.first());
            self.notes.push(Assumption::new(what, value, format!("not confirmed: {}", price.source)));
        }
    }
}

fn line(
    price: &Price,
    (name, unit, per): (&str, &'static str, u64),
    resource: &str,
    quantity: Quantity,
    free: Quantity,
) -> Line {
    Line {
        item: name.to_owned(),
        resource: resource.to_owned(),
        quantity,
        unit,
        free,
        price_usd: price.first(),
        per,
        usd: price.charge(quantity.amount, quantity.parts, free.amount, per),
    }
}

#[cfg(test)]
mod tests;
