//! What the SQL of others may do: read tables of the LDB, and call functions that end
//! soon and touch nothing. Whatever is not named here is refused.

use std::ffi::CStr;

use rusqlite::hooks::AuthAction;
use rusqlite::{Connection, ffi};

use ctlstore_core::schema::TableRef;

/// Besides the tables of families: what tables there are, how far the LDB has come, and
/// the rows that a JSON text has.
const TABLES: &[&str] = &["sqlite_schema", "sqlite_master", "_ldb_seq", "_ldb_last_update", "json_each", "json_tree"];

/// Not here are those that load code, name files or look into the program, and those whose
/// time grows with the square of a value's length: `json_patch`, and SQLite's own
/// `instr`, `replace`, and `trim` and `unhex` of two values, in the place of which `functions` stands.
const FUNCTIONS: &[&str] = &[
    // Operators and words of the language.
    "like",
    "glob",
    "->",
    "->>",
    "current_date",
    "current_time",
    "current_timestamp",
    // One value.
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
    "instr",
    "length",
    "likelihood",
    "likely",
    "lower",
    "ltrim",
    "max",
    "min",
    "nullif",
    "octet_length",
    "printf",
    "quote",
    "random",
    "randomblob",
    "replace",
    "round",
    "rtrim",
    "sign",
    "soundex",
    "substr",
    "substring",
    "sqlite_version",
    "trim",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unlikely",
    "upper",
    "zeroblob",
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
    "count",
    "group_concat",
    "string_agg",
    "sum",
    "total",
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

/// The virtual tables that stay; others show the file's pages, for one.
const MODULES: [&CStr; 2] = [c"json_each", c"json_tree"];

/// Takes every other virtual table from the connection.
pub(super) fn drop_modules(connection: &Connection) -> rusqlite::Result<()> {
    let mut kept = [MODULES[0].as_ptr(), MODULES[1].as_ptr(), std::ptr::null()];
    // SAFETY: the connection is open, and the list of strings that ends with null outlives the call.
    match unsafe { ffi::sqlite3_drop_modules(connection.handle(), kept.as_mut_ptr()) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// What of `action` is refused, in words that complete "may not".
pub(super) fn refused(action: &AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Select | AuthAction::Recursive => None,
        AuthAction::Read { table_name, .. } if may_read(table_name) => None,
        // Of what no column is read, SQLite tells the name only, and it may be that of a
        // subquery; and all that can be learned of a table so is its number of rows.
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
    TABLES.iter().any(|known| known.eq_ignore_ascii_case(table)) || TableRef::from_sql_name(table).is_ok()
}

fn may_call(function: &str) -> bool {
    FUNCTIONS.iter().any(|known| known.eq_ignore_ascii_case(function))
}
