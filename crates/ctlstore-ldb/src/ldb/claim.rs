//! The place of an LDB: its path, claimed for one process. The claim outlives the
//! files, so that an LDB can be replaced by a fetched one without anyone else getting
//! in between. How the files are linked and kept stands in `generation`.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ctlstore_core::disk::{self, FileId, LockError, ProcessLock, directory_of};
use ctlstore_core::failpoint;

use super::connection;
use super::error::LdbError;
use super::generation;
use super::ownership::{There, refuse_foreign};
use super::statement_authorizer::StatementLimits;
use super::statement_watch::StatementWatch;
use super::writer::{Ldb, LdbOptions};

/// A claimed path. The applier's lock is held as long as this, or an [`Ldb`] that it
/// opened, lives.
#[derive(Debug)]
pub struct ClaimedLdb {
    path: PathBuf,
    lock: Arc<ProcessLock>,
    limits: StatementLimits,
    watch: Arc<StatementWatch>,
    /// The file at the path that is known to be an LDB, since it was looked into or put there.
    known: Cell<Option<FileId>>,
}

/// What becomes of the LDB that a fetched one takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is removed once its readers have had time to leave it.
    Discarded,
    /// It is kept as `<path>.unreadable-<milliseconds>`, with its -wal; one of those
    /// is kept, the newest.
    KeptAside,
}

impl ClaimedLdb {
    /// Claims `path`, makes its directory, and removes what a crash has left there
    /// unfinished.
    ///
    /// # Errors
    /// When another applier has it, it lies on a network filesystem, somebody else's file is
    /// there, or the filesystem fails. Somebody else's file is left as it is.
    pub fn claim(path: &Path) -> Result<Self, LdbError> {
        Self::claim_with(path, StatementLimits::default())
    }

    /// The same. Statements that are applied to its LDBs take no more than `limits`.
    pub fn claim_with(path: &Path, limits: StatementLimits) -> Result<Self, LdbError> {
        // Before anything is made beside it.
        let known = known(path)?;
        let directory = directory_of(path);
        disk::create_directory(directory).map_err(|error| LdbError::io(directory, "creating the directory", error))?;
        refuse_network(path, directory)?;
        let lock = ProcessLock::take(path).map_err(|error| match error {
            LockError::Held { holder } => LdbError::Locked { path: path.to_owned(), holder },
            LockError::Io(error) => LdbError::io(path, "taking the applier's lock", error),
        })?;
        let home = Self {
            path: path.to_owned(),
            lock: Arc::new(lock),
            limits,
            watch: Arc::default(),
            known: Cell::new(known),
        };
        home.tidy()?;
        Ok(home)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the applier is at work on in this LDB, and in those that take its place.
    pub fn watch(&self) -> Arc<StatementWatch> {
        Arc::clone(&self.watch)
    }

    /// Whether there is no LDB; a link that leads nowhere is none.
    pub fn is_missing(&self) -> Result<bool, LdbError> {
        Ok(generation::find(&self.path)?.is_none())
    }

    /// Opens the LDB, or makes an empty one. Takes over an LDB of the original, and finds
    /// what a crash left.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`] when the file is a damaged LDB, [`LdbError::NotAnLdb`] when it is
    /// somebody else's.
    pub fn open(&self, options: &LdbOptions) -> Result<Ldb, LdbError> {
        disk::check_database(&self.path).map_err(|error| LdbError::io(&self.path, "opening it", error))?;
        self.refuse_foreign()?;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
            // SQLite would remove a -wal that belongs to no page.
            generation::set_companions_aside(&self.path)?;
        }
        let file = generation::locate(&self.path, connection::create)?;
        refuse_network(&self.path, directory_of(&file))?;
        let guarding = (self.limits.clone(), Arc::clone(&self.watch));
        Ldb::at(&self.path, file, options, Arc::clone(&self.lock), guarding)
    }

    /// Where a file is to be made that [`install`](Self::install) can take.
    pub fn incoming(&self) -> PathBuf {
        generation::incoming(&self.path)
    }

    /// Puts a finished database file in the place of the LDB, at once for everyone who
    /// opens the path. Readers go on with the file that they have until they look
    /// again. Numbers of changelog entries go on behind `changelog_number`, and jump.
    ///
    /// Whatever fails, the path leads to the old file or to the new one, whole, and
    /// `finished` is gone.
    pub fn install(&self, finished: &Path, replaced: Replaced, changelog_number: Option<u64>) -> Result<(), LdbError> {
        let install = || {
            self.may_be_replaced()?;
            connection::adopt(finished, changelog_number)?;
            failpoint::hit("bootstrap-after-adoption");
            if replaced == Replaced::KeptAside {
                generation::keep_unreadable(&self.path)?;
            }
            generation::install(&self.path, finished)?;
            self.known.set(id_of(&self.path)?);
            Ok(())
        };
        install().inspect_err(|_| drop(self.clear_incoming()))?;
        failpoint::hit("bootstrap-after-link");
        Ok(())
    }

    /// Fails where the path leads to somebody else's file.
    fn refuse_foreign(&self) -> Result<(), LdbError> {
        let id = id_of(&self.path)?;
        if id.is_none() || id != self.known.get() {
            self.known.set(known(&self.path)?);
        }
        Ok(())
    }

    /// Fails where something would be lost that no applier has written. Of a link, only the
    /// link is replaced.
    fn may_be_replaced(&self) -> Result<(), LdbError> {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_symlink() => Ok(()),
            _ => self.refuse_foreign(),
        }
    }

    /// Puts an empty LDB in the place of one that could not be read, or of none.
    pub fn start_empty(&self) -> Result<(), LdbError> {
        self.clear_incoming()?;
        connection::create(&self.incoming())?;
        self.install(&self.incoming(), Replaced::KeptAside, None)
    }

    /// Removes what may be left where a file is to be made.
    pub fn clear_incoming(&self) -> Result<(), LdbError> {
        generation::clear_incoming(&self.path)
    }

    /// Removes files that nothing leads to any more.
    pub fn tidy(&self) -> Result<(), LdbError> {
        generation::tidy(&self.path)
    }
}

/// The file at `path`, if there is one and it is an LDB, or is to become one.
fn known(path: &Path) -> Result<Option<FileId>, LdbError> {
    match refuse_foreign(path)? {
        There::Nothing => Ok(None),
        There::Empty | There::Ldb | There::Damaged => id_of(path),
    }
}

fn id_of(path: &Path) -> Result<Option<FileId>, LdbError> {
    FileId::of(path).map_err(|error| LdbError::io(path, "looking for it", error))
}

/// Fails where `directory` is on a network filesystem.
fn refuse_network(path: &Path, directory: &Path) -> Result<(), LdbError> {
    let found = disk::network_filesystem(directory);
    match found.map_err(|error| LdbError::io(directory, "asking for its filesystem", error))? {
        Some(kind) => Err(LdbError::NetworkFilesystem { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}
