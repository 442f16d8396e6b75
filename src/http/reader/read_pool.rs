//! Threads for reads that are too long for a worker: each has a connection of its own,
//! and they take what there is to do from one bounded queue. Answers that wait for their
//! clients share a budget of memory. What is read, and on how many threads, is not said here.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use tokio::sync::Semaphore;

use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::LdbReader;

use super::super::instrument;
use super::ReaderOptions;
use super::counted_body::CountedBody;

/// How long a reader may be on a file that was replaced, and how often it looks.
const MAX_BEHIND: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The budget is counted in units of this many bytes, since a semaphore counts in 32 bits.
const UNIT: usize = 1024;

/// Why a read was not run, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    #[error("too many large reads are waiting")]
    Queue,
    #[error("too many large answers are on their way")]
    Memory,
    #[error("the reader is stopping")]
    Stopping,
    /// That one read's; the thread goes on with a connection of its own again.
    #[error("internal error")]
    Panicked,
}

/// What answers on their way to clients may hold, all together.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS))))
    }

    fn hold(&self, mut answer: Vec<u8>) -> Result<CountedBody, Rejected> {
        answer.shrink_to_fit();
        let units = u32::try_from(answer.len().div_ceil(UNIT)).map_err(|_| Rejected::Memory)?;
        let held = Arc::clone(&self.0).try_acquire_many_owned(units).map_err(|_| Rejected::Memory)?;
        Ok(CountedBody::new(answer, held))
    }
}

/// What one thread reads with.
pub struct PoolReader {
    options: ReaderOptions,
    reader: LdbReader,
    budget: Budget,
}

impl PoolReader {
    pub fn new(options: &ReaderOptions, budget: &Budget) -> Self {
        Self { options: options.clone(), reader: options.ldb_reader(), budget: budget.clone() }
    }

    /// Reads from an LDB that is at `at_least`, which is waited for a moment from `began`
    /// on. A panic is this one request's, as it is on a worker.
    pub fn read<T, E>(
        &mut self,
        at_least: Seq,
        began: Instant,
        read: impl FnOnce(&mut LdbReader) -> Result<(T, Vec<u8>), E>,
    ) -> Result<Result<(T, CountedBody), E>, Rejected> {
        let answer = || {
            self.catch_up(at_least, began);
            match read(&mut self.reader) {
                Ok((told, answer)) => Ok(Ok((told, self.budget.hold(answer)?))),
                Err(error) => Ok(Err(error)),
            }
        };
        catch_unwind(AssertUnwindSafe(|| instrument::answering(answer))).unwrap_or_else(|_| {
            self.reader = self.options.ldb_reader();
            Err(Rejected::Panicked)
        })
    }

    /// Right behind the replacement of the file, this reader may have the old one.
    fn catch_up(&mut self, at_least: Seq, began: Instant) {
        while self.reader.last_seq().is_ok_and(|seq| seq < at_least) && began.elapsed() < MAX_BEHIND {
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// The threads and their queue. Dropping it waits for what is running.
pub struct ReadPool<J> {
    queue: Option<Sender<J>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> ReadPool<J> {
    /// Starts `count` threads that each work with what `worker` makes, and a queue in
    /// which `waiting` may wait for them.
    pub fn start<W>(name: &str, count: usize, waiting: usize, worker: impl Fn() -> W) -> io::Result<Self>
    where
        W: FnMut(J) + Send + 'static,
    {
        let (queue, jobs) = bounded::<J>(waiting);
        let mut this = Self { queue: Some(queue), threads: Vec::with_capacity(count) };
        for i in 0..count {
            let (jobs, work) = (jobs.clone(), worker());
            let thread = thread::Builder::new().name(format!("{name}-{i}"));
            this.threads.push(thread.spawn(move || jobs.into_iter().for_each(work))?);
        }
        Ok(this)
    }

    pub fn hand_over(&self, job: J) -> Result<(), Rejected> {
        let queue = self.queue.as_ref().ok_or(Rejected::Stopping)?;
        queue.try_send(job).map_err(|_| Rejected::Queue)
    }
}

impl<J> Drop for ReadPool<J> {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A read that panicked has been reported by the panic itself.
            let _ = thread.join();
        }
    }
}
