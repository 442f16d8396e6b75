//! One connection to the server, in use. Every statement has a time-out, and a
//! connection that is not given back in good order is closed: an answer that nobody
//! read, or a transaction that nobody ended, must not meet the next user.

use std::time::{Duration, Instant};

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Row};

use super::error::{SqlError, ends_connection};

/// The longest that a statement may take, whatever the request's deadline.
/// Above the lock-wait time-out, so that it is the server that gives up first.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// What saying goodbye to a server may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The result sets of a text that may hold several statements; those without rows are empty.
pub(super) type ResultSets = Vec<Vec<Row>>;

pub(super) struct PooledConnection {
    /// There until the link is given back or dropped.
    connection: Option<Conn>,
    broken: bool,
}

impl PooledConnection {
    pub fn new(connection: Conn) -> Self {
        Self { connection: Some(connection), broken: false }
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Runs a text of one or more statements and gives their result sets. Stops at
    /// the first statement that fails.
    pub async fn query(&mut self, sql: &str, deadline: Instant) -> Result<ResultSets, SqlError> {
        self.query_until(sql, deadline.min(Instant::now() + STATEMENT_TIMEOUT)).await
    }

    /// As [`PooledConnection::query`], for what may take as long as there is time.
    pub async fn query_until(&mut self, sql: &str, deadline: Instant) -> Result<ResultSets, SqlError> {
        let Some(connection) = self.connection.as_mut().filter(|_| !self.broken) else {
            return Err(SqlError::Broken("connection is closed".to_owned()));
        };
        match tokio::time::timeout_at(deadline.into(), run(connection, sql)).await {
            Ok(Ok(sets)) => Ok(sets),
            Ok(Err(error)) => {
                self.broken = ends_connection(&error);
                Err(error)
            }
            Err(_) => {
                self.broken = true;
                Err(SqlError::Broken("no answer in time".to_owned()))
            }
        }
    }

    /// The only row of the last result set.
    pub async fn row<T: FromRow>(&mut self, sql: &str, deadline: Instant) -> Result<T, SqlError> {
        match self.rows(sql, deadline).await?.pop() {
            Some(row) => Ok(row),
            None => Err(SqlError::Server { code: 0, message: "answer without a row".to_owned() }),
        }
    }

    /// The rows of the last result set.
    pub async fn rows<T: FromRow>(&mut self, sql: &str, deadline: Instant) -> Result<Vec<T>, SqlError> {
        let rows = self.query(sql, deadline).await?.pop().unwrap_or_default();
        rows.into_iter().map(read_row).collect()
    }

    /// Rows that the last statement inserted, deleted or changed.
    pub fn affected_rows(&self) -> u64 {
        self.connection.as_ref().map_or(0, Conn::affected_rows)
    }

    /// Gives the connection back to its pool. No transaction may be open.
    pub fn give_back(mut self) {
        if !self.broken {
            drop(self.connection.take());
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let goodbye = async {
            // Either way the socket is closed, which is what matters.
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, connection.disconnect()).await;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(goodbye)),
            Err(_) => drop(goodbye),
        }
    }
}

async fn run(connection: &mut Conn, sql: &str) -> Result<ResultSets, SqlError> {
    let mut result = connection.query_iter(sql).await?;
    let mut sets = Vec::new();
    while !result.is_empty() {
        sets.push(result.collect::<Row>().await?);
    }
    result.drop_result().await?;
    Ok(sets)
}

/// A row's columns, as the caller expects them.
pub(super) fn read_row<T: FromRow>(row: Row) -> Result<T, SqlError> {
    T::from_row_opt(row).map_err(|_| SqlError::Server { code: 0, message: "answer of an unexpected type".to_owned() })
}
