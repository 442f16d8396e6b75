//! `GET /v1/rows/…`: one row by the key in its path, and pages of a table's rows in key order.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde_json::json;
use utoipa::ToSchema;

use crate::http::error::HttpError;
use crate::http::openapi::{Operation, get};
use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::{AnswerLimits, PageLimits, ReadError, ReadTransaction};

use super::super::rows::RowSchema;
use super::super::worker::Worker;
use super::address;
use super::answer::{self, ReadBounds, at, found, tagged, unchanged};
use super::cursor::Scope;
use super::etag::{Conditions, PointInTime};

/// Rows of a page if the request does not say.
const DEFAULT_ROWS: u64 = 100;
/// The most rows that a request may ask for if the settings do not say.
const MAX_ROWS: u64 = 1_000;
/// A page ends with the row that brings it to this many bytes.
const PAGE_BYTES: usize = 1 << 20;

pub fn operations() -> Vec<Operation> {
    let row = || json!({"country": "de", "item": 7, "cents": 1999});
    let page = json!({"seq": 4711, "rows": [row()], "next": null});
    let one_key = "the key: a path segment for each key column, percent-encoded, bytes as 0x and hex";
    vec![
        get("/v1/rows/{family}/{table}/{key:.*}", "One row, by the key in its path", self::row)
            .in_path::<String>("key", one_key, "de")
            .gives_json::<RowSchema>("the row", row())
            .refuses(400, "bad name, another number of key columns, or what can be no value of one")
            .refuses(404, "no such row, with the header X-Ctlstore: Not Found; or no such table, without it")
            .with(tagged),
        get("/v1/rows/{family}/{table}", "Rows in key order, page by page", self::page)
            .query::<Vec<String>>("prefix", "the leading key columns, each its own parameter", json!(["de"]))
            .query::<u64>("limit", "the most rows of the page, 100 if it is not said", 100)
            .query::<String>("after", "next of the page before", "")
            .gives_json::<PageOfRows>("a page; next is null in the last one", page)
            .refuses(400, "bad name, limit, cursor or parameter, or what can be no value of a key column")
            .refuses(404, "no such table")
            .refuses(416, "a row has more bytes than one answer holds")
            .with(tagged),
    ]
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "written row by row")]
struct PageOfRows {
    /// Where the ledger stood at the moment of the read.
    seq: i64,
    #[schema(value_type = Vec<RowSchema>)]
    rows: (),
    /// The parameter `after` of the next page.
    #[schema(required)]
    next: Option<String>,
}

pub async fn row(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let (table, key) = address::of_row(&request)?;
    let conditions = Conditions::of(&request, worker.limits);
    Worker::enforce_freshness(&worker, request.headers()).await?;
    let mut row = Vec::with_capacity(512);
    let read = |now: &ReadTransaction<'_>| {
        let point = conditions.at(now)?;
        if conditions.knows(&point) {
            return Ok((point, None));
        }
        let key = now.key_of_texts(&table, &key)?;
        let is_there = now.get_json(&table, &key, &mut row)?;
        Ok((point, Some(is_there)))
    };
    let (age, (point, is_there)) = Worker::shared(&worker, read).map_err(|error| worker.failed(error))?;
    row.push(b'\n');
    Ok(match is_there {
        None => unchanged(age, &point),
        Some(true) => found(age, &point, row),
        Some(false) => {
            // The header is that of the original's route for one row.
            let absent = HttpError::not_found("no such row").with_header("x-ctlstore", "Not Found");
            at(age, point.seq, absent.error_response())
        }
    })
}

pub async fn page(worker: Data<Worker>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let page = PageRequest::of(&request, worker.limits)?;
    Worker::enforce_freshness(&worker, request.headers()).await?;
    let read = move |now: &ReadTransaction<'_>, bounds: ReadBounds, rows: &mut Vec<u8>| page.read(now, bounds, rows);
    let (age, (point, outcome), rows) = answer::read(&worker, read).await?;
    match outcome {
        PageOutcome::Page => Ok(found(age, &point, rows)),
        PageOutcome::Unchanged => Ok(unchanged(age, &point)),
        PageOutcome::ForeignCursor => {
            Err(HttpError::bad_request("after is no cursor of this table, its key and this prefix"))
        }
    }
}

enum PageOutcome {
    Page,
    Unchanged,
    /// The cursor was not written for this table, key and prefix.
    ForeignCursor,
}

/// The page that a request asks for.
struct PageRequest {
    table: TableRef,
    prefix: Vec<String>,
    limit: u64,
    after: Option<String>,
    conditions: Conditions,
}

impl PageRequest {
    fn of(request: &HttpRequest, limits: AnswerLimits) -> Result<Self, HttpError> {
        let (table, _) = address::of_row(request)?;
        let max = limits.max_rows.unwrap_or(MAX_ROWS);
        let mut page = Self {
            table,
            prefix: Vec::new(),
            limit: DEFAULT_ROWS.min(max),
            after: None,
            conditions: Conditions::of(request, limits),
        };
        let mut is_limited = false;
        for (name, value) in address::parameters(request)? {
            let twice = || HttpError::bad_request(format!("{name} is given twice"));
            match &*name {
                "prefix" => page.prefix.push(value),
                "limit" if is_limited => return Err(twice()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=max).contains(limit));
                    page.limit = limit.ok_or_else(|| HttpError::bad_request(format!("limit is not 1 to {max}")))?;
                    is_limited = true;
                }
                "after" if page.after.is_some() => return Err(twice()),
                "after" => page.after = Some(value),
                _ => return Err(HttpError::bad_request("there are prefix, limit and after, and no other parameter")),
            }
        }
        Ok(page)
    }

    fn read(
        &self,
        now: &ReadTransaction<'_>,
        bounds: ReadBounds,
        answer: &mut Vec<u8>,
    ) -> Result<(PointInTime, PageOutcome), ReadError> {
        let point = self.conditions.at(now)?;
        if self.conditions.knows(&point) {
            return Ok((point, PageOutcome::Unchanged));
        }
        let prefix = now.key_of_texts(&self.table, &self.prefix)?;
        let scope = Scope::of(&self.table, &now.key_names(&self.table)?, &self.prefix);
        let after = self.after.as_ref().map(|cursor| scope.read(cursor));
        if matches!(after, Some(None)) {
            return Ok((point, PageOutcome::ForeignCursor));
        }
        let limits = PageLimits { rows: self.limit.min(bounds.rows), bytes: PAGE_BYTES.min(bounds.bytes) };
        answer.extend_from_slice(format!("{{\"seq\":{},\"rows\":", point.seq).as_bytes());
        let page = now.page_json(&self.table, &prefix, after.flatten().as_ref(), limits, answer)?;
        if bounds.is_short && page.next.is_some() && page.rows < self.limit {
            return Err(ReadError::TooManyRows { max: page.rows });
        }
        let next = page.next.map(|after| scope.write(&after));
        answer.extend_from_slice(format!(",\"next\":{}}}\n", json!(next)).as_bytes());
        bounds.check(answer).map(|()| (point, PageOutcome::Page))
    }
}
