//! Reads rows of the LDB, the local database of ctlstore, for programs on the same host. A read
//! takes microseconds and can come from any thread. Entry point: [`Reader`]. It follows the LDB
//! through schema changes and replaced files; it writes nothing and starts no thread.
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
//! [`RotatingReader`] reads several LDBs in turn. [`changelog::Follower`] follows the changelog
//! that the applier writes beside the LDB. [`read`] is the layer below: one connection for one
//! thread. ctlstore's own servers use it.
//!
//! This crate has no actors, no HTTP and no runtime, and it logs nothing: errors are returned. It
//! uses only `ctlstore-core`.

// Outside of tests, a failure is an error or an `expect` that names the broken invariant.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod changelog;
pub mod read;
mod reader;

#[doc(inline)]
pub use ctlstore_core::ledger::{LdbPosition, Seq};
#[doc(inline)]
pub use ctlstore_core::schema::{Field, FieldType, TableRef, TableSchema, Timestamp};
#[doc(inline)]
pub use read::{Key, KeyPart, ReadError, ReadTransaction, ReadTransactionScan, Row, Value, ValueRef};
#[doc(inline)]
pub use reader::{Reader, RotatingReader, Scan};
