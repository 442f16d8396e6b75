//! Snapshots: an LDB as one file from which a new host can start. [`take`] makes one while
//! the applier goes on, and checks it. A [`Publisher`] brings it to destinations, each of
//! which has a whole snapshot at every moment. [`fetch`] gets one from any place.
//! A [`Manifest`] describes a snapshot, and a [`Store`] is a place for such objects.
//!
//! Blocking code for threads of its own. It reads the LDB through SQLite and never writes to it.

mod destination;
mod destination_state;
mod digest;
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
pub use digest::{TableDigest, TableHasher, digests};
pub use error::SnapshotError;
pub use manifest::{Compression, Manifest, ManifestError};
pub use progress::{Phase, SnapshotProgress};
pub use publish_round::{DestinationResult, PublishRound, Publisher};
pub use snapshot_url::SnapshotUrl;
pub use store::{Store, StoreError};
pub use take::{Snapshot, take};
pub use verified::Verifier;
