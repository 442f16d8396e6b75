//! A LIKE that looks at the clock, for connections that run queries. Entry point: [`register`]. It
//! matches as SQLite's LIKE does: ASCII letters are equal in both cases. The time of SQLite's LIKE
//! grows with the product of pattern and text, and SQLite can't interrupt a call.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use memchr::memchr2;
use rusqlite::{Connection, Error, Result, ffi};

use super::super::query_clock::QueryClock;

const ALL: u32 = b'%' as u32;
const ONE: u32 = b'_' as u32;
/// Characters between two looks at the clock. They take a tenth of a millisecond or less.
const STEPS: u32 = 8192;

const FLAGS: c_int = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;

/// The data that SQLite hands to each call of the function.
struct LikeData {
    clock: Arc<QueryClock>,
    max_pattern: usize,
}

/// Registers the function in the place of SQLite's, for `a LIKE b` and `a LIKE b ESCAPE c`. It uses
/// SQLite's C functions, which turn each kind of value into the text that SQLite has for it.
pub(super) fn register(connection: &Connection, clock: &Arc<QueryClock>, max_pattern: usize) -> Result<()> {
    for arguments in [2, 3] {
        let data = Box::new(LikeData { clock: Arc::clone(clock), max_pattern });
        // SAFETY: the connection is open and the name ends in a NUL. SQLite owns the box from here
        // on and drops it once, by `drop_data`, also if this call fails.
        let code = unsafe {
            ffi::sqlite3_create_function_v2(
                connection.handle(),
                c"like".as_ptr(),
                arguments,
                FLAGS,
                Box::into_raw(data).cast::<c_void>(),
                Some(called),
                None,
                None,
                Some(drop_data),
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(Error::SqliteFailure(ffi::Error::new(code), None));
        }
    }
    Ok(())
}

unsafe extern "C" fn drop_data(data: *mut c_void) {
    // SAFETY: `register` made the pointer from a box, and SQLite drops it once.
    drop(unsafe { Box::from_raw(data.cast::<LikeData>()) });
}

/// The text that SQLite has for a value, up to a NUL character; `None` for the value NULL.
///
/// # Safety
/// `value` must be an argument of the present call. No other code may use it while the text is in
/// use.
unsafe fn text<'v>(value: *mut ffi::sqlite3_value) -> Option<&'v [u8]> {
    // SAFETY: the caller keeps this function's conditions. The length is read after the text, since
    // making the text can change it.
    unsafe {
        let start = ffi::sqlite3_value_text(value);
        if start.is_null() {
            return None;
        }
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        let all = std::slice::from_raw_parts(start, length);
        Some(&all[..memchr::memchr(0, all).unwrap_or(length)])
    }
}

unsafe extern "C" fn called(context: *mut ffi::sqlite3_context, count: c_int, arguments: *mut *mut ffi::sqlite3_value) {
    // SAFETY: SQLite calls this with the data that `register` gave it and with `count` arguments. They
    // are distinct, and live until this returns.
    unsafe {
        let data = &*ffi::sqlite3_user_data(context).cast::<LikeData>();
        let arguments = std::slice::from_raw_parts(arguments, usize::try_from(count).unwrap_or(0));
        let length = usize::try_from(ffi::sqlite3_value_bytes(arguments[0])).unwrap_or(0);
        if length > data.max_pattern {
            return fail(context, "LIKE or GLOB pattern too complex");
        }
        let mut escape = None;
        if let Some(value) = arguments.get(2) {
            let Some(text) = text(*value) else { return };
            let mut rest = Text(text);
            escape = rest.next();
            if escape.is_none() || !rest.0.is_empty() {
                return fail(context, "ESCAPE expression must be a single character");
            }
        }
        let Some(pattern) = text(arguments[0]) else { return };
        let Some(all) = text(arguments[1]) else { return };
        let is_over = || data.clock.is_over();
        match Pattern::parse(pattern, escape).matches(all, is_over) {
            Some(is_match) => ffi::sqlite3_result_int(context, c_int::from(is_match)),
            None => ffi::sqlite3_result_error_code(context, ffi::SQLITE_INTERRUPT),
        }
    }
}

/// Ends the call with an error.
///
/// # Safety
/// `context` must be the present call's.
unsafe fn fail(context: *mut ffi::sqlite3_context, reason: &str) {
    let length = c_int::try_from(reason.len()).unwrap_or(0);
    // SAFETY: the caller keeps this function's condition. SQLite copies the reason.
    unsafe { ffi::sqlite3_result_error(context, reason.as_ptr().cast(), length) };
}

/// The characters of a text as SQLite reads them, also if the text is not UTF-8.
#[derive(Clone, Copy)]
struct Text<'t>(&'t [u8]);

impl Iterator for Text<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (&first, mut rest) = self.0.split_first()?;
        let mut character = u32::from(first);
        if first >= 0xc0 {
            character &= match first {
                0xc0..=0xdf => 0x1f,
                0xe0..=0xef => 0x0f,
                0xf0..=0xf7 => 0x07,
                0xf8..=0xfb => 0x03,
                0xfc..=0xfd => 0x01,
                _ => 0,
            };
            while let Some((&next, after)) = rest.split_first().filter(|(next, _)| **next & 0xc0 == 0x80) {
                character = (character << 6).wrapping_add(u32::from(next & 0x3f));
                rest = after;
            }
            if character < 0x80 || character & 0xffff_f800 == 0xd800 || character & 0xffff_fffe == 0xfffe {
                character = 0xfffd;
            }
        }
        self.0 = rest;
        Some(character)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Any number of any characters.
    All,
    /// Any one character.
    One,
    /// This character. An ASCII letter is in lower case.
    This(u32),
}

struct Pattern {
    parts: Vec<Part>,
    /// Whether the pattern ends with the escape character. Then no text matches.
    is_cut: bool,
}

const fn folded(character: u32) -> u32 {
    if character < 0x80 { (character as u8).to_ascii_lowercase() as u32 } else { character }
}

impl Pattern {
    fn parse(pattern: &[u8], escape: Option<u32>) -> Self {
        let mut characters = Text(pattern);
        let mut this = Self { parts: Vec::new(), is_cut: false };
        while let Some(character) = characters.next() {
            let part = match character {
                _ if Some(character) == escape => match characters.next() {
                    Some(escaped) => Part::This(folded(escaped)),
                    None => {
                        this.is_cut = true;
                        break;
                    }
                },
                ALL => Part::All,
                ONE => Part::One,
                _ => Part::This(folded(character)),
            };
            this.parts.push(part);
        }
        this
    }

    /// Whether the text matches; `None` if the time was over before that was known. The part after a
    /// `%` is searched from the left. If a later character does not match, only the last `%` is
    /// extended.
    fn matches(&self, all: &[u8], is_over: impl Fn() -> bool) -> Option<bool> {
        if is_over() {
            return None;
        }
        if self.is_cut {
            return Some(false);
        }
        let mut rest = Text(all);
        let mut parts = self.parts.as_slice();
        // The place to go on from: the parts after the last `%`, and the text after its match.
        let mut last: Option<(&[Part], Text<'_>)> = None;
        let mut steps = 0_u32;
        loop {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(STEPS) && is_over() {
                return None;
            }
            if let [Part::All, following @ ..] = parts {
                if following.is_empty() {
                    return Some(true);
                }
                rest = skipped(following, rest);
                parts = following;
                last = Some((following, rest));
                continue;
            }
            match (parts.split_first(), rest.next()) {
                (None, None) => return Some(true),
                (Some(_), None) => return Some(false),
                (Some((Part::One, following)), Some(_)) => parts = following,
                (Some((Part::This(wanted), following)), Some(character)) if folded(character) == *wanted => {
                    parts = following
                }
                _ => {
                    let Some((following, mut from)) = last else { return Some(false) };
                    if from.next().is_none() {
                        return Some(false);
                    }
                    from = skipped(following, from);
                    parts = following;
                    rest = from;
                    last = Some((following, from));
                }
            }
        }
    }
}

/// The text from the next place at which `parts` can begin.
fn skipped<'t>(parts: &[Part], text: Text<'t>) -> Text<'t> {
    let Some(Part::This(wanted)) = parts.first() else { return text };
    let Some(lower) = u8::try_from(*wanted).ok().filter(u8::is_ascii) else { return text };
    let from = memchr2(lower, lower.to_ascii_uppercase(), text.0).unwrap_or(text.0.len());
    Text(&text.0[from..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connections() -> (Connection, Connection) {
        let own = Connection::open_in_memory().unwrap();
        let sqlite = Connection::open_in_memory().unwrap();
        register(&own, &Arc::default(), 50_000).unwrap();
        (own, sqlite)
    }

    fn ask(connection: &Connection, text: &[u8], pattern: &[u8], escape: Option<&str>) -> Result<Option<bool>, String> {
        let text = rusqlite::types::ValueRef::Text(text);
        let pattern = rusqlite::types::ValueRef::Text(pattern);
        let values = [text, pattern].map(rusqlite::types::ToSqlOutput::Borrowed);
        let answer = match escape {
            None => connection.query_row("SELECT ?1 LIKE ?2", [&values[0], &values[1]], |row| row.get(0)),
            Some(escape) => {
                let values: [&dyn rusqlite::ToSql; 3] = [&values[0], &values[1], &escape];
                connection.query_row("SELECT ?1 LIKE ?2 ESCAPE ?3", values, |row| row.get(0))
            }
        };
        answer.map_err(|error| error.to_string())
    }

    /// Few different characters, so that many match. Some bytes are not UTF-8.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let pieces =
            ["a", "A", "b", "é", "É", "%", "_", "\\", "\u{1F600}", "K", "k", "\u{212A}"].map(|s| s.as_bytes().to_vec());
        let broken = [
            vec![0xff],
            vec![0x80],
            vec![0xc0],
            vec![0xe0, 0x80],
            vec![0xed, 0xa0, 0x80],
            vec![0xf9, 0xbf, 0xbf],
            vec![0],
        ];
        let piece = prop_oneof![8 => prop::sample::select(pieces.to_vec()), 1 => prop::sample::select(broken.to_vec())];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn it_says_what_sqlite_says(
            text in bytes(),
            pattern in bytes(),
            escape in prop::option::of(prop::sample::select(vec!["\\", "a", "%", "_", "é", "", "ab"])),
        ) {
            thread_local!(static CONNECTIONS: (Connection, Connection) = connections());
            let (own, sqlite) = CONNECTIONS.with(|(own, sqlite)| {
                (ask(own, &text, &pattern, escape), ask(sqlite, &text, &pattern, escape))
            });
            prop_assert_eq!(own, sqlite);
        }
    }

    #[test]
    fn a_search_that_takes_long_ends_when_its_time_is_over() {
        use std::cell::Cell;
        let looks = Cell::new(0);
        let is_over = || {
            looks.set(looks.get() + 1);
            looks.get() > 3
        };
        assert_eq!(Pattern::parse(b"%aaaaaaaaaab", None).matches(&[b'a'; 1 << 20], is_over), None);
        assert_eq!(looks.get(), 4);
    }
}
