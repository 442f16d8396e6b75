//! Runs queries on threads of their own. Entry point: [`Queries::run`]. No query holds a worker up,
//! and a bounded number of them run at one time. A query whose client has left ends. A client is
//! answered in time even while SQLite does something that can't be interrupted, such as a sort.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::metrics::{Metrics, QueryOutcome};
use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::ReadError;
use ctlstore_reader::read::query::{Cancelled, Query, QueryError, QueryLimits, memory};

use super::freshness::Freshness;
use super::options::{QueryOptions, ReaderOptions};
use super::read_pool::{AnswerBudget, CountedBody, PoolReader, ReadPool, Rejected};

/// A query may end late by one such part of its time. Then its client is answered without it, and
/// the thread goes on until SQLite can be interrupted.
const LATE_PART: u32 = 4;

type Outcome = Result<Result<(Seq, CountedBody), QueryError>, Rejected>;

/// A query that waits for a thread.
struct QueryJob {
    query: Query,
    /// The seq that the answer names.
    at_least: Seq,
    is_given_up: Arc<AtomicBool>,
    /// Told when a thread begins with it.
    begun: oneshot::Sender<Instant>,
    answer: oneshot::Sender<Outcome>,
}

/// Marks a query as given up when it is dropped: its client has left, or the server stops.
struct GiveUpMark(Arc<AtomicBool>);

impl Drop for GiveUpMark {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct Queries {
    threads: ReadPool<QueryJob>,
    max_time: Duration,
    metrics: Arc<Metrics>,
}

impl Queries {
    /// # Errors
    /// If a thread can't be started, or SQLite's memory was not bounded.
    pub fn start(
        options: &ReaderOptions,
        queries: &QueryOptions,
        freshness: &Arc<Freshness>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        if !memory::is_bounded() {
            return Err(io::Error::other("queries are enabled, but sqlite's memory is not bounded"));
        }
        let budget = AnswerBudget::of((2 * queries.max_running).saturating_mul(queries.limits.max_bytes));
        let worker = || {
            let reader = PoolReader::new(options, &budget);
            let freshness = Arc::clone(freshness);
            let metrics = Arc::clone(metrics);
            let mut runner = QueryRunner { reader, limits: queries.limits, freshness, metrics };
            move |job| runner.run(job)
        };
        let threads = ReadPool::start("reader-query", queries.max_running, queries.max_waiting, worker)?;
        Ok(Self { threads, max_time: queries.limits.max_time, metrics: Arc::clone(metrics) })
    }

    /// Runs one query on an LDB that is at `at_least`. Dropping the future ends the query.
    pub async fn run(&self, query: Query, at_least: Seq) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let (begun, began) = oneshot::channel();
        let is_given_up = Arc::<AtomicBool>::default();
        let _mark = GiveUpMark(Arc::clone(&is_given_up));
        let job = QueryJob { query, at_least, is_given_up, begun, answer };
        self.metrics.reader.queries_waiting.inc();
        self.threads.hand_over(job).inspect_err(|_| {
            self.metrics.reader.queries_waiting.dec();
        })?;
        // If the thread did not tell when it began, it has sent the outcome already, or has ended.
        let late = began.await.unwrap_or_else(|_| Instant::now()) + self.max_time + self.max_time / LATE_PART;
        match tokio::time::timeout_at(late.into(), outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(Rejected::Stopping)),
            Err(_) => Ok(Err(QueryError::TooLong { max: self.max_time })),
        }
    }
}

/// Runs queries on one thread.
struct QueryRunner {
    reader: PoolReader,
    limits: QueryLimits,
    freshness: Arc<Freshness>,
    metrics: Arc<Metrics>,
}

impl QueryRunner {
    fn run(&mut self, QueryJob { query, at_least, is_given_up, begun, answer }: QueryJob) {
        self.metrics.reader.queries_waiting.dec();
        self.metrics.reader.queries_running.inc();
        let began = Instant::now();
        let freshness = Arc::clone(&self.freshness);
        let cancelled: Cancelled = Arc::new(move || is_given_up.load(Ordering::Relaxed) || freshness.is_stopping());
        let outcome = self.reader.read(at_least, began, |reader| {
            if cancelled() {
                return Err(QueryError::Cancelled);
            }
            // If the client has left, it does not matter.
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
