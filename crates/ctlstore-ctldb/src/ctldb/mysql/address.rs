//! A server's address and the login there: the URL, which is read once, and the file that may hold
//! its password. Entry points: [`ServerAddress`] names a server, [`Login`] connects to one. No
//! connection is made here.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ctldb::error::CtldbError;
use ctlstore_core::disk::read_secret;
use mysql_async::{Error, Opts, OptsBuilder};

/// The codes with which a server refuses a password: 1045, and MariaDB's 1698 for a login without one.
const LOGIN_REFUSED: [u16; 2] = [1045, 1698];

/// A server's address. It holds a password, so it must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// `mysql://user:password@host:port/database?…`
    url: String,
    /// The file that holds the password. Its content may change at any time.
    password_file: Option<PathBuf>,
}

impl ServerAddress {
    /// Takes a URL with the password in it, percent-encoded.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), password_file: None }
    }

    /// Names the file that holds the password. The URL has the password that the file held when it was last read.
    pub fn with_password_file(self, file: Option<&Path>) -> Self {
        Self { password_file: file.map(Path::to_owned), ..self }
    }

    /// The client's options for this address. Does not connect.
    ///
    /// # Errors
    /// If the URL names no database or the client does not accept it. Errors never repeat the URL.
    pub fn options(&self) -> Result<OptsBuilder, CtldbError> {
        let opts = Opts::from_url(&self.url).map_err(|error| CtldbError::Failed(format!("ctldb.url: {error}")))?;
        if opts.db_name().is_none() {
            return Err(CtldbError::Failed("ctldb.url names no database".to_owned()));
        }
        // The client passes the host on as the URL has it, and the resolver accepts no brackets.
        let host = opts.ip_or_hostname();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        // The socket on this host may belong to another server than the one that the URL names.
        Ok(OptsBuilder::from_opts(opts).ip_or_hostname(host).prefer_socket(false))
    }
}

/// Never shows the password.
impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerAddress(…)")
    }
}

/// The user, password and options with which the next connection is made.
#[derive(Clone)]
pub(super) struct Login {
    options: Opts,
    password_file: Option<PathBuf>,
}

impl Login {
    /// `set_up` adds the options that all connections of one kind have.
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

    /// The login for another try after `error`. There is one if the server refused this login and the
    /// password file now holds another password.
    ///
    /// # Errors
    /// `error` otherwise. If the password file can't be read, the reason is added.
    pub async fn renewed(&self, error: Error) -> Result<Self, Error> {
        let Some(file) = self.password_file.clone().filter(|_| is_login_refused(&error)) else { return Err(error) };
        let shown = file.display().to_string();
        let read = tokio::task::spawn_blocking(move || read_secret(&file)).await;
        let password = match read.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
            Ok(password) => password,
            Err(reason) => return Err(with_reason(error, &format!("ctldb.password_file {shown}: {reason}"))),
        };
        if self.options.pass() == Some(password.as_str()) {
            return Err(error);
        }
        let options = OptsBuilder::from_opts(self.options.clone()).pass(Some(password.as_str())).into();
        Ok(Self { options, ..self.clone() })
    }
}

/// `host:port`, as a URL writes it.
pub(super) fn host_and_port(options: &Opts) -> String {
    let host = options.ip_or_hostname();
    let port = options.tcp_port();
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
