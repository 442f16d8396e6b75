//! Reads keys from the text of a URL or from plain JSON values, by the types of the key columns.
//! Entry points: [`ReadTransaction::key_of_texts`] and [`ReadTransaction::key_of_values`]. A value that
//! does not fit its column is refused; SQLite would compare it with every row and find none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use ctlstore_core::schema::{FieldType, TableRef};

use super::error::ReadError;
use super::read_transaction::ReadTransaction;
use super::table::{Column, Table};
use super::value::Value;

/// The mark of bytes in a text. Two hexadecimal digits for each byte follow it.
const HEX: &str = "0x";

impl ReadTransaction<'_> {
    /// The leading key values that `texts` stand for, in key order: digits for integers, `0x` and hex
    /// digits for bytes, the text itself for strings.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`]; [`ReadError::KeyArity`] if there are more texts than key columns;
    /// [`ReadError::KeyType`], which names the column.
    pub fn key_of_texts(&self, table: &TableRef, texts: &[String]) -> Result<Vec<Value>, ReadError> {
        self.key_of(table, texts, |field_type, text| of_text(field_type, text))
    }

    /// The same for values of JSON. Bytes are base64, as in rows.
    ///
    /// # Errors
    /// As for texts.
    pub fn key_of_values(&self, table: &TableRef, values: &[Value]) -> Result<Vec<Value>, ReadError> {
        self.key_of(table, values, of_value)
    }

    /// The names of the key columns, in key order.
    ///
    /// # Errors
    /// [`ReadError::UnknownTable`].
    pub fn key_names(&self, table: &TableRef) -> Result<Vec<String>, ReadError> {
        Ok(self.table(table)?.key_names().map(str::to_owned).collect())
    }

    fn key_of<T>(
        &self,
        table: &TableRef,
        given: &[T],
        read: fn(FieldType, &T) -> Result<Value, &'static str>,
    ) -> Result<Vec<Value>, ReadError> {
        let table = self.table(table)?;
        if given.len() > table.key_columns() {
            return Err(table.arity_error(given.len()));
        }
        let columns = table.key().iter().map(|index| &table.columns[*index]);
        columns.zip(given).map(|(column, part)| of_column(&table, column, |t| read(t, part))).collect()
    }
}

fn of_column(
    table: &Table,
    column: &Column,
    read: impl FnOnce(FieldType) -> Result<Value, &'static str>,
) -> Result<Value, ReadError> {
    // If another program declared the column with a type that no field has, the key is a text.
    let field_type = column.field_type().unwrap_or(FieldType::Text);
    let wrong = |wanted| ReadError::KeyType { table: table.table.clone(), column: column.name.clone(), wanted };
    read(field_type).map_err(wrong)
}

fn of_text(field_type: FieldType, text: &str) -> Result<Value, &'static str> {
    match field_type {
        FieldType::String | FieldType::Text => Ok(text_as_stored(text)),
        FieldType::Integer => text.parse().map(Value::Integer).map_err(|_| WHOLE),
        FieldType::Decimal => {
            let finite = text.parse().ok().filter(|number: &f64| number.is_finite());
            finite.map(Value::Real).ok_or(NUMBER)
        }
        FieldType::Binary | FieldType::ByteString => {
            let digits = text.strip_prefix(HEX).ok_or(HEX_BYTES)?;
            hex::decode(digits).map(Value::Blob).map_err(|_| HEX_BYTES)
        }
    }
}

const WHOLE: &str = "a whole number of 64 bits";
const NUMBER: &str = "a number";
const HEX_BYTES: &str = "bytes as 0x and two hexadecimal digits each";

fn of_value(field_type: FieldType, value: &Value) -> Result<Value, &'static str> {
    match (field_type, value) {
        (FieldType::String | FieldType::Text, Value::Text(text)) => Ok(text_as_stored(text)),
        (FieldType::String | FieldType::Text, _) => Err("a string"),
        (FieldType::Integer, Value::Integer(integer)) => Ok(Value::Integer(*integer)),
        (FieldType::Integer, Value::Real(real)) => whole(*real).map(Value::Integer).ok_or(WHOLE),
        (FieldType::Integer, _) => Err(WHOLE),
        (FieldType::Decimal, Value::Integer(_) | Value::Real(_)) => Ok(value.clone()),
        (FieldType::Decimal, _) => Err(NUMBER),
        (FieldType::Binary | FieldType::ByteString, Value::Text(text)) => {
            STANDARD.decode(text).map(Value::Blob).map_err(|_| BASE64)
        }
        (FieldType::Binary | FieldType::ByteString, _) => Err(BASE64),
    }
}

const BASE64: &str = "bytes as a string of padded base64";

/// The value as the LDB has it. The ledger writes a text with a NUL as the hex of its bytes, so the
/// LDB has bytes.
fn text_as_stored(text: &str) -> Value {
    if text.contains('\0') { Value::Blob(text.as_bytes().to_owned()) } else { Value::Text(text.to_owned()) }
}

/// Takes 5.0 as 5, as the executive does when it writes rows.
fn whole(real: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (real.fract() == 0.0 && (-LIMIT..LIMIT).contains(&real)).then_some(real as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_by_the_type_of_their_column() {
        use FieldType::*;
        let text = of_text;
        assert_eq!(text(String, ""), Ok(Value::from("")));
        assert_eq!(text(String, "0xff"), Ok(Value::from("0xff")));
        assert_eq!(text(String, "a\0"), Ok(Value::Blob(b"a\0".to_vec())));
        assert_eq!(text(Integer, "-9223372036854775808"), Ok(Value::Integer(i64::MIN)));
        assert_eq!(text(ByteString, "0x"), Ok(Value::Blob(vec![])));
        assert_eq!(text(ByteString, "0x00Ff"), Ok(Value::Blob(vec![0, 255])));
        assert_eq!(text(Decimal, "1e3"), Ok(Value::Real(1000.0)));
        for (t, bad, wanted) in [
            (Integer, "9223372036854775808", WHOLE),
            (Integer, "1.0", WHOLE),
            (Integer, "", WHOLE),
            (ByteString, "ff", HEX_BYTES),
            (ByteString, "0xf", HEX_BYTES),
            (ByteString, "", HEX_BYTES),
            (Decimal, "inf", NUMBER),
        ] {
            assert_eq!(text(t, bad), Err(wanted), "{t} {bad:?}");
        }
    }

    #[test]
    fn values_are_held_against_the_type_of_their_column() {
        use FieldType::*;
        assert_eq!(of_value(Integer, &Value::Real(5.0)), Ok(Value::Integer(5)));
        assert_eq!(of_value(ByteString, &Value::from("AP8=")), Ok(Value::Blob(vec![0, 255])));
        assert_eq!(of_value(Decimal, &Value::Integer(3)), Ok(Value::Integer(3)));
        for (t, bad, wanted) in [
            (Integer, Value::Real(5.5), WHOLE),
            (Integer, Value::Real(9_223_372_036_854_775_808.0), WHOLE),
            (Integer, Value::from("5"), WHOLE),
            (String, Value::Integer(5), "a string"),
            (String, Value::Null, "a string"),
            (ByteString, Value::from("AP8"), BASE64),
            (ByteString, Value::Integer(1), BASE64),
        ] {
            assert_eq!(of_value(t, &bad), Err(wanted), "{t} {bad:?}");
        }
    }
}
