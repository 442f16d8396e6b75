//! Files as objects. Each object is finished under another name, flushed, and renamed or
//! linked into place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ctlstore_core::Abort;
use ctlstore_core::disk::{beside, create_anew, directory_of, file_mode, flush, open_regular};

use crate::snapshot::names::UNFINISHED;

use super::error::StoreError;
use super::object::{Condition, Object, ObjectBody, ObjectInfo, Part};

/// Bytes that are copied between two checks of the abort flag.
const COPIED_AT_ONCE: u64 = 16 << 20;

/// One directory. Conditions hold only while one process writes there; the destination's
/// lock ensures that.
#[derive(Debug, Clone)]
pub(super) struct Local {
    directory: PathBuf,
}

impl Local {
    pub(super) fn open(path: &Path) -> Self {
        Self { directory: directory_of(path).to_owned() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn head(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let path = self.path(name);
        info(name, &fs::metadata(&path).map_err(StoreError::io("look at", &path))?, &path)
    }

    pub(super) fn get(&self, name: &str, part: &Part) -> Result<Object, StoreError> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        let mut file = open_regular(options.read(true), &path).map_err(StoreError::io("open", &path))?;
        let info = info(name, &file.metadata().map_err(StoreError::io("look at", &path))?, &path)?;
        if part.if_match.is_some() && part.if_match != info.etag {
            return Err(StoreError::Changed { place: path.display().to_string() });
        }
        file.seek(SeekFrom::Start(part.offset)).map_err(StoreError::io("read", &path))?;
        Ok(Object { info, body: ObjectBody::File { path, file } })
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8], condition: &Condition) -> Result<(), StoreError> {
        let path = self.path(name);
        let holds = match (condition, self.head(name)) {
            (Condition::None, _) | (Condition::Missing, Err(StoreError::NotFound { .. })) => true,
            (Condition::Is(etag), Ok(info)) => info.etag.as_ref() == Some(etag),
            (_, Err(error)) if !error.is_not_found() => return Err(error),
            _ => false,
        };
        if !holds {
            return Err(StoreError::Changed { place: path.display().to_string() });
        }
        let mut upload = LocalUpload::begin(&path)?;
        upload.write(bytes)?;
        upload.finish()
    }

    /// Makes `to` a link to the same bytes, or a copy if the filesystem has no links.
    pub(super) fn link(&self, from: &str, to: &str, abort: &Abort) -> Result<(), StoreError> {
        let from_path = self.path(from);
        let to_path = self.path(to);
        let unfinished = beside(&to_path, UNFINISHED);
        remove(&unfinished)?;
        match fs::hard_link(&from_path, &unfinished) {
            Ok(()) => put_in_place(&unfinished, &to_path),
            Err(_) => self.copy(from, to, abort),
        }
    }

    /// Makes `to` a file of its own, because another program may write into it in place. Some filesystems share
    /// the blocks until then.
    pub(super) fn copy(&self, from: &str, to: &str, abort: &Abort) -> Result<(), StoreError> {
        let from = self.path(from);
        let to = self.path(to);
        let mut upload = LocalUpload::begin(&to)?;
        let mut options = OpenOptions::new();
        let file = open_regular(options.read(true), &from).map_err(StoreError::io("open", &from))?;
        let mut copied = 1;
        while copied > 0 {
            if abort.is_aborted() {
                return Err(StoreError::Aborted);
            }
            let mut part = (&file).take(COPIED_AT_ONCE);
            copied = io::copy(&mut part, &mut upload.file).map_err(StoreError::io("copy a snapshot to", &to))?;
        }
        upload.finish()
    }

    /// Makes a finished file of the same directory the object, without copying it.
    pub(super) fn adopt(&self, path: &Path, name: &str) -> Result<(), StoreError> {
        put_in_place(path, &self.path(name))
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), StoreError> {
        remove(&self.path(name))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let io = |doing| StoreError::io(doing, &self.directory);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(io("list"))? {
            let entry = entry.map_err(io("list"))?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) else { continue };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => found.push(info(name, &metadata, &entry.path())?),
                // A directory, or gone meanwhile.
                _ => {}
            }
        }
        Ok(found)
    }
}

/// A file that is being written. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub(super) struct LocalUpload {
    path: PathBuf,
    unfinished: Option<PathBuf>,
    file: File,
}

impl LocalUpload {
    pub(super) fn begin(path: &Path) -> Result<Self, StoreError> {
        let unfinished = beside(path, UNFINISHED);
        let file = create_anew(&unfinished, file_mode()).map_err(StoreError::io("make", &unfinished))?;
        Ok(Self { path: path.to_owned(), unfinished: Some(unfinished), file })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))
    }

    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(StoreError::io("flush", &self.path))?;
        let Some(unfinished) = &self.unfinished else { return Ok(()) };
        put_in_place(unfinished, &self.path)?;
        self.unfinished = None;
        Ok(())
    }
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // The error that led here says more than an error of the removal.
            let _ = fs::remove_file(unfinished);
        }
    }
}

fn put_in_place(unfinished: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(unfinished, path).map_err(StoreError::io("put in place", path))?;
    // A rename between two names of one file does nothing, and leaves both.
    remove(unfinished)?;
    let directory = directory_of(path);
    flush(directory).map_err(StoreError::io("flush", directory))
}

/// Removes a file. A missing one is no error.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path).map_err(StoreError::io("remove", path)) {
        Err(StoreError::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

fn info(name: &str, metadata: &fs::Metadata, path: &Path) -> Result<ObjectInfo, StoreError> {
    let modified = metadata.modified().map_err(StoreError::io("look at", path))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let etag = format!("{:x}-{:x}-{:x}", metadata.ino(), metadata.len(), since.as_nanos());
    Ok(ObjectInfo { name: name.to_owned(), size: Some(metadata.len()), etag: Some(etag), checksum: None, modified })
}
