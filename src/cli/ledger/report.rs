//! The report of a prune, or of what it would do, for people and as JSON. Entry points:
//! [`Report::new`] and [`Report::print`].

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use serde::Serialize;

use ctlstore_core::ledger::{PruneLimit, Seq, VerifiedSnapshot};
use ctlstore_ctldb::executive::{PruneOutcome, PrunePlan};

/// The members of the JSON. Sizes are bytes of statements.
#[derive(Debug, Serialize)]
pub struct Report {
    dry_run: bool,
    /// Rows that were deleted, or would be.
    rows: u64,
    bytes: u64,
    /// The first and the last of them; null if there are none.
    first_seq: Option<Seq>,
    last_seq: Option<Seq>,
    transactions: u64,
    /// The ledger's low-water seq afterwards: the first seq that pruning has left.
    low_water_seq: Option<Seq>,
    /// When the oldest row that stays was written; null if that was not read.
    oldest_left: Option<String>,
    /// Why not more rows: age, snapshot, last_row, or stopped.
    limit: &'static str,
    snapshot: SnapshotJson,
    #[serde(skip)]
    keep: Duration,
}

#[derive(Debug, Serialize)]
struct SnapshotJson {
    url: String,
    seq: Seq,
    ledger_id: Option<String>,
}

impl Report {
    /// `done` is the outcome, if something was deleted.
    pub fn new(
        keep: Duration,
        snapshot: &VerifiedSnapshot,
        plan: &PrunePlan,
        done: Option<&PruneOutcome>,
        dry_run: bool,
    ) -> Self {
        let VerifiedSnapshot { url, seq, ledger_id, .. } = snapshot.clone();
        let planned = plan.cut.filter(|_| dry_run).map(Seq::next).or(plan.low_water);
        let low_water_seq = done.map_or(planned, |done| done.low_water);
        let rows = done.map_or(plan.rows, |done| done.rows);
        let cut = done.map_or(plan.cut, |done| done.low_water.map(|first| Seq(first.0 - 1)));
        Self {
            dry_run,
            rows,
            bytes: done.map_or(plan.bytes, |done| done.bytes),
            first_seq: plan.first.filter(|_| rows > 0),
            last_seq: cut.filter(|_| rows > 0),
            transactions: done.map_or(0, |done| done.transactions),
            low_water_seq,
            oldest_left: plan.oldest_left.filter(|_| done.is_none()).map(|at| at.to_string()),
            limit: word(done.map_or(plan.limit, |done| done.limit)),
            snapshot: SnapshotJson { url, seq, ledger_id },
            keep,
        }
    }

    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { serde_json::to_string(self).context("json")? + "\n" } else { self.text() };
        io::stdout().write_all(text.as_bytes()).context("standard output")
    }

    fn text(&self) -> String {
        let mut lines = vec![match (self.rows, self.first_seq, self.last_seq) {
            (rows, Some(first), Some(last)) => {
                let verb = if self.dry_run { "would delete" } else { "deleted" };
                format!("{verb} {rows} ledger rows ({}), seq {first} to {last}", ByteSize(self.bytes))
            }
            _ => "nothing to delete".to_owned(),
        }];
        lines.push(format!("  because: {}", self.reason()));
        if let Some(oldest) = &self.oldest_left {
            lines.push(format!("  the oldest row that stays is from {oldest}"));
        }
        lines.push(format!("  snapshot: {} at seq {}", self.snapshot.url, self.snapshot.seq));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn reason(&self) -> String {
        match self.limit {
            "age" => format!("the next row is younger than {}", humantime::format_duration(self.keep)),
            "snapshot" => format!(
                "the snapshot ends at seq {}; older rows behind it wait for a newer snapshot",
                self.snapshot.seq
            ),
            "last_row" => "only the ledger's last transaction is left, which always stays".to_owned(),
            _ => "it was stopped; the rest can go another time".to_owned(),
        }
    }
}

fn word(limit: PruneLimit) -> &'static str {
    match limit {
        PruneLimit::Age => "age",
        PruneLimit::Snapshot => "snapshot",
        PruneLimit::LastRow => "last_row",
        PruneLimit::Rows => "stopped",
    }
}
