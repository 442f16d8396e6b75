//! The limits that a reader sets on the age of the data, and the wait for a seq. Entry points:
//! [`FreshnessLimits::judge`] and [`SeqWait::pause`].

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::read::{ReadError, ReadTransaction};
use ctlstore_core::disk::{self, beside};
use ctlstore_core::ledger::Seq;

/// The most bytes of a seq file that are read. The file has fewer.
const SEQ_FILE_BYTES: u64 = 64;

/// The bounds of the pause between two looks. Each pause is a quarter of the wait so far: a short wait
/// ends soon after it can, and a long one costs little.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The limits that hold for every read of a reader.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FreshnessLimits {
    /// The seq that the LDB must have, and how long a read waits for it.
    pub(super) min_seq: Option<(Seq, Duration)>,
    /// The largest lag.
    pub(super) max_lag: Option<Duration>,
}

/// Whether the LDB meets the limits now.
pub(super) enum FreshnessVerdict {
    Good,
    /// The LDB has this seq and has not reached the wanted one yet.
    Lagging(Seq),
}

impl FreshnessLimits {
    pub(super) fn are_none(&self) -> bool {
        self.min_seq.is_none() && self.max_lag.is_none()
    }

    /// Checks the LDB of a transaction.
    ///
    /// # Errors
    /// [`ReadError::TooOld`]; those of reading.
    pub(super) fn judge(&self, transaction: &ReadTransaction<'_>) -> Result<FreshnessVerdict, ReadError> {
        if let Some((wanted, _)) = self.min_seq {
            let current = transaction.last_seq()?;
            if current < wanted {
                return Ok(FreshnessVerdict::Lagging(current));
            }
        }
        if let Some(max) = self.max_lag {
            let lag = transaction.ledger_latency()?;
            if lag.is_none_or(|lag| lag > max) {
                return Err(ReadError::TooOld { lag, max });
            }
        }
        Ok(FreshnessVerdict::Good)
    }
}

/// A wait for a seq. The applier, which may be another process, writes its seq into a file beside the
/// LDB. To read that file is cheaper than a read of the LDB.
pub(super) struct SeqWait {
    seq_file: PathBuf,
    wanted: Seq,
    began: Instant,
    timeout: Duration,
}

impl SeqWait {
    pub(super) fn new(ldb: &std::path::Path, wanted: Seq, timeout: Duration) -> Self {
        Self { seq_file: beside(ldb, ".seq"), wanted, began: Instant::now(), timeout }
    }

    /// Sleeps until the LDB may have the seq. Returns false if the time is over.
    pub(super) fn pause(&self) -> bool {
        let last_look = self.began.elapsed();
        loop {
            let elapsed = self.began.elapsed();
            let left = self.timeout.saturating_sub(elapsed);
            if left.is_zero() {
                return false;
            }
            thread::sleep((elapsed / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE).min(left));
            // The file is only a hint. The Go program writes none, and an old one may have been left.
            let is_due = self.began.elapsed().saturating_sub(last_look) >= LONGEST_PAUSE;
            if is_due || self.announced().is_none_or(|seq| seq >= self.wanted) {
                return true;
            }
        }
    }

    pub(super) fn waited(&self) -> Duration {
        self.began.elapsed()
    }

    /// The seq in the file.
    fn announced(&self) -> Option<Seq> {
        disk::read_regular_text(&self.seq_file, SEQ_FILE_BYTES).ok()?.trim().parse().ok().map(Seq)
    }
}
