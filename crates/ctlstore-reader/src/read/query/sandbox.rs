//! What stands between a query and the connection: SQLite's own limits, its authorizer
//! and its progress handler, which looks at the `clock`. All of it is in force only while the SQL of others is
//! prepared or run; the reads of our own around it are not held up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result};

use super::clock::{Clock, EndReason};
use super::cost::EXPLAIN;
use super::{Cancelled, MAX_SQL_BYTES, MAX_VALUE_BYTES, authorizer, functions, like};

/// Steps of SQLite's machine between two looks at the clock, where its program jumps back;
/// what lies between two such jumps is bounded by `cost`.
const STEPS: i32 = 4;
/// The longest pattern of LIKE and GLOB, in bytes.
const MAX_PATTERN_BYTES: i32 = 32;

/// Sorters and intermediate tables are memory, and so within the budget: on disk, one
/// query could fill it.
const PRAGMAS: &str = "PRAGMA temp_store = MEMORY";

/// Bounds for the parser and for single values; what the whole takes is bounded by the
/// clock and the memory's budget.
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

/// What the connection's hooks look at.
pub(super) struct Sandbox {
    is_closed: AtomicBool,
    clock: Arc<Clock>,
    refused: Mutex<Option<String>>,
}

impl Sandbox {
    /// What is done once on a connection that is to run queries.
    pub(super) fn prepare(connection: &Connection) -> Result<Arc<Clock>> {
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

    /// Puts the hooks in place, for one query.
    pub(super) fn install(
        connection: &mut Connection,
        clock: Arc<Clock>,
        deadline: Instant,
        cancelled: Cancelled,
    ) -> Result<Arc<Self>> {
        clock.begin(deadline, cancelled);
        let sandbox = Arc::new(Self { is_closed: AtomicBool::new(false), clock, refused: Mutex::default() });
        let seen = Arc::clone(&sandbox);
        connection.authorizer(Some(move |context: AuthContext<'_>| seen.authorize(&context)))?;
        let seen = Arc::clone(&sandbox);
        connection.progress_handler(STEPS, Some(move || seen.must_stop()))?;
        Ok(sandbox)
    }

    /// Runs `work`, which has the rights of a query only.
    pub(super) fn restrict<T>(&self, connection: &Connection, work: impl FnOnce() -> T) -> Result<T> {
        // From here on nothing of the schema is parsed any more, which may be longer.
        let mut before = Restored { connection, limits: Vec::with_capacity(LIMITS.len()) };
        for (limit, value) in LIMITS {
            before.limits.push((limit, connection.set_limit(limit, value)?));
        }
        self.is_closed.store(true, Ordering::Relaxed);
        let result = self.clock.watch(connection, work);
        self.is_closed.store(false, Ordering::Relaxed);
        Ok(result)
    }

    /// Why the query was ended, if it was.
    pub(super) fn ended(&self) -> Option<EndReason> {
        self.clock.ended()
    }

    /// Sets the longest value that is met from here on, until `restrict` ends.
    pub(super) fn set_longest_value(connection: &Connection, bytes: usize) -> Result<()> {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes).map(drop)
    }

    /// What the query may not, in words that complete "may not".
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        if !self.is_closed.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        let Some(refused) = authorizer::refused(&context.action) else { return Authorization::Allow };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
        Authorization::Deny
    }

    fn must_stop(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed) && self.clock.is_over()
    }
}

/// Gives the connection its own limits back.
struct Restored<'c> {
    connection: &'c Connection,
    limits: Vec<(Limit, i32)>,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        for (limit, value) in &self.limits {
            // It took the other value, so it takes its own.
            let _ = self.connection.set_limit(*limit, *value);
        }
    }
}
