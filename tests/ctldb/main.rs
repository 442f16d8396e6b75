//! The central database: what each kind of it must do, what MySQL's must do besides, and how its ledger is read.
//! `support_works` tests the tests' own servers and processes.

mod contract;
mod mysql;
mod source;
mod sqlite;
mod support_works;
mod trouble;
