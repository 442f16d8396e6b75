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
mod direct;
mod entry;
mod file;
mod pending;
mod tail;

use std::path::PathBuf;

use rusqlite::Connection;

use crate::ledger::Seq;
use crate::sql::Statement;

use capture::Capture;
use file::ChangelogFile;
use pending::Pending;

/// Rows that one statement may change and still have them named.
pub const MAX_ROWS_PER_STATEMENT: usize = 10_000;

/// Where the changelog goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangelogOptions {
    pub path: PathBuf,
    /// The size, in bytes, that the file does not pass. 0 switches the changelog off.
    pub max_bytes: u64,
}

/// The numbering as it is kept in the LDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
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
pub struct Written {
    /// Entries that are in the file now.
    pub entries: u64,
    /// Places where the numbering jumps, for followers to start over.
    pub jumps: u64,
    /// Entries that could not be written; a jump takes their place.
    pub lost: u64,
    /// Times that a new file took the path.
    pub rotations: u64,
}

/// The changelog of one LDB, on the connection that writes it.
#[derive(Debug)]
pub struct Changelog {
    capture: Capture,
    file: ChangelogFile,
    /// The next entry's number, as of the last commit.
    next: u64,
    pending: Pending,
    /// Whether followers are still to be told that they missed something. If so,
    /// `next` is not the number behind the file's last one.
    owes_jump: bool,
    total: Written,
    error: Option<ChangelogError>,
}

impl Changelog {
    /// Looks at the file that is there and at the numbering that the LDB holds. Where
    /// the two do not belong together, or `here` says that rows have changed since,
    /// [`owes_jump`](Self::owes_jump) is true afterwards.
    pub fn open(
        connection: &Connection,
        options: &ChangelogOptions,
        kept: Option<&Numbering>,
        here: (Seq, &str),
    ) -> rusqlite::Result<Self> {
        let capture = Capture::install(connection)?;
        let mut file = ChangelogFile::new(options.path.clone(), options.max_bytes);
        let (tail, error) = match file.open() {
            Ok(tail) => (tail, None),
            Err(error) => (tail::Tail::default(), Some(error)),
        };
        let kept_next = kept.map_or(1, |kept| kept.next);
        let last = tail.last.unwrap_or(0);
        let is_first = kept.is_none() && tail.last.is_none() && here.0 == Seq::ZERO;
        let belongs = kept.is_some_and(|kept| (kept.ledger_seq, kept.ldb_file.as_str()) == here);
        // The first line ever has number 1, so an empty file also belongs to that.
        let is_complete = belongs && !tail.torn && last + 1 == kept_next;
        let owes_jump = error.is_some() || !(is_first || is_complete);
        let next = if owes_jump { kept_next.max(last + 1) + 1 } else { kept_next };
        Ok(Self { capture, file, next, pending: Pending::new(next), owes_jump, total: Written::default(), error })
    }

    /// Whether [`jump`](Self::jump) is due.
    pub fn owes_jump(&self) -> bool {
        self.owes_jump
    }

    /// What keeps entries from being written, as long as it does.
    pub fn error(&self) -> Option<&ChangelogError> {
        self.error.as_ref()
    }

    /// A transaction begins.
    pub fn begin(&mut self) {
        self.pending.restart(self.next);
        self.capture.begin();
    }

    /// The transaction that began was rolled back.
    pub fn rolled_back(&mut self) {
        // Tables may have come and gone with it.
        self.capture.forget_tables();
        self.begin();
    }

    /// A statement is about to run.
    pub fn before(&mut self, connection: &Connection, statement: &Statement<'_>) -> rusqlite::Result<()> {
        self.capture.before(connection, statement)
    }

    /// The statement has run, with success, as ledger row `ledger_seq`.
    pub fn after(&mut self, connection: &Connection, ledger_seq: Seq) -> rusqlite::Result<()> {
        let changes = self.capture.after(connection)?;
        if changes.jump {
            self.pending.jump();
        }
        for entry in changes.entries() {
            self.pending.push(entry, ledger_seq);
        }
        Ok(())
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
        match self.file.open() {
            Ok(_) => true,
            Err(error) => {
                self.error = Some(error);
                false
            }
        }
    }

    /// What was written since the changelog was opened.
    pub fn total(&self) -> Written {
        self.total
    }

    /// The next number, to be kept in the LDB within the transaction.
    pub fn next_number(&self) -> u64 {
        self.pending.next()
    }

    /// The transaction is committed: writes its entries. Where that fails, the error
    /// is kept and the numbering has jumped by as much as is missing.
    pub fn committed(&mut self) -> Written {
        let pending = std::mem::replace(&mut self.pending, Pending::new(0));
        self.next = pending.next();
        self.begin();
        if pending.lines().is_empty() {
            return Written::default();
        }
        let jumps = pending.jumps() + u64::from(self.owes_jump);
        let written = match self.file.append(pending.lines()) {
            Ok(rotations) => {
                self.owes_jump = false;
                self.error = None;
                Written { entries: pending.entries(), jumps, lost: 0, rotations }
            }
            Err(error) => {
                self.owes_jump = true;
                self.error = Some(error);
                Written { lost: pending.entries(), ..Written::default() }
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
