//! When this host last knew that the LDB had all of the ledger. The poller tells it
//! ([`KnownEnd::learn`]). The applier writes it beside the LDB (`CaughtUpMark`) about once a second,
//! and reads it from there at the start.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctlstore_core::disk::{file_mode, open_own};
use ctlstore_core::ledger::{CaughtUpAt, Seq, lag_of_rows};
use ctlstore_core::schema::Timestamp;
use ctlstore_reader::read::{CaughtUpMark, written_at};

/// The shortest time between two marks. A poll each second then writes one each time.
const MARK_EVERY: Duration = Duration::from_millis(900);

pub(super) struct KnownEnd {
    ldb: PathBuf,
    /// The seq of the ledger's end, and when that was known.
    known: Option<(Seq, CaughtUpAt)>,
    marked: Option<Instant>,
}

impl KnownEnd {
    pub(super) fn beside(ldb: &Path) -> Self {
        let mark = CaughtUpMark::read(ldb).filter(|mark| !mark.is_to_come(Timestamp::now()));
        let known = mark.map(|mark| (mark.seq, CaughtUpAt::new(mark.at)));
        Self { ldb: ldb.to_owned(), known, marked: None }
    }

    pub(super) fn learn(&mut self, seq: Seq, at: Timestamp) {
        self.known = Some((seq, CaughtUpAt::new(at)));
    }

    /// The lag of the LDB, which is at `seq`.
    pub(super) fn lag(&self, seq: Seq, leader_ts: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
        match &self.known {
            Some((end, known)) if *end <= seq => Some(known.age(now)),
            _ => lag_of_rows(leader_ts, written_at(&self.ldb), now),
        }
    }

    /// A function that writes the mark, if that is due. It has to run on a thread that may block.
    pub(super) fn due(&mut self) -> Option<impl FnOnce() -> io::Result<()> + Send + 'static> {
        if self.marked.is_some_and(|marked| marked.elapsed() < MARK_EVERY) {
            return None;
        }
        let (seq, known) = self.known?;
        self.marked = Some(Instant::now());
        let path = CaughtUpMark::path(&self.ldb);
        let line = CaughtUpMark { seq, at: known.at() }.line();
        Some(move || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(file_mode());
            let file = open_own(&mut options, &path)?;
            file.write_all_at(line.as_bytes(), 0)
        })
    }
}
