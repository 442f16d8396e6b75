//! Runs ledger statements: canonical upserts and deletes as prepared statements with
//! bound values, everything else as text through SQLite. Both ways leave the same
//! file; a property test compares them.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection};

use ctlstore_core::sql::{Literal, RowStatement, Statement};

/// Shapes of row statements at hand at a time. What has no place here is still
/// prepared, in the connection's own cache, and found there by its text.
const SHAPES: usize = 16;

/// Runs the statements of one transaction.
pub struct Runner<'c> {
    connection: &'c Connection,
    /// The one used last comes first.
    shapes: Vec<Shape<'c>>,
    sql: String,
    /// The bytes of the value that is being bound.
    bytes: Vec<u8>,
}

/// What row statements have in common, besides their values.
struct Shape<'c> {
    is_upsert: bool,
    table: String,
    columns: String,
    statement: CachedStatement<'c>,
}

impl Shape<'_> {
    fn fits(&self, is_upsert: bool, row: &RowStatement<'_>) -> bool {
        self.is_upsert == is_upsert && self.table == row.table && self.columns == row.columns
    }
}

impl<'c> Runner<'c> {
    pub fn new(connection: &'c Connection) -> Self {
        Self { connection, shapes: Vec::new(), sql: String::new(), bytes: Vec::new() }
    }

    /// Runs `statement`, which was read from `text` and is no marker. Tells whether
    /// its values were bound.
    pub fn run(&mut self, text: &str, statement: &Statement<'_>) -> rusqlite::Result<bool> {
        match statement {
            Statement::Upsert(row) if can_be_bound(row) => self.run_row(true, row).map(|()| true),
            Statement::Delete(row) if can_be_bound(row) => self.run_row(false, row).map(|()| true),
            _ => self.connection.execute_batch(text).map(|()| false),
        }
    }

    fn run_row(&mut self, is_upsert: bool, row: &RowStatement<'_>) -> rusqlite::Result<()> {
        match self.shapes.iter().position(|shape| shape.fits(is_upsert, row)) {
            Some(at) => self.shapes[..=at].rotate_right(1),
            None => {
                self.shapes.truncate(SHAPES - 1);
                let shape = self.prepare(is_upsert, row)?;
                self.shapes.insert(0, shape);
            }
        }
        let statement = &mut self.shapes[0].statement;
        for (i, value) in row.values.iter().enumerate() {
            statement.raw_bind_parameter(i + 1, parameter(value, &mut self.bytes))?;
        }
        statement.raw_execute().map(drop)
    }

    fn prepare(&mut self, is_upsert: bool, row: &RowStatement<'_>) -> rusqlite::Result<Shape<'c>> {
        if is_upsert {
            row.parameterized_upsert(&mut self.sql);
        } else {
            row.parameterized_delete(&mut self.sql);
        }
        Ok(Shape {
            is_upsert,
            table: row.table.to_owned(),
            columns: row.columns.clone().into_owned(),
            statement: self.connection.prepare_cached(&self.sql)?,
        })
    }
}

/// Digits beyond the range of a float are SQLite's to read.
fn can_be_bound(row: &RowStatement<'_>) -> bool {
    row.values.iter().all(|value| !matches!(value, Literal::Real(float) if !float.is_finite()))
}

/// A literal as a parameter. A blob's bytes are put into `bytes`.
fn parameter<'a>(literal: &'a Literal<'_>, bytes: &'a mut Vec<u8>) -> ToSqlOutput<'a> {
    match literal {
        Literal::Null => ToSqlOutput::Owned(Value::Null),
        Literal::Integer(integer) => ToSqlOutput::Owned(Value::Integer(*integer)),
        Literal::Boolean(boolean) => ToSqlOutput::Owned(Value::Integer((*boolean).into())),
        Literal::Real(float) => ToSqlOutput::Owned(Value::Real(*float)),
        Literal::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Literal::Blob(hex) => {
            hex.decode_into(bytes);
            ToSqlOutput::Borrowed(ValueRef::Blob(bytes))
        }
    }
}
