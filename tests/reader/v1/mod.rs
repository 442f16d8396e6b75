//! The reader's routes under /v1 over real sockets: rows by key, by page and in batches, and refused
//! requests.

mod answers;
mod batches;
mod changing;
mod fixture;
mod manual;
mod pages;
mod rows;
mod tables;
mod types;
