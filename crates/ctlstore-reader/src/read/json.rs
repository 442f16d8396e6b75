//! Writes rows as JSON, from SQLite's own buffers into the answer. Entry point: [`push_row`].

use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::ValueRef;

use super::error::ReadError;
use super::row::Row;
use super::table::{Column, Table};

/// Bytes of a text that are checked at a time for characters that JSON escapes.
const PLAIN_PIECE: usize = 64;

/// The bounds of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerLimits {
    /// The most rows; `None` stands for no limit.
    pub max_rows: Option<u64>,
    /// The most bytes of JSON.
    pub max_bytes: usize,
}

/// Appends what `push` appends to `out`, or nothing if `push` fails.
pub(super) fn all_or_nothing<T>(
    out: &mut Vec<u8>,
    push: impl FnOnce(&mut Vec<u8>) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let start = out.len();
    let result = push(out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends a row as an object. Its members are in column order.
pub(super) fn push_row(out: &mut Vec<u8>, row: Row<'_>) -> Result<(), ReadError> {
    let table = row.table();
    for (i, column) in table.columns.iter().enumerate() {
        out.push(if i == 0 { b'{' } else { b',' });
        out.extend_from_slice(&column.member);
        push_value(out, table, column, row.stored(i))?;
    }
    out.push(b'}');
    Ok(())
}

fn push_value(out: &mut Vec<u8>, table: &Table, column: &Column, value: ValueRef<'_>) -> Result<(), ReadError> {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(integer) => out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
        ValueRef::Real(float) if float.is_finite() => push_float(out, float),
        ValueRef::Real(_) => {
            return Err(ReadError::Infinite { table: table.table.clone(), column: column.name.clone() });
        }
        // The column's type decides, so that a client finds the same kind of value in every row.
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) if column.is_bytes => push_base64(out, bytes),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => push_text(out, bytes),
    }
    Ok(())
}

/// Appends the fewest digits that read back as the same float. It has an exponent only if the plain
/// form would be long, as in the Go program's JSON.
pub(super) fn push_float(out: &mut Vec<u8>, float: f64) {
    let plain = float == 0.0 || (1e-6..1e21).contains(&float.abs());
    let mut out = Utf8(out);
    // Writing to memory can't fail.
    let _ = if plain { write!(out, "{float}") } else { write!(out, "{float:e}") };
}

pub(super) fn push_text(out: &mut Vec<u8>, bytes: &[u8]) {
    // The loop has no early end, so that the compiler can check many bytes at once.
    let is_plain = |piece: &[u8]| {
        piece.iter().fold(true, |plain, &b| plain & (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\'))
    };
    if bytes.chunks(PLAIN_PIECE).all(is_plain) {
        out.reserve(bytes.len() + 2);
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    // Only other programs write text that is not UTF-8. As in the Go program, each bad part is replaced.
    let text = String::from_utf8_lossy(bytes);
    // Serializing a string into memory can't fail.
    let _ = serde_json::to_writer(out, text.as_ref());
}

pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The slice has exactly the length of the padded base64.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// Lets `write!` append to a byte buffer.
struct Utf8<'b>(&'b mut Vec<u8>);

impl Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_read_back_equal_and_whole_ones_have_no_fraction() {
        for (float, want) in [
            (10.0, "10"),
            (-0.25, "-0.25"),
            (1.5e20, "150000000000000000000"),
            (0.000001, "0.000001"),
            (1e-7, "1e-7"),
            (1e21, "1e21"),
            (0.1, "0.1"),
            (0.0, "0"),
        ] {
            assert_eq!(text(|out| push_float(out, float)), want);
        }
        for float in [f64::MAX, f64::MIN_POSITIVE, 5e-324, -1.0 / 3.0, 123_456_789.123_456_79] {
            assert_eq!(text(|out| push_float(out, float)).parse::<f64>().unwrap(), float);
        }
    }

    #[test]
    fn bytes_are_padded_base64_and_text_is_escaped() {
        assert_eq!(text(|out| push_base64(out, &[0, 1, 255])), "\"AAH/\"");
        assert_eq!(text(|out| push_base64(out, b"")), "\"\"");
        assert_eq!(text(|out| push_base64(out, b"a")), "\"YQ==\"");
        assert_eq!(text(|out| push_text(out, "a\0\"\n\u{1f600}".as_bytes())), "\"a\\u0000\\\"\\n\u{1f600}\"");
        assert_eq!(text(|out| push_text(out, b"a\xffb")), "\"a\u{fffd}b\"");
    }
}
