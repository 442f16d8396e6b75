//! Ledger rows that no executive writes, and places on the disk where somebody has put
//! something else: neither harms an LDB, holds up a node's end or goes unsaid.

mod files;
mod limits;
mod rights;
mod stopping;
