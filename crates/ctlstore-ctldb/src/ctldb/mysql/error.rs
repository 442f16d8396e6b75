//! Maps the errors of a MySQL server and of the connection to it to [`CtldbError`]. Entry point:
//! [`SqlError`]. Two error codes stand elsewhere: that of a refused login in `address`, and that of a
//! failed precondition in `optimistic`.

use mysql_async::{DriverError, Error, IoError, Opts};

use crate::ctldb::error::CtldbError;

use super::address::host_and_port;

/// Why a statement failed.
#[derive(Debug, Clone)]
pub(super) enum SqlError {
    /// The server answered with an error; the connection is still good.
    Server { code: u16, message: String },
    /// The connection broke or was too slow. It is unknown whether the statement ran.
    Broken(String),
}

pub(super) const DUPLICATE_KEY: u16 = 1062;
pub(super) const NO_SUCH_TABLE: u16 = 1146;
pub(super) const UNKNOWN_COLUMN: u16 = 1054;
pub(super) const PACKET_TOO_LARGE: u16 = 1153;

/// A deadlock, a lock-wait time-out, or a definition or row that changed during the transaction. InnoDB's
/// state is then unknown, so the transaction is run again. A table that was changed by hand gives the
/// same errors; its definition is read again then.
const CONTENTION: [u16; 16] =
    [1020, 1050, 1051, 1054, 1060, 1136, 1146, 1205, 1213, 1288, 1347, 1364, 1412, 1906, 3105, 3572];

/// The server is starting, stopping, overloaded, or ended the statement or connection.
const UNAVAILABLE: [u16; 23] = [
    1037, 1038, 1040, 1041, 1043, 1047, 1053, 1077, 1079, 1080, 1129, 1152, 1158, 1159, 1160, 1161, 1180, 1203, 1226,
    1317, 1927, 1969, 3024,
];

/// The server takes no writes: it is read-only or full, or the user has no right to write. It answers so before it
/// commits anything, also to a COMMIT. 1030 and 1026 contain the error of its disk.
const NOT_WRITABLE: [u16; 14] = [1015, 1021, 1026, 1030, 1036, 1044, 1114, 1142, 1143, 1227, 1290, 1792, 1836, 1874];

impl SqlError {
    /// The answer to a query that always has a row has none.
    pub fn no_row() -> Self {
        Self::Server { code: 0, message: "answer without a row".to_owned() }
    }

    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } => Some(*code),
            Self::Broken(_) => None,
        }
    }

    /// The meaning for a batch of held-back changes. A duplicate key there can only be a ledger row's: another
    /// client has written to the ledger without the lock.
    pub fn of_changes(self) -> CtldbError {
        match self.code() {
            Some(DUPLICATE_KEY) => CtldbError::Contention("somebody else has written to the ledger".to_owned()),
            _ => self.into(),
        }
    }
}

impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) => Self::Server { code: error.code, message: error.message },
            // The driver reports this before it sends anything, but leaves the connection in an unknown state.
            Error::Driver(DriverError::PacketTooLarge) => {
                Self::Server { code: PACKET_TOO_LARGE, message: "packet too large".to_owned() }
            }
            Error::Driver(DriverError::FromRow { .. } | DriverError::FromValue { .. }) => {
                Self::Server { code: 0, message: "answer of an unexpected type".to_owned() }
            }
            other => Self::Broken(reason(&other)),
        }
    }
}

/// The driver's message. For an error of the operating system only that error's message, which the driver
/// would repeat.
fn reason(error: &Error) -> String {
    match error {
        Error::Io(IoError::Io(error)) => error.to_string(),
        other => other.to_string(),
    }
}

impl From<SqlError> for CtldbError {
    fn from(error: SqlError) -> Self {
        let (code, message) = match error {
            SqlError::Broken(reason) => return Self::Unavailable(reason),
            SqlError::Server { code, message } => (code, message),
        };
        if let Some(reason) = refusal(code, &message) {
            return Self::Refused(reason.to_owned());
        }
        let reason = if quotes_data(code) { format!("server error {code}") } else { message };
        if CONTENTION.contains(&code) {
            Self::Contention(reason)
        } else if NOT_WRITABLE.contains(&code) {
            Self::NotWritable(reason)
        } else if UNAVAILABLE.contains(&code) {
            Self::Unavailable(reason)
        } else {
            Self::Failed(reason)
        }
    }
}

/// Whether the connection is useless after this error. Either the server has closed it, or the server takes
/// no more writes, and another server may have taken its place.
pub(super) fn ends_connection(error: &SqlError) -> bool {
    match error {
        SqlError::Broken(_) => true,
        SqlError::Server { code, .. } => matches!(code, 1047 | 1053 | 1079 | 1153 | 1290 | 1836 | 1927),
    }
}

/// The reason for the client, if the server can't hold the client's data.
fn refusal(code: u16, message: &str) -> Option<&'static str> {
    Some(match code {
        // MariaDB's "can't create table", with the engine's reason as a number.
        1005 if message.contains("errno: 185") => "the table has too many fields for the ctldb",
        1005 if message.contains("errno: 139") => "the row is too large for the ctldb",
        1118 | 1713 => "the row is too large for the ctldb",
        1071 => "the key is too long for the ctldb",
        1070 => "the key has too many fields for the ctldb",
        1117 => "the table has too many fields for the ctldb",
        1074 => "a field is too long for the ctldb",
        1059 => "a name is too long for the ctldb",
        1153 => "the statement is too large for the ctldb",
        1366 => "a value has characters that the ctldb can't hold in its field",
        1406 => "a value is too long for its field in the ctldb",
        1264 | 1367 | 1690 => "a number is outside the range of its field in the ctldb",
        1265 | 1292 => "a value does not fit its field in the ctldb",
        1048 => "a field that the ctldb wants a value for is null",
        1166 => "a field has a name that the ctldb keeps for itself",
        1216 | 1217 | 1451 | 1452 | 1644 | 3819 | 4025 => "a constraint of the ctldb forbids the row",
        _ => return None,
    })
}

/// Whether the server's message may repeat literals of the statement.
fn quotes_data(code: u16) -> bool {
    matches!(code, 1062 | 1064 | 1149 | 1300 | 1411 | 1525 | 1582)
}

/// The error for a connection that could not be made. It always counts as temporary: a missing user or
/// database may be made while the executive waits.
pub(super) fn no_connection(options: &Opts, error: Error) -> CtldbError {
    CtldbError::Unavailable(match error {
        Error::Server(error) => error.message,
        other => format!("{}: {}", host_and_port(options), reason(&other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(code: u16) -> CtldbError {
        SqlError::Server { code, message: "what the server said".to_owned() }.into()
    }

    #[test]
    fn codes_mean_what_the_server_means() {
        assert!(matches!(classify(1213), CtldbError::Contention(_)));
        assert!(matches!(classify(1205), CtldbError::Contention(_)));
        assert!(matches!(classify(1118), CtldbError::Refused(_)));
        assert!(matches!(classify(1053), CtldbError::Unavailable(_)));
        assert!(matches!(classify(1064), CtldbError::Failed(_)));
        assert!(matches!(classify(1290), CtldbError::NotWritable(_)));
        assert!(matches!(classify(1142), CtldbError::NotWritable(_)));
        assert!(matches!(CtldbError::from(SqlError::Broken(String::new())), CtldbError::Unavailable(_)));
    }

    #[test]
    fn messages_that_may_quote_data_are_not_passed_on() {
        assert!(!classify(1064).to_string().contains("what the server said"));
        assert!(classify(1142).to_string().contains("what the server said"));
    }
}
