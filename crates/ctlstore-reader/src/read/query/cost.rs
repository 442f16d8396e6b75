//! Computes how long the values of a statement may be, so that one row can't take longer than the
//! statement may. Entry point: [`longest_value`].
//!
//! SQLite calls its progress handler only if its program jumps back. Up to there each instruction
//! runs once, however long it takes. For example, a row of a thousand sums of a text of 1 MiB takes
//! seconds. So the program is listed (`EXPLAIN`) before it runs. The time of many instructions grows with
//! the length of their values. The more of these there are, the shorter the values may be, so that
//! all instructions together take only a part of the statement's time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

/// The word before the SQL. Its length comes on top of the longest SQL.
pub(super) const EXPLAIN: &str = "EXPLAIN ";
/// One run through the program, without a jump back, may take one part in so many of the time.
const PART: u32 = 4;
/// The shortest limit that is ever set, in bytes. Names and numbers have to fit.
const LEAST: u64 = 256;

/// Tenths of a nanosecond for each byte, measured on a busy machine. Besides functions, the slowest
/// instructions turn texts into numbers or compare them without regard to case.
const SLOW: u64 = 40;
/// An instruction that copies or compares bytes.
const COPY: u64 = 5;
/// A function of SQLite that visits each character once.
const WALK: u64 = 40;
/// A function that parses JSON.
const JSON: u64 = 150;
/// Each further path in such a call visits the whole JSON again.
const JSON_PATH: u64 = 80;
const GLOB: u64 = 1000;

/// Instructions that do not read values, or only their first bytes.
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
/// ctlstore's own functions, which look at the clock themselves, and functions that take no time.
#[rustfmt::skip]
const WATCHED: &[&str] = &[
    "instr(2)", "like(2)", "like(3)", "ltrim(2)", "replace(3)", "rtrim(2)", "trim(2)", "unhex(2)",
    "coalesce", "count", "first_value", "iif", "lag", "last_value", "lead", "nth_value", "octet_length", "random",
    "rank", "row_number", "dense_rank", "typeof",
];

/// The length of the longest value that this SQL may read or make, at most `longest` bytes, so that
/// it keeps `max_time`. `has_clock` says whether the connection has ctlstore's own functions.
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

/// The time of one run through the program, from its first to its last instruction.
fn tenths_per_byte(connection: &Connection, sql: &str, has_clock: bool) -> Result<u64> {
    let mut statement = connection.prepare(&format!("{EXPLAIN}{sql}"))?;
    let mut rows = statement.raw_query();
    let mut sum = 0_u64;
    let mut columns = HashSet::new();
    while let Some(row) = rows.next()? {
        let opcode: String = row.get(1)?;
        let operands: [i64; 3] = [row.get(2)?, row.get(3)?, row.get(4)?];
        // For some instructions this is a value in the SQL, whose bytes can be other than text.
        let detail = match row.get_ref(5)? {
            ValueRef::Text(text) => String::from_utf8_lossy(text),
            _ => Cow::default(),
        };
        sum = sum.saturating_add(of(&opcode, operands, &detail, &mut columns, has_clock));
    }
    Ok(sum)
}

/// The time of one instruction. `columns` are the columns that were read before. All columns of one
/// row together are no longer than a row may be. So each row counts once, and a column counts only
/// if it is read again.
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

/// The time of a function. `called` is its name with its number of arguments, such as
/// `json_extract(2)`.
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
