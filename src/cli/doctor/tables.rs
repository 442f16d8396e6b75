//! Tables of the ctldb that somebody changed by hand, so that they are not what the ledger says: each by name, with
//! the reason and what mends it. Only questions are asked.

use std::time::Duration;

use crate::config::Settings;
use ctlstore_core::ledger::LedgerSource;
use ctlstore_ctldb::{AnySource, LedgerTable, TableFault};

use super::super::args;
use super::Finding;

/// What reading all definitions may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Tables that are listed at most.
const MOST_LISTED: usize = 100;

pub async fn look(settings: &Settings) -> Vec<Finding> {
    let location = args::location(&settings.ctldb.url);
    let source =
        LedgerTable::new(&settings.ctldb.ledger_table).and_then(|ledger| AnySource::new(&location, ledger, TIMEOUT));
    // Why a ctldb can't be asked is told where it is looked at itself.
    let Ok(mut source) = source else { return Vec::new() };
    let faults = source.table_faults().await;
    source.close().await;
    let Ok(faults) = faults else { return Vec::new() };
    let mut findings: Vec<Finding> = faults.iter().take(MOST_LISTED).map(finding).collect();
    if let Some(more) = faults.len().checked_sub(MOST_LISTED).filter(|more| *more > 0) {
        findings.push(Finding::warn(format!("ctldb: {more} more tables were changed by hand"), "mend these first"));
    }
    findings
}

fn finding(fault: &TableFault) -> Finding {
    let TableFault { table, reason, mend, blocks_writes } = fault;
    let what = format!("ctldb: table {table} was changed by hand: {reason}");
    // The node works; what is written to this table is refused.
    let what = if *blocks_writes { format!("{what}; writes to it are refused") } else { what };
    Finding::warn(what, mend)
}
