//! The changelog: a text file that names every row that the applier changed, one
//! JSON object per line, for programs on the host that cache rows.
//!
//! Entries are numbered without a gap, and a follower that sees a gap drops its
//! caches. So wherever the file may lack an entry, the numbering jumps, and one
//! entry is written at once behind the jump, so that followers see it before the
//! next change comes by. This room keeps the numbering and the file; when a
//! transaction begins and ends is its caller's to say.

mod capture;
mod changes;
mod entry;
mod file;
mod pending;
mod statement_entries;
mod tail;

pub mod history;

use std::ops::Add;
use std::path::PathBuf;

use rusqlite::Connection;

use ctlstore_core::ledger::Seq;
use ctlstore_core::sql::Statement;

use capture::Capture;
use file::ChangelogFile;
use history::{History, HistoryError, Op, TableChange};
use pending::Pending;

/// Rows that one statement may change and still have them named.
const MAX_ROWS_PER_STATEMENT: usize = 10_000;

/// Where the changelog goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangelogOptions {
    pub path: PathBuf,
    /// The size, in bytes, that the file does not pass. 0 switches the changelog off.
    pub max_bytes: u64,
}

/// The numbering as it is kept in the LDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbering {
    /// The next entry's number.
    pub next: u64,
    /// The LDB's seq when that number was kept.
    pub ledger_seq: Seq,
    /// The database file that it was kept in: copies of an LDB are told by it.
    pub ldb_file: String,
}

/// Why entries could not be written. The rows they name are committed all the same.
#[derive(Debug, thiserror::Error)]
#[error("changelog {path} failed while {action}: {source}")]
pub struct ChangelogError {
    pub path: PathBuf,
    pub action: &'static str,
    pub source: std::io::Error,
}

/// What a transaction brought to the changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangelogCounts {
    /// Entries that are in the file now.
    pub entries: u64,
    /// Places where the numbering jumps, for followers to start over.
    pub jumps: u64,
    /// Entries that could not be written; a jump takes their place.
    pub lost: u64,
    /// Times that a new file took the path.
    pub rotations: u64,
}

/// What a statement is about, as far as the history must know it.
#[derive(Debug, Default)]
enum About {
    /// One row.
    Row(Option<Op>),
    /// All rows of a table, given by its SQL name.
    Table(TableChange, String),
    #[default]
    Anything,
}

impl Add for ChangelogCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            jumps: self.jumps + other.jumps,
            lost: self.lost + other.lost,
            rotations: self.rotations + other.rotations,
        }
    }
}

/// The changelog of one LDB, on the connection that writes it.
#[derive(Debug)]
pub(crate) struct Changelog {
    capture: Capture,
    /// `None` where only the history is written.
    file: Option<ChangelogFile>,
    history: Option<History>,
    /// What the statement that runs is about.
    about: About,
    /// The next entry's number, as of the last commit.
    next: u64,
    pending: Pending,
    /// Whether followers are still to be told that they missed something. If so,
    /// `next` is not the number behind the file's last one.
    owes_jump: bool,
    total: ChangelogCounts,
    error: Option<ChangelogError>,
}

impl Changelog {
    /// Looks at the file that is there and at the numbering that the LDB holds. Where
    /// the two do not belong together, or `here` says that rows have changed since,
    /// [`owes_jump`](Self::owes_jump) is true afterwards.
    pub fn open(
        connection: &Connection,
        options: Option<&ChangelogOptions>,
        kept: Option<&Numbering>,
        here: (Seq, &str),
        history: Option<History>,
    ) -> rusqlite::Result<Self> {
        let capture = Capture::install(connection)?;
        let (total, about) = (ChangelogCounts::default(), About::default());
        let Some(options) = options else {
            let (next, pending) = (kept.map_or(1, |kept| kept.next), Pending::new(0));
            let file = None;
            return Ok(Self { capture, file, history, about, next, pending, owes_jump: false, total, error: None });
        };
        let mut file = ChangelogFile::new(options.path.clone(), options.max_bytes);
        let (tail, error) = match file.open() {
            Ok(tail) => (tail, None),
            Err(error) => (tail::FileTail::default(), Some(error)),
        };
        let kept_next = kept.map_or(1, |kept| kept.next);
        let last = tail.last.unwrap_or(0);
        let is_first = kept.is_none() && tail.last.is_none() && here.0 == Seq::ZERO;
        let belongs = kept.is_some_and(|kept| (kept.ledger_seq, kept.ldb_file.as_str()) == here);
        // The first line ever has number 1, so an empty file also belongs to that.
        let is_complete = belongs && !tail.torn && last + 1 == kept_next;
        let owes_jump = error.is_some() || !(is_first || is_complete);
        let next = if owes_jump { kept_next.max(last + 1) + 1 } else { kept_next };
        let (file, pending) = (Some(file), Pending::new(next));
        Ok(Self { capture, file, history, about, next, pending, owes_jump, total, error })
    }

    /// Whether [`jump`](Self::jump) is due.
    pub fn owes_jump(&self) -> bool {
        self.owes_jump
    }

    /// What keeps entries from being written, as long as it does.
    pub fn error(&self) -> Option<&ChangelogError> {
        self.error.as_ref()
    }

    /// Whether a changelog file is written, and so its numbers counted.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The history of changes, where one is kept.
    pub fn history_mut(&mut self) -> Option<&mut History> {
        self.history.as_mut()
    }

    /// What keeps the history from being written, as long as it does.
    pub fn history_error(&self) -> Option<&HistoryError> {
        self.history.as_ref().and_then(History::error)
    }

    /// A transaction begins.
    pub fn begin(&mut self) {
        self.pending.restart(self.next);
        self.capture.begin();
        if let Some(history) = &mut self.history {
            history.begin();
        }
    }

    /// The transaction that began was rolled back.
    pub fn rolled_back(&mut self) {
        // Tables may have come and gone with it.
        self.capture.forget_tables();
        self.begin();
    }

    /// A statement is about to run.
    pub fn before(&mut self, connection: &Connection, statement: &Statement<'_>) -> rusqlite::Result<()> {
        if self.history.is_some() {
            self.about = About::of(statement);
        }
        self.capture.before(connection, statement)
    }

    /// The statement has run, with success, as ledger row `ledger_seq`.
    pub fn after(&mut self, connection: &Connection, ledger_seq: Seq) -> rusqlite::Result<()> {
        let changes = self.capture.after(connection)?;
        if let Some(history) = &mut self.history {
            self.about.enter(connection, history, changes, ledger_seq)?;
        }
        if self.file.is_none() {
            return Ok(());
        }
        if changes.jump {
            self.pending.jump();
        }
        for entry in changes.entries() {
            self.pending.push(entry, ledger_seq);
        }
        Ok(())
    }

    /// The transaction, which began with the LDB at `from`, is about to commit at `to`.
    pub fn prepare(&mut self, from: Seq, to: Seq) {
        if let Some(history) = &mut self.history {
            history.prepare(from, to);
        }
    }

    /// Enters one row behind the jump that is owed, so that followers start over. To
    /// be committed like any other transaction.
    pub fn jump(&mut self, connection: &Connection, ledger_seq: Seq) -> rusqlite::Result<()> {
        let entry = entry::of_any_row(connection)?;
        self.pending.push(&entry, ledger_seq);
        Ok(())
    }

    /// Whether the file can be opened now, so that a jump is worth a transaction.
    pub fn can_open(&mut self) -> bool {
        let Some(file) = &mut self.file else { return false };
        match file.open() {
            Ok(_) => true,
            Err(error) => {
                self.error = Some(error);
                false
            }
        }
    }

    /// What was written since the changelog was opened.
    pub fn total(&self) -> ChangelogCounts {
        self.total
    }

    /// The next number, to be kept in the LDB within the transaction.
    pub fn next_number(&self) -> u64 {
        self.pending.next()
    }

    /// The transaction is committed: writes its entries. Where that fails, the error
    /// is kept and the numbering has jumped by as much as is missing.
    pub fn committed(&mut self) -> ChangelogCounts {
        if let Some(history) = &mut self.history {
            history.commit();
        }
        let Some(file) = &mut self.file else { return ChangelogCounts::default() };
        let pending = std::mem::replace(&mut self.pending, Pending::new(0));
        self.next = pending.next();
        self.pending = Pending::new(self.next);
        if pending.lines().is_empty() {
            return ChangelogCounts::default();
        }
        let jumps = pending.jumps() + u64::from(self.owes_jump);
        let written = match file.append(pending.lines()) {
            Ok(rotations) => {
                self.owes_jump = false;
                self.error = None;
                ChangelogCounts { entries: pending.entries(), jumps, lost: 0, rotations }
            }
            Err(error) => {
                self.owes_jump = true;
                self.error = Some(error);
                ChangelogCounts { lost: pending.entries(), ..ChangelogCounts::default() }
            }
        };
        self.total.entries += written.entries;
        self.total.jumps += written.jumps;
        self.total.lost += written.lost;
        self.total.rotations += written.rotations;
        // For the memory of its lines.
        self.pending = pending;
        self.pending.restart(self.next);
        written
    }
}

impl About {
    fn of(statement: &Statement<'_>) -> Self {
        let table = || statement.table().unwrap_or_default().to_owned();
        match statement {
            Statement::Upsert(_) => Self::Row(Some(Op::Upsert)),
            Statement::Delete(_) => Self::Row(Some(Op::Delete)),
            Statement::Clear { .. } => Self::Table(TableChange::Cleared, table()),
            Statement::DropTable { .. } => Self::Table(TableChange::Dropped, table()),
            Statement::AddColumn { .. } => Self::Table(TableChange::Altered, table()),
            _ => Self::Anything,
        }
    }

    /// Enters what the statement changed into the history.
    fn enter(
        &self,
        connection: &Connection,
        history: &mut History,
        changes: &changes::ChangedRows,
        ledger_seq: Seq,
    ) -> rusqlite::Result<()> {
        match self {
            Self::Table(change, name) => {
                let table = name.split_once(entry::SEPARATOR).unwrap_or(("", name));
                // A trigger, which only a statement of no known form can make, may have
                // changed rows of other tables on the way.
                match entry::has_triggers(connection)? {
                    true => history.unknown(ledger_seq),
                    false => history.table(*change, table, ledger_seq),
                }
            }
            Self::Row(_) | Self::Anything if changes.jump => history.unknown(ledger_seq),
            Self::Row(op) => {
                // More than one row, and the statement's own is not told from the others.
                let op = op.filter(|_| changes.len() == 1);
                changes.entries().for_each(|entry| history.row(op, entry, ledger_seq));
            }
            Self::Anything => changes.entries().for_each(|entry| history.row(None, entry, ledger_seq)),
        }
        Ok(())
    }
}
