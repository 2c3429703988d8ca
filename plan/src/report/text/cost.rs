//! The month's bill, line by line.

use super::{Page, ROWS_SHOWN, Table};
use crate::cost::{Bill, Line, Quantity};
use crate::report::grouped;
use std::fmt;

impl Page<'_> {
    pub(super) fn cost(&self, out: &mut String) -> fmt::Result {
        let Some(bill) = &self.report.cost else { return Ok(()) };
        let times = match bill.repeat {
            1 => "this load once".to_owned(),
            repeat => format!("this load {} times", grouped(repeat)),
        };
        let Bill { currency, region, price_date, .. } = bill;
        self.heading(
            out,
            &format!("Cost of a month, {times} ({currency}, {region}, prices of {price_date})"),
        )?;
        let mut table = Table::new(&["for", "of", "USD", "quantity", "unit", "price"]);
        for line in bill.fixed.iter().chain(&bill.usage).take(ROWS_SHOWN) {
            table.row(row(line));
        }
        let [fixed, usage, all] =
            [bill.fixed_usd, bill.usage_usd, bill.monthly_usd].map(|amount| amount.rounded(2));
        let mut sum = |what: &str, amount: String| {
            let mut cells = [const { String::new() }; 6];
            (cells[0], cells[2]) = (what.to_owned(), amount);
            table.row(cells);
        };
        if !bill.fixed.is_empty() && !bill.usage.is_empty() {
            sum("what stands there", fixed);
            sum("what is used", usage);
        }
        sum("a month", all);
        table.write(out, self.width)?;
        self.left_out(out, bill.fixed.len() + bill.usage.len())
    }
}

fn row(line: &Line) -> [String; 6] {
    let per = if line.per == 1 { String::new() } else { format!(" / {}", grouped(line.per)) };
    let free = if line.free.amount == 0 { String::new() } else { format!(", {} free", short(line.free)) };
    [
        line.item.clone(),
        line.resource.clone(),
        line.usd.rounded(2),
        short(line.quantity),
        format!("{}{free}", line.unit),
        format!("{}{per}", line.price_usd),
    ]
}

/// Whole units, and three decimals below ten.
fn short(quantity: Quantity) -> String {
    let parts = u128::from(quantity.parts.max(1));
    let whole = quantity.amount / parts;
    if whole >= 10 || quantity.amount.is_multiple_of(parts) {
        return grouped(u64::try_from(whole).unwrap_or(u64::MAX));
    }
    format!("{:.3}", quantity.as_f64())
}
