//! What there is to read: families with their tables, and what a table is and holds.

use std::time::Duration;

use actix_web::http::header::ETAG;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::http::error::HttpError;
use crate::http::openapi::{Operation, get};
use crate::http::reader::{Worker, freshness};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{Field, TableRef};
use ctlstore_reader::read::{LdbReader, ReadError, ReadTransaction};

use super::etag::Conditions;
use super::{found, known, unchanged};

/// How long a table may be counted; its read transaction lasts as long.
const COUNTING: Duration = Duration::from_secs(2);
/// Tables counted at one time, so that large ones leave room for other long reads.
static COUNTED: Semaphore = Semaphore::const_new(1);
/// Requests that wait for that, and how long.
static WAITING: Semaphore = Semaphore::const_new(64);
const PATIENCE: Duration = Duration::from_secs(10);

pub fn operations() -> Vec<Operation> {
    let list = json!({"seq": 4711, "families": [{"name": "shop", "tables": ["prices"]}]});
    let one = json!({
        "seq": 4711, "family": "shop", "name": "prices", "fields": [["country", "string"], ["cents", "integer"]],
        "keyFields": ["country"], "rows": 17, "bytes": 8192,
    });
    vec![
        get("/v1/families", "Families with their tables", self::families)
            .gives_json::<Families<'_>>("those that have a table", list)
            .with(super::tagged),
        get("/v1/families/{family}/tables/{table}", "What a table is, and how much it holds", self::table)
            .gives_json::<Table<'_>>("the table; rows and bytes are null where counting takes too long", one)
            .refuses(400, "bad name")
            .refuses(404, "no such table")
            .with(super::tagged),
    ]
}

#[derive(Serialize, ToSchema)]
struct Families<'a> {
    /// Where the ledger stood at the moment of the read.
    #[schema(value_type = i64)]
    seq: Seq,
    families: Vec<Family<'a>>,
}

#[derive(Serialize, ToSchema)]
struct Family<'a> {
    name: &'a str,
    tables: Vec<&'a str>,
}

/// The members that the executive's /schema has, and what the table holds.
#[derive(Serialize, ToSchema)]
#[schema(as = CountedTable)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    #[schema(value_type = i64)]
    seq: Seq,
    family: &'a str,
    name: &'a str,
    /// Name and type.
    fields: Vec<(String, &'static str)>,
    /// In the key's order.
    key_fields: Vec<String>,
    /// Null, as the bytes, where counting takes too long.
    #[schema(required)]
    rows: Option<u64>,
    /// Of all pages of the table and its index.
    #[schema(required)]
    bytes: Option<u64>,
}

pub async fn families(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let conditions = Conditions::of(&request, worker.limits);
    freshness::enforce(&worker, request.headers()).await?;
    let fresh = freshness::fresh(&worker)?;
    if let Some(moment) = known(&worker, &conditions)? {
        return Ok(unchanged(fresh, &moment));
    }
    let list = move |reader: &mut LdbReader, answer: &mut Vec<u8>| {
        let (moment, tables) = reader.read_transaction(|now| Ok((conditions.at(now)?, now.tables()?)))?;
        write(answer, &Families { seq: moment.seq, families: by_family(&tables) });
        Ok(moment)
    };
    let (moment, answer) = worker.read_elsewhere(fresh.seq, list).await?;
    Ok(found(fresh, &moment, answer))
}

/// `tables` are in the order of their SQL names, so those of a family stand together.
fn by_family(tables: &[TableRef]) -> Vec<Family<'_>> {
    tables
        .chunk_by(|one, next| one.family == next.family)
        .map(|of_one| Family {
            name: of_one[0].family.as_str(),
            tables: of_one.iter().map(|table| table.table.as_str()).collect(),
        })
        .collect()
}

pub async fn table(
    worker: Data<Worker>,
    path: Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let table = TableRef::parse(&path.0, &path.1).map_err(HttpError::bad_request)?;
    let conditions = Conditions::of(&request, worker.limits);
    freshness::enforce(&worker, request.headers()).await?;
    let fresh = freshness::fresh(&worker)?;
    if let Some(moment) = known(&worker, &conditions)? {
        return Ok(unchanged(fresh, &moment));
    }
    let busy = || HttpError::unavailable("too many tables wait to be counted");
    let _waiting = WAITING.try_acquire().map_err(|_| busy())?;
    let turn = tokio::time::timeout(PATIENCE, COUNTED.acquire()).await;
    let counted = turn.ok().and_then(Result::ok).ok_or_else(busy)?;
    let read = move |reader: &mut LdbReader, answer: &mut Vec<u8>| {
        // Kept until the count has ended, also where the client goes away before.
        let _counted = counted;
        reader.read_transaction(|now| {
            let moment = conditions.at(now)?;
            let is_counted = describe(now, &table, moment.seq, answer)?;
            Ok((moment, is_counted))
        })
    };
    let ((moment, is_counted), answer) = worker.read_elsewhere(fresh.seq, read).await?;
    let mut answer = found(fresh, &moment, answer);
    if !is_counted {
        // The next one may have the numbers, and is then another one.
        answer.headers_mut().remove(ETAG);
    }
    Ok(answer)
}

fn describe(now: &ReadTransaction<'_>, table: &TableRef, seq: Seq, answer: &mut Vec<u8>) -> Result<bool, ReadError> {
    let schema = now.schema(table.family.as_str(), table.table.as_str())?;
    let size = now.measure(table, COUNTING)?;
    let pair = |field: &Field| (field.name.to_string(), field.field_type.api_name());
    let table = Table {
        seq,
        family: table.family.as_str(),
        name: table.table.as_str(),
        fields: schema.fields().iter().map(pair).collect(),
        key_fields: schema.key_fields().map(|field| field.name.to_string()).collect(),
        rows: size.map(|size| size.rows),
        bytes: size.map(|size| size.bytes),
    };
    write(answer, &table);
    Ok(size.is_some())
}

fn write(answer: &mut Vec<u8>, shown: &impl Serialize) {
    // What is made of strings and numbers serializes into memory without fail.
    let _ = serde_json::to_writer(&mut *answer, shown);
    answer.push(b'\n');
}
