//! The address of the ctldb: an embedded SQLite file or a MySQL server. Entry point: [`CtldbUrl`].
//! This module checks the form only and opens nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use ctlstore_core::MASK;

use super::codec::text;

/// The address of the ctldb. `Display` and `Serialize` mask the password.
#[derive(Debug, Clone)]
pub enum CtldbUrl {
    /// `sqlite:PATH`; absolute after loading.
    Sqlite(PathBuf),
    /// `mysql://user:password@host:port/database?…`
    Mysql(MysqlUrl),
}

/// A URL that the MySQL client takes, with a host and a database in it.
#[derive(Debug, Clone)]
pub struct MysqlUrl {
    url: SecretString,
    /// The file of the password, if it is from a file.
    password_file: Option<PathBuf>,
}

impl MysqlUrl {
    /// The whole URL with the password: for the client, never for a log.
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// The file that the password was read from. The file may contain another password by now.
    pub fn password_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    pub(super) fn has_password(&self) -> bool {
        self.url().password().is_some()
    }

    /// The URL with the password in `file`, which is not encoded in any way.
    pub(super) fn with_password_of(&self, file: &Path, password: &str) -> Self {
        let url = self.with_password(password);
        Self { url: url.into(), password_file: Some(file.to_owned()) }
    }

    fn with_password(&self, password: &str) -> String {
        let mut url = self.url();
        // Readers of the URL decode the password, so each % in it has to be encoded.
        let encoded = password.replace('%', "%25");
        // This fails only for a URL without a host, and this one has a host.
        let _ = url.set_password(Some(&encoded));
        url.into()
    }

    fn url(&self) -> Url {
        Url::parse(self.expose()).expect("checked when it was made")
    }
}

impl FromStr for CtldbUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite_path(path).map(Self::Sqlite);
        }
        if text.starts_with("mysql:") {
            return mysql_url(text).map(Self::Mysql);
        }
        Err("neither sqlite:PATH nor mysql://user:password@host:port/database".to_owned())
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, String> {
    match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => Ok(PathBuf::from(absolute)),
        Some(_) => Err("sqlite: takes a path, and no host".to_owned()),
        None if path.is_empty() || path.ends_with('/') => Err("sqlite: names no file".to_owned()),
        None if path == ":memory:" => Err("the ctldb must outlive the process".to_owned()),
        None => Ok(PathBuf::from(path)),
    }
}

const RESERVED: &str = "a character of the user or password means something else in a URL: \
                        percent-encode it (# is %23, / is %2F, ? is %3F, @ is %40, : is %3A, % is %25)";

fn mysql_url(text: &str) -> Result<MysqlUrl, String> {
    if ends_its_authority_early(text) {
        return Err(RESERVED.to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !url.has_host() || url.host_str() == Some("") {
        return Err("names no host".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a fragment has no place in it; # in a name is %23".to_owned());
    }
    match url.path().trim_start_matches('/') {
        "" => return Err("names no database, as in mysql://host/database".to_owned()),
        database if database.contains('/') => {
            return Err("names more than a database, as in mysql://host/database; / in a name is %2F".to_owned());
        }
        _ => {}
    }
    if url.password() == Some(MASK) {
        return Err("a mask where the password itself is wanted".to_owned());
    }
    for (what, part) in [("user", url.username()), ("password", url.password().unwrap_or_default())] {
        if percent_decode_str(part).decode_utf8().is_err() {
            return Err(format!("its {what} is not UTF-8 once it is percent-decoded"));
        }
    }
    // The client's own check finds unknown parameters now, and not at the first use.
    mysql_async::Opts::from_url(text).map_err(|error| format!("the client does not take it: {error}"))?;
    Ok(MysqlUrl { url: String::from(url).into(), password_file: None })
}

/// Whether a `/`, `?` or `#` stands before the `@` that ends user and password. Such a URL would be
/// read as one of another host.
fn ends_its_authority_early(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (before_fragment, fragment) = behind.split_once('#').unwrap_or((behind, ""));
    let (path, query) = before_fragment.split_once('?').unwrap_or((before_fragment, ""));
    // A parameter's value may contain an @.
    path.contains('@') || fragment.contains('@') || (query.contains('@') && !authority.contains('@'))
}

impl fmt::Display for CtldbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(url) if url.has_password() => f.write_str(&url.with_password(MASK)),
            Self::Mysql(url) => f.write_str(url.expose()),
        }
    }
}

impl Serialize for CtldbUrl {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CtldbUrl {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        text(input)?.parse().map_err(D::Error::custom)
    }
}
