//! `<ldb.path>.caughtup`: when the applier's host last knew that the LDB had all of the
//! ledger, for processes that see the file only, and for the node's next start. The LDB's
//! own rows don't tell: they bear the time of another machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctlstore_core::disk::{beside, read_regular_text};
use ctlstore_core::ledger::{Seq, lag_of_rows};
use ctlstore_core::schema::Timestamp;

/// A mark further ahead than this is of a clock that was set back since, and means nothing.
const MAX_AHEAD: Duration = Duration::from_secs(1);

/// The most that the file may hold, in bytes. A mark has 42.
const MAX_BYTES: u64 = 64;

/// At `at`, by this host's clock, the ledger ended at `seq`, and the LDB had all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtUpMark {
    pub seq: Seq,
    pub at: Timestamp,
}

impl CaughtUpMark {
    pub fn path(ldb: &Path) -> PathBuf {
        beside(ldb, ".caughtup")
    }

    /// The mark beside the LDB; `None` where there is none that can be read.
    pub fn read(ldb: &Path) -> Option<Self> {
        let text = read_regular_text(&Self::path(ldb), MAX_BYTES).ok()?;
        let (seq, micros) = text.trim_end().split_once(' ')?;
        Some(Self { seq: Seq(seq.parse().ok()?), at: Timestamp::from_unix_micros(micros.parse().ok()?) })
    }

    /// Always as long, so that it can be overwritten in place.
    pub fn line(&self) -> String {
        format!("{:020} {:020}\n", self.seq.0, self.at.unix_micros())
    }

    /// Whether it says anything about an LDB at `seq`; one that went back is another one.
    pub fn is_of(&self, seq: Seq) -> bool {
        self.seq <= seq
    }

    pub fn is_to_come(&self, now: Timestamp) -> bool {
        now.age_at(self.at) > MAX_AHEAD
    }
}

/// How far an LDB at `seq` is behind, as its files tell; `None` where they don't.
pub(super) fn lag(ldb: &Path, seq: Seq, leader_ts: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    match CaughtUpMark::read(ldb).filter(|mark| mark.is_of(seq)) {
        Some(mark) if mark.is_to_come(now) => None,
        Some(mark) => Some(mark.at.age_at(now)),
        None => lag_of_rows(leader_ts, written_at(ldb), now),
    }
}

/// When the LDB's file or its log was last written.
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
