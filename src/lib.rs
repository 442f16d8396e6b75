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

#[cfg(feature = "node")]
pub mod actors;
#[cfg(feature = "node")]
pub mod backoff;
#[cfg(feature = "node")]
pub mod changelog;
/// The changelog, as programs follow it. Writing it is the node's.
#[cfg(not(feature = "node"))]
pub mod changelog {
    mod follow;
    mod lines;

    #[cfg(feature = "stream")]
    pub use follow::FollowerStream;
    pub use follow::{Entry, FollowError, Follower, KeyColumn, Position};
}
#[cfg(feature = "node")]
pub mod cli;
#[cfg(feature = "node")]
pub mod config;
#[cfg(feature = "node")]
pub mod ctldb;
pub mod disk;
#[cfg(feature = "node")]
pub mod executive;
#[cfg(feature = "node")]
pub mod failpoint;
#[cfg(feature = "node")]
pub mod http;
pub mod ldb;
pub mod ledger;
#[cfg(feature = "node")]
pub mod messages;
#[cfg(feature = "node")]
pub mod metrics;
#[cfg(feature = "node")]
pub mod node;
pub mod reader;
pub mod schema;
#[cfg(feature = "node")]
pub mod signals;
#[cfg(feature = "node")]
pub mod snapshot;
pub mod sql;
#[cfg(feature = "node")]
pub mod telemetry;

#[doc(inline)]
pub use reader::{ReadError, Reader, RotatingReader, Row, Seq, Snapshot, Value, ValueRef};
