//! What the integration tests stand on: private database servers, the real node as a process, a small HTTP
//! client, and the one place that polls. It knows the binary only by its command line, its configuration keys
//! and its HTTP interfaces, never by the crate's types.
//!
//! Nothing made here outlives the test binary, however it ends: processes are killed by the kernel and scratch
//! directories are removed by a process that waits for the binary's end.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod client;
pub mod database;
pub mod http;
pub mod node;
pub mod original;
pub mod port;
pub mod process;
pub mod s3;
pub mod server;
pub mod small_disk;
pub mod sql;
pub mod wait;
pub mod web;

pub use client::Client;
pub use database::{TestDatabase, every_ctldb, mariadb, mysql56, sqlite};
pub use node::{Node, NodeProcess};
pub use process::scratch_dir;
pub use server::{Flavour, PrivateServer};
pub use small_disk::SmallDisk;
pub use wait::wait_until;
pub use web::Web;
