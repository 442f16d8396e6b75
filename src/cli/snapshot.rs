//! `snapshot take`, `inspect` and `fetch`: do by hand what nodes do in the background. The work itself is
//! in `ctlstore_ldb::snapshot`.

mod report;
mod retry;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use ctlstore_core::Abort;
use ctlstore_core::disk::{self, TemporaryName};
use ctlstore_ldb::snapshot::fetch::{self, FetchError, Fetched, Wanted};
use ctlstore_ldb::snapshot::{
    Delivered, DestinationResult, Publisher, SnapshotError, SnapshotProgress, SnapshotUrl, Target,
};

use super::args::{JsonArg, LdbArg, UrlArg};
use super::failure::{Failure, Interrupted};
use super::interrupt::{Interrupt, abortable};
use super::ldb;
use super::output::{Out, note, say, say_json, size};

use self::report::SnapshotReport;
use self::retry::with_retries;

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take a snapshot of an LDB, check it and publish it
    Take(TakeArgs),
    /// Fetch a published snapshot, check it, and describe it
    Inspect(InspectArgs),
    /// Fetch a snapshot, check it, and keep it as a file
    Fetch(FetchArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore snapshot take --ldb data/ldb.db --to file:///srv/snapshot.db
  ctlstore snapshot take --to s3://bucket/snapshot.db.zst     with AWS_… in the environment

The applier goes on meanwhile. If the URL ends in .gz or .zst, the snapshot is compressed. The
manifest is beside it, under the same name with .json. A snapshot that is older than the
published one, of another ledger, or suddenly empty is refused with exit code 4.")]
pub struct TakeArgs {
    #[command(flatten)]
    ldb: LdbArg,
    /// Where to publish: file:, s3:, gs: or az:
    #[arg(long, value_name = "URL")]
    to: UrlArg,
    /// How many older snapshots to keep under timestamped names
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep: usize,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore snapshot inspect s3://bucket/snapshot.db.zst
  ctlstore snapshot inspect https://host/snapshot.db.gz --json | jq .seq
  ctlstore snapshot inspect file:data/snapshots/snapshot.db --manifest-only

The snapshot is downloaded to --temp-dir, and removed afterwards. Each check is printed with its
outcome. A check that fails is an error with exit code 1. Exit code 3 if there is no snapshot. A
place that can't be reached is asked again a few times.")]
pub struct InspectArgs {
    /// The snapshot: file:, s3:, gs:, az:, http(s): or data:
    #[arg(value_name = "URL")]
    url: UrlArg,
    /// Read only the manifest
    #[arg(long)]
    manifest_only: bool,
    /// Directory with room for the uncompressed file [default: the system's]
    #[arg(long, value_name = "DIR", conflicts_with = "manifest_only")]
    temp_dir: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore snapshot fetch s3://bucket/snapshot.db.zst --to ldb.db

The file is complete and checked when it appears. A broken download is resumed, and a place that
can't be reached is asked again a few times. A download that fails leaves nothing.")]
pub struct FetchArgs {
    /// The snapshot: file:, s3:, gs:, az:, http(s): or data:
    #[arg(value_name = "URL")]
    url: UrlArg,
    /// The file to make
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    json: JsonArg,
}

pub fn run(command: SnapshotCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    runtime.block_on(async {
        let interrupt = Interrupt::listen().context("signals")?;
        match command {
            SnapshotCommand::Take(take) => take.run(&interrupt).await,
            SnapshotCommand::Inspect(inspect) => inspect.run(&interrupt).await,
            SnapshotCommand::Fetch(fetch) => fetch.run(&interrupt).await,
        }
    })
}

impl TakeArgs {
    async fn run(self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let url = self.to.read("--to")?;
        if !url.is_writable() {
            return Err(Failure::usage(format!("nothing can be published at {url}, only read there")).into());
        }
        let ldb = self.ldb.path();
        let shown = url.to_string();
        // Check the LDB as all commands do, before anything is made.
        ldb::read(&ldb, |_| Ok(()))?;
        let target = Target { keep: self.keep, ..Target::new(url) };
        let taken = abortable(interrupt, move |abort, progress| publish(ldb, target, abort, progress)).await?;
        match taken {
            Ok(Some(delivered)) => self.say_delivered(&delivered, &shown),
            Ok(None) if self.json.json => say_json(&json!({ "url": shown, "published": false })),
            Ok(None) => say(&format!("{shown} has what this ldb has already")),
            Err(SnapshotError::Aborted) => Err(Interrupted.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn say_delivered(&self, delivered: &Delivered, url: &str) -> anyhow::Result<()> {
        let Delivered { position, bytes, trouble } = delivered;
        if let Some(trouble) = trouble {
            note(&format!("it is published, but older ones were not put in order: {trouble}"));
        }
        if self.json.json {
            let ledger_id = &position.ledger_id;
            return say_json(&json!({
                "url": url, "published": true, "seq": position.seq, "ledger_id": ledger_id, "bytes": bytes,
            }));
        }
        say(&format!("seq {} ({}) is published at {url}", position.seq, size(*bytes)))
    }
}

/// Runs one round of a publisher with one destination; `None` if there is nothing new.
fn publish(
    ldb: PathBuf,
    target: Target,
    abort: &Abort,
    progress: Arc<dyn SnapshotProgress>,
) -> Result<Option<Delivered>, SnapshotError> {
    let mut publisher = Publisher::new(&ldb, [target]).reporting(progress);
    let round = publisher.round(Duration::MAX, abort)?;
    if round.position.is_none() {
        return Err(SnapshotError::Empty(ldb));
    }
    round.ended.into_iter().next().map_or(Ok(None), |DestinationResult { outcome, .. }| outcome)
}

impl InspectArgs {
    async fn run(self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let url = self.url.read("URL")?;
        let shown = url.to_string();
        if self.manifest_only {
            let looked = with_retries(interrupt, move |abort, _| fetch::published_manifest(&url, abort)).await?;
            let Some(manifest) = looked else {
                return Err(Failure::absent(format!("no manifest at {shown}")).into());
            };
            return self.show(&shown, &SnapshotReport::of_manifest(&manifest));
        }
        let directory = self.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
        let verifying = move |abort: &Abort, progress: &dyn SnapshotProgress| {
            fetch::verify(&url, &directory, &Wanted::default(), abort, progress)
        };
        let fetched = with_retries(interrupt, verifying).await?;
        self.show(&shown, &SnapshotReport::of_fetched(&fetched))
    }

    fn show(&self, url: &str, facts: &SnapshotReport<'_>) -> anyhow::Result<()> {
        let mut out = Out::new();
        if self.json.json {
            let checks = facts.checks();
            out.json(&json!({ "url": url, "checked": !self.manifest_only, "checks": checks, "snapshot": facts }))?;
            return out.flush();
        }
        facts.write(&mut out, url)?;
        out.flush()
    }
}

impl FetchArgs {
    async fn run(self, interrupt: &Interrupt) -> anyhow::Result<()> {
        self.may_be_written()?;
        let url = self.url.read("URL")?;
        let to = self.to.clone();
        let getting = move |abort: &Abort, progress: &dyn SnapshotProgress| get(&url, &to, abort, progress);
        let fetched = with_retries(interrupt, getting).await?;
        let seq = fetched.position.seq;
        let path = self.to.display();
        if self.json.json {
            let ledger_id = &fetched.position.ledger_id;
            return say_json(&json!({ "path": self.to, "seq": seq, "ledger_id": ledger_id, "bytes": fetched.bytes }));
        }
        say(&format!("{path} has the snapshot at seq {seq} ({}), checked", size(fetched.bytes)))
    }

    /// Refuses a file that may be in use. SQLite would apply the WAL of the old file to the new one,
    /// and a node's LDB is a link that its readers follow.
    fn may_be_written(&self) -> Result<(), Failure> {
        let directory = disk::directory_of(&self.to);
        if !directory.is_dir() {
            return Err(Failure::absent(format!("no directory {}", directory.display())));
        }
        let refused = |why: &str| Err(Failure::refused(format!("{} {why}", self.to.display())));
        if ["-wal", "-shm"].iter().any(|suffix| disk::beside(&self.to, suffix).exists()) {
            return refused("has a -wal or -shm beside it: a database that may be in use; name another file");
        }
        match self.to.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(found) if found.is_symlink() => refused("is a link, as a node's ldb is; name another file"),
            Ok(_) if self.force => Ok(()),
            Ok(_) => refused("is there already; --force writes over it"),
        }
    }
}

/// Fetches to a temporary name of this process, so that the file appears complete and other fetches to
/// it do not disturb. Files that a killed fetch has left are removed.
fn get(url: &SnapshotUrl, to: &Path, abort: &Abort, progress: &dyn SnapshotProgress) -> Result<Fetched, FetchError> {
    let io = |doing| move |source| FetchError::Io { doing, path: to.to_owned(), source };
    let name = TemporaryName::claim(&disk::beside(to, ".fetched"), ".tmp").map_err(io("make a file beside"))?;
    let incoming = name.path();
    let fetched = fetch::fetch(url, incoming, &Wanted::default(), abort, progress)?;
    disk::flush(incoming)
        .and_then(|()| std::fs::rename(incoming, to))
        .and_then(|()| disk::flush(disk::directory_of(to)))
        .map_err(io("put in place"))?;
    Ok(fetched)
}
