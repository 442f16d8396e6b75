//! A page in a browser must not drive a server of the node: requests that carry
//! another site's `Origin` are refused before any route sees them.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap, ORIGIN};
use actix_web::middleware::Next;

use super::error::HttpError;

/// Middleware: 403 for a foreign `Origin`.
pub async fn refuse_foreign<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    check(request.headers())?;
    next.call(request).await
}

/// Whether a request with these headers may be answered.
pub fn check(headers: &HeaderMap) -> Result<(), HttpError> {
    match is_foreign(headers) {
        true => Err(HttpError::new(StatusCode::FORBIDDEN, "requests from another origin are refused")),
        false => Ok(()),
    }
}

/// Whether the origin is anything but the host that was asked. `null` is foreign.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let host = headers.get(HOST).map(|host| host.as_bytes()).unwrap_or_default();
    let origin = origin.as_bytes();
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_none_or(|authority| host.is_empty() || !authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn only_the_asked_host_is_at_home() {
        let headers = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("127.0.0.1:3000"));
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            headers
        };
        assert!(!is_foreign(&HeaderMap::new()));
        assert!(!is_foreign(&headers("http://127.0.0.1:3000")));
        for foreign in ["http://evil.example", "http://127.0.0.1:3001", "null", "", "127.0.0.1:3000"] {
            assert!(is_foreign(&headers(foreign)), "{foreign:?} was let in");
        }
    }
}
