//! Follows the end of a history: [`HistoryTail::poll`] gives what was committed since the last
//! poll. It works in the applier's process and in any other. The caller decides how often to poll.

use std::io;
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{FileId, LineReader};
use ctlstore_core::ledger::Seq;

use super::line::{Line, Record};
use super::segment::{self, HistoryError, SegmentHeader};

/// The end of a history.
#[derive(Debug)]
pub struct HistoryTail {
    directory: PathBuf,
    open: Option<OpenSegment>,
}

#[derive(Debug)]
struct OpenSegment {
    header: SegmentHeader,
    id: Option<FileId>,
    lines: LineReader,
    /// The end of the last commit mark, in bytes.
    committed: u64,
    /// The number after the last committed record.
    next: u64,
    at: Seq,
}

/// The result of a poll.
#[derive(Debug)]
pub enum Grown {
    /// There is no history.
    Missing,
    /// The tail begins at the present end: there was no history before, another one, or the next
    /// records were dropped before they were read.
    Begun,
    /// These records were committed; none if nothing happened.
    By(Vec<Record>),
}

impl HistoryTail {
    /// Opens nothing yet, because the history need not exist.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), open: None }
    }

    /// The id of the history; `None` while there is none.
    pub fn history(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.header.history.as_str())
    }

    /// The number after the last committed record.
    pub fn next(&self) -> u64 {
        self.open.as_ref().map_or(1, |open| open.next)
    }

    /// The LDB's seq after the last commit.
    pub fn at(&self) -> Seq {
        self.open.as_ref().map_or(Seq::ZERO, |open| open.at)
    }

    /// Reads what was committed since the last call.
    pub fn poll(&mut self) -> Result<Grown, HistoryError> {
        let polled = self.try_poll();
        if polled.is_err() {
            self.open = None;
        }
        polled.map_err(|error| HistoryError::new(&self.directory, "following it", error))
    }

    fn try_poll(&mut self) -> io::Result<Grown> {
        if let Some(open) = &mut self.open {
            let mut records = open.read()?;
            while open.advance(&self.directory)? {
                records.extend(open.read()?);
            }
            if !records.is_empty() || open.is_there(&self.directory)? {
                return Ok(Grown::By(records));
            }
        }
        self.open = None;
        let Some(last) = segment::list(&self.directory)?.pop() else { return Ok(Grown::Missing) };
        let mut open = OpenSegment::new(&self.directory, last)?;
        // A client that wants the records before reads them with a cursor.
        open.read()?;
        self.open = Some(open);
        Ok(Grown::Begun)
    }
}

impl OpenSegment {
    fn new(directory: &Path, first: u64) -> io::Result<Self> {
        let path = segment::path_of(directory, first);
        let header = segment::read_header(&path)?;
        let id = FileId::of(&path)?;
        let mut lines = LineReader::new(segment::open(&path)?, 0);
        lines.read_line()?;
        Ok(Self { id, committed: lines.offset(), next: header.first, at: header.from, lines, header })
    }

    /// The records up to the last commit mark.
    fn read(&mut self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut taken = 0;
        while let Some(line) = self.lines.read_line()? {
            match Line::parse(line) {
                Some(Line::Record(record)) => records.push(record),
                Some(Line::Commit { at, .. }) => {
                    self.committed = self.lines.offset();
                    self.next += (records.len() - taken) as u64;
                    self.at = at;
                    taken = records.len();
                }
                Some(Line::Until(_)) => {}
                None => break,
            }
        }
        // Records without a commit mark are read again, because they may be cut off and written anew.
        records.truncate(taken);
        self.lines.rewind(self.committed);
        Ok(records)
    }

    /// Goes on to the next segment, if there is one.
    fn advance(&mut self, directory: &Path) -> io::Result<bool> {
        if self.next == self.header.first {
            return Ok(false);
        }
        match Self::new(directory, self.next) {
            Ok(open) if open.header.history == self.header.history => {
                *self = open;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the open file is still the one at its path, and no shorter than what was read.
    fn is_there(&self, directory: &Path) -> io::Result<bool> {
        let path = segment::path_of(directory, self.header.first);
        Ok(FileId::of(&path)? == self.id && self.lines.file().metadata()?.len() >= self.committed)
    }
}
