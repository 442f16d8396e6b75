//! Parses ledger statements: their form, their table, and the values of an upsert or delete, so
//! that the applier can bind them to a prepared statement. Entry points: [`StatementParser`] for many
//! statements, [`parse`] for one. A statement that is not exactly in one of the protocol's forms is
//! [`Statement::Other`]; SQLite itself parses those.

use std::borrow::Cow;

use super::cursor::{Literal, StatementCursor};
use super::statement_writer::{BEGIN, COMMIT};

const UPSERT: &str = "REPLACE INTO ";

/// A canonical upsert or delete of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStatement<'a> {
    /// The table's SQL name, `family___table`.
    pub table: &'a str,
    /// The columns of the values, in the statement's order, as an upsert lists them: `"a","b"`. No
    /// name has a quote in it.
    pub columns: Cow<'a, str>,
    /// One value for each column.
    pub values: Vec<Literal<'a>>,
}

/// The form of a ledger statement, with the parts that its form names.
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
    /// The SQL name of the one table that the statement touches; `None` if that is unknown.
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

    /// The form's name. It can be logged; the statement itself can't, since it holds data.
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

    /// Whether the statement is an upsert or delete of one row with parsed values. Such a statement
    /// contains no NUL.
    pub const fn is_row(&self) -> bool {
        matches!(self, Self::Upsert(_) | Self::Delete(_))
    }
}

impl RowStatement<'_> {
    /// The names of the columns, in the order of the values.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.trim_matches('"').split("\",\"")
    }

    /// Replaces the content of `sql` by the upsert with a parameter for each literal.
    pub fn parameterized_upsert(&self, sql: &mut String) {
        sql.clear();
        sql.push_str(UPSERT);
        sql.push_str(self.table);
        sql.push_str(" (");
        sql.push_str(&self.columns);
        sql.push_str(") VALUES(?");
        for _ in 1..self.values.len() {
            sql.push_str(",?");
        }
        sql.push(')');
    }

    /// Replaces the content of `sql` by the delete with a parameter for each literal.
    pub fn parameterized_delete(&self, sql: &mut String) {
        sql.clear();
        sql.push_str("DELETE FROM ");
        sql.push_str(self.table);
        for (i, column) in self.columns().enumerate() {
            sql.push_str(if i == 0 { " WHERE \"" } else { " AND \"" });
            sql.push_str(column);
            sql.push_str("\" = ?");
        }
    }
}

/// Parses one ledger statement. A statement that is not canonical is [`Statement::Other`].
pub fn parse(text: &str) -> Statement<'_> {
    StatementParser::default().parse(text)
}

/// Parses many statements. An upsert mostly begins with the same text as the upsert before it;
/// that text is not parsed again.
#[derive(Debug, Default)]
pub struct StatementParser<'a> {
    head: Option<Head<'a>>,
    /// A list that is reused for the values of the next statement.
    spare: Vec<Literal<'a>>,
}

/// The beginning of an upsert, up to its first value.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    text: &'a str,
    table: &'a str,
    columns: &'a str,
    /// The number of columns.
    width: usize,
}

impl<'a> StatementParser<'a> {
    /// Does as [`parse`].
    pub fn parse(&mut self, text: &'a str) -> Statement<'a> {
        let cursor = StatementCursor { text };
        let statement = match text.as_bytes().first() {
            Some(b'R') => self.upsert(cursor),
            Some(b'D') => cursor.delete_or_drop(&mut self.spare),
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

    /// Takes back a statement that is no longer needed, to reuse the memory of its values.
    pub fn reuse(&mut self, statement: Statement<'a>) {
        if let Statement::Upsert(row) | Statement::Delete(row) = statement {
            self.spare = row.values;
        }
    }

    fn upsert(&mut self, cursor: StatementCursor<'a>) -> Option<Statement<'a>> {
        cursor.refuse_nul()?;
        let (head, cursor) = match self.head {
            Some(head) if let Some(rest) = cursor.after(head.text) => (head, rest),
            _ => cursor.upsert_head()?,
        };
        self.head = Some(head);
        let values = cursor.values(head.width, &mut self.spare)?;
        Some(Statement::Upsert(RowStatement { table: head.table, columns: Cow::Borrowed(head.columns), values }))
    }
}

impl<'a> StatementCursor<'a> {
    fn upsert_head(self) -> Option<(Head<'a>, Self)> {
        let (table, rest) = self.after(UPSERT)?.table()?;
        let list = rest.after(" (")?;
        let mut cursor = list;
        let mut width = 0;
        loop {
            let (_, rest) = cursor.quoted_name()?;
            width += 1;
            cursor = match rest.after(",") {
                Some(more) => more,
                None => {
                    let columns = &list.text[..list.text.len() - rest.text.len()];
                    let values = rest.after(") VALUES(")?;
                    let text = &self.text[..self.text.len() - values.text.len()];
                    return Some((Head { text, table, columns, width }, values));
                }
            };
        }
    }

    /// The `width` values at the end of the statement.
    fn values(self, width: usize, spare: &mut Vec<Literal<'a>>) -> Option<Vec<Literal<'a>>> {
        let mut values = emptied(spare, width);
        let mut cursor = self;
        loop {
            let (value, rest) = cursor.literal()?;
            values.push(value);
            cursor = match rest.after(",") {
                Some(more) => more,
                None => return (rest.text == ")" && values.len() == width).then_some(values),
            };
        }
    }

    fn delete_or_drop(self, spare: &mut Vec<Literal<'a>>) -> Option<Statement<'a>> {
        if let Some(cursor) = self.after("DROP TABLE IF EXISTS ") {
            let (table, rest) = cursor.table()?;
            return rest.is_at_end().then_some(Statement::DropTable { table });
        }
        let (table, rest) = self.after("DELETE FROM ")?.table()?;
        if rest.is_at_end() {
            return Some(Statement::Clear { table });
        }
        self.refuse_nul()?;
        let mut cursor = rest.after(" WHERE ")?;
        let mut columns = String::new();
        let mut values = emptied(spare, 4);
        loop {
            let (column, rest) = cursor.quoted_name()?;
            let (value, rest) = rest.after(" = ")?.literal()?;
            columns.push_str(if columns.is_empty() { "\"" } else { ",\"" });
            columns.push_str(column);
            columns.push('"');
            values.push(value);
            if rest.is_at_end() {
                return Some(Statement::Delete(RowStatement { table, columns: columns.into(), values }));
            }
            cursor = rest.after(" AND ")?;
        }
    }
}

/// The empty list `spare`, with room for `width` values.
fn emptied<'a>(spare: &mut Vec<Literal<'a>>, width: usize) -> Vec<Literal<'a>> {
    let mut values = std::mem::take(spare);
    values.clear();
    values.reserve(width);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Hex;

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
        assert_eq!(row.columns, r#""a","b","c","d","e","f""#);
        assert_eq!(
            row.values,
            [
                Literal::Text("it's '".into()),
                Literal::Integer(-7),
                Literal::Real(0.5),
                Literal::Blob(Hex::new("00ff").unwrap()),
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
    fn what_was_read_before_changes_nothing() {
        let texts = [
            r#"REPLACE INTO fam___tab ("a","b") VALUES(1,2)"#,
            r#"REPLACE INTO fam___tab ("a","b") VALUES('x',NULL)"#,
            r#"REPLACE INTO fam___tab ("a","b") VALUES(1)"#,
            r#"REPLACE INTO fam___tab ("a","b") VALUES(1,2,3)"#,
            r#"REPLACE INTO fam___tab ("a","b") VALUES()"#,
            r#"REPLACE INTO fam___tab ("a","b") VALUES(1,2);"#,
            "REPLACE INTO fam___tab (\"a\",\"b\") VALUES(1,'\0')",
            r#"REPLACE INTO fam___tab ("a") VALUES(1)"#,
            r#"REPLACE INTO fam___tab ("b","a") VALUES(1,2)"#,
            r#"REPLACE INTO fam___tab2 ("a","b") VALUES(1,2)"#,
            r#"REPLACE INTO fam___tab ("a","b") VALUE(1,2)"#,
            r#"DELETE FROM fam___tab WHERE "a" = 1"#,
            "--- BEGIN",
        ];
        for first in texts {
            for second in texts {
                let mut parser = StatementParser::default();
                assert_eq!(parser.parse(first), parse(first));
                assert_eq!(parser.parse(second), parse(second), "{second:?} after {first:?}");
            }
        }
    }

    #[test]
    fn a_deletes_columns_may_look_like_a_list() {
        let text = r#"DELETE FROM fam___tab WHERE "," = 1 AND "a,b" = 2"#;
        let Statement::Delete(row) = parse(text) else { panic!() };
        let mut sql = String::new();
        row.parameterized_delete(&mut sql);
        assert_eq!(sql, r#"DELETE FROM fam___tab WHERE "," = ? AND "a,b" = ?"#);
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
            r#"REPLACE INTO Fam___tab ("a") VALUES(1)"#,
            "DELETE FROM fam___Tab",
            "DROP TABLE IF EXISTS FAM___TAB",
        ] {
            assert_eq!(parse(text), Statement::Other, "{text:?}");
        }
    }
}
