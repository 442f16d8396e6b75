//! The reader's HTTP API: rows of the LDB by key and by key prefix, and how old
//! the LDB is. Every worker thread reads through a connection of its own; what may
//! take long is handed to `big_scans`, so that no worker is held up by it.

pub mod age;
mod big_scans;
pub mod changes;
pub mod damage;
mod scan_body;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;

use crate::ldb::read::{KeyValue, LdbReader, Limits, ReadError};
use crate::ledger::Seq;
use crate::metrics::{Component, ErrorKind, Metrics, Server as ServerLabel};
use crate::schema::{TableRef, Timestamp};

use super::error::HttpError;
use super::json::{self, Members};
use super::observe::Observer;
use super::serve::{self, ServerOptions};
use super::{body, error};

use age::Age;
use big_scans::{BigScans, NotRun};
use changes::{Feed, FeedOptions};
use damage::Damage;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a worker reads itself before it hands a scan over: less than a millisecond's work.
const INLINE: Limits = Limits { max_rows: Some(256), max_bytes: 64 * 1024 };

const INDEX: &str = "\
ctlstore reader: rows of the local database

POST /get-row-by-key/{family}/{table}          {\"Key\":[{\"Value\":v},...]}: one row; every key column, in key order
POST /get-rows-by-key-prefix/{family}/{table}  the same with the leading key columns, or none: all rows that match
GET  /changes?family=&table=&since=&rows=      changes as server-sent events
GET  /get-ledger-latency                       seconds since the last applied change was written
GET  /healthcheck, /ping                       200 once a change has been applied

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
    age: &Arc<Age>,
    damage: &Arc<Damage>,
    metrics: &Arc<Metrics>,
) -> io::Result<Server> {
    let (feed, age, damage) = (Data::from(Arc::clone(feed)), Arc::clone(age), Arc::clone(damage));
    let big_scans = Arc::new(BigScans::start(options)?);
    let observer = Observer::new(ServerLabel::Reader, Arc::clone(metrics));
    let (ours, limits, metrics) = (options.clone(), options.limits(), Arc::clone(metrics));
    serve::serve(listener, &options.server, observer, move |config| {
        let reader = RefCell::new(ours.ldb_reader());
        let (big_scans, metrics) = (Arc::clone(&big_scans), Arc::clone(&metrics));
        let (age, damage) = (Arc::clone(&age), Arc::clone(&damage));
        let (said, last_update) = (RefCell::default(), Cell::default());
        let worker = Worker { reader, limits, big_scans, metrics, said, age, damage, last_update };
        config.app_data(Data::new(worker)).app_data(feed.clone());
        routes(config);
    })
}

fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/").get(|| async { INDEX }))
        .service(web::resource("/get-row-by-key/{family}/{table}").post(row_by_key))
        .service(web::resource("/get-rows-by-key-prefix/{family}/{table}").post(rows_by_key_prefix))
        .service(web::resource("/changes").get(changes::changes))
        .service(web::resource("/get-ledger-latency").get(ledger_latency))
        .service(web::resource("/healthcheck").get(health))
        .service(web::resource("/ping").get(health));
}

/// What one worker thread has.
struct Worker {
    reader: RefCell<LdbReader>,
    limits: Limits,
    big_scans: Arc<BigScans>,
    metrics: Arc<Metrics>,
    /// The last failure that the log has; a damaged file would fill it otherwise.
    said: RefCell<String>,
    age: Arc<Age>,
    damage: Arc<Damage>,
    /// When what was applied last was written, as of this seq.
    last_update: Cell<(Seq, Option<Timestamp>)>,
}

impl Worker {
    /// Reads at once, on this thread: only for what takes microseconds.
    fn read<T>(&self, read: impl FnOnce(&mut LdbReader) -> Result<T, ReadError>) -> Result<T, HttpError> {
        read(&mut self.reader.borrow_mut()).map_err(|error| self.failed(error))
    }

    fn not_run(&self, why: &NotRun) -> HttpError {
        if !matches!(why, NotRun::Panicked) {
            return HttpError::unavailable(why);
        }
        self.metrics.error(Component::Reader, ErrorKind::Internal);
        tracing::error!(role = "reader", "a scan panicked");
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }

    /// Logs and counts what is not the client's doing.
    fn failed(&self, error: ReadError) -> HttpError {
        if error.is_damage() {
            self.damage.meet(error.to_string());
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

async fn row_by_key(
    worker: Data<Worker>,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, HttpError> {
    let (table, key) = asked(&path, payload).await?;
    let fresh = age::asked(&worker, &request).await?;
    let mut row = Vec::with_capacity(512);
    if worker.read(|reader| reader.get_json(&table, &key, &mut row))? {
        row.push(b'\n');
        return Ok(fresh.on(HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(row)));
    }
    Ok(fresh.on(HttpResponse::NotFound().insert_header(("X-Ctlstore", "Not Found")).finish()))
}

async fn rows_by_key_prefix(
    worker: Data<Worker>,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, HttpError> {
    let (table, prefix) = asked(&path, payload).await?;
    let fresh = age::asked(&worker, &request).await?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, JSON));
    let mut rows = Vec::with_capacity(4096);
    let read = worker.reader.borrow_mut().scan_json(&table, &prefix, smaller(INLINE, worker.limits), &mut rows);
    match read {
        Ok(_) => {
            rows.push(b'\n');
            Ok(fresh.on(answer.body(rows)))
        }
        Err(ReadError::TooManyRows { .. } | ReadError::TooManyBytes { .. }) => {
            let rows = worker.big_scans.run(table, prefix, fresh.seq).await.map_err(|why| worker.not_run(&why))?;
            Ok(fresh.on(answer.body(rows.map_err(|error| worker.failed(error))?)))
        }
        Err(error) => Err(worker.failed(error)),
    }
}

#[derive(Serialize)]
struct Latency {
    unit: &'static str,
    value: f64,
}

async fn ledger_latency(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let fresh = age::asked(&worker, &request).await?;
    let age = last_update(&worker)?.age_at(Timestamp::now());
    Ok(fresh.on(json::answer(&Latency { unit: "seconds", value: age.as_secs_f64() })?))
}

async fn health(worker: Data<Worker>) -> Result<HttpResponse, HttpError> {
    last_update(&worker).map(|_| HttpResponse::Ok().finish())
}

fn last_update(worker: &Worker) -> Result<Timestamp, HttpError> {
    worker.read(LdbReader::last_update)?.ok_or_else(error::nothing_applied)
}

/// The table and the key that a request names.
async fn asked(path: &(String, String), payload: Payload) -> Result<(TableRef, Vec<KeyValue>), HttpError> {
    let table = TableRef::parse(&path.0, &path.1).map_err(HttpError::bad_request)?;
    let body = body::read(payload).await?;
    let key = json::parse::<Members>(&body)?.optional("key")?.unwrap_or_default();
    Ok((table, key))
}

fn smaller(a: Limits, b: Limits) -> Limits {
    let max_rows = a.max_rows.into_iter().chain(b.max_rows).min();
    Limits { max_rows, max_bytes: a.max_bytes.min(b.max_bytes) }
}
