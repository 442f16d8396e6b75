//! Reads what a request for rows asks for: the table in its path and the key in its body. Entry
//! point: [`parse_request`]. A body is read in one pass; only a body that is wrong is read again,
//! piece by piece, to say what is wrong.

use std::fmt;

use actix_web::http::header::HeaderMap;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::http::body::{self, Chunks};
use crate::http::error::HttpError;
use crate::http::json::{self, Members};
use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::KeyValue;

/// The table and the key that a request names.
pub async fn parse_request(
    headers: &HeaderMap,
    (family, table): (&str, &str),
    payload: impl Chunks,
) -> Result<(TableRef, Vec<KeyValue>), HttpError> {
    // No valid name needs escapes in a path. The router has decoded the escapes of other names.
    let table = TableRef::parse(family, table).map_err(HttpError::bad_request)?;
    Ok((table, key(&body::read_decoded(headers, payload).await?)?))
}

fn key(body: &[u8]) -> Result<Vec<KeyValue>, HttpError> {
    if let Ok(RequestKey(key)) = serde_json::from_slice(body) {
        return Ok(key);
    }
    key_by_pieces(body)
}

fn key_by_pieces(body: &[u8]) -> Result<Vec<KeyValue>, HttpError> {
    let columns: Option<Vec<Box<RawValue>>> = json::parse::<Members>(body)?.optional("key")?;
    let columns = columns.unwrap_or_default();
    columns.iter().enumerate().map(|(index, raw)| json::part(raw, format_args!("key[{index}]"))).collect()
}

/// The key of a body that is read in one pass.
struct RequestKey(Vec<KeyValue>);

impl<'de> Deserialize<'de> for RequestKey {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Body;

        impl<'de> Visitor<'de> for Body {
            type Value = RequestKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<RequestKey, A::Error> {
                let mut key = None;
                while let Some(IsKey(is_key)) = members.next_key()? {
                    if is_key {
                        key = members.next_value::<Option<Vec<KeyValue>>>()?;
                    } else {
                        members.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(RequestKey(key.unwrap_or_default()))
            }
        }

        input.deserialize_map(Body)
    }
}

/// Whether a member is the key, in any letter case.
struct IsKey(bool);

impl<'de> Deserialize<'de> for IsKey {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = IsKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E>(self, name: &str) -> Result<IsKey, E> {
                Ok(IsKey(name.eq_ignore_ascii_case("key")))
            }
        }

        input.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctlstore_reader::read::Value;

    #[test]
    fn one_pass_reads_what_reading_by_pieces_does() {
        let one = vec![KeyValue(Value::from("a"))];
        for (body, want) in [
            (r#"{"Key":[{"Value":"a"}]}"#, &one),
            (r#"{"more":{"key":1},"KEY":[{"value":"a"}],"x":[]}"#, &one),
            (r#"{"Key":[{"Value":"b"}],"key":[{"Value":"a"}]}"#, &one),
            (r#"{"k\u0065y":[{"Value":"a"}]}"#, &one),
            (r#"{"Key":null}"#, &vec![]),
            (r#"{"Key":[{"Value":"b"}],"key":null}"#, &vec![]),
            ("{}", &vec![]),
        ] {
            assert!(serde_json::from_str::<RequestKey>(body).is_ok(), "{body}");
            assert_eq!(&key(body.as_bytes()).unwrap(), want, "{body}");
            assert_eq!(&key_by_pieces(body.as_bytes()).unwrap(), want, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said() {
        for (body, reason) in [
            (r#"{"Key":[{"Value":[1]}]}"#, "key[0]: an array can't be a key"),
            (r#"{"Key":[{"Value":1},{}]}"#, "key[1]: a key column has no member Value or Binary"),
            (r#"{"Key":[{"Valeu":1}]}"#, "key[0]: a key column has no member Value or Binary"),
            (r#"{"Key":["a"]}"#, "key[0]: the string \"a\" where a key column as an object"),
            (r#"{"Key":"a"}"#, "key: the string \"a\" where an array is wanted"),
            ("", "bad json"),
            ("[]", "bad json"),
            (r#"{"Key":[]} more"#, "bad json"),
        ] {
            let error = key(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{body}: {error}");
        }
    }
}
