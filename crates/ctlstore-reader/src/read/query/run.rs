//! Runs one query on the reader's connection: checks it, binds its parameters, and collects its rows.
//! Entry point: [`LdbReader::query`]. `sandbox` restricts what runs here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::types::{Null, ToSqlOutput};
use rusqlite::{Connection, ErrorCode, Statement, ToSql};

use ctlstore_core::ledger::Seq;

use super::super::error::ReadError;
use super::super::file::LdbFile;
use super::super::ldb_reader::LdbReader;
use super::super::position;
use super::super::query_clock::{Cancelled, EndReason};
use super::super::value::Value;
use super::answer::{AnswerWriter, QueryAnswer};
use super::cost;
use super::error::{self, QueryError};
use super::limits::{MAX_SQL_BYTES, MAX_VALUE_BYTES, QueryLimits};
use super::memory::MemoryBudget;
use super::sandbox::Sandbox;

/// One statement and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub sql: String,
    pub parameters: Parameters,
    /// The most rows of the answer. Further rows are cut off.
    pub limit: Option<u64>,
}

/// The values of `?`, or of `:name`, `@name` and `$name`. The names are without their mark.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    Positional(Vec<Value>),
    Named(BTreeMap<String, Value>),
}

impl LdbReader {
    /// Runs one query. The caller should use this reader for queries only.
    ///
    /// # Errors
    /// [`QueryError`]. If a limit is passed, no part of the answer is returned.
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
        let file = self.current_file()?;
        let deadline = Instant::now() + limits.max_time;
        let outcome = run_on(file, query, limits, deadline, cancelled);
        if matches!(&outcome, Err(QueryError::Read(error)) if error.is_of_the_file()) {
            self.close();
        }
        outcome
    }
}

/// Runs the query in a transaction on `file`.
fn run_on(
    file: &mut LdbFile,
    query: &Query,
    limits: &QueryLimits,
    deadline: Instant,
    cancelled: &Cancelled,
) -> Result<QueryAnswer, QueryError> {
    let (connection, clock) = file.connection_for_queries(Sandbox::prepare)?;
    let sandbox = Sandbox::install(connection, clock, deadline, Arc::clone(cancelled)).map_err(ReadError::from)?;
    file.transaction(|file| {
        let connection = file.connection();
        let seq = position::last_seq(connection)?;
        let run = || run(connection, query, limits, &sandbox, seq);
        sandbox.restrict(connection, run).map_err(ReadError::from)?
    })
}

/// Runs the query in the sandbox, within a transaction.
fn run(
    connection: &Connection,
    query: &Query,
    limits: &QueryLimits,
    sandbox: &Sandbox,
    seq: Seq,
) -> Result<QueryAnswer, QueryError> {
    let budget = MemoryBudget::begin(limits.max_memory_bytes);
    let longest = Cell::new(MAX_VALUE_BYTES);
    let cause = |error| cause_of(error, limits, sandbox, &budget, longest.get());
    let mut statement = connection.prepare(&query.sql).map_err(cause)?;
    // The authorizer has refused statements that write or have no columns. This is a second check.
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(QueryError::NotAllowed("do anything but read".to_owned()));
    }
    // EXPLAIN only lists a statement, so its cost needs no bound.
    if statement.is_explain() == 0 {
        let max = cost::longest_value(connection, &query.sql, limits.max_time, MAX_VALUE_BYTES, true);
        longest.set(max.map_err(cause)?);
        Sandbox::set_longest_value(connection, longest.get()).map_err(ReadError::from)?;
    }
    bind(&mut statement, &query.parameters)?;
    let mut answer = AnswerWriter::begin(&statement, limits, query.limit);
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(cause)? {
        if !answer.push(row)? {
            break;
        }
    }
    answer.end(seq)
}

/// The query's error for an error of SQLite: the limit that caused it, if one did.
fn cause_of(
    error: rusqlite::Error,
    limits: &QueryLimits,
    sandbox: &Sandbox,
    budget: &MemoryBudget,
    longest: usize,
) -> QueryError {
    // SQLite's code for a refused function is that of any error.
    if let Some(refused) = sandbox.take_refused() {
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
                // The mark is one byte. A bare ? has no name.
                let name = statement.parameter_name(i).and_then(|name| name.get(1..)).unwrap_or_default();
                let missing = || QueryError::Parameters(format!("{name:?} is missing"));
                let value = values.get(name).ok_or_else(missing)?;
                set(statement, i, value)?;
                used += 1;
            }
            // A name with two different marks counts twice.
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

/// A value that rusqlite can bind.
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
