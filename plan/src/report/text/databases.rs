//! How queries and the pools of database proxies fared.

use super::super::{grouped, rows, seconds};
use super::{Page, ROWS_SHOWN, Table};
use std::fmt;

impl Page<'_> {
    pub(super) fn queries(&self, out: &mut String) -> fmt::Result {
        let queries = &self.report.queries;
        if queries.is_empty() {
            return Ok(());
        }
        self.heading(out, "Queries")?;
        let mut table =
            Table::new(&["function", "on", "asked", "waited", "p50 s", "p99 s", "longest s", "in vain"]);
        for row in queries.iter().take(ROWS_SHOWN) {
            let percentile = |name| row.waits_s.get(name).map_or_else(String::new, |value| seconds(*value));
            table.row([
                row.function.clone(),
                row.database.to_string(),
                grouped(row.asked),
                grouped(row.waited),
                percentile("50"),
                percentile("99"),
                seconds(row.longest_s),
                grouped(row.failed),
            ]);
        }
        table.write(out, self.width)?;
        self.left_out(out, queries.len())
    }

    pub(super) fn pools(&self, out: &mut String) -> fmt::Result {
        let pools = &self.report.pools;
        if pools.is_empty() {
            return Ok(());
        }
        self.heading(out, "Pools")?;
        let mut table = Table::new(&rows::POOLS);
        pools.iter().take(ROWS_SHOWN).for_each(|row| table.row(row.cells()));
        table.write(out, self.width)?;
        self.left_out(out, pools.len())
    }
}
