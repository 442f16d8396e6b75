//! How a server is reached: the session that every connection gets, and the executive's
//! pool, which is made on the runtime that first needs it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::{OptsBuilder, Pool, PoolConstraints, PoolOpts};

use crate::ctldb::CtldbError;

use super::address::{Login, ServerAddress, host_and_port};
use super::error;
use super::pooled_connection::PooledConnection;

/// The statements of the ledger depend on the first two modes; strictness keeps the
/// server from storing something else than it was given. The lock-wait time-outs are
/// what one attempt waits; the driver tries again until the request's deadline.
/// The comments are run by MySQL from 8.0.3 and by MariaDB from 11.6.2: the first makes
/// table sizes fresh, the second keeps statements from failing on what a second
/// connection of ours has written.
const SESSION: [&str; 3] = [
    "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION time_zone = '+00:00', autocommit = 1, \
     sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     innodb_lock_wait_timeout = 10, lock_wait_timeout = 3 \
     /*!80003 , information_schema_stats_expiry = 60 */ /*M!110602 , innodb_snapshot_isolation = OFF */",
];

/// Two for each write on its way, for it and for its schema change, the rest for reads.
const MAX_CONNECTIONS: usize = 8;

/// Idle connections are closed after this.
const IDLE_TTL: Duration = Duration::from_secs(300);

/// What reaching a server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What closing all connections may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How to connect to `address`, TLS and our session's set-up among it.
pub(super) fn login(address: &ServerAddress) -> Result<Login, CtldbError> {
    Login::new(address, |options| options.setup(SESSION.map(str::to_owned).to_vec()).stmt_cache_size(0))
}

/// The executive's connections. A pool belongs to the runtime that made it.
pub(super) struct Connections {
    /// The name of the database.
    database: String,
    current: Mutex<Current>,
}

/// A login that the server refuses is replaced, and the pool with it.
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
                // Once: a password that is wrong too is the server's to refuse again.
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

    /// The pool of a new login, where `refused` is out of date.
    async fn renewed(&self, refused: &Login, error: mysql_async::Error) -> Result<Pool, mysql_async::Error> {
        let login = refused.renewed(error).await?;
        let (pool, old) = {
            let current = &mut *self.lock();
            match &current.pool {
                // Another task was refused as well, and came first.
                Some(pool) if current.login.is_same(&login) => return Ok(pool.clone()),
                _ => {}
            }
            let pool = pool_of(&login);
            let old = std::mem::replace(current, Current { login, pool: Some(pool.clone()) });
            (pool, old.pool)
        };
        if let Some(old) = old {
            // Those in use are closed as soon as they are given back.
            tokio::spawn(disconnect(old));
        }
        Ok(pool)
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Values that no panic leaves half-written.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all connections; those in use as soon as they are given back.
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
        // What isn't in good order never comes back, so nothing needs to be reset.
        .with_reset_connection(false);
    Pool::new(OptsBuilder::from_opts(login.options().clone()).pool_opts(pool))
}

async fn disconnect(pool: Pool) {
    // A server that does not answer loses nothing by our leaving.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, pool.disconnect()).await;
}
