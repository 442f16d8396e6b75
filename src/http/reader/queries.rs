//! Threads that run queries, each with a connection of its own, fed by a bounded queue:
//! no worker is held up, and no more queries run at one time than is allowed. Answers that
//! wait for their clients share one budget of memory.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::{Semaphore, oneshot};

use crate::ldb::read::query::{Answer, Cancelled, Query, QueryError, QueryLimits, memory};
use crate::ldb::read::{LdbReader, ReadError};
use crate::ledger::Seq;
use crate::metrics::{Metrics, QueryOutcome};

use super::super::observe;
use super::ReaderOptions;
use super::age::Age;
use super::big_scans::NotRun;
use super::scan_body::ScanBody;

/// How long a reader may be on a file that was replaced, and how often it looks.
const MAX_BEHIND: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The budget is counted in units of this many bytes, since a semaphore counts in 32 bits.
const UNIT: usize = 1024;

/// What queries may take.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    pub limits: QueryLimits,
    /// Queries at one time. Their answers, on their way to clients, may hold as much as
    /// twice this many of the largest.
    pub max_running: usize,
    pub max_waiting: usize,
}

type Outcome = Result<Result<(Seq, ScanBody), QueryError>, NotRun>;

struct Asked {
    query: Query,
    /// What the answer says that it holds.
    at_least: Seq,
    is_given_up: Arc<AtomicBool>,
    answer: oneshot::Sender<Outcome>,
}

/// Says so when nobody waits any more: the client has gone, or the server stops.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The threads and their queue. Dropping it waits for the queries that are running.
pub struct Queries {
    queue: Option<Sender<Asked>>,
    threads: Vec<JoinHandle<()>>,
    metrics: Arc<Metrics>,
}

impl Queries {
    /// # Errors
    /// When a thread can't be started, or SQLite's memory was not bounded.
    pub fn start(
        options: &ReaderOptions,
        queries: &QueryOptions,
        age: &Arc<Age>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        if !memory::is_bounded() {
            return Err(io::Error::other("queries are enabled, but sqlite's memory is not bounded"));
        }
        let (queue, asked) = bounded(queries.max_waiting);
        let budget = (2 * queries.max_running).saturating_mul(queries.limits.max_bytes).div_ceil(UNIT);
        let budget = Arc::new(Semaphore::new(budget.min(Semaphore::MAX_PERMITS)));
        let mut this = Self { queue: Some(queue), threads: Vec::new(), metrics: Arc::clone(metrics) };
        for i in 0..queries.max_running {
            let runner = Runner {
                options: options.clone(),
                reader: options.ldb_reader(),
                limits: queries.limits,
                budget: Arc::clone(&budget),
                age: Arc::clone(age),
                metrics: Arc::clone(metrics),
            };
            let asked = asked.clone();
            let thread = thread::Builder::new().name(format!("reader-query-{i}"));
            this.threads.push(thread.spawn(move || runner.run(&asked))?);
        }
        Ok(this)
    }

    /// Runs one query on an LDB that is at `at_least`. Dropping the future ends the query.
    pub async fn run(&self, query: Query, at_least: Seq) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(NotRun::Stopping)?;
        self.metrics.reader.queries_waiting.inc();
        let is_given_up = Arc::<AtomicBool>::default();
        let _waiting = Waiting(Arc::clone(&is_given_up));
        let asked = Asked { query, at_least, is_given_up, answer };
        if queue.try_send(asked).is_err() {
            self.metrics.reader.queries_waiting.dec();
            return Err(NotRun::Queue);
        }
        outcome.await.unwrap_or(Err(NotRun::Stopping))
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A query that panicked has been reported by the panic itself.
            let _ = thread.join();
        }
    }
}

struct Runner {
    options: ReaderOptions,
    reader: LdbReader,
    limits: QueryLimits,
    budget: Arc<Semaphore>,
    age: Arc<Age>,
    metrics: Arc<Metrics>,
}

impl Runner {
    fn run(mut self, queue: &Receiver<Asked>) {
        for Asked { query, at_least, is_given_up, answer } in queue {
            self.metrics.reader.queries_waiting.dec();
            self.metrics.reader.queries_running.inc();
            let began = Instant::now();
            let age = Arc::clone(&self.age);
            let cancelled: Cancelled = Arc::new(move || is_given_up.load(Ordering::Relaxed) || age.is_stopping());
            let outcome = self.answer_or_panic(&query, at_least, &cancelled);
            self.metrics.reader.queries_running.dec();
            self.metrics.reader.query(label(&outcome), began.elapsed());
            let _ = answer.send(outcome);
        }
    }

    /// A panic is this one query's, as it is on a worker.
    fn answer_or_panic(&mut self, query: &Query, at_least: Seq, cancelled: &Cancelled) -> Outcome {
        let answer = AssertUnwindSafe(|| observe::answering(|| self.answer(query, at_least, cancelled)));
        catch_unwind(answer).unwrap_or_else(|_| {
            self.reader = self.options.ldb_reader();
            Err(NotRun::Panicked)
        })
    }

    fn answer(&mut self, query: &Query, at_least: Seq, cancelled: &Cancelled) -> Outcome {
        let began = Instant::now();
        // Right behind the replacement of the file, this reader may have the old one.
        while self.reader.last_seq().is_ok_and(|seq| seq < at_least) && began.elapsed() < MAX_BEHIND {
            thread::sleep(LOOK_AGAIN);
        }
        if cancelled() {
            return Ok(Err(QueryError::Cancelled));
        }
        let Answer { seq, json } = match self.reader.query(query, &self.limits, cancelled) {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        let units = u32::try_from(json.len().div_ceil(UNIT)).map_err(|_| NotRun::Memory)?;
        let held = Arc::clone(&self.budget).try_acquire_many_owned(units).map_err(|_| NotRun::Memory)?;
        Ok(Ok((seq, ScanBody::new(json, held))))
    }
}

fn label(outcome: &Outcome) -> QueryOutcome {
    let error = match outcome {
        Ok(Ok(_)) => return QueryOutcome::Answered,
        Ok(Err(error)) => error,
        Err(NotRun::Panicked) => return QueryOutcome::Failed,
        Err(NotRun::Queue | NotRun::Memory | NotRun::Stopping) => return QueryOutcome::Cancelled,
    };
    match error {
        QueryError::Sql(_)
        | QueryError::Parameters(_)
        | QueryError::Limit { .. }
        | QueryError::Infinite { .. }
        | QueryError::NotAllowed(_) => QueryOutcome::Refused,
        QueryError::SqlTooLong { .. }
        | QueryError::TooManyRows { .. }
        | QueryError::TooManyBytes { .. }
        | QueryError::ValueTooLong { .. } => QueryOutcome::TooLarge,
        QueryError::TooLong { .. } => QueryOutcome::OutOfTime,
        QueryError::TooMuchMemory { .. } => QueryOutcome::OutOfMemory,
        QueryError::Cancelled | QueryError::Read(ReadError::NotThereYet { .. }) => QueryOutcome::Cancelled,
        QueryError::Read(_) => QueryOutcome::Failed,
    }
}
