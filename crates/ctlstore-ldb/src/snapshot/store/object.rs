//! The objects of stores: their size, identity and bytes, and the conditions of a put.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::BoxStream;

use ctlstore_core::Abort;

use super::error::StoreError;
use super::runtime::wait;

/// The metadata that the original's programs look for: base64 SHA-1 of the uncompressed file.
pub(super) const CHECKSUM: &str = "checksum";

/// The facts about an object that a store tells without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The last part of its key.
    pub name: String,
    /// Of the whole object, in bytes, also if only a part of it was asked for. `None` if a web
    /// server does not say.
    pub size: Option<u64>,
    /// Changes with the object's content. Not every web server has one.
    pub etag: Option<String>,
    /// The metadata `checksum`: base64 SHA-1 of the uncompressed file. Listings do not have it.
    pub checksum: Option<String>,
    pub modified: SystemTime,
}

/// Which bytes of an object to read.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The first byte.
    pub offset: u64,
    /// If set, the read fails once the object has another etag, so that a resumed read never mixes two objects.
    pub if_match: Option<String>,
}

/// The condition under which an object is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// No condition; an object that is there is replaced.
    None,
    /// There is no such object.
    Missing,
    /// It is there with this etag.
    Is(String),
}

/// The demands on a copied object.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedObject<'a> {
    /// Bytes as stored.
    pub bytes: u64,
    /// Lower-case hex, of the stored bytes.
    pub sha256: &'a str,
    /// The metadata `checksum` of the copy.
    pub checksum: &'a str,
}

/// An object that is read, from the asked offset to its end.
pub struct Object {
    pub info: ObjectInfo,
    pub(super) body: ObjectBody,
}

pub(super) enum ObjectBody {
    File { path: PathBuf, file: File },
    Bytes(Cursor<Vec<u8>>),
    Stream(Stream),
}

pub(super) type Chunk = Box<dyn AsRef<[u8]> + Send>;

pub(super) struct Stream {
    chunks: BoxStream<'static, Result<Chunk, StoreError>>,
    chunk: Option<Chunk>,
    /// The bytes of the chunk that were read already.
    taken: usize,
    place: String,
    /// The longest wait for the next byte.
    limit: Duration,
    abort: Abort,
}

impl Stream {
    pub(super) fn new(
        chunks: BoxStream<'static, Result<Chunk, StoreError>>,
        place: String,
        limit: Duration,
        abort: &Abort,
    ) -> Self {
        Self { chunks, chunk: None, taken: 0, place, limit, abort: abort.clone() }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        loop {
            if let Some(chunk) = &self.chunk {
                let left = &(**chunk).as_ref()[self.taken..];
                if !left.is_empty() {
                    let count = left.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&left[..count]);
                    self.taken += count;
                    return Ok(count);
                }
            }
            let chunks = &mut self.chunks;
            let next = async { chunks.next().await.transpose() };
            match wait(|| self.place.clone(), self.limit, &self.abort, next)? {
                Some(chunk) => {
                    self.chunk = Some(chunk);
                    self.taken = 0;
                }
                None => return Ok(0),
            }
        }
    }
}

impl Object {
    /// Reads on; 0 means the end.
    ///
    /// # Errors
    /// [`StoreError::Temporary`] when the connection broke and a few new ones did too.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        match &mut self.body {
            ObjectBody::File { path, file } => file.read(buffer).map_err(StoreError::io("read", path)),
            ObjectBody::Bytes(bytes) => Ok(bytes.read(buffer).unwrap_or(0)),
            ObjectBody::Stream(stream) => stream.read(buffer),
        }
    }
}

/// Its errors hold a [`StoreError`], which [`StoreError::of_io`] takes out.
impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(buffer)?)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("info", &self.info).finish_non_exhaustive()
    }
}
