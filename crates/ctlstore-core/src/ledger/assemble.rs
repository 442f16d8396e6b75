//! Groups ledger rows into batches that never end inside a ledger transaction, so that the
//! applier can commit after each batch. Entry points: [`Assembler::push`] and
//! [`Assembler::take_complete`].

use crate::sql::{BEGIN, COMMIT};

use super::row::{LedgerRow, Seq};

/// The largest ledger transaction that is accepted, in bytes of statements. A request to an
/// executive has at most 1 MiB; other programs may write larger transactions.
const MAX_TRANSACTION_BYTES: usize = 64 * 1024 * 1024;

/// Consecutive ledger rows of whole transactions. It is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    follows: Seq,
    rows: Vec<LedgerRow>,
    bytes: usize,
}

impl Batch {
    pub fn rows(&self) -> &[LedgerRow] {
        &self.rows
    }

    /// The seq before the batch's first row: that of the row before, or the one at which reading
    /// began. An LDB with a lower seq lacks rows, so it can't apply the batch.
    pub fn follows(&self) -> Seq {
        self.follows
    }

    pub fn first_seq(&self) -> Seq {
        self.rows[0].seq
    }

    pub fn last_seq(&self) -> Seq {
        self.rows[self.rows.len() - 1].seq
    }

    /// Bytes of all statements.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A fault in the ledger. It stops the reflector, since an LDB that skipped the row would diverge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    #[error("ledger row {seq} comes after row {last}")]
    OutOfOrder { seq: Seq, last: Seq },
    #[error("ledger row {seq} begins a transaction within the one that row {begun} began")]
    NestedBegin { seq: Seq, begun: Seq },
    #[error("ledger row {seq} commits a transaction that no row began")]
    CommitWithoutBegin { seq: Seq },
    #[error("the ledger transaction that row {begun} began has more than {MAX_TRANSACTION_BYTES} bytes")]
    TooLarge { begun: Seq },
}

/// Collects rows in seq order, and returns those whose transactions are complete.
#[derive(Debug)]
pub struct Assembler {
    last: Seq,
    /// The last row that was returned in a batch.
    given: Seq,
    rows: Vec<LedgerRow>,
    /// How many of `rows`, from the front, form complete transactions, and the bytes of those.
    complete: usize,
    complete_bytes: usize,
    /// The seq of the open `--- BEGIN`, and the bytes since then.
    open: Option<Seq>,
    open_bytes: usize,
}

impl Assembler {
    /// Starts after `applied`, the last row that the LDB has.
    pub fn after(applied: Seq) -> Self {
        Self {
            last: applied,
            given: applied,
            rows: Vec::new(),
            complete: 0,
            complete_bytes: 0,
            open: None,
            open_bytes: 0,
        }
    }

    /// The last row that was pushed.
    pub fn last_seq(&self) -> Seq {
        self.last
    }

    /// Whether a ledger transaction has begun and has not ended yet.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Adds the next row.
    ///
    /// # Errors
    /// If no ledger could have this row after those before.
    pub fn push(&mut self, row: LedgerRow) -> Result<(), AssembleError> {
        let seq = row.seq;
        if seq <= self.last {
            return Err(AssembleError::OutOfOrder { seq, last: self.last });
        }
        match (row.statement.as_str(), self.open) {
            (BEGIN, Some(begun)) => return Err(AssembleError::NestedBegin { seq, begun }),
            (BEGIN, None) => self.open = Some(seq),
            (COMMIT, None) => return Err(AssembleError::CommitWithoutBegin { seq }),
            (COMMIT, Some(_)) => self.open = None,
            _ => {}
        }
        self.open_bytes += row.statement.len();
        if let Some(begun) = self.open
            && self.open_bytes > MAX_TRANSACTION_BYTES
        {
            return Err(AssembleError::TooLarge { begun });
        }
        self.last = seq;
        self.rows.push(row);
        if self.open.is_none() {
            self.complete = self.rows.len();
            self.complete_bytes += std::mem::take(&mut self.open_bytes);
        }
        Ok(())
    }

    /// The rows whose transactions are complete; `None` if there are none.
    pub fn take_complete(&mut self) -> Option<Batch> {
        if self.complete == 0 {
            return None;
        }
        let rest = self.rows.split_off(std::mem::take(&mut self.complete));
        let rows = std::mem::replace(&mut self.rows, rest);
        let last = rows.last().map_or(self.given, |row| row.seq);
        let follows = std::mem::replace(&mut self.given, last);
        Some(Batch { follows, rows, bytes: std::mem::take(&mut self.complete_bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, statement: &str) -> LedgerRow {
        LedgerRow { seq: Seq(seq), leader_ts: None, statement: statement.to_owned() }
    }

    #[test]
    fn batches_end_where_transactions_end() {
        let mut assembler = Assembler::after(Seq(4));
        for r in [row(5, "a"), row(6, BEGIN), row(7, "bb")] {
            assembler.push(r).unwrap();
        }
        let batch = assembler.take_complete().unwrap();
        assert_eq!((batch.first_seq(), batch.last_seq(), batch.bytes()), (Seq(5), Seq(5), 1));
        assert_eq!(batch.follows(), Seq(4));
        assert_eq!(assembler.take_complete(), None);
        assert!(assembler.in_transaction());
        for r in [row(9, COMMIT), row(12, "c")] {
            assembler.push(r).unwrap();
        }
        let batch = assembler.take_complete().unwrap();
        assert_eq!((batch.first_seq(), batch.last_seq(), batch.rows().len()), (Seq(6), Seq(12), 4));
        assert_eq!(batch.follows(), Seq(5));
        assert_eq!(batch.bytes(), BEGIN.len() + 2 + COMMIT.len() + 1);
        assert!(!assembler.in_transaction());
    }

    #[test]
    fn a_ledger_that_makes_no_sense_is_an_error() {
        let mut assembler = Assembler::after(Seq(4));
        assert_eq!(assembler.push(row(4, "a")), Err(AssembleError::OutOfOrder { seq: Seq(4), last: Seq(4) }));
        assert_eq!(assembler.push(row(5, COMMIT)), Err(AssembleError::CommitWithoutBegin { seq: Seq(5) }));
        assembler.push(row(6, BEGIN)).unwrap();
        assert_eq!(assembler.push(row(7, BEGIN)), Err(AssembleError::NestedBegin { seq: Seq(7), begun: Seq(6) }));
    }

    #[test]
    fn a_transaction_without_end_is_bounded() {
        let mut assembler = Assembler::after(Seq(0));
        assembler.push(row(1, BEGIN)).unwrap();
        let large = "x".repeat(MAX_TRANSACTION_BYTES / 4);
        let error = (2..10).find_map(|seq| assembler.push(row(seq, &large)).err());
        assert_eq!(error, Some(AssembleError::TooLarge { begun: Seq(1) }));
    }
}
