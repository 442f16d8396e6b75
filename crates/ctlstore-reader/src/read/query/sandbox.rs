//! Restricts a connection while it prepares or runs a query: by SQLite's limits, its authorizer, and
//! its progress handler, which looks at the `clock`. Entry points: [`Sandbox::prepare`] once for each
//! connection, [`Sandbox::install`] and [`Sandbox::restrict`] for each query. ctlstore's own reads on
//! the connection are not restricted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result};

use super::super::query_clock::{Cancelled, EndReason, QueryClock};
use super::cost::EXPLAIN;
use super::limits::{MAX_SQL_BYTES, MAX_VALUE_BYTES};
use super::restriction::{LimitGuard, MAX_PATTERN_BYTES, RefusedAction};
use super::{authorizer, functions, like};

/// Steps of SQLite's machine between two calls of the progress handler. SQLite calls it only if its
/// program jumps back. `cost` bounds the time between two such jumps.
const STEPS: i32 = 4;

/// Sorters and intermediate tables are kept in memory, and the memory budget bounds them. On disk,
/// one query could fill the disk.
const PRAGMAS: &str = "PRAGMA temp_store = MEMORY";

/// Bounds for the parser and for single values. The clock and the memory budget bound the whole query.
const LIMITS: [(Limit, i32); 9] = [
    (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES as i32),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, (EXPLAIN.len() + MAX_SQL_BYTES) as i32),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 400),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 64),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 1000),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// The state that the connection's hooks look at.
pub(super) struct Sandbox {
    /// Whether the query's restrictions are in force.
    is_closed: AtomicBool,
    clock: Arc<QueryClock>,
    refused: RefusedAction,
}

impl Sandbox {
    /// Sets up a connection for queries. Call it once for each connection.
    pub(super) fn prepare(connection: &Connection) -> Result<Arc<QueryClock>> {
        connection.execute_batch(PRAGMAS)?;
        for (config, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        ] {
            connection.set_db_config(config, on)?;
        }
        authorizer::drop_modules(connection)?;
        let clock = Arc::default();
        functions::register(connection, &clock, MAX_VALUE_BYTES)?;
        like::register(connection, &clock, MAX_PATTERN_BYTES as usize)?;
        Ok(clock)
    }

    /// Installs the hooks for one query.
    pub(super) fn install(
        connection: &mut Connection,
        clock: Arc<QueryClock>,
        deadline: Instant,
        cancelled: Cancelled,
    ) -> Result<Arc<Self>> {
        clock.begin(deadline, cancelled);
        let sandbox = Arc::new(Self { is_closed: AtomicBool::new(false), clock, refused: RefusedAction::default() });
        let seen = Arc::clone(&sandbox);
        connection.authorizer(Some(move |context: AuthContext<'_>| seen.authorize(&context)))?;
        let seen = Arc::clone(&sandbox);
        connection.progress_handler(STEPS, Some(move || seen.must_stop()))?;
        Ok(sandbox)
    }

    /// Runs `work` with the rights of a query only.
    pub(super) fn restrict<T>(&self, connection: &Connection, work: impl FnOnce() -> T) -> Result<T> {
        // SQLite has parsed the schema already, whose SQL may be longer than these limits.
        let _limits = LimitGuard::set(connection, &LIMITS)?;
        self.is_closed.store(true, Ordering::Relaxed);
        let result = self.clock.watch(connection, work);
        self.is_closed.store(false, Ordering::Relaxed);
        Ok(result)
    }

    /// Why the query was ended; `None` if it was not.
    pub(super) fn ended(&self) -> Option<EndReason> {
        self.clock.ended()
    }

    /// Sets the length of the longest value, in bytes, until `restrict` ends.
    pub(super) fn set_longest_value(connection: &Connection, bytes: usize) -> Result<()> {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes).map(drop)
    }

    /// The action of the query that was refused, in words that complete "may not".
    pub(super) fn take_refused(&self) -> Option<String> {
        self.refused.take()
    }

    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        if !self.is_closed.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        self.refused.decide(authorizer::refused(&context.action))
    }

    fn must_stop(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed) && self.clock.is_over()
    }
}
