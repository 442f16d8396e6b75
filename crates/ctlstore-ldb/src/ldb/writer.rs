//! The applier's handle on the LDB: opened once, by one process, and used by one
//! thread. How it applies batches stands in `apply`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::limits::Limit;

use crate::changelog::history::{DiffError, History, HistoryError, HistoryOptions};
use crate::changelog::{Changelog, ChangelogCounts, ChangelogError, ChangelogOptions, Numbering};
use ctlstore_core::disk::{FILE_MODE, FileId, ProcessLock, beside, create_anew};
use ctlstore_core::ledger::{LdbPosition, Seq};

use super::bookkeeping;
use super::checkpoint::{Checkpoint, Checkpointer};
use super::claim::ClaimedLdb;
use super::connection::{self, in_transaction};
use super::error::LdbError;
use super::integrity::{Inspector, IntegrityCheck, IntegrityVerdict};
use super::seq_file::SeqFile;
use super::statement_authorizer::{StatementAuthorizer, StatementLimits};
use super::statement_watch::StatementWatch;

const COPY: &str = "VACUUM INTO ?";

/// How an LDB is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdbOptions {
    /// The size of the WAL, in bytes, from which on it is checkpointed.
    pub wal_checkpoint_bytes: u64,
    /// Where the changelog goes; `None`, or a maximum of 0 bytes, for nowhere.
    pub changelog: Option<ChangelogOptions>,
    /// Where the history of changes is kept; `None`, or 0 bytes, for nowhere.
    pub history: Option<HistoryOptions>,
}

/// The LDB as its one writer has it open.
#[derive(Debug)]
pub struct Ldb {
    /// The path that was asked for, which may be a link.
    pub(super) path: PathBuf,
    /// The database file that it led to, and its WAL.
    file: PathBuf,
    file_id: FileId,
    wal: PathBuf,
    wal_id: Option<FileId>,
    pub(super) connection: Connection,
    pub(super) guard: StatementAuthorizer,
    pub(super) changelog: Option<Changelog>,
    seq_file: SeqFile,
    seq_file_error: Option<LdbError>,
    checkpointer: Checkpointer,
    inspector: Inspector,
    /// The applier's lock is held until this handle and the home that it came from are gone.
    _lock: Arc<ProcessLock>,
}

impl Ldb {
    /// Opens the LDB at `path`, or makes an empty one. Takes over a file of another
    /// program, and finds what a crash left.
    ///
    /// # Errors
    /// When another applier has it, it lies on a network filesystem, it was written
    /// by a newer program, or the filesystem or SQLite fails.
    pub fn open(path: &Path, options: &LdbOptions) -> Result<Self, LdbError> {
        ClaimedLdb::claim(path)?.open(options)
    }

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
            inspector: Inspector::new(&file),
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
        let (seq, here) = (position.seq, self.numbering_id());
        let history = history.map(|options| History::open(options, seq, position.ledger_id.as_deref()));
        let changelog =
            Changelog::open(&self.connection, options, kept.as_ref(), (seq, &here), history).map_err(failed)?;
        let owes_jump = changelog.owes_jump();
        self.changelog = Some(changelog);
        match (owes_jump, kept) {
            // A full disk is no reason to stay closed; `maintain` tries again.
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

    /// Names the database file, in a way that a copy of it does not share.
    fn numbering_id(&self) -> String {
        format!("{}:{}", self.file_id.device, self.file_id.inode)
    }

    /// How far the LDB has come, and in which ledger.
    pub fn position(&self) -> Result<LdbPosition, LdbError> {
        bookkeeping::position(&self.connection)
            .map_err(|error| LdbError::sqlite(&self.path, "reading its position", &error))
    }

    /// The names of triggers in it, a few of them. No ledger makes any, and they are off.
    pub fn triggers(&self) -> Result<Vec<String>, LdbError> {
        bookkeeping::triggers(&self.connection)
            .map_err(|error| LdbError::sqlite(&self.path, "looking for triggers", &error))
    }

    /// From now on the LDB follows the ledger `id` and no other.
    ///
    /// # Errors
    /// [`LdbError::OtherLedger`] when it follows another one already.
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

    /// Another LDB, at `fresh`, is about to take the place of this one: enters into the
    /// history what it has in another way. Nothing is to be applied to this one any
    /// more, unless it keeps its place.
    pub fn bridge(&mut self, fresh: &Path) -> Result<(), DiffError> {
        match self.changelog.as_mut().and_then(Changelog::history_mut) {
            Some(history) => history.bridge(&self.file, fresh),
            None => Ok(()),
        }
    }

    /// What reads the whole file, on whichever thread, through another connection: this one
    /// may know by heart what is damaged on the disk.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`] where damage was found before; those of [`maintain`](Self::maintain).
    pub fn look(&mut self) -> Result<IntegrityCheck, LdbError> {
        self.check_present()?;
        self.inspector.look(&self.file, self.file_id)
    }

    /// What a look has found, which counts where it was at the file that is open.
    ///
    /// # Errors
    /// Those that the look has found; [`LdbError::Corrupt`] stays.
    pub fn record_check(
        &mut self,
        look: &IntegrityCheck,
        outcome: Result<(), LdbError>,
    ) -> Result<IntegrityVerdict, LdbError> {
        if !look.is_at(self.file_id) {
            return Ok(IntegrityVerdict::NotLooked);
        }
        self.inspector.keep(outcome).map(|()| IntegrityVerdict::Sound)
    }

    /// Writes the LDB anew to `path`, from what this connection has of it. That is all of
    /// it also where the -wal is gone, since the connection still has that open.
    pub fn copy_to(&self, path: &Path) -> Result<(), LdbError> {
        const ACTION: &str = "writing the ldb anew";
        // SQL text can't hold any other, and what is nearly its name is another place.
        let Some(name) = path.to_str() else {
            return Err(LdbError::io(
                path,
                ACTION,
                io::Error::new(ErrorKind::InvalidFilename, "its name is not utf-8"),
            ));
        };
        let failed = |error: rusqlite::Error| LdbError::sqlite(path, ACTION, &error);
        // SQLite takes a file without a byte, and would make one that everyone can read.
        create_anew(path, FILE_MODE).map_err(|error| LdbError::io(path, ACTION, error))?;
        let copy = || {
            // It goes through an attached database, which statements of the ledger may not have.
            let limit = self.connection.limit(Limit::SQLITE_LIMIT_ATTACHED)?;
            self.connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)?;
            let copied = self.connection.execute(COPY, [name]);
            self.connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, limit).and(copied.map(drop))
        };
        copy().map_err(failed)
    }

    /// What is to be done between batches and while there are none: sees whether the
    /// files are still there and whole, tells followers of the changelog what they are
    /// owed, and checkpoints a WAL that has grown. `None` when there was nothing to checkpoint.
    pub fn maintain(&mut self) -> Result<Option<Checkpoint>, LdbError> {
        self.check_present()?;
        self.inspector.check_header(&self.file)?;
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

    /// The number of the next changelog entry, `None` where no changelog is written.
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

    /// What keeps changelog entries from being written, as long as it does.
    pub fn changelog_error(&self) -> Option<&ChangelogError> {
        self.changelog.as_ref().and_then(Changelog::error)
    }

    /// What keeps the history of changes from being written, as long as it does.
    pub fn history_error(&self) -> Option<&HistoryError> {
        self.changelog.as_ref().and_then(Changelog::history_error)
    }

    /// What keeps the seq file from being touched, as long as it does.
    pub fn seq_file_error(&self) -> Option<&LdbError> {
        self.seq_file_error.as_ref()
    }

    /// What was written to the changelog since the LDB was opened.
    pub fn changelog_total(&self) -> ChangelogCounts {
        self.changelog.as_ref().map(Changelog::total).unwrap_or_default()
    }

    /// Checkpoints what can be, and closes the file. The lock is let go of.
    pub fn close(mut self) -> Result<(), LdbError> {
        let failed = |error: &rusqlite::Error| LdbError::sqlite(&self.path, "closing it", error);
        self.checkpointer.finish(&self.connection).map_err(|error| failed(&error))?;
        self.connection.close().map_err(|(_, error)| LdbError::sqlite(&self.path, "closing it", &error))
    }

    /// Fails when the database or its WAL is no longer the file that is open: what is
    /// committed then would never be seen by anyone, or be lost at the next start.
    pub(super) fn check_present(&self) -> Result<(), LdbError> {
        if id_of(&self.path)? != Some(self.file_id) {
            return Err(LdbError::Removed { path: self.path.clone() });
        }
        if id_of(&self.wal)? != self.wal_id {
            return Err(LdbError::WalRemoved { path: self.wal.clone() });
        }
        Ok(())
    }

    /// Wakes those who wait for a commit. Where that fails they look by themselves,
    /// only later.
    pub(super) fn touch(&mut self, seq: Seq) {
        let touched = self.seq_file.touch(seq);
        let error = touched.map_err(|error| LdbError::io(self.seq_file.path(), "touching it", error));
        self.seq_file_error = error.err();
    }
}

fn id_of(path: &Path) -> Result<Option<FileId>, LdbError> {
    FileId::of(path).map_err(|error| LdbError::io(path, "looking for it", error))
}
