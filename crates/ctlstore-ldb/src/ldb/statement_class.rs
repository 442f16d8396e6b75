//! Tells by its first words which kind of statement a ledger row holds: changes of rows, or one
//! of the protocol's three changes of a schema. Entry point: [`StatementClass::of`]. The
//! authorizer decides what the statement may touch (`statement_authorizer`).

/// The kind of a ledger statement. It decides what SQLite may do for the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementClass {
    /// Inserts, updates, deletes or reads rows.
    Rows,
    CreateTable,
    /// `ALTER TABLE`. Only `ADD COLUMN` gets the rights that it needs.
    AddColumn,
    DropTable,
}

/// Why a text is no statement of a ledger, in words that complete "it".
pub type NotAllowed = &'static str;

const MORE_THAN_ONE: NotAllowed = "holds more than one statement";
const OTHER: NotAllowed = "is none of what an ldb takes: changes of rows, and tables made, dropped or given a column";
const NOT_PLAIN: NotAllowed = "has columns that are more than a name and a type, which the protocol does not have";

pub const HIDDEN_ROWID: NotAllowed = "names rows by SQLite's hidden number, which differs between hosts";

/// SQLite's names for the hidden number of a row. A column of such a name hides it.
const ROWID_NAMES: [&str; 3] = ["rowid", "oid", "_rowid_"];

/// Words that no plain column has: computed columns, conditions, and columns of other tables.
const NOT_PLAIN_WORDS: [&str; 3] = ["as", "check", "references"];
/// In a new table a default can be computed, and would then differ between hosts.
const NOT_PLAIN_IN_TABLES: &str = "default";

impl StatementClass {
    /// The class of `text`; `None` if it holds only comments.
    pub fn of(text: &str) -> Result<Option<Self>, NotAllowed> {
        let mut words = Words { text: text.as_bytes(), at: 0 };
        let Some(first) = words.next() else { return Ok(None) };
        let is = |token: Option<Token<'_>>, word: &str| token.is_some_and(|token| token.is(word));
        let class = if ["insert", "replace", "update", "delete", "with", "select", "values"]
            .map(|w| first.is(w))
            .contains(&true)
        {
            Self::Rows
        } else {
            let class = match () {
                () if first.is("create") => Self::CreateTable,
                () if first.is("alter") => Self::AddColumn,
                () if first.is("drop") => Self::DropTable,
                () => return Err(OTHER),
            };
            if !is(words.next(), "table") {
                return Err(OTHER);
            }
            class
        };
        let mut has_ended = false;
        for token in words {
            match token {
                Token::Semicolon => has_ended = true,
                _ if has_ended => return Err(MORE_THAN_ONE),
                token if class.refuses(token) => return Err(NOT_PLAIN),
                _ => {}
            }
        }
        Ok(Some(class))
    }

    fn refuses(self, token: Token<'_>) -> bool {
        let is_of_columns = matches!(self, Self::CreateTable | Self::AddColumn);
        is_of_columns && NOT_PLAIN_WORDS.iter().any(|word| token.is(word))
            || self == Self::CreateTable && token.is(NOT_PLAIN_IN_TABLES)
    }
}

/// Refuses a text that names a row's hidden number. A column of such a name counts as one too.
pub fn refuse_hidden_rowid(text: &str) -> Result<(), NotAllowed> {
    let is_name = |token: Token<'_>| match token {
        Token::Word(word) => is_rowid_name(word),
        Token::Quoted(quoted) => !quoted.starts_with(b"'") && is_rowid_name(&quoted[1..quoted.len().max(2) - 1]),
        _ => false,
    };
    if (Words { text: text.as_bytes(), at: 0 }).any(is_name) { Err(HIDDEN_ROWID) } else { Ok(()) }
}

/// Whether a column of this name may be the hidden number of a row.
pub fn is_rowid_name(name: &[u8]) -> bool {
    ROWID_NAMES.iter().any(|rowid| name.eq_ignore_ascii_case(rowid.as_bytes()))
}

/// The parts of `text` in quotes of any kind. They may be values.
pub fn quoted_parts(text: &str) -> impl Iterator<Item = &[u8]> {
    let words = Words { text: text.as_bytes(), at: 0 };
    words.filter_map(|token| if let Token::Quoted(part) = token { Some(part) } else { None })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Semicolon,
    /// A quoted name or value, with its quotes.
    Quoted(&'a [u8]),
    /// A sign.
    Other,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// The tokens of a statement, as exact as this module needs them.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    /// Goes past the next `end`, or to the end of the text.
    fn skip_to(&mut self, end: &[u8]) {
        let rest = &self.text[self.at..];
        let found = rest.windows(end.len()).position(|window| window == end);
        self.at += found.map_or(rest.len(), |found| found + end.len());
    }

    /// Goes past the quote that ends the part that `quote` began.
    fn skip_quoted(&mut self, quote: u8) {
        loop {
            self.skip_to(&[quote]);
            // A doubled quote is a part of the quoted text.
            if quote == b']' || self.text.get(self.at) != Some(&quote) {
                return;
            }
            self.at += 1;
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let start = self.at;
            let byte = *self.text.get(start)?;
            self.at += 1;
            match byte {
                b' ' | b'\t' | b'\n' | b'\x0c' | b'\r' => {}
                b'-' if self.text.get(self.at) == Some(&b'-') => self.skip_to(b"\n"),
                b'/' if self.text.get(self.at) == Some(&b'*') => {
                    self.at += 1;
                    self.skip_to(b"*/");
                }
                b';' => return Some(Token::Semicolon),
                b'\'' | b'"' | b'`' => {
                    self.skip_quoted(byte);
                    return Some(Token::Quoted(&self.text[start..self.at]));
                }
                b'[' => {
                    self.skip_quoted(b']');
                    return Some(Token::Quoted(&self.text[start..self.at]));
                }
                byte if is_in_word(byte) => {
                    while self.text.get(self.at).is_some_and(|byte| is_in_word(*byte)) {
                        self.at += 1;
                    }
                    return Some(Token::Word(&self.text[start..self.at]));
                }
                _ => return Some(Token::Other),
            }
        }
    }
}

/// As in SQLite, bytes above 127 are letters.
fn is_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_by_their_first_words() {
        for (text, class) in [
            ("/* a */ -- b\n\tinsert INTO t VALUES(1)", Some(StatementClass::Rows)),
            ("WITH n AS (SELECT 1) DELETE FROM t;;  ", Some(StatementClass::Rows)),
            ("UPDATE t SET a = 'x;y' WHERE [b;]]= 1 AND `c;` = \";\" -- ; and so on", Some(StatementClass::Rows)),
            ("Create\nTable t (\"default\" TEXT, PRIMARY KEY(\"default\"));", Some(StatementClass::CreateTable)),
            ("ALTER TABLE t ADD COLUMN a INTEGER DEFAULT 0", Some(StatementClass::AddColumn)),
            ("DROP/**/TABLE t", Some(StatementClass::DropTable)),
            ("-- nothing", None),
            ("", None),
            ("/* never ended", None),
        ] {
            assert_eq!(StatementClass::of(text), Ok(class), "{text}");
        }
    }

    #[test]
    fn whatever_else_begins_a_statement_is_refused() {
        for text in [
            "PRAGMA x",
            "EXPLAIN DELETE FROM t",
            "CREATE TEMP TABLE t(a)",
            "CREATE VIRTUAL TABLE t USING fts5(a)",
            "CREATE INDEX i ON t(a)",
            "CREATE",
            "DROP VIEW v",
            "ALTER",
            "VACUUM",
            "'x'",
            "\u{feff}DELETE FROM t",
            ";",
        ] {
            assert_eq!(StatementClass::of(text), Err(OTHER), "{text}");
        }
        let two = "DELETE FROM t; /* ; */ ; DELETE FROM t".to_owned();
        let many = "SELECT 1;".repeat(100_000);
        for text in [two, many, "SELECT 'it''s'; x".to_owned()] {
            assert_eq!(StatementClass::of(&text), Err(MORE_THAN_ONE));
        }
        for text in
            ["CREATE TABLE t (a DEFAULT (random()))", "ALTER TABLE t ADD b AS (a + 1)", "CREATE TABLE t AS SELECT 1"]
        {
            assert_eq!(StatementClass::of(text), Err(NOT_PLAIN));
        }
    }
}
