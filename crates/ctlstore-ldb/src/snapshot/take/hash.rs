//! Hashes a finished file in one pass: SHA-256, and the SHA-1 that the original's programs
//! check. Entry point: [`hash_file`].

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use ctlstore_core::Abort;

use crate::snapshot::error::SnapshotError;
use crate::snapshot::progress::{Phase, SnapshotProgress};

/// Bytes read at a time. They stay in the processor's cache for both hashes.
const CHUNK: usize = 256 << 10;

/// A file's size and hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHashes {
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Standard base64.
    pub sha1: String,
}

/// Hashes the whole file. It must not be an LDB that this process has open: closing it here
/// would drop SQLite's locks on it.
pub fn hash_file(path: &Path, abort: &Abort, progress: &dyn SnapshotProgress) -> Result<FileHashes, SnapshotError> {
    let failed = |doing| SnapshotError::io(doing, path);
    let mut file = File::open(path).map_err(failed("open"))?;
    let total = file.metadata().map_err(failed("look at"))?.len();
    let mut sha256 = Sha256::new();
    let mut sha1 = Sha1::new();
    let mut bytes = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        abort.check()?;
        let read = file.read(&mut chunk).map_err(failed("read"))?;
        if read == 0 {
            break;
        }
        sha256.update(&chunk[..read]);
        sha1.update(&chunk[..read]);
        bytes += read as u64;
        progress.at(Phase::Hash, bytes, Some(total.max(bytes)));
    }
    Ok(FileHashes { bytes, sha256: hex::encode(sha256.finalize()), sha1: STANDARD.encode(sha1.finalize()) })
}
