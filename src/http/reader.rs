//! The reader's HTTP API: rows of the LDB by key and by key prefix, and how old
//! the LDB is. Every worker thread reads through a connection of its own, in a read
//! transaction that the reads of a moment share; what may take long is handed to
//! `scan_pool`, so that no worker is held up by it.

pub mod changes;
pub mod corruption;
mod counted_body;
pub mod freshness;
pub mod queries;
mod read_pool;
mod request;
mod rows;
mod scan_pool;
mod v1;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{Array, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::metrics::{Component, ErrorKind, Metrics, Server as ServerLabel};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;
use ctlstore_reader::read::{LdbReader, Limits, ReadError, ReadTransaction};

use super::error::{self, HttpError};
use super::instrument::Observer;
use super::json;
use super::openapi::{Documented, Operation, get, post, shapes};
use super::serve::{self, ServerOptions};

use changes::{Feed, FeedOptions, Turns};
use corruption::CorruptionReports;
use counted_body::CountedBody;
use freshness::{Freshness, FreshnessRequirement};
use queries::{Queries, QueryOptions};
use read_pool::Rejected;
use scan_pool::ScanPool;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a worker reads itself before it hands a scan over: less than a millisecond's work.
const INLINE: Limits = Limits { max_rows: Some(256), max_bytes: 64 * 1024 };

const ABOUT: &str = "Reads rows of the local database. Outside /v1 members of JSON bodies match in any letter case, \
and unknown ones are ignored.";

/// When a worker ends the transaction that its reads share. The clock of its loop is late
/// by up to a millisecond, and 5 ms are what a transaction may last.
const SHARED_FOR: Duration = Duration::from_millis(4);

const INDEX: &str = "\
ctlstore reader: rows of the local database

POST /get-row-by-key/{family}/{table}          {\"Key\":[{\"Value\":v},...]}: one row; every key column, in key order
POST /get-rows-by-key-prefix/{family}/{table}  the same with the leading key columns, or none: all rows that match
GET  /changes?family=&table=&since=&rows=      changes as server-sent events
GET  /v1/families                              families with their tables
GET  /v1/families/{family}/tables/{table}      a table's fields and key, how many rows and bytes it has
GET  /v1/rows/{family}/{table}/{key...}        one row; a path segment for each key column, bytes as 0x...
GET  /v1/rows/{family}/{table}?prefix=&limit=&after=  rows by page, in key order; prefix for each leading key column
POST /v1/rows:batch                            {\"rows\":[{\"family\",\"table\",\"key\":[...]},...]}: many rows of one moment
POST /v1/query                                 {\"sql\":\"...\",\"params\":[v,...]}: rows of one read-only statement, where enabled
GET  /get-ledger-latency                       seconds since the last applied change was written
GET  /healthcheck, /ping                       200 once a change has been applied
GET  /openapi.json                             all of this for programs

reads say how old they are in ctlstore-seq and ctlstore-lag-ms, and wait for a seq with
ctlstore-min-seq: N and ctlstore-wait: 500ms; ctlstore-max-lag: 10s refuses older data

bytes in a key are {\"Binary\":\"<base64>\"}
";

/// What the reader's server is made of.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// Where the LDB is, or will be; the directory of its versions where it is versioned.
    pub ldb_path: PathBuf,
    pub versioned: bool,
    /// The most rows that one answer holds; 0 is no limit.
    pub max_rows: u64,
    /// The most bytes that one answer's rows have.
    pub max_response_bytes: usize,
    pub feed: FeedOptions,
    /// `None`: no queries.
    pub query: Option<QueryOptions>,
    pub server: ServerOptions,
}

impl ReaderOptions {
    /// One of the readers of the LDB; each thread has its own.
    pub fn ldb_reader(&self) -> LdbReader {
        match self.versioned {
            true => LdbReader::versioned(&self.ldb_path),
            false => LdbReader::new(&self.ldb_path),
        }
    }

    fn limits(&self) -> Limits {
        Limits { max_rows: (self.max_rows > 0).then_some(self.max_rows), max_bytes: self.max_response_bytes }
    }
}

/// Sets the server going on a bound socket. The LDB need not exist yet. Streams of
/// changes end with `feed`, which is to be stopped before the server is.
pub fn serve(
    listener: TcpListener,
    options: &ReaderOptions,
    feed: &Arc<Feed>,
    age: &Arc<Freshness>,
    damage: &Arc<CorruptionReports>,
    metrics: &Arc<Metrics>,
) -> io::Result<Server> {
    let (feed, age, damage) = (Data::from(Arc::clone(feed)), Arc::clone(age), Arc::clone(damage));
    let scan_pool = Arc::new(ScanPool::start(options)?);
    let queries = options.query.as_ref().map(|query| Queries::start(options, query, &age, metrics)).transpose()?;
    let queries = queries.map(Arc::new);
    let documented = documented();
    let observer = Observer::new(ServerLabel::Reader, Arc::clone(metrics));
    let (ours, limits, metrics) = (options.clone(), options.limits(), Arc::clone(metrics));
    // A read changes nothing, so one whose client may have gone is not worth its time.
    let server = ServerOptions { answers_half_closed: false, ..options.server.clone() };
    serve::serve(listener, &server, observer, move |config| {
        let reader = RefCell::new(ours.ldb_reader());
        let (scan_pool, metrics) = (Arc::clone(&scan_pool), Arc::clone(&metrics));
        let (age, damage, queries) = (Arc::clone(&age), Arc::clone(&damage), queries.clone());
        let (said, is_ending, room) = (RefCell::default(), Cell::default(), Cell::default());
        let feed_turns = Turns::default();
        let worker = Data::new(Worker {
            reader,
            limits,
            scan_pool,
            queries,
            metrics,
            said,
            age,
            damage,
            is_ending,
            feed_turns,
            room,
        });
        config.app_data(worker.clone()).app_data(feed.clone());
        documented.configure(config);
        rows::fast_paths(&worker)
    })
}

/// All that the reader serves and says of itself.
pub fn documented() -> Documented {
    Documented::new("ctlstore reader", ABOUT, || operations().into_iter().chain(v1::operations()).collect())
}

fn operations() -> Vec<Operation> {
    let key = || json!({"Key": [{"Value": "de"}]});
    let row = || json!({"country": "de", "item": 7, "cents": 1999});
    let last_update = |operation: Operation| operation.refuses(500, "nothing has been applied yet");
    vec![
        get("/", "What there is", || async { INDEX }).tag("about").gives_text("a text for people", None),
        post(rows::BY_KEY, "One row, by its key", rows::by_key)
            .takes_json::<AskedKey>("every key column, in key order", key())
            .gives_json::<Row>("the row", row())
            .answers_nothing(404, "no such row, without a body")
            .says::<String>(404, "x-ctlstore", "Not Found, where it is the row that is not there")
            .with(reading)
            .tag("rows"),
        post(rows::BY_PREFIX, "Rows, by the beginning of their key", rows::by_prefix)
            .takes_json::<AskedKey>("the leading key columns, or none", key())
            .gives_json::<Rows>("all rows that match, in key order", json!([row()]))
            .refuses(416, "more rows, or bytes, than one answer holds")
            .with(reading)
            .tag("rows"),
        changes::operation(),
        get("/get-ledger-latency", "How old the newest change is", ledger_latency)
            .gives_json::<Latency>(
                "seconds since it was written, or since this host knew the ledger's end if that is longer",
                json!({"unit": "seconds", "value": 1.25}),
            )
            .with(freshness::described)
            .with(last_update)
            .tag("about"),
        get("/healthcheck", "Whether there is something to read", health)
            .gives_nothing("there is")
            .refuses(503, "the ldb is not there yet")
            .with(last_update)
            .tag("about"),
        get("/ping", "The same as /healthcheck", health)
            .gives_nothing("there is")
            .refuses(503, "the ldb is not there yet")
            .with(last_update)
            .tag("about"),
    ]
}

/// What reads by key have in common.
fn reading(operation: Operation) -> Operation {
    operation
        .refuses(400, "not json, bad name, or another number of key columns than the table has")
        .refuses(404, "no such table")
        .with(freshness::described)
}

/// Values of key columns, in key order.
#[derive(ToSchema)]
#[schema(as = Key, rename_all = "PascalCase")]
#[expect(dead_code, reason = "read member by member")]
struct AskedKey {
    key: Option<Vec<AskedColumn>>,
}

/// One of both; bytes win.
#[derive(ToSchema)]
#[schema(as = KeyColumn, rename_all = "PascalCase")]
#[expect(dead_code, reason = "read by the key's own reader")]
struct AskedColumn {
    #[schema(schema_with = shapes::scalar)]
    value: Option<serde_json::Value>,
    #[schema(schema_with = shapes::base64)]
    binary: Option<String>,
}

/// Column to value; bytes as standard padded base64.
struct Row;

impl ToSchema for Row {}

impl PartialSchema for Row {
    fn schema() -> RefOr<Schema> {
        shapes::columns().into()
    }
}

struct Rows;

impl ToSchema for Rows {}

impl PartialSchema for Rows {
    fn schema() -> RefOr<Schema> {
        Array::new(Row::schema()).into()
    }
}

/// What one worker thread has.
struct Worker {
    reader: RefCell<LdbReader>,
    limits: Limits,
    scan_pool: Arc<ScanPool>,
    /// Where they are enabled.
    queries: Option<Arc<Queries>>,
    metrics: Arc<Metrics>,
    /// The last failure that the log has; a damaged file would fill it otherwise.
    said: RefCell<String>,
    age: Arc<Freshness>,
    damage: Arc<CorruptionReports>,
    /// Whether the end of the shared transaction is on its way.
    is_ending: Cell<bool>,
    feed_turns: Turns,
    /// The bytes of the last rows by prefix. The next ones mostly have as many, and are
    /// then not moved as they grow.
    room: Cell<usize>,
}

impl Worker {
    /// Reads at once, in the transaction that the reads of a moment share and that ends
    /// within milliseconds, whether more come or not: only for what takes microseconds.
    fn shared<T>(
        this: &Data<Self>,
        read: impl FnOnce(&ReadTransaction<'_>) -> Result<T, ReadError>,
    ) -> Result<(FreshnessRequirement, T), ReadError> {
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
        Ok((this.age.of(progress), found))
    }

    /// Reads at once, on this thread: only for what takes microseconds.
    fn read<T>(&self, read: impl FnOnce(&mut LdbReader) -> Result<T, ReadError>) -> Result<T, HttpError> {
        read(&mut self.reader.borrow_mut()).map_err(|error| self.failed(error))
    }

    /// Reads on a thread of its own kind, which may take longer.
    async fn read_elsewhere<T: Send + 'static>(
        &self,
        at_least: Seq,
        read: impl FnOnce(&mut LdbReader, &mut Vec<u8>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<(T, CountedBody), HttpError> {
        let outcome = self.scan_pool.run(at_least, read).await.map_err(|why| self.not_run(&why))?;
        outcome.map_err(|error| self.failed(error))
    }

    fn not_run(&self, why: &Rejected) -> HttpError {
        if !matches!(why, Rejected::Panicked) {
            return HttpError::unavailable(why);
        }
        self.metrics.error(Component::Reader, ErrorKind::Internal);
        tracing::error!(role = "reader", "a scan panicked");
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }

    /// Logs and counts what is not the client's doing.
    fn failed(&self, error: ReadError) -> HttpError {
        if error.is_damage() {
            self.damage.report(error.to_string());
        }
        let answer = HttpError::from(error);
        if answer.status_code().is_server_error() && !answer.is_temporary() {
            self.metrics.error(Component::Reader, ErrorKind::Storage);
            let message = answer.to_string();
            if *self.said.borrow() == message {
                tracing::debug!(role = "reader", error = message, "a read failed");
            } else {
                tracing::error!(role = "reader", error = message, "a read failed");
                self.said.replace(message);
            }
        }
        answer
    }
}

#[derive(Serialize, ToSchema)]
struct Latency {
    unit: &'static str,
    value: f64,
}

async fn ledger_latency(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    freshness::enforce(&worker, request.headers()).await?;
    let fresh = freshness::fresh(&worker)?;
    let age = fresh.latency(last_update(&worker)?);
    Ok(fresh.on(json::answer(&Latency { unit: "seconds", value: age.as_secs_f64() })?))
}

async fn health(worker: Data<Worker>) -> Result<HttpResponse, HttpError> {
    last_update(&worker).map(|_| HttpResponse::Ok().finish())
}

fn last_update(worker: &Worker) -> Result<Timestamp, HttpError> {
    worker.read(LdbReader::last_update)?.ok_or_else(error::nothing_applied)
}

fn smaller(a: Limits, b: Limits) -> Limits {
    let max_rows = a.max_rows.into_iter().chain(b.max_rows).min();
    Limits { max_rows, max_bytes: a.max_bytes.min(b.max_bytes) }
}
