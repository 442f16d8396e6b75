//! The handle that programs hold.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::read::{Key, LdbReader, ReadError, ReadTransaction, Row};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{TableRef, TableSchema};

use super::freshness::{FreshnessLimits, FreshnessVerdict, Wait};
use super::pool::Pool;
use super::scan::Scan;

/// The directory that [`Reader::open_default`] looks in, and the one without it.
const DIRECTORY_VARIABLE: &str = "CTLSTORE_PATH";
const DEFAULT_DIRECTORY: &str = "/var/spool/ctlstore";
const DEFAULT_NAME: &str = "ldb.db";

/// Reads one LDB. Cheap to clone; any number of threads may use one or its clones at
/// once, each at the speed of a single one.
///
/// The LDB is followed as it changes: tables that come, go and get columns, and files
/// that take the path of the one before (seen within 50 ms; a new version within a
/// second). A program's reads go on through all of it.
///
/// Reads block for microseconds, like memory rather than like I/O; only
/// [`Reader::min_seq`] and [`Reader::wait_for`] wait.
#[derive(Clone)]
pub struct Reader {
    pool: Arc<Pool>,
    path: Arc<Path>,
    limits: FreshnessLimits,
}

impl Reader {
    /// Reads the LDB at `path`. It need not be there yet: until it is, reads say
    /// [`ReadError::NotThereYet`].
    ///
    /// # Errors
    /// When there is a file that can't be read: not by this user, or no SQLite database.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let path = path.into();
        let opened = path.clone();
        Self::new(path, move || LdbReader::new(&opened))
    }

    /// Reads the LDB where a node on this host keeps it: `ldb.db` in the directory
    /// that the environment variable `CTLSTORE_PATH` names, or in `/var/spool/ctlstore`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_default() -> Result<Self, ReadError> {
        let named = env::var_os(DIRECTORY_VARIABLE).filter(|directory| !directory.is_empty());
        let directory = named.map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), PathBuf::from);
        Self::open(directory.join(DEFAULT_NAME))
    }

    /// Reads the newest of the versions in `directory`, `<13 digits>/ldb.db`: LDBs that
    /// nobody writes, each complete when it appears. A newer one is found within a second.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_versioned(directory: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let directory = directory.into();
        let opened = directory.clone();
        Self::new(directory, move || LdbReader::versioned(&opened))
    }

    fn new(path: PathBuf, make: impl Fn() -> LdbReader + Send + Sync + 'static) -> Result<Self, ReadError> {
        let reader = Self { pool: Arc::new(Pool::new(make)), path: path.into(), limits: FreshnessLimits::default() };
        match reader.last_seq() {
            Ok(_) | Err(ReadError::NotThereYet { .. }) => Ok(reader),
            Err(error) => Err(error),
        }
    }

    /// The path or directory that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The row with this key, as a struct whose fields are named as the columns, as a
    /// map, or as a tuple of the columns in order; `None` when there is no such row.
    ///
    /// NULL is `None` of an `Option`, booleans are the integers 1 and 0, bytes are
    /// `Vec<u8>` (or what `serde_bytes` makes of them). Columns that the struct does not
    /// name are skipped.
    ///
    /// # Errors
    /// [`ReadError::NotThereYet`], [`ReadError::UnknownTable`], [`ReadError::KeyArity`]
    /// unless `key` has one value for each key column, [`ReadError::WrongType`] and
    /// [`ReadError::MissingColumn`], which name the column.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
    /// # let ldb = small::SmallLdb::new();
    /// # let reader = ctlstore_reader::Reader::open(ldb.path())?;
    /// use std::collections::HashMap;
    /// use ctlstore_reader::Value;
    ///
    /// let row: Option<HashMap<String, Value>> = reader.get("shop", "prices", ("de", 7))?;
    /// assert_eq!(row.unwrap()["cents"], Value::from(1999));
    /// let cents: Option<(String, i64, u32)> = reader.get("shop", "prices", ("fr", 7))?;
    /// assert_eq!(cents, None);
    /// # Ok::<(), ctlstore_reader::ReadError>(())
    /// ```
    pub fn get<T: DeserializeOwned>(&self, family: &str, table: &str, key: impl Key) -> Result<Option<T>, ReadError> {
        self.get_with(family, table, key, |row| row.deserialize())
    }

    /// Hands the row with this key to `read`, which may borrow from it: nothing is
    /// copied. Gives what `read` gives, `None` when there is no such row. The read
    /// transaction lasts as long as `read` runs.
    ///
    /// # Errors
    /// As [`Reader::get`], and what `read` gives.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
    /// # let ldb = small::SmallLdb::new();
    /// # let reader = ctlstore_reader::Reader::open(ldb.path())?;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Flag<'r> {
    ///     name: &'r str,
    ///     note: Option<&'r str>,
    /// }
    ///
    /// let length = reader.get_with("shop", "flags", "dark-mode", |row| {
    ///     let flag: Flag = row.deserialize()?;
    ///     assert_eq!(flag.note, row.get("note")?);
    ///     Ok(flag.name.len())
    /// })?;
    /// assert_eq!(length, Some(9));
    /// # Ok::<(), ctlstore_reader::ReadError>(())
    /// ```
    pub fn get_with<T>(
        &self,
        family: &str,
        table: &str,
        key: impl Key,
        read: impl FnOnce(Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        if self.limits.are_none() {
            return self.pool.with(|ldb| ldb.get_with(family, table, &key, read));
        }
        self.read_transaction(|transaction| transaction.get_with(family, table, key, read))
    }

    /// The rows whose key begins with `prefix`, in key order; `()` is every row.
    ///
    /// They are read in pieces of at most 512 rows or 256 KiB, each in a transaction of
    /// at most a few milliseconds, so a scan may take as long as it likes. Rows that
    /// change meanwhile are seen as they are when their piece is read, each key once;
    /// [`ReadTransaction::scan_prefix`] gives all rows of one moment. After an error there are
    /// no more rows.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
    /// # let ldb = small::SmallLdb::new();
    /// # let reader = ctlstore_reader::Reader::open(ldb.path())?;
    /// let prices = reader.scan_prefix::<(String, i64, u32)>("shop", "prices", "de");
    /// let cents: Vec<u32> = prices.map(|price| Ok(price?.2)).collect::<Result<_, ctlstore_reader::ReadError>>()?;
    /// assert_eq!(cents, [1999, 499]);
    /// # Ok::<(), ctlstore_reader::ReadError>(())
    /// ```
    pub fn scan_prefix<T: DeserializeOwned>(&self, family: &str, table: &str, prefix: impl Key) -> Scan<T> {
        Scan::new(self.clone(), (family, table), &prefix)
    }

    /// Several reads of one moment, in one read transaction, which ends with `read`. It
    /// keeps the LDB's WAL from shrinking meanwhile: let it take milliseconds.
    ///
    /// # Errors
    /// When the LDB can't be read, and what `read` gives.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
    /// # let ldb = small::SmallLdb::new();
    /// # let reader = ctlstore_reader::Reader::open(ldb.path())?;
    /// # type Price = (String, i64, u32);
    /// let (seq, price) = reader.read_transaction(|transaction| {
    ///     let price: Option<Price> = transaction.get("shop", "prices", ("de", 7))?;
    ///     Ok((transaction.last_seq()?, price))
    /// })?;
    /// # assert!(seq.0 > 0 && price.is_some());
    /// # Ok::<(), ctlstore_reader::ReadError>(())
    /// ```
    pub fn read_transaction<T>(
        &self,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        if self.limits.are_none() {
            return self.pool.with(|ldb| ldb.read_transaction(read));
        }
        self.read_transaction_on_demand(read)
    }

    /// Tries until the LDB is as it is asked to be, holding no connection in between.
    fn read_transaction_on_demand<T>(
        &self,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut read = Some(read);
        let mut wait: Option<Wait> = None;
        loop {
            let outcome = self.pool.with(|ldb| {
                ldb.read_transaction(|transaction| match self.limits.judge(transaction)? {
                    FreshnessVerdict::Behind(current) => Ok(Err(current)),
                    FreshnessVerdict::Good => {
                        let read = read.take().expect("what it gives ends the loop");
                        read(transaction).map(Ok)
                    }
                })
            });
            let (current, error) = match (outcome, self.limits.min_seq) {
                (Ok(Ok(value)), _) => return Ok(value),
                (Ok(Err(current)), _) => (current, None),
                (Err(error @ ReadError::NotThereYet { .. }), Some(_)) if read.is_some() => (Seq::ZERO, Some(error)),
                (Err(error), _) => return Err(error),
            };
            let (wanted, timeout) = self.limits.min_seq.unwrap_or_default();
            let wait = wait.get_or_insert_with(|| Wait::new(&self.path, wanted, timeout));
            if !wait.pause() {
                return Err(error.unwrap_or(ReadError::SeqNotReached { wanted, current, waited: wait.waited() }));
            }
        }
    }

    /// The same LDB, whose reads see at least `seq`: each waits for it up to `timeout`.
    /// With the `ctlstore-seq` that the executive answered to a write, they see that
    /// write. Blocks the thread; on an async runtime it belongs on a blocking one.
    ///
    /// # Errors
    /// The reads', [`ReadError::SeqNotReached`] with the LDB's seq when the time is over.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
    /// # let ldb = small::SmallLdb::new();
    /// # let reader = ctlstore_reader::Reader::open(ldb.path())?;
    /// # type Price = (String, i64, u32);
    /// use std::time::Duration;
    /// use ctlstore_reader::Seq;
    ///
    /// let written = Seq(3);
    /// let price: Option<Price> =
    ///     reader.min_seq(written, Duration::from_millis(500)).get("shop", "prices", ("de", 7))?;
    /// # assert!(price.is_some());
    /// # Ok::<(), ctlstore_reader::ReadError>(())
    /// ```
    #[must_use = "it is the reader given back that waits"]
    pub fn min_seq(&self, seq: Seq, timeout: Duration) -> Self {
        Self { limits: FreshnessLimits { min_seq: Some((seq, timeout)), ..self.limits }, ..self.clone() }
    }

    /// The same LDB, whose reads fail when [`Reader::ledger_latency`] is above `lag`.
    /// An age that can't be told is too old.
    ///
    /// # Errors
    /// The reads', [`ReadError::TooOld`].
    #[must_use = "it is the reader given back that looks at the age"]
    pub fn max_lag(&self, lag: Duration) -> Self {
        Self { limits: FreshnessLimits { max_lag: Some(lag), ..self.limits }, ..self.clone() }
    }

    /// Waits until the LDB has `seq`, and gives the seq that it has then.
    ///
    /// # Errors
    /// [`ReadError::SeqNotReached`] with the LDB's seq after `timeout`.
    pub fn wait_for(&self, seq: Seq, timeout: Duration) -> Result<Seq, ReadError> {
        self.min_seq(seq, timeout).read_transaction(|transaction| transaction.last_seq())
    }

    /// The last applied seq, 0 before the first.
    pub fn last_seq(&self) -> Result<Seq, ReadError> {
        self.read_transaction(|transaction| transaction.last_seq())
    }

    /// How far the LDB is behind: how long ago its host last knew the ledger's end, by the
    /// host's own clock. Beside a reflector that does not say, such as the Go program's:
    /// how long ago the last applied statement was written to the ledger, by the ctldb's
    /// clock, but no less than the LDB's file is old; there it grows without writes.
    /// `None` before the first statement, and where the clock was set back since.
    pub fn ledger_latency(&self) -> Result<Option<Duration>, ReadError> {
        self.read_transaction(|transaction| transaction.ledger_latency())
    }

    /// The LDB's tables, in the order of their SQL names.
    pub fn tables(&self) -> Result<Vec<TableRef>, ReadError> {
        self.read_transaction(|transaction| transaction.tables())
    }

    /// The table's fields and key.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`]; [`ReadError::OddTable`] where another program made
    /// it with types or names that no table of ours has.
    pub fn schema(&self, family: &str, table: &str) -> Result<TableSchema, ReadError> {
        self.read_transaction(|transaction| transaction.schema(family, table))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("limits", &self.limits).finish()
    }
}
