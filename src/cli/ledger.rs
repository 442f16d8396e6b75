//! `ledger prune`: deletes old ledger rows that a verified snapshot has. The rules of pruning are in
//! `ctlstore_ctldb::executive`.

mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::args::{SettingsArgs, UrlArg};
use super::failure::{Failure, Interrupted};
use super::interrupt::{Interrupt, abortable};
use super::progress::RowProgress;
use crate::config::Settings;
use crate::node;
use ctlstore_core::disk::{LockError, ProcessLock};
use ctlstore_core::ledger::{LedgerSource, PruneLimit, VerifiedSnapshot};
use ctlstore_ctldb::executive::{PruneOrder, PruneOutcome, PrunePlan, may_be_pruned, plan, prune};
use ctlstore_ctldb::{AnyCtldb, AnySource, Ctldb, LedgerTable, Location, refuse_other_database};
use ctlstore_ldb::snapshot::SnapshotUrl;

use self::report::Report;

/// How long one query of the ctldb may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Delete ledger rows that are old enough and that a snapshot has
    #[command(after_help = PRUNE_HELP)]
    Prune(PruneArgs),
}

const PRUNE_HELP: &str = "\
These rows stay: rows younger than --keep by the ctldb's clock; rows after the seq of the
snapshot, which is fetched and checked first (of several snapshots, the lowest seq counts);
and the ledger's last row. No ledger transaction is cut in two. Rows are deleted in small
transactions under the ledger lock, with pauses, so executives go on writing. New rows use
their space again; the file of the database does not shrink.

A reflector whose LDB needs rows that were pruned refuses to go on. If bootstrap.urls is set,
it starts again from a snapshot. Reflectors of the Go program do not notice, and go on with a
hole: prune only if none of them follows this ctldb. A ctldb that the Go program made (its
ledger's seq is INTEGER, or its leader_ts has no fraction of a second; on SQLite, leader_ts is
not TEXT) is pruned only with --no-original-reflectors.

An embedded SQLite ctldb belongs to the node that runs: set executive.ledger_retention there,
and the node prunes (--dry-run works beside it). On MySQL the command works beside executives.

Exit code 0 also if there is nothing to delete, 3 if there is no snapshot, 4 if pruning is
refused, 130 if a signal stopped it, after a whole transaction.

Examples:
  ctlstore ledger prune --keep 7d --dry-run
  ctlstore ledger prune --keep 7d --config executive.toml
  ctlstore ledger prune --keep 36h --snapshot file:///srv/a.db --snapshot file:///srv/b.db";

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Keep rows younger than this, such as 7d or "1day 12h"
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    keep: Duration,
    /// Snapshot that must have the rows to delete, instead of those at
    /// snapshotter.urls; may be given several times
    #[arg(long = "snapshot", value_name = "URL")]
    snapshots: Vec<UrlArg>,
    /// Say what would be deleted, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Confirm that no reflector of the Go program follows this ctldb
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
    let snapshots = urls(&args.snapshots)?;
    // Load the settings of an executive: they have the ctldb's URL and password.
    let settings = SettingsArgs { config: args.config.clone(), roles: vec!["executive".to_owned()] }.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    runtime.block_on(prune_ledger(&args, &snapshots, &settings))
}

/// Reads all URLs. The error names every bad one.
fn urls(given: &[UrlArg]) -> anyhow::Result<Vec<SnapshotUrl>> {
    let mut urls = Vec::with_capacity(given.len());
    let mut reasons = Vec::new();
    for url in given {
        match url.read("--snapshot") {
            Ok(url) => urls.push(url),
            Err(reason) => reasons.push(reason.to_string()),
        }
    }
    if reasons.is_empty() { Ok(urls) } else { Err(Failure::usage(reasons.join("; ")).into()) }
}

async fn prune_ledger(args: &PruneArgs, snapshots: &[SnapshotUrl], settings: &Settings) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen().context("signals")?;
    let location = node::location(settings);
    let ledger = LedgerTable::new(&settings.ctldb.ledger_table)?;
    let no_original_reflectors = args.no_original_reflectors || settings.executive.no_original_reflectors;
    let mut source = AnySource::new(&location, ledger.clone(), ASK_TIMEOUT)?;
    // Both checks come before the snapshots are fetched.
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
    let done = if args.dry_run || planned.rows == 0 {
        None
    } else {
        Some(carry_out(&location, ledger, order, &planned, &interrupt).await?)
    };
    Report::new(args.keep, &snapshot, &planned, done.as_ref(), args.dry_run).print(args.json)?;
    match done {
        Some(PruneOutcome { limit: PruneLimit::Rows, .. }) if interrupt.came() => Err(Interrupted.into()),
        _ => Ok(()),
    }
}

/// Fetches and checks the snapshots; gives the one with the lowest seq.
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

/// Deletes the planned rows, until a signal comes.
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

/// Refuses an embedded ctldb that a running node has.
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
