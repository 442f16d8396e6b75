//! Refuses requests that a web page of another site makes a browser send to a server of the node. Entry
//! point: [`check`], before any route. A request is refused if it carries another site's `Origin`, or
//! if the browser says that another site sent it. It is also refused if its `Host` is none of this
//! server's names. An attacker can let the name of a page point to this host; the page's requests then
//! carry that name. A `Host` that is no host at all is a bad request, as RFC 9112 says.

use std::net::IpAddr;
use std::rc::Rc;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::middleware::Next;

use super::connection::MAX_TARGET;
use super::error::HttpError;

/// By this header a browser says which site made a request. No page can set it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names that requests to one server may be for.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Whether any IP address is allowed, and not only those of loopback. That is safe, since the
    /// name of an attacker's page is no address. Beyond loopback, probes and clients use the host's
    /// own addresses.
    any_address: bool,
    /// Further names, in lower case.
    names: Vec<String>,
}

impl Hosts {
    /// The names of a server that listens on `address`; `None`: any name.
    pub fn of(address: IpAddr, names: &[String]) -> Option<Self> {
        let is_loopback = address.to_canonical().is_loopback();
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        (is_loopback || !names.is_empty()).then_some(Self { any_address: !is_loopback, names })
    }

    /// `host` is as in a URL, without its port. Ports are not compared: through a tunnel the port
    /// differs, and it gains an attacker nothing.
    fn allow(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.any_address
                || address.to_canonical().is_loopback()
                || self.names.iter().any(|name| name.parse() == Ok(address));
        }
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Middleware: refuses what [`check`] refuses.
pub async fn refuse_cross_site<B: MessageBody>(
    hosts: Option<Rc<Hosts>>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    check(request.head(), hosts.as_deref())?;
    next.call(request).await
}

/// Whether a request with this head may be answered.
pub fn check(head: &RequestHead, hosts: Option<&Hosts>) -> Result<(), HttpError> {
    if head.uri.path().len() + head.uri.query().map_or(0, str::len) > MAX_TARGET {
        return Err(HttpError::new(StatusCode::URI_TOO_LONG, format!("the path has more than {MAX_TARGET} bytes")));
    }
    let named = host_header(&head.headers)?;
    // A host in the target counts before the header, as RFC 9112 says.
    let (host, authority) = match head.uri.authority() {
        Some(authority) => (Some(authority.host()), authority.as_str()),
        None => (named.map(without_port), named.unwrap_or_default()),
    };
    if let (Some(hosts), Some(host)) = (hosts, host)
        && !hosts.allow(host)
    {
        let message = "requests for this host are not answered here; http.allowed_hosts lists more names";
        return Err(HttpError::new(StatusCode::MISDIRECTED_REQUEST, message));
    }
    if is_foreign(&head.headers, authority) {
        return Err(HttpError::new(StatusCode::FORBIDDEN, "requests from another origin are refused"));
    }
    Ok(())
}

/// The value of `Host`, if there is one. The HTTP library has refused HTTP/1.1 without it, and two.
fn host_header(headers: &HeaderMap) -> Result<Option<&str>, HttpError> {
    let Some(value) = headers.get(HOST) else { return Ok(None) };
    match value.to_str() {
        Ok(host) if is_host(host) => Ok(Some(host)),
        _ => Err(HttpError::bad_request("the header Host is no host, with or without a port")),
    }
}

/// Whether the text is `uri-host [ ":" port ]` of RFC 9110. The host may be empty.
fn is_host(text: &str) -> bool {
    let is_of = |text: &str, others: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b));
    let is_port = |rest: &str| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    };
    match text.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .is_some_and(|(address, rest)| !address.is_empty() && is_of(address, b":.%-_~") && is_port(rest)),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            is_of(&text[..end], b"-._~%!$&'()*+,;=") && is_port(&text[end..])
        }
    }
}

/// The host of a `Host` header that [`is_host`].
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, _)) if !authority.ends_with(']') => host,
        _ => authority,
    }
}

/// Whether the request's origin differs from the host that it is for, or the browser says that another
/// site made it. The origin `null` differs.
fn is_foreign(headers: &HeaderMap, authority: &str) -> bool {
    let is_from_elsewhere =
        headers.get(FETCH_SITE).is_some_and(|site| ![b"same-origin".as_slice(), b"none"].contains(&site.as_bytes()));
    let Some(origin) = headers.get(ORIGIN) else { return is_from_elsewhere };
    let origin = origin.as_bytes();
    let named = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    let is_other = named.is_none_or(|named| authority.is_empty() || !named.eq_ignore_ascii_case(authority.as_bytes()));
    is_other || is_from_elsewhere
}

#[cfg(test)]
mod tests {
    use actix_web::http::Uri;
    use actix_web::http::header::HeaderValue;

    use super::*;

    const HOME: &str = "127.0.0.1:3000";

    fn headers(all: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_the_host_that_is_asked_is_the_same_origin() {
        assert!(!is_foreign(&HeaderMap::new(), HOME));
        assert!(!is_foreign(&headers(&[(ORIGIN, "http://127.0.0.1:3000")]), HOME));
        for foreign in ["http://evil.example", "http://127.0.0.1:3001", "null", "", "127.0.0.1:3000"] {
            assert!(is_foreign(&headers(&[(ORIGIN, foreign)]), HOME), "{foreign:?} was let in");
        }
        assert!(is_foreign(&headers(&[(ORIGIN, "http://")]), ""));
    }

    #[test]
    fn what_a_browser_says_about_another_site_counts() {
        for (site, is_refused) in
            [("none", false), ("same-origin", false), ("same-site", true), ("cross-site", true), ("", true)]
        {
            assert_eq!(is_foreign(&headers(&[(FETCH_SITE, site)]), HOME), is_refused, "{site}");
        }
        let both = headers(&[(FETCH_SITE, "cross-site"), (ORIGIN, "http://127.0.0.1:3000")]);
        assert!(is_foreign(&both, HOME));
    }

    fn status(hosts: Option<&Hosts>, target: &str, host: Option<&'static str>) -> u16 {
        let mut head = RequestHead::default();
        head.uri = target.parse::<Uri>().unwrap();
        if let Some(host) = host {
            head.headers.insert(HOST, HeaderValue::from_static(host));
        }
        check(&head, hosts).map_or_else(|error| actix_web::ResponseError::status_code(&error).as_u16(), |()| 200)
    }

    #[test]
    fn a_server_on_loopback_has_its_own_names_and_the_configured_ones() {
        let hosts = Hosts::of([127, 0, 0, 1].into(), &["Ctl.Example".to_owned(), "10.0.0.7".to_owned()]);
        let status = |target: &str, host| status(hosts.as_ref(), target, host);
        for host in [
            "localhost",
            "LOCALHOST:1331",
            "localhost.:80",
            "127.0.0.1:1331",
            "127.8.8.8",
            "[::1]:1331",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
            "ctl.example",
            "CTL.example.:443",
            "10.0.0.7:1",
        ] {
            assert_eq!(status("/", Some(host)), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:1331",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.8",
            "0.0.0.0",
            "",
            ":1331",
            "[::2]",
            "2130706433",
        ] {
            assert_eq!(status("/", Some(host)), 421, "{host}");
        }
        assert_eq!(status("http://evil.example/", Some(HOME)), 421);
        assert_eq!(status("http://127.0.0.1:3000/", Some("evil.example")), 200);
    }

    #[test]
    fn a_host_header_that_is_no_host_is_a_bad_request_whatever_names_are_allowed() {
        for names in [None, Hosts::of([127, 0, 0, 1].into(), &[])] {
            for host in [
                "a b",
                " ",
                "a/b",
                "http://localhost",
                "127.0.0.1@evil.example",
                "localhost:1331:1331",
                "localhost:port",
                "::1",
                "::1:80:x",
                "[::1",
                "[]",
                "[::1]80",
                "a,b c",
                "\"localhost\"",
            ] {
                assert_eq!(status(names.as_ref(), "/", Some(host)), 400, "{host}");
            }
        }
        for host in ["example", "a_b.example", "xn--nh-via.example:80", "[fe80::1%25eth0]:1", "a%20b", "localhost:"] {
            assert!(is_host(host), "{host}");
        }
    }

    #[test]
    fn a_server_beyond_loopback_has_any_name_or_the_configured_ones_and_any_address() {
        let address = [0, 0, 0, 0].into();
        assert!(Hosts::of(address, &[]).is_none());
        let hosts = Hosts::of(address, &["ctl.example".to_owned()]);
        for (host, want) in
            [("ctl.example:3000", 200), ("10.1.2.3:3000", 200), ("[fd00::1]:80", 200), ("evil.example", 421)]
        {
            assert_eq!(status(hosts.as_ref(), "/", Some(host)), want, "{host}");
        }
    }

    #[test]
    fn a_long_target_is_refused() {
        assert_eq!(status(None, &format!("/{}", "a".repeat(MAX_TARGET - 1)), Some(HOME)), 200);
        assert_eq!(status(None, &format!("/{}", "a".repeat(MAX_TARGET)), Some(HOME)), 414);
        assert_eq!(status(None, &format!("/?{}", "a".repeat(MAX_TARGET)), Some(HOME)), 414);
    }
}
