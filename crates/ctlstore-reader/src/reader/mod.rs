//! The reader library: rows of the LDB for programs on the same host, in
//! microseconds, from any thread. It follows the LDB through schema changes and
//! replaced files; it writes nothing and starts no thread.
//!
//! It stands on `read`, where one connection serves one thread; here connections
//! are shared out among threads, and reads can ask how old the data may be.

mod freshness;
mod handle;
mod pool;
mod rotating;
mod scan;
mod threads;

pub use crate::read::{Key, KeyPart, ReadError, ReadTransaction, ReadTransactionScan, Row, Value, ValueRef};
pub use ctlstore_core::ledger::{LdbPosition, Seq};
pub use ctlstore_core::schema::{Field, FieldType, TableRef, TableSchema, Timestamp};
pub use handle::Reader;
pub use rotating::RotatingReader;
pub use scan::Scan;
