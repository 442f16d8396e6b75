//! Plain web servers, which are only read: one URL and its siblings in the same directory. The
//! user part of the URL goes to the server as a header and is in no address, so no library
//! logs it. Bodies without a length are taken too.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, LAST_MODIFIED,
    RANGE,
};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use ctlstore_core::Abort;

use super::client;
use super::contain::contained;
use super::environment;
use super::error::StoreError;
use super::object::{Chunk, Object, ObjectBody, ObjectInfo, Part, Stream};
use super::remote::{RETRIES, request_limit, retry_pause};
use super::runtime::wait;

/// Characters that need no escape in a part of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A URL's object and its siblings.
#[derive(Debug, Clone)]
pub(super) struct Web {
    client: Client,
    /// Without its user part.
    url: Arc<Url>,
    /// Marked as sensitive.
    authorization: Option<HeaderValue>,
    /// The object's name, as [`super::Store::name`] gives it.
    name: String,
    /// The URL up to the name, without secrets.
    shown: String,
    silence: Duration,
}

impl Web {
    /// Opens no connection.
    pub(super) fn open(url: &Url, name: String, shown: &str, silence: Duration) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Other { place: shown.to_owned(), reason };
        environment::check_proxies().map_err(|bad| bad.at(shown))?;
        let client =
            contained(|| shown.to_owned(), || client::web(silence).map_err(|error| refused(innermost(&error))))?;
        let authorization = authorization(url).map_err(|()| refused("its user part can't be sent".to_owned()))?;
        let mut bare = url.clone();
        // This fails only for URLs without a host, and this URL has one.
        let _ = bare.set_username("").and_then(|()| bare.set_password(None));
        let shown = shown.split('?').next().unwrap_or_default();
        let shown = shown[..shown.rfind('/').map_or(0, |slash| slash + 1)].to_owned();
        Ok(Self { client, url: Arc::new(bare), authorization, name, shown, silence })
    }

    pub(super) fn place(&self, name: &str) -> String {
        format!("{}{name}", self.shown)
    }

    /// The address of a sibling: the object's own address with the rest of the name added, or
    /// with another last part. The query stays.
    fn address(&self, name: &str) -> Url {
        let mut url = Url::clone(&self.url);
        let path = match name.strip_prefix(&self.name) {
            Some(rest) => format!("{}{}", url.path(), utf8_percent_encode(rest, SEGMENT)),
            None => {
                let directory = &url.path()[..url.path().rfind('/').map_or(0, |slash| slash + 1)];
                format!("{directory}{}", utf8_percent_encode(name, SEGMENT))
            }
        };
        url.set_path(&path);
        url
    }

    pub(super) fn head(&self, name: &str, abort: &Abort) -> Result<ObjectInfo, StoreError> {
        let response = self.ask(Method::HEAD, name, &Part::default(), abort)?;
        self.info(name, &response, &Part::default())
    }

    pub(super) fn get(&self, name: &str, part: &Part, abort: &Abort) -> Result<Object, StoreError> {
        let response = self.ask(Method::GET, name, part, abort)?;
        let info = self.info(name, &response, part)?;
        let place = self.place(name);
        let chunks = futures::stream::unfold(Some(response), move |response| {
            let place = place.clone();
            async move {
                let mut response = response?;
                match response.chunk().await {
                    Ok(Some(bytes)) => Some((Ok(Box::new(bytes) as Chunk), Some(response))),
                    Ok(None) => None,
                    Err(error) => Some((Err(of_transport(place, &error)), None)),
                }
            }
        });
        let stream = Stream::new(chunks.fuse().boxed(), self.place(name), request_limit(self.silence), abort);
        Ok(Object { info, body: ObjectBody::Stream(stream) })
    }

    /// Sends one request, and a few more if it fails for a moment.
    fn ask(&self, method: Method, name: &str, part: &Part, abort: &Abort) -> Result<Response, StoreError> {
        let place = || self.place(name);
        wait(place, request_limit(self.silence), abort, async {
            let mut tries = 0;
            loop {
                let outcome = self.try_once(&method, name, part).await;
                match outcome {
                    Err(error) if error.is_temporary() && tries < RETRIES => {
                        tokio::time::sleep(retry_pause(tries)).await;
                        tries += 1;
                    }
                    outcome => return outcome,
                }
            }
        })
    }

    async fn try_once(&self, method: &Method, name: &str, part: &Part) -> Result<Response, StoreError> {
        let mut request = self.client.request(method.clone(), self.address(name));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if part.offset > 0 {
            request = request.header(RANGE, format!("bytes={}-", part.offset));
        }
        if let Some(etag) = &part.if_match {
            request = request.header(IF_MATCH, etag.as_str());
        }
        let place = self.place(name);
        let response = request.send().await.map_err(|error| of_transport(place.clone(), &error))?;
        judge(place, response.status(), part.offset > 0)?;
        Ok(response)
    }

    fn info(&self, name: &str, response: &Response, part: &Part) -> Result<ObjectInfo, StoreError> {
        let headers = response.headers();
        let bad =
            |header: &str| StoreError::Other { place: self.place(name), reason: format!("answers a bad {header}") };
        let size = if part.offset > 0 {
            let (first, size) = content_range(headers).ok_or_else(|| bad("Content-Range"))?;
            if first != part.offset {
                return Err(bad("Content-Range"));
            }
            size
        } else {
            match text(headers, &CONTENT_LENGTH) {
                Some(length) => Some(length.trim().parse().map_err(|_| bad("Content-Length"))?),
                None => None,
            }
        };
        let modified = text(headers, &LAST_MODIFIED).and_then(http_date).unwrap_or(UNIX_EPOCH);
        let etag = text(headers, &ETAG).map(str::to_owned);
        Ok(ObjectInfo { name: name.to_owned(), size, etag, checksum: None, modified })
    }
}

/// Turns an answer's status into an error, or into none.
fn judge(place: String, status: StatusCode, is_part: bool) -> Result<(), StoreError> {
    let reason = format!("answered {}", status.as_u16());
    Err(match status.as_u16() {
        206 if is_part => return Ok(()),
        200 if !is_part => return Ok(()),
        200 => StoreError::Unsupported { place, reason: "it sends all of it, whatever part is asked for".to_owned() },
        404 | 405 | 410 => StoreError::NotFound { place },
        401 | 403 | 407 => StoreError::Denied { place, reason },
        304 | 412 => StoreError::Changed { place },
        501 => StoreError::Unsupported { place, reason },
        408 | 425 | 429 | 500.. => StoreError::Temporary { place, reason },
        _ => StoreError::Other { place, reason },
    })
}

/// The first byte and, if it is told, the size of the whole, of `bytes 7-99/100`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, size) = text(headers, &CONTENT_RANGE)?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let size: Option<u64> = if size.trim() == "*" { None } else { Some(size.trim().parse().ok()?) };
    // An answer may stop before the end; the reader then asks for the rest.
    let is_whole = first <= last && size.is_none_or(|size| last < size);
    is_whole.then_some((first, size))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn http_date(text: &str) -> Option<SystemTime> {
    let date = time::PrimitiveDateTime::parse(
        text.trim(),
        time::macros::format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        ),
    );
    let seconds = u64::try_from(date.ok()?.assume_utc().unix_timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The header for the URL's user part, if it has one.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, ()> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |part: &str| percent_decode_str(part).collect::<Vec<u8>>();
    let mut pair = decoded(url.username());
    pair.push(b':');
    pair.extend(decoded(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(pair))).map_err(|_| ())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn of_transport(place: String, error: &reqwest::Error) -> StoreError {
    match refused_redirect(error) {
        Some(reason) => StoreError::Other { place, reason },
        None if error.is_timeout() => StoreError::Temporary { place, reason: "no answer in time".to_owned() },
        None if error.is_builder() => StoreError::Other { place, reason: innermost(error) },
        None => StoreError::Temporary { place, reason: innermost(error) },
    }
}

fn refused_redirect(error: &reqwest::Error) -> Option<String> {
    error.is_redirect().then(|| innermost(error))
}

/// The innermost cause, which says most. The outer ones show the whole address with its query.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_object_is_told_by_its_range() {
        let range = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(value).unwrap());
            content_range(&headers)
        };
        assert_eq!(range("bytes 7-99/100"), Some((7, Some(100))));
        assert_eq!(range("bytes 7-99/*"), Some((7, None)));
        for bad in ["bytes 7-100/100", "bytes 9-7/100", "items 7-99/100", "bytes 7-18446744073709551616/*", "bytes */9"]
        {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn siblings_keep_the_directory_and_the_query() {
        let url = Url::parse("http://u:p%40w@h/dir//a%2Fb%FF.db?sig=x").unwrap();
        let web =
            Web::open(&url, "a%2Fb%FF.db".to_owned(), "http://***@h/dir//a%2Fb%FF.db?***", Duration::from_secs(1));
        let web = web.unwrap();
        assert_eq!(web.address("a%2Fb%FF.db.json").as_str(), "http://h/dir//a%2Fb%FF.db.json?sig=x");
        assert_eq!(web.address("x y.7-0a?#").as_str(), "http://h/dir//x%20y.7-0a%3F%23?sig=x");
        assert_eq!(web.place("x"), "http://***@h/dir//x");
        assert_eq!(web.authorization.unwrap(), format!("Basic {}", BASE64.encode("u:p@w")));
    }
}
