//! Cursors: the end of a page, as text that a client sends back for the next page. Entry points:
//! [`Scope::write`] and [`Scope::read`]. A cursor holds the key of the page's last row, and a digest
//! of the table, key and prefix that it belongs to. It holds no state of the server, so it does not
//! expire, and rows that come and go around it do not move it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::{PagePlace, Value};

const SCOPE_BYTES: usize = 8;

/// The table with its key, and the prefix, that a cursor belongs to.
pub struct Scope {
    digest: [u8; SCOPE_BYTES],
    /// Key columns after the prefix.
    open: usize,
}

impl Scope {
    pub fn of(table: &TableRef, key: &[String], prefix: &[String]) -> Self {
        let mut whole = Sha256::new();
        // JSON separates the names from one another.
        whole.update(json!([table.sql_name(), key, prefix]).to_string());
        let mut digest = [0; SCOPE_BYTES];
        digest.copy_from_slice(&whole.finalize()[..SCOPE_BYTES]);
        Self { digest, open: key.len().saturating_sub(prefix.len()) }
    }

    pub fn write(&self, after: &PagePlace) -> String {
        let values: Vec<Json> = after.iter().map(to_json).collect();
        let mut bytes = self.digest.to_vec();
        bytes.extend_from_slice(Json::from(values).to_string().as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for a text that was not written in this scope.
    pub fn read(&self, text: &str) -> Option<PagePlace> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let values = bytes.strip_prefix(&self.digest)?;
        let values: Vec<Json> = serde_json::from_slice(values).ok()?;
        let after: PagePlace = values.iter().map(from_json).collect::<Option<_>>()?;
        (after.len() == self.open).then_some(after)
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(integer) => json!(integer),
        Value::Real(real) => json!(real),
        Value::Text(text) => json!(text),
        // An array, so that it differs from the text that looks the same.
        Value::Blob(bytes) => json!([STANDARD.encode(bytes)]),
    }
}

fn from_json(value: &Json) -> Option<Value> {
    match value {
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Some(Value::Integer(integer)),
            None => number.as_f64().map(Value::Real),
        },
        Json::String(text) => Some(Value::from(text.as_str())),
        Json::Array(bytes) => STANDARD.decode(bytes.first()?.as_str()?).ok().map(Value::Blob),
        Json::Null | Json::Bool(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(table: &str, key: &[&str], prefix: &[&str]) -> Scope {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Scope::of(&TableRef::parse("fam", table).unwrap(), &owned(key), &owned(prefix))
    }

    #[test]
    fn a_place_comes_back_as_it_was() {
        let all = scope("tab", &["a", "b", "c", "d"], &[]);
        let after =
            vec![Value::Integer(i64::MIN), Value::Real(5.0), Value::from("ü/\0"), Value::from(&[0xff_u8, 0][..])];
        let text = all.write(&after);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{text}");
        assert_eq!(all.read(&text), Some(after));
    }

    #[test]
    fn a_place_is_in_one_table_key_and_prefix() {
        let one = scope("tab", &["a", "b"], &["x"]);
        let text = one.write(&vec![Value::Integer(1)]);
        assert!(one.read(&text).is_some());
        for other in [
            scope("tac", &["a", "b"], &["x"]),
            scope("tab", &["a", "c"], &["x"]),
            scope("tab", &["a", "b"], &["y"]),
            scope("tab", &["a", "b"], &[]),
        ] {
            assert_eq!(other.read(&text), None);
        }
        for forged in ["", "?", "AAAA", &text[..4], &one.write(&vec![]), &one.write(&vec![Value::Null])] {
            assert_eq!(one.read(forged), None, "{forged}");
        }
    }
}
