//! The routes for writers, and how their credentials are read from headers. The requests are in `writers.rs`
//! of `ctlstore_ctldb::executive`.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::body::Incoming;
use crate::http::error::HttpError;
use crate::http::openapi::{Operation, delete, get, post, put, shapes};
use ctlstore_core::schema::{NameError, WriterName};
use ctlstore_ctldb::executive::{
    Credentials, ReadCookie, RegisterWriter, RemoveWriter, RotateSecret, Secret, SetCookie,
};

use super::api::{Api, asking, done};

pub(super) const WRITER_HEADER: &str = "ctlstore-writer";
pub(super) const SECRET_HEADER: &str = "ctlstore-secret";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/cookie", "The writer's cookie", cookie_of)
            .with(shown)
            .gives_bytes("the cookie, at most 1,024 bytes")
            .refuses(400, "bad writer name")
            .refuses(404, "unknown writer or wrong secret")
            .with(asking),
        post("/cookie", "Stores the writer's cookie", set_cookie)
            .with(shown)
            .takes_bytes("the cookie, at most 1,024 bytes")
            .gives_nothing("stored")
            .refuses(400, "bad writer name, or the cookie is too long")
            .refuses(404, "unknown writer or wrong secret")
            .with(asking),
        post("/writers/{writer}", "Registers a writer", register)
            .takes_text::<shapes::AnySecret>("its secret, 3 to 100 bytes", "correct horse")
            .gives_nothing("it is registered, or was with this secret")
            .refuses(400, "bad writer name, or a secret too short, too long, or with what a header can't carry")
            .refuses(409, "it is registered with another secret")
            .with(asking),
        put("/writers/{writer}", "Changes a writer's secret", rotate)
            .with(shown_secret_only)
            .takes_text::<shapes::AnySecret>("its new secret, 3 to 100 bytes", "battery staple")
            .gives_nothing("the new secret holds")
            .refuses(400, "bad writer name, or a secret too short, too long, or with what a header can't carry")
            .refuses(401, "unknown writer or wrong secret")
            .with(asking),
        delete("/writers/{writer}", "Removes a writer", remove)
            .with(shown_secret_only)
            .gives_nothing("it is gone, with its cookie and its limit")
            .refuses(400, "bad writer name")
            .refuses(401, "unknown writer or wrong secret")
            .with(asking),
    ]
    .into_iter()
    .map(|operation| operation.tag("writers"))
    .collect()
}

/// Describes the headers with a writer's name and secret.
pub(super) fn shown(operation: Operation) -> Operation {
    operation.required_header::<shapes::Writer>(WRITER_HEADER, "the writer's name", "billing").with(shown_secret_only)
}

fn shown_secret_only(operation: Operation) -> Operation {
    operation.required_header::<shapes::Secret>(SECRET_HEADER, "the writer's secret", "correct horse")
}

/// Reads the credentials from the headers. Only the writer's name can be invalid.
pub(super) fn credentials(headers: &HeaderMap) -> Result<Credentials, NameError> {
    // Bytes that are no text become the empty name, which no writer has.
    let writer = WriterName::new(std::str::from_utf8(bytes(headers, WRITER_HEADER)).unwrap_or_default())?;
    Ok(Credentials { writer, secret: shown_secret(headers) })
}

/// Reads the secret, for a route that has the writer's name in its path.
fn shown_secret(headers: &HeaderMap) -> Secret {
    Secret::shown(bytes(headers, SECRET_HEADER))
}

/// Refuses a request that lacks one of these headers, and names those that it lacks.
pub(super) fn require(headers: &HeaderMap, names: &[&str], status: StatusCode) -> Result<(), HttpError> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !headers.contains_key(*name)).collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(HttpError::new(status, format!("the header {one} is missing"))),
        all => Err(HttpError::new(status, format!("the headers {} are missing", all.join(" and ")))),
    }
}

/// A request for a cookie is 400 without a writer and 404 without a secret, as with wrong ones.
fn require_for_cookie(headers: &HeaderMap) -> Result<(), HttpError> {
    let has_writer = headers.contains_key(WRITER_HEADER);
    let status = if has_writer { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
    require(headers, &[WRITER_HEADER, SECRET_HEADER], status)
}

fn bytes<'h>(headers: &'h HeaderMap, name: &str) -> &'h [u8] {
    headers.get(name).map(|value| value.as_bytes()).unwrap_or_default()
}

/// Reads a writer's name in the path. Decoding has replaced bytes that are no text by U+FFFD.
pub(super) fn writer_in(path: &str) -> Result<WriterName, HttpError> {
    if path.contains(char::REPLACEMENT_CHARACTER) {
        return Err(HttpError::bad_request("the writer's name is not valid unicode"));
    }
    WriterName::new(path).map_err(HttpError::bad_request)
}

pub(super) async fn register(api: Data<Api>, writer: Path<String>, body: Incoming) -> Result<HttpResponse, HttpError> {
    let writer = writer_in(&writer)?;
    let secret = Secret::new(&body.read().await?)?;
    api.ask(RegisterWriter { writer, secret }).await?;
    Ok(done())
}

/// The header has the present secret, the body the new one.
pub(super) async fn rotate(
    api: Data<Api>,
    writer: Path<String>,
    request: HttpRequest,
    body: Incoming,
) -> Result<HttpResponse, HttpError> {
    let writer = writer_in(&writer)?;
    require(request.headers(), &[SECRET_HEADER], StatusCode::UNAUTHORIZED)?;
    let credentials = Credentials { writer, secret: shown_secret(request.headers()) };
    let secret = Secret::new(&body.read().await?)?;
    api.ask(RotateSecret { credentials, secret }).await?;
    Ok(done())
}

pub(super) async fn remove(
    api: Data<Api>,
    writer: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let writer = writer_in(&writer)?;
    require(request.headers(), &[SECRET_HEADER], StatusCode::UNAUTHORIZED)?;
    let credentials = Credentials { writer, secret: shown_secret(request.headers()) };
    api.ask(RemoveWriter(credentials)).await?;
    Ok(done())
}

pub(super) async fn cookie_of(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    require_for_cookie(request.headers())?;
    let credentials = credentials(request.headers()).map_err(HttpError::bad_request)?;
    let cookie = api.ask(ReadCookie(credentials)).await?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/octet-stream")).body(cookie))
}

pub(super) async fn set_cookie(
    api: Data<Api>,
    request: HttpRequest,
    body: Incoming,
) -> Result<HttpResponse, HttpError> {
    require_for_cookie(request.headers())?;
    let credentials = credentials(request.headers()).map_err(HttpError::bad_request)?;
    let cookie = body.read().await?.to_vec();
    api.ask(SetCookie::new(credentials, cookie)?).await?;
    Ok(done())
}
