//! Snapshots: an LDB as one file that a new host can start from. [`take`] makes a
//! consistent one while the applier goes on, and checks it; a [`Publisher`] brings it,
//! round after round, to destinations where whoever looks sees a whole snapshot or the
//! one before it; a [`Manifest`] says what it is; a [`Store`] is any kind of place for
//! such objects.
//!
//! Blocking code for threads of its own. It reads the LDB through SQLite alone and
//! never writes to it.

mod copy_object;
mod destination;
mod encode;
mod error;
pub mod fetch;
mod gc;
mod manifest;
mod names;
mod priority;
mod progress;
mod publish_decision;
mod publish_round;
mod shared_copy;
mod snapshot_url;
pub mod store;
mod take;
mod verified;

pub use destination::{Delivered, Target};
pub use error::SnapshotError;
pub use manifest::{Compression, Manifest, ManifestError};
pub use progress::{Phase, Progress};
pub use publish_round::{DestinationResult, PublishRound, Publisher};
pub use snapshot_url::{SnapshotUrl, SnapshotUrl as StoreUrl};
pub use store::{Store, StoreError};
pub(crate) use take::table_digest;
pub use take::{Snapshot, TableDigest, TableHasher, digests, take};
pub use verified::Verifier;
