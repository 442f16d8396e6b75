//! The routes for limits of tables and writers. Their requests are in `limit_settings.rs` of
//! `ctlstore_ctldb::executive`.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use serde::Serialize;
use serde_json::{Number, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::http::body::Incoming;
use crate::http::error::HttpError;
use crate::http::json::{self, Members};
use crate::http::openapi::{Operation, delete, get, post, shapes};
use ctlstore_core::schema::{TableRef, WriterName};
use ctlstore_ctldb::TableLimit;
use ctlstore_ctldb::executive::{
    DeleteTableLimit, DeleteWriterLimit, ListTableLimits, ListWriterLimits, RateLimit, SetTableLimit, SetWriterLimit,
    parse_go_duration,
};

use super::api::{Api, asking, done};
use super::writers::writer_in;

pub(super) fn operations() -> Vec<Operation> {
    let size = || json!({"max-size": 104_857_600, "warn-size": 52_428_800});
    let rate = || json!({"amount": 1000, "period": 60_000_000_000_u64});
    let table = json!({"family": "shop", "table": "prices", "max-size": 1000, "warn-size": 500});
    let writer = json!({"writer": "billing", "rate-limit": rate()});
    vec![
        get("/limits/tables", "The limits of tables", list_tables)
            .gives_json::<ShownTables>("all of them, in bytes", json!({"global": size(), "tables": [table]}))
            .with(asking),
        post("/limits/tables/{family}/{table}", "Sets a table's own limit", set_table)
            .takes_json::<Size>("bytes of data and indexes", size())
            .gives_nothing("set")
            .refuses(400, "not json, bad name, or sizes that make no sense")
            .refuses(404, "no such table")
            .with(asking),
        delete("/limits/tables/{family}/{table}", "Takes a table's own limit away", delete_table)
            .gives_nothing("gone")
            .refuses(400, "bad name")
            .refuses(404, "it has none")
            .with(asking),
        get("/limits/writers", "The limits of writers", list_writers)
            .gives_json::<ShownWriters>("all of them", json!({"global": rate(), "writers": [writer]}))
            .with(asking),
        post("/limits/writers/{writer}", "Sets a writer's own limit", set_writer)
            .describe("Stored as rows per minute, rounded half to even.")
            .takes_json::<Rate>("rows in a period", json!({"amount": 100, "period": "1m"}))
            .gives_nothing("set")
            .refuses(400, "not json, bad name, or a rate that makes no sense")
            .refuses(404, "no such writer")
            .with(asking),
        delete("/limits/writers/{writer}", "Takes a writer's own limit away", delete_writer)
            .gives_nothing("gone")
            .refuses(404, "it has none")
            .with(asking),
    ]
    .into_iter()
    .map(|operation| operation.tag("limits"))
    .collect()
}

/// Bytes of data and indexes.
#[derive(ToSchema)]
#[schema(as = TableSize, rename_all = "kebab-case")]
#[expect(dead_code, reason = "read member by member")]
struct Size {
    #[schema(minimum = 0)]
    max_size: i64,
    #[schema(minimum = 0)]
    warn_size: i64,
}

/// So many rows in so long a time.
#[derive(ToSchema)]
#[schema(as = WriterRate)]
#[expect(dead_code, reason = "read member by member")]
struct Rate {
    #[schema(minimum = 0)]
    amount: i64,
    #[schema(schema_with = described_period)]
    period: Value,
}

/// Describes a period as [`period`] reads it.
fn described_period() -> Schema {
    let go = shapes::text("^([1-9][0-9]{0,4}([.][0-9]{1,6})?(ns|us|ms|s|m|h))+$");
    OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).description(Some("nanoseconds")))
        .item(go.description(Some("a duration as Go writes it")))
        .into()
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
struct ShownSize {
    max_size: i64,
    warn_size: i64,
}

impl From<TableLimit> for ShownSize {
    fn from(limit: TableLimit) -> Self {
        Self { max_size: limit.max_bytes, warn_size: limit.warn_bytes }
    }
}

#[derive(Serialize, ToSchema)]
struct ShownTable {
    #[serde(flatten)]
    size: ShownSize,
    family: String,
    table: String,
}

#[derive(Serialize, ToSchema)]
struct ShownTables {
    global: ShownSize,
    tables: Vec<ShownTable>,
}

/// A rate; its period is in nanoseconds.
#[derive(Serialize, ToSchema)]
struct ShownRate {
    amount: i64,
    period: u64,
}

impl From<RateLimit> for ShownRate {
    fn from(limit: RateLimit) -> Self {
        Self { amount: limit.amount, period: u64::try_from(limit.period.as_nanos()).unwrap_or(u64::MAX) }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
struct ShownWriter {
    writer: String,
    rate_limit: ShownRate,
}

#[derive(Serialize, ToSchema)]
struct ShownWriters {
    global: ShownRate,
    writers: Vec<ShownWriter>,
}

pub(super) async fn list_tables(api: Data<Api>) -> Result<HttpResponse, HttpError> {
    let limits = api.ask(ListTableLimits).await?;
    let tables = limits.tables.into_iter();
    let shown = tables.map(|t| ShownTable { size: t.limit.into(), family: t.family, table: t.table }).collect();
    json::answer(&ShownTables { global: limits.global.into(), tables: shown })
}

pub(super) async fn set_table(
    api: Data<Api>,
    path: Path<(String, String)>,
    body: Incoming,
) -> Result<HttpResponse, HttpError> {
    let table = TableRef::parse(&path.0, &path.1).map_err(HttpError::bad_request)?;
    let limit: Members = json::parse(&body.read().await?)?;
    let limit = TableLimit { max_bytes: integer(&limit, "max-size")?, warn_bytes: integer(&limit, "warn-size")? };
    api.ask(SetTableLimit::new(table, limit)?).await?;
    Ok(done())
}

pub(super) async fn delete_table(api: Data<Api>, path: Path<(String, String)>) -> Result<HttpResponse, HttpError> {
    let table = TableRef::parse(&path.0, &path.1).map_err(HttpError::bad_request)?;
    api.ask(DeleteTableLimit(table)).await?;
    Ok(done())
}

pub(super) async fn list_writers(api: Data<Api>) -> Result<HttpResponse, HttpError> {
    let limits = api.ask(ListWriterLimits).await?;
    let writers = limits.writers.into_iter();
    let shown = writers.map(|w| ShownWriter { writer: w.writer, rate_limit: w.limit.into() }).collect();
    json::answer(&ShownWriters { global: limits.global.into(), writers: shown })
}

pub(super) async fn set_writer(
    api: Data<Api>,
    writer: Path<String>,
    body: Incoming,
) -> Result<HttpResponse, HttpError> {
    let writer = writer_in(&writer)?;
    let limit: Members = json::parse(&body.read().await?)?;
    let limit = RateLimit { amount: integer(&limit, "amount")?, period: period(&limit.required("period")?)? };
    api.ask(SetWriterLimit::new(writer, limit)?).await?;
    Ok(done())
}

pub(super) async fn delete_writer(api: Data<Api>, writer: Path<String>) -> Result<HttpResponse, HttpError> {
    // A name that no writer can have has no limit.
    let writer = WriterName::new(&writer).map_err(|_| HttpError::not_found("no limit for this writer"))?;
    api.ask(DeleteWriterLimit(writer)).await?;
    Ok(done())
}

/// Reads nanoseconds, or a duration as Go writes it.
fn period(json: &Value) -> Result<Duration, HttpError> {
    let period = match json {
        Value::String(text) => parse_go_duration(text),
        Value::Number(number) => number.as_u64().or_else(|| whole(number)?.try_into().ok()).map(Duration::from_nanos),
        _ => None,
    };
    period.ok_or_else(|| HttpError::bad_request("period is neither nanoseconds nor a duration such as \"1m\""))
}

/// Reads a member that is a whole number in any JSON form.
fn integer(members: &Members, name: &str) -> Result<i64, HttpError> {
    let number: Number = members.required(name)?;
    let integer = number.as_i64().or_else(|| whole(&number));
    integer.ok_or_else(|| HttpError::bad_request(format!("{name} is not a whole number of 64 bits")))
}

/// A float that is a whole number of at most 53 bits. A client may write 6e10.
fn whole(number: &Number) -> Option<i64> {
    let float = number.as_f64()?;
    let is_exact = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
    is_exact.then_some(float as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_limit_is_a_whole_number_however_it_is_written() {
        let read = |body: &str| integer(&json::parse(body.as_bytes()).unwrap(), "n").map_err(|e| e.to_string());
        for (body, number) in [("7", 7), ("7.0", 7), ("1e3", 1000), ("-7.0", -7), ("9223372036854775807", i64::MAX)] {
            assert_eq!(read(&format!(r#"{{"N":{body}}}"#)), Ok(number));
        }
        for bad in ["7.5", "1e300", "9223372036854775808"] {
            assert_eq!(read(&format!(r#"{{"n":{bad}}}"#)).unwrap_err(), "n is not a whole number of 64 bits");
        }
        for bad in ["\"7\"", "true", "[7]", "null"] {
            assert!(read(&format!(r#"{{"n":{bad}}}"#)).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn periods_are_nanoseconds_or_go_durations() {
        let nanos = |json: Value| period(&json).ok().map(|period| period.as_nanos());
        assert_eq!(nanos(json!("1.5h")), Some(5_400_000_000_000));
        assert_eq!(nanos(json!(60_000_000_000_u64)), Some(60_000_000_000));
        assert_eq!(nanos(json!(6e10)), Some(60_000_000_000));
        for bad in [json!(-1), json!(1.5), json!("1"), json!(""), json!([1]), json!(true)] {
            assert_eq!(nanos(bad.clone()), None, "{bad} was taken");
        }
    }
}
