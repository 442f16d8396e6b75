//! Names, field types, tables, values and times, each checked when it is made.
//! This room does no I/O and knows neither SQL text nor HTTP; all other modules stand on it.

mod header_text;
mod name;
mod table;
mod timestamp;
mod value;

pub use header_text::{HeaderTextError, check_header_text};
pub use name::{FamilyName, FieldName, NameError, TableName, TableRef, WriterName};
pub use table::{Field, FieldType, TableError, TableSchema};
pub use timestamp::Timestamp;
pub use value::{FieldValue, MAX_VALUE_BYTES, ValueError};
