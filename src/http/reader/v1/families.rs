//! `GET /v1/families` and `GET /v1/families/{family}/tables/{table}`: which families and tables there
//! are, and what a table is and holds.

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
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{Field, TableRef};
use ctlstore_reader::read::{LdbReader, ReadError, ReadTransaction};

use super::super::worker::Worker;
use super::answer::{found, known, tagged, unchanged};
use super::etag::Conditions;

/// How long the rows of a table may be counted. Its read transaction lasts as long.
const COUNTING: Duration = Duration::from_secs(2);
/// Tables that are counted at one time. Other long reads have the other threads.
static COUNTED: Semaphore = Semaphore::const_new(1);
/// Requests that wait for their turn, and how long they do.
static WAITING: Semaphore = Semaphore::const_new(64);
const MAX_WAIT: Duration = Duration::from_secs(10);

pub fn operations() -> Vec<Operation> {
    let list = json!({"seq": 4711, "families": [{"name": "shop", "tables": ["prices"]}]});
    let one = json!({
        "seq": 4711, "family": "shop", "name": "prices", "fields": [["country", "string"], ["cents", "integer"]],
        "keyFields": ["country"], "rows": 17, "bytes": 8192,
    });
    vec![
        get("/v1/families", "Families with their tables", self::families)
            .gives_json::<FamilyList<'_>>("those that have a table", list)
            .with(tagged),
        get("/v1/families/{family}/tables/{table}", "What a table is, and how much it holds", self::table)
            .gives_json::<CountedTable<'_>>("the table; rows and bytes are null if counting takes too long", one)
            .refuses(400, "bad name")
            .refuses(404, "no such table")
            .with(tagged),
    ]
}

#[derive(Serialize, ToSchema)]
#[schema(as = Families)]
struct FamilyList<'a> {
    /// Where the ledger stood at the moment of the read.
    #[schema(value_type = i64)]
    seq: Seq,
    families: Vec<ListedFamily<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Family)]
struct ListedFamily<'a> {
    name: &'a str,
    tables: Vec<&'a str>,
}

/// The members that the executive's /schema has, and what the table holds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CountedTable<'a> {
    #[schema(value_type = i64)]
    seq: Seq,
    family: &'a str,
    name: &'a str,
    /// Name and type.
    fields: Vec<(String, &'static str)>,
    /// In the key's order.
    key_fields: Vec<String>,
    /// Null, like the bytes, if counting takes too long.
    #[schema(required)]
    rows: Option<u64>,
    /// Of all pages of the table and its index.
    #[schema(required)]
    bytes: Option<u64>,
}

pub async fn families(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let conditions = Conditions::of(&request, worker.limits);
    Worker::enforce_freshness(&worker, request.headers()).await?;
    let age = Worker::age(&worker)?;
    if let Some(point) = known(&worker, &conditions)? {
        return Ok(unchanged(age, &point));
    }
    let list = move |reader: &mut LdbReader, answer: &mut Vec<u8>| {
        let (point, tables) = reader.read_transaction(|now| Ok((conditions.at(now)?, now.tables()?)))?;
        write(answer, &FamilyList { seq: point.seq, families: by_family(&tables) });
        Ok(point)
    };
    let (point, answer) = worker.read_elsewhere(age.seq, list).await?;
    Ok(found(age, &point, answer))
}

/// `tables` are in the order of their SQL names, so those of a family stand together.
fn by_family(tables: &[TableRef]) -> Vec<ListedFamily<'_>> {
    tables
        .chunk_by(|one, next| one.family == next.family)
        .map(|of_one| ListedFamily {
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
    Worker::enforce_freshness(&worker, request.headers()).await?;
    let age = Worker::age(&worker)?;
    if let Some(point) = known(&worker, &conditions)? {
        return Ok(unchanged(age, &point));
    }
    let busy = || HttpError::unavailable("too many tables wait to be counted");
    let _waiting = WAITING.try_acquire().map_err(|_| busy())?;
    let turn = tokio::time::timeout(MAX_WAIT, COUNTED.acquire()).await;
    let counted = turn.ok().and_then(Result::ok).ok_or_else(busy)?;
    let read = move |reader: &mut LdbReader, answer: &mut Vec<u8>| {
        // Held until the count has ended, even if the client leaves before.
        let _counted = counted;
        reader.read_transaction(|now| {
            let point = conditions.at(now)?;
            let is_counted = describe(now, &table, point.seq, answer)?;
            Ok((point, is_counted))
        })
    };
    let ((point, is_counted), answer) = worker.read_elsewhere(age.seq, read).await?;
    let mut answer = found(age, &point, answer);
    if !is_counted {
        // The next answer at this seq may have the numbers, so this one has no tag.
        answer.headers_mut().remove(ETAG);
    }
    Ok(answer)
}

/// Writes the answer about a table; whether its rows were counted in time.
fn describe(now: &ReadTransaction<'_>, table: &TableRef, seq: Seq, answer: &mut Vec<u8>) -> Result<bool, ReadError> {
    let schema = now.schema(table.family.as_str(), table.table.as_str())?;
    let size = now.measure(table, COUNTING)?;
    let pair = |field: &Field| (field.name.to_string(), field.field_type.api_name());
    let table = CountedTable {
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
    // Strings and numbers always serialize into memory.
    let _ = serde_json::to_writer(&mut *answer, shown);
    answer.push(b'\n');
}
