//! Runs a query: one read-only SQL statement of a client, within limits of rows, bytes, time and
//! memory. Entry point: [`LdbReader::query`](super::LdbReader::query). The answer is JSON, and all
//! of it is of one point in time; the read transaction ends when the answer is complete.
//!
//! `authorizer` lists what a query may do. `sandbox` and `memory` enforce it, `query_clock` ends a
//! query in time, and `cost` bounds the length of its values.

mod answer;
mod authorizer;
pub mod cost;
mod error;
mod functions;
mod like;
mod limits;
pub mod memory;
pub mod restriction;
mod run;
mod sandbox;

pub use super::query_clock::Cancelled;
pub use answer::QueryAnswer;
pub use error::QueryError;
pub use limits::{MAX_VALUE_BYTES, QueryLimits};
pub use run::{Parameters, Query};
