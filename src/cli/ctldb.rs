//! `ctldb backup`, `ctldb restore`, `ctldb-schema`: the embedded ctldb's file as a
//! whole. On a server its own tools do that, and are named.

mod copy;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use ctlstore_core::disk::{self, FileId, LockError, ProcessLock};
use ctlstore_core::failpoint;
use ctlstore_ctldb::{LedgerTable, Location, refuse_other_database, schema_sql};

use self::copy::{SnapshotReport, Temporary, copy_database, set_aside};
use super::args::{CtldbArg, JsonArg};
use super::failure::{Exit, Failure};
use super::output::{Out, note, say, say_json};

#[derive(Debug, Subcommand)]
pub enum Ctldb {
    /// Copy the embedded ctldb, also while a node writes it
    Backup(Backup),
    /// Put a backup in the embedded ctldb's place
    Restore(Restore),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore ctldb backup --config executive.toml backups/ctldb-2026-01-31.db

The copy is of one moment, checked and flushed before it has its name; writers go on.")]
pub struct Backup {
    #[command(flatten)]
    ctldb: CtldbArg,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    json: JsonArg,
    /// The copy
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore ctldb restore --config executive.toml backups/ctldb-2026-01-31.db

Only while no node has the ctldb. With --force one that is there is kept beside it, under a
name that ends in .replaced. An LDB that has more than the backup stops following it, and
says so: such hosts must begin with a new LDB.")]
pub struct Restore {
    #[command(flatten)]
    ctldb: CtldbArg,
    /// Put it in the place of a ctldb that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    json: JsonArg,
    /// The backup
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

impl Ctldb {
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Backup(backup) => backup.run(),
            Self::Restore(restore) => restore.run(),
        }
    }
}

/// The embedded ctldb's file, and its ledger's table.
fn embedded(ctldb: &CtldbArg, tool: &str) -> anyhow::Result<(PathBuf, LedgerTable)> {
    match ctldb.location()? {
        (Location::Sqlite(path), ledger) => Ok((path, LedgerTable::new(&ledger)?)),
        (Location::Mysql(_), _) => {
            Err(Failure::usage(format!("the ctldb is on a server, whose own tool does that: {tool}")).into())
        }
    }
}

/// A copy that takes its own original's place would take the writers' file away.
fn not_itself(ctldb: &Path, copy: &Path) -> anyhow::Result<()> {
    match (FileId::of(ctldb), FileId::of(copy)) {
        (Ok(Some(one)), Ok(Some(other))) if one == other => {
            Err(Failure::usage(format!("{} is the ctldb itself", copy.display())).into())
        }
        _ => Ok(()),
    }
}

impl Backup {
    fn run(&self) -> anyhow::Result<()> {
        let tool = "mysqldump --single-transaction --hex-blob --default-character-set=utf8mb4 DATABASE > FILE";
        let (path, ledger) = embedded(&self.ctldb, tool)?;
        if !path.exists() {
            return Err(Failure::absent(format!("no ctldb at {}", path.display())).into());
        }
        refuse_other_database(&path, &ledger).map_err(|error| Failure::refused(error.to_string()))?;
        not_itself(&path, &self.to)?;
        if self.to.exists() && !self.force {
            let message = format!("{} is there already; --force writes over it", self.to.display());
            return Err(Failure::refused(message).into());
        }
        let copy = Temporary::beside(&self.to)?;
        copy_database(&path, &copy.path).with_context(|| format!("copy {}", path.display()))?;
        let facts = SnapshotReport::of(&copy.path, &ledger)?;
        copy.take_place(&self.to)?;
        report(&facts, "backed up to", &self.to, &self.json)
    }
}

impl Restore {
    fn run(&self) -> anyhow::Result<()> {
        let (path, ledger) = embedded(&self.ctldb, "mysql DATABASE < FILE, into an empty database")?;
        not_itself(&path, &self.from)?;
        // One that can't be read is kept as it is; another program's is not even moved.
        refuse_other_database(&path, &ledger).map_err(|error| Failure::refused(error.to_string()))?;
        let backup = SnapshotReport::of(&self.from, &ledger)?;
        disk::create_directory(disk::directory_of(&path)).with_context(|| path.display().to_string())?;
        // Held to the end: a node that starts meanwhile fails, and says who has it.
        let _lock = ProcessLock::take(&path).map_err(|error| match error {
            LockError::Held { holder } => {
                Failure::refused(format!("{} is in use ({holder}); stop the node first", path.display()))
            }
            LockError::Io(error) => Failure::new(Exit::Failed, format!("lock {}: {error}", path.display())),
        })?;
        let is_there = path.exists();
        if is_there && !self.force {
            let message = format!("{} is there already; --force replaces it and keeps it beside", path.display());
            return Err(Failure::refused(message).into());
        }
        let copy = Temporary::beside(&path)?;
        copy_database(&self.from, &copy.path).with_context(|| format!("copy {}", self.from.display()))?;
        SnapshotReport::of(&copy.path, &ledger)?;
        failpoint::hit("restore-copied");
        if is_there {
            let kept = set_aside(&path).with_context(|| format!("keep {}", path.display()))?;
            note(&format!("the ctldb that was there is kept as {}", kept.display()));
        }
        failpoint::hit("restore-set-aside");
        copy.take_place(&path)?;
        failpoint::hit("restore-done");
        report(&backup, "restored", &path, &self.json)
    }
}

/// What a file holds, for people or as JSON.
fn report(facts: &SnapshotReport, what: &str, path: &Path, json: &JsonArg) -> anyhow::Result<()> {
    let SnapshotReport { ledger_id, last_seq, bytes } = facts;
    if json.json {
        let path = path.display().to_string();
        return say_json(&json!({ "path": path, "last_seq": last_seq, "ledger_id": ledger_id, "bytes": bytes }));
    }
    say(&format!("{what} {}: {bytes} bytes, ledger up to seq {last_seq}", path.display()))
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Mysql,
    Sqlite,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore ctldb-schema | mysql ctldb

An executive makes what is missing by itself; this is for a database whose user may not.
It finds the best collation by itself; here utf8mb4_nopad_bin (MariaDB) and utf8mb4_0900_bin
(MySQL 8) are better than the default, which every server has.")]
pub struct Schema {
    /// For which kind of database
    #[arg(value_enum, value_name = "KIND", default_value = "mysql")]
    kind: Kind,
    /// The ledger table's name
    #[arg(long, value_name = "NAME", default_value = "ctlstore_dml_ledger")]
    ledger_table: String,
    /// The collation of keys, which must compare bytes
    #[arg(long, value_name = "NAME", default_value = "utf8mb4_bin")]
    collation: String,
}

impl Schema {
    pub fn run(&self) -> anyhow::Result<()> {
        let ledger = LedgerTable::new(&self.ledger_table).map_err(|error| Failure::usage(error.to_string()))?;
        // It stands in the statements as it is.
        if !self.collation.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Failure::usage(format!("{:?} is no collation's name", self.collation)).into());
        }
        let collation = match self.kind {
            Kind::Mysql => Some(self.collation.as_str()),
            Kind::Sqlite => None,
        };
        let mut out = Out::new();
        let statements = schema_sql(&ledger, collation);
        // What stands before them is for readers of the source.
        out.text(statements.split_once("\n\n").map_or(statements.as_str(), |(_, statements)| statements))?;
        out.flush()
    }
}
