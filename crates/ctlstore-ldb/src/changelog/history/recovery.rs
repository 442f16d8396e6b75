//! Reads what an earlier process left of a history, so that the next one can go on with it.
//! Entry point: [`Recovered::read`].

use std::io;
use std::path::Path;

use ctlstore_core::disk::LineReader;
use ctlstore_core::ledger::Seq;

use super::line::Line;
use super::segment::{self, SegmentHeader};

/// Whether a history goes on as that of an LDB. Each is given as its seq and its ledger.
pub fn belongs(history: (Seq, Option<&str>), ldb: (Seq, Option<&str>)) -> bool {
    match (history.1, ldb.1) {
        // The same ledger brings the same rows again, so an LDB that lags loses nothing.
        (Some(followed), Some(follows)) => followed == follows && ldb.0 <= history.0,
        _ => ldb.0 == history.0,
    }
}

/// The last segment, as the earlier process left it.
pub struct Recovered {
    pub header: SegmentHeader,
    /// The end of the last commit mark, in bytes.
    pub committed: u64,
    /// The number after the last committed record.
    pub next: u64,
    /// The LDB's seq after the last commit.
    pub at: Seq,
    pub ledger: Option<String>,
    /// As in the header, or as told since by a commit mark.
    pub seen: Seq,
    pub tail: Option<WholeGroup>,
}

/// A group that was written to its end, but has no commit mark.
pub struct WholeGroup {
    /// The LDB's seq, if the group has committed.
    pub until: Seq,
    /// The end of its last line, in bytes.
    pub end: u64,
    /// The number after its last record.
    pub next: u64,
}

impl Recovered {
    pub fn read(path: &Path) -> io::Result<Self> {
        let header = segment::read_header(path)?;
        let mut lines = LineReader::new(segment::open(path)?, 0);
        lines.read_line()?;
        let mut next = header.first;
        let mut found = Self {
            committed: lines.offset(),
            next,
            at: header.from,
            ledger: header.ledger.clone(),
            seen: header.seen,
            tail: None,
            header,
        };
        while let Some(line) = lines.read_line()? {
            match Line::parse(line) {
                Some(Line::Record(record)) if record.number == next => next += 1,
                Some(Line::Until(until)) => found.tail = Some(WholeGroup { until, end: lines.offset(), next }),
                Some(Line::Commit { at, ledger, seen }) => {
                    found.committed = lines.offset();
                    found.next = next;
                    found.at = at;
                    found.tail = None;
                    found.ledger = ledger.or(found.ledger);
                    found.seen = found.seen.max(seen.unwrap_or_default());
                }
                // A damaged line. Only the lines that were committed before it count.
                _ => break,
            }
        }
        Ok(found)
    }
}
