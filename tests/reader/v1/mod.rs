//! The reader's routes under /v1 over real sockets: what they find, by which keys, page
//! by page and in batches, and what they refuse.

mod answers;
mod batches;
mod changing;
#[path = "../ldb_support/mod.rs"]
mod ldb_support;
mod manual;
mod pages;
#[path = "../reader_server/mod.rs"]
mod reader_server;
mod rows;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod types;
