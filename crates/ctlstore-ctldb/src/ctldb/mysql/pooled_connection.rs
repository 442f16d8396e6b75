//! Connections to a server: how each one is set up, the executive's pool of them, and one connection in
//! use. Entry points: [`login`], [`Connections::get`] and [`PooledConnection::query`]. The module knows
//! no statement but those of the set-up.
//!
//! Every statement has a time-out. A connection that is not given back in good order is closed: an
//! unread answer or an open transaction must not reach its next user.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder, Pool, PoolConstraints, PoolOpts, Row};

use crate::ctldb::error::CtldbError;

use super::address::{Login, ServerAddress, host_and_port};
use super::error::{self, SqlError, ends_connection};

/// The statements that set up each connection.
///
/// The ledger's statements need the first two modes. Strict mode keeps the server from storing another
/// value than it was given. The lock-wait time-outs are for one attempt; a write is tried again until the
/// request's deadline. MySQL from 8.0.3 runs the first comment, which makes table sizes fresh. MariaDB
/// from 11.6.2 runs the second one; without it statements fail on rows that our second connection wrote.
const SESSION: [&str; 3] = [
    "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION time_zone = '+00:00', autocommit = 1, \
     sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     innodb_lock_wait_timeout = 10, lock_wait_timeout = 3 \
     /*!80003 , information_schema_stats_expiry = 60 */ /*M!110602 , innodb_snapshot_isolation = OFF */",
];

/// Two for each running write (one for its schema change), the rest for reads.
const MAX_CONNECTIONS: usize = 8;

/// Idle connections are closed after this.
const IDLE_TTL: Duration = Duration::from_secs(300);

/// The time for reaching a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for closing all connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time for a statement, whatever the request's deadline is. It is longer than the lock-wait
/// time-out, so that the server gives up first.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// The time for closing one connection in order.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The login at `address`, with TLS and our session's set-up.
pub(super) fn login(address: &ServerAddress) -> Result<Login, CtldbError> {
    Login::new(address, |options| options.setup(SESSION.map(str::to_owned).to_vec()).stmt_cache_size(0))
}

/// The executive's connections. The pool is made on the runtime that first needs it, and belongs to it.
pub(super) struct Connections {
    /// The name of the database.
    database: String,
    current: Mutex<Current>,
}

/// The login and its pool. If the server refuses the login, both are replaced.
struct Current {
    login: Login,
    pool: Option<Pool>,
}

impl Connections {
    pub fn new(login: Login) -> Self {
        let database = login.options().db_name().unwrap_or_default().to_owned();
        Self { database, current: Mutex::new(Current { login, pool: None }) }
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    pub async fn get(&self, deadline: Instant) -> Result<PooledConnection, CtldbError> {
        let deadline = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let (login, pool) = self.current();
        let connected = tokio::time::timeout_at(deadline.into(), async {
            match pool.get_conn().await {
                Ok(connection) => Ok(connection),
                // Only once: if the new password is wrong too, the server refuses it again.
                Err(error) => self.renewed(&login, error).await?.get_conn().await,
            }
        });
        match connected.await {
            Ok(Ok(connection)) => Ok(PooledConnection::new(connection)),
            Ok(Err(error)) => Err(error::no_connection(login.options(), error)),
            Err(_) => {
                let place = host_and_port(login.options());
                Err(CtldbError::Unavailable(format!("{place}: no connection in time")))
            }
        }
    }

    fn current(&self) -> (Login, Pool) {
        let current = &mut *self.lock();
        let pool = current.pool.get_or_insert_with(|| pool_of(&current.login)).clone();
        (current.login.clone(), pool)
    }

    /// The pool of a new login, if `refused` is out of date.
    async fn renewed(&self, refused: &Login, error: mysql_async::Error) -> Result<Pool, mysql_async::Error> {
        let login = refused.renewed(error).await?;
        let (pool, old) = {
            let current = &mut *self.lock();
            match &current.pool {
                // Another task was refused as well, and has made the new pool.
                Some(pool) if current.login.is_same(&login) => return Ok(pool.clone()),
                _ => {}
            }
            let pool = pool_of(&login);
            let old = std::mem::replace(current, Current { login, pool: Some(pool.clone()) });
            (pool, old.pool)
        };
        if let Some(old) = old {
            // Connections in use are closed as soon as they are given back.
            tokio::spawn(disconnect(old));
        }
        Ok(pool)
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // No panic leaves these values half-written.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all connections; those in use are closed as soon as they are given back.
    pub async fn close(&self) {
        let pool = self.lock().pool.clone();
        if let Some(pool) = pool {
            disconnect(pool).await;
        }
    }
}

fn pool_of(login: &Login) -> Pool {
    let constraints = PoolConstraints::new(0, MAX_CONNECTIONS).unwrap_or_default();
    let pool = PoolOpts::new()
        .with_constraints(constraints)
        .with_inactive_connection_ttl(IDLE_TTL)
        // Only connections in good order come back, so nothing needs to be reset.
        .with_reset_connection(false);
    Pool::new(OptsBuilder::from_opts(login.options().clone()).pool_opts(pool))
}

async fn disconnect(pool: Pool) {
    // If the server does not answer, nothing is lost.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, pool.disconnect()).await;
}

/// The result sets of a batch of statements. The set of a statement without rows is empty.
pub(super) type ResultSets = Vec<Vec<Row>>;

/// One connection in use.
pub(super) struct PooledConnection {
    /// `Some` until the connection is given back or dropped.
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

    /// Runs one or more statements and returns their result sets. Stops at the first statement that fails.
    pub async fn query(&mut self, sql: &str, deadline: Instant) -> Result<ResultSets, SqlError> {
        self.query_until(sql, deadline.min(Instant::now() + STATEMENT_TIMEOUT)).await
    }

    /// As [`PooledConnection::query`], but with `deadline` as the only time limit.
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
            None => Err(SqlError::no_row()),
        }
    }

    /// The rows of the last result set.
    pub async fn rows<T: FromRow>(&mut self, sql: &str, deadline: Instant) -> Result<Vec<T>, SqlError> {
        let rows = self.query(sql, deadline).await?.pop().unwrap_or_default();
        rows.into_iter().map(read_row).collect()
    }

    /// The number of rows that the last statement inserted, deleted or changed.
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
            // The socket is closed in either case.
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

/// A row's columns, in the types that the caller expects.
pub(super) fn read_row<T: FromRow>(row: Row) -> Result<T, SqlError> {
    T::from_row_opt(row).map_err(|_| SqlError::Server { code: 0, message: "answer of an unexpected type".to_owned() })
}
