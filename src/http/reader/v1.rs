//! The reader's own routes under `/v1`, beside those that the original has. Each group of routes has
//! a file. They read through the worker of their thread, as all reads do. Every answer is read at
//! one point in time, and says at which seq (`answer`).
//!
//! Errors are plain text here too, so that all routes have one kind of error.

mod address;
mod answer;
mod batch;
mod cursor;
mod etag;
mod families;
mod query;
mod rows;

use crate::http::openapi::Operation;

pub fn operations() -> Vec<Operation> {
    let mut all = families::operations();
    all.extend(rows::operations());
    all.push(batch::operation());
    all.push(query::operation());
    all
}
