//! Examines the ctldb's tables: which were changed by hand, so that they differ from what the ledger
//! says. Entry point: [`examine`]. It only reads.

use std::time::Duration;

use crate::config::Settings;
use ctlstore_core::ledger::LedgerSource;
use ctlstore_ctldb::{AnySource, LedgerTable, TableFault};

use super::super::args;
use super::diagnosis::Diagnosis;

/// How long reading all definitions may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The most tables that are listed.
const MOST_LISTED: usize = 100;

pub async fn examine(settings: &Settings) -> Vec<Diagnosis> {
    let location = args::location(&settings.ctldb.url);
    let source =
        LedgerTable::new(&settings.ctldb.ledger_table).and_then(|ledger| AnySource::new(&location, ledger, TIMEOUT));
    // If the ctldb can't be asked, `server` or `host` reports it.
    let Ok(mut source) = source else { return Vec::new() };
    let faults = source.table_faults().await;
    source.close().await;
    let Ok(faults) = faults else { return Vec::new() };
    let mut findings: Vec<Diagnosis> = faults.iter().take(MOST_LISTED).map(finding).collect();
    if let Some(more) = faults.len().checked_sub(MOST_LISTED).filter(|more| *more > 0) {
        findings.push(Diagnosis::warn(format!("ctldb: {more} more tables were changed by hand"), "mend these first"));
    }
    findings
}

fn finding(fault: &TableFault) -> Diagnosis {
    let TableFault { table, reason, mend, blocks_writes } = fault;
    let what = format!("ctldb: table {table} was changed by hand: {reason}");
    // The node works, but writes to this table are refused.
    let what = if *blocks_writes { format!("{what}; writes to it are refused") } else { what };
    Diagnosis::warn(what, mend)
}
