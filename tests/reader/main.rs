//! Reading the LDB: the library for Rust programs, the HTTP reader with its original and its /v1 routes, and queries.

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
