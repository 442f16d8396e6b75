//! The reader's routes under /v1 over real sockets: what they find, by which keys, page
//! by page and in batches, and what they refuse.

mod answers;
mod batches;
mod changing;
mod fixture;
mod manual;
mod pages;
mod rows;
mod tables;
mod types;
