//! Reading the LDB: rows by key or by a leading part of it, written as JSON, and
//! how far the LDB has come.
//!
//! The reader opens the file read-only and is one among many: other processes
//! read it too and one writes it. It starts before the file exists and follows a
//! file that takes its place. There
//! is no runtime, no HTTP and no logging here: what goes wrong is returned.

mod caught_up;
mod de;
mod error;
mod file;
mod follow;
mod json;
mod key;
mod measure;
mod page;
mod position;
pub mod query;
mod read_transaction;
mod request_key;
mod row;
mod scan;
mod table;
mod typed_key;
mod value;
mod wal_index;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::{TableRef, Timestamp};

pub use caught_up::{CaughtUpMark, written_at};
pub use error::ReadError;
pub use follow::{VERSION_DIGITS, VERSIONED_LDB, is_version};
pub use key::{Key, KeyPart};
pub use measure::Size;
pub use page::{After, Page, PageLimits};
pub use position::Progress;
pub(crate) use read_transaction::Pieces;
pub use read_transaction::{ReadTransaction, ReadTransactionScan};
pub use request_key::KeyValue;
pub use row::Row;
pub use value::{Value, ValueRef};

use file::{Access, LdbFile};
use follow::{Place, Switches};

/// What one answer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most rows; `None` is no limit.
    pub max_rows: Option<u64>,
    /// The most bytes of JSON.
    pub max_bytes: usize,
}

/// One read-only connection to the LDB at a path, with what it has learned about
/// its tables. For one thread; make one per thread.
///
/// Each read is one short transaction of its own: schema, rows and position come
/// from the same moment, and nothing stays open between reads, unless the caller asks
/// for that ([`LdbReader::shared`]).
pub struct LdbReader {
    place: Place,
    file: Option<LdbFile>,
    /// The size of the file at the last look.
    bytes: u64,
    looked: Instant,
    switches: Arc<Switches>,
    /// Their count at the last look.
    known_switches: u64,
    /// Why the file that has taken the path could not be opened.
    replacement_error: Option<ReadError>,
    has_switched: bool,
}

impl LdbReader {
    /// Opens nothing yet: the LDB need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::File { path: path.into(), access: Access::Shared })
    }

    /// For a file that nobody writes, such as a snapshot: no lock is taken, and no
    /// -wal or -shm made beside it.
    pub fn immutable(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::File { path: path.into(), access: Access::Immutable })
    }

    /// The newest of the versions in `directory`: `<13 digits>/ldb.db`, each complete
    /// when it appears and written by nobody. A newer one is found within a second; one
    /// that can't be opened is tried again every second, with the old one read meanwhile.
    pub fn versioned(directory: impl Into<PathBuf>) -> Self {
        Self::at(Place::Versions { directory: directory.into() })
    }

    fn at(place: Place) -> Self {
        Self {
            switches: Switches::at(&place),
            place,
            file: None,
            bytes: 0,
            looked: Instant::now(),
            known_switches: 0,
            replacement_error: None,
            has_switched: false,
        }
    }

    /// The path or directory that it was made with.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Why the file that now has the path could not be opened; the one before it is
    /// read until it can.
    pub fn replacement_error(&self) -> Option<&ReadError> {
        self.replacement_error.as_ref()
    }

    /// Appends the row with this key, as a JSON object of column to value, to `out`.
    /// False, and nothing appended, when there is no such row.
    ///
    /// # Errors
    /// [`ReadError::KeyArity`] unless `key` has a value for each key column, in key order.
    pub fn get_json(
        &mut self,
        table: &TableRef,
        key: &(impl Key + ?Sized),
        out: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        let start = out.len();
        let names = (table.family.as_str(), table.table.as_str());
        let found = self.on_file(|file| file.find(names, key, |row| json::push_row(out, row)));
        if found.is_err() {
            out.truncate(start);
        }
        found.map(|row| row.is_some())
    }

    /// Hands the row with this key to `read`; `None` when there is no such row.
    ///
    /// # Errors
    /// [`ReadError::KeyArity`] unless `key` has a value for each key column; what `read` gives.
    pub fn get_with<T>(
        &mut self,
        family: &str,
        table: &str,
        key: &(impl Key + ?Sized),
        read: impl FnOnce(Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.on_file(|file| file.find((family, table), key, read))
    }

    /// Several reads in one read transaction, which ends with `read`.
    ///
    /// # Errors
    /// When the LDB can't be read; what `read` gives.
    pub fn read_transaction<T>(
        &mut self,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.with_file(|file| read(&ReadTransaction::new(file)))
    }

    /// The same in a read transaction that is left open for the reads that follow, for at
    /// most 5 ms of use. They see what each would see in one of its own: whether anybody
    /// has committed meanwhile costs nanoseconds to know, beginning and ending a
    /// transaction a microsecond.
    ///
    /// An open transaction keeps the WAL from being cut, so the caller must see to it that
    /// [`LdbReader::let_go`] is called within milliseconds, whether reads follow or not.
    ///
    /// # Errors
    /// When the LDB can't be read; what `read` gives.
    pub fn shared<T>(
        &mut self,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.on_file(|file| file.shared(|file| read(&ReadTransaction::new(file))))
    }

    /// Ends the transaction that was left open, if any.
    pub fn let_go(&mut self) {
        if let Some(file) = &self.file {
            file.let_go();
        }
    }

    /// Appends the rows whose key begins with `prefix`, as a JSON array in key order,
    /// to `out`; an empty prefix is every row. Gives the number of rows.
    ///
    /// # Errors
    /// [`ReadError::TooManyRows`] and [`ReadError::TooManyBytes`] when more match than
    /// `limits` allow; `out` is then as it was.
    pub fn scan_json(
        &mut self,
        table: &TableRef,
        prefix: &(impl Key + ?Sized),
        limits: Limits,
        out: &mut Vec<u8>,
    ) -> Result<u64, ReadError> {
        self.read_transaction(|transaction| transaction.scan_json(table, prefix, limits, out))
    }

    /// The names of the table's key columns, in key order.
    pub fn key_columns(&mut self, table: &TableRef) -> Result<Vec<String>, ReadError> {
        self.with_file(|file| {
            let table = file.table(table.family.as_str(), table.table.as_str())?;
            Ok(table.key_names().map(str::to_owned).collect())
        })
    }

    /// The last applied seq, 0 before the first.
    pub fn last_seq(&mut self) -> Result<Seq, ReadError> {
        self.with_file(position::last_seq)
    }

    /// When the last applied statement was written to the ledger, by the ctldb's
    /// clock; `None` before the first.
    pub fn last_update(&mut self) -> Result<Option<Timestamp>, ReadError> {
        self.with_file(position::last_update)
    }

    /// The last applied seq and the ledger that it belongs to.
    pub fn position(&mut self) -> Result<LdbPosition, ReadError> {
        self.with_file(position::position)
    }

    /// Whether another file took the path since this was last asked.
    pub(crate) fn take_switched(&mut self) -> bool {
        std::mem::take(&mut self.has_switched)
    }

    /// Closes the file, if it is no longer the one to be read. Keeps a deleted file's
    /// room from being held by a reader that nobody uses.
    pub(crate) fn let_go_of_replaced(&mut self) {
        let newest = self.place.find().ok().and_then(|found| found.into_iter().next());
        if let (Some(newest), Some(open)) = (newest, &self.file)
            && !newest.is(open)
        {
            self.file = None;
        }
    }

    /// Runs `read` in one read transaction on the file that has the path.
    fn with_file<T>(&mut self, read: impl FnOnce(&LdbFile) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.on_file(|file| file.transaction(read))
    }

    /// Runs `read` on the file that has the path, in no transaction.
    fn on_file<T>(&mut self, read: impl FnOnce(&LdbFile) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.follow()?;
        let Some(file) = &self.file else { return Err(self.not_there_yet()) };
        let outcome = read(file);
        if outcome.as_ref().is_err_and(ReadError::is_of_the_file) {
            // Whatever broke may be the connection's; the next read begins with another.
            self.file = None;
        }
        outcome
    }

    fn not_there_yet(&self) -> ReadError {
        ReadError::NotThereYet { path: self.path().to_owned() }
    }

    /// Opens the file at the path when none is open or another one has taken the path.
    /// A file that is gone, or a new one that can't be opened, leaves the open one in use.
    fn follow(&mut self) -> Result<(), ReadError> {
        let switches = self.switches.count();
        let has_seen_all = switches == self.known_switches;
        if self.file.is_some() && has_seen_all && self.looked.elapsed() < self.place.look_every() {
            return Ok(());
        }
        self.looked = Instant::now();
        self.known_switches = switches;
        let found = self.place.find();
        let Some(open) = &self.file else {
            return self.open_first(&found?);
        };
        let opened = match found.map(|found| found.into_iter().next()) {
            Ok(Some(newest)) if !newest.is(open) => newest.open().map(|file| (file, newest.bytes())),
            Ok(Some(same)) => {
                let before = std::mem::replace(&mut self.bytes, same.bytes());
                if self.bytes >= before {
                    return Ok(());
                }
                // What was cut off is still mapped, and to touch it would end the process.
                self.file = None;
                return self.open_first(&[same]);
            }
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        };
        match opened {
            Ok((file, bytes)) => {
                self.take(file, bytes);
                self.replacement_error = None;
                self.has_switched = true;
            }
            Err(error) => self.replacement_error = Some(error),
        }
        Ok(())
    }

    fn take(&mut self, file: LdbFile, bytes: u64) {
        self.switches.opened(&file);
        (self.file, self.bytes) = (Some(file), bytes);
    }

    /// Opens the first that can be. Of several, an older one is better than none.
    fn open_first(&mut self, found: &[follow::Candidate]) -> Result<(), ReadError> {
        let mut first_error = None;
        for candidate in found {
            match candidate.open() {
                Ok(file) => {
                    self.take(file, candidate.bytes());
                    self.replacement_error = first_error;
                    return Ok(());
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| self.not_there_yet()))
    }
}
