//! Data source names of Go's database drivers as URLs of a ctldb. Entry point: [`url_of`].
//! It reads only the form; `config` checks the URL when it loads settings.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Every character that has to be encoded in a part of a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Where the driver looks if the name says nothing.
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: &str = "3306";
const DEFAULT_SOCKET: &str = "/tmp/mysql.sock";

/// Parameters without effect here: this program chooses these values for its own sessions.
const DECIDED_HERE: [&str; 7] =
    ["collation", "charset", "sql_mode", "time_zone", "timeout", "readTimeout", "writeTimeout"];
/// Parameters of the Go library's own working, which have no counterpart.
const OF_THE_LIBRARY: [&str; 10] = [
    "parseTime",
    "loc",
    "interpolateParams",
    "multiStatements",
    "columnsWithAlias",
    "strict",
    "allowNativePasswords",
    "allowOldPasswords",
    "allowAllFiles",
    "rejectReadOnly",
];

/// A ctldb's URL, and the parameters that it leaves out.
#[derive(Debug, PartialEq, Eq)]
pub struct CtldbOf {
    pub url: String,
    pub left_out: Vec<String>,
}

/// The URL of a ctldb that `driver`, `mysql` or `sqlite3`, would open by `dsn`.
pub fn url_of(driver: &str, dsn: &str) -> Result<CtldbOf, String> {
    match driver {
        "mysql" => mysql(dsn),
        "sqlite3" => sqlite(dsn),
        _ => Err(format!("no driver is called {driver:?}, there are mysql and sqlite3")),
    }
}

/// `path` or `file:path`, with parameters of the driver after a question mark.
fn sqlite(dsn: &str) -> Result<CtldbOf, String> {
    let text = dsn.strip_prefix("file:").unwrap_or(dsn);
    let (path, parameters) = text.split_once('?').unwrap_or((text, ""));
    if path.is_empty() || path == ":memory:" {
        return Err("names no file".to_owned());
    }
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    let path = path.to_str().ok_or("the current directory is not UTF-8")?;
    let left_out = parameters.split('&').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    Ok(CtldbOf { url: format!("sqlite:{path}"), left_out })
}

/// `user:password@protocol(address)/database?name=value`, each part but `/` may be missing.
/// User and password stand there as they are, nothing is encoded.
fn mysql(dsn: &str) -> Result<CtldbOf, String> {
    // A password may have any of these signs, so the last ones count.
    let (before, after) = dsn.rsplit_once('/').ok_or("has no / before the database, as in user@tcp(host:3306)/db")?;
    let (login, address) = before.rsplit_once('@').unwrap_or(("", before));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (database, parameters) = after.split_once('?').unwrap_or((after, ""));
    if database.is_empty() {
        return Err("names no database, as in user@tcp(host:3306)/db".to_owned());
    }
    let Place { host, port, socket } = place(address)?;
    let mut url = "mysql://".to_owned();
    if !user.is_empty() {
        let _ = write!(url, "{}", utf8_percent_encode(user, ENCODED));
    }
    if !password.is_empty() {
        let _ = write!(url, ":{}", utf8_percent_encode(password, ENCODED));
    }
    if !login.is_empty() {
        url.push('@');
    }
    let _ = write!(url, "{host}:{port}/{}", utf8_percent_encode(database, ENCODED));
    let mut ours: Vec<String> =
        socket.iter().map(|path| format!("socket={}", utf8_percent_encode(path, ENCODED))).collect();
    let mut left_out = Vec::new();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match counterpart(parameter)? {
            Counterpart::Same(parameters) => ours.extend(parameters),
            Counterpart::DecidedHere => {}
            Counterpart::None => left_out.push(parameter.to_owned()),
        }
    }
    if !ours.is_empty() {
        let _ = write!(url, "?{}", ours.join("&"));
    }
    Ok(CtldbOf { url, left_out })
}

struct Place {
    host: String,
    port: String,
    socket: Option<String>,
}

/// `tcp(host:port)`, `unix(/path)`, or nothing for the driver's default.
fn place(address: &str) -> Result<Place, String> {
    let (protocol, inside) = match address.split_once('(') {
        Some((protocol, rest)) => {
            (protocol, rest.strip_suffix(')').ok_or("has a ( without its ) before the database")?)
        }
        None => (address, ""),
    };
    match protocol {
        "" | "tcp" | "tcp4" | "tcp6" => tcp(inside),
        "unix" => {
            let path = if inside.is_empty() { DEFAULT_SOCKET } else { inside };
            let host = "localhost".to_owned();
            let port = DEFAULT_PORT.to_owned();
            Ok(Place { host, port, socket: Some(path.to_owned()) })
        }
        // The password may be there, so the text is not repeated.
        _ => Err("names neither tcp(host:port) nor unix(/path) between @ and /".to_owned()),
    }
}

fn tcp(inside: &str) -> Result<Place, String> {
    let (host, port) = match inside.rsplit_once(':') {
        _ if inside.ends_with(']') => (inside, DEFAULT_PORT),
        Some((host, port)) => (host, port),
        None => (inside, DEFAULT_PORT),
    };
    if port.parse::<u16>().is_err() {
        return Err(format!("{port:?} is no port"));
    }
    let host = match host {
        "" => DEFAULT_HOST.to_owned(),
        plain if plain.contains(':') && !plain.starts_with('[') => format!("[{plain}]"),
        host => host.to_owned(),
    };
    Ok(Place { host, port: port.to_owned(), socket: None })
}

enum Counterpart {
    Same(Vec<String>),
    DecidedHere,
    None,
}

fn counterpart(parameter: &str) -> Result<Counterpart, String> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let same = |parameters: &[&str]| Counterpart::Same(parameters.iter().map(|text| (*text).to_owned()).collect());
    Ok(match (name, value) {
        ("tls", "false" | "0") => Counterpart::DecidedHere,
        ("tls", "true" | "1") => same(&["require_ssl=true"]),
        ("tls", "skip-verify") => same(&["require_ssl=true", "verify_ca=false", "verify_identity=false"]),
        ("tls", _) => {
            return Err(format!("tls={value} has no counterpart: there are true, skip-verify and false"));
        }
        ("allowCleartextPasswords", "true" | "1") => same(&["enable_cleartext_plugin=true"]),
        ("maxAllowedPacket", bytes) if bytes.parse::<u32>().is_ok_and(|bytes| bytes > 0) => {
            Counterpart::Same(vec![format!("max_allowed_packet={bytes}")])
        }
        ("maxAllowedPacket" | "allowCleartextPasswords" | "clientFoundRows", _) => Counterpart::DecidedHere,
        (name, _) if DECIDED_HERE.contains(&name) || OF_THE_LIBRARY.contains(&name) => Counterpart::DecidedHere,
        // The driver sets all others as variables of its sessions.
        _ => Counterpart::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(dsn: &str) -> String {
        url_of("mysql", dsn).unwrap().url
    }

    #[test]
    fn a_servers_name_becomes_a_url() {
        let full = "ctldb:ctldbpw@tcp(mysql:3306)/ctldb?collation=utf8mb4_unicode_ci";
        assert_eq!(url(full), "mysql://ctldb:ctldbpw@mysql:3306/ctldb");
        assert_eq!(url("root@/ctldb"), "mysql://root@127.0.0.1:3306/ctldb");
        assert_eq!(url("/ctldb"), "mysql://127.0.0.1:3306/ctldb");
        assert_eq!(url("root@tcp/ctldb"), "mysql://root@127.0.0.1:3306/ctldb");
        assert_eq!(url("u:p@tcp(db)/x"), "mysql://u:p@db:3306/x");
        assert_eq!(url("u:p@tcp([::1]:3307)/x"), "mysql://u:p@[::1]:3307/x");
        assert_eq!(url("u:p@tcp([::1])/x"), "mysql://u:p@[::1]:3306/x");
        assert_eq!(url("u:p@unix(/run/my.sock)/x"), "mysql://u:p@localhost:3306/x?socket=%2Frun%2Fmy.sock");
    }

    #[test]
    fn a_password_may_have_any_sign() {
        assert_eq!(url("u:a:b@c/d#e?f%g@tcp(h:1)/x"), "mysql://u:a%3Ab%40c%2Fd%23e%3Ff%25g@h:1/x");
        assert_eq!(url("my_user:@tcp(h:1)/x"), "mysql://my_user@h:1/x");
    }

    #[test]
    fn parameters_have_a_counterpart_or_are_told() {
        assert_eq!(url("u@/x?tls=true"), "mysql://u@127.0.0.1:3306/x?require_ssl=true");
        assert!(
            url("u@/x?tls=skip-verify&maxAllowedPacket=1000")
                .ends_with("verify_identity=false&max_allowed_packet=1000")
        );
        let found = url_of("mysql", "u@/x?parseTime=true&wait_timeout=9&timeout=3s").unwrap();
        assert_eq!(
            (found.url.as_str(), found.left_out),
            ("mysql://u@127.0.0.1:3306/x", vec!["wait_timeout=9".to_owned()])
        );
    }

    #[test]
    fn what_is_no_such_name_is_refused_without_its_password() {
        for dsn in
            ["u:hunter2@tcp(h:1)", "u:hunter2@tcp(h:1/x", "u:hunter2@h:1/x", "u:hunter2@tcp(h:1)/", "u@/x?tls=mine"]
        {
            let why = url_of("mysql", dsn).unwrap_err();
            assert!(!why.contains("hunter2"), "{dsn}: {why}");
        }
        assert!(url_of("postgres", "x").unwrap_err().contains("mysql and sqlite3"));
    }

    #[test]
    fn a_file_is_taken_from_the_current_directory() {
        assert_eq!(url_of("sqlite3", "/srv/ctldb.db").unwrap().url, "sqlite:/srv/ctldb.db");
        let there = std::env::current_dir().unwrap().join("ctldb.db");
        let found = url_of("sqlite3", "file:ctldb.db?mode=ro").unwrap();
        assert_eq!(found.url, format!("sqlite:{}", there.display()));
        assert_eq!(found.left_out, ["mode=ro"]);
        assert!(url_of("sqlite3", ":memory:").is_err());
    }
}
