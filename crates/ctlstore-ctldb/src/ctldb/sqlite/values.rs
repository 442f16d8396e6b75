//! Values on their way into and out of SQLite, stored as the ledger's literals
//! would be: the ctldb and every LDB hold the same.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use crate::ctldb::CtldbError;
use ctlstore_core::schema::Value;

/// A value to bind.
pub(super) struct Bound<'a>(pub &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Boolean(boolean) => ValueRef::Integer(i64::from(*boolean)),
            // The literal `-0` is the integer 0; adding 0 turns -0.0 into it and changes nothing else.
            Value::Real(float) => ValueRef::Real(*float + 0.0),
            // The ledger spells text with a NUL as the hex of its bytes.
            Value::Text(text) if text.contains('\0') => ValueRef::Blob(text.as_bytes()),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A stored value.
pub(super) fn read(stored: ValueRef<'_>) -> Result<Value, CtldbError> {
    Ok(match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(float) => Value::Real(float),
        ValueRef::Text(text) => Value::Text(
            String::from_utf8(text.to_vec()).map_err(|_| CtldbError::Failed("stored text is not utf-8".to_owned()))?,
        ),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}
