//! A finished snapshot on its way into a store: compressed as it goes, with the hashes
//! of what was read and of what was stored.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder as ZstdEncoder;

use ctlstore_core::Abort;

use super::error::SnapshotError;
use super::manifest::Compression;
use super::progress::{Phase, Progress};
use super::store::{Store, StoreError, Upload};
use super::take::Snapshot;

const CHUNK: usize = 256 << 10;
/// Levels beyond these cost more time than the bytes they save are worth.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) bytes: u64,
    /// Lower-case hex.
    pub(super) sha256: String,
}

/// Stores the snapshot under `name`.
///
/// # Errors
/// Nothing is there then. [`SnapshotError::Damaged`] when the file is not what it was
/// when it was checked.
pub(super) fn store(
    snapshot: &Snapshot,
    compression: Compression,
    store: &Store,
    name: &str,
    abort: &Abort,
    progress: &dyn Progress,
) -> Result<Stored, SnapshotError> {
    let path = &snapshot.path;
    let file = File::open(path).map_err(SnapshotError::io("open", path))?;
    let mut source = Source { file, path, bytes: snapshot.bytes, hash: Sha256::new(), abort, progress };
    // Compression adds a little where it can't take away.
    let most = snapshot.bytes + snapshot.bytes / 100 + (1 << 20);
    let upload = store.upload(name, Some(&snapshot.sha1), most, abort)?;
    let sink = Sink { upload, hash: Sha256::new(), bytes: 0 };
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
    let Sink { upload, hash, bytes } = sink;
    upload.finish()?;
    Ok(Stored { bytes, sha256: hex::encode(hash.finalize()) })
}

/// The file as it is read.
struct Source<'a> {
    file: File,
    path: &'a Path,
    bytes: u64,
    hash: Sha256,
    abort: &'a Abort,
    progress: &'a dyn Progress,
}

impl Source<'_> {
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

/// Counts and hashes what goes into the upload.
struct Sink {
    upload: Upload,
    hash: Sha256,
    bytes: u64,
}

impl Write for Sink {
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
