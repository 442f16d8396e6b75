//! Where a server is and how one logs in there: the URL, read once, and the file that its
//! password may be in. Entry points: [`ServerAddress`] for those who name a server, and
//! [`Login`] for those who connect to it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ctldb::CtldbError;
use ctlstore_core::disk::read_secret;
use mysql_async::{Error, Opts, OptsBuilder};

/// The server refuses a password: 1045, and MariaDB's 1698 for a login without one.
const LOGIN_REFUSED: [u16; 2] = [1045, 1698];

/// A server's address. Holds a password, so it is not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// `mysql://user:password@host:port/database?…`
    url: String,
    /// Holds the password, which may change at any time.
    password_file: Option<PathBuf>,
}

impl ServerAddress {
    /// Takes a URL with the password in it, percent-encoded.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), password_file: None }
    }

    /// The URL's password is the one that `file` held when it was last read.
    pub fn with_password_file(self, file: Option<&Path>) -> Self {
        Self { password_file: file.map(Path::to_owned), ..self }
    }

    /// What the client connects with. Does not connect.
    ///
    /// # Errors
    /// Where the URL names no database or the client does not take it. They never repeat the URL.
    pub fn options(&self) -> Result<OptsBuilder, CtldbError> {
        let opts = Opts::from_url(&self.url).map_err(|error| CtldbError::Failed(format!("ctldb.url: {error}")))?;
        if opts.db_name().is_none() {
            return Err(CtldbError::Failed("ctldb.url names no database".to_owned()));
        }
        // The client takes a host as it stands in the URL, and the resolver takes no brackets.
        let host = opts.ip_or_hostname();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        // A local server's socket may be another server's than the one that the URL names.
        Ok(OptsBuilder::from_opts(opts).ip_or_hostname(host).prefer_socket(false))
    }
}

/// Never the password.
impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerAddress(…)")
    }
}

/// How the next connection is made.
#[derive(Clone)]
pub(super) struct Login {
    options: Opts,
    password_file: Option<PathBuf>,
}

impl Login {
    /// `set_up` adds what all connections of one kind have.
    pub fn new(address: &ServerAddress, set_up: impl FnOnce(OptsBuilder) -> OptsBuilder) -> Result<Self, CtldbError> {
        let options = set_up(address.options()?).into();
        Ok(Self { options, password_file: address.password_file.clone() })
    }

    pub fn options(&self) -> &Opts {
        &self.options
    }

    /// Whether it is the same user with the same password.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.options.user(), self.options.pass()) == (other.options.user(), other.options.pass())
    }

    /// What to connect with after `error`: another login where the server refused this one
    /// and the password file holds another password by now.
    ///
    /// # Errors
    /// `error`, with what is wrong with the password file.
    pub async fn renewed(&self, error: Error) -> Result<Self, Error> {
        let (true, Some(file)) = (is_login_refused(&error), self.password_file.clone()) else { return Err(error) };
        let shown = file.display().to_string();
        let read = tokio::task::spawn_blocking(move || read_secret(&file)).await;
        let password = match read.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
            Ok(password) => password,
            Err(reason) => return Err(with_reason(error, &format!("ctldb.password_file {shown}: {reason}"))),
        };
        match self.options.pass() == Some(password.as_str()) {
            true => Err(error),
            false => {
                let options = OptsBuilder::from_opts(self.options.clone()).pass(Some(password.as_str())).into();
                Ok(Self { options, ..self.clone() })
            }
        }
    }
}

/// `host:port`, as it would stand in a URL.
pub(super) fn host_and_port(options: &Opts) -> String {
    let (host, port) = (options.ip_or_hostname(), options.tcp_port());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_login_refused(error: &Error) -> bool {
    matches!(error, Error::Server(error) if LOGIN_REFUSED.contains(&error.code))
}

fn with_reason(error: Error, reason: &str) -> Error {
    match error {
        Error::Server(mut error) => {
            error.message = format!("{}; {reason}", error.message);
            Error::Server(error)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_in_brackets_is_an_address_without_them() {
        for (url, host, shown) in [
            ("mysql://u:p@[::1]:3307/db", "::1", "[::1]:3307"),
            ("mysql://u:p@[fd00::1]/db", "fd00::1", "[fd00::1]:3306"),
            ("mysql://u:p@db.example:3307/db", "db.example", "db.example:3307"),
            ("mysql://u:p@10.0.0.1/db", "10.0.0.1", "10.0.0.1:3306"),
        ] {
            let options: Opts = ServerAddress::new(url).options().unwrap().into();
            assert_eq!((options.ip_or_hostname(), host_and_port(&options).as_str()), (host, shown));
            assert_eq!((options.user(), options.pass(), options.db_name()), (Some("u"), Some("p"), Some("db")));
        }
    }
}
