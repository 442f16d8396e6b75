//! The route for mutations: reads the body into a `MutationRequest`. `mutation_batcher` sends it to the
//! executive.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::body::Incoming;
use crate::http::error::HttpError;
use crate::http::json::{self, Members};
use crate::http::openapi::{Operation, post, shapes};
use ctlstore_core::schema::FamilyName;
use ctlstore_ctldb::executive::{Credentials, MAX_MUTATIONS, Mutation, MutationRequest, Refusal};

use super::api::{Api, writing, written};
use super::writers::{self, SECRET_HEADER, WRITER_HEADER, credentials};

pub(super) fn operation() -> Operation {
    let row = json!({"table": "prices", "values": {"country": "de", "item": 7, "cents": 1999}});
    let key = json!({"table": "prices", "delete": true, "values": {"country": "at"}});
    post("/families/{family}/mutations", "Writes rows, all or none", mutate)
        .describe(
            "One transaction: every row, its ledger statement, and the writer's cookie. An upsert names every field \
            of its table, a deletion at least those of the key.",
        )
        .with(writers::shown)
        .takes_json::<Mutations>("at most 100 mutations", json!({"cookie": "djI=", "mutations": [row, key]}))
        .refuses(400, "not json, no mutations, a field missing, unknown or not of its type, or too much of something")
        .refuses(401, "unknown writer or wrong secret")
        .refuses(404, "no such table")
        .refuses(
            409,
            "check_cookie is not the stored cookie; a key that the ctldb takes for another one; or a table that was \
            changed by hand",
        )
        .refuses(413, "more than 100 mutations, or more rows than the writer's limit ever lets pass")
        .refuses(429, "the writer is over its limit")
        .says::<u64>(429, "retry-after", "seconds")
        .refuses(507, "a table is over its maximum size")
        .with(writing)
        .tag("rows")
}

/// Rows to write, and the cookie to store with them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read member by member")]
struct Mutations {
    #[schema(min_items = 1, max_items = 100)]
    mutations: Vec<OneMutation>,
    /// Stored with the rows; the empty cookie if it is absent.
    #[schema(schema_with = shapes::base64)]
    cookie: Option<String>,
    /// Must be equal to the stored cookie; nothing is compared if it is absent.
    #[schema(schema_with = shapes::base64)]
    check_cookie: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = Mutation)]
#[expect(dead_code, reason = "read member by member")]
struct OneMutation {
    #[schema(schema_with = shapes::table)]
    table: String,
    delete: Option<bool>,
    /// Field to value; bytes as standard padded base64.
    #[schema(schema_with = shapes::columns)]
    values: BTreeMap<String, serde_json::Value>,
}

pub(super) async fn mutate(
    api: Data<Api>,
    family: Path<String>,
    request: HttpRequest,
    payload: Incoming,
) -> Result<HttpResponse, HttpError> {
    let family = FamilyName::new(&family).map_err(HttpError::bad_request)?;
    writers::require(request.headers(), &[WRITER_HEADER, SECRET_HEADER], StatusCode::UNAUTHORIZED)?;
    // A name that no writer can have is an unknown writer.
    let credentials = credentials(request.headers()).map_err(|_| Refusal::Unauthorized)?;
    let request = read(&family, credentials, &payload.read().await?)?;
    let outcome = api.batcher.mutate(request, api.timeout).await??;
    Ok(written(Some(outcome.seq)))
}

fn read(family: &FamilyName, credentials: Credentials, body: &[u8]) -> Result<MutationRequest, HttpError> {
    let members: Members = json::parse(body)?;
    let raw: Vec<Box<RawValue>> = members.optional("mutations")?.unwrap_or_default();
    if raw.len() > MAX_MUTATIONS {
        return Err(Refusal::TooManyMutations(raw.len()).into());
    }
    let mutations = raw.iter().map(|raw| mutation(family, raw)).collect::<Result<_, _>>()?;
    let cookie = bytes(&members, "cookie")?.unwrap_or_default();
    let check_cookie = bytes(&members, "check_cookie")?;
    Ok(MutationRequest::new(credentials, cookie, check_cookie, mutations)?)
}

fn mutation(family: &FamilyName, raw: &RawValue) -> Result<Mutation, HttpError> {
    let members: Members = json::parse(raw.get().as_bytes())?;
    let table: String = members.required("table")?;
    let delete: bool = members.optional("delete")?.unwrap_or_default();
    let values: Members = members.optional("values")?.unwrap_or_default();
    Ok(Mutation::new(family, &table, delete, values.into_inner())?)
}

/// Reads a member of standard padded base64. `None` if it is absent or null.
fn bytes(members: &Members, name: &str) -> Result<Option<Vec<u8>>, HttpError> {
    let text: Option<String> = members.optional(name)?;
    let decode = |text| STANDARD.decode(text).map_err(|_| HttpError::bad_request(format!("{name} is not base64")));
    text.map(decode).transpose()
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;
    use ctlstore_core::schema::WriterName;
    use ctlstore_ctldb::executive::Secret;

    fn status(body: &str) -> u16 {
        let credentials = Credentials { writer: WriterName::new("writer").unwrap(), secret: Secret::shown(b"secret") };
        let family = FamilyName::new("fam").unwrap();
        read(&family, credentials, body.as_bytes()).map_or_else(|error| error.status_code().as_u16(), |_| 200)
    }

    #[test]
    fn member_names_match_in_any_case_and_unknown_ones_are_ignored() {
        assert_eq!(status(r#"{"Mutations":[{"TABLE":"tab","Values":{"a":1}}],"Cookie":"","else":[1]}"#), 200);
        assert_eq!(status(r#"{"mutations":[{"table":"tab","delete":null,"values":{}}],"cookie":null}"#), 200);
    }

    #[test]
    fn what_is_not_a_mutation_request_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"mutations":null}"#,
            r#"{"mutations":[]}"#,
            r#"{"mutations":[1]}"#,
            r#"{"mutations":[{"values":{}}]}"#,
            r#"{"mutations":[{"table":"tab","delete":1,"values":{}}]}"#,
            r#"{"mutations":[{"table":"tab","values":[]}]}"#,
            r#"{"mutations":[{"table":"tab","values":{"a":1,"A":2}}]}"#,
            r#"{"mutations":[{"table":"tab","values":{}}]} {}"#,
            r#"{"mutations":[{"table":"tab","values":{}}],"cookie":1}"#,
            r#"{"mutations":[{"table":"tab","values":{}}],"check_cookie":"a"}"#,
        ] {
            assert_eq!(status(bad), 400, "{bad}");
        }
        let many = vec![r#"{"table":"tab","values":{}}"#; MAX_MUTATIONS + 1].join(",");
        assert_eq!(status(&format!(r#"{{"mutations":[{many}]}}"#)), 413);
    }
}
