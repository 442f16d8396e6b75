//! Why a type could not be made from a row. Entry point: [`DeserializeError::into_error`].

use std::fmt::{self, Display};

use serde::de::{Error, Expected, Unexpected};

use ctlstore_core::schema::TableRef;

use super::super::error::ReadError;

/// The error of deserializing. It is boxed, so that a successful result stays small.
#[derive(Debug)]
pub struct DeserializeError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    /// The column, as soon as it is known.
    column: Option<String>,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Type { wanted: String, found: String },
    Missing(&'static str),
    Other(String),
}

impl DeserializeError {
    fn new(why: Why) -> Self {
        Self(Box::new(Inner { column: None, why }))
    }

    /// Names the column, if none has been named yet.
    pub(in super::super) fn in_column(mut self, column: &str) -> Self {
        self.0.column.get_or_insert_with(|| column.to_owned());
        self
    }

    /// The error of the read of `table`.
    pub(in super::super) fn into_error(self, table: &TableRef) -> ReadError {
        let table = table.clone();
        let Inner { column, why } = *self.0;
        match (why, column) {
            (Why::Type { wanted, found }, Some(column)) => ReadError::WrongType { table, column, wanted, found },
            (Why::Type { wanted, found }, None) => {
                ReadError::Refused { table, column: None, reason: format!("found {found}, wanted {wanted}") }
            }
            // Inside a column, a missing field belongs to the column's value, not to the table.
            (Why::Missing(field), None) => ReadError::MissingColumn { table, column: field.to_owned() },
            (Why::Missing(field), column) => {
                ReadError::Refused { table, column, reason: format!("there is no {field}") }
            }
            (Why::Other(reason), column) => ReadError::Refused { table, column, reason },
        }
    }
}

/// The kind of a value, since stored data must not reach logs. An integer is shown, since its range
/// may be the fault.
fn kind(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Bool(value) => format!("the integer {}", i32::from(*value)),
        Unexpected::Signed(value) => format!("the integer {value}"),
        Unexpected::Unsigned(value) => format!("the integer {value}"),
        Unexpected::Float(_) => "a real number".to_owned(),
        Unexpected::Char(_) | Unexpected::Str(_) => "text".to_owned(),
        Unexpected::Bytes(_) | Unexpected::Seq => "bytes".to_owned(),
        Unexpected::Map => "a row".to_owned(),
        other => other.to_string(),
    }
}

impl Error for DeserializeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(Why::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(Why::Type { wanted: wanted.to_string(), found: kind(&found) })
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> Self {
        Self::new(Why::Type { wanted: wanted.to_string(), found: format!("{length} of them") })
    }

    fn unknown_variant(_: &str, variants: &'static [&'static str]) -> Self {
        Self::new(Why::Type { wanted: format!("one of {}", variants.join(", ")), found: "another text".to_owned() })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Why::Missing(field))
    }
}

impl Display for DeserializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.why {
            Why::Type { wanted, found } => write!(f, "found {found}, wanted {wanted}"),
            Why::Missing(field) => write!(f, "there is no {field}"),
            Why::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for DeserializeError {}
