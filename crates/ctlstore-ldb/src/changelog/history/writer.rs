//! Writes the history: one group of lines for each transaction of the LDB. Entry point:
//! [`History`]. A failure to write holds nothing up. As soon as writing works again, a record
//! replaces the lost changes and tells clients to start over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use ctlstore_core::disk;
use ctlstore_core::ledger::Seq;

use super::line::{self, Op, ResyncReason, TableChange};
use super::recovery::{Recovered, belongs};
use super::segment::{self, HistoryError, HistoryOptions, SegmentHeader};

/// The most bytes of lines of one LDB transaction. Beyond that clients start over.
const MAX_PENDING_BYTES: usize = 16 * 1024 * 1024;
/// About the number of segments of a full history.
const SEGMENTS: u64 = 16;
/// The most bytes of the file that announces the seq.
const MAX_SEQ_BYTES: u64 = 64;
const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

/// The history of one LDB, as its applier has it.
#[derive(Debug)]
pub struct History {
    options: HistoryOptions,
    segment_bytes: u64,
    /// The segments before the current one: the number of the first record, and the bytes.
    full: Vec<(u64, u64)>,
    current: Option<CurrentSegment>,
    /// The number after the last committed record.
    next: u64,
    /// The LDB's seq after the last committed group.
    at: Seq,
    ledger: Option<String>,
    /// The highest seq that the LDB had reached before it went back or began anew.
    seen: Seq,
    pending: PendingGroup,
    /// Why clients have to start over, until that is written.
    owes_resync: Option<ResyncReason>,
    error: Option<HistoryError>,
}

#[derive(Debug)]
struct CurrentSegment {
    first: u64,
    file: File,
    header: SegmentHeader,
    /// The committed bytes.
    committed: u64,
    /// The written bytes. They are more than the committed ones while a group is open.
    written: u64,
}

/// The lines of the open transaction.
#[derive(Debug, Default)]
struct PendingGroup {
    lines: Vec<u8>,
    next: u64,
    /// Whether there were more changes than the history takes.
    overflowed: bool,
    /// The LDB's seq after the commit that is about to happen, and whether the group was written.
    prepared: Option<(Seq, bool)>,
}

impl History {
    /// Opens the history of an LDB that is at `at` and follows `ledger`. If there is none, or if
    /// it lacks changes, another history begins.
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
            pending: PendingGroup::default(),
            owes_resync: None,
            error: None,
        };
        let opened = history.find(at, ledger);
        history.keep(opened);
        history
    }

    /// Why the history can't be written at present.
    pub fn error(&self) -> Option<&HistoryError> {
        self.error.as_ref()
    }

    /// Begins a transaction.
    pub fn begin(&mut self) {
        self.abort();
        self.start_over();
    }

    fn start_over(&mut self) {
        self.pending.lines.clear();
        self.pending.next = self.next;
        self.pending.overflowed = false;
    }

    /// Adds a changed row. `entry` is its changelog entry without the numbers.
    pub fn row(&mut self, op: Option<Op>, entry: &[u8], ledger_seq: Seq) {
        if self.has_room() {
            line::push_row(&mut self.pending.lines, self.pending.next, op, entry, ledger_seq);
            self.pending.next += 1;
        }
    }

    /// Adds a table that changed as a whole, given as family and table.
    pub fn table(&mut self, change: TableChange, table: (&str, &str), ledger_seq: Seq) {
        if self.has_room() {
            line::push_table(&mut self.pending.lines, self.pending.next, change, table, ledger_seq);
            self.pending.next += 1;
        }
    }

    /// Adds that rows changed which can't be named.
    pub fn unknown(&mut self, ledger_seq: Seq) {
        self.resync(ResyncReason::UnknownRows, ledger_seq);
    }

    /// Adds that the LDB that takes the place is not as far as the one before, or is of another
    /// history of the ledger.
    pub(super) fn went_back(&mut self, to: Seq) {
        self.resync(ResyncReason::WentBack, to);
    }

    fn resync(&mut self, reason: ResyncReason, ledger_seq: Seq) {
        line::push_resync(&mut self.pending.lines, self.pending.next, reason, ledger_seq);
        self.pending.next += 1;
    }

    fn has_room(&mut self) -> bool {
        self.pending.overflowed |= self.pending.lines.len() > MAX_PENDING_BYTES;
        !self.pending.overflowed
    }

    /// Writes the group of the transaction, which began at `from` and is about to commit at
    /// `to`. It is written before the commit, so that no crash leaves a commit without its group.
    pub fn prepare(&mut self, from: Seq, to: Seq) {
        if from != self.at && self.owes_resync.is_none() {
            self.owes_resync = Some(ResyncReason::ChangedWithoutHistory);
        }
        // A resync replaces every change before it.
        if let Some(reason) = self.owes_resync.or(self.pending.overflowed.then_some(ResyncReason::TooLarge)) {
            self.start_over();
            self.resync(reason, to);
        }
        line::push_until(&mut self.pending.lines, to);
        let written = self.write_group();
        self.pending.prepared = Some((to, written.is_ok()));
        self.keep(written);
    }

    /// Marks the group: the transaction has committed.
    pub fn commit(&mut self) {
        let Some((to, is_written)) = self.pending.prepared.take() else { return };
        // Even if something is missing here, the next group begins at this seq.
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

    /// Cuts off the group: the transaction was rolled back, or is known to have been.
    pub fn abort(&mut self) {
        if self.pending.prepared.take().is_some() {
            let cut = self.cut();
            self.keep(cut);
        }
    }

    /// Notes that the LDB follows this ledger from now on.
    pub fn adopt(&mut self, ledger: &str) {
        if self.ledger.as_deref() == Some(ledger) {
            return;
        }
        if self.ledger.replace(ledger.to_owned()).is_some() {
            self.owes_resync = Some(ResyncReason::OtherLedger);
            return self.settle();
        }
        let mut mark = Vec::new();
        line::push_commit(&mut mark, self.at, Some(ledger));
        let marked = self.cut().and_then(|()| self.write(&mark)).map(|()| self.committed(self.next));
        self.keep(marked);
    }

    /// Writes the resync that clients are owed, without waiting for the next change.
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

    /// Keeps an error. Clients are then owed a resync for the lost changes.
    fn keep(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) if self.owes_resync.is_none() => self.error = None,
            Ok(()) => {}
            Err(error) => {
                self.owes_resync.get_or_insert(ResyncReason::NotWritten);
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

    /// Cuts off what any process wrote without a commit mark. No reader has taken it, because
    /// readers take nothing without its mark.
    fn cut(&mut self) -> io::Result<()> {
        if let Some(current) = &mut self.current {
            if current.file.metadata()?.len() != current.committed {
                current.file.set_len(current.committed)?;
            }
            current.written = current.committed;
        }
        Ok(())
    }

    /// Begins another segment if there is none or the current one is full, and removes the
    /// oldest segments beyond what is retained.
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
        let first = self.next;
        let header = SegmentHeader {
            history,
            version: segment::VERSION,
            first,
            from: self.at,
            ledger: self.ledger.clone(),
            seen: self.seen,
        };
        let (file, length) = segment::create(&self.options.directory, &header)?;
        let new = CurrentSegment { first, file, header, committed: length, written: length };
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
            // A segment that can't be removed now is found at the next start.
            let _ = fs::remove_file(segment::path_of(&self.options.directory, first));
        }
    }

    /// Fails if anything with a segment's name is not a file. Such a thing is not ours to remove.
    fn refuse_irregular(&self, firsts: &[u64]) -> io::Result<()> {
        firsts.iter().try_for_each(|first| disk::check_regular(&segment::path_of(&self.options.directory, *first)))
    }

    /// Removes every segment, because another history follows.
    fn clear(&mut self) -> io::Result<()> {
        disk::create_own_directory(&self.options.directory)?;
        self.full.clear();
        let firsts = segment::list(&self.options.directory)?;
        self.refuse_irregular(&firsts)?;
        for first in firsts {
            fs::remove_file(segment::path_of(&self.options.directory, first))?;
        }
        Ok(())
    }

    /// Goes on with the history that is there, if there is one.
    fn find(&mut self, at: Seq, ledger: Option<&str>) -> io::Result<()> {
        disk::create_own_directory(&self.options.directory)?;
        let mut firsts = segment::list(&self.options.directory)?;
        self.refuse_irregular(&firsts)?;
        self.seen = announced(&self.options.directory).filter(|seen| *seen > at).unwrap_or_default();
        let Some(last) = firsts.pop() else { return self.rotate() };
        let path = segment::path_of(&self.options.directory, last);
        let Ok(found) = Recovered::read(&path) else {
            // Damaged, so positions in it mean nothing any more. Another history tells clients that.
            return self.rotate();
        };
        let file = disk::open_own(OpenOptions::new().read(true).append(true), &path)?;
        let length = file.metadata()?.len();
        for first in firsts {
            let bytes = fs::metadata(segment::path_of(&self.options.directory, first))?.len();
            self.full.push((first, bytes));
        }
        let Recovered { header, committed, next, at: recovered_at, ledger: followed, seen, tail } = found;
        self.seen = self.seen.max(seen);
        self.current = Some(CurrentSegment { first: last, file, header, committed, written: length });
        self.next = next;
        self.at = recovered_at;
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
            // A resync record in this history would not do: clients may have seen lost records
            // with the numbers that come next.
            self.current = None;
            if at < self.at {
                self.seen = self.seen.max(self.at);
            }
            self.next = 1;
            self.at = at;
            return self.rotate();
        }
        self.at = at;
        self.ledger = ledger.map(str::to_owned).or(followed);
        if at < recovered_at || is_bridged && at == recovered_at {
            self.seen = self.seen.max(recovered_at);
            let mut mark = Vec::new();
            line::push_back(&mut mark, at, self.seen);
            self.write(&mark)?;
            self.committed(self.next);
        }
        Ok(())
    }
}

/// The seq that the applier of this LDB announced last. Its file may outlive the LDB and the history.
fn announced(directory: &Path) -> Option<Seq> {
    disk::read_regular_text(&directory.with_extension("seq"), MAX_SEQ_BYTES).ok()?.trim().parse().ok().map(Seq)
}
