//! One pass over a stream: decompressed, hashed on both sides, and written to a file.
//! Memory is bounded by a few buffers, whatever the snapshot's size.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::snapshot::{Phase, Progress};
use ctlstore_core::Abort;
use ctlstore_core::disk::{self, FILE_MODE, directory_of};

use super::decode::decode;
use super::error::{BadSnapshot, FetchError};
use super::remove;

/// Bytes that are written at once, and between two looks at the abort flag.
const CHUNK: usize = 256 * 1024;
/// Bytes that are written between two looks at the room that is left.
const BETWEEN_LOOKS: u64 = 4 << 20;

/// What the stream turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Bytes as stored, and as the file has them.
    pub stored_bytes: u64,
    pub bytes: u64,
    /// Lower-case hex.
    pub stored_sha256: String,
    pub sha256: String,
    /// Standard base64.
    pub sha1: String,
}

/// Who waits, and what is known beforehand.
pub struct Waiting<'a> {
    pub abort: &'a Abort,
    pub progress: &'a dyn Progress,
    /// Bytes of the stream.
    pub stored_bytes: Option<u64>,
    /// Bytes of the file; more are not taken.
    pub bytes: Option<u64>,
    /// Where the file's size is not known.
    pub limits: Limits,
}

/// What bounds a file whose size no manifest tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many times what is stored it may have, in bytes.
    pub max_expansion: u64,
    /// So many bytes may come of any stream, however small.
    pub always: u64,
}

impl Limits {
    fn most(self, stored_bytes: u64) -> u64 {
        stored_bytes.saturating_mul(self.max_expansion).max(self.always)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_expansion: 200, always: 1 << 30 }
    }
}

/// Writes what `stream` holds to a new file at `path`, and flushes it.
///
/// # Errors
/// Of the stream: the [`FetchError`] inside of the reader's own error, or
/// [`FetchError::Bad`] where it can't be decompressed. `url` names it there.
pub fn receive(url: &str, stream: &mut dyn Read, path: &Path, waiting: &Waiting<'_>) -> Result<Received, FetchError> {
    // A file that is not compressed is as long as its stream; a compressed one longer.
    refuse_without_room(path, waiting.bytes.or(waiting.stored_bytes).unwrap_or(1))?;
    let create = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let file = create.map_err(FetchError::io("make", path))?;
    write(url, stream, path, file, waiting).inspect_err(|_| remove(path))
}

fn write(
    url: &str,
    stream: &mut dyn Read,
    path: &Path,
    file: File,
    waiting: &Waiting<'_>,
) -> Result<Received, FetchError> {
    let mut stored = Stored { stream, waiting, hash: Sha256::new(), bytes: Rc::default() };
    let read = stored.bytes.clone();
    let mut out = Out { url, file, path, waiting, read, sha256: Sha256::new(), sha1: Sha1::new(), bytes: 0, looked: 0 };
    out.take_all(&mut stored)?;
    // Hashed to its end, though the decoder may have seen enough.
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
struct Out<'a> {
    url: &'a str,
    file: File,
    path: &'a Path,
    waiting: &'a Waiting<'a>,
    /// Bytes of the stream so far.
    read: Rc<Cell<u64>>,
    sha256: Sha256,
    sha1: Sha1,
    bytes: u64,
    /// Bytes written when the room was last looked at.
    looked: u64,
}

impl Out<'_> {
    fn take_all(&mut self, stored: &mut Stored<'_>) -> Result<(), FetchError> {
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
        if let Some(most) = self.waiting.bytes.filter(|most| self.bytes > *most) {
            let reason = BadSnapshot::Mismatch(format!("it has more than the {most} bytes that it should have"));
            return Err(FetchError::bad(self.url)(reason));
        }
        let (stored, limits) = (self.read.get(), self.waiting.limits);
        if self.waiting.bytes.is_none() && self.bytes > limits.most(stored) {
            let max_expansion = limits.max_expansion;
            return Err(FetchError::bad(self.url)(BadSnapshot::TooLarge { bytes: self.bytes, stored, max_expansion }));
        }
        if self.bytes - self.looked >= BETWEEN_LOOKS {
            self.looked = self.bytes;
            self.refuse_the_last_room()?;
        }
        self.sha256.update(chunk);
        self.sha1.update(chunk);
        self.file.write_all(chunk).map_err(|error| match FetchError::io("write", self.path)(error) {
            FetchError::DiskFull { .. } => self.no_room(),
            other => other,
        })
    }

    /// What is left is for what else the host writes.
    fn refuse_the_last_room(&self) -> Result<(), FetchError> {
        let directory = directory_of(self.path);
        match disk::usable_bytes(directory).map_err(FetchError::io("ask for the room in", directory))? {
            0 => Err(self.no_room()),
            _ => Ok(()),
        }
    }

    fn no_room(&self) -> FetchError {
        FetchError::NoRoom { path: self.path.to_owned(), more_than: self.bytes }
    }
}

/// The stream as it is stored, counted and hashed as it goes by.
struct Stored<'a> {
    stream: &'a mut dyn Read,
    waiting: &'a Waiting<'a>,
    hash: Sha256,
    bytes: Rc<Cell<u64>>,
}

impl Read for Stored<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.waiting.abort.is_aborted() {
            return Err(io::Error::other(FetchError::Aborted));
        }
        let length = self.stream.read(buffer)?;
        self.hash.update(&buffer[..length]);
        let bytes = self.bytes.get() + length as u64;
        self.bytes.set(bytes);
        self.waiting.progress.at(Phase::Fetch, bytes, self.waiting.stored_bytes);
        Ok(length)
    }
}

/// An error of the stream is its own; any other is the decoder's.
fn reading(url: &str, error: io::Error) -> FetchError {
    match error.downcast::<FetchError>() {
        Ok(own) => own,
        Err(error) => FetchError::bad(url)(BadSnapshot::Damaged(format!("can't be decompressed: {error}"))),
    }
}

fn refuse_without_room(path: &Path, wanted: u64) -> Result<(), FetchError> {
    let directory = directory_of(path);
    let free = disk::usable_bytes(directory).map_err(FetchError::io("ask for the room in", directory))?;
    match free < wanted {
        true => Err(FetchError::DiskFull { path: path.to_owned(), wanted: Some(wanted), free: Some(free) }),
        false => Ok(()),
    }
}
