//! Fetches snapshots. A snapshot is found by its manifest, or by its key if there is no
//! manifest. It is downloaded in one pass, and checked before anything uses it.
//!
//! - [`fetch`] keeps the file; [`verify`] removes it after the check.
//! - [`published_manifest`] reads the manifest alone. [`find`] also asks the store whether
//!   the data that the manifest names is there.
//! - [`SnapshotSources`] asks several places again and again, and remembers what was of no use.
//!
//! It replaces no LDB: `ClaimedLdb` does that with the fetched file.

mod candidate;
mod check;
mod decode;
mod download;
mod error;
mod overwritten;
mod receive;
mod resume;
mod sources;
mod wanted;

pub use candidate::{Candidate, find, published_manifest, still_has};
pub(super) use decode::is_compressed;
pub(super) use download::check_plain_object;
pub use download::{Fetched, fetch, verify};
pub use error::{BadSnapshot, FetchError, Unwanted};
pub use receive::ExpansionLimits;
pub use sources::SnapshotSources;
pub use wanted::Wanted;
