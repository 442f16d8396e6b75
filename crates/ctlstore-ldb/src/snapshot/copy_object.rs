//! A published object under another name at the same destination: by the store itself,
//! or where that refuses or fails, by way of this host.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use ctlstore_core::Abort;

use super::manifest::Manifest;
use super::store::{Part, Store, StoreError};

const CHUNK: usize = 256 << 10;

/// Copies what the manifest names to `to`.
///
/// # Errors
/// At `to` is what was there before.
pub(super) fn copy(store: &Store, manifest: &Manifest, to: &str, abort: &Abort) -> Result<(), StoreError> {
    match store.copy(&manifest.key, to, abort) {
        Ok(()) => Ok(()),
        Err(error @ (StoreError::Aborted | StoreError::DiskFull(_) | StoreError::NotFound { .. })) => Err(error),
        // Above some size, or without a right of its own, stores copy nothing.
        Err(_) => carry(store, manifest, to, abort),
    }
}

fn carry(store: &Store, manifest: &Manifest, to: &str, abort: &Abort) -> Result<(), StoreError> {
    let failed = |name: &str, error: io::Error| StoreError::of_io("copy", name.as_ref(), error);
    let mut object = store.get(&manifest.key, &Part::default(), abort)?;
    let mut upload = store.upload(to, Some(&manifest.sha1), manifest.stored_bytes, abort)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        if abort.is_aborted() {
            return Err(StoreError::Aborted);
        }
        let count = object.read(&mut chunk).map_err(|error| failed(&manifest.key, error))?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        upload.write_all(&chunk[..count]).map_err(|error| failed(to, error))?;
    }
    if hex::encode(hash.finalize()) != manifest.stored_sha256 {
        let reason = "its bytes are not those that its manifest speaks of".to_owned();
        return Err(StoreError::Other { place: store.place(&manifest.key), reason });
    }
    upload.finish()
}
