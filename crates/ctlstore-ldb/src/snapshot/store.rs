//! Stores: places for snapshots and their manifests. A [`Store`] is one object and its
//! siblings in a directory of files, in an object store, on a web server, or in a `data:`
//! URL. Calls block, and each ends without help: a store that stays silent is given up, and
//! an abort is noticed within 50 ms.
//!
//! Names are the last part of a key. This module knows nothing of what the objects hold.

mod client;
mod contain;
mod dispatch;
mod environment;
mod error;
mod local;
mod object;
mod redirects;
mod remote;
mod runtime;
mod upload;
mod web;

pub use client::StoreOptions;
pub use contain::{contained, is_contained, quiet_contained_panics};
pub use dispatch::Store;
pub use environment::set_s3_region;
pub use error::StoreError;
pub use object::{Condition, ExpectedObject, Object, ObjectInfo, Part};
pub use upload::Upload;
