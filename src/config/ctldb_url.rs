//! The address of the ctldb: an embedded SQLite file or a MySQL server. Only
//! the form is checked here; nothing is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use ctlstore_core::MASK;

use super::form::text;

/// Where the ctldb is. `Display` and `Serialize` mask the password.
#[derive(Debug, Clone)]
pub enum CtldbUrl {
    /// `sqlite:PATH`; absolute after loading.
    Sqlite(PathBuf),
    /// `mysql://user:password@host:port/database?…`
    Mysql(MysqlUrl),
}

/// A URL that the MySQL client takes, with a host and a database in it.
#[derive(Debug, Clone)]
pub struct MysqlUrl(SecretString);

impl MysqlUrl {
    /// The whole URL, password and all: for the client, never for a log.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(super) fn has_password(&self) -> bool {
        self.url().password().is_some()
    }

    pub(super) fn with_password(&self, password: &str) -> Self {
        let mut url = self.url();
        // Only a URL without a host takes no password, and there is none here.
        let _ = url.set_password(Some(password));
        Self(String::from(url).into())
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

fn mysql_url(text: &str) -> Result<MysqlUrl, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !url.has_host() || url.host_str() == Some("") {
        return Err("names no host".to_owned());
    }
    if url.path().trim_matches('/').is_empty() {
        return Err("names no database, as in mysql://host/database".to_owned());
    }
    if url.password() == Some(MASK) {
        return Err("a mask where the password itself is wanted".to_owned());
    }
    // The client's own check finds unknown parameters now instead of at the first use.
    mysql_async::Opts::from_url(text).map_err(|error| format!("the client does not take it: {error}"))?;
    Ok(MysqlUrl(String::from(url).into()))
}

impl fmt::Display for CtldbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(url) if url.has_password() => f.write_str(url.with_password(MASK).expose()),
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
