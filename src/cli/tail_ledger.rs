//! `tail-ledger`: the ledger's rows as the ctldb has them. What it prints is
//! configuration data, which every host has anyway.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use ctlstore_core::ledger::{BlockLimit, LedgerRow, LedgerSource, Seq};
use ctlstore_ctldb::{AnySource, LedgerTable};

use super::args::{CtldbArg, JsonArg};
use super::client;
use super::output::Out;

const BLOCK: BlockLimit = BlockLimit { rows: 1_000, bytes: 4 * 1024 * 1024 };
/// Between two looks at a ledger that has come to its end.
const POLL: Duration = Duration::from_millis(500);
/// For one query.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore tail-ledger --config executive.toml         the last ten rows of its ctldb
  ctlstore tail-ledger --ctldb sqlite:data/ctldb.db -f
  ctlstore tail-ledger --after 0 --json > ledger.ndjson

A line is seq, time and statement with tabs between them; control characters are escaped,
--json has them as they are.")]
pub struct TailLedger {
    #[command(flatten)]
    ctldb: CtldbArg,
    /// Rows behind this seq instead of the last ones; 0 is all
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// How many of the last rows
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 10, conflicts_with = "after")]
    lines: u32,
    /// Go on with what comes, until ctrl-C
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Serialize)]
struct Shown<'r> {
    seq: Seq,
    leader_ts: Option<String>,
    statement: &'r str,
}

impl TailLedger {
    pub fn run(&self) -> anyhow::Result<()> {
        let (location, ledger) = self.ctldb.location()?;
        let mut source = AnySource::new(&location, LedgerTable::new(&ledger)?, TIMEOUT)?;
        client::run(async {
            let shown = self.show(&mut source).await;
            source.close().await;
            shown
        })
    }

    async fn show(&self, source: &mut AnySource) -> anyhow::Result<()> {
        let mut out = Out::new();
        let last = source.describe().await?.last.unwrap_or_default();
        let mut after = self.after.map_or(Seq(last.0 - i64::from(self.lines)), Seq);
        // What comes meanwhile was not asked for.
        let end = (!self.follow).then_some(last);
        loop {
            let block = source.read(after, end, BLOCK).await?;
            for row in &block.rows {
                self.line(&mut out, row)?;
                after = row.seq;
            }
            out.flush()?;
            if end.is_some_and(|end| after >= end || block.rows.is_empty()) {
                return Ok(());
            }
            if block.rows.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    fn line(&self, out: &mut Out, row: &LedgerRow) -> anyhow::Result<()> {
        let leader_ts = row.leader_ts.map(|at| at.to_string());
        if self.json.json {
            return out.json(&Shown { seq: row.seq, leader_ts, statement: &row.statement });
        }
        out.tabbed(&[&row.seq.to_string(), leader_ts.as_deref().unwrap_or("-"), &row.statement])
    }
}
