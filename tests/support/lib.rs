//! The support crate of the integration tests: private database servers, the real node as a process, a small HTTP
//! client, and the one place that polls. Most modules know the binary only by its command line, its configuration keys
//! and its HTTP interfaces. `ctldb`, `in_process`, `ldb`, `reader_server` and `snapshot` use the crates' types, for the
//! tests of their parts.
//!
//! Processes and directories that are made here never outlive the test binary, even if it is killed. The kernel kills
//! the processes, and a process that waits for the binary's end removes the scratch directories.

pub mod bootstrap;
pub mod client;
pub mod ctldb;
pub mod database;
pub mod feed;
pub mod http;
pub mod in_process;
pub mod ldb;
pub mod library;
pub mod node;
pub mod original;
pub mod port;
pub mod process;
pub mod prune;
pub mod reader_server;
pub mod s3;
pub mod server;
pub mod small_disk;
pub mod snapshot;
pub mod sql;
pub mod wait;
pub mod web;

pub use client::Client;
pub use database::{TestDatabase, every_ctldb, mariadb, mysql56, sqlite};
pub use node::{Node, NodeProcess};
pub use process::{binary, one_test, scratch_dir};
pub use server::{Flavour, PrivateServer};
pub use small_disk::SmallDisk;
pub use wait::wait_until;
pub use web::Web;
