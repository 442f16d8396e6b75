//! Runs reads that are too long for a worker thread, except queries, on a few threads. Entry point:
//! [`ScanPool::run`]. Their answers may hold as much memory as a few of the largest.

use std::io;
use std::time::Instant;

use tokio::sync::oneshot;

use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::{LdbReader, ReadError};

use super::options::ReaderOptions;
use super::read_pool::{AnswerBudget, CountedBody, PoolReader, ReadPool, Rejected};

const THREADS: usize = 2;
/// Scans that wait for a thread.
const WAITING: usize = 64;
/// Answers on their way to clients may hold as much as this many of the largest.
const LARGEST_ANSWERS: usize = 2;

/// A read's result and its bytes, or why it was not run.
type Outcome<T> = Result<Result<(T, CountedBody), ReadError>, Rejected>;

/// A read, with the channel that brings its outcome back.
type Scan = Box<dyn FnOnce(&mut PoolReader) + Send>;

pub struct ScanPool(ReadPool<Scan>);

impl ScanPool {
    pub fn start(options: &ReaderOptions) -> io::Result<Self> {
        let budget = AnswerBudget::of(LARGEST_ANSWERS.saturating_mul(options.max_response_bytes));
        let worker = || {
            let mut reader = PoolReader::new(options, &budget);
            move |scan: Scan| scan(&mut reader)
        };
        ReadPool::start("reader-scan", THREADS, WAITING, worker).map(Self)
    }

    /// Runs one read on an LDB that is at `at_least`, the seq that its answer names. The read
    /// itself bounds how long it takes and what it appends to the answer.
    pub async fn run<T: Send + 'static>(
        &self,
        at_least: Seq,
        read: impl FnOnce(&mut LdbReader, &mut Vec<u8>) -> Result<T, ReadError> + Send + 'static,
    ) -> Outcome<T> {
        let (answer, outcome) = oneshot::channel();
        let began = Instant::now();
        let scan = move |reader: &mut PoolReader| {
            // Skip the scan if its client has left.
            if answer.is_closed() {
                return;
            }
            let outcome = reader.read(at_least, began, |reader| {
                let mut rows = Vec::new();
                Ok((read(reader, &mut rows)?, rows))
            });
            let _ = answer.send(outcome);
        };
        self.0.hand_over(Box::new(scan))?;
        outcome.await.unwrap_or(Err(Rejected::Stopping))
    }
}
