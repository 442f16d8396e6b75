//! Lists what a query may do: read the LDB's tables, and call functions that end soon and touch
//! nothing else. Entry point: [`refused`]. Everything that is not in a list here is refused.

use std::ffi::CStr;

use rusqlite::hooks::AuthAction;
use rusqlite::{Connection, ffi};

use ctlstore_core::schema::TableRef;

use super::restriction::{PURE_FUNCTIONS, has_name};

/// The tables that a query may read besides those of families. They have the list of tables, the
/// LDB's position, and the rows of a JSON text.
const TABLES: &[&str] = &["sqlite_schema", "sqlite_master", "_ldb_seq", "_ldb_last_update", "json_each", "json_tree"];

/// The functions that a query may call besides [`PURE_FUNCTIONS`].
///
/// Functions that load code, name files or look into the program are not in the list. Neither is
/// `json_patch`, whose time grows with the square of a length. SQLite's own `instr` and `replace`, and
/// its `trim` and `unhex` of two values, have the same fault; `functions` replaces them.
const QUERY_FUNCTIONS: &[&str] = &[
    // Operators and words of the language.
    "->",
    "->>",
    "current_date",
    "current_time",
    "current_timestamp",
    // One value.
    "instr",
    "ltrim",
    "random",
    "randomblob",
    "replace",
    "rtrim",
    "soundex",
    "sqlite_version",
    "trim",
    "unhex",
    "unistr",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "ceil",
    "ceiling",
    "cos",
    "cosh",
    "degrees",
    "exp",
    "floor",
    "ln",
    "log",
    "log10",
    "log2",
    "mod",
    "pi",
    "pow",
    "power",
    "radians",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    // Time.
    "date",
    "datetime",
    "julianday",
    "strftime",
    "time",
    "timediff",
    "unixepoch",
    // Many rows.
    "avg",
    "group_concat",
    "string_agg",
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
    // JSON.
    "json",
    "json_array",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_object",
    "json_quote",
    "json_type",
    "json_valid",
];

/// The virtual tables that a query may use. Others show the file's pages, for example.
const MODULES: [&CStr; 2] = [c"json_each", c"json_tree"];

/// Removes every other virtual table from the connection.
pub(super) fn drop_modules(connection: &Connection) -> rusqlite::Result<()> {
    let mut kept = [MODULES[0].as_ptr(), MODULES[1].as_ptr(), std::ptr::null()];
    // SAFETY: the connection is open, and the list of strings that ends with null outlives the call.
    match unsafe { ffi::sqlite3_drop_modules(connection.handle(), kept.as_mut_ptr()) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// The refusal of `action`, in words that complete "may not"; `None` if it is allowed.
pub(super) fn refused(action: &AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Select | AuthAction::Recursive => None,
        AuthAction::Read { table_name, .. } if may_read(table_name) => None,
        // If no column is read, SQLite tells only a name, which may be a subquery's. Of a table
        // such a query learns only the number of rows.
        AuthAction::Read { column_name: "", .. } => None,
        AuthAction::Read { table_name, .. } => Some(format!("read {table_name}")),
        AuthAction::Function { function_name } if may_call(function_name) => None,
        AuthAction::Function { function_name } => Some(format!("call {function_name}")),
        AuthAction::Pragma { .. } => Some("use a pragma".to_owned()),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Some("attach files".to_owned()),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Some("begin or end transactions".to_owned()),
        _ => Some("do anything but read".to_owned()),
    }
}

fn may_read(table: &str) -> bool {
    has_name(TABLES, table) || TableRef::from_sql_name(table).is_ok()
}

fn may_call(function: &str) -> bool {
    has_name(&PURE_FUNCTIONS, function) || has_name(QUERY_FUNCTIONS, function)
}
