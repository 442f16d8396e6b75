//! Snapshots: an LDB as one file that a new host can start from. [`copy`] makes a
//! consistent one while the applier goes on, and checks it; a [`Destination`] takes
//! it in so that whoever looks there sees a whole snapshot or the one before it; a
//! [`Publisher`] does both, round after round.
//!
//! Blocking code for a thread of its own. It reads the LDB through SQLite alone and
//! never writes to it.

mod copy;
mod destination;
mod error;
mod file;
mod manifest;
mod publish;
pub mod store;

pub use copy::{Abort, Snapshot, TableDigest, copy};
pub use destination::{Destination, Published, Target};
pub use error::SnapshotError;
pub use manifest::{Compression, Manifest, ManifestError};
pub use publish::{Publisher, Round};
pub use store::{Store, StoreError};

/// The address of a snapshot, as the settings have it.
pub use crate::config::SnapshotUrl as StoreUrl;
