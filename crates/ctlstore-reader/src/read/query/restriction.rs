//! The parts that restrict foreign SQL, shared by queries and ledger statements (`ctlstore-ldb`). Entry
//! points: [`PURE_FUNCTIONS`] lists functions, [`RefusedAction`] records a refused action, and
//! [`LimitGuard`] sets limits for a time.

use std::sync::{Mutex, PoisonError};

use rusqlite::hooks::Authorization;
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result};

/// SQLite's functions that any foreign SQL may call. Their answer depends on their arguments alone
/// and is the same on every host. Their time grows no faster than the length of their arguments.
///
/// So `random`, the clock and functions that tell what the connection did before are not in the list.
/// Mathematics is not, since each host has its own library for it. JSON is not either, nor are
/// `replace`, `instr` and `trim`, whose time can grow with the square of a length.
pub const PURE_FUNCTIONS: [&str; 34] = [
    // Operators.
    "like",
    "glob",
    // One row.
    "abs",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "format",
    "hex",
    "if",
    "ifnull",
    "iif",
    "length",
    "likelihood",
    "likely",
    "lower",
    "max",
    "min",
    "nullif",
    "octet_length",
    "printf",
    "quote",
    "round",
    "sign",
    "substr",
    "substring",
    "typeof",
    "unicode",
    "unlikely",
    "upper",
    "zeroblob",
    // Many rows.
    "count",
    "sum",
    "total",
];

/// The longest pattern of LIKE and GLOB in foreign SQL, in bytes. Their time grows with it.
pub const MAX_PATTERN_BYTES: i32 = 32;

/// Whether `list` has `name`, in any letter case.
pub fn has_name(list: &[&str], name: &str) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The last action that an authorizer refused, in words that complete "may not".
#[derive(Debug, Default)]
pub struct RefusedAction(Mutex<Option<String>>);

impl RefusedAction {
    /// The authorizer's answer to SQLite. `None` allows the action; a refusal is recorded.
    pub fn decide(&self, refused: Option<String>) -> Authorization {
        if refused.is_none() {
            return Authorization::Allow;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        Authorization::Deny
    }

    /// Takes the recorded refusal, if there is one.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Limits of a connection that hold as long as this value lives.
pub struct LimitGuard<'c> {
    connection: &'c Connection,
    before: Vec<(Limit, i32)>,
}

impl<'c> LimitGuard<'c> {
    /// Sets the limits.
    ///
    /// # Errors
    /// SQLite's. Then the connection has its limits from before.
    pub fn set(connection: &'c Connection, limits: &[(Limit, i32)]) -> Result<Self> {
        let mut this = Self { connection, before: Vec::with_capacity(limits.len()) };
        for (limit, value) in limits {
            this.before.push((*limit, connection.set_limit(*limit, *value)?));
        }
        Ok(this)
    }
}

impl Drop for LimitGuard<'_> {
    fn drop(&mut self) {
        for (limit, value) in self.before.drain(..) {
            // SQLite has accepted a new value for this limit, so it accepts the old one.
            let _ = self.connection.set_limit(limit, value);
        }
    }
}
