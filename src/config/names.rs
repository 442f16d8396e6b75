//! The form of names in settings. The rules are those of the schema's own
//! types, which this room does not know; a test holds the two together.

use serde::Deserializer;
use serde::de::Error;

use super::codec::text;

/// A family, 3 to 30 characters.
pub fn family_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = schema_name(&text(input)?, 30)?;
    // No LDB can have a table whose name begins so.
    if name == "sqlite" || name.starts_with("sqlite_") {
        return Err(D::Error::custom("reserved: sqlite keeps names that begin with sqlite_ for itself"));
    }
    Ok(name)
}

/// A table, 3 to 50 characters.
pub fn table_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    schema_name(&text(input)?, 50)
}

/// A writer, 3 to 50 bytes that a header carries.
pub fn writer_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = text(input)?;
    if !(3..=50).contains(&name.len()) {
        return Err(D::Error::custom("not 3 to 50 bytes long"));
    }
    if is_header_text(&name) { Ok(name) } else { Err(D::Error::custom(NOT_HEADER_TEXT)) }
}

/// What is said of a text that [`is_header_text`] refuses.
pub const NOT_HEADER_TEXT: &str = "has control characters, or a space at an end, which no header carries";

/// Whether an HTTP header carries the text unchanged.
pub fn is_header_text(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.trim() == text
}

/// The ledger's table: an identifier that no other table of a ctldb has.
pub fn ledger_table<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    const TAKEN: [&str; 9] = [
        "families",
        "mutators",
        "locks",
        "max_table_sizes",
        "max_writer_rates",
        "writer_usage",
        "ctlstore_meta",
        "ctlstore_ddl_intent",
        "ctlstore_table_definition",
    ];
    let name = identifier(input)?;
    let lower = name.to_ascii_lowercase();
    if TAKEN.contains(&lower.as_str()) {
        return Err(D::Error::custom("the name of another table of the ctldb"));
    }
    if lower.starts_with("sqlite_") || lower.contains("___") {
        return Err(D::Error::custom("begins with sqlite_, or has three underscores as a family's table has"));
    }
    Ok(name)
}

/// A name that SQL takes without quotes, of at most 64 characters.
pub fn identifier<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = text(input)?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Ok(name)
    } else {
        Err(D::Error::custom("not a letter followed by at most 63 letters, digits and underscores"))
    }
}

/// Lower-cased, as the executive would do it.
fn schema_name<E: Error>(name: &str, longest: usize) -> Result<String, E> {
    if !(3..=longest).contains(&name.len()) {
        return Err(E::custom(format_args!("not 3 to {longest} characters long")));
    }
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(E::custom("not a letter followed by letters, digits and underscores"));
    }
    if name.contains("__") || name.ends_with('_') {
        return Err(E::custom("two underscores in a row, or one at the end"));
    }
    Ok(name.to_ascii_lowercase())
}
