//! `ctldb backup`, `ctldb restore`, `ctldb-schema`: the embedded ctldb's file as a
//! whole. On a server its own tools do that, and are named.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use rusqlite::backup::{Backup as OnlineBackup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde_json::json;

use crate::ctldb::{LedgerTable, Location, schema_sql};
use crate::disk::{self, LockError, ProcessLock};
use crate::failpoint;

use super::args::{CtldbArg, JsonArg};
use super::failure::{Exit, Failure};
use super::output::{Out, say, say_json};

/// How long a copy waits for whoever has the file locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const CHECK: &str = "PRAGMA quick_check(1)";
const LAST_SEQ: &str = "SELECT COALESCE(MAX(seq), 0) FROM ";
const LEDGER_ID: &str = "SELECT value FROM ctlstore_meta WHERE name = 'ledger_id'";
const HAS_META: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ctlstore_meta'";

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

impl Backup {
    fn run(&self) -> anyhow::Result<()> {
        let tool = "mysqldump --single-transaction --hex-blob --default-character-set=utf8mb4 DATABASE > FILE";
        let (path, ledger) = embedded(&self.ctldb, tool)?;
        if !path.exists() {
            return Err(Failure::absent(format!("no ctldb at {}", path.display())).into());
        }
        if self.to.exists() && !self.force {
            let message = format!("{} is there already; --force writes over it", self.to.display());
            return Err(Failure::refused(message).into());
        }
        let copy = Temporary::beside(&self.to)?;
        copy_database(&path, &copy.path).with_context(|| format!("copy {}", path.display()))?;
        let facts = Facts::of(&copy.path, &ledger)?;
        copy.take_place(&self.to)?;
        facts.report("backed up to", &self.to, &self.json)
    }
}

impl Restore {
    fn run(&self) -> anyhow::Result<()> {
        let (path, ledger) = embedded(&self.ctldb, "mysql DATABASE < FILE, into an empty database")?;
        let backup = Facts::of(&self.from, &ledger)?;
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
        Facts::of(&copy.path, &ledger)?;
        failpoint::hit("restore-copied");
        if is_there {
            let kept = set_aside(&path).with_context(|| format!("keep {}", path.display()))?;
            eprintln!("ctlstore: the ctldb that was there is kept as {}", kept.display());
        }
        failpoint::hit("restore-set-aside");
        copy.take_place(&path)?;
        failpoint::hit("restore-done");
        backup.report("restored", &path, &self.json)
    }
}

/// Copies a whole database in one step, so that no writer makes it begin again.
fn copy_database(from: &Path, to: &Path) -> anyhow::Result<()> {
    let source = open(from)?;
    let mut target = Connection::open(to)?;
    let copied = OnlineBackup::new(&source, &mut target)?.step(-1)?;
    anyhow::ensure!(matches!(copied, StepResult::Done), "it is locked by another program");
    // Whoever looks at the copy makes no WAL beside it; an executive gives it one again.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    target.close().map_err(|(_, error)| error)?;
    Ok(disk::flush(to)?)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// What a ctldb's file holds, once it is checked.
struct Facts {
    ledger_id: Option<String>,
    last_seq: i64,
    bytes: u64,
}

impl Facts {
    fn of(path: &Path, ledger: &LedgerTable) -> anyhow::Result<Self> {
        let shown = path.display();
        let metadata = fs::metadata(path).map_err(|error| Failure::absent(format!("{shown}: {error}")))?;
        let bad = |error: rusqlite::Error| Failure::refused(format!("{shown} is no backup of a ctldb: {error}"));
        let database = open(path).map_err(bad)?;
        let found: String = database.query_row(CHECK, [], |row| row.get(0)).map_err(bad)?;
        if found != "ok" {
            return Err(Failure::refused(format!("{shown} is damaged: {found}")).into());
        }
        let last_seq = format!("{LAST_SEQ}{}", crate::sql::quoted(ledger.as_str()));
        let last_seq = database.query_row(&last_seq, [], |row| row.get(0)).map_err(bad)?;
        let ledger_id = match database.prepare(HAS_META)?.exists([])? {
            true => database.query_row(LEDGER_ID, [], |row| row.get(0)).optional()?,
            false => None,
        };
        Ok(Self { ledger_id, last_seq, bytes: metadata.len() })
    }

    fn report(&self, what: &str, path: &Path, json: &JsonArg) -> anyhow::Result<()> {
        let Self { ledger_id, last_seq, bytes } = self;
        if json.json {
            let path = path.display().to_string();
            return say_json(&json!({ "path": path, "last_seq": last_seq, "ledger_id": ledger_id, "bytes": bytes }));
        }
        say(&format!("{what} {}: {bytes} bytes, ledger up to seq {last_seq}", path.display()))
    }
}

/// A file that is removed unless it takes its place.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(path: &Path) -> anyhow::Result<Self> {
        let temporary = Self { path: disk::beside(path, &format!(".new-{}", std::process::id())) };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(disk::FILE_MODE);
        options.open(&temporary.path).with_context(|| temporary.path.display().to_string())?;
        Ok(temporary)
    }

    fn take_place(self, of: &Path) -> anyhow::Result<()> {
        let renamed = fs::rename(&self.path, of).and_then(|()| disk::flush(disk::directory_of(of)));
        renamed.with_context(|| of.display().to_string())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After it took its place there is nothing of this name.
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(disk::beside(&self.path, suffix));
        }
    }
}

/// Gives the file a second name, with all that its WAL holds in it, and leaves no WAL
/// that the next file of its name would meet. The place is never empty meanwhile.
fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let kept = free_name(path);
    match checkpoint(path) {
        Ok(true) => fs::hard_link(path, &kept)?,
        Ok(false) => return Err(Failure::refused("another program reads it; stop that first").into()),
        // It can't be read, so its WAL is only of use together with it.
        Err(_) => {
            fs::hard_link(path, &kept)?;
            gone(fs::rename(disk::beside(path, "-wal"), disk::beside(&kept, "-wal")))?;
        }
    }
    gone(fs::remove_file(disk::beside(path, "-wal")))?;
    gone(fs::remove_file(disk::beside(path, "-shm")))?;
    Ok(kept)
}

/// A file that is not there need not be taken away.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Moves the WAL into the database and cuts it to nothing; false while that can't be.
fn checkpoint(path: &Path) -> rusqlite::Result<bool> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(BUSY_TIMEOUT)?;
    let busy: bool = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!busy)
}

fn free_name(path: &Path) -> PathBuf {
    let first = disk::beside(path, ".replaced");
    let others = (2..).map(|n| disk::beside(path, &format!(".replaced-{n}")));
    std::iter::once(first.clone()).chain(others).find(|path| !path.exists()).unwrap_or(first)
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
