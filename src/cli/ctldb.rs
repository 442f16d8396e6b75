//! `ctldb backup`, `ctldb restore` and `ctldb-schema`: copy the embedded ctldb's file, put a copy back,
//! and print the schema. For a ctldb on a server, backup and restore name the server's own tools.

mod copy;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use ctlstore_core::disk::{self, FileId, LockError, ProcessLock};
use ctlstore_core::failpoint;
use ctlstore_ctldb::{LedgerTable, Location, refuse_other_database, schema_sql};

use self::copy::{CtldbFile, TemporaryCopy, copy_database, set_aside};
use super::args::{CtldbArg, JsonArg};
use super::failure::{Exit, Failure};
use super::output::{Out, note, say, say_json};

#[derive(Debug, Subcommand)]
pub enum CtldbCommand {
    /// Copy the embedded ctldb, even while a node writes it
    Backup(BackupArgs),
    /// Replace the embedded ctldb by a backup
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore ctldb backup --config executive.toml backups/ctldb-2026-01-31.db

The copy has the ctldb's content at one point in time. It is checked and flushed before it gets
its name. Writers go on meanwhile.")]
pub struct BackupArgs {
    #[command(flatten)]
    ctldb: CtldbArg,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    json: JsonArg,
    /// The file to make
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore ctldb restore --config executive.toml backups/ctldb-2026-01-31.db

Stop the node first. With --force an existing ctldb is replaced; it is kept beside the new one,
under a name that ends in .replaced. An LDB that is ahead of the backup stops following the
ctldb, and says so: such hosts must begin with a new LDB.")]
pub struct RestoreArgs {
    #[command(flatten)]
    ctldb: CtldbArg,
    /// Replace an existing ctldb
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    json: JsonArg,
    /// The backup
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

impl CtldbCommand {
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Backup(backup) => backup.run(),
            Self::Restore(restore) => restore.run(),
        }
    }
}

/// The embedded ctldb's file, and its ledger table.
fn embedded(ctldb: &CtldbArg, tool: &str) -> anyhow::Result<(PathBuf, LedgerTable)> {
    match ctldb.location()? {
        (Location::Sqlite(path), ledger) => Ok((path, LedgerTable::new(&ledger)?)),
        (Location::Mysql(_), _) => {
            Err(Failure::usage(format!("the ctldb is on a server, whose own tool does that: {tool}")).into())
        }
    }
}

/// Refuses a copy onto the ctldb itself: it would replace the file that writers have open.
fn not_itself(ctldb: &Path, copy: &Path) -> anyhow::Result<()> {
    match (FileId::of(ctldb), FileId::of(copy)) {
        (Ok(Some(one)), Ok(Some(other))) if one == other => {
            Err(Failure::usage(format!("{} is the ctldb itself", copy.display())).into())
        }
        _ => Ok(()),
    }
}

impl BackupArgs {
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
        let copy = TemporaryCopy::beside(&self.to)?;
        copy_database(&path, &copy.path).with_context(|| format!("copy {}", path.display()))?;
        let file = CtldbFile::check(&copy.path, &ledger)?;
        copy.take_place(&self.to)?;
        report(&file, "backed up to", &self.to, &self.json)
    }
}

impl RestoreArgs {
    fn run(&self) -> anyhow::Result<()> {
        let (path, ledger) = embedded(&self.ctldb, "mysql DATABASE < FILE, into an empty database")?;
        not_itself(&path, &self.from)?;
        // A ctldb that can't be read is kept; another program's file is not moved at all.
        refuse_other_database(&path, &ledger).map_err(|error| Failure::refused(error.to_string()))?;
        let backup = CtldbFile::check(&self.from, &ledger)?;
        disk::create_directory(disk::directory_of(&path)).with_context(|| path.display().to_string())?;
        // Hold the lock to the end: a node that starts meanwhile fails, and names this process.
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
        let copy = TemporaryCopy::beside(&path)?;
        copy_database(&self.from, &copy.path).with_context(|| format!("copy {}", self.from.display()))?;
        CtldbFile::check(&copy.path, &ledger)?;
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

/// Prints what a file holds, for people or as JSON.
fn report(file: &CtldbFile, what: &str, path: &Path, json: &JsonArg) -> anyhow::Result<()> {
    let CtldbFile { ledger_id, last_seq, bytes } = file;
    if json.json {
        let path = path.display().to_string();
        return say_json(&json!({ "path": path, "last_seq": last_seq, "ledger_id": ledger_id, "bytes": bytes }));
    }
    say(&format!("{what} {}: {bytes} bytes, ledger up to seq {last_seq}", path.display()))
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CtldbKind {
    Mysql,
    Sqlite,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctlstore ctldb-schema | mysql ctldb

An executive creates missing tables itself, with the best collation. This command is for a
database whose user may not create tables. Use utf8mb4_nopad_bin on MariaDB and
utf8mb4_0900_bin on MySQL 8; the default works on every server, but pads keys.")]
pub struct CtldbSchemaArgs {
    /// The kind of database
    #[arg(value_enum, value_name = "KIND", default_value = "mysql")]
    kind: CtldbKind,
    /// The name of the ledger table
    #[arg(long, value_name = "NAME", default_value = "ctlstore_dml_ledger")]
    ledger_table: String,
    /// The collation of keys; it must compare bytes
    #[arg(long, value_name = "NAME", default_value = "utf8mb4_bin")]
    collation: String,
}

impl CtldbSchemaArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let ledger = LedgerTable::new(&self.ledger_table).map_err(|error| Failure::usage(error.to_string()))?;
        // It is put into the statements unquoted.
        if !self.collation.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Failure::usage(format!("{:?} is no collation's name", self.collation)).into());
        }
        let collation = match self.kind {
            CtldbKind::Mysql => Some(self.collation.as_str()),
            CtldbKind::Sqlite => None,
        };
        let mut out = Out::new();
        let statements = schema_sql(&ledger, collation);
        // The text before the statements is for readers of the source.
        out.text(statements.split_once("\n\n").map_or(statements.as_str(), |(_, statements)| statements))?;
        out.flush()
    }
}
