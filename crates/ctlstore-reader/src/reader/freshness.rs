//! What a read may ask of the data's age, and waiting for it.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::read::{ReadError, ReadTransaction};
use ctlstore_core::disk::{self, beside};
use ctlstore_core::ledger::Seq;

/// More than a seq file holds, in bytes.
const SEQ_FILE_BYTES: u64 = 64;

/// Between two looks, as the wait goes on: a quarter of what it has taken so far, so
/// that a short wait ends soon after it could and a long one costs little.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Asked of every read of a reader.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FreshnessLimits {
    pub(super) min_seq: Option<(Seq, Duration)>,
    pub(super) max_lag: Option<Duration>,
}

/// How the LDB, as it is now, meets the limits.
pub(super) enum FreshnessVerdict {
    Good,
    /// It has yet to come to the seq.
    Behind(Seq),
}

impl FreshnessLimits {
    pub(super) fn are_none(&self) -> bool {
        self.min_seq.is_none() && self.max_lag.is_none()
    }

    pub(super) fn judge(&self, transaction: &ReadTransaction<'_>) -> Result<FreshnessVerdict, ReadError> {
        if let Some((wanted, _)) = self.min_seq {
            let current = transaction.last_seq()?;
            if current < wanted {
                return Ok(FreshnessVerdict::Behind(current));
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

/// A wait for a seq. The applier may be another process, whose sign is the file beside
/// the LDB that holds its seq; looking at that is cheaper than a read.
pub(super) struct Wait {
    seq_file: PathBuf,
    wanted: Seq,
    began: Instant,
    timeout: Duration,
}

impl Wait {
    pub(super) fn new(ldb: &std::path::Path, wanted: Seq, timeout: Duration) -> Self {
        Self { seq_file: beside(ldb, ".seq"), wanted, began: Instant::now(), timeout }
    }

    /// Sleeps until a look into the LDB is worth it; false when the time is over.
    pub(super) fn pause(&self) -> bool {
        let last_look = self.began.elapsed();
        loop {
            let elapsed = self.began.elapsed();
            let left = self.timeout.saturating_sub(elapsed);
            if left.is_zero() {
                return false;
            }
            thread::sleep((elapsed / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE).min(left));
            // The file is a hint: an LDB of the original has none, and it may be left behind.
            let is_due = self.began.elapsed().saturating_sub(last_look) >= LONGEST_PAUSE;
            if is_due || self.announced().is_none_or(|seq| seq >= self.wanted) {
                return true;
            }
        }
    }

    pub(super) fn waited(&self) -> Duration {
        self.began.elapsed()
    }

    fn announced(&self) -> Option<Seq> {
        disk::read_regular_text(&self.seq_file, SEQ_FILE_BYTES).ok()?.trim().parse().ok().map(Seq)
    }
}
