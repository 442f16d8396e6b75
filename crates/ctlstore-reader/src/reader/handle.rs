//! The handle that programs hold: it reads one LDB from any thread. Entry point: [`Reader`]. `pool` has
//! its connections, `freshness` its limits on the data's age.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::read::{BufferedScan, Key, LdbReader, ReadError, ReadTransaction, Row};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{TableRef, TableSchema};

use super::freshness::{FreshnessLimits, FreshnessVerdict, SeqWait};
use super::pool::Pool;

/// The variable that names the directory for [`Reader::open_default`], and the directory without it.
const DIRECTORY_VARIABLE: &str = "CTLSTORE_PATH";
const DEFAULT_DIRECTORY: &str = "/var/spool/ctlstore";
const DEFAULT_NAME: &str = "ldb.db";

/// Reads one LDB. It is cheap to clone. Any number of threads can use it or its clones at once; they
/// don't wait for each other.
///
/// It follows the LDB through changes. Tables can come, go and get columns. Another file can replace
/// the LDB, which is seen within 50 ms, or a new version within a second. Reads go on through all of
/// that.
///
/// A read blocks its thread for microseconds, so it needs no thread of its own. Only
/// [`Reader::min_seq`] and [`Reader::wait_for`] wait.
#[derive(Clone)]
pub struct Reader {
    pool: Arc<Pool>,
    path: Arc<Path>,
    limits: FreshnessLimits,
}

impl Reader {
    /// Makes a reader of the LDB at `path`. The LDB need not exist yet: until it does, reads return
    /// [`ReadError::NotThereYet`].
    ///
    /// # Errors
    /// If there is a file that this user can't read, or that is not a SQLite database.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let path = path.into();
        let opened = path.clone();
        Self::new(path, move || LdbReader::new(&opened))
    }

    /// Makes a reader of the LDB `ldb.db` in the directory that the environment variable
    /// `CTLSTORE_PATH` names, or in `/var/spool/ctlstore`.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn open_default() -> Result<Self, ReadError> {
        let named = env::var_os(DIRECTORY_VARIABLE).filter(|directory| !directory.is_empty());
        let directory = named.map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), PathBuf::from);
        Self::open(directory.join(DEFAULT_NAME))
    }

    /// Makes a reader of the newest version in `directory`, at `<13 digits>/ldb.db`. A version is
    /// complete when it appears, and no process writes it. A newer one is found within a second.
    ///
    /// # Errors
    /// As for [`Reader::open`].
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

    /// The path or directory that the reader was made with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The row with this key; `None` if there is no such row. `T` is a struct whose fields have the
    /// names of the columns, a map, or a tuple of the columns in order.
    ///
    /// NULL is `None` of an `Option`. Booleans are the integers 1 and 0. Bytes are `Vec<u8>`, or a
    /// type of `serde_bytes`. Columns that the struct does not name are skipped.
    ///
    /// # Errors
    /// [`ReadError::NotThereYet`]; [`ReadError::UnknownTable`]; [`ReadError::KeyArity`] if `key` does
    /// not have one value for each key column; [`ReadError::WrongType`] and
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

    /// Hands the row with this key to `read`, and returns its result; `None` if there is no such row.
    /// `read` may borrow from the row, so nothing is copied. The read transaction lasts as long as
    /// `read` runs.
    ///
    /// # Errors
    /// As for [`Reader::get`], and those of `read`.
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

    /// The rows whose key begins with `prefix`, in key order; `()` stands for every row.
    ///
    /// They are read in pieces of at most 512 rows or about 256 KiB. Each piece has a transaction of
    /// a few milliseconds, so a scan may be slow. A row that changes meanwhile
    /// is returned as it is when its piece is read, and each key comes once.
    /// [`ReadTransaction::scan_prefix`] returns all rows of one point in time. There are no more rows
    /// after an error.
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
        Scan { reader: self.clone(), rows: BufferedScan::new((family, table), &prefix) }
    }

    /// Makes several reads of one point in time, in one read transaction, which ends when `read`
    /// returns. It keeps the LDB's WAL from shrinking, so `read` should take only milliseconds.
    ///
    /// # Errors
    /// If the LDB can't be read, and those of `read`.
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
        self.read_transaction_within_limits(read)
    }

    /// Tries again until the LDB meets the limits. It holds no connection between two tries.
    fn read_transaction_within_limits<T>(
        &self,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut read = Some(read);
        let mut wait: Option<SeqWait> = None;
        loop {
            let outcome = self.pool.with(|ldb| {
                ldb.read_transaction(|transaction| match self.limits.judge(transaction)? {
                    FreshnessVerdict::Lagging(current) => Ok(Err(current)),
                    FreshnessVerdict::Good => {
                        let read = read.take().expect("its result ends the loop");
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
            let wait = wait.get_or_insert_with(|| SeqWait::new(&self.path, wanted, timeout));
            if !wait.pause() {
                return Err(error.unwrap_or(ReadError::SeqNotReached { wanted, current, waited: wait.waited() }));
            }
        }
    }

    /// A reader of the same LDB whose reads see at least `seq`. Each read waits for it, at most for
    /// `timeout`. With the `ctlstore-seq` of the executive's answer to a write, the reads see that
    /// write. A wait blocks the thread, so an async program needs a blocking thread for it.
    ///
    /// # Errors
    /// A read returns [`ReadError::SeqNotReached`], with the LDB's seq, if the time is over.
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
    #[must_use = "only the returned reader waits"]
    pub fn min_seq(&self, seq: Seq, timeout: Duration) -> Self {
        Self { limits: FreshnessLimits { min_seq: Some((seq, timeout)), ..self.limits }, ..self.clone() }
    }

    /// A reader of the same LDB whose reads fail if [`Reader::ledger_latency`] is more than `lag`, or
    /// can't be told.
    ///
    /// # Errors
    /// A read returns [`ReadError::TooOld`].
    #[must_use = "only the returned reader checks the age"]
    pub fn max_lag(&self, lag: Duration) -> Self {
        Self { limits: FreshnessLimits { max_lag: Some(lag), ..self.limits }, ..self.clone() }
    }

    /// Waits until the LDB has `seq`, and returns the seq that it has then.
    ///
    /// # Errors
    /// [`ReadError::SeqNotReached`], with the LDB's seq, after `timeout`.
    pub fn wait_for(&self, seq: Seq, timeout: Duration) -> Result<Seq, ReadError> {
        self.min_seq(seq, timeout).read_transaction(|transaction| transaction.last_seq())
    }

    /// The last applied seq; 0 before the first.
    pub fn last_seq(&self) -> Result<Seq, ReadError> {
        self.read_transaction(|transaction| transaction.last_seq())
    }

    /// The lag of the LDB: how long ago its host last knew that the LDB had all of the ledger, by the
    /// host's own clock. `None` before the first statement, and if the clock was set back since.
    ///
    /// Some reflectors don't tell that time, such as the Go program's. For those it is the age of the
    /// last applied statement, by the ctldb's clock, and at least the age of the LDB's file. It then
    /// grows while nothing is written.
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
    /// [`ReadError::UnknownTable`]; [`ReadError::OddTable`] if another program made it with a type or
    /// name that ctlstore has not.
    pub fn schema(&self, family: &str, table: &str) -> Result<TableSchema, ReadError> {
        self.read_transaction(|transaction| transaction.schema(family, table))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("limits", &self.limits).finish()
    }
}

/// The rows of [`Reader::scan_prefix`]. It holds no transaction between two rows.
pub struct Scan<T> {
    reader: Reader,
    rows: BufferedScan<T>,
}

impl<T: DeserializeOwned> Iterator for Scan<T> {
    type Item = Result<T, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { reader, rows } = self;
        rows.next(|rows| reader.read_transaction(|transaction| transaction.fill(rows)))
    }
}
