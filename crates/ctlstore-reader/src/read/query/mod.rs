//! Queries: one read-only statement in the words of others, run within limits of rows,
//! bytes, time and memory, and its rows as JSON. It reads one moment of the LDB, in a
//! transaction that ends with the making of the answer.
//!
//! What a query may do is in `rights`, how it is kept to it in `sandbox` and `memory`, when it
//! must end in `clock`, and how long its values may be in `cost`.

mod answer;
mod authorizer;
mod clock;
pub mod cost;
mod error;
mod functions;
mod like;
pub mod memory;
mod sandbox;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::{Null, ToSqlOutput};
use rusqlite::{Connection, ErrorCode, Statement, ToSql};

use ctlstore_core::ledger::Seq;

use super::error::ReadError;
use super::value::Value;
use super::{LdbReader, position};

pub use error::QueryError;

pub(super) use clock::Clock;
use clock::EndReason;
use memory::Budget;
use sandbox::Sandbox;

/// The longest SQL.
const MAX_SQL_BYTES: usize = 64 * 1024;
/// The longest value or row that a query may meet or make: longer than any row that the
/// ledger can bring, whose statement has at most 768 KiB.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Asked again and again while a query runs: whether nobody waits for it any more.
pub type Cancelled = Arc<dyn Fn() -> bool + Send + Sync>;

/// One statement and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub sql: String,
    pub parameters: Parameters,
    /// The most rows to be given; what is beyond is cut off.
    pub limit: Option<u64>,
}

/// Values of `?`, or of `:name`, `@name` and `$name`, which are named without their mark.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    Positional(Vec<Value>),
    Named(BTreeMap<String, Value>),
}

/// What one query may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    pub max_rows: u64,
    /// The most bytes of the answer.
    pub max_bytes: usize,
    pub max_time: Duration,
    /// Of SQLite: values, sorters and intermediate tables, and the statement itself.
    pub max_memory_bytes: usize,
}

/// A query's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    pub seq: Seq,
    /// One object, with `columns`, `rows`, `seq` and `truncated`.
    pub json: Vec<u8>,
}

impl LdbReader {
    /// Runs one query. The caller keeps one reader for queries, and for nothing else.
    ///
    /// # Errors
    /// See [`QueryError`]; a limit that is passed gives no part of the answer.
    pub fn query(
        &mut self,
        query: &Query,
        limits: &QueryLimits,
        cancelled: &Cancelled,
    ) -> Result<QueryAnswer, QueryError> {
        let max_rows = limits.max_rows;
        if query.limit.is_some_and(|limit| limit > max_rows) {
            return Err(QueryError::Limit { max: max_rows });
        }
        if query.sql.len() > MAX_SQL_BYTES {
            return Err(QueryError::SqlTooLong { max: MAX_SQL_BYTES });
        }
        if query.sql.contains('\0') {
            return Err(QueryError::Sql("the sql holds a NUL character".to_owned()));
        }
        self.follow()?;
        let path = self.path().to_owned();
        let Some(file) = &mut self.file else { return Err(ReadError::NotThereYet { path }.into()) };
        let deadline = Instant::now() + limits.max_time;
        let outcome = (|| {
            let (connection, clock) = file.connection_for_queries(Sandbox::prepare)?;
            let sandbox =
                Sandbox::install(connection, clock, deadline, Arc::clone(cancelled)).map_err(ReadError::from)?;
            file.transaction(|file| {
                let seq = position::last_seq(file)?;
                let connection = file.connection();
                let run = || run(connection, query, limits, &sandbox, seq);
                sandbox.restrict(connection, run).map_err(ReadError::from)?
            })
        })();
        if matches!(&outcome, Err(QueryError::Read(error)) if error.is_of_the_file()) {
            self.file = None;
        }
        outcome
    }
}

/// Within the sandbox and a transaction.
fn run(
    connection: &Connection,
    query: &Query,
    limits: &QueryLimits,
    sandbox: &Sandbox,
    seq: Seq,
) -> Result<QueryAnswer, QueryError> {
    let budget = Budget::begin(limits.max_memory_bytes);
    let longest = Cell::new(MAX_VALUE_BYTES);
    let told_apart = |error| told_apart(error, limits, sandbox, &budget, longest.get());
    let mut statement = connection.prepare(&query.sql).map_err(told_apart)?;
    // What has no columns or writes has been refused by its rights; this is a second look.
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(QueryError::NotAllowed("do anything but read".to_owned()));
    }
    // Its own listing is no more than text.
    if statement.is_explain() == 0 {
        let max = cost::longest_value(connection, &query.sql, limits.max_time, MAX_VALUE_BYTES, true);
        longest.set(max.map_err(told_apart)?);
        Sandbox::set_longest_value(connection, longest.get()).map_err(ReadError::from)?;
    }
    bind(&mut statement, &query.parameters)?;
    let mut answer = answer::AnswerWriter::begin(&statement, limits, query.limit);
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(told_apart)? {
        if !answer.push(row)? {
            break;
        }
    }
    answer.end(seq)
}

/// An error of SQLite by the limit that caused it, if one did.
fn told_apart(
    error: rusqlite::Error,
    limits: &QueryLimits,
    sandbox: &Sandbox,
    budget: &Budget,
    longest: usize,
) -> QueryError {
    // A refused function has the code of any error.
    if let Some(refused) = sandbox.refused() {
        return QueryError::NotAllowed(refused);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => match sandbox.ended() {
            Some(EndReason::Cancelled) => QueryError::Cancelled,
            _ => QueryError::TooLong { max: limits.max_time },
        },
        Some(ErrorCode::TooBig) => {
            QueryError::ValueTooLong { max: longest, is_of_its_steps: longest < MAX_VALUE_BYTES }
        }
        _ if error::is_of_memory(&error) && budget.was_exceeded() => {
            QueryError::TooMuchMemory { max: limits.max_memory_bytes }
        }
        _ => error::of_sqlite(error),
    }
}

fn bind(statement: &mut Statement<'_>, parameters: &Parameters) -> Result<(), QueryError> {
    let wanted = statement.parameter_count();
    match parameters {
        Parameters::Positional(values) => {
            if values.len() != wanted {
                return Err(QueryError::Parameters(format!("the sql has {wanted} of them, not {}", values.len())));
            }
            for (i, value) in values.iter().enumerate() {
                set(statement, i + 1, value)?;
            }
        }
        Parameters::Named(values) => {
            let mut used = 0;
            for i in 1..=wanted {
                // Without the mark, which is one byte; a bare ? has no name.
                let name = statement.parameter_name(i).and_then(|name| name.get(1..)).unwrap_or_default();
                let missing = || QueryError::Parameters(format!("{name:?} is missing"));
                let value = values.get(name).ok_or_else(missing)?;
                set(statement, i, value)?;
                used += 1;
            }
            // One name with two marks is used twice.
            if used < values.len() {
                return Err(QueryError::Parameters("there are more than the sql names".to_owned()));
            }
        }
    }
    Ok(())
}

fn set(statement: &mut Statement<'_>, index: usize, value: &Value) -> Result<(), QueryError> {
    let bound = statement.raw_bind_parameter(index, Bound(value));
    bound.map_err(|error| QueryError::Parameters(error.to_string()))
}

/// A value as SQLite takes it.
struct Bound<'v>(&'v Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self.0 {
            Value::Null => Ok(Null.into()),
            Value::Integer(integer) => Ok((*integer).into()),
            Value::Real(real) => Ok((*real).into()),
            Value::Text(text) => Ok(text.as_str().into()),
            Value::Blob(bytes) => Ok(bytes.as_slice().into()),
        }
    }
}
