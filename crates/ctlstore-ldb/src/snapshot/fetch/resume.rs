//! Reads an object as one unbroken stream. If the connection breaks, [`Resuming`] goes on at
//! the same byte, as long as the store still has the same object.

use std::io::{self, Read};
use std::time::Duration;

use ctlstore_core::Abort;

use crate::snapshot::store::{Object, ObjectInfo, Part, StoreError};

use super::error::FetchError;

/// Times that a connection may break without a byte in between.
const MAX_TRIES: u32 = 5;
/// The pause before the first new try. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes that are read at once from a server that sends known bytes again.
const SKIPPED_AT_ONCE: usize = 64 * 1024;
/// How long an abort may go unnoticed during a pause.
const ABORT_CHECK: Duration = Duration::from_millis(50);

/// Opens a part of the object.
pub type OpenPart<'a> = dyn Fn(&Part) -> Result<Object, StoreError> + 'a;

/// The object from its first byte to its last. Its errors hold a [`FetchError`].
pub struct Resuming<'a> {
    open: &'a OpenPart<'a>,
    object: Object,
    /// Bytes read.
    position: u64,
    /// New tries since the last byte.
    tries: u32,
    /// Whether the caller compares the whole stream with a hash.
    is_hashed: bool,
    abort: &'a Abort,
}

impl<'a> Resuming<'a> {
    /// With `is_hashed`, the same size and time are enough to go on with the rest. If it is the
    /// rest of another object, the caller's hash will differ.
    pub fn open(open: &'a OpenPart<'a>, is_hashed: bool, abort: &'a Abort) -> Result<Self, StoreError> {
        Ok(Self { object: open(&Part::default())?, open, position: 0, tries: 0, is_hashed, abort })
    }

    pub fn info(&self) -> &ObjectInfo {
        &self.object.info
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        loop {
            let broke = match self.object.read_some(buffer) {
                Ok(0) if let Some(size) = self.missing_from().filter(|_| !buffer.is_empty()) => {
                    let place = self.object.info.name.clone();
                    let reason = format!("ends after {} of {size} bytes", self.position);
                    StoreError::Temporary { place, reason }
                }
                Ok(length) => {
                    self.position += length as u64;
                    self.tries = 0;
                    return Ok(length);
                }
                Err(error) => error,
            };
            self.resume(broke)?;
        }
    }

    /// The object's size, if it is known and not all of it was read.
    fn missing_from(&self) -> Option<u64> {
        self.object.info.size.filter(|size| self.position < *size)
    }

    /// Opens the rest of the object, or gives the error that the connection broke with.
    fn resume(&mut self, broke: StoreError) -> Result<(), StoreError> {
        // Without an etag or a hash nothing tells whether the rest belongs to the first part.
        let is_known = strong(&self.object.info).is_some() || self.is_hashed;
        if !is_known || !(broke.is_temporary() || is_without_ranges(&broke)) {
            return Err(broke);
        }
        let mut last = broke;
        while self.tries < MAX_TRIES {
            self.pause()?;
            self.tries += 1;
            match self.open_rest() {
                Ok(object) => {
                    self.object = object;
                    return Ok(());
                }
                Err(error) if error.is_temporary() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn open_rest(&self) -> Result<Object, StoreError> {
        let rest = Part { offset: self.position, if_match: strong(&self.object.info) };
        let (mut object, mut skip) = match (self.open)(&rest) {
            // This server can only begin at the start, so the known bytes are skipped.
            Err(error) if is_without_ranges(&error) => ((self.open)(&Part { offset: 0, ..rest })?, self.position),
            opened => (opened?, 0),
        };
        if !is_same(&object.info, &self.object.info) {
            // The server ignored the condition, or was given none.
            return Err(StoreError::Changed { place: object.info.name });
        }
        let mut known = vec![0; SKIPPED_AT_ONCE];
        while skip > 0 {
            let most = known.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            match object.read_some(&mut known[..most])? {
                0 => return Err(StoreError::Changed { place: object.info.name }),
                length => skip -= length as u64,
            }
        }
        Ok(object)
    }

    fn pause(&self) -> Result<(), StoreError> {
        let full = PAUSE * (1 << self.tries);
        let mut left = full.mul_f64(rand::random_range(0.5..=1.0));
        while !left.is_zero() {
            if self.abort.is_aborted() {
                return Err(StoreError::Aborted);
            }
            let step = left.min(ABORT_CHECK);
            std::thread::sleep(step);
            left -= step;
        }
        Ok(())
    }
}

/// An etag that stands for the very bytes. A weak etag may stay the same when the bytes
/// change. A server that is asked for a weak one must answer that it does not match.
fn strong(info: &ObjectInfo) -> Option<String> {
    info.etag.clone().filter(|etag| !etag.starts_with("W/"))
}

/// Whether both describe one object, as far as the store can tell.
fn is_same(one: &ObjectInfo, other: &ObjectInfo) -> bool {
    // A server that sends the whole without a length may tell the length with a part.
    let is_size_same = one.size.zip(other.size).is_none_or(|(one, other)| one == other);
    is_size_same && (&one.etag, one.modified) == (&other.etag, other.modified)
}

/// Whether the error may come from a server that can't begin at an offset. It can also come
/// during reading, because a store's client resumes too.
fn is_without_ranges(error: &StoreError) -> bool {
    matches!(error, StoreError::Unsupported { .. } | StoreError::Other { .. })
}

impl Read for Resuming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| io::Error::other(FetchError::from(error)))
    }
}
