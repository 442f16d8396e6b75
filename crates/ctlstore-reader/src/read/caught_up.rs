//! The file `<ldb.path>.caughtup`: when this host last knew that the LDB had all of the ledger.
//! Entry point: [`CaughtUpMark`]. The applier writes the file for other processes and for its
//! next start. The rows of the LDB can't tell, since their times come from another machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctlstore_core::disk::{beside, read_regular_text};
use ctlstore_core::ledger::{Seq, lag_of_rows};
use ctlstore_core::schema::Timestamp;

/// If a mark is further in the future than this, the clock was set back since. Then it says nothing.
const MAX_AHEAD: Duration = Duration::from_secs(1);

/// The most bytes of the file that are read. A mark has 42.
const MAX_BYTES: u64 = 64;

/// Says that at `at`, by this host's clock, the ledger ended at `seq` and the LDB had all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtUpMark {
    pub seq: Seq,
    pub at: Timestamp,
}

impl CaughtUpMark {
    /// The path of the mark beside the LDB.
    pub fn path(ldb: &Path) -> PathBuf {
        beside(ldb, ".caughtup")
    }

    /// The mark beside the LDB; `None` if there is none that can be read.
    pub fn read(ldb: &Path) -> Option<Self> {
        let text = read_regular_text(&Self::path(ldb), MAX_BYTES).ok()?;
        let (seq, micros) = text.trim_end().split_once(' ')?;
        Some(Self { seq: Seq(seq.parse().ok()?), at: Timestamp::from_unix_micros(micros.parse().ok()?) })
    }

    /// The content of the file. It always has the same length, so that it can be overwritten in place.
    pub fn line(&self) -> String {
        format!("{:020} {:020}\n", self.seq.0, self.at.unix_micros())
    }

    /// Whether the mark belongs to an LDB at `seq`. If the LDB has a lower seq than the mark, it is
    /// another one.
    pub fn is_of(&self, seq: Seq) -> bool {
        self.seq <= seq
    }

    /// Whether the mark is in the future at `now`.
    pub fn is_to_come(&self, now: Timestamp) -> bool {
        now.age_at(self.at) > MAX_AHEAD
    }
}

/// The lag of an LDB at `seq`, by its files; `None` if they don't tell.
pub(super) fn lag(ldb: &Path, seq: Seq, leader_ts: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    match CaughtUpMark::read(ldb).filter(|mark| mark.is_of(seq)) {
        Some(mark) if mark.is_to_come(now) => None,
        Some(mark) => Some(mark.at.age_at(now)),
        None => lag_of_rows(leader_ts, written_at(ldb), now),
    }
}

/// When the LDB's file or its WAL was last written.
pub fn written_at(ldb: &Path) -> Option<Timestamp> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let last = modified(ldb).max(modified(&beside(&fs::canonicalize(ldb).ok()?, "-wal")))?;
    let since = last.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_unix_micros(i64::try_from(since.as_micros()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_for_the_ldb_that_it_was_made_for_and_not_for_the_future() {
        let directory = tempfile::tempdir().unwrap();
        let ldb = directory.path().join("ldb.db");
        fs::write(&ldb, "").unwrap();
        let now = Timestamp::now();
        let seconds = |seconds: i64| Timestamp::from_unix_micros(now.unix_micros() + seconds * 1_000_000);
        let mark = |at| fs::write(CaughtUpMark::path(&ldb), CaughtUpMark { seq: Seq(7), at }.line()).unwrap();
        // An hour ahead, in the clock of another machine.
        let rows = Some(seconds(3600));
        mark(seconds(-60));
        assert_eq!(CaughtUpMark::read(&ldb), Some(CaughtUpMark { seq: Seq(7), at: seconds(-60) }));
        assert_eq!(lag(&ldb, Seq(8), rows, now), Some(Duration::from_secs(60)));
        assert!(lag(&ldb, Seq(6), rows, now).unwrap() < Duration::from_secs(30), "of another ldb");
        mark(seconds(60));
        assert_eq!(lag(&ldb, Seq(8), rows, now), None);
        fs::write(CaughtUpMark::path(&ldb), "half a li").unwrap();
        assert!(lag(&ldb, Seq(8), rows, seconds(100)).unwrap() >= Duration::from_secs(99));
        assert!(lag(&ldb, Seq(8), Some(seconds(-3600)), now).unwrap() >= Duration::from_secs(3600));
    }
}
