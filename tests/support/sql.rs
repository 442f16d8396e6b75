//! Plain SQL on a database of either kind, to read what the node did, or to break it. It uses its own connections, one
//! per call, and no code of the crates.

use std::path::Path;

use mysql_async::prelude::Queryable;
use rusqlite::types::ValueRef;

/// A result row. NULL is `None`, every other value is its text. Select `HEX(column)` if the exact bytes matter.
pub type Row = Vec<Option<String>>;

/// Runs one statement at `mysql://…` or `sqlite:PATH` and returns its rows.
///
/// MySQL sessions read double quotes as strings, which is the server's default.
pub fn query(url: &str, statement: &str) -> Result<Vec<Row>, String> {
    match url.strip_prefix("sqlite:") {
        Some(path) => sqlite(Path::new(path), statement).map_err(|error| error.to_string()),
        None => mysql(url, statement),
    }
}

fn sqlite(path: &Path, statement: &str) -> rusqlite::Result<Vec<Row>> {
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    let mut prepared = connection.prepare(statement)?;
    let width = prepared.column_count();
    let mut rows = prepared.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((0..width).map(|column| row.get_ref(column).map(sqlite_text)).collect::<rusqlite::Result<Row>>()?);
    }
    Ok(found)
}

fn sqlite_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// It has a thread and a runtime of its own, so that asynchronous tests can call it too.
fn mysql(url: &str, statement: &str) -> Result<Vec<Row>, String> {
    let url = url.to_owned();
    let statement = statement.to_owned();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(mysql_rows(&url, &statement)).map_err(|error| error.to_string())
    };
    std::thread::spawn(work).join().expect("the query's thread does not panic")
}

async fn mysql_rows(url: &str, statement: &str) -> mysql_async::Result<Vec<Row>> {
    let mut connection = mysql_async::Conn::from_url(url).await?;
    let rows: Vec<mysql_async::Row> = connection.query(statement).await?;
    connection.disconnect().await?;
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(mysql_text).collect()).collect())
}

fn mysql_text(value: mysql_async::Value) -> Option<String> {
    match value {
        mysql_async::Value::NULL => None,
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        // Plain queries use the text protocol, whose values are all bytes.
        other => Some(other.as_sql(true)),
    }
}
