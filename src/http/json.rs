//! JSON in and out: objects whose member names match in any letter case, and answers with their
//! content type and the newline at their end. Entry points: [`parse`] for a body, [`answer`] for an
//! answer.

use std::fmt;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::HttpError;
use super::json_error::{explain, explain_part};

/// The content type of JSON.
pub const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON object as its members in the order of the source. Names are in lower case. Values are
/// their source text, so that no digit is lost.
#[derive(Debug, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// The last member of this name, which is in lower case; null counts as absent.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        let found = self.0.iter().rev().find(|(n, _)| n == name)?;
        (found.1.get() != "null").then_some(&*found.1)
    }

    /// A member that may be absent or null.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, HttpError> {
        self.get(name).map(|raw| part(raw, name)).transpose()
    }

    /// A member that must be there.
    pub fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T, HttpError> {
        self.optional(name)?.ok_or_else(|| HttpError::bad_request(format!("{name} is missing")))
    }

    pub fn into_inner(self) -> Vec<(String, Box<RawValue>)> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((mut name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    name.make_ascii_lowercase();
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// Reads a whole body as JSON. The error is 400. It says what is wrong, and at which line and column.
pub fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, HttpError> {
    serde_json::from_slice(body).map_err(|error| HttpError::bad_request(format!("bad json: {}", explain(&error))))
}

/// Reads a part of a body. The error is 400 and names the part.
pub fn part<'b, T: Deserialize<'b>>(raw: &'b RawValue, name: impl fmt::Display) -> Result<T, HttpError> {
    serde_json::from_str(raw.get()).map_err(|error| HttpError::bad_request(format!("{name}: {}", explain_part(&error))))
}

/// 200 with a JSON body.
pub fn answer(body: &impl Serialize) -> Result<HttpResponse, HttpError> {
    let mut bytes = serde_json::to_vec(body).map_err(|error| {
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer is not json: {error}"))
    })?;
    bytes.push(b'\n');
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, APPLICATION_JSON)).body(bytes))
}
