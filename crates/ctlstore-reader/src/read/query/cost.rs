//! How long a value a query may meet. SQLite looks at its progress handler only where its
//! program jumps back, so up to there each instruction runs once, whatever it takes: a row
//! of a thousand sums of a text of 1 MiB takes seconds. So the program is listed before it
//! runs, and the more of its instructions take time in proportion to their values, the
//! shorter the longest value that it may meet: all of them together then take a part of
//! the query's time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

/// Stands before the SQL; its length is beyond what the SQL itself may have.
pub(super) const EXPLAIN: &str = "EXPLAIN ";
/// The part of the query's time that one straight run through its program may take.
const PART: u32 = 4;
/// No shorter limit is ever set: it would be in the way of names and numbers.
const LEAST: u64 = 256;

/// Tenths of a nanosecond for each byte, measured on a busy machine. Texts to numbers and
/// comparisons by letters are the slowest of the instructions that are not functions.
const SLOW: u64 = 40;
const COPY: u64 = 5;
/// The functions of SQLite that walk through each character once.
const WALK: u64 = 40;
const JSON: u64 = 150;
/// Each further path is a walk through the JSON.
const JSON_PATH: u64 = 80;
const GLOB: u64 = 1000;

/// Instructions that do not look at values, or at their first bytes only.
#[rustfmt::skip]
const FREE: &[&str] = &[
    "AddImm", "BeginSubrtn", "Close", "ClrSubtype", "CollSeq", "Count", "CursorHint", "CursorLock", "CursorUnlock",
    "DecrJumpZero", "DeferredSeek", "EndCoroutine", "Expire", "Explain", "FinishSeek", "GetSubtype", "Gosub", "Goto",
    "Halt", "HaltIfNull", "IdxRowid", "IfEmpty", "IfNoHope", "IfNotOpen", "IfNotZero", "IfNullRow", "IfPos",
    "IfSizeBetween", "Init", "InitCoroutine", "IntCopy", "Int64", "Integer", "IsNull", "IsType", "Jump", "Last",
    "MemMax", "Move", "Next", "Noop", "NotNull", "Null", "NullRow", "OffsetLimit", "Once", "OpenAutoindex", "OpenDup",
    "OpenEphemeral", "OpenPseudo", "OpenRead", "Prev", "Real", "ReleaseReg", "ReopenIdx", "ResetCount", "ResetSorter",
    "ResultRow", "Return", "Rewind", "Rowid", "SCopy", "SeekHit", "SeekScan", "Sequence", "SequenceTest", "SetSubtype",
    "SoftNull", "Sort", "SorterData", "SorterNext", "SorterOpen", "SorterSort", "String", "String8", "TableLock",
    "Transaction", "VInitIn", "VNext", "VOpen", "Variable", "Yield",
];
/// Instructions that copy a value, or compare its bytes.
const COPIES: &[&str] = &["Blob", "Concat", "Copy", "IdxInsert", "MakeRecord", "RowData", "SorterInsert"];
const FUNCTIONS: &[&str] = &["AggFinal", "AggInverse", "AggStep", "AggStep1", "AggValue", "Function", "PureFunc"];
/// Functions of ours, which look at the clock themselves, and those that take no time.
#[rustfmt::skip]
const WATCHED: &[&str] = &[
    "instr(2)", "like(2)", "like(3)", "ltrim(2)", "replace(3)", "rtrim(2)", "trim(2)", "unhex(2)",
    "coalesce", "count", "first_value", "iif", "lag", "last_value", "lead", "nth_value", "octet_length", "random",
    "rank", "row_number", "dense_rank", "typeof",
];

/// The longest value that this SQL may meet within `max_time`, at most `longest` bytes. If
/// `has_clock`, the connection has our functions, which look at the clock themselves.
///
/// # Errors
/// Those of preparing the SQL.
pub fn longest_value(
    connection: &Connection,
    sql: &str,
    max_time: Duration,
    longest: usize,
    has_clock: bool,
) -> Result<usize> {
    let per_byte = tenths_per_byte(connection, sql, has_clock)?.max(1);
    let allowed = u64::try_from((max_time / PART).as_nanos()).unwrap_or(u64::MAX).saturating_mul(10);
    Ok(usize::try_from((allowed / per_byte).max(LEAST)).unwrap_or(usize::MAX).min(longest))
}

/// Of one run through the program from its first instruction to its last.
fn tenths_per_byte(connection: &Connection, sql: &str, has_clock: bool) -> Result<u64> {
    let mut statement = connection.prepare(&format!("{EXPLAIN}{sql}"))?;
    let mut rows = statement.raw_query();
    let (mut sum, mut columns) = (0_u64, HashSet::new());
    while let Some(row) = rows.next()? {
        let opcode: String = row.get(1)?;
        let operands: [i64; 3] = [row.get(2)?, row.get(3)?, row.get(4)?];
        // For some instructions this is a value of the SQL's, whose bytes need be no text.
        let detail = match row.get_ref(5)? {
            ValueRef::Text(text) => String::from_utf8_lossy(text),
            _ => Cow::default(),
        };
        sum = sum.saturating_add(of(&opcode, operands, &detail, &mut columns, has_clock));
    }
    Ok(sum)
}

/// `columns`: those that were met before. The columns of one row are no longer together
/// than the row may be, so only what is read again counts, and each cursor's row once.
fn of(opcode: &str, [p1, p2, p3]: [i64; 3], detail: &str, columns: &mut HashSet<(i64, i64)>, has_clock: bool) -> u64 {
    let registers = |count: i64| u64::try_from(count).unwrap_or(0).max(1);
    match opcode {
        "Column" | "VColumn" => {
            let is_first_of_row = columns.insert((p1, -1));
            let is_again = !columns.insert((p1, p2));
            if is_first_of_row || is_again { COPY } else { 0 }
        }
        "Affinity" => SLOW * registers(p2),
        "Compare" => SLOW * registers(p3),
        "VFilter" => JSON,
        _ if FREE.contains(&opcode) => 0,
        _ if COPIES.contains(&opcode) => COPY,
        _ if FUNCTIONS.contains(&opcode) => of_function(detail, has_clock),
        _ => SLOW,
    }
}

/// `called`: such as `json_extract(2)`.
fn of_function(called: &str, has_clock: bool) -> u64 {
    let (name, arguments) = called.split_once('(').unwrap_or((called, ""));
    let arguments: u64 = arguments.trim_end_matches(')').parse().unwrap_or(1);
    match name {
        "like" if !has_clock => GLOB,
        _ if WATCHED.contains(&called) || WATCHED.contains(&name) => 0,
        "glob" => GLOB,
        "->" | "->>" => JSON + JSON_PATH,
        _ if name.starts_with("json") => JSON + JSON_PATH * arguments.saturating_sub(2),
        _ => WALK * arguments.max(1),
    }
}
