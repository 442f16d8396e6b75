//! Tells other threads which ledger row the applier is working on, and for how long. It also
//! takes the request to stop. Entry point: [`StatementWatch`]. It ends no statement;
//! `statement_authorizer` does.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ctlstore_core::ledger::Seq;

/// How long a batch may go on after the request to stop. A longer one is rolled back, and
/// applied again after the next start.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Shared by the thread that applies batches and the threads that watch it.
#[derive(Debug)]
pub struct StatementWatch {
    /// The times below count from here.
    epoch: Instant,
    is_stopping: AtomicBool,
    /// The ledger row that is being applied; 0 if there is none.
    seq: AtomicI64,
    /// The row that `row_began` belongs to.
    timed_seq: AtomicI64,
    /// In milliseconds.
    row_began: AtomicU64,
    batch_began: AtomicU64,
}

impl Default for StatementWatch {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            is_stopping: AtomicBool::default(),
            seq: AtomicI64::default(),
            timed_seq: AtomicI64::default(),
            row_began: AtomicU64::default(),
            batch_began: AtomicU64::default(),
        }
    }
}

impl StatementWatch {
    /// Makes the current batch end soon, and those to come.
    pub fn stop(&self) {
        self.is_stopping.store(true, Relaxed);
    }

    /// The ledger row that is being applied, and for how long.
    pub fn at_work(&self) -> Option<(Seq, Duration)> {
        let seq = self.seq.load(Relaxed);
        let is_timed = self.timed_seq.load(Relaxed) == seq;
        let began = if is_timed { self.row_began.load(Relaxed) } else { self.now() };
        (seq != 0).then(|| (Seq(seq), Duration::from_millis(self.now().saturating_sub(began))))
    }

    pub(super) fn batch_begins(&self) {
        self.batch_began.store(self.now(), Relaxed);
    }

    /// Called for every row, so it reads no clock.
    pub(super) fn row_begins(&self, seq: Seq) {
        self.seq.store(seq.0, Relaxed);
    }

    pub(super) fn batch_ends(&self) {
        self.seq.store(0, Relaxed);
        self.timed_seq.store(0, Relaxed);
    }

    /// Reads the clock, and gives the time since it was first read for the current row.
    pub(super) fn time_row(&self) -> Duration {
        let now = self.now();
        let seq = self.seq.load(Relaxed);
        if self.timed_seq.load(Relaxed) != seq {
            self.row_began.store(now, Relaxed);
            self.timed_seq.store(seq, Relaxed);
        }
        Duration::from_millis(now.saturating_sub(self.row_began.load(Relaxed)))
    }

    /// Whether the batch must be given up.
    pub(super) fn must_stop(&self) -> bool {
        self.is_stopping.load(Relaxed)
            && self.now().saturating_sub(self.batch_began.load(Relaxed)) >= STOP_GRACE.as_millis() as u64
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_at_work_is_told_until_the_batch_ends() {
        let watch = StatementWatch::default();
        assert_eq!(watch.at_work(), None);
        watch.batch_begins();
        watch.row_begins(Seq(7));
        watch.time_row();
        assert_eq!(watch.at_work().unwrap().0, Seq(7));
        assert!(!watch.must_stop());
        watch.batch_ends();
        assert_eq!(watch.at_work(), None);
    }
}
