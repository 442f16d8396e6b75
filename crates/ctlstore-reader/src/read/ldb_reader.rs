//! One read-only connection to the LDB at a path, for one thread. Entry point: [`LdbReader`].
//! `file` has the connection itself; `follow` finds the file that is to be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::{TableRef, Timestamp};

use super::error::ReadError;
use super::file::{Access, LdbFile};
use super::follow::{Candidate, LdbLocation, Switches};
use super::json::{self, AnswerLimits};
use super::key::Key;
use super::position;
use super::read_transaction::ReadTransaction;
use super::rotation::Rotation;
use super::row::Row;

/// One read-only connection to the LDB at a path, with what it has learned about the tables. It
/// serves one thread; make one for each thread.
///
/// Each read is one short transaction of its own, so schema, rows and position come from the same
/// point in time. Nothing stays open between reads, unless the caller asks for that
/// ([`LdbReader::shared`]).
pub struct LdbReader {
    location: LdbLocation,
    file: Option<LdbFile>,
    /// The size of the file when it was last looked at.
    bytes: u64,
    looked: Instant,
    switches: Arc<Switches>,
    /// The count of `switches` at that time.
    known_switches: u64,
    /// Why the file that now has the path could not be opened.
    replacement_error: Option<ReadError>,
    has_switched: bool,
}

impl LdbReader {
    /// Makes a reader for the LDB at `path`. It opens nothing yet: the LDB need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at(LdbLocation::File { path: path.into(), access: Access::Shared })
    }

    /// Makes a reader for a file that no process writes, such as a snapshot. It takes no lock and
    /// makes no -wal and no -shm beside the file.
    pub fn immutable(path: impl Into<PathBuf>) -> Self {
        Self::at(LdbLocation::File { path: path.into(), access: Access::Immutable })
    }

    /// Makes a reader for the newest of the versions in `directory`, each at `<13 digits>/ldb.db`.
    /// A version is complete when it appears, and no process writes it. A newer version is found
    /// within a second. One that can't be opened is tried again within a second; until it opens,
    /// the older one is read.
    pub fn versioned(directory: impl Into<PathBuf>) -> Self {
        Self::at(LdbLocation::Versions { directory: directory.into() })
    }

    /// Makes a reader for several LDBs of one ledger, which are read in turn. An LDB that is missing, or that is not as
    /// far as the one before, is passed over.
    pub fn rotating(rotation: Rotation) -> Self {
        Self::at(LdbLocation::Rotation(rotation))
    }

    fn at(location: LdbLocation) -> Self {
        Self {
            switches: Switches::at(&location),
            location,
            file: None,
            bytes: 0,
            looked: Instant::now(),
            known_switches: 0,
            replacement_error: None,
            has_switched: false,
        }
    }

    /// The path or directory that the reader was made with.
    pub fn path(&self) -> &Path {
        self.location.path()
    }

    /// Why the file that now has the path could not be opened. Until it can, the file before it
    /// is read.
    pub fn replacement_error(&self) -> Option<&ReadError> {
        self.replacement_error.as_ref()
    }

    /// Appends the row with this key to `out`, as a JSON object of columns and values. Returns
    /// false, and appends nothing, if there is no such row.
    ///
    /// # Errors
    /// [`ReadError::KeyArity`] if `key` does not have one value for each key column, in key order.
    pub fn get_json(
        &mut self,
        table: &TableRef,
        key: &(impl Key + ?Sized),
        out: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        let names = (table.family.as_str(), table.table.as_str());
        let found =
            self.on_file(|file| json::all_or_nothing(out, |out| file.find(names, key, |row| json::push_row(out, row))));
        found.map(|row| row.is_some())
    }

    /// Hands the row with this key to `read`; `None` if there is no such row.
    ///
    /// # Errors
    /// [`ReadError::KeyArity`] if `key` does not have one value for each key column; the errors of
    /// `read`.
    pub fn get_with<T>(
        &mut self,
        family: &str,
        table: &str,
        key: &(impl Key + ?Sized),
        read: impl FnOnce(Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.on_file(|file| file.find((family, table), key, read))
    }

    /// Makes several reads in one read transaction, which ends when `read` returns.
    ///
    /// # Errors
    /// If the LDB can't be read; the errors of `read`.
    pub fn read_transaction<T>(
        &mut self,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.with_file(|file| read(&ReadTransaction::new(file)))
    }

    /// Does as [`LdbReader::read_transaction`], but leaves the transaction open for the reads that
    /// follow, for at most 5 ms. They see what each would see in a transaction of its own: each
    /// checks whether a process has committed since. The check costs nanoseconds; to begin and end
    /// a transaction costs a microsecond.
    ///
    /// An open transaction keeps the WAL from being cut. So the caller must call
    /// [`LdbReader::let_go`] within milliseconds, even if no read follows.
    ///
    /// # Errors
    /// If the LDB can't be read; the errors of `read`.
    pub fn shared<T>(
        &mut self,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.on_file(|file| file.shared(|file| read(&ReadTransaction::new(file))))
    }

    /// Ends the transaction that was left open, if there is one.
    pub fn let_go(&mut self) {
        if let Some(file) = &self.file {
            file.let_go();
        }
    }

    /// Appends the rows whose key begins with `prefix` to `out`, as a JSON array in key order. An
    /// empty prefix stands for every row. Returns the number of rows.
    ///
    /// # Errors
    /// [`ReadError::TooManyRows`] and [`ReadError::TooManyBytes`] if more match than `limits`
    /// allow; then nothing is appended.
    pub fn scan_json(
        &mut self,
        table: &TableRef,
        prefix: &(impl Key + ?Sized),
        limits: AnswerLimits,
        out: &mut Vec<u8>,
    ) -> Result<u64, ReadError> {
        self.read_transaction(|transaction| transaction.scan_json(table, prefix, limits, out))
    }

    /// The names of the table's key columns, in key order.
    pub fn key_columns(&mut self, table: &TableRef) -> Result<Vec<String>, ReadError> {
        self.read_transaction(|transaction| transaction.key_names(table))
    }

    /// The last applied seq; 0 before the first.
    pub fn last_seq(&mut self) -> Result<Seq, ReadError> {
        self.with_file(|file| position::last_seq(file.connection()))
    }

    /// When the last applied statement was written to the ledger, by the ctldb's clock; `None`
    /// before the first.
    pub fn last_update(&mut self) -> Result<Option<Timestamp>, ReadError> {
        self.with_file(|file| position::last_update(file.connection()))
    }

    /// The last applied seq and the ledger that it belongs to.
    pub fn position(&mut self) -> Result<LdbPosition, ReadError> {
        self.with_file(|file| position::position(file.connection()))
    }

    /// Whether another file has replaced the open one since the last call.
    pub(crate) fn take_switched(&mut self) -> bool {
        std::mem::take(&mut self.has_switched)
    }

    /// Closes the file if another one has replaced it. An idle reader would otherwise keep the
    /// space of a deleted file in use.
    pub(crate) fn let_go_of_replaced(&mut self) {
        let Some(open) = &self.file else { return };
        let newest = self.location.find().ok().and_then(|found| found.into_iter().next());
        if newest.is_some_and(|newest| !newest.is(open)) {
            self.file = None;
        }
    }

    /// Runs `read` in one read transaction on the file that has the path.
    fn with_file<T>(&mut self, read: impl FnOnce(&LdbFile) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.on_file(|file| file.transaction(read))
    }

    /// Runs `read` on the file that has the path, without a transaction.
    fn on_file<T>(&mut self, read: impl FnOnce(&LdbFile) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let outcome = read(self.current_file()?);
        if outcome.as_ref().is_err_and(ReadError::is_of_the_file) {
            self.close();
        }
        outcome
    }

    /// The file that has the path.
    pub(super) fn current_file(&mut self) -> Result<&mut LdbFile, ReadError> {
        self.follow()?;
        match &mut self.file {
            Some(file) => Ok(file),
            None => Err(ReadError::NotThereYet { path: self.location.path().to_owned() }),
        }
    }

    /// Closes the file after an error that may be its connection's. The next read opens it again.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Opens the file at the path if none is open or another one has replaced it. If the path is
    /// empty, or the new file can't be opened, the open one stays in use.
    fn follow(&mut self) -> Result<(), ReadError> {
        let switches = self.switches.count();
        let has_seen_all = switches == self.known_switches;
        if self.file.is_some() && has_seen_all && self.looked.elapsed() < self.location.look_every() {
            return Ok(());
        }
        self.looked = Instant::now();
        self.known_switches = switches;
        let found = self.location.find();
        let Some(open) = &self.file else {
            return self.open_first(&found?);
        };
        let is_left = matches!(self.location, LdbLocation::Rotation(_))
            && found.as_ref().is_ok_and(|found| found.iter().any(|candidate| candidate.is(open)));
        let opened = match found.map(|found| found.into_iter().next()) {
            Ok(Some(newest)) if !newest.is(open) => newest.open().map(|file| (file, newest.bytes())),
            Ok(Some(same)) => {
                let before = std::mem::replace(&mut self.bytes, same.bytes());
                if self.bytes >= before {
                    return Ok(());
                }
                // The part that was cut off is still mapped. To touch it would end the process.
                self.file = None;
                return self.open_first(&[same]);
            }
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        };
        match opened {
            // It is the turn of an LDB that is not as far. Reads don't go back for it.
            Ok((file, _)) if is_left && file.is_behind(open) => return Ok(()),
            Ok((file, bytes)) => {
                self.use_file(file, bytes);
                self.replacement_error = None;
                self.has_switched = true;
            }
            Err(error) => self.replacement_error = Some(error),
        }
        Ok(())
    }

    fn use_file(&mut self, file: LdbFile, bytes: u64) {
        self.switches.opened(&file);
        self.file = Some(file);
        self.bytes = bytes;
    }

    /// Opens the first candidate that can be opened: an older version is better than none.
    fn open_first(&mut self, found: &[Candidate]) -> Result<(), ReadError> {
        let mut first_error = None;
        for candidate in found {
            match candidate.open() {
                Ok(file) => {
                    self.use_file(file, candidate.bytes());
                    self.replacement_error = first_error;
                    return Ok(());
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| ReadError::NotThereYet { path: self.path().to_owned() }))
    }
}
