//! The LDB: the local SQLite copy of the ctldb's rows on every host.

pub mod read;
