//! [`Store`]: one object, named by its URL, and the siblings in its directory. Each call goes
//! to the kind of store that the URL names: `local`, `remote`, `web`, or the bytes of a
//! `data:` URL.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use ctlstore_core::Abort;

use crate::snapshot::snapshot_url::SnapshotUrl;

use super::client::StoreOptions;
use super::error::StoreError;
use super::local::{Local, LocalUpload};
use super::object::{Condition, ExpectedObject, Object, ObjectBody, ObjectInfo, Part};
use super::remote::Remote;
use super::upload::Upload;
use super::web::Web;

/// Bytes that are moved at once by way of this host.
const CHUNK: usize = 256 << 10;
/// One object, named by its URL, and its siblings.
#[derive(Debug, Clone)]
pub struct Store {
    url: SnapshotUrl,
    name: String,
    kind: StoreKind,
}

#[derive(Debug, Clone)]
enum StoreKind {
    Local(Local),
    Remote(Remote),
    Web(Web),
    Data(Vec<u8>),
}

impl Store {
    /// Opens neither file nor connection yet.
    ///
    /// # Errors
    /// Variables of the environment that can't be used.
    pub fn open(url: &SnapshotUrl) -> Result<Self, StoreError> {
        Self::with_options(url, &StoreOptions::default())
    }

    /// # Errors
    /// As [`Store::open`].
    pub fn with_options(url: &SnapshotUrl, options: &StoreOptions) -> Result<Self, StoreError> {
        let shown = url.to_string();
        let name = url.name();
        let kind = match url {
            SnapshotUrl::File(path) => StoreKind::Local(Local::open(path)),
            SnapshotUrl::Store(address) => StoreKind::Remote(Remote::open(address, &shown, options)?),
            SnapshotUrl::Http(address) => StoreKind::Web(Web::open(address, name.clone(), &shown, options.silence)?),
            SnapshotUrl::Data(bytes) => StoreKind::Data(bytes.clone()),
        };
        Ok(Self { url: url.clone(), name, kind })
    }

    /// The last part of the URL's key.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn url(&self) -> &SnapshotUrl {
        &self.url
    }

    /// The path of the object, if objects are files here.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match &self.kind {
            StoreKind::Local(local) => Some(local.path(name)),
            _ => None,
        }
    }

    /// # Errors
    /// [`StoreError::NotFound`] if there is no such object.
    pub fn head(&self, name: &str, abort: &Abort) -> Result<ObjectInfo, StoreError> {
        match &self.kind {
            StoreKind::Local(local) => local.head(name),
            StoreKind::Remote(remote) => remote.head(name, abort),
            StoreKind::Web(web) => web.head(name, abort),
            StoreKind::Data(bytes) => self.data(name, bytes),
        }
    }

    /// Begins to read an object. A connection that breaks is made again a few times.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Changed`] if it has another etag than asked for;
    /// [`StoreError::Unsupported`] from a server that can't begin at an offset.
    pub fn get(&self, name: &str, part: &Part, abort: &Abort) -> Result<Object, StoreError> {
        match &self.kind {
            StoreKind::Local(local) => local.get(name, part),
            StoreKind::Remote(remote) => remote.get(name, part, abort),
            StoreKind::Web(web) => web.get(name, part, abort),
            StoreKind::Data(bytes) => {
                let info = self.data(name, bytes)?;
                let mut body = Cursor::new(bytes.clone());
                body.set_position(part.offset);
                Ok(Object { info, body: ObjectBody::Bytes(body) })
            }
        }
    }

    /// Reads all of a small object.
    ///
    /// # Errors
    /// Those of [`Store::get`], and when it has more than `max` bytes.
    pub fn read(&self, name: &str, max: u64, abort: &Abort) -> Result<(Vec<u8>, ObjectInfo), StoreError> {
        let object = self.get(name, &Part::default(), abort)?;
        let info = object.info.clone();
        let mut bytes = Vec::new();
        let reading = object.take(max + 1).read_to_end(&mut bytes);
        reading.map_err(|error| StoreError::of_io("read", Path::new(name), error))?;
        if bytes.len() as u64 > max {
            return Err(StoreError::Other { place: self.place(name), reason: format!("longer than {max} bytes") });
        }
        Ok((bytes, info))
    }

    /// Puts a small object, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when the condition does not hold; [`StoreError::Unsupported`]
    /// when the store knows no conditions.
    pub fn put(&self, name: &str, bytes: Vec<u8>, condition: &Condition, abort: &Abort) -> Result<(), StoreError> {
        match &self.kind {
            StoreKind::Local(local) => local.put(name, &bytes, condition),
            StoreKind::Remote(remote) => remote.put(name, bytes, None, condition, abort),
            StoreKind::Web(_) | StoreKind::Data(_) => Err(self.read_only()),
        }
    }

    /// Begins to write an object of at most `bytes` bytes. [`ObjectInfo::checksum`] will show
    /// its `checksum`.
    ///
    /// # Errors
    /// Those of a file that can't be made. Other stores are asked only when there are bytes to send.
    pub fn upload(&self, name: &str, checksum: Option<&str>, bytes: u64, abort: &Abort) -> Result<Upload, StoreError> {
        match &self.kind {
            StoreKind::Local(local) => Ok(Upload::local(LocalUpload::begin(&local.path(name))?, abort)),
            StoreKind::Remote(remote) => Upload::remote(remote, name, checksum, bytes, abort),
            StoreKind::Web(_) | StoreKind::Data(_) => Err(self.read_only()),
        }
    }

    /// Copies an object to a sibling within the store, its metadata included. If objects are files, the plain key
    /// becomes a file of its own, because the original's supervisor overwrites it in place.
    ///
    /// # Errors
    /// Object stores refuse objects above some size.
    pub fn copy(&self, from: &str, to: &str, abort: &Abort) -> Result<(), StoreError> {
        match &self.kind {
            StoreKind::Local(local) if to == self.name => local.copy(from, to, abort),
            StoreKind::Local(local) => local.link(from, to, abort),
            StoreKind::Remote(remote) => remote.copy(from, to, abort),
            StoreKind::Web(_) | StoreKind::Data(_) => Err(self.read_only()),
        }
    }

    /// Copies an object to a sibling: within the store, or by way of this host if the store
    /// refuses or fails. Bytes that come by way of this host are compared with `expected`.
    ///
    /// # Errors
    /// The sibling then holds what it held before.
    pub fn copy_by_any_way(
        &self,
        from: &str,
        to: &str,
        expected: &ExpectedObject<'_>,
        abort: &Abort,
    ) -> Result<(), StoreError> {
        match self.copy(from, to, abort) {
            Ok(()) => Ok(()),
            Err(error @ (StoreError::Aborted | StoreError::DiskFull(_) | StoreError::NotFound { .. })) => Err(error),
            // Stores refuse to copy above some size, or without a right of its own.
            Err(_) => self.copy_through_here(from, to, expected, abort),
        }
    }

    fn copy_through_here(
        &self,
        from: &str,
        to: &str,
        expected: &ExpectedObject<'_>,
        abort: &Abort,
    ) -> Result<(), StoreError> {
        let mut object = self.get(from, &Part::default(), abort)?;
        let mut upload = self.upload(to, Some(expected.checksum), expected.bytes, abort)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            if abort.is_aborted() {
                return Err(StoreError::Aborted);
            }
            let count = object.read_some(&mut chunk)?;
            if count == 0 {
                break;
            }
            hash.update(&chunk[..count]);
            upload.write_all(&chunk[..count]).map_err(|error| StoreError::of_io("copy", to.as_ref(), error))?;
        }
        if hex::encode(hash.finalize()) != expected.sha256 {
            let reason = "its bytes are not those that its manifest speaks of".to_owned();
            return Err(StoreError::Other { place: self.place(from), reason });
        }
        upload.finish()
    }
    /// Makes a finished file in the store's own directory the object, without copying it.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] if objects are not files here.
    pub fn adopt(&self, path: &Path, name: &str) -> Result<(), StoreError> {
        match &self.kind {
            StoreKind::Local(local) => local.adopt(path, name),
            _ => Err(StoreError::Unsupported { place: self.place(name), reason: "objects are no files".to_owned() }),
        }
    }

    /// Removes an object. A missing one is no error.
    ///
    /// # Errors
    /// Those of the store.
    pub fn delete(&self, name: &str, abort: &Abort) -> Result<(), StoreError> {
        match &self.kind {
            StoreKind::Local(local) => local.delete(name),
            StoreKind::Remote(remote) => remote.delete(name, abort),
            StoreKind::Web(_) | StoreKind::Data(_) => Err(self.read_only()),
        }
    }

    /// The siblings whose names begin with `prefix`, a bounded number of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the directory is missing; [`StoreError::Unsupported`] from web servers.
    pub fn list(&self, prefix: &str, abort: &Abort) -> Result<Vec<ObjectInfo>, StoreError> {
        match &self.kind {
            StoreKind::Local(local) => local.list(prefix),
            StoreKind::Remote(remote) => remote.list(prefix, abort),
            StoreKind::Web(_) => Err(self.read_only()),
            StoreKind::Data(_) => Ok(Vec::new()),
        }
    }

    /// The address of an object, as errors show it.
    pub fn place(&self, name: &str) -> String {
        match &self.kind {
            StoreKind::Local(local) => SnapshotUrl::File(local.path(name)).to_string(),
            StoreKind::Remote(remote) => remote.place(name),
            StoreKind::Web(web) => web.place(name),
            StoreKind::Data(_) => self.url.to_string(),
        }
    }

    /// A text that differs between this object and the one that will replace it; `None` if the
    /// store tells neither etag nor time.
    pub fn identity(&self, info: &ObjectInfo) -> Option<String> {
        match (&self.kind, &info.etag) {
            (_, Some(etag)) => Some(etag.clone()),
            // The address of a `data:` URL is its bytes, so one name is one content.
            (StoreKind::Data(_), None) => Some(self.name.clone()),
            (_, None) if info.modified > UNIX_EPOCH => {
                let since = info.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                Some(format!("{:?}-{}", info.size, since.as_nanos()))
            }
            (_, None) => None,
        }
    }

    fn data(&self, name: &str, bytes: &[u8]) -> Result<ObjectInfo, StoreError> {
        if name != self.name {
            return Err(StoreError::NotFound { place: format!("{name} of {}", self.url) });
        }
        let size = Some(bytes.len() as u64);
        Ok(ObjectInfo { name: name.to_owned(), size, etag: None, checksum: None, modified: UNIX_EPOCH })
    }

    fn read_only(&self) -> StoreError {
        StoreError::Unsupported { place: self.url.to_string(), reason: "it is read only".to_owned() }
    }
}
