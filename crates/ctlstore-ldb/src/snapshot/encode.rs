//! Sends a finished snapshot into a store. Entry point: [`store`]. It compresses the file on
//! the way, and hashes the bytes that it reads and the bytes that are stored.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder as ZstdEncoder;

use ctlstore_core::Abort;

use super::error::SnapshotError;
use super::manifest::{Compression, FORMAT_VERSION, Manifest};
use super::progress::{Phase, SnapshotProgress};
use super::store::{Store, StoreError, Upload};
use super::take::Snapshot;

const CHUNK: usize = 256 << 10;
/// Higher levels cost more time than the bytes that they save are worth.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// The object that was stored for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredObject {
    pub(super) bytes: u64,
    /// Lower-case hex.
    pub(super) sha256: String,
}

impl StoredObject {
    /// The manifest of the snapshot that was stored so under `key`.
    pub(super) fn manifest(self, snapshot: &Snapshot, key: String, compression: Compression) -> Manifest {
        let position = &snapshot.position;
        Manifest {
            format_version: FORMAT_VERSION,
            ledger_id: position.ledger_id.clone(),
            seq: position.seq.0,
            leader_ts: position.leader_ts.map(|at| at.to_string()),
            taken_at: snapshot.taken_at.to_string().replacen(' ', "T", 1),
            key,
            compression,
            bytes: snapshot.bytes,
            sha256: snapshot.sha256.clone(),
            sha1: snapshot.sha1.clone(),
            stored_bytes: self.bytes,
            stored_sha256: self.sha256,
            sqlite_version: rusqlite::version().to_owned(),
            tables: snapshot.tables.clone(),
        }
    }
}

/// Stores the snapshot under `name`.
///
/// # Errors
/// No object is stored then. [`SnapshotError::Damaged`] if the file changed after it was checked.
pub(super) fn store(
    snapshot: &Snapshot,
    compression: Compression,
    store: &Store,
    name: &str,
    abort: &Abort,
    progress: &dyn SnapshotProgress,
) -> Result<StoredObject, SnapshotError> {
    let path = &snapshot.path;
    let file = File::open(path).map_err(SnapshotError::io("open", path))?;
    let mut source = SnapshotFile { file, path, bytes: snapshot.bytes, hash: Sha256::new(), abort, progress };
    // A file that does not compress becomes a little larger.
    let most = snapshot.bytes + snapshot.bytes / 100 + (1 << 20);
    let upload = store.upload(name, Some(&snapshot.sha1), most, abort)?;
    let sink = HashingUpload { upload, hash: Sha256::new(), bytes: 0 };
    let sink = match compression {
        Compression::None => source.pump(sink)?,
        Compression::Gzip => {
            let encoder = GzEncoder::new(sink, flate2::Compression::new(GZIP_LEVEL));
            let encoder = source.pump(encoder)?;
            encoder.finish().map_err(|error| written(name, error))?
        }
        Compression::Zstd => {
            let mut encoder = ZstdEncoder::new(sink, ZSTD_LEVEL).map_err(|error| written(name, error))?;
            encoder.include_checksum(true).map_err(|error| written(name, error))?;
            let encoder = source.pump(encoder)?;
            encoder.finish().map_err(|error| written(name, error))?
        }
    };
    if hex::encode(source.hash.finalize()) != snapshot.sha256 {
        let report = "its bytes changed after they were checked".to_owned();
        return Err(SnapshotError::Damaged { path: path.clone(), report });
    }
    let HashingUpload { upload, hash, bytes } = sink;
    upload.finish()?;
    Ok(StoredObject { bytes, sha256: hex::encode(hash.finalize()) })
}

/// The snapshot's file, hashed while it is read.
struct SnapshotFile<'a> {
    file: File,
    path: &'a Path,
    bytes: u64,
    hash: Sha256,
    abort: &'a Abort,
    progress: &'a dyn SnapshotProgress,
}

impl SnapshotFile<'_> {
    fn pump<W: Write>(&mut self, mut into: W) -> Result<W, SnapshotError> {
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        loop {
            self.abort.check()?;
            self.progress.at(Phase::Publish, done, Some(self.bytes));
            let count = self.file.read(&mut buffer).map_err(SnapshotError::io("read", self.path))?;
            if count == 0 {
                return Ok(into);
            }
            self.hash.update(&buffer[..count]);
            into.write_all(&buffer[..count]).map_err(|error| written("a snapshot", error))?;
            done += count as u64;
        }
    }
}

fn written(name: &str, error: io::Error) -> SnapshotError {
    StoreError::of_io("write", Path::new(name), error).into()
}

/// Counts and hashes the bytes that are stored.
struct HashingUpload {
    upload: Upload,
    hash: Sha256,
    bytes: u64,
}

impl Write for HashingUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.upload.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.upload.flush()
    }
}
