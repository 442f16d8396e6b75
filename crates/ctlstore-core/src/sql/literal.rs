//! Writes values as SQL literals of the ledger, in the exact spelling of the protocol. Entry point:
//! [`push_literal`].

use std::fmt::Write;

use crate::schema::FieldValue;

/// Appends `value` as a literal. SQL text can't carry a NUL character, so text with one becomes
/// the hex of its bytes.
pub fn push_literal(out: &mut String, value: &FieldValue) {
    match value {
        FieldValue::Null => out.push_str("NULL"),
        FieldValue::Integer(integer) => out.push_str(itoa::Buffer::new().format(*integer)),
        FieldValue::Boolean(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
        // `Display` writes the fewest digits that read back as the same float, without an exponent.
        FieldValue::Real(float) => drop(write!(out, "{float}")),
        FieldValue::Text(text) if text.contains('\0') => push_blob(out, text.as_bytes()),
        FieldValue::Text(text) => push_text(out, text),
        FieldValue::Blob(bytes) => push_blob(out, bytes),
    }
}

/// Appends text in single quotes. Each `'` in it is doubled; no other character is escaped.
pub fn push_text(out: &mut String, text: &str) {
    out.push('\'');
    let mut rest = text;
    while let Some(quote) = rest.find('\'') {
        out.push_str(&rest[..=quote]);
        out.push('\'');
        rest = &rest[quote + 1..];
    }
    out.push_str(rest);
    out.push('\'');
}

/// Appends bytes as `x'…'` in lower-case hex.
pub fn push_blob(out: &mut String, bytes: &[u8]) {
    out.push_str("x'");
    out.push_str(&hex::encode(bytes));
    out.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(value: FieldValue) -> String {
        let mut out = String::new();
        push_literal(&mut out, &value);
        out
    }

    #[test]
    fn spelling_is_the_protocols() {
        assert_eq!(literal(FieldValue::Null), "NULL");
        assert_eq!(literal(FieldValue::Integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(literal(FieldValue::Boolean(true)), "true");
        assert_eq!(literal(FieldValue::Real(10.0)), "10");
        assert_eq!(literal(FieldValue::Real(-0.0)), "-0");
        assert_eq!(literal(FieldValue::Real(1e-7)), "0.0000001");
        assert_eq!(literal(FieldValue::Real(1.5e20)), "150000000000000000000");
        assert_eq!(literal(FieldValue::Text("it's ''".into())), "'it''s '''''");
        assert_eq!(literal(FieldValue::Text("a\0b".into())), "x'610062'");
        assert_eq!(literal(FieldValue::Text("a\\n\u{1f600}".into())), "'a\\n\u{1f600}'");
        assert_eq!(literal(FieldValue::Blob(vec![0xde, 0xad])), "x'dead'");
        assert_eq!(literal(FieldValue::Blob(vec![])), "x''");
    }
}
