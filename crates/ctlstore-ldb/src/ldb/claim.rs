//! Claims the path of an LDB for one process. Entry point: [`ClaimedLdb`]. The claim outlives
//! the files, so a fetched LDB can replace the present one, and no other process gets in
//! between. How the files are linked and kept is in `generation`.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ctlstore_core::disk::{self, FileId, LockError, ProcessLock, directory_of};
use ctlstore_core::failpoint;

use super::connection;
use super::error::LdbError;
use super::generation;
use super::ownership::{FileAtPath, refuse_foreign};
use super::statement_authorizer::StatementLimits;
use super::statement_watch::StatementWatch;
use super::writer::{Ldb, LdbOptions};

/// A claimed path. The applier's lock is held as long as this value lives, or an [`Ldb`] that
/// it opened.
#[derive(Debug)]
pub struct ClaimedLdb {
    path: PathBuf,
    lock: Arc<ProcessLock>,
    limits: StatementLimits,
    watch: Arc<StatementWatch>,
    /// The file at the path that is known to be an LDB, because it was examined or put there.
    known: Cell<Option<FileId>>,
}

/// The fate of the LDB that a fetched one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is removed after its readers had time to leave it.
    Discarded,
    /// It is kept as `<path>.unreadable-<milliseconds>`, with its -wal. Only the newest of such
    /// files is kept.
    KeptAside,
}

impl ClaimedLdb {
    /// Claims `path`, makes its directory, and removes what a crash left unfinished there.
    ///
    /// # Errors
    /// If another applier has claimed it, if it is on a network filesystem, if another program's
    /// file is there, or if the filesystem fails. Another program's file stays as it is.
    pub fn claim(path: &Path) -> Result<Self, LdbError> {
        Self::claim_with(path, StatementLimits::default())
    }

    /// The same, with `limits` for the statements that are applied to its LDBs.
    pub fn claim_with(path: &Path, limits: StatementLimits) -> Result<Self, LdbError> {
        // Examined before anything is made beside it.
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

    /// Which ledger row the applier is working on, in this LDB and in those that replace it.
    pub fn watch(&self) -> Arc<StatementWatch> {
        Arc::clone(&self.watch)
    }

    /// Whether there is no LDB. A link that leads nowhere counts as none.
    pub fn is_missing(&self) -> Result<bool, LdbError> {
        Ok(generation::find(&self.path)?.is_none())
    }

    /// Opens the LDB, or makes an empty one. Takes over an LDB of the original, and repairs what
    /// a crash left.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`] if the file is a damaged LDB, [`LdbError::NotAnLdb`] if it is another
    /// program's.
    pub fn open(&self, options: &LdbOptions) -> Result<Ldb, LdbError> {
        disk::check_database(&self.path).map_err(|error| LdbError::io(&self.path, "opening it", error))?;
        self.refuse_foreign()?;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
            // SQLite would remove a -wal without pages in the database.
            generation::set_companions_aside(&self.path)?;
        }
        let file = generation::locate(&self.path, connection::create)?;
        refuse_network(&self.path, directory_of(&file))?;
        let guarding = (self.limits.clone(), Arc::clone(&self.watch));
        Ldb::at(&self.path, file, options, Arc::clone(&self.lock), guarding)
    }

    /// The path at which a file is made for [`install`](Self::install).
    pub fn incoming(&self) -> PathBuf {
        generation::incoming(&self.path)
    }

    /// Replaces the LDB by a finished database file, at once for every program that opens the
    /// path. Readers keep the file that they have until they check the link again. The numbering
    /// of changelog entries goes on after `changelog_number`, and jumps.
    ///
    /// After any failure the path leads to the old file or to the new one, whole, and `finished`
    /// is gone.
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

    /// Fails if another program's file is at the path.
    fn refuse_foreign(&self) -> Result<(), LdbError> {
        let id = id_of(&self.path)?;
        if id.is_none() || id != self.known.get() {
            self.known.set(known(&self.path)?);
        }
        Ok(())
    }

    /// Fails if the replacement would lose a file that no applier wrote. If the path is a link,
    /// only the link is replaced.
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

    /// Removes what is left at [`incoming`](Self::incoming).
    pub fn clear_incoming(&self) -> Result<(), LdbError> {
        generation::clear_incoming(&self.path)
    }

    /// Removes files that no link leads to any more.
    pub fn tidy(&self) -> Result<(), LdbError> {
        generation::tidy(&self.path)
    }
}

impl Ldb {
    /// Opens the LDB at `path`, or makes an empty one. Takes over a file of another program, and
    /// repairs what a crash left. The claim is held as long as the LDB is open.
    ///
    /// # Errors
    /// If another applier has claimed it, a newer program wrote it, it is on a network
    /// filesystem, or the filesystem or SQLite fails.
    pub fn open(path: &Path, options: &LdbOptions) -> Result<Self, LdbError> {
        ClaimedLdb::claim(path)?.open(options)
    }
}

/// The file at `path`, if it is an LDB or empty.
fn known(path: &Path) -> Result<Option<FileId>, LdbError> {
    match refuse_foreign(path)? {
        FileAtPath::Nothing => Ok(None),
        FileAtPath::Empty | FileAtPath::Ldb | FileAtPath::Damaged => id_of(path),
    }
}

fn id_of(path: &Path) -> Result<Option<FileId>, LdbError> {
    FileId::of(path).map_err(|error| LdbError::io(path, "looking for it", error))
}

/// Fails if `directory` is on a network filesystem.
fn refuse_network(path: &Path, directory: &Path) -> Result<(), LdbError> {
    let found = disk::network_filesystem(directory);
    match found.map_err(|error| LdbError::io(directory, "asking for its filesystem", error))? {
        Some(kind) => Err(LdbError::NetworkFilesystem { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}
