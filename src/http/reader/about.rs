//! The reader's routes about itself: what there is, how old the newest change is, and whether there
//! is something to read.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::http::error::{self, HttpError};
use crate::http::json;
use crate::http::openapi::{Operation, get};
use ctlstore_core::schema::Timestamp;
use ctlstore_reader::read::LdbReader;

use super::freshness;
use super::worker::Worker;

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

pub fn operations() -> Vec<Operation> {
    let last_update = |operation: Operation| operation.refuses(500, "nothing has been applied yet");
    vec![
        get("/", "What there is", || async { INDEX }).tag("about").gives_text("a text for people", None),
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

#[derive(Serialize, ToSchema)]
struct Latency {
    unit: &'static str,
    value: f64,
}

async fn ledger_latency(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    Worker::enforce_freshness(&worker, request.headers()).await?;
    let age = Worker::age(&worker)?;
    let latency = age.latency(last_update(&worker)?);
    Ok(age.on(json::answer(&Latency { unit: "seconds", value: latency.as_secs_f64() })?))
}

async fn health(worker: Data<Worker>) -> Result<HttpResponse, HttpError> {
    last_update(&worker).map(|_| HttpResponse::Ok().finish())
}

fn last_update(worker: &Worker) -> Result<Timestamp, HttpError> {
    worker.read(LdbReader::last_update)?.ok_or_else(error::nothing_applied)
}
