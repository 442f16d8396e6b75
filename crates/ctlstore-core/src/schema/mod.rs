//! What a row is: names, field types, tables and values, as validated newtypes.
//! No I/O, no SQL text and no HTTP here; everything else builds on this room.

mod header_text;
mod name;
mod table;
mod timestamp;
mod value;

pub use header_text::{HeaderTextError, check_header_text};
pub use name::{FamilyName, FieldName, NameError, TableName, TableRef, WriterName};
pub use table::{Field, FieldType, TableError, TableSchema};
pub use timestamp::Timestamp;
pub use value::{MAX_VALUE_BYTES, Value, ValueError};
