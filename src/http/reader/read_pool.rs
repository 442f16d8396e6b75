//! Threads for reads that are too long for a worker. Entry points: [`ReadPool`], threads that take
//! jobs from one bounded queue, and [`PoolReader`], the connection that each thread reads with.
//! Answers that wait for their clients share an [`AnswerBudget`] of memory. Which reads run here,
//! and on how many threads, is decided by `scan_pool` and `queries`.

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use crossbeam_channel::{Sender, bounded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::instrument;
use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::LdbReader;

use super::options::ReaderOptions;

/// How long a thread waits for its reader to see a file that replaced the old one, and how often it
/// looks.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The budget is counted in units of this many bytes, since a semaphore counts in 32 bits.
const UNIT: usize = 1024;
/// How much of an answer is sent at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// Why a read was not run, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    #[error("too many large reads are waiting")]
    Queue,
    #[error("too many large answers are on their way")]
    Memory,
    #[error("the reader is stopping")]
    Stopping,
    /// That one read panicked. The thread goes on with a new connection.
    #[error("internal error")]
    Panicked,
}

/// The memory that answers on their way to clients may hold, all together.
#[derive(Debug, Clone)]
pub struct AnswerBudget(Arc<Semaphore>);

impl AnswerBudget {
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS))))
    }

    fn hold(&self, mut answer: Vec<u8>) -> Result<CountedBody, Rejected> {
        answer.shrink_to_fit();
        let units = u32::try_from(answer.len().div_ceil(UNIT)).map_err(|_| Rejected::Memory)?;
        let held = Arc::clone(&self.0).try_acquire_many_owned(units).map_err(|_| Rejected::Memory)?;
        Ok(CountedBody { rest: Bytes::from(answer), _held: held })
    }
}

/// A large answer on its way to its client, counted against the budget until it is sent. It is sent
/// in pieces, so that the connection's buffer never holds a second copy of it.
pub struct CountedBody {
    rest: Bytes,
    _held: OwnedSemaphorePermit,
}

impl MessageBody for CountedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

/// The connection of one thread.
pub struct PoolReader {
    options: ReaderOptions,
    reader: LdbReader,
    budget: AnswerBudget,
}

impl PoolReader {
    pub fn new(options: &ReaderOptions, budget: &AnswerBudget) -> Self {
        Self { options: options.clone(), reader: options.ldb_reader(), budget: budget.clone() }
    }

    /// Reads from an LDB that is at `at_least`. It waits a moment for that seq, counted from
    /// `began`. A panic ends this one request, as it does on a worker.
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

    /// Just after the file was replaced, this reader may still have the old one.
    fn catch_up(&mut self, at_least: Seq, began: Instant) {
        while self.reader.last_seq().is_ok_and(|seq| seq < at_least) && began.elapsed() < MAX_CATCH_UP {
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// The threads and their queue. Dropping it waits for the reads that run.
pub struct ReadPool<J> {
    queue: Option<Sender<J>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> ReadPool<J> {
    /// Starts `count` threads with a queue of at most `waiting` jobs. `worker` makes what one
    /// thread runs its jobs with.
    pub fn start<W>(name: &str, count: usize, waiting: usize, worker: impl Fn() -> W) -> io::Result<Self>
    where
        W: FnMut(J) + Send + 'static,
    {
        let (queue, jobs) = bounded::<J>(waiting);
        let mut this = Self { queue: Some(queue), threads: Vec::with_capacity(count) };
        for i in 0..count {
            let jobs = jobs.clone();
            let work = worker();
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
            // If a thread panicked, the panic has reported itself.
            let _ = thread.join();
        }
    }
}
