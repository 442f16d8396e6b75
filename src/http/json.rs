//! JSON in and out: objects whose member names match in any letter case, and
//! answers with their content type and the newline at the end.

use std::fmt;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::HttpError;

/// A JSON object as its members in the order of the source, names lower-cased,
/// values as their source text so that no digit is lost.
#[derive(Debug, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// The last member of this (lower-case) name; null counts as absent.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        let found = self.0.iter().rev().find(|(n, _)| n == name)?;
        (found.1.get() != "null").then_some(&*found.1)
    }

    /// A member that may be absent or null.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, HttpError> {
        self.get(name)
            .map(|raw| {
                serde_json::from_str(raw.get()).map_err(|e| HttpError::bad_request(format!("{name}: {}", reason(&e))))
            })
            .transpose()
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

/// Reads a whole body as JSON; 400 says where it is wrong.
pub fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, HttpError> {
    serde_json::from_slice(body).map_err(|error| HttpError::bad_request(format!("bad json: {}", reason(&error))))
}

/// A parser's reason, cut short: it may repeat what it was sent.
fn reason(error: &serde_json::Error) -> String {
    error.to_string().chars().take(200).collect()
}

/// 200 with a JSON body.
pub fn answer(body: &impl Serialize) -> Result<HttpResponse, HttpError> {
    let mut bytes = serde_json::to_vec(body).map_err(|error| {
        HttpError::new(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, format!("the answer is not json: {error}"))
    })?;
    bytes.push(b'\n');
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(bytes))
}
