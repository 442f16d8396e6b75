//! LIKE as SQLite has it, but one that looks at the clock: SQLite's takes the product of
//! pattern and text, and can't be ended within a call. It stands in SQLite's place on
//! connections that run queries. Letters are equal in both cases where they are ASCII.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use memchr::memchr2;
use rusqlite::{Connection, Error, Result, ffi};

use super::clock::Clock;

const ALL: u32 = b'%' as u32;
const ONE: u32 = b'_' as u32;
/// Characters between two looks at the clock; a tenth of a millisecond or less.
const STEPS: u32 = 8192;

const FLAGS: c_int = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;

/// What the function has at hand.
struct Shared {
    clock: Arc<Clock>,
    max_pattern: usize,
}

/// Puts it in the place of SQLite's, for `a LIKE b` and `a LIKE b ESCAPE c`. It is told in
/// SQLite's own way, since that gives each kind of value as the text that SQLite has for it.
pub(super) fn register(connection: &Connection, clock: &Arc<Clock>, max_pattern: usize) -> Result<()> {
    for arguments in [2, 3] {
        let shared = Box::new(Shared { clock: Arc::clone(clock), max_pattern });
        // SAFETY: the connection is open, the name ends in NUL, and the box is given up to
        // SQLite, which drops it by `drop_shared` once, also where this call fails.
        let code = unsafe {
            ffi::sqlite3_create_function_v2(
                connection.handle(),
                c"like".as_ptr(),
                arguments,
                FLAGS,
                Box::into_raw(shared).cast::<c_void>(),
                Some(called),
                None,
                None,
                Some(drop_shared),
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(Error::SqliteFailure(ffi::Error::new(code), None));
        }
    }
    Ok(())
}

unsafe extern "C" fn drop_shared(shared: *mut c_void) {
    // SAFETY: it is what `register` made of a box, and SQLite drops it once.
    drop(unsafe { Box::from_raw(shared.cast::<Shared>()) });
}

/// The text that SQLite has for a value, up to a NUL; `None` for NULL.
///
/// # Safety
/// `value` is an argument of the call that goes on, and nobody else asks it for anything
/// while the text is in use.
unsafe fn text<'v>(value: *mut ffi::sqlite3_value) -> Option<&'v [u8]> {
    // SAFETY: as this function's; the length is asked after the text, which may make it.
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
    // SAFETY: SQLite calls it with what `register` has given, and with so many arguments,
    // which are distinct and live until it returns.
    unsafe {
        let shared = &*ffi::sqlite3_user_data(context).cast::<Shared>();
        let arguments = std::slice::from_raw_parts(arguments, usize::try_from(count).unwrap_or(0));
        let length = usize::try_from(ffi::sqlite3_value_bytes(arguments[0])).unwrap_or(0);
        if length > shared.max_pattern {
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
        let (Some(pattern), Some(all)) = (text(arguments[0]), text(arguments[1])) else { return };
        let is_over = || shared.clock.is_over();
        match Pattern::parse(pattern, escape).matches(all, is_over) {
            Some(is_match) => ffi::sqlite3_result_int(context, c_int::from(is_match)),
            None => ffi::sqlite3_result_error_code(context, ffi::SQLITE_INTERRUPT),
        }
    }
}

/// # Safety
/// `context` is that of the call that goes on.
unsafe fn fail(context: *mut ffi::sqlite3_context, reason: &str) {
    let length = c_int::try_from(reason.len()).unwrap_or(0);
    // SAFETY: as this function's; SQLite copies the reason.
    unsafe { ffi::sqlite3_result_error(context, reason.as_ptr().cast(), length) };
}

/// Characters as SQLite reads them, also of what is no UTF-8.
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
    /// One character, whichever.
    One,
    /// This one; an ASCII letter in lower case.
    This(u32),
}

struct Pattern {
    parts: Vec<Part>,
    /// It ends with the escape character, and nothing is like it.
    is_cut: bool,
}

const fn folded(character: u32) -> u32 {
    if character < 0x80 { (character as u8).to_ascii_lowercase() as u32 } else { character }
}

impl Pattern {
    fn parse(pattern: &[u8], escape: Option<u32>) -> Self {
        let (mut characters, mut this) = (Text(pattern), Self { parts: Vec::new(), is_cut: false });
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

    /// `None` when it was told that time is over. What follows a `%` is looked for from
    /// the left; when something after it fails, only the last `%` takes more.
    fn matches(&self, all: &[u8], is_over: impl Fn() -> bool) -> Option<bool> {
        if is_over() {
            return None;
        }
        if self.is_cut {
            return Some(false);
        }
        let (mut rest, mut parts) = (Text(all), self.parts.as_slice());
        // Where to go on: the parts behind the last `%`, and the text that it has not taken.
        let mut last: Option<(&[Part], Text<'_>)> = None;
        let mut steps = 0_u32;
        loop {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(STEPS) && is_over() {
                return None;
            }
            if let [Part::All, behind @ ..] = parts {
                if behind.is_empty() {
                    return Some(true);
                }
                (parts, last) = (behind, Some((behind, skipped(behind, rest))));
                rest = last.map_or(rest, |(_, from)| from);
                continue;
            }
            match (parts.split_first(), rest.next()) {
                (None, None) => return Some(true),
                (Some(_), None) => return Some(false),
                (Some((Part::One, behind)), Some(_)) => parts = behind,
                (Some((Part::This(wanted), behind)), Some(character)) if folded(character) == *wanted => parts = behind,
                _ => {
                    let Some((behind, mut from)) = last else { return Some(false) };
                    if from.next().is_none() {
                        return Some(false);
                    }
                    from = skipped(behind, from);
                    (parts, rest, last) = (behind, from, Some((behind, from)));
                }
            }
        }
    }
}

/// The text from the next place on at which `parts` may begin.
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
        let (own, sqlite) = (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
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

    /// Few different bytes, so that much is alike; some are no UTF-8.
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
