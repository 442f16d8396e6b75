//! What stands between a query and the connection: SQLite's own limits, its authorizer
//! and its progress handler. All of it is in force only while the SQL of others is
//! prepared or run; the reads of our own around it are not held up.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result};

use super::{Cancelled, MAX_SQL_BYTES, MAX_VALUE_BYTES, functions, rights};

/// Steps of SQLite's machine between two looks at the clock. One step may be a function on
/// a value of the greatest length, and those on patterns cost the product of both lengths:
/// tens of milliseconds for the longest pattern that is allowed.
const STEPS: i32 = 4;
/// The longest pattern of LIKE and GLOB, in bytes.
const MAX_PATTERN_BYTES: i32 = 32;

/// Sorters and intermediate tables are memory, and so within the budget: on disk, one
/// query could fill it.
const PRAGMAS: &str = "PRAGMA temp_store = MEMORY";

const NOT_ENDED: u8 = 0;
const OUT_OF_TIME: u8 = 1;
const CANCELLED: u8 = 2;

/// Bounds for the parser and for single values; what the whole takes is bounded by the
/// clock and the memory's budget.
const LIMITS: [(Limit, i32); 9] = [
    (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES as i32),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES as i32),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 400),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 64),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 1000),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// Why SQLite was made to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    OutOfTime,
    Cancelled,
}

/// What the connection's hooks look at.
#[derive(Default)]
pub(super) struct Gate {
    is_closed: AtomicBool,
    ended: AtomicU8,
    refused: Mutex<Option<String>>,
}

impl Gate {
    /// What is done once on a connection that is to run queries.
    pub(super) fn prepare(connection: &Connection) -> Result<()> {
        connection.execute_batch(PRAGMAS)?;
        for (config, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        ] {
            connection.set_db_config(config, on)?;
        }
        rights::drop_modules(connection)?;
        functions::register(connection, MAX_VALUE_BYTES)
    }

    /// Puts the hooks in place, for one query.
    pub(super) fn install(connection: &mut Connection, deadline: Instant, cancelled: Cancelled) -> Result<Arc<Self>> {
        let gate = Arc::new(Self::default());
        let seen = Arc::clone(&gate);
        connection.authorizer(Some(move |context: AuthContext<'_>| seen.authorize(&context)))?;
        let seen = Arc::clone(&gate);
        connection.progress_handler(STEPS, Some(move || seen.must_stop(deadline, &cancelled)))?;
        Ok(gate)
    }

    /// Runs `work`, which has the rights of a query only.
    pub(super) fn restrict<T>(&self, connection: &Connection, work: impl FnOnce() -> T) -> Result<T> {
        // From here on nothing of the schema is parsed any more, which may be longer.
        let mut before = Restored { connection, limits: Vec::with_capacity(LIMITS.len()) };
        for (limit, value) in LIMITS {
            before.limits.push((limit, connection.set_limit(limit, value)?));
        }
        self.is_closed.store(true, Ordering::Relaxed);
        let result = work();
        self.is_closed.store(false, Ordering::Relaxed);
        Ok(result)
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        match self.ended.load(Ordering::Relaxed) {
            OUT_OF_TIME => Some(Ended::OutOfTime),
            CANCELLED => Some(Ended::Cancelled),
            _ => None,
        }
    }

    /// What the query may not, in words that complete "may not".
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        if !self.is_closed.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        let Some(refused) = rights::refused(&context.action) else { return Authorization::Allow };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
        Authorization::Deny
    }

    fn must_stop(&self, deadline: Instant, cancelled: &Cancelled) -> bool {
        if !self.is_closed.load(Ordering::Relaxed) {
            return false;
        }
        let ended = if cancelled() {
            CANCELLED
        } else if Instant::now() >= deadline {
            OUT_OF_TIME
        } else {
            NOT_ENDED
        };
        self.ended.store(ended, Ordering::Relaxed);
        ended != NOT_ENDED
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
