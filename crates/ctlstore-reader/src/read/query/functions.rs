//! The functions of SQLite whose time grows with the product of two values' lengths, and
//! which can't be interrupted within a call: here they take time in proportion to what
//! they are given.

use memchr::memmem;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result, ffi};

/// The most characters that `trim` takes off: each character of the text is held against all.
const MAX_TRIMMED: usize = 64;

const FLAGS: FunctionFlags =
    FunctionFlags::SQLITE_UTF8.union(FunctionFlags::SQLITE_DETERMINISTIC).union(FunctionFlags::SQLITE_INNOCUOUS);

/// Puts them in the place of SQLite's. `max_value`: bytes of the longest value.
pub(super) fn register(connection: &Connection, max_value: usize) -> Result<()> {
    connection.create_scalar_function("instr", 2, FLAGS, instr)?;
    connection.create_scalar_function("unhex", 2, FLAGS, unhex)?;
    connection.create_scalar_function("replace", 3, FLAGS, move |context| replace(context, max_value))?;
    connection.create_scalar_function("trim", 2, FLAGS, |context| {
        trim(context, |text, set| text.trim_matches(set).to_owned())
    })?;
    connection.create_scalar_function("ltrim", 2, FLAGS, |context| {
        trim(context, |text, set| text.trim_start_matches(set).to_owned())
    })?;
    connection.create_scalar_function("rtrim", 2, FLAGS, |context| {
        trim(context, |text, set| text.trim_end_matches(set).to_owned())
    })
}

/// The position of the second in the first, counted from 1: in bytes where both are
/// bytes, else in characters.
fn instr(context: &mut Context<'_>) -> Result<Option<i64>> {
    let in_bytes = (0..2).all(|i| matches!(context.get_raw(i), ValueRef::Blob(_)));
    let (Some(all), Some(part)) = (bytes(context, 0)?, bytes(context, 1)?) else { return Ok(None) };
    let Some(at) = memmem::find(&all, &part) else { return Ok(Some(0)) };
    let before = if in_bytes { at } else { String::from_utf8_lossy(&all[..at]).chars().count() };
    Ok(Some(before as i64 + 1))
}

fn replace(context: &mut Context<'_>, max_value: usize) -> Result<Value> {
    let (Some(all), Some(old), Some(new)) = (bytes(context, 0)?, bytes(context, 1)?, bytes(context, 2)?) else {
        return Ok(Value::Null);
    };
    if old.is_empty() {
        return Ok(text(all));
    }
    let mut made = Vec::with_capacity(all.len());
    let mut from = 0;
    for at in memmem::find_iter(&all, &old) {
        made.extend_from_slice(&all[from..at]);
        made.extend_from_slice(&new);
        from = at + old.len();
        if made.len() > max_value {
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None));
        }
    }
    made.extend_from_slice(&all[from..]);
    Ok(text(made))
}

fn trim(context: &mut Context<'_>, trim: impl Fn(&str, &[char]) -> String) -> Result<Value> {
    let (Some(all), Some(set)) = (bytes(context, 0)?, bytes(context, 1)?) else { return Ok(Value::Null) };
    let set: Vec<char> = String::from_utf8_lossy(&set).chars().take(MAX_TRIMMED + 1).collect();
    if set.len() > MAX_TRIMMED {
        return Err(refused(&format!("trims at most {MAX_TRIMMED} characters")));
    }
    Ok(Value::Text(trim(&String::from_utf8_lossy(&all), &set)))
}

/// The bytes that the first says in hex, between whose pairs of digits there may be
/// characters of the second; null where it says none.
fn unhex(context: &mut Context<'_>) -> Result<Option<Vec<u8>>> {
    let (Some(all), Some(ignored)) = (bytes(context, 0)?, bytes(context, 1)?) else { return Ok(None) };
    let mut ignored: Vec<char> = String::from_utf8_lossy(&ignored).chars().collect();
    ignored.sort_unstable();
    let all = String::from_utf8_lossy(&all);
    // A NUL ends a text for SQLite's function.
    let mut rest = all.chars().take_while(|character| *character != '\0');
    let mut made = Vec::with_capacity(all.len() / 2);
    while let Some(character) = rest.next() {
        match (character.to_digit(16), ignored.binary_search(&character)) {
            (Some(high), _) => {
                let Some(low) = rest.next().and_then(|character| character.to_digit(16)) else { return Ok(None) };
                made.push((high * 16 + low) as u8);
            }
            (None, Ok(_)) => {}
            (None, Err(_)) => return Ok(None),
        }
    }
    Ok(Some(made))
}

/// The value as text or bytes; `None` for null.
fn bytes(context: &Context<'_>, index: usize) -> Result<Option<Vec<u8>>> {
    match context.get_raw(index) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Some(bytes.to_owned())),
        ValueRef::Integer(integer) => Ok(Some(integer.to_string().into_bytes())),
        // How SQLite would write it is its own business.
        ValueRef::Real(_) => Err(refused("takes text or bytes, not a number with a fraction")),
    }
}

fn text(bytes: Vec<u8>) -> Value {
    Value::Text(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn refused(reason: &str) -> Error {
    Error::UserFunctionError(format!("the function {reason}").into())
}
