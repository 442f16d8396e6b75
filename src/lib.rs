//! ctlstore keeps a full copy of control-plane data on every host, in a local
//! SQLite file (the LDB) that is fed by an ordered ledger of changes.
//!
//! Programs that read the LDB use [`Reader`]; the feature `reader` is all that it needs:
//!
//! ```toml
//! ctlstore = { version = "0.1", default-features = false, features = ["reader"] }
//! ```
//!
//! The modules are layers: each uses only those before it.
//! `schema → sql → ledger → { ctldb, ldb, changelog, snapshot } → reader → executive →
//! messages → http → actors → node → cli`; `backoff`, `config`, `disk`, `metrics`,
//! `telemetry` and `failpoint` stand beside them. ARCHITECTURE.md has the map.

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
pub mod telemetry;
