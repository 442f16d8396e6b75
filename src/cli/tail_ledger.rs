//! `tail-ledger`: prints the ledger's rows as the ctldb has them. They are configuration data, which
//! every host has, so nothing is masked.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use ctlstore_core::ledger::{BlockLimit, LedgerRow, LedgerSource, Seq};
use ctlstore_ctldb::{AnySource, LedgerTable};

use super::args::{CtldbArg, JsonArg};
use super::client;
use super::output::Out;

const BLOCK: BlockLimit = BlockLimit { rows: 1_000, bytes: 4 * 1024 * 1024 };
/// The pause before the ledger's end is read again.
const POLL: Duration = Duration::from_millis(500);
/// How long one query may take.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore tail-ledger --config executive.toml           the last ten rows of its ctldb
  ctlstore tail-ledger --ctldb sqlite:data/ctldb.db -f   the last ten, and new rows as they come
  ctlstore tail-ledger --after 0 --json > ledger.ndjson  all rows

A line has seq, time and statement, with tabs between them. Control characters are escaped, except
in JSON.")]
pub struct TailLedgerArgs {
    #[command(flatten)]
    ctldb: CtldbArg,
    /// Print the rows after this seq, instead of the last ones; 0 prints all
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// How many of the last rows to print
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 10, conflicts_with = "after")]
    lines: u32,
    /// Go on with new rows, until ctrl-C
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Serialize)]
struct RowJson<'r> {
    seq: Seq,
    leader_ts: Option<String>,
    statement: &'r str,
}

impl TailLedgerArgs {
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
        // Rows that come meanwhile are not printed, unless the ledger is followed.
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
            return out.json(&RowJson { seq: row.seq, leader_ts, statement: &row.statement });
        }
        out.tabbed(&[&row.seq.to_string(), leader_ts.as_deref().unwrap_or("-"), &row.statement])
    }
}
