//! Replaces those of SQLite's functions whose time grows with the product of two lengths, since SQLite
//! can't interrupt a call. Entry point: [`register`]. The functions here take time in proportion to
//! their arguments, and look at the clock while they run.

use std::sync::Arc;

use memchr::memmem;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result, ffi};

use super::super::query_clock::QueryClock;

/// The most characters that `trim` may remove. Each character of the text is looked up among them.
const MAX_TRIMMED: usize = 64;
/// Characters or matches between two looks at the clock.
const STEPS: usize = 8192;

const FLAGS: FunctionFlags =
    FunctionFlags::SQLITE_UTF8.union(FunctionFlags::SQLITE_DETERMINISTIC).union(FunctionFlags::SQLITE_INNOCUOUS);

/// Registers the functions in the place of SQLite's. `max_value` is the length of the longest value, in
/// bytes.
pub(super) fn register(connection: &Connection, clock: &Arc<QueryClock>, max_value: usize) -> Result<()> {
    let clock = || Arc::clone(clock);
    let on = clock();
    connection.create_scalar_function("instr", 2, FLAGS, move |context| instr(context, &on))?;
    let on = clock();
    connection.create_scalar_function("unhex", 2, FLAGS, move |context| unhex(context, &on))?;
    let on = clock();
    connection.create_scalar_function("replace", 3, FLAGS, move |context| replace(context, &on, max_value))?;
    for (name, from_start, from_end) in [("trim", true, true), ("ltrim", true, false), ("rtrim", false, true)] {
        let on = clock();
        connection.create_scalar_function(name, 2, FLAGS, move |context| trim(context, &on, from_start, from_end))?;
    }
    Ok(())
}

/// The position of the second argument in the first, counted from 1; 0 if it is not there. It is
/// counted in bytes if both are bytes, else in characters.
fn instr(context: &mut Context<'_>, clock: &QueryClock) -> Result<Option<i64>> {
    clock.check()?;
    let in_bytes = (0..2).all(|i| matches!(context.get_raw(i), ValueRef::Blob(_)));
    let Some(all) = bytes(context, 0)? else { return Ok(None) };
    let Some(part) = bytes(context, 1)? else { return Ok(None) };
    let Some(at) = memmem::find(&all, &part) else { return Ok(Some(0)) };
    let before = if in_bytes { at } else { String::from_utf8_lossy(&all[..at]).chars().count() };
    Ok(Some(before as i64 + 1))
}

/// The first argument with each occurrence of the second replaced by the third.
fn replace(context: &mut Context<'_>, clock: &QueryClock, max_value: usize) -> Result<Value> {
    clock.check()?;
    let Some(all) = bytes(context, 0)? else { return Ok(Value::Null) };
    let Some(old) = bytes(context, 1)? else { return Ok(Value::Null) };
    let Some(new) = bytes(context, 2)? else { return Ok(Value::Null) };
    if old.is_empty() {
        return Ok(text(all));
    }
    let mut made = Vec::with_capacity(all.len());
    let mut from = 0;
    for (i, at) in memmem::find_iter(&all, &old).enumerate() {
        if i % STEPS == 0 {
            clock.check()?;
        }
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

/// The first argument without the characters of the second at its start or end.
fn trim(context: &mut Context<'_>, clock: &QueryClock, from_start: bool, from_end: bool) -> Result<Value> {
    clock.check()?;
    let Some(all) = bytes(context, 0)? else { return Ok(Value::Null) };
    let Some(set) = bytes(context, 1)? else { return Ok(Value::Null) };
    let mut set: Vec<char> = String::from_utf8_lossy(&set).chars().take(MAX_TRIMMED + 1).collect();
    if set.len() > MAX_TRIMMED {
        return Err(refused(&format!("trims at most {MAX_TRIMMED} characters")));
    }
    set.sort_unstable();
    let all = String::from_utf8_lossy(&all);
    let mut rest: &str = &all;
    if from_start {
        rest = &rest[trimmed(rest.chars(), &set, clock)?..];
    }
    if from_end {
        rest = &rest[..rest.len() - trimmed(rest.chars().rev(), &set, clock)?];
    }
    Ok(Value::Text(rest.to_owned()))
}

/// The bytes of the characters before the first one that is not in `set`, which is sorted.
fn trimmed(characters: impl Iterator<Item = char>, set: &[char], clock: &QueryClock) -> Result<usize> {
    let mut bytes = 0;
    for (i, character) in characters.enumerate() {
        if set.binary_search(&character).is_err() {
            break;
        }
        if i % STEPS == 0 {
            clock.check()?;
        }
        bytes += character.len_utf8();
    }
    Ok(bytes)
}

/// The bytes whose hex digits are in the first argument. Characters of the second may be between the
/// pairs of digits. Null if the first is no such text.
fn unhex(context: &mut Context<'_>, clock: &QueryClock) -> Result<Option<Vec<u8>>> {
    clock.check()?;
    let Some(all) = bytes(context, 0)? else { return Ok(None) };
    let Some(ignored) = bytes(context, 1)? else { return Ok(None) };
    let mut ignored: Vec<char> = String::from_utf8_lossy(&ignored).chars().collect();
    ignored.sort_unstable();
    let all = String::from_utf8_lossy(&all);
    // SQLite's function ends a text at a NUL.
    let mut rest = all.chars().take_while(|character| *character != '\0');
    let mut made = Vec::with_capacity(all.len() / 2);
    let mut steps = 0_usize;
    while let Some(character) = rest.next() {
        steps += 1;
        if steps.is_multiple_of(STEPS) {
            clock.check()?;
        }
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

/// The argument as text or bytes; `None` for null.
fn bytes(context: &Context<'_>, index: usize) -> Result<Option<Vec<u8>>> {
    match context.get_raw(index) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Some(bytes.to_owned())),
        ValueRef::Integer(integer) => Ok(Some(integer.to_string().into_bytes())),
        // Only SQLite knows how it would write the number.
        ValueRef::Real(_) => Err(refused("takes text or bytes, not a number with a fraction")),
    }
}

fn text(bytes: Vec<u8>) -> Value {
    Value::Text(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn refused(reason: &str) -> Error {
    Error::UserFunctionError(format!("the function {reason}").into())
}
