//! The central database: the contract of every kind, the further tasks of a ctldb on MySQL, and reading its ledger.
//! `support_works` tests the tests' own servers and processes.

mod contract;
mod mysql;
mod source;
mod sqlite;
mod sqlite_wal;
mod support_works;
mod trouble;
