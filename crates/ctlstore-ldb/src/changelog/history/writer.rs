//! Writes the history: one group of lines for each transaction of the LDB. What can't
//! be written holds nothing up; a record that tells clients to start over takes its
//! place as soon as it can.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use ctlstore_core::disk;
use ctlstore_core::ledger::Seq;

use super::diff::{self, DiffError};
use super::line::{self, Op, TableChange};
use super::recovery::{Recovered, belongs};
use super::segment::{self, Header};
use super::{HistoryError, HistoryOptions, MAX_PENDING_BYTES};

/// The history is this many segments, as a rule.
const SEGMENTS: u64 = 16;
/// The most that the file which announces the seq may hold, in bytes.
const MAX_SEQ_BYTES: u64 = 64;
const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

const LOST: &str = "the local database was changed without its history";
const WENT_BACK: &str = "an earlier local database took the place of this one";
const OTHER_LEDGER: &str = "the local database follows another ledger";
const NOT_WRITTEN: &str = "changes could not be written to the history";
const TOO_LARGE: &str = "one transaction had more changes than are kept";
const UNKNOWN: &str = "a statement changed rows that it does not name";

/// The history of one LDB, as its applier has it.
#[derive(Debug)]
pub struct History {
    options: HistoryOptions,
    segment_bytes: u64,
    /// The segments before the current one: the number of the first record, bytes.
    full: Vec<(u64, u64)>,
    current: Option<Current>,
    /// The number behind the last committed record.
    next: u64,
    /// The LDB's seq behind the last committed group.
    at: Seq,
    ledger: Option<String>,
    /// The highest seq that the LDB had come to before it went back or began anew.
    seen: Seq,
    pending: Pending,
    /// Why clients are to start over, as long as that is not written.
    owes_resync: Option<&'static str>,
    error: Option<HistoryError>,
}

#[derive(Debug)]
struct Current {
    first: u64,
    file: File,
    header: Header,
    /// How far it is committed, in bytes.
    committed: u64,
    /// How far it is written, in bytes; more than `committed` within a group.
    written: u64,
}

/// The lines of the transaction that is open.
#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    next: u64,
    /// Whether there were more of them than are kept.
    overflowed: bool,
    /// What is about to commit: the LDB's seq behind it, and whether its group is
    /// written.
    prepared: Option<(Seq, bool)>,
}

impl History {
    /// Opens the history of an LDB that stands at `at` and follows `ledger`. Where there
    /// is none, or one that lacks changes, another one begins.
    pub fn open(options: &HistoryOptions, at: Seq, ledger: Option<&str>) -> Self {
        let mut history = Self {
            segment_bytes: (options.retain_bytes / SEGMENTS).max(MIN_SEGMENT_BYTES),
            options: options.clone(),
            full: Vec::new(),
            current: None,
            next: 1,
            at,
            ledger: ledger.map(str::to_owned),
            seen: Seq::ZERO,
            pending: Pending::default(),
            owes_resync: None,
            error: None,
        };
        let opened = history.find(at, ledger);
        history.keep(opened);
        history
    }

    /// What keeps the history from being written, as long as it does.
    pub fn error(&self) -> Option<&HistoryError> {
        self.error.as_ref()
    }

    /// A transaction begins.
    pub fn begin(&mut self) {
        self.abort();
        self.start_over();
    }

    fn start_over(&mut self) {
        self.pending.lines.clear();
        self.pending.next = self.next;
        self.pending.overflowed = false;
    }

    /// One row changed. `entry` is its changelog entry without the numbers.
    pub fn row(&mut self, op: Option<Op>, entry: &[u8], ledger_seq: Seq) {
        if self.has_room() {
            line::push_row(&mut self.pending.lines, self.pending.next, op, entry, ledger_seq);
            self.pending.next += 1;
        }
    }

    /// A table changed as a whole; given as family and table.
    pub fn table(&mut self, change: TableChange, table: (&str, &str), ledger_seq: Seq) {
        if self.has_room() {
            line::push_table(&mut self.pending.lines, self.pending.next, change, table, ledger_seq);
            self.pending.next += 1;
        }
    }

    /// Rows changed that nobody can name.
    pub fn unknown(&mut self, ledger_seq: Seq) {
        self.resync(UNKNOWN, ledger_seq);
    }

    /// The LDB that takes the place is not so far as the one before, or of another history
    /// of the ledger.
    pub(super) fn went_back(&mut self, to: Seq) {
        self.resync(WENT_BACK, to);
    }

    fn resync(&mut self, reason: &str, ledger_seq: Seq) {
        line::push_resync(&mut self.pending.lines, self.pending.next, reason, ledger_seq);
        self.pending.next += 1;
    }

    fn has_room(&mut self) -> bool {
        self.pending.overflowed |= self.pending.lines.len() > MAX_PENDING_BYTES;
        !self.pending.overflowed
    }

    /// The transaction, which began at `from`, is about to commit at `to`: writes its
    /// group, so that no crash can part the two.
    pub fn prepare(&mut self, from: Seq, to: Seq) {
        if from != self.at && self.owes_resync.is_none() {
            self.owes_resync = Some(LOST);
        }
        // What is owed by now takes the place of everything before it.
        if let Some(reason) = self.owes_resync.or(self.pending.overflowed.then_some(TOO_LARGE)) {
            self.start_over();
            self.resync(reason, to);
        }
        line::push_until(&mut self.pending.lines, to);
        let written = self.write_group();
        self.pending.prepared = Some((to, written.is_ok()));
        self.keep(written);
    }

    /// The transaction has committed.
    pub fn commit(&mut self) {
        let Some((to, is_written)) = self.pending.prepared.take() else { return };
        // Whatever is missing here, what comes next is to be told from there on.
        self.at = to;
        if !is_written {
            return;
        }
        let mut mark = Vec::new();
        line::push_commit(&mut mark, to, None);
        let marked = self.write(&mark).map(|()| {
            self.owes_resync = None;
            self.committed(self.pending.next);
        });
        self.keep(marked);
    }

    /// The transaction was rolled back, or is known to have been.
    pub fn abort(&mut self) {
        if self.pending.prepared.take().is_some() {
            let cut = self.cut();
            self.keep(cut);
        }
    }

    /// The LDB follows this ledger from now on.
    pub fn adopt(&mut self, ledger: &str) {
        if self.ledger.as_deref() == Some(ledger) {
            return;
        }
        if self.ledger.replace(ledger.to_owned()).is_some() {
            self.owes_resync = Some(OTHER_LEDGER);
            return self.settle();
        }
        let mut mark = Vec::new();
        line::push_commit(&mut mark, self.at, Some(ledger));
        let marked = self.cut().and_then(|()| self.write(&mark)).map(|()| self.committed(self.next));
        self.keep(marked);
    }

    /// The LDB at `new` is about to take the place of the one at `old`, which this is
    /// the history of: writes what differs. Nothing is to be written after that but
    /// where `new` does not take the place; then all of it is taken back.
    pub fn bridge(&mut self, old: &Path, new: &Path) -> Result<(), DiffError> {
        diff::enter(self, old, new)
    }

    /// Tells clients what they are owed, without waiting for the next change.
    pub fn settle(&mut self) {
        let Some(reason) = self.owes_resync else { return };
        self.start_over();
        self.resync(reason, self.at);
        line::push_commit(&mut self.pending.lines, self.at, self.ledger.as_deref());
        let written = self.write_group().map(|()| {
            self.owes_resync = None;
            self.error = None;
            self.committed(self.pending.next);
        });
        self.keep(written);
    }

    fn committed(&mut self, next: u64) {
        if let Some(current) = &mut self.current {
            current.committed = current.written;
        }
        self.next = next;
        self.start_over();
    }

    /// Keeps an error, and that the changes it cost are owed to clients.
    fn keep(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) if self.owes_resync.is_none() => self.error = None,
            Ok(()) => {}
            Err(error) => {
                self.owes_resync.get_or_insert(NOT_WRITTEN);
                self.error = Some(HistoryError::new(&self.options.directory, "writing it", error));
            }
        }
    }

    fn write_group(&mut self) -> io::Result<()> {
        self.cut()?;
        self.rotate()?;
        let lines = std::mem::take(&mut self.pending.lines);
        let written = self.write(&lines);
        self.pending.lines = lines;
        written
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let current = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        current.file.write_all(lines)?;
        current.written += lines.len() as u64;
        Ok(())
    }

    /// Takes back what is written and not committed, by whomever. Nobody has read it:
    /// readers take nothing that has no mark behind it.
    fn cut(&mut self) -> io::Result<()> {
        if let Some(current) = &mut self.current {
            if current.file.metadata()?.len() != current.committed {
                current.file.set_len(current.committed)?;
            }
            current.written = current.committed;
        }
        Ok(())
    }

    /// Begins another segment where there is none or the current one is full, and
    /// removes the oldest ones beyond what is to be retained.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some(current) = &self.current
            && (current.committed < self.segment_bytes || current.first == self.next)
        {
            return Ok(());
        }
        let history = match &self.current {
            Some(current) => current.header.history.clone(),
            None => {
                self.clear()?;
                uuid::Uuid::new_v4().simple().to_string()
            }
        };
        let (first, from, ledger) = (self.next, self.at, self.ledger.clone());
        let header = Header { history, version: segment::VERSION, first, from, ledger, seen: self.seen };
        let (file, length) = segment::create(&self.options.directory, &header)?;
        let new = Current { first, file, header, committed: length, written: length };
        if let Some(full) = self.current.replace(new) {
            self.full.push((full.first, full.committed));
        }
        self.drop_oldest();
        Ok(())
    }

    fn drop_oldest(&mut self) {
        let mut bytes: u64 = self.full.iter().map(|(_, bytes)| bytes).sum();
        while bytes + self.segment_bytes > self.options.retain_bytes && !self.full.is_empty() {
            let (first, length) = self.full.remove(0);
            bytes -= length;
            // One that can't be removed now is found at the next start.
            let _ = fs::remove_file(segment::path_of(&self.options.directory, first));
        }
    }

    /// Fails where something has a segment's name and is no file. It is not this history's to remove.
    fn check(&self, firsts: &[u64]) -> io::Result<()> {
        firsts.iter().try_for_each(|first| disk::check_regular(&segment::path_of(&self.options.directory, *first)))
    }

    /// Removes every segment: what follows is another history.
    fn clear(&mut self) -> io::Result<()> {
        disk::create_own_directory(&self.options.directory)?;
        self.full.clear();
        let firsts = segment::list(&self.options.directory)?;
        self.check(&firsts)?;
        for first in firsts {
            fs::remove_file(segment::path_of(&self.options.directory, first))?;
        }
        Ok(())
    }

    /// Goes on with the history that is there, where one is.
    fn find(&mut self, at: Seq, ledger: Option<&str>) -> io::Result<()> {
        disk::create_own_directory(&self.options.directory)?;
        let mut firsts = segment::list(&self.options.directory)?;
        self.check(&firsts)?;
        self.seen = announced(&self.options.directory).filter(|seen| *seen > at).unwrap_or_default();
        let Some(last) = firsts.pop() else { return self.rotate() };
        let path = segment::path_of(&self.options.directory, last);
        let Ok(found) = Recovered::read(&path) else {
            // Damaged: positions in it mean nothing any more, and clients are told so.
            return self.rotate();
        };
        let file = disk::open_own(OpenOptions::new().read(true).append(true), &path)?;
        let length = file.metadata()?.len();
        for first in firsts {
            let bytes = fs::metadata(segment::path_of(&self.options.directory, first))?.len();
            self.full.push((first, bytes));
        }
        let Recovered { header, committed, next, at: stood, ledger: followed, seen, tail } = found;
        self.seen = self.seen.max(seen);
        self.current = Some(Current { first: last, file, header, committed, written: length });
        (self.next, self.at) = (next, stood);
        let is_bridged = tail.as_ref().is_some_and(|tail| tail.until == at);
        if let Some(tail) = tail.filter(|tail| tail.until == at) {
            let current = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
            current.file.set_len(tail.end)?;
            current.written = tail.end;
            let mut mark = Vec::new();
            line::push_commit(&mut mark, at, None);
            self.write(&mark)?;
            self.committed(tail.next);
            self.at = at;
        } else {
            self.cut()?;
        }
        if !belongs((self.at, followed.as_deref()), (at, ledger)) {
            // Not a record that says so in this one: of what it has lost, clients may
            // have seen records with the numbers that come next.
            self.current = None;
            if at < self.at {
                self.seen = self.seen.max(self.at);
            }
            (self.next, self.at) = (1, at);
            return self.rotate();
        }
        (self.at, self.ledger) = (at, ledger.map(str::to_owned).or(followed));
        if at < stood || is_bridged && at == stood {
            self.seen = self.seen.max(stood);
            let mut mark = Vec::new();
            line::push_back(&mut mark, at, self.seen);
            self.write(&mark)?;
            self.committed(self.next);
        }
        Ok(())
    }
}

/// The seq that the applier of this place has announced last, also where neither the LDB
/// nor its history are there any more.
fn announced(directory: &Path) -> Option<Seq> {
    disk::read_regular_text(&directory.with_extension("seq"), MAX_SEQ_BYTES).ok()?.trim().parse().ok().map(Seq)
}
