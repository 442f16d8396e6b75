//! Ledger rows that no executive writes, and places on the disk where somebody has put
//! something else: neither harms an LDB, holds up a node's end or goes unsaid.

#[path = "../ldb_support/mod.rs"]
mod ldb_support;
#[path = "../support/mod.rs"]
mod support;

mod files;
mod limits;
mod rights;
mod stopping;
