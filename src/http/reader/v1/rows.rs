//! One row by the key in its path, and pages of a table's rows in key order.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde_json::json;
use utoipa::ToSchema;

use crate::http::error::HttpError;
use crate::http::openapi::{Operation, get};
use crate::http::reader::{Row, Worker, freshness};
use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::{Limits, PageLimits, ReadError, ReadTransaction};

use super::cursor::Scope;
use super::etag::{Conditions, Moment};
use super::{Room, address, at, found, unchanged};

/// Rows of a page where the request does not say.
const DEFAULT_ROWS: u64 = 100;
/// The most that a request may ask for where the settings do not say.
const MAX_ROWS: u64 = 1_000;
/// A page ends with the row that reaches so many bytes.
const PAGE_BYTES: usize = 1 << 20;

pub fn operations() -> Vec<Operation> {
    let row = || json!({"country": "de", "item": 7, "cents": 1999});
    let page = json!({"seq": 4711, "rows": [row()], "next": null});
    let one_key = "the key: a path segment for each key column, percent-encoded, bytes as 0x and hex";
    vec![
        get("/v1/rows/{family}/{table}/{key:.*}", "One row, by the key in its path", self::row)
            .in_path::<String>("key", one_key, "de")
            .gives_json::<Row>("the row", row())
            .refuses(400, "bad name, another number of key columns, or what can be no value of one")
            .refuses(404, "no such row, with the header X-Ctlstore: Not Found; or no such table, without it")
            .with(super::tagged),
        get("/v1/rows/{family}/{table}", "Rows in key order, page by page", self::page)
            .query::<Vec<String>>("prefix", "the leading key columns, each its own parameter", json!(["de"]))
            .query::<u64>("limit", "the most rows of the page, 100 where it is not said", 100)
            .query::<String>("after", "next of the page before", "")
            .gives_json::<Page>("a page; next is null in the last one", page)
            .refuses(400, "bad name, limit, cursor or parameter, or what can be no value of a key column")
            .refuses(404, "no such table")
            .refuses(416, "a row has more bytes than one answer holds")
            .with(super::tagged),
    ]
}

#[derive(ToSchema)]
#[schema(as = PageOfRows)]
#[expect(dead_code, reason = "written row by row")]
struct Page {
    /// Where the ledger stood at the moment of the read.
    seq: i64,
    #[schema(value_type = Vec<Row>)]
    rows: (),
    /// What `after` of the next page is.
    #[schema(required)]
    next: Option<String>,
}

pub async fn row(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let (table, key) = address::of_row(&request)?;
    let conditions = Conditions::of(&request, worker.limits);
    freshness::enforce(&worker, request.headers()).await?;
    let mut row = Vec::with_capacity(512);
    let read = |now: &ReadTransaction<'_>| {
        let moment = conditions.at(now)?;
        if conditions.knows(&moment) {
            return Ok((moment, None));
        }
        let key = now.key_of_texts(&table, &key)?;
        let is_there = now.get_json(&table, &key, &mut row)?;
        Ok((moment, Some(is_there)))
    };
    let (fresh, (moment, is_there)) = Worker::shared(&worker, read).map_err(|error| worker.failed(error))?;
    row.push(b'\n');
    Ok(match is_there {
        None => unchanged(fresh, &moment),
        Some(true) => found(fresh, &moment, row),
        Some(false) => {
            // As on the route for one row that the original has.
            let absent = HttpError::not_found("no such row").with_header("x-ctlstore", "Not Found");
            at(fresh, moment.seq, absent.error_response())
        }
    })
}

pub async fn page(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let asked = Asked::of(&request, worker.limits)?;
    freshness::enforce(&worker, request.headers()).await?;
    let read = move |now: &ReadTransaction<'_>, room: Room, answer: &mut Vec<u8>| asked.read(now, room, answer);
    let (fresh, (moment, outcome), answer) = super::read(&worker, read).await?;
    match outcome {
        Outcome::Page => Ok(found(fresh, &moment, answer)),
        Outcome::Unchanged => Ok(unchanged(fresh, &moment)),
        Outcome::OtherPlace => Err(HttpError::bad_request("after is no cursor of this table, its key and this prefix")),
    }
}

enum Outcome {
    Page,
    Unchanged,
    /// The cursor is none of this table, or of none.
    OtherPlace,
}

/// What a request for a page asks for.
struct Asked {
    table: TableRef,
    prefix: Vec<String>,
    limit: u64,
    after: Option<String>,
    conditions: Conditions,
}

impl Asked {
    fn of(request: &HttpRequest, limits: Limits) -> Result<Self, HttpError> {
        let (table, _) = address::of_row(request)?;
        let max = limits.max_rows.unwrap_or(MAX_ROWS);
        let (prefix, limit) = (Vec::new(), DEFAULT_ROWS.min(max));
        let mut asked = Self { table, prefix, limit, after: None, conditions: Conditions::of(request, limits) };
        let mut is_limited = false;
        for (name, value) in address::parameters(request)? {
            let twice = || HttpError::bad_request(format!("{name} is given twice"));
            match &*name {
                "prefix" => asked.prefix.push(value),
                "limit" if is_limited => return Err(twice()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=max).contains(limit));
                    asked.limit = limit.ok_or_else(|| HttpError::bad_request(format!("limit is not 1 to {max}")))?;
                    is_limited = true;
                }
                "after" if asked.after.is_some() => return Err(twice()),
                "after" => asked.after = Some(value),
                _ => return Err(HttpError::bad_request("there are prefix, limit and after, and no other parameter")),
            }
        }
        Ok(asked)
    }

    fn read(
        &self,
        now: &ReadTransaction<'_>,
        room: Room,
        answer: &mut Vec<u8>,
    ) -> Result<(Moment, Outcome), ReadError> {
        let moment = self.conditions.at(now)?;
        if self.conditions.knows(&moment) {
            return Ok((moment, Outcome::Unchanged));
        }
        let prefix = now.key_of_texts(&self.table, &self.prefix)?;
        let scope = Scope::of(&self.table, &now.key_names(&self.table)?, &self.prefix);
        let after = self.after.as_ref().map(|cursor| scope.read(cursor));
        if matches!(after, Some(None)) {
            return Ok((moment, Outcome::OtherPlace));
        }
        let limits = PageLimits { rows: self.limit.min(room.rows), bytes: PAGE_BYTES.min(room.bytes) };
        answer.extend_from_slice(format!("{{\"seq\":{},\"rows\":", moment.seq).as_bytes());
        let page = now.page_json(&self.table, &prefix, after.flatten().as_ref(), limits, answer)?;
        if room.is_short && page.next.is_some() && page.rows < self.limit {
            return Err(ReadError::TooManyRows { max: page.rows });
        }
        let next = page.next.map(|after| scope.write(&after));
        answer.extend_from_slice(format!(",\"next\":{}}}\n", json!(next)).as_bytes());
        room.holds(answer).map(|()| (moment, Outcome::Page))
    }
}
