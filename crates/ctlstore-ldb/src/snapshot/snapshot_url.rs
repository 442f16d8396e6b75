//! The address of a snapshot, as destination or source. [`SnapshotUrl`] is the one way of
//! reading such URLs, for settings, command line and stores. A URL that parses here means
//! one object, the same one everywhere. Only the form is checked; nothing is opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, Serializer};
use url::Url;

use ctlstore_core::MASK;

/// The schemes of object stores, each with a bucket (container) and a key.
const STORES: [&str; 8] = ["s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"];
/// The schemes whose user part names the container.
const NAMES_CONTAINER: [&str; 2] = ["abfs", "abfss"];
/// The characters of a path that are escaped.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// The longest name of an object, in bytes. The names of data and of unfinished files are up
/// to 55 bytes longer, and filesystems take 255.
const MAX_NAME: usize = 200;
/// The longest key in a bucket, in bytes; stores take 1,024.
const MAX_KEY: usize = 960;
/// The longest address, in bytes. Servers take about 8,000.
const MAX_ADDRESS: usize = 4000;

const KINDS: &str = "not a file:, s3:, gs:, az:, http(s): or data: URL";
const NO_SCHEME: &str = "no URL; a file is file:PATH";
const CONTROL: &str = "has a line end or another control character in it";
const OUTER_SPACE: &str = "begins or ends with a space";
const FRAGMENT: &str = "a fragment has no place in it; # in a name is %23";
const QUERY: &str = "a query has no place in it; ? in a name is %3F";
const BAD_ESCAPE: &str = "has a % without two hex digits behind it; % itself is %25";
const NOT_TEXT: &str = "its decoded name is not UTF-8";
const SLASH: &str = "has %2F in it, and no name holds a slash";
const DOTS: &str = "has . or .. as a part of its key";
const EMPTY_PART: &str = "has an empty part (//) in its key";
const TOO_LONG: &str = "is too long";

/// The place of one snapshot, which each newer one replaces.
#[derive(Clone, PartialEq, Eq)]
pub enum SnapshotUrl {
    /// `file:///absolute/path`, or `file:relative/path` under the data directory. Absolute after
    /// the settings were loaded.
    File(PathBuf),
    /// `s3://bucket/key`, `gs://bucket/key`, `az://container/key` and their like.
    Store(Url),
    /// `http://` or `https://`; read only. Its user part and its query may be secrets.
    Http(Url),
    /// `data:` with the snapshot's bytes in url-safe padded base64; read only.
    Data(Vec<u8>),
}

impl SnapshotUrl {
    /// Whether it can be a destination too, and not only a source.
    pub fn is_writable(&self) -> bool {
        matches!(self, Self::File(_) | Self::Store(_))
    }

    /// The last part of the path, decoded. Its ending tells how the snapshot is compressed. The
    /// last part of a web server's URL stays escaped if it is no name when it is decoded.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Store(url) | Self::Http(url) => {
                let written = url.path().rsplit('/').next().unwrap_or_default();
                let is_name = |name: &String| !name.contains('/') && !name.contains(char::is_control);
                decoded(written).ok().filter(is_name).unwrap_or_else(|| written.to_owned())
            }
            Self::Data(_) => "data".to_owned(),
        }
    }

    /// Whether `text` begins as one of these URLs does.
    pub fn is_begun_by(text: &str) -> bool {
        let known = |scheme: &str| ["file", "data", "http", "https"].contains(&scheme) || STORES.contains(&scheme);
        text.split_once(':').is_some_and(|(scheme, _)| known(&scheme.to_ascii_lowercase()))
    }
}

impl FromStr for SnapshotUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().any(char::is_control) {
            return Err(CONTROL);
        }
        if text.trim() != text {
            return Err(OUTER_SPACE);
        }
        let (scheme, rest) = text.split_once(':').ok_or(NO_SCHEME)?;
        match scheme.to_ascii_lowercase().as_str() {
            "file" => file(rest),
            "data" => URL_SAFE.decode(rest).map(Self::Data).map_err(|_| "its data is not url-safe padded base64"),
            "http" | "https" => web(text),
            scheme if STORES.contains(&scheme) => store(scheme, rest),
            _ => Err(KINDS),
        }
    }
}

/// Reads relative and absolute paths alike: percent-decoded, and otherwise as they are.
fn file(rest: &str) -> Result<SnapshotUrl, &'static str> {
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err("names a host, as in file://host/path; a path needs file:///path");
            }
            path
        }
        None => rest,
    };
    no_query_or_fragment(path)?;
    if path.is_empty() || path.ends_with('/') {
        return Err("names no file");
    }
    let parts: Vec<String> = path.split('/').map(part).collect::<Result<_, _>>()?;
    match parts.last().map(String::as_str) {
        Some("." | "..") | None => return Err("names no file"),
        Some(name) if name.len() > MAX_NAME => return Err(TOO_LONG),
        Some(_) => {}
    }
    let path = parts.join("/");
    if path.len() > MAX_ADDRESS { Err(TOO_LONG) } else { Ok(SnapshotUrl::File(PathBuf::from(path))) }
}

fn store(scheme: &str, rest: &str) -> Result<SnapshotUrl, &'static str> {
    let rest = rest.strip_prefix("//").ok_or("names no host or bucket")?;
    no_query_or_fragment(rest)?;
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    check_user(scheme, authority)?;
    if host.is_empty() {
        return Err("names no host or bucket");
    }
    if host.contains(':') {
        return Err("a port has no place in it, the endpoint comes from the environment");
    }
    let is_bucket = |text: &str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._$".contains(&b)) && !text.bytes().all(|b| b == b'.')
    };
    if !is_bucket(host) {
        return Err("names no bucket that there could be: letters, digits, dots, hyphens and underscores");
    }
    if key.is_empty() || key.ends_with('/') {
        return Err("names no object in its bucket or host");
    }
    let parts: Vec<String> = key.split('/').map(part).collect::<Result<_, _>>()?;
    if parts.iter().any(String::is_empty) {
        return Err(EMPTY_PART);
    }
    if parts.iter().any(|part| part == "." || part == "..") {
        return Err(DOTS);
    }
    let key = parts.join("/");
    if key.len() > MAX_KEY || parts.last().is_some_and(|name| name.len() > MAX_NAME) {
        return Err(TOO_LONG);
    }
    let encoded = utf8_percent_encode(&key, ENCODED);
    Url::parse(&format!("{scheme}://{authority}/{encoded}")).map(SnapshotUrl::Store).map_err(|_| "not a URL")
}

/// Refuses a user part, except in the schemes where it names the container.
fn check_user(scheme: &str, authority: &str) -> Result<(), &'static str> {
    let Some((user, _)) = authority.rsplit_once('@') else { return Ok(()) };
    let is_container = user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-$".contains(&b)) && !user.is_empty();
    if !NAMES_CONTAINER.contains(&scheme) || !is_container {
        return Err("credentials have no place in it, they come from the environment");
    }
    Ok(())
}

fn web(text: &str) -> Result<SnapshotUrl, &'static str> {
    if text.len() > MAX_ADDRESS {
        return Err(TOO_LONG);
    }
    if text.contains('\\') || text.contains(' ') {
        return Err("has a backslash or a space in it; they are %5C and %20");
    }
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host or bucket");
    }
    if url.port() == Some(0) {
        return Err("has port 0, at which nobody listens");
    }
    if url.fragment().is_some() {
        return Err(FRAGMENT);
    }
    if url.path().len() < 2 || url.path().ends_with('/') {
        return Err("names no object in its bucket or host");
    }
    check_escapes(url.path())?;
    for part in [url.username(), url.password().unwrap_or_default()] {
        check_escapes(part)?;
        if percent_decode_str(part).any(|b| b.is_ascii_control()) {
            return Err(CONTROL);
        }
    }
    if percent_decode_str(url.username()).any(|b| b == b':') {
        return Err("has a colon in its user's name, which no server can tell from the password");
    }
    Ok(SnapshotUrl::Http(url))
}

fn no_query_or_fragment(text: &str) -> Result<(), &'static str> {
    if text.contains('#') {
        return Err(FRAGMENT);
    }
    if text.contains('?') { Err(QUERY) } else { Ok(()) }
}

/// Decodes one part of a path.
fn part(written: &str) -> Result<String, &'static str> {
    let part = decoded(written)?;
    if part.contains('/') {
        return Err(SLASH);
    }
    if part.chars().any(char::is_control) { Err(CONTROL) } else { Ok(part) }
}

fn decoded(written: &str) -> Result<String, &'static str> {
    check_escapes(written)?;
    percent_decode_str(written).decode_utf8().map(|text| text.into_owned()).map_err(|_| NOT_TEXT)
}

fn check_escapes(written: &str) -> Result<(), &'static str> {
    let is_hex = |text: &str| text.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if written.split('%').skip(1).all(is_hex) { Ok(()) } else { Err(BAD_ESCAPE) }
}

/// The URL of a path. Parsed, it gives that path again.
fn file_url(path: &Path) -> String {
    let authority = if path.is_absolute() { "//" } else { "" };
    match path.to_str() {
        Some(path) => format!("file:{authority}{}", utf8_percent_encode(path, ENCODED)),
        None => format!("file:{authority}{}", path.display()),
    }
}

/// Shows neither the password nor the query, which may be a signature.
impl fmt::Display for SnapshotUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&file_url(path)),
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

/// As displayed, because a derived form would show the secrets.
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
            // Relative and absolute alike; schemes in any case.
            ("file:a/b%20c%23.db", "file:a/b%20c%23.db", true),
            ("FILE:///a/b c.db", "file:///a/b%20c.db", true),
            ("file://localhost/a%25.db", "file:///a%25.db", true),
            ("file:///a/ü.db", "file:///a/%C3%BC.db", true),
            ("S3://Bucket/d/a%20b%23%3F.db", "s3://Bucket/d/a%20b%23%3F.db", true),
            ("HTTPS://h/a%2Fb.db", "https://h/a%2Fb.db", false),
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
            ("file:///x/eu#1.db.gz", "%23"),
            ("file:x/eu#1.db.gz", "%23"),
            ("file:///x/a?.db", "%3F"),
            ("file:100%.db", "%25"),
            ("file:///x/%zz.db", "%25"),
            ("file:///x/a%2Fb.db", "%2F"),
            ("file:///x/%FF.db", "UTF-8"),
            ("file:///x/a%00.db", "control"),
            ("file:///x/a\n.db", "control"),
            (" file:///x/a.db", "space"),
            ("file:///x/..", "names no file"),
            ("file:///x/%2e%2e", "names no file"),
            ("s3://b/a%2Fb.db", "%2F"),
            ("s3://b//x.db", "empty part"),
            ("s3://b/d//x.db", "empty part"),
            ("s3://b/../x.db", "as a part"),
            ("s3://b/%2E%2e/x.db", "as a part"),
            ("s3://b/d/./x.db", "as a part"),
            ("s3://b/a#1.db", "%23"),
            ("s3://b/%ff.db", "UTF-8"),
            ("s3://b:9000/x.db", "port"),
            ("s3://b%20c/x.db", "no bucket"),
            ("s3://../x.db", "no bucket"),
            ("s3:b/x.db", "names no host or bucket"),
            ("abfss://c:pw@account.dfs.core.windows.net/a.db", "credentials"),
            ("http://h:0/a.db", "port 0"),
            ("http://h/a b.db", "%20"),
            ("http://h\\x/a.db", "backslash"),
            ("http://u%3Av:pw@h/a.db", "colon"),
            ("http://u:p%0Aw@h/a.db", "control"),
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
