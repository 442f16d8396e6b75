//! Values of fields, and the check that each one passes before it is written anywhere. Entry
//! point: [`FieldValue::from_json`]. MySQL and SQLite would treat an unchecked value differently.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::table::{Field, FieldType};

/// The longest `string`, in characters. A MySQL index on utf8mb4 holds no more.
const MAX_STRING_CHARS: usize = 191;
/// The longest `bytestring`, in bytes.
const MAX_BYTESTRING_BYTES: usize = 255;
/// The largest value of any field, in bytes.
pub const MAX_VALUE_BYTES: usize = 512 * 1024;

/// The value of one field. `Boolean` is a value of an integer field: the ledger spells it `true`
/// or `false`, and both databases store 1 or 0.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    Null,
    Integer(i64),
    Boolean(bool),
    /// It is always finite.
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// Why a value can't be stored in its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("null can't be a key")]
    NullKey,
    #[error("a key can't contain a NUL character")]
    NulInKey,
    #[error("{got} is not {wanted}")]
    Kind { got: &'static str, wanted: &'static str },
    #[error("{0} is not a whole number")]
    NotWhole(String),
    #[error("{0} is outside the signed 64-bit range")]
    OutOfRange(String),
    #[error("{0} is not a finite 64-bit float")]
    NotFinite(String),
    #[error("text has more than {MAX_STRING_CHARS} characters")]
    StringTooLong,
    #[error("value has {got} bytes, at most {max} fit")]
    TooLarge { got: usize, max: usize },
    #[error("not standard padded base64")]
    NotBase64,
    #[error("text is not valid unicode")]
    NotUnicode,
}

impl FieldValue {
    /// Checks one JSON value against its field. The value comes as source text, so that no digit is
    /// lost.
    pub fn from_json(field: &Field, is_key: bool, json: &RawValue) -> Result<Self, ValueError> {
        let json = json.get();
        if json == "null" {
            return if is_key { Err(ValueError::NullKey) } else { Ok(Self::Null) };
        }
        let value = match field.field_type {
            FieldType::Integer => integer(json)?,
            FieldType::Decimal => decimal(json)?,
            FieldType::String => {
                let text = text(json, "text")?;
                if text.chars().nth(MAX_STRING_CHARS).is_some() {
                    return Err(ValueError::StringTooLong);
                }
                Self::Text(text)
            }
            FieldType::Text => Self::Text(text(json, "text")?),
            FieldType::Binary => Self::Blob(bytes(json, MAX_VALUE_BYTES)?),
            FieldType::ByteString => Self::Blob(bytes(json, MAX_BYTESTRING_BYTES)?),
        };
        if let Self::Text(text) = &value {
            if text.len() > MAX_VALUE_BYTES {
                return Err(ValueError::TooLarge { got: text.len(), max: MAX_VALUE_BYTES });
            }
            if is_key && text.contains('\0') {
                return Err(ValueError::NulInKey);
            }
        }
        Ok(value)
    }
}

fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "text",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

fn is_number(json: &str) -> bool {
    json.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn integer(json: &str) -> Result<FieldValue, ValueError> {
    match json {
        "true" => return Ok(FieldValue::Boolean(true)),
        "false" => return Ok(FieldValue::Boolean(false)),
        _ if is_number(json) => {}
        _ => return Err(ValueError::Kind { got: kind(json), wanted: "a whole number" }),
    }
    whole_number(json).map(FieldValue::Integer)
}

/// Reads a JSON number as an integer, without a float in between, so that all 64 bits are kept.
/// `1.0`, `1e3` and `12.50e1` are whole numbers too.
fn whole_number(json: &str) -> Result<i64, ValueError> {
    // An i64 has 19 digits. A number with a longer source than this is refused.
    const MAX_SOURCE: usize = 400;
    let out_of_range = || ValueError::OutOfRange(json.chars().take(40).collect());
    if json.len() > MAX_SOURCE {
        return Err(out_of_range());
    }
    let (mantissa, exponent) = json.split_once(['e', 'E']).unwrap_or((json, "0"));
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let exponent: i64 = exponent.parse().map_err(|_| out_of_range())?;
    // The value is `significant` times ten to the power of `shift`.
    let trimmed = significant.trim_end_matches('0');
    let shift = exponent
        .checked_sub(fraction.len() as i64)
        .and_then(|s| s.checked_add((significant.len() - trimmed.len()) as i64))
        .ok_or_else(out_of_range)?;
    if shift < 0 {
        return Err(ValueError::NotWhole(json.to_owned()));
    }
    let mut value: i128 = trimmed.parse().map_err(|_| out_of_range())?;
    for _ in 0..shift {
        value = value.checked_mul(10).filter(|v| *v <= 1 << 64).ok_or_else(out_of_range)?;
    }
    i64::try_from(if negative { -value } else { value }).map_err(|_| out_of_range())
}

fn decimal(json: &str) -> Result<FieldValue, ValueError> {
    if !is_number(json) {
        return Err(ValueError::Kind { got: kind(json), wanted: "a number" });
    }
    match json.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(FieldValue::Real(float)),
        _ => Err(ValueError::NotFinite(json.chars().take(40).collect())),
    }
}

fn text(json: &str, wanted: &'static str) -> Result<String, ValueError> {
    if !json.starts_with('"') {
        return Err(ValueError::Kind { got: kind(json), wanted });
    }
    serde_json::from_str(json).map_err(|_| ValueError::NotUnicode)
}

fn bytes(json: &str, max: usize) -> Result<Vec<u8>, ValueError> {
    let encoded = text(json, "base64 text")?;
    let bytes = STANDARD.decode(encoded).map_err(|_| ValueError::NotBase64)?;
    if bytes.len() > max {
        return Err(ValueError::TooLarge { got: bytes.len(), max });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::FieldName;

    fn read(field_type: FieldType, is_key: bool, json: &str) -> Result<FieldValue, ValueError> {
        let field = Field { name: FieldName::new("f").unwrap(), field_type };
        FieldValue::from_json(&field, is_key, &RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn integers_keep_every_digit() {
        let whole = |json| read(FieldType::Integer, false, json);
        assert_eq!(whole("9223372036854775807"), Ok(FieldValue::Integer(i64::MAX)));
        assert_eq!(whole("-9223372036854775808"), Ok(FieldValue::Integer(i64::MIN)));
        assert_eq!(whole("9007199254740993.0"), Ok(FieldValue::Integer(9_007_199_254_740_993)));
        assert_eq!(whole("1e3"), Ok(FieldValue::Integer(1000)));
        assert_eq!(whole("12.50e1"), Ok(FieldValue::Integer(125)));
        assert_eq!(whole("-0.0"), Ok(FieldValue::Integer(0)));
        assert_eq!(whole("0e999999999999999999999"), Ok(FieldValue::Integer(0)));
        assert_eq!(whole("true"), Ok(FieldValue::Boolean(true)));
        for bad in ["9223372036854775808", "1e19", "1e999999999", "1.5", "1e-1", "\"1\"", "[1]", "{}"] {
            assert!(whole(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn decimals_are_finite_numbers() {
        let decimal = |json| read(FieldType::Decimal, false, json);
        assert_eq!(decimal("1e-7"), Ok(FieldValue::Real(1e-7)));
        assert_eq!(decimal("10"), Ok(FieldValue::Real(10.0)));
        for bad in ["1e400", "true", "\"1\"", "[]"] {
            assert!(decimal(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn text_is_counted_in_characters_and_keys_hold_no_nul() {
        let longest = format!("\"{}\"", "é".repeat(191));
        let longer = format!("\"{}\"", "é".repeat(192));
        assert!(read(FieldType::String, true, &longest).is_ok());
        assert_eq!(read(FieldType::String, true, &longer), Err(ValueError::StringTooLong));
        assert!(read(FieldType::Text, false, &longer).is_ok());
        assert_eq!(read(FieldType::String, true, r#""a\u0000b""#), Err(ValueError::NulInKey));
        assert_eq!(read(FieldType::String, false, r#""a\u0000b""#), Ok(FieldValue::Text("a\0b".into())));
        assert_eq!(read(FieldType::Text, false, r#""\ud800""#), Err(ValueError::NotUnicode));
        assert!(read(FieldType::String, false, "1").is_err());
        assert_eq!(read(FieldType::String, true, "null"), Err(ValueError::NullKey));
        assert_eq!(read(FieldType::String, false, "null"), Ok(FieldValue::Null));
        let large = format!("\"{}\"", "a".repeat(MAX_VALUE_BYTES + 1));
        assert!(matches!(read(FieldType::Text, false, &large), Err(ValueError::TooLarge { .. })));
    }

    #[test]
    fn bytes_are_padded_base64_within_their_limit() {
        assert_eq!(read(FieldType::Binary, false, "\"AAH/\""), Ok(FieldValue::Blob(vec![0, 1, 255])));
        assert_eq!(read(FieldType::Binary, false, "\"AAH\""), Err(ValueError::NotBase64));
        let encoded = format!("\"{}\"", STANDARD.encode([7; 256]));
        assert!(matches!(read(FieldType::ByteString, false, &encoded), Err(ValueError::TooLarge { .. })));
        assert!(read(FieldType::Binary, false, &encoded).is_ok());
    }
}
