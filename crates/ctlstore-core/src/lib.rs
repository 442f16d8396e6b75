//! The ground on which all other crates of ctlstore stand. It uses no database, no runtime and no
//! other crate of ctlstore.
//!
//! [`schema`] has the names, types and values of tables. [`sql`] writes and parses the ledger's
//! statements. [`ledger`] has its rows and transactions, and says which ledger an LDB may follow.
//! [`disk`] opens files. [`failpoint`] names places at which a test ends the process.

// Outside of tests, a failure is an error or an `expect` that names the broken invariant.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod abort;
pub mod disk;
pub mod failpoint;
pub mod ledger;
pub mod schema;
pub mod sql;

pub use abort::{Abort, Aborted};

/// The text that is printed in the place of a secret. It is refused as a secret, so that printed
/// settings can't be used by mistake.
pub const MASK: &str = "***";
