//! Tests of reading the LDB: the library for Rust programs, the HTTP reader with the Go program's routes
//! and those under /v1, and queries.

mod actor;
mod follow;
mod freshness;
mod http;
mod library;
mod library_files;
mod library_live;
mod permissions;
mod query;
mod shared_transaction;
mod standalone_program;
mod v1;
