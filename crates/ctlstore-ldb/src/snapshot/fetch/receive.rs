//! Writes a stream to a file in one pass: decompresses it, hashes both sides, and bounds its
//! size. Entry point: [`receive`]. Its memory is a few buffers, whatever the snapshot's size.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use ctlstore_core::Abort;
use ctlstore_core::disk::{self, directory_of, file_mode};

use crate::snapshot::progress::{Phase, SnapshotProgress};

use super::decode::decode;
use super::error::{BadSnapshot, FetchError};

/// Bytes that are written at once. The abort flag is checked once for each.
const CHUNK: usize = 256 * 1024;
/// Bytes that are written between two checks of the free space.
const SPACE_CHECK_BYTES: u64 = 4 << 20;

/// The sizes and hashes of a stream and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Lower-case hex.
    pub stored_sha256: String,
    pub sha256: String,
    /// Standard base64.
    pub sha1: String,
}

/// The facts that are known before the stream is read, and the receivers of abort and progress.
pub struct ReceiveContext<'a> {
    pub abort: &'a Abort,
    pub progress: &'a dyn SnapshotProgress,
    /// Bytes of the stream.
    pub stored_bytes: Option<u64>,
    /// Bytes of the file. A stream that holds more is refused.
    pub bytes: Option<u64>,
    /// Bounds a file whose size is not known.
    pub limits: ExpansionLimits,
}

/// Bounds the size of an unpacked snapshot if no manifest tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpansionLimits {
    /// The file may have this many times the bytes of the stream.
    pub max_expansion: u64,
    /// The file may have this many bytes in any case.
    pub always: u64,
}

impl ExpansionLimits {
    fn most(self, stored_bytes: u64) -> u64 {
        stored_bytes.saturating_mul(self.max_expansion).max(self.always)
    }
}

impl Default for ExpansionLimits {
    fn default() -> Self {
        Self { max_expansion: 200, always: 1 << 30 }
    }
}

/// Writes the file that `stream` holds to a new file at `path`, and flushes it.
///
/// # Errors
/// [`FetchError::Bad`] for a stream that can't be decompressed; `url` names it there. Errors
/// of reading are the [`FetchError`] within the reader's own error.
pub fn receive(
    url: &str,
    stream: &mut dyn Read,
    path: &Path,
    context: &ReceiveContext<'_>,
) -> Result<Received, FetchError> {
    // A file that is not compressed is as long as its stream; a compressed one longer.
    refuse_without_space(path, context.bytes.or(context.stored_bytes).unwrap_or(1))?;
    let create = OpenOptions::new().write(true).create_new(true).mode(file_mode()).open(path);
    let file = create.map_err(FetchError::io("make", path))?;
    write(url, stream, path, file, context).inspect_err(|_| remove(path))
}

/// Removes a downloaded file. An error here would say less than the one that led to it.
pub fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

fn write(
    url: &str,
    stream: &mut dyn Read,
    path: &Path,
    file: File,
    context: &ReceiveContext<'_>,
) -> Result<Received, FetchError> {
    let mut stored = StoredStream { stream, context, hash: Sha256::new(), bytes: Rc::default() };
    let mut out = OutputFile {
        url,
        file,
        path,
        context,
        read: Rc::clone(&stored.bytes),
        sha256: Sha256::new(),
        sha1: Sha1::new(),
        bytes: 0,
        space_checked_at: 0,
    };
    out.take_all(&mut stored)?;
    // The decoder may stop before the stream's end, and the hash is that of the whole stream.
    io::copy(&mut stored, &mut io::sink()).map_err(|error| reading(url, error))?;
    out.file.sync_all().map_err(FetchError::io("flush", path))?;
    Ok(Received {
        stored_bytes: stored.bytes.get(),
        bytes: out.bytes,
        stored_sha256: hex::encode(stored.hash.finalize()),
        sha256: hex::encode(out.sha256.finalize()),
        sha1: BASE64.encode(out.sha1.finalize()),
    })
}

/// The file that is being written.
struct OutputFile<'a> {
    url: &'a str,
    file: File,
    path: &'a Path,
    context: &'a ReceiveContext<'a>,
    /// Bytes of the stream so far.
    read: Rc<Cell<u64>>,
    sha256: Sha256,
    sha1: Sha1,
    bytes: u64,
    /// Bytes written when the free space was last checked.
    space_checked_at: u64,
}

impl OutputFile<'_> {
    fn take_all(&mut self, stored: &mut StoredStream<'_>) -> Result<(), FetchError> {
        let mut decoded = decode(stored).map_err(|error| reading(self.url, error))?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match decoded.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => self.take(&chunk[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reading(self.url, error)),
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.bytes += chunk.len() as u64;
        if let Some(most) = self.context.bytes.filter(|most| self.bytes > *most) {
            let reason = BadSnapshot::Mismatch(format!("it has more than the {most} bytes that it should have"));
            return Err(FetchError::bad(self.url)(reason));
        }
        let stored = self.read.get();
        let limits = self.context.limits;
        if self.context.bytes.is_none() && self.bytes > limits.most(stored) {
            let max_expansion = limits.max_expansion;
            return Err(FetchError::bad(self.url)(BadSnapshot::TooLarge { bytes: self.bytes, stored, max_expansion }));
        }
        if self.bytes - self.space_checked_at >= SPACE_CHECK_BYTES {
            self.space_checked_at = self.bytes;
            self.refuse_last_space()?;
        }
        self.sha256.update(chunk);
        self.sha1.update(chunk);
        self.file.write_all(chunk).map_err(|error| match FetchError::io("write", self.path)(error) {
            FetchError::DiskFull { .. } => self.no_space(),
            other => other,
        })
    }

    /// The last free bytes of the disk are for everything else that the host writes.
    fn refuse_last_space(&self) -> Result<(), FetchError> {
        let directory = directory_of(self.path);
        match disk::usable_bytes(directory).map_err(FetchError::io("ask for the room in", directory))? {
            0 => Err(self.no_space()),
            _ => Ok(()),
        }
    }

    fn no_space(&self) -> FetchError {
        FetchError::NoRoom { path: self.path.to_owned(), more_than: self.bytes }
    }
}

/// The compressed stream. Counts and hashes its bytes while they are read.
struct StoredStream<'a> {
    stream: &'a mut dyn Read,
    context: &'a ReceiveContext<'a>,
    hash: Sha256,
    bytes: Rc<Cell<u64>>,
}

impl Read for StoredStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.context.abort.is_aborted() {
            return Err(io::Error::other(FetchError::Aborted));
        }
        let length = self.stream.read(buffer)?;
        self.hash.update(&buffer[..length]);
        let bytes = self.bytes.get() + length as u64;
        self.bytes.set(bytes);
        self.context.progress.at(Phase::Fetch, bytes, self.context.stored_bytes);
        Ok(length)
    }
}

/// An error of the stream holds a [`FetchError`]; any other is the decoder's.
fn reading(url: &str, error: io::Error) -> FetchError {
    match error.downcast::<FetchError>() {
        Ok(own) => own,
        Err(error) => FetchError::bad(url)(BadSnapshot::Damaged(format!("can't be decompressed: {error}"))),
    }
}

fn refuse_without_space(path: &Path, wanted: u64) -> Result<(), FetchError> {
    let directory = directory_of(path);
    let free = disk::usable_bytes(directory).map_err(FetchError::io("ask for the room in", directory))?;
    if free < wanted {
        return Err(FetchError::DiskFull { path: path.to_owned(), wanted: Some(wanted), free: Some(free) });
    }
    Ok(())
}
