//! Decides how far a ledger may be pruned. Entry point: [`PruneCutter`]. Other modules read the
//! rows and delete them.
//!
//! A row may go if it is old enough and a verified snapshot has it. The last row stays, and no
//! cut is inside a ledger transaction.

use crate::schema::Timestamp;

use super::row::Seq;

/// A ledger row without its statement: the columns that pruning looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    pub seq: Seq,
    /// `None` if the column is NULL or holds no time.
    pub leader_ts: Option<Timestamp>,
    pub marker: Option<Marker>,
    /// Bytes of the row's statement.
    pub bytes: u64,
}

/// A row that begins or ends a ledger transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Begin,
    Commit,
}

impl Marker {
    /// So many characters of a statement tell whether it is a marker: one more than the longest has.
    pub const LOOK_AT: usize = 11;

    /// The marker whose statement begins with these [`Marker::LOOK_AT`] characters, if it is one.
    pub fn of(statement: &[u8]) -> Option<Self> {
        match statement {
            text if text == crate::sql::BEGIN.as_bytes() => Some(Self::Begin),
            text if text == crate::sql::COMMIT.as_bytes() => Some(Self::Commit),
            _ => None,
        }
    }
}

/// A snapshot that was fetched and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSnapshot {
    /// The last ledger row in it.
    pub seq: Seq,
    /// That row's `leader_ts`, if the snapshot knows it.
    pub leader_ts: Option<Timestamp>,
    /// The id of its ledger; `None` in a snapshot of the Go program.
    pub ledger_id: Option<String>,
    /// Its URL, without secrets.
    pub url: String,
}

/// The bounds of pruning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneBounds {
    /// Only rows that were written before this may go.
    pub before: Timestamp,
    /// Only rows up to this one may go: a snapshot has them.
    pub snapshot: Seq,
    /// The ledger's last row. It stays, since the next seq is computed from it.
    pub last: Seq,
}

/// Why no further row may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneLimit {
    /// The next row is too young.
    Age,
    /// The next row is not in the snapshot.
    Snapshot,
    /// The next row is the last one.
    LastRow,
    /// There was no further row to look at.
    Rows,
}

/// Looks at the ledger's rows from the first one on, and says how many of them may go.
#[derive(Debug)]
pub struct PruneCutter {
    bounds: PruneBounds,
    /// Whether the last row was inside a ledger transaction.
    open: bool,
    /// Rows looked at, and their bytes.
    seen: (u64, u64),
    cut: Option<Seq>,
    /// Rows up to the cut, and their bytes.
    counted: (u64, u64),
}

impl PruneCutter {
    pub fn new(bounds: PruneBounds) -> Self {
        Self { bounds, open: false, seen: (0, 0), cut: None, counted: (0, 0) }
    }

    /// Looks at the next row, in seq order.
    ///
    /// # Errors
    /// The limit that keeps the row. After that no further row may be pushed.
    pub fn push(&mut self, row: &HeadRow) -> Result<(), PruneLimit> {
        if row.seq >= self.bounds.last {
            return Err(PruneLimit::LastRow);
        }
        if row.seq > self.bounds.snapshot {
            return Err(PruneLimit::Snapshot);
        }
        if row.leader_ts.is_some_and(|at| at >= self.bounds.before) {
            return Err(PruneLimit::Age);
        }
        self.seen = (self.seen.0 + 1, self.seen.1 + row.bytes);
        match row.marker {
            Some(Marker::Begin) => self.open = true,
            Some(Marker::Commit) => self.open = false,
            None => {}
        }
        // A row without a time counts as old as the next one that has a time.
        if !self.open && row.leader_ts.is_some() {
            self.cut = Some(row.seq);
            self.counted = self.seen;
        }
        Ok(())
    }

    /// Pushes rows until a limit keeps one.
    pub fn push_all(&mut self, rows: &[HeadRow]) -> PruneLimit {
        rows.iter().find_map(|row| self.push(row).err()).unwrap_or(PruneLimit::Rows)
    }

    /// The last row that may go; `None` if none may.
    pub fn cut(&self) -> Option<Seq> {
        self.cut
    }

    /// How many rows may go.
    pub fn rows(&self) -> u64 {
        self.counted.0
    }

    /// Bytes of the statements in the rows that may go.
    pub fn bytes(&self) -> u64 {
        self.counted.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, at: Option<i64>, statement: &str) -> HeadRow {
        let leader_ts = at.map(Timestamp::from_unix_micros);
        HeadRow { seq: Seq(seq), leader_ts, marker: Marker::of(statement.as_bytes()), bytes: 10 }
    }

    fn plain(seqs: std::ops::RangeInclusive<i64>) -> Vec<HeadRow> {
        seqs.map(|seq| row(seq, Some(seq), "x")).collect()
    }

    /// Each row was written at the time of its seq. Returns the cut within these bounds.
    fn cut(rows: &[HeadRow], before: i64, snapshot: i64, last: i64) -> (Option<i64>, u64, PruneLimit) {
        let before = Timestamp::from_unix_micros(before);
        let mut cutter = PruneCutter::new(PruneBounds { before, snapshot: Seq(snapshot), last: Seq(last) });
        let limit = cutter.push_all(rows);
        assert_eq!(cutter.bytes(), cutter.rows() * 10);
        (cutter.cut().map(|seq| seq.0), cutter.rows(), limit)
    }

    #[test]
    fn each_limit_holds() {
        let rows = plain(1..=9);
        assert_eq!(cut(&rows, 99, 99, 9), (Some(8), 8, PruneLimit::LastRow));
        assert_eq!(cut(&rows, 99, 5, 9), (Some(5), 5, PruneLimit::Snapshot));
        assert_eq!(cut(&rows, 4, 99, 9), (Some(3), 3, PruneLimit::Age));
        assert_eq!(cut(&rows, 99, 99, 99), (Some(9), 9, PruneLimit::Rows));
        assert_eq!(cut(&rows, 1, 99, 99), (None, 0, PruneLimit::Age));
        assert_eq!(cut(&[], 9, 9, 9), (None, 0, PruneLimit::Rows));
        assert_eq!(cut(&rows[..1], 99, 99, 1), (None, 0, PruneLimit::LastRow));
    }

    #[test]
    fn a_cut_stands_between_transactions() {
        let mut rows = plain(1..=9);
        (rows[2].marker, rows[6].marker) = (Some(Marker::Begin), Some(Marker::Commit));
        assert_eq!(cut(&rows, 99, 5, 9), (Some(2), 2, PruneLimit::Snapshot));
        assert_eq!(cut(&rows, 99, 7, 9), (Some(7), 7, PruneLimit::Snapshot));
        assert_eq!(cut(&rows[..5], 99, 99, 99), (Some(2), 2, PruneLimit::Rows));
        // The rest of a transaction whose beginning somebody has deleted.
        assert_eq!(cut(&rows[4..], 99, 99, 9), (Some(8), 4, PruneLimit::LastRow));
    }

    #[test]
    fn a_row_without_a_time_is_as_old_as_one_behind_it() {
        let mut rows = plain(1..=5);
        rows[1].leader_ts = None;
        rows[3].leader_ts = None;
        assert_eq!(cut(&rows, 99, 99, 9), (Some(5), 5, PruneLimit::Rows));
        assert_eq!(cut(&rows, 5, 99, 9), (Some(3), 3, PruneLimit::Age));
    }

    #[test]
    fn an_old_row_behind_a_young_one_stays() {
        let rows = [row(1, Some(1), "x"), row(2, Some(9), "x"), row(3, Some(1), "x")];
        assert_eq!(cut(&rows, 5, 99, 99), (Some(1), 1, PruneLimit::Age));
    }

    #[test]
    fn only_the_markers_themselves_are_markers() {
        assert_eq!(Marker::of(b"--- BEGIN"), Some(Marker::Begin));
        assert_eq!(Marker::of(b"--- COMMIT"), Some(Marker::Commit));
        for other in [&b"--- begin"[..], b"--- BEGIN ", b"--- COMMIT!", b""] {
            assert_eq!(Marker::of(other), None);
        }
    }
}
