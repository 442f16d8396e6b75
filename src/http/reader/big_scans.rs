//! Reads too long for a worker thread: a few threads of their own, each with its own
//! connection, fed by a bounded queue. Answers that wait for their clients share one
//! budget of memory.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::{Semaphore, oneshot};

use crate::ldb::read::{LdbReader, ReadError};
use crate::ledger::Seq;

use super::super::observe;
use super::ReaderOptions;
use super::scan_body::ScanBody;

const THREADS: usize = 2;
/// Scans that wait for a thread.
const WAITING: usize = 64;
/// Answers on their way to clients may hold as much as this many of the largest.
const LARGEST_ANSWERS: usize = 2;
/// How long a reader may be on a file that was replaced, and how often it looks.
const MAX_BEHIND: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The budget is counted in units of this many bytes, since a semaphore counts in 32 bits.
const UNIT: usize = 1024;

/// Why a scan was not run.
#[derive(Debug, thiserror::Error)]
pub enum NotRun {
    #[error("too many large reads are waiting")]
    Queue,
    #[error("too many large answers are on their way")]
    Memory,
    #[error("the reader is stopping")]
    Stopping,
    /// That one scan's; the thread goes on with a connection of its own again.
    #[error("internal error")]
    Panicked,
}

/// What a read gives besides the bytes that it wrote.
type Outcome<T> = Result<Result<(T, ScanBody), ReadError>, NotRun>;

/// A read with its way back to who asked for it.
type Scan = Box<dyn FnOnce(&mut Scanner) + Send>;

/// The threads and their queue. Dropping it waits for the scans that are running.
pub struct BigScans {
    queue: Option<Sender<Scan>>,
    threads: Vec<JoinHandle<()>>,
}

impl BigScans {
    pub fn start(options: &ReaderOptions) -> io::Result<Self> {
        let (queue, scans) = bounded(WAITING);
        let budget = LARGEST_ANSWERS.saturating_mul(options.max_response_bytes).div_ceil(UNIT);
        let budget = Arc::new(Semaphore::new(budget.min(Semaphore::MAX_PERMITS)));
        let mut this = Self { queue: Some(queue), threads: Vec::with_capacity(THREADS) };
        for i in 0..THREADS {
            let (options, reader) = (options.clone(), options.ldb_reader());
            let scanner = Scanner { options, reader, budget: Arc::clone(&budget) };
            let scans = scans.clone();
            let thread = thread::Builder::new().name(format!("reader-scan-{i}"));
            this.threads.push(thread.spawn(move || scanner.run(&scans))?);
        }
        Ok(this)
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
        let scan = move |scanner: &mut Scanner| {
            // What nobody waits for any more is not read.
            if !answer.is_closed() {
                let outcome = scanner.scan_or_panic(at_least, began, read);
                let _ = answer.send(outcome);
            }
        };
        let queue = self.queue.as_ref().ok_or(NotRun::Stopping)?;
        queue.try_send(Box::new(scan)).map_err(|_| NotRun::Queue)?;
        outcome.await.unwrap_or(Err(NotRun::Stopping))
    }
}

impl Drop for BigScans {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A scan that panicked has been reported by the panic itself.
            let _ = thread.join();
        }
    }
}

struct Scanner {
    options: ReaderOptions,
    reader: LdbReader,
    budget: Arc<Semaphore>,
}

impl Scanner {
    fn run(mut self, scans: &Receiver<Scan>) {
        for scan in scans {
            scan(&mut self);
        }
    }

    /// A panic is this one request's, as it is on a worker.
    fn scan_or_panic<T>(
        &mut self,
        at_least: Seq,
        began: Instant,
        read: impl FnOnce(&mut LdbReader, &mut Vec<u8>) -> Result<T, ReadError>,
    ) -> Outcome<T> {
        let scan = AssertUnwindSafe(|| observe::answering(|| self.scan(at_least, began, read)));
        catch_unwind(scan).unwrap_or_else(|_| {
            self.reader = self.options.ldb_reader();
            Err(NotRun::Panicked)
        })
    }

    fn scan<T>(
        &mut self,
        at_least: Seq,
        began: Instant,
        read: impl FnOnce(&mut LdbReader, &mut Vec<u8>) -> Result<T, ReadError>,
    ) -> Outcome<T> {
        // Right behind the replacement of the file, this reader may have the old one.
        while self.reader.last_seq().is_ok_and(|seq| seq < at_least) && began.elapsed() < MAX_BEHIND {
            thread::sleep(LOOK_AGAIN);
        }
        let mut rows = Vec::new();
        let read = match read(&mut self.reader, &mut rows) {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        rows.shrink_to_fit();
        let units = u32::try_from(rows.len().div_ceil(UNIT)).map_err(|_| NotRun::Memory)?;
        let held = Arc::clone(&self.budget).try_acquire_many_owned(units).map_err(|_| NotRun::Memory)?;
        Ok(Ok((read, ScanBody::new(rows, held))))
    }
}
