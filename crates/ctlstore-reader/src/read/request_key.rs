//! Reads the values of key columns from the JSON of a request. Entry point: [`KeyValue`].

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::key::KeyPart;
use super::value::{Value, ValueRef};

/// The value of one key column, from a request's JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValue(pub Value);

impl KeyPart for KeyValue {
    fn value(&self) -> ValueRef<'_> {
        self.0.as_ref()
    }
}

/// A key column's value in a request: `{"Value": v}` or `{"Binary": base64}`, with
/// member names in any letter case. `Binary` wins if it is not null. One of both must be there.
impl<'de> Deserialize<'de> for KeyValue {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = KeyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key column as an object with the member Value or Binary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<KeyValue, A::Error> {
                let mut value = None;
                let mut binary = None;
                while let Some(name) = members.next_key::<Member>()? {
                    match name {
                        Member::Value => value = Some(members.next_value::<Scalar>()?.0),
                        Member::Binary => binary = members.next_value::<Option<String>>()?,
                        Member::Other => drop(members.next_value::<IgnoredAny>()?),
                    }
                }
                let Some(encoded) = binary else {
                    let absent = || A::Error::custom("a key column has no member Value or Binary");
                    return value.map(KeyValue).ok_or_else(absent);
                };
                let bytes = STANDARD.decode(encoded);
                bytes
                    .map(|bytes| KeyValue(Value::Blob(bytes)))
                    .map_err(|_| A::Error::custom("Binary is not standard padded base64"))
            }
        }

        input.deserialize_map(Entry)
    }
}

/// The name of a member; the text itself is not kept.
enum Member {
    Value,
    Binary,
    Other,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Member, E> {
                Ok(match name {
                    _ if name.eq_ignore_ascii_case("value") => Member::Value,
                    _ if name.eq_ignore_ascii_case("binary") => Member::Binary,
                    _ => Member::Other,
                })
            }
        }

        input.deserialize_str(Name)
    }
}

/// The value of the member `Value`.
struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct AnyScalar;

        impl<'de> Visitor<'de> for AnyScalar {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, number, boolean or null as a key")
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(Value::Integer(i64::from(value))))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(Value::Integer(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                // No column has a larger number than a signed 64-bit integer. A float of it equals no
                // integer there.
                Ok(Scalar(i64::try_from(value).map_or(Value::Real(value as f64), Value::Integer)))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(number(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(Value::Text(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Scalar, A::Error> {
                Err(A::Error::custom("an array can't be a key"))
            }

            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Scalar, A::Error> {
                Err(A::Error::custom("an object can't be a key"))
            }
        }

        input.deserialize_any(AnyScalar)
    }
}

/// A whole float becomes an integer, so that 5.0 finds the text '5' as well as the number.
fn number(float: f64) -> Value {
    // 2^63 is the smallest float that is too large for an i64; -2^63 fits.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if float.fract() == 0.0 && (-LIMIT..LIMIT).contains(&float) {
        return Value::Integer(float as i64);
    }
    Value::Real(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(json: &str) -> Result<Value, serde_json::Error> {
        serde_json::from_str(json).map(|KeyValue(value)| value)
    }

    #[test]
    fn values_of_every_scalar_kind_are_keys() {
        for (json, want) in [
            (r#"{"Value":"x"}"#, Value::Text("x".into())),
            (r#"{"VALUE":null}"#, Value::Null),
            (r#"{"Value":null,"Binary":null}"#, Value::Null),
            (r#"{"value":true}"#, Value::Integer(1)),
            (r#"{"value":-9223372036854775808}"#, Value::Integer(i64::MIN)),
            (r#"{"value":9223372036854775807}"#, Value::Integer(i64::MAX)),
            (r#"{"value":9223372036854775808}"#, Value::Real(9_223_372_036_854_775_808.0)),
            (r#"{"value":5.0}"#, Value::Integer(5)),
            (r#"{"value":1e300}"#, Value::Real(1e300)),
            (r#"{"value":0.5}"#, Value::Real(0.5)),
        ] {
            assert_eq!(key(json).unwrap(), want, "{json}");
        }
    }

    #[test]
    fn binary_wins_over_value_in_either_order() {
        let want = Value::Blob(vec![0, 1, 255]);
        assert_eq!(key(r#"{"Value":"x","Binary":"AAH/"}"#).unwrap(), want);
        assert_eq!(key(r#"{"binary":"AAH/","value":1,"more":[{}]}"#).unwrap(), want);
        assert_eq!(key(r#"{"Binary":null,"Value":1}"#).unwrap(), Value::Integer(1));
        assert_eq!(key(r#"{"Binary":""}"#).unwrap(), Value::Blob(vec![]));
    }

    #[test]
    fn what_can_be_no_key_is_refused_by_name() {
        for (json, reason) in [
            (r#"{"Value":[1]}"#, "an array can't be a key"),
            (r#"{"Value":{}}"#, "an object can't be a key"),
            (r#"{"Binary":"AAH"}"#, "not standard padded base64"),
            (r#"{}"#, "no member Value or Binary"),
            (r#"{"Valeu":1}"#, "no member Value or Binary"),
            (r#"{"Binary":null}"#, "no member Value or Binary"),
            (r#""x""#, "expected a key column"),
        ] {
            let error = key(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
