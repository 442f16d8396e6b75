//! Runs ledger statements: canonical upserts and deletes as prepared statements with bound
//! values, and all others as text. Both ways leave the same file; a property test compares
//! them. Entry point: [`Runner::run`]. The rights of a statement are in `statement_authorizer`.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection};

use ctlstore_core::sql::{Literal, RowStatement, Statement};

use super::statement_authorizer::StatementAuthorizer;
use super::statement_class::{HIDDEN_ROWID, NotAllowed, StatementClass, is_rowid_name, refuse_hidden_rowid};

/// Why a statement did not run, or not to its end.
pub enum NotRun {
    /// In words that complete "it".
    NotAllowed(NotAllowed),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for NotRun {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The most shapes of row statements that are at hand. Others are still prepared, in the
/// connection's own cache, and are found there by their text.
const MAX_PREPARED_FORMS: usize = 16;

/// The columns of a table's key.
const KEY: &str = "SELECT name, upper(type) = 'INTEGER' FROM pragma_table_info(?1) WHERE pk > 0";
/// SQLite would choose the row's number: after the highest possible number a random one.
const NO_KEY: NotAllowed = "gives a row no key, and hosts would choose different ones";

const HAS_COLUMN: &str = "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2 COLLATE NOCASE";

/// Runs the statements of one transaction.
pub struct Runner<'c> {
    connection: &'c Connection,
    guard: &'c StatementAuthorizer,
    /// The shape that was used last comes first.
    shapes: Vec<PreparedForm<'c>>,
    sql: String,
    /// The bytes of the value that is being bound.
    bytes: Vec<u8>,
}

/// The parts that row statements have in common, besides their values.
struct PreparedForm<'c> {
    is_upsert: bool,
    table: String,
    columns: String,
    /// The place of an upsert's value that is the whole key, if that is an integer.
    integer_key: Option<usize>,
    statement: CachedStatement<'c>,
}

impl PreparedForm<'_> {
    fn fits(&self, is_upsert: bool, row: &RowStatement<'_>) -> bool {
        self.is_upsert == is_upsert && self.table == row.table && self.columns == row.columns
    }
}

impl<'c> Runner<'c> {
    pub fn new(connection: &'c Connection, guard: &'c StatementAuthorizer) -> Self {
        Self { connection, guard, shapes: Vec::new(), sql: String::new(), bytes: Vec::new() }
    }

    /// Runs `statement`, which was parsed from `text` and is no marker, with the rights of a
    /// ledger only. Tells whether its values were bound.
    pub fn run(&mut self, text: &str, statement: &Statement<'_>) -> Result<bool, NotRun> {
        let guard = self.guard;
        match statement {
            Statement::Upsert(row) if can_be_bound(row) => {
                let key = self.check_upsert(row)?;
                guard.restrict(StatementClass::Rows, || self.run_row(true, row, key))?;
                Ok(true)
            }
            Statement::Delete(row) if can_be_bound(row) => {
                if !self.is_prepared(false, row) {
                    self.check_new_form(row)?;
                }
                guard.restrict(StatementClass::Rows, || self.run_row(false, row, None))?;
                Ok(true)
            }
            Statement::Upsert(row) => {
                self.check_upsert(row)?;
                self.run_text(text, false).map(|()| false)
            }
            _ => self.run_text(text, matches!(statement, Statement::Other)).map(|()| false),
        }
    }

    /// Checks the columns of a form that is not prepared yet. A column whose name SQLite also uses for its hidden
    /// row number must be a column of the table.
    fn check_new_form(&self, row: &RowStatement<'_>) -> Result<(), NotRun> {
        for name in row.columns().filter(|name| is_rowid_name(name.as_bytes())) {
            if !self.connection.prepare_cached(HAS_COLUMN)?.exists([row.table, name])? {
                return Err(NotRun::NotAllowed(HIDDEN_ROWID));
            }
        }
        Ok(())
    }

    fn is_prepared(&self, is_upsert: bool, row: &RowStatement<'_>) -> bool {
        self.shapes.iter().any(|shape| shape.fits(is_upsert, row))
    }

    /// Checks an upsert's form, unless it is prepared, and that the row has a key. Returns the place of an integer
    /// that is the whole key.
    fn check_upsert(&self, row: &RowStatement<'_>) -> Result<Option<usize>, NotRun> {
        let key = match self.shapes.iter().find(|shape| shape.fits(true, row)) {
            Some(shape) => shape.integer_key,
            None => {
                self.check_new_form(row)?;
                self.find_integer_key(row)?
            }
        };
        match key.and_then(|at| row.values.get(at)) {
            Some(Literal::Null) => Err(NotRun::NotAllowed(NO_KEY)),
            _ => Ok(key),
        }
    }

    fn find_integer_key(&self, row: &RowStatement<'_>) -> Result<Option<usize>, NotRun> {
        let mut statement = self.connection.prepare_cached(KEY)?;
        let columns = statement.query_map([row.table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let columns: Vec<(String, bool)> = columns.collect::<rusqlite::Result<_>>()?;
        let [(name, true)] = columns.as_slice() else { return Ok(None) };
        let at = row.columns().position(|column| column.eq_ignore_ascii_case(name));
        at.map(Some).ok_or(NotRun::NotAllowed(NO_KEY))
    }

    fn run_text(&self, text: &str, is_limited: bool) -> Result<(), NotRun> {
        // Comments alone change nothing. A person may have filled a gap with them.
        let Some(class) = StatementClass::of(text).map_err(NotRun::NotAllowed)? else { return Ok(()) };
        if is_limited && class == StatementClass::Rows {
            refuse_hidden_rowid(text).map_err(NotRun::NotAllowed)?;
        }
        self.guard.watch().time_row();
        let run = || {
            let mut statement = self.connection.prepare(text)?;
            let mut rows = statement.raw_query();
            while rows.next()?.is_some() {}
            Ok(())
        };
        if is_limited {
            self.guard.restrict_and_limit(self.connection, class, text, run)?;
        } else {
            self.guard.restrict(class, run)?;
        }
        Ok(())
    }

    /// `integer_key` is the result of [`Self::check_upsert`].
    fn run_row(&mut self, is_upsert: bool, row: &RowStatement<'_>, integer_key: Option<usize>) -> rusqlite::Result<()> {
        match self.shapes.iter().position(|shape| shape.fits(is_upsert, row)) {
            Some(at) => self.shapes[..=at].rotate_right(1),
            None => {
                self.shapes.truncate(MAX_PREPARED_FORMS - 1);
                let shape = self.prepare(is_upsert, row, integer_key)?;
                self.shapes.insert(0, shape);
            }
        }
        let statement = &mut self.shapes[0].statement;
        for (i, value) in row.values.iter().enumerate() {
            statement.raw_bind_parameter(i + 1, parameter(value, &mut self.bytes))?;
        }
        statement.raw_execute().map(drop)
    }

    fn prepare(
        &mut self,
        is_upsert: bool,
        row: &RowStatement<'_>,
        integer_key: Option<usize>,
    ) -> rusqlite::Result<PreparedForm<'c>> {
        if is_upsert {
            row.parameterized_upsert(&mut self.sql);
        } else {
            row.parameterized_delete(&mut self.sql);
        }
        Ok(PreparedForm {
            is_upsert,
            table: row.table.to_owned(),
            columns: row.columns.clone().into_owned(),
            integer_key,
            statement: self.connection.prepare_cached(&self.sql)?,
        })
    }
}

/// SQLite itself reads numbers beyond the range of a float, so those are not bound.
fn can_be_bound(row: &RowStatement<'_>) -> bool {
    row.values.iter().all(|value| !matches!(value, Literal::Real(float) if !float.is_finite()))
}

/// A literal as a parameter. A blob is decoded into `bytes`.
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
