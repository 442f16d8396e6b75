//! A worker thread's access to the LDB. Entry points: [`Worker::enforce_freshness`] before a read,
//! [`Worker::shared`] for a read of microseconds, and [`Worker::read_elsewhere`] for one that may take
//! longer. No route is known here.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::ResponseError;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::web::Data;

use crate::http::error::HttpError;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::{AnswerLimits, LdbReader, ReadError, ReadTransaction};

use super::corruption::CorruptionReports;
use super::freshness::{AnswerAge, Freshness};
use super::options::ReaderOptions;
use super::queries::Queries;
use super::read_pool::{CountedBody, Rejected};
use super::scan_pool::ScanPool;

/// A larger scan is handed over to another thread. This much takes less than a millisecond.
const INLINE: AnswerLimits = AnswerLimits { max_rows: Some(256), max_bytes: 64 * 1024 };

/// When a worker ends the transaction that its reads share. A transaction may last 5 ms, and the
/// clock of the worker's loop is late by up to a millisecond.
const SHARED_FOR: Duration = Duration::from_millis(4);

/// The parts that all workers of one server share.
#[derive(Clone)]
pub struct WorkerParts {
    options: ReaderOptions,
    scan_pool: Arc<ScanPool>,
    queries: Option<Arc<Queries>>,
    freshness: Arc<Freshness>,
    corruption: Arc<CorruptionReports>,
    metrics: Arc<Metrics>,
}

impl WorkerParts {
    /// Starts the threads for scans and, if they are enabled, for queries.
    pub fn start(
        options: &ReaderOptions,
        freshness: &Arc<Freshness>,
        corruption: &Arc<CorruptionReports>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let queries = match &options.query {
            Some(query) => Some(Arc::new(Queries::start(options, query, freshness, metrics)?)),
            None => None,
        };
        Ok(Self {
            options: options.clone(),
            scan_pool: Arc::new(ScanPool::start(options)?),
            queries,
            freshness: Arc::clone(freshness),
            corruption: Arc::clone(corruption),
            metrics: Arc::clone(metrics),
        })
    }

    /// A worker for the thread that calls this.
    pub fn worker(&self) -> Data<Worker> {
        Data::new(Worker {
            reader: RefCell::new(self.options.ldb_reader()),
            limits: self.options.limits(),
            last_prefix_bytes: Cell::default(),
            parts: self.clone(),
            last_logged: RefCell::default(),
            is_ending: Cell::default(),
        })
    }
}

/// The state of one worker thread.
pub struct Worker {
    pub(super) reader: RefCell<LdbReader>,
    /// The bounds of one answer.
    pub(super) limits: AnswerLimits,
    /// The bytes of the last rows by prefix. The next ones mostly have as many, and are then not
    /// moved while they grow.
    pub(super) last_prefix_bytes: Cell<usize>,
    parts: WorkerParts,
    /// The last failure that was logged. A damaged file would fill the log otherwise.
    last_logged: RefCell<String>,
    /// Whether a task is about to end the shared transaction.
    is_ending: Cell<bool>,
}

impl Worker {
    /// Waits until the LDB is as fresh as a request's headers ask for. See [`Freshness::enforce`].
    pub async fn enforce_freshness(this: &Data<Self>, headers: &HeaderMap) -> Result<(), HttpError> {
        this.parts.freshness.enforce(headers, || Self::age(this)).await
    }

    /// How old the LDB is now.
    pub fn age(this: &Data<Self>) -> Result<AnswerAge, HttpError> {
        Self::shared(this, |_| Ok(())).map(|(age, ())| age).map_err(|error| this.failed(error))
    }

    /// Reads at once, in the transaction that this worker's reads share: only for what takes
    /// microseconds. The transaction ends within milliseconds, whether more reads come or not.
    pub fn shared<T>(
        this: &Data<Self>,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<(AnswerAge, T), ReadError> {
        if !this.is_ending.replace(true) {
            let this = this.clone();
            actix_rt::spawn(async move {
                actix_rt::time::sleep(SHARED_FOR).await;
                this.is_ending.set(false);
                this.reader.borrow_mut().let_go();
            });
        }
        let mut reader = this.reader.borrow_mut();
        let (progress, found) = reader.shared(|transaction| Ok((transaction.progress()?, read(transaction)?)))?;
        Ok((this.parts.freshness.age_of(progress), found))
    }

    /// Reads at once, on this thread: only for what takes microseconds.
    pub fn read<T>(&self, read: impl FnOnce(&mut LdbReader) -> Result<T, ReadError>) -> Result<T, HttpError> {
        read(&mut self.reader.borrow_mut()).map_err(|error| self.failed(error))
    }

    /// Reads on a thread for scans, from an LDB that is at `at_least`.
    pub async fn read_elsewhere<T: Send + 'static>(
        &self,
        at_least: Seq,
        read: impl FnOnce(&mut LdbReader, &mut Vec<u8>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<(T, CountedBody), HttpError> {
        let outcome = self.parts.scan_pool.run(at_least, read).await.map_err(|why| self.not_run(&why))?;
        outcome.map_err(|error| self.failed(error))
    }

    /// `None` if queries are off.
    pub fn queries(&self) -> Option<&Queries> {
        self.parts.queries.as_deref()
    }

    /// The bounds of a read on this thread.
    pub fn inline_limits(&self) -> AnswerLimits {
        let max_rows = INLINE.max_rows.into_iter().chain(self.limits.max_rows).min();
        AnswerLimits { max_rows, max_bytes: INLINE.max_bytes.min(self.limits.max_bytes) }
    }

    /// The answer to a read that no thread has run to its end.
    pub fn not_run(&self, why: &Rejected) -> HttpError {
        if !matches!(why, Rejected::Panicked) {
            return HttpError::unavailable(why);
        }
        self.parts.metrics.error(Component::Reader, ErrorKind::Internal);
        tracing::error!(role = "reader", "a scan panicked");
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }

    /// The answer to a read that failed. A failure that is not the client's fault is logged and
    /// counted.
    pub fn failed(&self, error: ReadError) -> HttpError {
        if error.is_damage() {
            self.parts.corruption.report(error.to_string());
        }
        let answer = HttpError::from(error);
        if answer.status_code().is_server_error() && !answer.is_temporary() {
            self.parts.metrics.error(Component::Reader, ErrorKind::Storage);
            let message = answer.to_string();
            if *self.last_logged.borrow() == message {
                tracing::debug!(role = "reader", error = message, "a read failed");
            } else {
                tracing::error!(role = "reader", error = message, "a read failed");
                self.last_logged.replace(message);
            }
        }
        answer
    }
}
