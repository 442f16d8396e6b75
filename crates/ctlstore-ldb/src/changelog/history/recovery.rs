//! What the one before has left of a history, as whoever goes on with it finds it.

use std::io;
use std::path::Path;

use ctlstore_core::disk::LineReader;
use ctlstore_core::ledger::Seq;

use super::line::Line;
use super::segment::{self, Header};

/// Whether the history, which ends at the first, goes on to be that of an LDB that
/// stands at the second.
pub fn belongs(history: (Seq, Option<&str>), ldb: (Seq, Option<&str>)) -> bool {
    match (history.1, ldb.1) {
        // The same ledger again brings the same rows again: nothing is lost by that.
        (Some(followed), Some(follows)) => followed == follows && ldb.0 <= history.0,
        _ => ldb.0 == history.0,
    }
}

/// The last segment, as the one before has left it.
pub struct Recovered {
    pub header: Header,
    /// Behind the last commit mark, in bytes.
    pub committed: u64,
    /// The number behind the last committed record.
    pub next: u64,
    /// The LDB's seq behind the last commit.
    pub at: Seq,
    pub ledger: Option<String>,
    /// As in the header, or as learned since.
    pub seen: Seq,
    pub tail: Option<WholeGroup>,
}

/// A group that is written to its end and not marked as committed.
pub struct WholeGroup {
    /// The LDB's seq where it has committed.
    pub until: Seq,
    /// Behind its last line, in bytes.
    pub end: u64,
    /// The number behind its last record.
    pub next: u64,
}

impl Recovered {
    pub fn read(path: &Path) -> io::Result<Self> {
        let header = segment::read_header(path)?;
        let mut lines = LineReader::new(segment::open(path)?, 0);
        lines.read_line()?;
        let (mut next, ledger) = (header.first, header.ledger.clone());
        let (at, seen) = (header.from, header.seen);
        let mut found = Self { committed: lines.offset(), next, at, ledger, seen, tail: None, header };
        while let Some(line) = lines.read_line()? {
            match Line::parse(line) {
                Some(Line::Record(record)) if record.number == next => next += 1,
                Some(Line::Until(until)) => found.tail = Some(WholeGroup { until, end: lines.offset(), next }),
                Some(Line::Commit { at, ledger, seen }) => {
                    (found.committed, found.next, found.at, found.tail) = (lines.offset(), next, at, None);
                    found.ledger = ledger.or(found.ledger);
                    found.seen = found.seen.max(seen.unwrap_or_default());
                }
                // Damage: what was committed before it is what there is.
                _ => break,
            }
        }
        Ok(found)
    }
}
