//! Rows of the LDB, the local database of ctlstore, for programs on the same host: in
//! microseconds, from any thread. [`Reader`] follows the LDB through schema changes and
//! replaced files; it writes nothing and starts no thread.
//!
//! ```toml
//! [dependencies]
//! ctlstore-reader = { git = "…" }
//! ```
//!
//! ```
//! # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/small_ldb.rs")); }
//! # let ldb = small::SmallLdb::new();
//! use ctlstore_reader::Reader;
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
//! # Ok::<(), ctlstore_reader::ReadError>(())
//! ```
//!
//! [`RotatingReader`] reads one of several LDBs in turn; [`changelog::Follower`] follows
//! the changelog that the applier writes beside the LDB. [`read`] is what stands below
//! them and what ctlstore's own servers read with: one connection for one thread.
//!
//! There are no actors, no HTTP, no runtime and no logging here: what goes wrong is
//! returned. ctlstore's other crates stand on this one; it knows only `ctlstore-core`.

// Outside of tests a failure is an error, or an `expect` that names the invariant it breaks.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod changelog;
pub mod read;
mod reader;

#[doc(inline)]
pub use reader::{
    Field, FieldType, Key, KeyPart, LdbPosition, ReadError, ReadTransaction, ReadTransactionScan, Reader,
    RotatingReader, Row, Scan, Seq, TableRef, TableSchema, Timestamp, Value, ValueRef,
};
