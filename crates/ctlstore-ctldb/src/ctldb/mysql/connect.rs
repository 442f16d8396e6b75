//! How a server is reached: the URL, the session that every connection gets, and the
//! executive's pool, which is made on the runtime that first needs it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mysql_async::{Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};

use crate::ctldb::CtldbError;

use super::error;
use super::link::Link;

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

/// The options of a `mysql://user:password@host:port/database?…` URL, TLS among them,
/// with our session's set-up. Fails without a database; never repeats the URL.
pub(super) fn options(url: &str) -> Result<OptsBuilder, CtldbError> {
    let opts = Opts::from_url(url).map_err(|e| CtldbError::Failed(format!("ctldb.url: {e}")))?;
    if opts.db_name().is_none() {
        return Err(CtldbError::Failed("ctldb.url names no database".to_owned()));
    }
    Ok(OptsBuilder::from_opts(opts)
        .setup(SESSION.map(str::to_owned).to_vec())
        // A local server's socket may be another server's than the one that the URL names.
        .prefer_socket(false)
        .stmt_cache_size(0))
}

/// The executive's connections. A pool belongs to the runtime that made it.
pub(super) struct Connections {
    options: Opts,
    pool: OnceLock<Pool>,
}

impl Connections {
    pub fn new(options: OptsBuilder) -> Self {
        let constraints = PoolConstraints::new(0, MAX_CONNECTIONS).unwrap_or_default();
        let pool = PoolOpts::new()
            .with_constraints(constraints)
            .with_inactive_connection_ttl(IDLE_TTL)
            // What isn't in good order never comes back, so nothing needs to be reset.
            .with_reset_connection(false);
        Self { options: options.pool_opts(pool).into(), pool: OnceLock::new() }
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.options.db_name().unwrap_or_default()
    }

    pub async fn get(&self, deadline: Instant) -> Result<Link, CtldbError> {
        let pool = self.pool.get_or_init(|| Pool::new(self.options.clone()));
        let deadline = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        match tokio::time::timeout_at(deadline.into(), pool.get_conn()).await {
            Ok(Ok(connection)) => Ok(Link::new(connection)),
            Ok(Err(error)) => Err(error::no_connection(&self.options, error)),
            Err(_) => {
                let (host, port) = (self.options.ip_or_hostname(), self.options.tcp_port());
                Err(CtldbError::Unavailable(format!("{host}:{port}: no connection in time")))
            }
        }
    }

    /// Closes all connections; those in use as soon as they are given back.
    pub async fn close(&self) {
        if let Some(pool) = self.pool.get() {
            // A server that does not answer loses nothing by our leaving.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, pool.clone().disconnect()).await;
        }
    }
}
