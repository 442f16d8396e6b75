//! Stores: one object and its siblings in a directory of files, in an object store,
//! behind a web server, or in a `data:` URL. Blocking calls, each of which ends by
//! itself: a store that stays silent is given up, and an [`Abort`] is noticed at once.
//!
//! Names are the last part of a key. This room knows nothing of what the objects hold.

mod client;
mod contain;
mod environment;
mod error;
mod local;
mod object;
mod redirects;
mod remote;
mod runtime;
mod upload;
mod web;

use std::fmt;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::snapshot::SnapshotUrl;
use ctlstore_core::Abort;

pub use contain::{contained, is_contained, quiet_contained_panics};
pub use error::StoreError;
pub use object::{Object, ObjectInfo, Part};
pub use upload::Upload;

use local::{Local, LocalUpload};
use object::ObjectBody;
use remote::Remote;
use web::Web;

/// How a store is talked to.
#[derive(Clone)]
pub struct StoreOptions {
    /// The longest that it may be silent while something is expected of it.
    pub silence: Duration,
    /// Settings such as `AWS_ENDPOINT_URL`, over those of the environment. May hold secrets.
    pub variables: Vec<(String, String)>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), variables: Vec::new() }
    }
}

/// Names the variables only.
impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("StoreOptions").field("silence", &self.silence).field("variables", &names).finish()
    }
}
/// The metadata that the original's programs look for: base64 SHA-1 of the uncompressed file.
const CHECKSUM: &str = "checksum";

/// What must be so for an object to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    None,
    /// There is no such object.
    Missing,
    /// It is there with this etag.
    Is(String),
}

/// One object, named by its URL, and its siblings.
#[derive(Debug, Clone)]
pub struct Store {
    url: SnapshotUrl,
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Local(Local),
    Remote(Remote),
    Web(Web),
    Data(Vec<u8>),
}

impl Store {
    /// Opens nothing yet, neither file nor connection.
    ///
    /// # Errors
    /// Settings in the environment that make no sense.
    pub fn open(url: &SnapshotUrl) -> Result<Self, StoreError> {
        Self::with_options(url, &StoreOptions::default())
    }

    /// # Errors
    /// As [`Store::open`].
    pub fn with_options(url: &SnapshotUrl, options: &StoreOptions) -> Result<Self, StoreError> {
        let shown = url.to_string();
        let name = url.name();
        let kind = match url {
            SnapshotUrl::File(path) => Kind::Local(Local::open(path)),
            SnapshotUrl::Store(address) => Kind::Remote(Remote::open(address, &shown, options)?),
            SnapshotUrl::Http(address) => Kind::Web(Web::open(address, name.clone(), &shown, options.silence)?),
            SnapshotUrl::Data(bytes) => Kind::Data(bytes.clone()),
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

    /// Where the object is as a file, where it is one.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match &self.kind {
            Kind::Local(local) => Some(local.path(name)),
            _ => None,
        }
    }

    /// # Errors
    /// [`StoreError::NotFound`] where there is no such object.
    pub fn head(&self, name: &str, abort: &Abort) -> Result<ObjectInfo, StoreError> {
        match &self.kind {
            Kind::Local(local) => local.head(name),
            Kind::Remote(remote) => remote.head(name, abort),
            Kind::Web(web) => web.head(name, abort),
            Kind::Data(bytes) => self.data(name, bytes),
        }
    }

    /// Begins to read an object. Broken connections are mended by themselves a few times.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Changed`] where it has another etag than asked for;
    /// [`StoreError::Unsupported`] from a server that can't begin at an offset.
    pub fn get(&self, name: &str, part: &Part, abort: &Abort) -> Result<Object, StoreError> {
        match &self.kind {
            Kind::Local(local) => local.get(name, part),
            Kind::Remote(remote) => remote.get(name, part, abort),
            Kind::Web(web) => web.get(name, part, abort),
            Kind::Data(bytes) => {
                let info = self.data(name, bytes)?;
                let mut body = Cursor::new(bytes.clone());
                body.set_position(part.offset);
                Ok(Object { info, body: ObjectBody::Bytes(body) })
            }
        }
    }

    /// All of a small object.
    ///
    /// # Errors
    /// As [`Store::get`], and when it has more than `max` bytes.
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

    /// Puts a small object, at once or not at all.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when the condition does not hold; [`StoreError::Unsupported`]
    /// when the store knows no conditions.
    pub fn put(&self, name: &str, bytes: Vec<u8>, condition: &Condition, abort: &Abort) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Local(local) => local.put(name, &bytes, condition),
            Kind::Remote(remote) => remote.put(name, bytes, None, condition, abort),
            Kind::Web(_) | Kind::Data(_) => Err(self.read_only()),
        }
    }

    /// Begins to write an object of at most `bytes` bytes, with the `checksum` that
    /// [`ObjectInfo::checksum`] will show.
    ///
    /// # Errors
    /// Those of a file that can't be made; other stores are not asked before there is enough to send.
    pub fn upload(&self, name: &str, checksum: Option<&str>, bytes: u64, abort: &Abort) -> Result<Upload, StoreError> {
        match &self.kind {
            Kind::Local(local) => Ok(Upload::local(LocalUpload::begin(&local.path(name))?, abort)),
            Kind::Remote(remote) => Upload::remote(remote, name, checksum, bytes, abort),
            Kind::Web(_) | Kind::Data(_) => Err(self.read_only()),
        }
    }

    /// Copies an object to a sibling, its metadata included, without its bytes coming here.
    ///
    /// # Errors
    /// Object stores refuse it above some size.
    pub fn copy(&self, from: &str, to: &str, abort: &Abort) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Local(local) => local.copy(from, to),
            Kind::Remote(remote) => remote.copy(from, to, abort),
            Kind::Web(_) | Kind::Data(_) => Err(self.read_only()),
        }
    }

    /// Makes a finished file of the store's own directory the object, without copying it.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] where objects are no files.
    pub fn adopt(&self, path: &Path, name: &str) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Local(local) => local.adopt(path, name),
            _ => Err(StoreError::Unsupported { place: self.place(name), reason: "objects are no files".to_owned() }),
        }
    }

    /// Removes an object that need not be there.
    ///
    /// # Errors
    /// Those of the store.
    pub fn delete(&self, name: &str, abort: &Abort) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Local(local) => local.delete(name),
            Kind::Remote(remote) => remote.delete(name, abort),
            Kind::Web(_) | Kind::Data(_) => Err(self.read_only()),
        }
    }

    /// The siblings whose names begin with `prefix`, a bounded number of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the directory is missing.
    pub fn list(&self, prefix: &str, abort: &Abort) -> Result<Vec<ObjectInfo>, StoreError> {
        match &self.kind {
            Kind::Local(local) => local.list(prefix),
            Kind::Remote(remote) => remote.list(prefix, abort),
            Kind::Web(_) => Err(self.read_only()),
            Kind::Data(_) => Ok(Vec::new()),
        }
    }

    /// An object as errors name it.
    pub fn place(&self, name: &str) -> String {
        match &self.kind {
            Kind::Local(local) => SnapshotUrl::File(local.path(name)).to_string(),
            Kind::Remote(remote) => remote.place(name),
            Kind::Web(web) => web.place(name),
            Kind::Data(_) => self.url.to_string(),
        }
    }

    /// What tells an object from the one that will take its place; `None` where the
    /// store tells nothing of the kind.
    pub fn identity(&self, info: &ObjectInfo) -> Option<String> {
        match (&self.kind, &info.etag) {
            (_, Some(etag)) => Some(etag.clone()),
            // Its bytes are its address.
            (Kind::Data(_), None) => Some(self.name.clone()),
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
