//! Reads the LDB with one connection on one thread: rows by their key, as values or as JSON, and how
//! far the LDB has come. Entry point: [`LdbReader`].
//!
//! The file is opened read-only. Other processes read it too, and one process writes it. A reader
//! can start before the file exists, and it follows a file that replaces the first one. This room
//! uses no runtime and no HTTP and logs nothing: errors are returned.

mod caught_up;
mod de;
mod error;
mod file;
mod follow;
mod json;
mod key;
mod ldb_reader;
mod measure;
mod page;
mod position;
pub mod query;
mod query_clock;
mod read_transaction;
mod request_key;
mod rotation;
mod row;
mod scan;
mod table;
mod typed_key;
mod value;
mod wal_index;

pub use caught_up::{CaughtUpMark, written_at};
pub use error::ReadError;
pub use follow::{VERSION_DIGITS, VERSIONED_LDB, is_version};
pub use json::AnswerLimits;
pub use key::{Key, KeyPart};
pub use ldb_reader::LdbReader;
pub use measure::TableSize;
pub use page::{Page, PageLimits, PagePlace};
pub use position::LastApplied;
pub use read_transaction::{ReadTransaction, ReadTransactionScan};
pub use request_key::KeyValue;
pub use rotation::Rotation;
pub(crate) use rotation::{millis, now_millis};
pub use row::Row;
pub(crate) use scan::BufferedScan;
pub use value::{Value, ValueRef};
