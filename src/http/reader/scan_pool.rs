//! Reads too long for a worker thread, but for queries: a few threads, whose answers may
//! hold a few of the largest.

use std::io;
use std::time::Instant;

use tokio::sync::oneshot;

use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::{LdbReader, ReadError};

use super::ReaderOptions;
use super::counted_body::CountedBody;
use super::read_pool::{Budget, PoolReader, ReadPool, Rejected};

const THREADS: usize = 2;
/// Scans that wait for a thread.
const WAITING: usize = 64;
/// Answers on their way to clients may hold as much as this many of the largest.
const LARGEST_ANSWERS: usize = 2;

/// What a read gives besides the bytes that it wrote.
type Outcome<T> = Result<Result<(T, CountedBody), ReadError>, Rejected>;

/// A read with its way back to who asked for it.
type Scan = Box<dyn FnOnce(&mut PoolReader) + Send>;

pub struct ScanPool(ReadPool<Scan>);

impl ScanPool {
    pub fn start(options: &ReaderOptions) -> io::Result<Self> {
        let budget = Budget::of(LARGEST_ANSWERS.saturating_mul(options.max_response_bytes));
        let worker = || {
            let mut reader = PoolReader::new(options, &budget);
            move |scan: Scan| scan(&mut reader)
        };
        ReadPool::start("reader-scan", THREADS, WAITING, worker).map(Self)
    }

    /// Runs one read on an LDB that is at `at_least`, what the answer says that it holds.
    /// The read bounds what it appends to the answer, and how long it takes.
    pub async fn run<T: Send + 'static>(
        &self,
        at_least: Seq,
        read: impl FnOnce(&mut LdbReader, &mut Vec<u8>) -> Result<T, ReadError> + Send + 'static,
    ) -> Outcome<T> {
        let (answer, outcome) = oneshot::channel();
        let began = Instant::now();
        let scan = move |reader: &mut PoolReader| {
            // What nobody waits for any more is not read.
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
