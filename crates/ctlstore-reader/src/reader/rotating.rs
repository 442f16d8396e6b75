//! One reader of several LDBs that follow the same ledger, each with an applier of its own. Entry
//! point: [`RotatingReader`].

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::read::{ReadError, millis, now_millis};
use ctlstore_core::disk::FileId;

use super::handle::Reader;

/// The most LDBs: as many as the bits of an index can tell apart.
const MAX_LDBS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 8;
/// The value of `turn` before the first turn. The clock never reaches it.
const UNDECIDED: u64 = u64::MAX;

/// Reads several LDBs in turn. So each has a time without readers, in which its applier can
/// checkpoint the whole WAL.
///
/// The clock alone decides the turn. So all threads, and all programs on the host with the same
/// paths and period, read the same LDB at the same time. A read uses the LDB whose turn it is when the
/// read begins; a scan stays with the LDB in which it began. The LDBs can be at different seqs, so a
/// read can see older data than the one before it. [`Reader::min_seq`] prevents that.
///
/// ```
/// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
/// # let one = small::SmallLdb::new();
/// # let two = small::SmallLdb::new();
/// # type Price = (String, i64, u32);
/// use std::time::Duration;
/// use ctlstore_reader::RotatingReader;
///
/// let reader = RotatingReader::open([one.path(), two.path()], Duration::from_secs(60))?;
/// let price: Option<Price> = reader.get("shop", "prices", ("de", 7))?;
/// # assert!(price.is_some());
/// # Ok::<(), ctlstore_reader::ReadError>(())
/// ```
#[derive(Debug)]
pub struct RotatingReader {
    readers: Vec<Reader>,
    period_millis: u64,
    /// The number of the turn, and in its lowest bits the index of the LDB that has it.
    turn: AtomicU64,
}

impl RotatingReader {
    /// Reads the LDBs at `paths`, each for `period` (at least a millisecond) at a time.
    ///
    /// # Errors
    /// As for [`Reader::open`]; [`ReadError::NothingToRotate`] without paths, or with more than 256.
    pub fn open<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>, period: Duration) -> Result<Self, ReadError> {
        let readers = paths.into_iter().map(Reader::open).collect::<Result<Vec<_>, _>>()?;
        if readers.is_empty() || readers.len() > MAX_LDBS {
            return Err(ReadError::NothingToRotate { got: readers.len(), max: MAX_LDBS });
        }
        Ok(Self { readers, period_millis: millis(period).max(1), turn: AtomicU64::new(UNDECIDED) })
    }

    /// The reader whose turn it is. If its LDB is missing when the turn begins, the next LDB that exists
    /// has the turn.
    pub fn current(&self) -> &Reader {
        self.at(now_millis())
    }

    fn at(&self, millis: u64) -> &Reader {
        let turn = (millis / self.period_millis) << INDEX_BITS;
        let decided = self.turn.load(Ordering::Relaxed);
        if decided >> INDEX_BITS == turn >> INDEX_BITS && decided != UNDECIDED {
            return &self.readers[(decided ^ turn) as usize];
        }
        let index = self.decide(millis / self.period_millis);
        let mine = turn | index as u64;
        // Several threads may see the turn begin, and find different files. One decides for all.
        match self.turn.compare_exchange(decided, mine, Ordering::Relaxed, Ordering::Relaxed) {
            Err(other) if other >> INDEX_BITS == turn >> INDEX_BITS => &self.readers[(other ^ turn) as usize],
            _ => &self.readers[index],
        }
    }

    /// The index of the LDB for this turn.
    fn decide(&self, turn: u64) -> usize {
        let count = self.readers.len();
        let first = usize::try_from(turn % count as u64).unwrap_or(0);
        let is_there = |index: &usize| matches!(FileId::of(self.readers[*index].path()), Ok(Some(_)));
        (0..count).map(|i| (first + i) % count).find(is_there).unwrap_or(first)
    }
}

/// Every read of [`Reader`], on the LDB whose turn it is.
impl Deref for RotatingReader {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self.current()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_told_by_the_clock_and_pass_over_an_ldb_that_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| directory.path().join(name));
        let reader = RotatingReader::open(paths.clone(), Duration::from_millis(100)).unwrap();
        let turn = |millis| paths.iter().position(|path| path == reader.at(millis).path()).unwrap();
        for round in [0, 300, 1_800_000_000_000] {
            assert_eq!([turn(round), turn(round + 99)], [0, 0]);
            assert_eq!([turn(round + 100), turn(round + 299), turn(round + 250)], [1, 2, 2]);
        }
        std::fs::write(&paths[0], "").unwrap();
        std::fs::write(&paths[2], "").unwrap();
        assert_eq!([turn(300), turn(400), turn(500), turn(600)], [0, 2, 2, 0]);
        // Within a turn the LDB stays the same, even if another file appears.
        std::fs::write(&paths[1], "").unwrap();
        assert_eq!([turn(400), turn(450)], [1, 1]);
        std::fs::remove_file(&paths[1]).unwrap();
        assert_eq!([turn(499), turn(699), turn(700)], [1, 0, 2]);
    }

    #[test]
    fn there_must_be_something_to_rotate() {
        let none = RotatingReader::open([""; 0], Duration::from_secs(1));
        assert!(matches!(none, Err(ReadError::NothingToRotate { got: 0, .. })));
    }
}
