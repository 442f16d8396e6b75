//! What every part of ctlstore stands on: the names, types and values of tables
//! ([`schema`]), the ledger's SQL ([`sql`]), its rows and transactions ([`ledger`]), files
//! ([`disk`]) and the places where a test can end the process ([`failpoint`]).
//!
//! It knows no database and no runtime. The other crates use it; it uses none of them.

// Outside of tests a failure is an error, or an `expect` that names the invariant it breaks.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod abort;
pub mod disk;
pub mod failpoint;
pub mod ledger;
pub mod schema;
pub mod sql;

pub use abort::{Abort, Aborted};

/// What is printed instead of a secret. It is refused as a secret, so that
/// printed settings are not taken for real ones.
pub const MASK: &str = "***";
