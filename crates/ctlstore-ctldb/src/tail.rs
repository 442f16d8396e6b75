//! Reads the ledger on after an LDB's position. Entry points: [`Tail::open`] and [`Tail::next`]. It applies
//! nothing.
//!
//! Two checks keep a copy from diverging. The last applied row must still be in the ledger. A jump in seq
//! is believed only after the missing range was read again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use ctlstore_core::ledger::{
    Block, BlockLimit, CannotFollow, LdbPosition, LedgerInfo, LedgerRow, LedgerSource, Seq, SourceError, may_follow,
};
use ctlstore_core::schema::Timestamp;

/// The time in which a row may appear whose seq is below one that was read already, after the source has
/// settled. Writers that take the ledger lock commit in seq order; the original's DROP TABLE writes its row
/// without the lock.
const GAP_GRACE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, thiserror::Error)]
pub enum TailError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    CannotFollow(#[from] CannotFollow),
    #[error("ledger row {seq} is not the one that was applied: the ctldb was restored or is another one")]
    OtherHistory { seq: Seq },
    #[error("ledger row {seq}, the last applied one, is gone, and the ledger was not pruned up to it")]
    LastAppliedGone { seq: Seq },
}

/// The rows after the last ones, complete up to the last of these.
#[derive(Debug, Default)]
pub struct NewRows {
    pub rows: Vec<LedgerRow>,
    /// Whether the ledger ended there.
    pub at_end: bool,
    /// The jumps in seq, each of which was read twice.
    pub gaps: u64,
}

/// The properties of the last row by which it is recognised.
#[derive(Debug, Clone, Copy, Default)]
struct Anchor {
    leader_ts: Option<Timestamp>,
    statement: Option<u64>,
}

/// A source that is read from one position on.
#[derive(Debug)]
pub struct Tail<'a, S> {
    source: &'a mut S,
    last: Seq,
    anchor: Anchor,
    ledger_id: Option<String>,
}

impl<'a, S: LedgerSource> Tail<'a, S> {
    /// Begins at `position`, if the LDB there may follow this ledger.
    pub async fn open(source: &'a mut S, position: &LdbPosition) -> Result<(Self, LedgerInfo), TailError> {
        let info = source.describe().await?;
        may_follow(&info, position)?;
        let anchor = Anchor { leader_ts: position.leader_ts, statement: None };
        Ok((Self { source, last: position.seq, anchor, ledger_id: position.ledger_id.clone() }, info))
    }

    /// The seq of the last row that was returned, or that the LDB had at the start.
    pub fn last_seq(&self) -> Seq {
        self.last
    }

    /// The id that the ledger has now, if it had none when the tail was opened.
    pub async fn look_for_id(&mut self) -> Result<Option<String>, TailError> {
        let info = self.source.describe().await?;
        let position = LdbPosition { seq: self.last, leader_ts: None, ledger_id: self.ledger_id.clone() };
        may_follow(&info, &position)?;
        self.ledger_id.clone_from(&info.ledger_id);
        Ok(info.ledger_id)
    }

    /// The next rows. There may be none yet.
    pub async fn next(&mut self, limit: BlockLimit) -> Result<NewRows, TailError> {
        let block = self.read_with_anchor(limit).await?;
        let new = match jumps(self.last, &block.rows) {
            0 => NewRows { rows: block.rows, at_end: block.at_end, gaps: 0 },
            _ => self.read_again(block, limit).await?,
        };
        if let Some(row) = new.rows.last() {
            self.last = row.seq;
            self.anchor = Anchor { leader_ts: row.leader_ts, statement: Some(hash(&row.statement)) };
        }
        Ok(new)
    }

    /// Reads from the last row on, checks that row, and returns the rows after it.
    async fn read_with_anchor(&mut self, limit: BlockLimit) -> Result<Block, TailError> {
        if self.last == Seq::ZERO {
            return Ok(self.source.read(Seq::ZERO, None, limit).await?);
        }
        let one_more = BlockLimit { rows: limit.rows + 1, ..limit };
        let mut block = self.source.read(Seq(self.last.0 - 1), None, one_more).await?;
        match block.rows.first() {
            Some(row) if row.seq == self.last => {
                self.check_anchor(row)?;
                block.rows.remove(0);
                if block.rows.is_empty() && !block.at_end {
                    // That row alone has filled the block.
                    block = self.source.read(self.last, None, limit).await?;
                }
            }
            _ => self.check_without_anchor().await?,
        }
        Ok(block)
    }

    fn check_anchor(&self, row: &LedgerRow) -> Result<(), TailError> {
        let other_time = matches!((self.anchor.leader_ts, row.leader_ts), (Some(a), Some(b)) if a != b);
        let other_text = self.anchor.statement.is_some_and(|known| known != hash(&row.statement));
        if other_time || other_text {
            return Err(TailError::OtherHistory { seq: self.last });
        }
        Ok(())
    }

    /// Judges a ledger without the last applied row. That is right only if the ledger begins directly after
    /// it. If the ledger begins later, rows in between were lost.
    async fn check_without_anchor(&mut self) -> Result<(), TailError> {
        let info = self.source.describe().await?;
        let position = LdbPosition { seq: self.last, leader_ts: None, ledger_id: self.ledger_id.clone() };
        may_follow(&info, &position)?;
        match info.low_water.or(info.first) {
            Some(first) if first == self.last.next() => Ok(()),
            _ => Err(TailError::LastAppliedGone { seq: self.last }),
        }
    }

    async fn read_again(&mut self, block: Block, limit: BlockLimit) -> Result<NewRows, TailError> {
        let up_to = block.rows.last().map_or(self.last, |row| row.seq);
        let at_end = block.at_end;
        drop(block);
        self.source.settle(self.last, up_to).await?;
        tokio::time::sleep(GAP_GRACE).await;
        let again = self.source.read(self.last, Some(up_to), limit).await?;
        self.check_jumps(&again.rows).await?;
        let whole = again.rows.last().is_some_and(|row| row.seq == up_to);
        Ok(NewRows { gaps: jumps(self.last, &again.rows), rows: again.rows, at_end: at_end && whole })
    }

    /// Fails if a missing seq was pruned since the last read. Pruning moves the mark together with the rows,
    /// so the mark is read after them.
    async fn check_jumps(&mut self, rows: &[LedgerRow]) -> Result<(), TailError> {
        let Some(first) = seqs_before_jumps(self.last, rows).next() else { return Ok(()) };
        match self.source.describe().await?.low_water {
            Some(low_water) if first.next() < low_water => {
                Err(CannotFollow::Pruned { ldb: self.last, first: low_water }.into())
            }
            _ => Ok(()),
        }
    }
}

/// The seq before each jump in the seqs of `rows`, which come after `last`.
fn seqs_before_jumps(last: Seq, rows: &[LedgerRow]) -> impl Iterator<Item = Seq> {
    let before = std::iter::once(last).chain(rows.iter().map(|row| row.seq));
    before.zip(rows).filter(|(before, row)| row.seq != before.next()).map(|(before, _)| before)
}

/// The number of jumps in the seqs of `rows`, which come after `last`.
fn jumps(last: Seq, rows: &[LedgerRow]) -> u64 {
    seqs_before_jumps(last, rows).count() as u64
}

fn hash(statement: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    statement.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger in memory, which gains `late` rows once it has been read.
    #[derive(Debug, Default)]
    struct Rows {
        rows: Vec<LedgerRow>,
        late: Vec<LedgerRow>,
        low_water: Option<Seq>,
    }

    impl LedgerSource for Rows {
        async fn describe(&mut self) -> Result<LedgerInfo, SourceError> {
            Ok(LedgerInfo {
                first: self.rows.first().map(|r| r.seq),
                first_creates_table: true,
                last: self.rows.last().map(|r| r.seq),
                low_water: self.low_water,
                ..LedgerInfo::default()
            })
        }

        async fn read(&mut self, after: Seq, up_to: Option<Seq>, limit: BlockLimit) -> Result<Block, SourceError> {
            let wanted = |r: &&LedgerRow| r.seq > after && up_to.is_none_or(|up_to| r.seq <= up_to);
            let mut rows = Vec::new();
            let mut bytes = 0;
            let mut at_end = false;
            let mut left = self.rows.iter().filter(wanted);
            while rows.len() < limit.rows && bytes <= limit.bytes {
                let Some(row) = left.next() else {
                    at_end = true;
                    break;
                };
                bytes += row.statement.len();
                rows.push(row.clone());
            }
            self.rows.append(&mut self.late);
            self.rows.sort_by_key(|r| r.seq);
            Ok(Block { rows, at_end })
        }

        async fn close(&mut self) {}
    }

    fn row(seq: i64, statement: &str) -> LedgerRow {
        LedgerRow { seq: Seq(seq), leader_ts: Some(Timestamp::from_unix_micros(seq)), statement: statement.to_owned() }
    }

    fn rows(seqs: &[i64]) -> Vec<LedgerRow> {
        seqs.iter().map(|seq| row(*seq, "s")).collect()
    }

    const LIMIT: BlockLimit = BlockLimit { rows: 100, bytes: 1 << 20 };

    async fn tail(source: &mut Rows, last: i64) -> Tail<'_, Rows> {
        let leader_ts = (last > 0).then(|| Timestamp::from_unix_micros(last));
        let position = LdbPosition { seq: Seq(last), leader_ts, ledger_id: None };
        Tail::open(source, &position).await.unwrap().0
    }

    fn seqs(new: &NewRows) -> Vec<i64> {
        new.rows.iter().map(|r| r.seq.0).collect()
    }

    #[tokio::test]
    async fn reads_on_behind_the_last_applied_row() {
        let mut source = Rows { rows: rows(&[1, 2, 3]), late: rows(&[4]), low_water: None };
        let mut tail = tail(&mut source, 1).await;
        let found = tail.next(LIMIT).await.unwrap();
        assert_eq!((seqs(&found), found.at_end, found.gaps), (vec![2, 3], true, 0));
        assert_eq!(seqs(&tail.next(LIMIT).await.unwrap()), [4]);
        assert_eq!(seqs(&tail.next(LIMIT).await.unwrap()), [0i64; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_comes_late_into_a_gap_is_not_lost() {
        let mut source = Rows { rows: rows(&[1, 3, 6]), late: rows(&[2]), low_water: None };
        let mut tail = tail(&mut source, 0).await;
        let found = tail.next(LIMIT).await.unwrap();
        assert_eq!((seqs(&found), found.gaps), (vec![1, 2, 3, 6], 1));
    }

    #[tokio::test]
    async fn a_row_that_is_another_than_the_applied_one_stops_the_tail() {
        let mut source = Rows { rows: rows(&[1, 2]), late: vec![], low_water: None };
        let mut tail = tail(&mut source, 0).await;
        tail.next(LIMIT).await.unwrap();
        tail.source.rows[1].statement = "other".to_owned();
        assert!(matches!(tail.next(LIMIT).await, Err(TailError::OtherHistory { seq: Seq(2) })));
        tail.source.rows = vec![row(1, "s"), row(3, "s")];
        assert!(matches!(tail.next(LIMIT).await, Err(TailError::LastAppliedGone { seq: Seq(2) })));
        tail.source.rows = rows(&[1]);
        assert!(matches!(tail.next(LIMIT).await, Err(TailError::CannotFollow(_))));
    }

    #[tokio::test]
    async fn the_time_in_the_ldb_tells_another_history_at_once() {
        let mut source = Rows { rows: rows(&[1, 2, 3]), late: vec![], low_water: None };
        let mut tail = tail(&mut source, 2).await;
        tail.source.rows[1].leader_ts = Some(Timestamp::from_unix_micros(77));
        assert!(matches!(tail.next(LIMIT).await, Err(TailError::OtherHistory { seq: Seq(2) })));
    }

    #[tokio::test]
    async fn a_ledger_pruned_up_to_the_last_applied_row_is_followed() {
        let mut source = Rows { rows: rows(&[1, 2, 3, 4]), late: vec![], low_water: None };
        let mut tail = tail(&mut source, 2).await;
        tail.source.rows = rows(&[3, 4]);
        assert_eq!(seqs(&tail.next(LIMIT).await.unwrap()), [3, 4]);
    }

    #[tokio::test]
    async fn a_last_applied_row_larger_than_a_block_does_not_hold_up_the_next() {
        let large = "x".repeat(100);
        let mut source = Rows { rows: vec![row(1, "s"), row(2, &large), row(3, "s"), row(4, "s")], ..Rows::default() };
        let mut tail = tail(&mut source, 2).await;
        let found = tail.next(BlockLimit { rows: 100, bytes: 50 }).await.unwrap();
        assert_eq!((seqs(&found), found.at_end), (vec![3, 4], true));
    }

    #[tokio::test]
    async fn rows_lost_behind_the_last_applied_one_stop_the_tail_although_the_ledger_was_pruned_before() {
        let mut source = Rows { rows: rows(&[5, 6, 7]), low_water: Some(Seq(5)), late: vec![] };
        let mut tail = tail(&mut source, 6).await;
        tail.source.rows = rows(&[9, 10]);
        assert!(matches!(tail.next(LIMIT).await, Err(TailError::LastAppliedGone { seq: Seq(6) })));
    }

    #[tokio::test(start_paused = true)]
    async fn rows_pruned_between_two_looks_are_no_gap() {
        let mut source = Rows { rows: rows(&[1, 2, 3]), ..Rows::default() };
        let mut tail = tail(&mut source, 0).await;
        (tail.source.rows, tail.source.low_water) = (rows(&[3, 4]), Some(Seq(3)));
        let refused = tail.next(LIMIT).await.unwrap_err();
        assert!(matches!(refused, TailError::CannotFollow(CannotFollow::Pruned { first: Seq(3), .. })), "{refused}");
        // Numbers that were left out before the pruned ledger's end of pruning are none either.
        (tail.source.rows, tail.source.low_water) = (rows(&[3, 4]), Some(Seq(1)));
        assert_eq!(seqs(&tail.next(LIMIT).await.unwrap()), [3, 4]);
    }

    #[tokio::test]
    async fn a_ledger_pruned_to_nothing_is_waited_at() {
        let mut source = Rows { rows: rows(&[1, 2]), ..Rows::default() };
        let mut tail = tail(&mut source, 2).await;
        (tail.source.rows, tail.source.low_water) = (vec![], Some(Seq(3)));
        assert_eq!(seqs(&tail.next(LIMIT).await.unwrap()), [0i64; 0]);
        tail.source.rows = rows(&[3]);
        assert_eq!(seqs(&tail.next(LIMIT).await.unwrap()), [3]);
    }
}
