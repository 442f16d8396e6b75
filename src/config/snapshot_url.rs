//! The address of a snapshot's destination. Only the form is checked here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use url::Url;

/// Where snapshots go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotUrl {
    /// `file:///absolute/path`, or `file:relative/path` under the data
    /// directory; absolute after loading.
    File(PathBuf),
}

impl FromStr for SnapshotUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("file:").ok_or("not a file: URL, the only kind of destination there is")?;
        if path.is_empty() || path.ends_with('/') {
            return Err("names no file");
        }
        if !path.starts_with('/') {
            return Ok(Self::File(PathBuf::from(path)));
        }
        let url = Url::parse(text).map_err(|_| "not a URL")?;
        url.to_file_path()
            .map(Self::File)
            .map_err(|()| "names a host, as in file://host/path; a path needs file:///path")
    }
}

impl fmt::Display for SnapshotUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::File(path) = self;
        match Url::from_file_path(path) {
            Ok(url) => url.fmt(f),
            Err(()) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Serialize for SnapshotUrl {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}
