//! The node: actors, HTTP servers, settings, metrics and the command line of ctlstore. It is a
//! library so that tests and benchmarks can use its parts; the program is `main.rs`.
//!
//! Data, files and databases are crates of their own under `crates/`: `ctlstore-core`,
//! `ctlstore-reader` (what other programs depend on), `ctlstore-sqlite`, `ctlstore-ldb` and
//! `ctlstore-ctldb`. In this crate `messages → http → actors → node → cli` are layers; each uses only
//! those before it. `backoff`, `config`, `metrics`, `signals` and `telemetry` are beside them.
//! ARCHITECTURE.md has the map, and DESIGN.md the reasons.

// Outside of tests a failure is an error, or an `expect` that names the invariant it breaks.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod actors;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod http;
pub mod messages;
pub mod metrics;
pub mod node;
pub mod signals;
pub mod telemetry;
