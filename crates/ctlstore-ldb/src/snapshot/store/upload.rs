//! Writes an object to a store as a stream, with bounded memory. Entry point: [`Upload`]. The
//! object is there as a whole or not at all.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions};
use tokio::task::JoinSet;

use ctlstore_core::Abort;

use super::contain::contained;
use super::error::StoreError;
use super::local::LocalUpload;
use super::object::Condition;
use super::remote::{Remote, attributes};
use super::runtime::runtime;

/// The size of a part. Objects that would have too many parts have larger ones; a smaller
/// object goes up in one request.
const PART_BYTES: usize = 8 << 20;
/// The most parts of one object; stores take 10,000.
const MAX_PARTS: u64 = 9_000;
/// Parts that are sent at the same time, besides the one that is being filled.
const IN_FLIGHT: usize = 2;
/// The longest last request of a failed upload, which removes its parts.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// An object that is being written. It exists only after [`Upload::finish`] succeeded.
#[derive(Debug)]
pub struct Upload(UploadKind);

#[derive(Debug)]
enum UploadKind {
    Local(LocalUpload, Abort),
    Remote(Box<RemoteUpload>),
}

struct RemoteUpload {
    remote: Remote,
    name: String,
    key: Key,
    checksum: Option<String>,
    abort: Abort,
    part_bytes: usize,
    buffer: Vec<u8>,
    /// Set once there is more than one part.
    parts: Option<Box<dyn MultipartUpload>>,
    in_flight: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(super) fn local(upload: LocalUpload, abort: &Abort) -> Self {
        Self(UploadKind::Local(upload, abort.clone()))
    }

    /// `bytes` is the most that will be written.
    pub(super) fn remote(
        remote: &Remote,
        name: &str,
        checksum: Option<&str>,
        bytes: u64,
        abort: &Abort,
    ) -> Result<Self, StoreError> {
        let part_bytes = usize::try_from(bytes.div_ceil(MAX_PARTS)).unwrap_or(usize::MAX).max(PART_BYTES);
        Ok(Self(UploadKind::Remote(Box::new(RemoteUpload {
            key: remote.key(name)?,
            remote: remote.clone(),
            name: name.to_owned(),
            checksum: checksum.map(str::to_owned),
            abort: abort.clone(),
            part_bytes,
            buffer: Vec::new(),
            parts: None,
            in_flight: JoinSet::new(),
        }))))
    }

    /// Puts the object in place, whole and flushed.
    ///
    /// # Errors
    /// The place then holds what it held before.
    pub fn finish(self) -> Result<(), StoreError> {
        match self.0 {
            UploadKind::Local(upload, _) => upload.finish(),
            UploadKind::Remote(mut upload) => upload.finish(),
        }
    }
}

/// Its errors hold a [`StoreError`].
impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            UploadKind::Local(_, abort) if abort.is_aborted() => return Err(StoreError::Aborted.into()),
            UploadKind::Local(upload, _) => upload.write(bytes)?,
            UploadKind::Remote(upload) => upload.write(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RemoteUpload {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            if self.buffer.len() == self.part_bytes {
                self.send_part()?;
            }
            let count = bytes.len().min(self.part_bytes - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn send_part(&mut self) -> Result<(), StoreError> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.wait_for_part()?;
        }
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let store = Arc::clone(&self.remote.store);
                let attributes = attributes(self.checksum.as_deref());
                let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
                let begun = store.put_multipart_opts(&self.key, options);
                none.insert(self.remote.run(&self.name, &self.abort, begun)?)
            }
        };
        let buffer = mem::take(&mut self.buffer);
        let place = || self.remote.place(&self.name);
        let part = contained::<_, StoreError>(place, || Ok(parts.put_part(buffer.into())))?;
        self.in_flight.spawn_on(part, runtime()?.handle());
        Ok(())
    }

    fn wait_for_part(&mut self) -> Result<(), StoreError> {
        let done = async {
            match self.in_flight.join_next().await {
                Some(Ok(done)) => done,
                Some(Err(error)) => Err(object_store::Error::JoinError { source: error }),
                None => Ok(()),
            }
        };
        self.remote.run(&self.name, &self.abort, done)
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        if self.parts.is_none() {
            let bytes = mem::take(&mut self.buffer);
            let checksum = self.checksum.as_deref();
            return self.remote.put(&self.name, bytes, checksum, &Condition::None, &self.abort);
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        while !self.in_flight.is_empty() {
            self.wait_for_part()?;
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        self.remote.run(&self.name, &self.abort, parts.complete())?;
        self.parts = None;
        Ok(())
    }
}

/// Removes the parts that were sent, because a bucket charges for them until then.
impl Drop for RemoteUpload {
    fn drop(&mut self) {
        self.in_flight.abort_all();
        let Some(parts) = &mut self.parts else { return };
        if let Ok(runtime) = runtime() {
            // A lifecycle rule of the bucket removes parts that this could not remove.
            let _ = contained::<_, StoreError>(String::new, || {
                Ok(runtime.block_on(async { tokio::time::timeout(CLEAN_UP, parts.abort()).await }))
            });
        }
    }
}

impl fmt::Debug for RemoteUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteUpload").field("place", &self.remote.place(&self.name)).finish_non_exhaustive()
    }
}
