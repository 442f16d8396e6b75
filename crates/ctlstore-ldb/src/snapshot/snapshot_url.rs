//! The address of a snapshot: where it goes, or where it comes from. Only the form
//! is checked here; nothing is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Serialize, Serializer};
use url::Url;

use ctlstore_core::MASK;

/// The schemes of object stores, each with a bucket (container) and a key.
const STORES: [&str; 8] = ["s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"];
/// Those whose user part names the container.
const NAMES_CONTAINER: [&str; 2] = ["abfs", "abfss"];
const KINDS: &str = "not a file:, s3:, gs:, az:, http(s): or data: URL";
const NO_SCHEME: &str = "no URL; a file is file:PATH";

/// Where one snapshot, replaced by each newer one, is to be found.
#[derive(Clone, PartialEq, Eq)]
pub enum SnapshotUrl {
    /// `file:///absolute/path`, or `file:relative/path` under the data
    /// directory; absolute after loading.
    File(PathBuf),
    /// `s3://bucket/key`, `gs://bucket/key`, `az://container/key` and their like.
    Store(Url),
    /// `http://` or `https://`; read only. Its user part and its query may be secrets.
    Http(Url),
    /// `data:` with the snapshot's bytes in url-safe padded base64; read only.
    Data(Vec<u8>),
}

impl SnapshotUrl {
    /// Whether it can be a destination, and not only a source.
    pub fn is_writable(&self) -> bool {
        matches!(self, Self::File(_) | Self::Store(_))
    }

    /// The last part of the path, which says how the snapshot is compressed.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Store(url) | Self::Http(url) => url.path().rsplit('/').next().unwrap_or_default().to_owned(),
            Self::Data(_) => "data".to_owned(),
        }
    }
}

impl FromStr for SnapshotUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(NO_SCHEME)?;
        match scheme {
            "file" => file(text, rest),
            "data" => URL_SAFE.decode(rest).map(Self::Data).map_err(|_| "its data is not url-safe padded base64"),
            "http" | "https" => with_key(text).map(Self::Http),
            scheme if STORES.contains(&scheme) => store(text),
            _ => Err(KINDS),
        }
    }
}

fn file(text: &str, path: &str) -> Result<SnapshotUrl, &'static str> {
    if path.is_empty() || path.ends_with('/') {
        return Err("names no file");
    }
    if !path.starts_with('/') {
        return Ok(SnapshotUrl::File(PathBuf::from(path)));
    }
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    url.to_file_path()
        .map(SnapshotUrl::File)
        .map_err(|()| "names a host, as in file://host/path; a path needs file:///path")
}

fn store(text: &str) -> Result<SnapshotUrl, &'static str> {
    let url = with_key(text)?;
    let names_container = NAMES_CONTAINER.contains(&url.scheme());
    if url.password().is_some() || (!url.username().is_empty() && !names_container) {
        return Err("credentials have no place in it, they come from the environment");
    }
    if url.query().is_some() {
        return Err("a query has no place in it");
    }
    Ok(SnapshotUrl::Store(url))
}

fn with_key(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host or bucket");
    }
    if url.fragment().is_some() {
        return Err("a fragment has no place in it; # in a name is %23");
    }
    if url.path().len() < 2 || url.path().ends_with('/') {
        return Err("names no object in its bucket or host");
    }
    Ok(url)
}

/// Never shows a password, nor what may be a signature.
impl fmt::Display for SnapshotUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => match Url::from_file_path(path) {
                Ok(url) => url.fmt(f),
                Err(()) => write!(f, "file:{}", path.display()),
            },
            Self::Store(url) => url.fmt(f),
            Self::Http(url) => {
                let user = if url.has_authority() && !(url.username().is_empty() && url.password().is_none()) {
                    format!("{MASK}@")
                } else {
                    String::new()
                };
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                let query = if url.query().is_some() { format!("?{MASK}") } else { String::new() };
                write!(f, "{}://{user}{}{port}{}{query}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
            }
            Self::Data(bytes) => write!(f, "data:{MASK} ({} bytes)", bytes.len()),
        }
    }
}

/// As it is displayed: a derived form would show the secrets.
impl fmt::Debug for SnapshotUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SnapshotUrl {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_shown_without_its_secrets() {
        for (text, shown, writable) in [
            ("file:///a/b%20c.db", "file:///a/b%20c.db", true),
            ("file:snapshots/a.db", "file:snapshots/a.db", true),
            ("s3://bucket/dir/snapshot.db.gz", "s3://bucket/dir/snapshot.db.gz", true),
            ("gs://bucket/snapshot.db", "gs://bucket/snapshot.db", true),
            ("az://container/snapshot.db", "az://container/snapshot.db", true),
            (
                "abfss://container@account.dfs.core.windows.net/a.db",
                "abfss://container@account.dfs.core.windows.net/a.db",
                true,
            ),
            ("http://u:hunter2@h:81/a.db", "http://***@h:81/a.db", false),
            ("https://h/a.db?sig=hunter2", "https://h/a.db?***", false),
            ("data:aHVudGVyMg==", "data:*** (7 bytes)", false),
        ] {
            let url: SnapshotUrl = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((url.to_string().as_str(), url.is_writable()), (shown, writable));
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_names_nothing_is_refused_with_a_reason() {
        for (text, why) in [
            ("snapshot.db", "no URL; a file is file:PATH"),
            ("ftp://h/a.db", "not a file:"),
            ("file:", "names no file"),
            ("file://host/a.db", "names a host"),
            ("s3://bucket", "names no object"),
            ("s3://bucket/dir/", "names no object"),
            ("s3:///key", "names no host or bucket"),
            ("s3://key:secret@bucket/a.db", "credentials"),
            ("s3://key@bucket/a.db", "credentials"),
            ("s3://bucket/a.db?x=1", "query"),
            ("https://h/a.db#x", "fragment"),
            ("data:a+b/", "base64"),
            ("data:aHVudGVyMg", "base64"),
        ] {
            let refused = text.parse::<SnapshotUrl>().expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn the_name_is_the_last_part() {
        let name = |text: &str| text.parse::<SnapshotUrl>().unwrap().name();
        assert_eq!(name("s3://bucket/dir/snapshot.db.gz"), "snapshot.db.gz");
        assert_eq!(name("https://h/snapshot.db?x=/y"), "snapshot.db");
        assert_eq!(name("file:a/b.db"), "b.db");
    }
}
