//! One column's value as a deserializer of serde. Entry point: [`ColumnDeserializer`].

use rusqlite::types::ValueRef as Stored;
use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::super::row::Row;
use super::super::value::ValueRef;
use super::error::DeserializeError;

/// Reads the column only when a type asks for it, so that a skipped column costs nothing.
pub(in super::super) struct ColumnDeserializer<'de> {
    row: Row<'de>,
    index: usize,
}

impl<'de> ColumnDeserializer<'de> {
    pub(in super::super) fn new(row: Row<'de>, index: usize) -> Self {
        Self { row, index }
    }
}

impl<'de> Deserializer<'de> for ColumnDeserializer<'de> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.row.at(self.index) {
            ValueRef::Null => visitor.visit_unit(),
            ValueRef::Integer(integer) => visitor.visit_i64(integer),
            ValueRef::Real(real) => visitor.visit_f64(real),
            ValueRef::Text(text) => visitor.visit_borrowed_str(text),
            ValueRef::Blob(bytes) => visitor.visit_borrowed_bytes(bytes),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.row.stored(self.index) {
            Stored::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// The database stores booleans as 1 and 0.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.row.stored(self.index) {
            Stored::Integer(integer @ 0..=1) => visitor.visit_bool(integer == 1),
            _ => self.deserialize_any(visitor),
        }
    }

    /// A text is also a sequence of bytes.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.row.stored(self.index) {
            Stored::Text(bytes) | Stored::Blob(bytes) => visitor.visit_borrowed_bytes(bytes),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        self.deserialize_bytes(visitor)
    }

    /// `Vec<u8>` and `[u8; N]` ask for a sequence.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.row.at(self.index) {
            ValueRef::Blob(bytes) => {
                let mut bytes = SeqDeserializer::new(bytes.iter().copied());
                let value = visitor.visit_seq(&mut bytes)?;
                bytes.end().map(|()| value)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DeserializeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        match self.row.at(self.index) {
            ValueRef::Text(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        unit unit_struct tuple_struct map struct identifier
    }
}
