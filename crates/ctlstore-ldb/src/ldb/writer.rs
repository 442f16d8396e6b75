//! The applier's handle on the open LDB: one process opens it, and one thread uses it. Entry
//! point: [`Ldb`]. How it applies batches is in `apply`, how it is opened in `claim`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::limits::Limit;

use ctlstore_core::disk::{FileId, ProcessLock, beside, create_anew, file_mode};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_reader::read::Rotation;

use crate::changelog::history::{DiffError, History, HistoryError, HistoryOptions, enter_difference};
use crate::changelog::{Changelog, ChangelogCounts, ChangelogError, ChangelogOptions, Numbering};

use super::bookkeeping;
use super::checkpoint::{Checkpoint, Checkpointer};
use super::connection::{self, in_transaction};
use super::error::LdbError;
use super::integrity::{IntegrityCheck, IntegrityMonitor, IntegrityVerdict};
use super::seq_file::SeqFile;
use super::statement_authorizer::{StatementAuthorizer, StatementLimits};
use super::statement_watch::StatementWatch;

const COPY: &str = "VACUUM INTO ?";

/// How an LDB is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdbOptions {
    /// The size of the WAL, in bytes, from which on it is checkpointed.
    pub wal_checkpoint_bytes: u64,
    /// Where the changelog goes. With `None`, or a maximum of 0 bytes, none is written.
    pub changelog: Option<ChangelogOptions>,
    /// Where the history of changes is kept. With `None`, or 0 bytes, none is kept.
    pub history: Option<HistoryOptions>,
}

/// The LDB, as its one writer has it open.
#[derive(Debug)]
pub struct Ldb {
    /// The path that was asked for, which may be a link.
    pub(super) path: PathBuf,
    /// The database file that the path led to, and its WAL.
    file: PathBuf,
    file_id: FileId,
    wal: PathBuf,
    wal_id: Option<FileId>,
    pub(super) connection: Connection,
    pub(super) guard: StatementAuthorizer,
    pub(super) changelog: Option<Changelog>,
    seq_file: SeqFile,
    seq_file_error: Option<LdbError>,
    pub(super) checkpointer: Checkpointer,
    integrity: IntegrityMonitor,
    /// The applier's lock is held until this value and the claim that opened it are gone.
    _lock: Arc<ProcessLock>,
}

impl Ldb {
    /// Opens the database at `file`, which `path` leads to.
    pub(super) fn at(
        path: &Path,
        file: PathBuf,
        options: &LdbOptions,
        lock: Arc<ProcessLock>,
        (limits, watch): (StatementLimits, Arc<StatementWatch>),
    ) -> Result<Self, LdbError> {
        let mut connection = connection::open(&file)?;
        let guard = StatementAuthorizer::install(&mut connection, limits, watch)
            .map_err(|error| LdbError::sqlite(path, "opening it", &error))?;
        let removed = || LdbError::Removed { path: path.to_owned() };
        let file_id = id_of(&file)?.ok_or_else(removed)?;
        let wal = beside(&file, "-wal");
        let mut ldb = Self {
            path: path.to_owned(),
            file_id,
            wal_id: id_of(&wal)?,
            wal,
            connection,
            guard,
            changelog: None,
            seq_file: SeqFile::beside(path),
            seq_file_error: None,
            checkpointer: Checkpointer::new(options.wal_checkpoint_bytes),
            integrity: IntegrityMonitor::new(&file),
            file,
            _lock: lock,
        };
        let changelog = options.changelog.as_ref().filter(|options| options.max_bytes > 0);
        let history = options.history.as_ref().filter(|options| options.retain_bytes > 0);
        if changelog.is_some() || history.is_some() {
            ldb.open_changelog(changelog, history)?;
        }
        let seq = ldb.position()?.seq;
        ldb.touch(seq);
        Ok(ldb)
    }

    fn open_changelog(
        &mut self,
        options: Option<&ChangelogOptions>,
        history: Option<&HistoryOptions>,
    ) -> Result<(), LdbError> {
        let failed = |error: rusqlite::Error| LdbError::sqlite(&self.path, "opening its changelog", &error);
        let kept = bookkeeping::numbering(&self.connection).map_err(failed)?;
        let position = bookkeeping::position(&self.connection).map_err(failed)?;
        let seq = position.seq;
        let here = self.numbering_id();
        let history = history.map(|options| History::open(options, seq, position.ledger_id.as_deref()));
        let changelog =
            Changelog::open(&self.connection, options, kept.as_ref(), (seq, &here), history).map_err(failed)?;
        let owes_jump = changelog.owes_jump();
        self.changelog = Some(changelog);
        match (owes_jump, kept) {
            // A full disk is no reason not to open the LDB. `maintain` tries again.
            (true, _) => match self.jump() {
                Err(error) if error.may_pass() => Ok(()),
                result => result,
            },
            // From now on the numbering belongs to this file.
            (false, None) if options.is_some() => self.keep_numbering(seq),
            (false, _) => Ok(()),
        }
    }

    /// Tells followers of the changelog to start over.
    fn jump(&mut self) -> Result<(), LdbError> {
        let failed = |error: rusqlite::Error| LdbError::sqlite(&self.path, "numbering its changelog", &error);
        let seq = bookkeeping::seq(&self.connection).map_err(failed)?;
        let Some(changelog) = &mut self.changelog else { return Ok(()) };
        if !changelog.can_open() {
            return Ok(());
        }
        changelog.begin();
        changelog.jump(&self.connection, seq).map_err(failed)?;
        self.keep_numbering(seq)?;
        if let Some(changelog) = &mut self.changelog {
            changelog.committed();
        }
        Ok(())
    }

    fn keep_numbering(&self, ledger_seq: Seq) -> Result<(), LdbError> {
        let Some(changelog) = &self.changelog else { return Ok(()) };
        let numbering = Numbering { next: changelog.next_number(), ledger_seq, ldb_file: self.numbering_id() };
        in_transaction(&self.connection, |connection| bookkeeping::set_numbering(connection, &numbering))
            .map_err(|error| LdbError::sqlite(&self.path, "numbering its changelog", &error))
    }

    /// Names the database file. A copy of the file has another name.
    fn numbering_id(&self) -> String {
        format!("{}:{}", self.file_id.device, self.file_id.inode)
    }

    /// How far the LDB is, and in which ledger.
    pub fn position(&self) -> Result<LdbPosition, LdbError> {
        bookkeeping::position(&self.connection)
            .map_err(|error| LdbError::sqlite(&self.path, "reading its position", &error))
    }

    /// The names of a few triggers in it. No ledger makes any, and they are switched off.
    pub fn triggers(&self) -> Result<Vec<String>, LdbError> {
        bookkeeping::triggers(&self.connection)
            .map_err(|error| LdbError::sqlite(&self.path, "looking for triggers", &error))
    }

    /// Makes the LDB follow the ledger `id` and no other from now on.
    ///
    /// # Errors
    /// [`LdbError::OtherLedger`] if it follows another one already.
    pub fn adopt_ledger_id(&mut self, id: &str) -> Result<(), LdbError> {
        match self.position()?.ledger_id {
            Some(ldb) if ldb == id => Ok(()),
            Some(ldb) => Err(LdbError::OtherLedger { path: self.path.clone(), ldb, other: id.to_owned() }),
            None => {
                in_transaction(&self.connection, |connection| bookkeeping::set_ledger_id(connection, id))
                    .map_err(|error| LdbError::sqlite(&self.path, "naming its ledger", &error))?;
                if let Some(history) = self.changelog.as_mut().and_then(Changelog::history_mut) {
                    history.adopt(id);
                }
                Ok(())
            }
        }
    }

    /// Enters what differs in the LDB at `fresh`, which is about to replace this one, into the
    /// history. No batch may be applied to this LDB after that, unless it keeps its place. Then the
    /// entries are taken back.
    pub fn bridge(&mut self, fresh: &Path) -> Result<(), DiffError> {
        match self.changelog.as_mut().and_then(Changelog::history_mut) {
            Some(history) => enter_difference(history, &self.file, fresh),
            None => Ok(()),
        }
    }

    /// Begins a check of the whole file, which any thread may run. It uses another connection,
    /// because this one may have pages in its cache that are damaged on the disk.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`] if corruption was found before; those of [`maintain`](Self::maintain).
    pub fn begin_integrity_check(&mut self) -> Result<IntegrityCheck, LdbError> {
        self.check_present()?;
        self.integrity.begin_check(&self.file, self.file_id)
    }

    /// Records the outcome of a check. It counts only if the check was of the file that is open.
    ///
    /// # Errors
    /// Those of the check. [`LdbError::Corrupt`] stays.
    pub fn record_check(
        &mut self,
        check: &IntegrityCheck,
        outcome: Result<(), LdbError>,
    ) -> Result<IntegrityVerdict, LdbError> {
        if !check.is_at(self.file_id) {
            return Ok(IntegrityVerdict::NotChecked);
        }
        self.integrity.record(outcome).map(|()| IntegrityVerdict::Sound)
    }

    /// Writes the LDB anew to `path`, from what this connection has of it. If the -wal is gone, that
    /// is still all of it, because the connection has the -wal open.
    pub fn copy_to(&self, path: &Path) -> Result<(), LdbError> {
        const ACTION: &str = "writing the ldb anew";
        // SQL text is UTF-8, and a name that is nearly the path is another place.
        let Some(name) = path.to_str() else {
            return Err(LdbError::io(
                path,
                ACTION,
                io::Error::new(ErrorKind::InvalidFilename, "its name is not utf-8"),
            ));
        };
        let failed = |error: rusqlite::Error| LdbError::sqlite(path, ACTION, &error);
        // SQLite takes an empty file. It would make one that everyone can read.
        create_anew(path, file_mode()).map_err(|error| LdbError::io(path, ACTION, error))?;
        let copy = || {
            // VACUUM INTO attaches a database, which statements of the ledger may not do.
            let limit = self.connection.limit(Limit::SQLITE_LIMIT_ATTACHED)?;
            self.connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)?;
            let copied = self.connection.execute(COPY, [name]);
            self.connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, limit).and(copied.map(drop))
        };
        copy().map_err(failed)
    }

    /// Tells the LDB that readers read several LDBs in turn. Its WAL is emptied during the turn of another one.
    pub fn rest_by(&mut self, rotation: Rotation) {
        self.checkpointer.rest_by(rotation, &self.path);
    }

    /// Does the work that is due between batches and while there are none. It checks whether the
    /// files are there and whole, writes the jump or resync that followers are owed, and
    /// checkpoints a WAL that has grown. `None` if there was nothing to checkpoint.
    pub fn maintain(&mut self) -> Result<Option<Checkpoint>, LdbError> {
        self.check_present()?;
        self.integrity.check_header(&self.file)?;
        if self.changelog.as_ref().is_some_and(Changelog::owes_jump) {
            self.jump()?;
        }
        if let Some(history) = self.changelog.as_mut().and_then(Changelog::history_mut) {
            history.settle();
        }
        let checkpoint = self.checkpointer.run(&self.connection, &self.wal);
        checkpoint.map_err(|error| LdbError::sqlite(&self.path, "checkpointing it", &error))
    }

    /// The size of the WAL file, in bytes.
    pub fn wal_bytes(&self) -> u64 {
        std::fs::metadata(&self.wal).map_or(0, |metadata| metadata.len())
    }

    /// The number of the next changelog entry; `None` if no changelog is written.
    pub fn next_changelog_number(&self) -> Option<u64> {
        self.changelog.as_ref().map(Changelog::next_number)
    }

    /// The path that the LDB was opened at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database file that the path leads to.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Why changelog entries can't be written at present.
    pub fn changelog_error(&self) -> Option<&ChangelogError> {
        self.changelog.as_ref().and_then(Changelog::error)
    }

    /// Why the history of changes can't be written at present.
    pub fn history_error(&self) -> Option<&HistoryError> {
        self.changelog.as_ref().and_then(Changelog::history_error)
    }

    /// Why the seq file can't be written at present.
    pub fn seq_file_error(&self) -> Option<&LdbError> {
        self.seq_file_error.as_ref()
    }

    /// The counts of the changelog since the LDB was opened.
    pub fn changelog_total(&self) -> ChangelogCounts {
        self.changelog.as_ref().map(Changelog::total).unwrap_or_default()
    }

    /// Checkpoints what can be checkpointed, closes the file, and releases the lock.
    pub fn close(mut self) -> Result<(), LdbError> {
        let failed = |error: &rusqlite::Error| LdbError::sqlite(&self.path, "closing it", error);
        self.checkpointer.finish(&self.connection).map_err(|error| failed(&error))?;
        self.connection.close().map_err(|(_, error)| LdbError::sqlite(&self.path, "closing it", &error))
    }

    /// Fails if the database or its WAL is no longer the file that is open. Commits to it would
    /// never be seen, or be lost at the next start.
    pub(super) fn check_present(&self) -> Result<(), LdbError> {
        if id_of(&self.path)? != Some(self.file_id) {
            return Err(LdbError::Removed { path: self.path.clone() });
        }
        if id_of(&self.wal)? != self.wal_id {
            return Err(LdbError::WalRemoved { path: self.wal.clone() });
        }
        Ok(())
    }

    /// Wakes processes that wait for a commit. If that fails, they find the commit later without it.
    pub(super) fn touch(&mut self, seq: Seq) {
        let touched = self.seq_file.touch(seq);
        let error = touched.map_err(|error| LdbError::io(self.seq_file.path(), "touching it", error));
        self.seq_file_error = error.err();
    }
}

fn id_of(path: &Path) -> Result<Option<FileId>, LdbError> {
    FileId::of(path).map_err(|error| LdbError::io(path, "looking for it", error))
}
