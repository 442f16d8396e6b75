//! The reader library: rows of the LDB for programs on the same host, in
//! microseconds, from any thread. It follows the LDB through schema changes and
//! replaced files; it writes nothing and starts no thread.
//!
//! It stands on `ldb::read`, where one connection serves one thread; here connections
//! are shared out among threads, and reads can ask how old the data may be. It
//! builds with the feature `reader` alone: no actors, HTTP, runtime or logging.
//!
//! ```
//! # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
//! # let ldb = small::SmallLdb::new();
//! use ctlstore::Reader;
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Flag {
//!     name: String,
//!     on: bool,
//!     note: Option<String>,
//! }
//!
//! # let path = ldb.path();
//! let reader = Reader::open(path)?; // or Reader::open_default()?
//! let flag: Option<Flag> = reader.get("shop", "flags", "dark-mode")?;
//! assert!(flag.is_some_and(|flag| flag.on));
//!
//! for flag in reader.scan_prefix::<Flag>("shop", "flags", ()) {
//!     let flag = flag?;
//!     println!("{}: {}", flag.name, flag.on);
//! }
//! # Ok::<(), ctlstore::ReadError>(())
//! ```

mod demands;
mod handle;
mod pool;
mod rotating;
mod scan;
mod threads;

pub use crate::ldb::read::{Key, KeyPart, ReadError, Row, Snapshot, SnapshotScan, Value, ValueRef};
pub use ctlstore_core::ledger::{LdbPosition, Seq};
pub use ctlstore_core::schema::{Field, FieldType, TableRef, TableSchema, Timestamp};
pub use handle::Reader;
pub use rotating::RotatingReader;
pub use scan::Scan;
