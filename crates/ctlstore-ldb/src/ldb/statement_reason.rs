//! Tells why SQLite refused a ledger statement, in SQLite's own words without values. Entry
//! point: [`statement_reason`]. A message can repeat a piece of the statement, and a value that
//! was quoted as a name can be such a piece.

use rusqlite::ffi::{self, ErrorCode};

use ctlstore_core::sql::Statement;

use super::statement_authorizer::is_table_of_a_family;
use super::statement_class::quoted_parts;

/// Replaces a word that may be a value.
const HIDDEN: &str = "…";
/// How messages begin that repeat a piece of the statement, whatever its form.
const QUOTES_SOURCE: [&str; 2] = ["near ", "unrecognized token"];

/// The reason of `error`, which running `statement` gave. `text` is what it was parsed from.
pub fn statement_reason(text: &str, statement: &Statement<'_>, error: &rusqlite::Error) -> String {
    let (code, message) = match error {
        // The statement was found wrong before it ran. rusqlite's own text would repeat all of it.
        rusqlite::Error::SqlInputError { error, msg, .. } => (*error, msg.clone()),
        rusqlite::Error::MultipleStatement => return "it holds more than one statement".to_owned(),
        _ => match error.sqlite_error() {
            Some(code) => (*code, error.to_string()),
            None => return "not a statement that can be run".to_owned(),
        },
    };
    match code.code {
        _ if QUOTES_SOURCE.iter().any(|start| message.starts_with(start)) => "syntax error".to_owned(),
        ErrorCode::AuthorizationForStatementDenied => "the ledger may not do this to an ldb".to_owned(),
        ErrorCode::TooBig => {
            let words = ffi::code_to_str(code.extended_code);
            format!(
                "{words} (reflector.statement_max_bytes, or too long for so many operations within \
                 reflector.statement_max_time)"
            )
        }
        // The message names only the statement's table and columns.
        _ if !matches!(statement, Statement::Other) => message,
        _ => without_values(text, &message),
    }
}

/// `message` with SQLite's own words, and only those names that can't be values. The part after
/// a colon is a name; it stays if it is that of a family's table or of its columns.
fn without_values(text: &str, message: &str) -> String {
    let (said, named) = message.split_once(": ").map_or((message, None), |(said, named)| (said, Some(named)));
    if said.contains(['"', '\'', '[', '`']) {
        return "SQL logic error".to_owned();
    }
    let said: Vec<&str> = said.split(' ').map(|word| if may_be_value(text, word) { HIDDEN } else { word }).collect();
    let said = said.join(" ");
    match named {
        None => said,
        Some(named) if named.split(", ").all(is_known_name) => format!("{said}: {named}"),
        Some(_) => format!("{said}: {HIDDEN}"),
    }
}

/// Whether `word` is among the quoted parts of the statement.
fn may_be_value(text: &str, word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
    if word.is_empty() || is_table_of_a_family(word) {
        return false;
    }
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    quoted_parts(text).any(|part| part.split(|byte| !is_word(byte)).any(|quoted| quoted == word.as_bytes()))
}

/// `family___table`, or a column of one as SQLite names it.
fn is_known_name(name: &str) -> bool {
    name.split_once('.').is_none_or(|(_, column)| column.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        && is_table_of_a_family(name.split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlites_words_stay_and_what_may_be_a_value_does_not() {
        let text = r#"INSERT INTO fam___tab VALUES(1, "secret", 'columns')"#;
        for (message, expected) in [
            ("no such table: fam___tab", "no such table: fam___tab"),
            ("no such column: secret", "no such column: …"),
            (
                "UNIQUE constraint failed: fam___tab.a, fam___tab.b",
                "UNIQUE constraint failed: fam___tab.a, fam___tab.b",
            ),
            (
                "table fam___tab has 2 columns but 3 values were supplied",
                "table fam___tab has 2 … but 3 values were supplied",
            ),
            ("unknown database secret", "unknown database …"),
            ("expected 1 columns for 'secret' but got 2", "SQL logic error"),
            ("CHECK constraint failed: secret > 1", "CHECK constraint failed: …"),
            ("datatype mismatch", "datatype mismatch"),
        ] {
            assert_eq!(without_values(text, message), expected);
        }
    }
}
