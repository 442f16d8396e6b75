//! `ctlstore ledger prune`: deletes old ledger rows that a snapshot has.

mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::SettingsArgs;
use super::args::UrlArg;
use super::failure::Failure;
use super::interrupt::{Interrupt, Interrupted, abortable};
use super::row_progress::RowProgress;
use crate::config::Settings;
use crate::node;
use ctlstore_core::disk::{LockError, ProcessLock};
use ctlstore_core::ledger::{LedgerSource, Limit, VerifiedSnapshot};
use ctlstore_ctldb::executive::{PruneOrder, PruneOutcome, PrunePlan, may_be_pruned, plan, prune};
use ctlstore_ctldb::{AnyCtldb, AnySource, Ctldb, LedgerTable, Location, refuse_other_database};
use ctlstore_ldb::snapshot::SnapshotUrl;

use self::report::Report;

/// What one question to the ctldb may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Delete ledger rows that are old enough and that a snapshot has
    #[command(after_help = PRUNE_HELP)]
    Prune(PruneArgs),
}

const PRUNE_HELP: &str = "\
What stays: rows younger than --keep, by the ctldb's clock; rows behind the seq of
the snapshot, which is fetched and checked first (with several, the one with the
lowest seq); the last row; and no ledger transaction is cut in two. Rows go in small
transactions under the ledger lock, with pauses, so executives write on meanwhile.
Their space is used again by new rows; the database's file does not shrink.

A reflector whose ldb is behind what was pruned refuses to go on, and starts again
from a snapshot where bootstrap.urls names one. Reflectors of the original do not
notice and go on with a hole: prune only where none of them follows this ctldb. A
ctldb that the original made (its ledger's seq is INTEGER, or its leader_ts has no
fraction of a second; on SQLite, leader_ts is not TEXT) takes --no-original-reflectors.

A node that runs has its embedded SQLite ctldb for itself: set executive.ledger_retention
there (--dry-run works beside it). On MySQL it runs beside executives.

Exit code 0 also where there is nothing to do, 3 where a snapshot is not there, 4 where it is
refused, 130 where a signal stopped it after a whole transaction.

Examples:
  ctlstore ledger prune --keep 7d --dry-run
  ctlstore ledger prune --keep 7d --config executive.toml
  ctlstore ledger prune --keep 36h --snapshot file:///srv/a/snapshot.db --snapshot file:///srv/b/snapshot.db";

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Rows younger than this stay, such as 7d or "1day 12h"
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    keep: Duration,
    /// Snapshot that must have what goes, instead of those at snapshotter.urls;
    /// may be given several times
    #[arg(long = "snapshot", value_name = "URL")]
    snapshots: Vec<UrlArg>,
    /// Say what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// No reflector of the original follows this ctldb
    #[arg(long)]
    no_original_reflectors: bool,
    /// TOML file with the settings of the executive
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: LedgerCommand) -> anyhow::Result<()> {
    let LedgerCommand::Prune(args) = command;
    let snapshots = args.snapshots.iter().map(|url| url.read("--snapshot")).collect::<anyhow::Result<Vec<_>>>()?;
    // As an executive: its settings say where the ctldb is, and with which password.
    let settings = SettingsArgs { config: args.config.clone(), roles: vec!["executive".to_owned()] }.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    runtime.block_on(prune_ledger(&args, &snapshots, &settings))
}

async fn prune_ledger(args: &PruneArgs, snapshots: &[SnapshotUrl], settings: &Settings) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen().context("signals")?;
    let location = node::location(settings);
    let ledger = LedgerTable::new(&settings.ctldb.ledger_table)?;
    let no_original_reflectors = args.no_original_reflectors || settings.executive.no_original_reflectors;
    let mut source = AnySource::new(&location, ledger.clone(), ASK_TIMEOUT)?;
    // Both before a snapshot is fetched for nothing.
    if let Location::Sqlite(path) = &location {
        refuse_other_database(path, &ledger).map_err(|error| Failure::refused(error.to_string()))?;
    }
    if !args.dry_run {
        not_held(&location)?;
    }
    let identity = interrupt.unless(source.identity()).await.ok_or(Interrupted)?;
    may_be_pruned(&identity.context("look at the ledger")?, no_original_reflectors)?;
    let snapshot = verified(snapshots, settings, &interrupt).await?;
    let order = PruneOrder { keep: args.keep, snapshot: snapshot.clone(), no_original_reflectors };

    let planned = interrupt.unless(plan(&mut source, &order)).await.ok_or(Interrupted)?;
    source.close().await;
    let planned = planned.context("look at the ledger")?;
    let done = match args.dry_run || planned.rows == 0 {
        true => None,
        false => Some(carry_out(&location, ledger, order, &planned, &interrupt).await?),
    };
    Report::new(args.keep, &snapshot, &planned, done.as_ref(), args.dry_run).print(args.json)?;
    match done {
        Some(PruneOutcome { limit: Limit::Rows, .. }) if interrupt.came() => Err(Interrupted.into()),
        _ => Ok(()),
    }
}

/// Fetches and checks the snapshots.
async fn verified(
    given: &[SnapshotUrl],
    settings: &Settings,
    interrupt: &Interrupt,
) -> anyhow::Result<VerifiedSnapshot> {
    let urls = if given.is_empty() { settings.executive.retention_snapshots(&settings.snapshotter) } else { given };
    if urls.is_empty() {
        let message = "no snapshot to go by: name one with --snapshot, or set snapshotter.urls";
        return Err(Failure::usage(message).into());
    }
    let mut verifier = node::verifier(settings, urls);
    let verified = abortable(interrupt, move |abort, progress| verifier.lowest(abort, progress.as_ref())).await?;
    if interrupt.came() {
        return Err(Interrupted.into());
    }
    verified.context("nothing is pruned without a good snapshot")
}

/// Deletes what was planned, or as much as a signal leaves time for.
async fn carry_out(
    location: &Location,
    ledger: LedgerTable,
    order: PruneOrder,
    planned: &PrunePlan,
    interrupt: &Interrupt,
) -> anyhow::Result<PruneOutcome> {
    not_held(location)?;
    let ctldb = AnyCtldb::open(location, ledger)?;
    ctldb.prepare().await?;
    let mut progress = RowProgress::start("ledger rows deleted", Some(planned.rows));
    let outcome = prune(&ctldb, order, |so_far| {
        progress.at(so_far.rows);
        !interrupt.came()
    })
    .await;
    drop(progress);
    ctldb.close().await;
    outcome.context("prune the ledger")
}

/// An embedded ctldb belongs to the node that runs.
fn not_held(location: &Location) -> anyhow::Result<()> {
    let Location::Sqlite(path) = location else { return Ok(()) };
    if !path.exists() {
        return Ok(());
    }
    match ProcessLock::take(path) {
        Ok(_) => Ok(()),
        Err(LockError::Held { holder }) => Err(Failure::refused(format!(
            "{} belongs to a node that runs ({holder}): set executive.ledger_retention there and it prunes by itself, \
             or stop it for as long as this takes",
            path.display()
        ))
        .into()),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}
