//! Queries on threads of their own: no worker is held up, and no more of them run at one
//! time than is allowed. One that nobody waits for any more ends. A client is answered in
//! time also while SQLite is in something that can't be interrupted, such as a sort.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::metrics::{Metrics, QueryOutcome};
use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::ReadError;
use ctlstore_reader::read::query::{Cancelled, Query, QueryError, QueryLimits, memory};

use super::ReaderOptions;
use super::counted_body::CountedBody;
use super::freshness::Freshness;
use super::read_pool::{Budget, PoolReader, ReadPool, Rejected};

/// What queries may take.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    pub limits: QueryLimits,
    /// Queries at one time. Their answers, on their way to clients, may hold as much as
    /// twice this many of the largest.
    pub max_running: usize,
    pub max_waiting: usize,
}

/// The part of a query's time by which its end may be late before its client is answered
/// without it. The thread goes on to where SQLite can be interrupted.
const LATE_PART: u32 = 4;

type Outcome = Result<Result<(Seq, CountedBody), QueryError>, Rejected>;

struct Asked {
    query: Query,
    /// What the answer says that it holds.
    at_least: Seq,
    is_given_up: Arc<AtomicBool>,
    /// Told when a thread takes it.
    begun: oneshot::Sender<Instant>,
    answer: oneshot::Sender<Outcome>,
}

/// Says so when nobody waits any more: the client has gone, or the server stops.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct Queries {
    threads: ReadPool<Asked>,
    max_time: Duration,
    metrics: Arc<Metrics>,
}

impl Queries {
    /// # Errors
    /// When a thread can't be started, or SQLite's memory was not bounded.
    pub fn start(
        options: &ReaderOptions,
        queries: &QueryOptions,
        age: &Arc<Freshness>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        if !memory::is_bounded() {
            return Err(io::Error::other("queries are enabled, but sqlite's memory is not bounded"));
        }
        let budget = Budget::of((2 * queries.max_running).saturating_mul(queries.limits.max_bytes));
        let worker = || {
            let reader = PoolReader::new(options, &budget);
            let (age, metrics) = (Arc::clone(age), Arc::clone(metrics));
            let mut runner = Runner { reader, limits: queries.limits, age, metrics };
            move |asked| runner.run(asked)
        };
        let threads = ReadPool::start("reader-query", queries.max_running, queries.max_waiting, worker)?;
        Ok(Self { threads, max_time: queries.limits.max_time, metrics: Arc::clone(metrics) })
    }

    /// Runs one query on an LDB that is at `at_least`. Dropping the future ends the query.
    pub async fn run(&self, query: Query, at_least: Seq) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let (begun, began) = oneshot::channel();
        let is_given_up = Arc::<AtomicBool>::default();
        let _waiting = Waiting(Arc::clone(&is_given_up));
        let asked = Asked { query, at_least, is_given_up, begun, answer };
        self.metrics.reader.queries_waiting.inc();
        self.threads.hand_over(asked).inspect_err(|_| {
            self.metrics.reader.queries_waiting.dec();
        })?;
        // Without it the thread has already said why, or has ended.
        let late = began.await.unwrap_or_else(|_| Instant::now()) + self.max_time + self.max_time / LATE_PART;
        match tokio::time::timeout_at(late.into(), outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(Rejected::Stopping)),
            Err(_) => Ok(Err(QueryError::TooLong { max: self.max_time })),
        }
    }
}

struct Runner {
    reader: PoolReader,
    limits: QueryLimits,
    age: Arc<Freshness>,
    metrics: Arc<Metrics>,
}

impl Runner {
    fn run(&mut self, Asked { query, at_least, is_given_up, begun, answer }: Asked) {
        self.metrics.reader.queries_waiting.dec();
        self.metrics.reader.queries_running.inc();
        let began = Instant::now();
        let age = Arc::clone(&self.age);
        let cancelled: Cancelled = Arc::new(move || is_given_up.load(Ordering::Relaxed) || age.is_stopping());
        let outcome = self.reader.read(at_least, began, |reader| {
            if cancelled() {
                return Err(QueryError::Cancelled);
            }
            // A client that is gone does not mind.
            let _ = begun.send(Instant::now());
            reader.query(&query, &self.limits, &cancelled).map(|answer| (answer.seq, answer.json))
        });
        self.metrics.reader.query(label(&outcome), began.elapsed());
        self.metrics.reader.queries_running.dec();
        let _ = answer.send(outcome);
    }
}

fn label(outcome: &Outcome) -> QueryOutcome {
    let error = match outcome {
        Ok(Ok(_)) => return QueryOutcome::Answered,
        Ok(Err(error)) => error,
        Err(Rejected::Panicked) => return QueryOutcome::Failed,
        Err(Rejected::Queue | Rejected::Memory | Rejected::Stopping) => return QueryOutcome::Cancelled,
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
