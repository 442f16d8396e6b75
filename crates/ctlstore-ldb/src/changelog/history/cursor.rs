//! Reads a history from a given record on, for a client that lags. A cursor reads no further
//! than its caller says; the [`HistoryTail`](super::HistoryTail) tells what is committed.

use std::io;
use std::path::{Path, PathBuf};

use ctlstore_core::disk::LineReader;
use ctlstore_core::ledger::Seq;

use super::line::{Line, Record};
use super::recovery::Recovered;
use super::segment::{self, HistoryError};

/// The records that were asked for are no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOld;

/// A position in a history.
#[derive(Debug)]
pub struct HistoryCursor {
    directory: PathBuf,
    lines: LineReader,
    /// The number of the next record.
    next: u64,
}

impl HistoryCursor {
    /// A cursor before the record `number` of the history in `directory`. That record may still
    /// have to be written, but no record before it.
    pub fn seek(directory: &Path, number: u64) -> Result<Result<Self, TooOld>, HistoryError> {
        let seek = || {
            let firsts = segment::list(directory)?;
            let Some(first) = firsts.into_iter().rev().find(|first| *first <= number) else { return Ok(Err(TooOld)) };
            let Some(lines) = open(directory, first)? else { return Ok(Err(TooOld)) };
            let mut cursor = Self { directory: directory.to_owned(), lines, next: first };
            while cursor.next < number {
                if !cursor.skip()? {
                    return Ok(Err(TooOld));
                }
            }
            Ok(Ok(cursor))
        };
        seek().map_err(|error| HistoryError::new(directory, "looking for a position in it", error))
    }

    /// The number of the next record.
    pub fn number(&self) -> u64 {
        self.next
    }

    /// Skips one record without parsing it. False if the segment has no more.
    fn skip(&mut self) -> io::Result<bool> {
        while let Some(line) = self.lines.read_line()? {
            if let Some(number) = Line::number(line) {
                // A number that does not follow means damage.
                let follows = number == self.next;
                self.next += 1;
                return Ok(follows);
            }
        }
        Ok(false)
    }

    /// Reads on, up to `until` and about `max_bytes` of records. Too old if the history dropped
    /// the next record in the meantime.
    pub fn read(&mut self, until: u64, max_bytes: usize) -> Result<Result<Vec<Record>, TooOld>, HistoryError> {
        let directory = self.directory.clone();
        self.try_read(until, max_bytes).map_err(|error| HistoryError::new(&directory, "reading it", error))
    }

    fn try_read(&mut self, until: u64, max_bytes: usize) -> io::Result<Result<Vec<Record>, TooOld>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while self.next < until && bytes < max_bytes {
            let Some(line) = self.lines.read_line()? else {
                // Committed records that are not in this segment are in the next one.
                match open(&self.directory, self.next)? {
                    Some(lines) => self.lines = lines,
                    None => return Ok(Err(TooOld)),
                }
                continue;
            };
            if let Some(Line::Record(record)) = Line::parse(line) {
                if record.number != self.next {
                    return Ok(Err(TooOld));
                }
                self.next += 1;
                bytes += record.weight();
                records.push(record);
            }
        }
        Ok(Ok(records))
    }
}

/// Opens the segment that begins with the record `first`, after its header.
fn open(directory: &Path, first: u64) -> io::Result<Option<LineReader>> {
    match segment::open(&segment::path_of(directory, first)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => {
            let mut lines = LineReader::new(file?, 0);
            lines.read_line()?;
            Ok(Some(lines))
        }
    }
}

/// The highest ledger seq that the LDB had reached before it went back or began anew; 0 if it
/// never did. A ctldb that was restored from a backup gives seqs again. So up to this one a
/// seq alone does not tell which row is meant.
pub fn given_again(directory: &Path) -> Result<Seq, HistoryError> {
    let find = || match segment::list(directory)?.pop() {
        Some(last) => Ok(Recovered::read(&segment::path_of(directory, last))?.seen),
        None => Ok(Seq::ZERO),
    };
    find().map_err(|error| HistoryError::new(directory, "looking for a seq in it", error))
}

/// The number of the first record after ledger seq `seq`. A program that has read rows at
/// `seq` goes on there, and may get records that it has already. `until` is the number after
/// the last committed record.
pub fn at_ledger_seq(directory: &Path, seq: Seq, until: u64) -> Result<Result<u64, TooOld>, HistoryError> {
    let find = || {
        let firsts = segment::list(directory)?;
        let mut start = None;
        for first in firsts {
            let header = match segment::read_header(&segment::path_of(directory, first)) {
                // It was dropped after the list was made.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                header => header?,
            };
            if header.from > seq {
                break;
            }
            start = Some(first);
        }
        let Some(start) = start else { return Ok(Err(TooOld)) };
        let Some(mut lines) = open(directory, start)? else { return Ok(Err(TooOld)) };
        let mut next = start;
        while let Some(line) = lines.read_line()? {
            if let Some(Line::Record(record)) = Line::parse(line) {
                if record.number >= until || record.ledger_seq > seq {
                    return Ok(Ok(record.number.min(until)));
                }
                next = record.number + 1;
            }
        }
        Ok(Ok(next.min(until)))
    };
    find().map_err(|error| HistoryError::new(directory, "looking for a seq in it", error))
}
