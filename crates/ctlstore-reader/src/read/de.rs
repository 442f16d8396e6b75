//! Makes any type from a row or a column through serde. Entry points: [`Row::deserialize`] and
//! [`Row::get`]. The fields are read from SQLite's columns, without a copy in between.

mod column;
mod error;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::ReadError;
use super::row::Row;
use column::ColumnDeserializer;
use error::DeserializeError;

impl<'r> Row<'r> {
    /// One column, as any type that serde can make of it: `&str`, `&[u8]`, `i64`, `Option<f64>`, or
    /// an enum of unit variants from text.
    ///
    /// # Errors
    /// [`ReadError::MissingColumn`]; [`ReadError::WrongType`] if the type can't have the value. NULL
    /// needs an `Option`.
    pub fn get<T: Deserialize<'r>>(self, column: &str) -> Result<T, ReadError> {
        let table = &self.table().table;
        let missing = || ReadError::MissingColumn { table: table.clone(), column: column.to_owned() };
        let index = self.index(column).ok_or_else(missing)?;
        T::deserialize(ColumnDeserializer::new(self, index))
            .map_err(|refused| refused.in_column(self.column_name(index)).into_error(table))
    }

    /// The whole row, as a struct whose fields have the names of the columns, a map, or a tuple of
    /// the columns in order. Fields may borrow: `&'a str`, `&'a [u8]`. Columns that the struct does
    /// not name are skipped. A field with `#[serde(default)]` or of type `Option` need not be a
    /// column of the table.
    ///
    /// # Errors
    /// [`ReadError::MissingColumn`] and [`ReadError::WrongType`], which name the column;
    /// [`ReadError::Refused`] with the message of a type's own code.
    pub fn deserialize<T: Deserialize<'r>>(self) -> Result<T, ReadError> {
        T::deserialize(RowDeserializer { row: self }).map_err(|refused| refused.into_error(&self.table().table))
    }
}

/// A row as a map of columns to values, or as a sequence of its values.
struct RowDeserializer<'de> {
    row: Row<'de>,
}

impl<'de> RowDeserializer<'de> {
    fn columns(self) -> Columns<'de> {
        Columns { row: self.row, next: 0, end: self.row.len() }
    }
}

impl<'de> Deserializer<'de> for RowDeserializer<'de> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_map(self.columns())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_seq(self.columns())
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_seq(self.columns())
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        visitor.visit_seq(self.columns())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_some(self)
    }

    /// `()` asks only whether there is a row.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit_struct map struct enum identifier
    }
}

struct Columns<'de> {
    row: Row<'de>,
    next: usize,
    end: usize,
}

impl<'de> MapAccess<'de> for Columns<'de> {
    type Error = DeserializeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeserializeError> {
        if self.next == self.end {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(self.row.column_name(self.next))).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeserializeError> {
        let index = self.next;
        self.next += 1;
        let value = seed.deserialize(ColumnDeserializer::new(self.row, index));
        value.map_err(|refused| refused.in_column(self.row.column_name(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}

impl<'de> SeqAccess<'de> for Columns<'de> {
    type Error = DeserializeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeserializeError> {
        if self.next == self.end {
            return Ok(None);
        }
        self.next_value_seed(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}
