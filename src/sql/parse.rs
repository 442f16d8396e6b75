//! Reads ledger statements back: what a statement touches and, for the canonical
//! row statements, the values in it, so that they can be bound to a prepared
//! statement. Whatever is not exactly in one of the protocol's forms is
//! [`Statement::Other`] and left to SQLite's own parser.

use std::borrow::Cow;

use super::form::{BEGIN, COMMIT};

/// The most digits that a float's shortest spelling has. A spelling with more is not
/// canonical, and SQLite may round it to another float than Rust does.
const MAX_FLOAT_DIGITS: usize = 17;

/// A literal's value, borrowed from the statement where it can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal<'a> {
    Null,
    Integer(i64),
    Boolean(bool),
    Real(f64),
    Text(Cow<'a, str>),
    Blob(Vec<u8>),
}

/// A canonical upsert or delete of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStatement<'a> {
    /// The table's SQL name, `family___table`.
    pub table: &'a str,
    /// The columns that the values belong to, in the statement's order.
    pub columns: Vec<&'a str>,
    /// As many as there are columns.
    pub values: Vec<Literal<'a>>,
}

/// What a ledger statement is.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement<'a> {
    Begin,
    Commit,
    Upsert(RowStatement<'a>),
    Delete(RowStatement<'a>),
    Clear { table: &'a str },
    CreateTable { table: &'a str },
    AddColumn { table: &'a str },
    DropTable { table: &'a str },
    Other,
}

impl<'a> Statement<'a> {
    /// The SQL name of the one table that the statement touches, where that is known.
    pub fn table(&self) -> Option<&'a str> {
        match self {
            Self::Upsert(row) | Self::Delete(row) => Some(row.table),
            Self::Clear { table }
            | Self::CreateTable { table }
            | Self::AddColumn { table }
            | Self::DropTable { table } => Some(table),
            Self::Begin | Self::Commit | Self::Other => None,
        }
    }

    /// The form's name, which can be logged where the statement can't.
    pub const fn form(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Upsert(_) => "upsert",
            Self::Delete(_) => "delete",
            Self::Clear { .. } => "clear table",
            Self::CreateTable { .. } => "create table",
            Self::AddColumn { .. } => "add column",
            Self::DropTable { .. } => "drop table",
            Self::Other => "other",
        }
    }

    /// Whether the statement changes the schema rather than rows.
    pub const fn is_ddl(&self) -> bool {
        matches!(self, Self::CreateTable { .. } | Self::AddColumn { .. } | Self::DropTable { .. })
    }
}

impl RowStatement<'_> {
    /// Writes the upsert with a parameter in place of each literal into `sql`.
    pub fn parameterized_upsert(&self, sql: &mut String) {
        sql.clear();
        sql.push_str("REPLACE INTO ");
        sql.push_str(self.table);
        for (i, column) in self.columns.iter().enumerate() {
            sql.push_str(if i == 0 { " (\"" } else { ",\"" });
            sql.push_str(column);
            sql.push('"');
        }
        sql.push_str(") VALUES(?");
        for _ in 1..self.columns.len() {
            sql.push_str(",?");
        }
        sql.push(')');
    }

    /// Writes the delete with a parameter in place of each literal into `sql`.
    pub fn parameterized_delete(&self, sql: &mut String) {
        sql.clear();
        sql.push_str("DELETE FROM ");
        sql.push_str(self.table);
        for (i, column) in self.columns.iter().enumerate() {
            sql.push_str(if i == 0 { " WHERE \"" } else { " AND \"" });
            sql.push_str(column);
            sql.push_str("\" = ?");
        }
    }
}

/// Reads one ledger statement. Never fails: what is not canonical is `Other`.
pub fn parse(text: &str) -> Statement<'_> {
    let cursor = Cursor { text };
    let statement = match text.as_bytes().first() {
        Some(b'R') => cursor.upsert(),
        Some(b'D') => cursor.delete_or_drop(),
        Some(b'-') if text == BEGIN => Some(Statement::Begin),
        Some(b'-') if text == COMMIT => Some(Statement::Commit),
        Some(b'C') => cursor.after("CREATE TABLE ").and_then(|c| {
            let (table, rest) = c.table()?;
            rest.after(" (").map(|_| Statement::CreateTable { table })
        }),
        Some(b'A') => cursor.after("ALTER TABLE ").and_then(|c| {
            let (table, rest) = c.table()?;
            rest.after(" ADD COLUMN ").map(|_| Statement::AddColumn { table })
        }),
        _ => None,
    };
    statement.unwrap_or(Statement::Other)
}

/// What is left of the statement. Every step takes a piece off its front, or
/// gives `None` where the text is not in the canonical form.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a str,
}

impl<'a> Cursor<'a> {
    fn after(self, prefix: &str) -> Option<Self> {
        self.text.strip_prefix(prefix).map(|text| Self { text })
    }

    fn is_at_end(self) -> bool {
        self.text.is_empty()
    }

    /// Splits after the first `at` bytes, which must be a character boundary.
    fn split(self, at: usize) -> (&'a str, Self) {
        let (piece, text) = self.text.split_at(at);
        (piece, Self { text })
    }

    fn table(self) -> Option<(&'a str, Self)> {
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let length = self.text.as_bytes().iter().take_while(|b| is_name(b)).count();
        // A name that starts with a digit is no identifier.
        (length > 0 && !self.text.as_bytes()[0].is_ascii_digit()).then(|| self.split(length))
    }

    fn quoted_name(self) -> Option<(&'a str, Self)> {
        let inside = self.after("\"")?;
        let (name, rest) = inside.split(inside.text.find('"')?);
        let rest = rest.after("\"")?;
        // A doubled quote would be part of the name.
        (!name.is_empty() && !name.contains('\0') && !rest.text.starts_with('"')).then_some((name, rest))
    }

    fn upsert(self) -> Option<Statement<'a>> {
        let (table, mut cursor) = self.after("REPLACE INTO ")?.table()?;
        cursor = cursor.after(" (")?;
        let mut columns = Vec::with_capacity(8);
        loop {
            let (column, rest) = cursor.quoted_name()?;
            columns.push(column);
            cursor = match rest.after(",") {
                Some(more) => more,
                None => {
                    cursor = rest.after(") VALUES(")?;
                    break;
                }
            };
        }
        let mut values = Vec::with_capacity(columns.len());
        loop {
            let (value, rest) = cursor.literal()?;
            values.push(value);
            cursor = match rest.after(",") {
                Some(more) => more,
                None => {
                    cursor = rest.after(")")?;
                    break;
                }
            };
        }
        (cursor.is_at_end() && values.len() == columns.len()).then_some(Statement::Upsert(RowStatement {
            table,
            columns,
            values,
        }))
    }

    fn delete_or_drop(self) -> Option<Statement<'a>> {
        if let Some(cursor) = self.after("DROP TABLE IF EXISTS ") {
            let (table, rest) = cursor.table()?;
            return rest.is_at_end().then_some(Statement::DropTable { table });
        }
        let (table, rest) = self.after("DELETE FROM ")?.table()?;
        if rest.is_at_end() {
            return Some(Statement::Clear { table });
        }
        let mut cursor = rest.after(" WHERE ")?;
        let (mut columns, mut values) = (Vec::with_capacity(4), Vec::with_capacity(4));
        loop {
            let (column, rest) = cursor.quoted_name()?;
            let (value, rest) = rest.after(" = ")?.literal()?;
            columns.push(column);
            values.push(value);
            if rest.is_at_end() {
                return Some(Statement::Delete(RowStatement { table, columns, values }));
            }
            cursor = rest.after(" AND ")?;
        }
    }

    fn literal(self) -> Option<(Literal<'a>, Self)> {
        match self.text.as_bytes().first()? {
            b'\'' => self.text_literal(),
            b'x' => self.blob_literal(),
            b'N' => Some((Literal::Null, self.after("NULL")?)),
            b't' => Some((Literal::Boolean(true), self.after("true")?)),
            b'f' => Some((Literal::Boolean(false), self.after("false")?)),
            _ => self.number_literal(),
        }
    }

    fn text_literal(self) -> Option<(Literal<'a>, Self)> {
        let inside = self.after("'")?;
        let (first, mut rest) = inside.split(inside.text.find('\'')?);
        rest = rest.after("'")?;
        let mut text = Cow::Borrowed(first);
        // A quote right behind the closing one stands for a quote in the text.
        while let Some(more) = rest.after("'") {
            let (piece, next) = more.split(more.text.find('\'')?);
            rest = next.after("'")?;
            let text = text.to_mut();
            text.push('\'');
            text.push_str(piece);
        }
        // SQLite's parser would stop at a NUL.
        (!text.contains('\0')).then_some((Literal::Text(text), rest))
    }

    fn blob_literal(self) -> Option<(Literal<'a>, Self)> {
        let inside = self.after("x'")?;
        let (digits, rest) = inside.split(inside.text.find('\'')?);
        Some((Literal::Blob(hex::decode(digits).ok()?), rest.after("'")?))
    }

    fn number_literal(self) -> Option<(Literal<'a>, Self)> {
        let length = self.text.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'.')).count();
        let (number, rest) = self.split(length);
        let digits = number.strip_prefix('-').unwrap_or(number);
        let is_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let value = match digits.split_once('.') {
            Some((whole, fraction)) if is_digits(whole) && is_digits(fraction) => float(number)?,
            None if is_digits(digits) => match number.parse() {
                Ok(integer) => Literal::Integer(integer),
                // Beyond 64 bits SQLite reads an integer literal as a float.
                Err(_) => float(number)?,
            },
            _ => return None,
        };
        Some((value, rest))
    }
}

/// A number in plain decimal as a float, where its spelling is short enough.
fn float(number: &str) -> Option<Literal<'static>> {
    let is_zero = |b: &u8| matches!(b, b'0' | b'-' | b'.');
    let from_first = number.bytes().skip_while(is_zero);
    let significant = from_first.filter(u8::is_ascii_digit).enumerate().filter(|(_, b)| *b != b'0').last();
    match significant {
        Some((last, _)) if last >= MAX_FLOAT_DIGITS => None,
        _ => Some(Literal::Real(number.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsert(text: &str) -> RowStatement<'_> {
        match parse(text) {
            Statement::Upsert(row) => row,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn canonical_rows_give_their_values() {
        let row =
            upsert(r#"REPLACE INTO fam___tab ("a","b","c","d","e","f") VALUES('it''s ''',-7,0.5,x'00ff',NULL,true)"#);
        assert_eq!(row.table, "fam___tab");
        assert_eq!(row.columns, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(
            row.values,
            [
                Literal::Text("it's '".into()),
                Literal::Integer(-7),
                Literal::Real(0.5),
                Literal::Blob(vec![0, 255]),
                Literal::Null,
                Literal::Boolean(true)
            ]
        );
        let mut sql = String::new();
        row.parameterized_upsert(&mut sql);
        assert_eq!(sql, r#"REPLACE INTO fam___tab ("a","b","c","d","e","f") VALUES(?,?,?,?,?,?)"#);

        let Statement::Delete(row) = parse(r#"DELETE FROM fam___tab WHERE "a" = 'x' AND "b" = 1"#) else { panic!() };
        row.parameterized_delete(&mut sql);
        assert_eq!(sql, r#"DELETE FROM fam___tab WHERE "a" = ? AND "b" = ?"#);
        assert_eq!(row.values, [Literal::Text("x".into()), Literal::Integer(1)]);
    }

    #[test]
    fn numbers_beyond_64_bits_are_floats_as_in_sqlite() {
        let one =
            |text: &str| upsert(&format!(r#"REPLACE INTO f___t ("a") VALUES({text})"#)).values.remove(0).clone_static();
        assert_eq!(one("-9223372036854775808"), Literal::Integer(i64::MIN));
        assert_eq!(one("9223372036854776000"), Literal::Real(9_223_372_036_854_775_808.0));
        assert_eq!(one("150000000000000000000"), Literal::Real(1.5e20));
    }

    impl Literal<'_> {
        fn clone_static(&self) -> Literal<'static> {
            match self {
                Literal::Integer(integer) => Literal::Integer(*integer),
                Literal::Real(float) => Literal::Real(*float),
                other => panic!("{other:?} is not a number"),
            }
        }
    }

    #[test]
    fn every_form_is_known_by_its_table() {
        assert_eq!(parse("--- BEGIN"), Statement::Begin);
        assert_eq!(parse("--- COMMIT"), Statement::Commit);
        assert_eq!(parse("DELETE FROM fam___tab"), Statement::Clear { table: "fam___tab" });
        assert_eq!(parse("DROP TABLE IF EXISTS fam___tab"), Statement::DropTable { table: "fam___tab" });
        let create = r#"CREATE TABLE fam___tab ("a" INTEGER, PRIMARY KEY("a"));"#;
        assert_eq!(parse(create), Statement::CreateTable { table: "fam___tab" });
        let alter = r#"ALTER TABLE fam___tab ADD COLUMN "b" REAL"#;
        assert_eq!(parse(alter), Statement::AddColumn { table: "fam___tab" });
    }

    #[test]
    fn anything_else_is_left_to_sqlite() {
        for text in [
            "",
            "--- BEGIN ",
            "--- begin",
            "DELETE FROM fam___tab;",
            "DELETE FROM fam___tab WHERE a = 1",
            r#"DELETE FROM fam___tab WHERE "a" = 1 OR 1"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(1,2)"#,
            r#"REPLACE INTO fam___tab ("a","b") VALUES(1)"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(1);"#,
            r#"REPLACE INTO fam___tab ("a") VALUES('x)"#,
            r#"REPLACE INTO fam___tab ("a""b") VALUES(1)"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(1e5)"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(.5)"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(9223372036854775808)"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(-0.0123456789012345678)"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(--1)"#,
            r#"REPLACE INTO fam___tab ("a") VALUES(x'abc')"#,
            "REPLACE INTO fam___tab (\"a\") VALUES('a\0b')",
            "INSERT INTO fam___tab VALUES(1)",
        ] {
            assert_eq!(parse(text), Statement::Other, "{text:?}");
        }
    }
}
