//! Writes the changelog of one LDB: numbers the entries, keeps those of the open transaction,
//! and appends them to the file after its commit. Entry point: [`Changelog`]. The caller says
//! when a transaction begins and ends, and stores the numbering in it.

use std::ops::Add;

use rusqlite::Connection;

use ctlstore_core::ledger::Seq;
use ctlstore_core::sql::Statement;

use super::capture::Capture;
use super::entry;
use super::file::{ChangelogError, ChangelogFile, ChangelogOptions};
use super::history::{History, HistoryError};
use super::numbering::{Numbering, Resumed, resume};
use super::pending::PendingEntries;
use super::statement_scope::StatementScope;

/// The numbers of what a transaction added to the changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangelogCounts {
    /// Entries that were written.
    pub entries: u64,
    /// Places at which the numbering jumps, so that followers start over.
    pub jumps: u64,
    /// Entries that could not be written. A jump takes their place.
    pub lost: u64,
    /// Times that a new file took the path.
    pub rotations: u64,
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
pub struct Changelog {
    capture: Capture,
    /// `None` if only the history is written.
    file: Option<ChangelogFile>,
    history: Option<History>,
    /// The scope of the statement that runs.
    scope: StatementScope,
    /// The number of the next entry, as of the last commit.
    next: u64,
    pending: PendingEntries,
    /// Whether followers are still to be told that they missed something. While they are,
    /// `next` does not follow the last number in the file.
    owes_jump: bool,
    total: ChangelogCounts,
    error: Option<ChangelogError>,
}

impl Changelog {
    /// Reads the end of the file and compares it with the numbering that the LDB keeps. If the
    /// two do not belong together, or if rows changed since (`here` is the LDB's seq and
    /// file), [`owes_jump`](Self::owes_jump) is true afterwards.
    pub fn open(
        connection: &Connection,
        options: Option<&ChangelogOptions>,
        stored: Option<&Numbering>,
        here: (Seq, &str),
        history: Option<History>,
    ) -> rusqlite::Result<Self> {
        let mut file = options.map(|options| ChangelogFile::new(options.path.clone(), options.max_bytes));
        let mut error = None;
        let resumed = match &mut file {
            None => Resumed { next: stored.map_or(1, |stored| stored.next), owes_jump: false },
            Some(file) => {
                let tail = match file.open() {
                    Ok(tail) => Some(tail),
                    Err(failed) => {
                        error = Some(failed);
                        None
                    }
                };
                resume(stored, tail, here.0, here.1)
            }
        };
        Ok(Self {
            capture: Capture::install(connection)?,
            pending: PendingEntries::new(if file.is_some() { resumed.next } else { 0 }),
            file,
            history,
            scope: StatementScope::default(),
            next: resumed.next,
            owes_jump: resumed.owes_jump,
            total: ChangelogCounts::default(),
            error,
        })
    }

    /// Whether [`jump`](Self::jump) is due.
    pub fn owes_jump(&self) -> bool {
        self.owes_jump
    }

    /// Why entries can't be written at present.
    pub fn error(&self) -> Option<&ChangelogError> {
        self.error.as_ref()
    }

    /// Whether a changelog file is written, and so its entries numbered.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The history of changes, if one is kept.
    pub fn history_mut(&mut self) -> Option<&mut History> {
        self.history.as_mut()
    }

    /// Why the history can't be written at present.
    pub fn history_error(&self) -> Option<&HistoryError> {
        self.history.as_ref().and_then(History::error)
    }

    /// Begins a transaction.
    pub fn begin(&mut self) {
        self.pending.restart(self.next);
        self.capture.begin();
        if let Some(history) = &mut self.history {
            history.begin();
        }
    }

    /// Forgets the transaction, which was rolled back.
    pub fn rolled_back(&mut self) {
        // The tables that it made or dropped are as before.
        self.capture.forget_tables();
        self.begin();
    }

    /// Prepares for a statement that is about to run.
    pub fn before(&mut self, connection: &Connection, statement: &Statement<'_>) -> rusqlite::Result<()> {
        if self.history.is_some() {
            self.scope = StatementScope::of(statement);
        }
        self.capture.before(connection, statement)
    }

    /// Takes over the changes of the statement, which has run with success as ledger row `ledger_seq`.
    pub fn after(&mut self, connection: &Connection, ledger_seq: Seq) -> rusqlite::Result<()> {
        let changes = self.capture.after(connection)?;
        if let Some(history) = &mut self.history {
            self.scope.enter(connection, history, changes, ledger_seq)?;
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

    /// Prepares for the commit of the transaction, which brings the LDB from `from` to `to`.
    pub fn prepare(&mut self, from: Seq, to: Seq) {
        if let Some(history) = &mut self.history {
            history.prepare(from, to);
        }
    }

    /// Enters one row after the jump that is owed, so that followers start over. The caller
    /// commits it like any other transaction.
    pub fn jump(&mut self, connection: &Connection, ledger_seq: Seq) -> rusqlite::Result<()> {
        let entry = entry::of_any_row(connection)?;
        self.pending.push(&entry, ledger_seq);
        Ok(())
    }

    /// Enters a jump and one row after it in the transaction that is open, because many rows change at once that the
    /// file does not name.
    pub fn jump_over(&mut self, connection: &Connection, ledger_seq: Seq) -> rusqlite::Result<()> {
        if self.has_file() {
            self.pending.jump();
            self.jump(connection, ledger_seq)?;
        }
        Ok(())
    }

    /// Whether the file can be opened now. If not, a jump is not worth a transaction.
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

    /// The counts since the changelog was opened.
    pub fn total(&self) -> ChangelogCounts {
        self.total
    }

    /// The number of the next entry. The caller stores it in the LDB within the transaction.
    pub fn next_number(&self) -> u64 {
        self.pending.next()
    }

    /// Writes the entries of the transaction, which is committed. If that fails, the error is
    /// kept, and the numbering has jumped over the missing entries.
    pub fn committed(&mut self) -> ChangelogCounts {
        if let Some(history) = &mut self.history {
            history.commit();
        }
        let Some(file) = &mut self.file else { return ChangelogCounts::default() };
        let pending = std::mem::replace(&mut self.pending, PendingEntries::new(0));
        self.next = pending.next();
        self.pending = PendingEntries::new(self.next);
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
        // Taken back to reuse the memory of its lines.
        self.pending = pending;
        self.pending.restart(self.next);
        written
    }
}
