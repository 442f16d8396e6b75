//! Hashes of a finished file: SHA-256, and the SHA-1 that the original's programs
//! check, in one pass.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::snapshot::error::SnapshotError;
use crate::snapshot::progress::{Phase, Progress};
use ctlstore_core::Abort;

/// Bytes read at a time: what both hashes then find in the processor's cache.
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

/// Reads the whole file. It must be nobody's LDB: SQLite's locks on it, in this
/// process, would be lost.
pub fn hash_file(path: &Path, abort: &Abort, progress: &dyn Progress) -> Result<FileHashes, SnapshotError> {
    let failed = |doing| SnapshotError::io(doing, path);
    let mut file = File::open(path).map_err(failed("open"))?;
    let total = file.metadata().map_err(failed("look at"))?.len();
    let (mut sha256, mut sha1, mut bytes) = (Sha256::new(), Sha1::new(), 0);
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
    let (sha256, sha1) = (hex::encode(sha256.finalize()), STANDARD.encode(sha1.finalize()));
    Ok(FileHashes { bytes, sha256, sha1 })
}
