//! Snapshots: an LDB as one file that a new host can start from. [`take`] makes a
//! consistent one while the applier goes on, and checks it; a [`Publisher`] brings it,
//! round after round, to destinations where whoever looks sees a whole snapshot or the
//! one before it; a [`Manifest`] says what it is; a [`Store`] is any kind of place for
//! such objects.
//!
//! Blocking code for threads of its own. It reads the LDB through SQLite alone and
//! never writes to it.

mod carry;
mod destination;
mod error;
pub mod fetch;
mod manifest;
mod names;
mod priority;
mod progress;
mod publish;
mod published;
mod snapshot_url;
mod staged;
pub mod store;
mod stream;
mod sweep;
mod take;
mod verified;

pub use destination::{Delivered, Target};
pub use error::SnapshotError;
pub use manifest::{Compression, Manifest, ManifestError};
pub use progress::{Phase, Progress};
pub use publish::{Ended, Publisher, Round};
pub use snapshot_url::{SnapshotUrl, SnapshotUrl as StoreUrl};
pub use store::{Store, StoreError};
pub(crate) use take::table_digest;
pub use take::{Snapshot, TableDigest, TableHasher, digests, take};
pub use verified::Verifier;
