//! Reads what a URL names: [`of_row`] the segments of its path, [`parameters`] those of its query.
//! Each is percent-decoded once, and refused if it is not UTF-8 then.

use std::borrow::Cow;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use crate::http::error::HttpError;
use ctlstore_core::schema::TableRef;

/// Segments before the family in `/v1/rows/{family}/{table}`, with what is before the first slash.
const BEFORE_TABLE: usize = 3;

/// The table and the key of a path `/v1/rows/{family}/{table}/{key…}`, one segment for
/// each key column.
///
/// The path is read as it was sent: a slash in a key is `%2F`. A `%` that comes out of decoding is
/// not decoded again.
pub fn of_row(request: &HttpRequest) -> Result<(TableRef, Vec<String>), HttpError> {
    let mut segments = request.uri().path().split('/').skip(BEFORE_TABLE).map(decoded);
    let mut name = || segments.next().unwrap_or_else(|| Ok(String::new()));
    let family = name()?;
    let table = name()?;
    let table = TableRef::parse(&family, &table).map_err(HttpError::bad_request)?;
    Ok((table, segments.collect::<Result<_, _>>()?))
}

/// The parameters of a query, in their order.
pub fn parameters(request: &HttpRequest) -> Result<Vec<(String, String)>, HttpError> {
    let pairs = request.query_string().split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decoded(&spaced(name))?, decoded(&spaced(value))?))
    };
    pairs.map(pair).collect()
}

/// A plus means a space in a query, but not in a path.
fn spaced(text: &str) -> Cow<'_, str> {
    if text.contains('+') { text.replace('+', " ").into() } else { text.into() }
}

fn decoded(text: &str) -> Result<String, HttpError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| HttpError::bad_request("the url is not utf-8 once percent-decoded"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn key(path: &str) -> Result<Vec<String>, String> {
        let request = TestRequest::with_uri(path).to_http_request();
        of_row(&request).map(|(_, key)| key).map_err(|error| error.to_string())
    }

    #[test]
    fn every_segment_after_the_table_is_a_key_column() {
        for (path, want) in [
            ("/v1/rows/fam/tab/a", &["a"][..]),
            ("/v1/rows/fam/tab/", &[""]),
            ("/v1/rows/fam/tab//b", &["", "b"]),
            ("/v1/rows/fam/tab/a/", &["a", ""]),
            ("/v1/rows/fam/tab/a%2Fb%3F", &["a/b?"]),
            ("/v1/rows/fam/tab/%2541+%00", &["%41+\0"]),
            ("/v1/rows/%66am/tab/%C3%BC", &["ü"]),
            ("/v1/rows/fam/tab", &[]),
        ] {
            assert_eq!(key(path).unwrap(), want, "{path}");
        }
        assert!(key("/v1/rows/fam/tab/%ff").unwrap_err().contains("not utf-8"));
    }

    #[test]
    fn parameters_keep_their_order_and_may_come_again() {
        let of = |query: &str| parameters(&TestRequest::with_uri(&format!("/{query}")).to_http_request());
        let want = [("prefix", "a b"), ("prefix", ""), ("limit", "2+2"), ("x", "")];
        let got = of("?prefix=a+b&prefix=&&limit=2%2B2&x").unwrap();
        assert!(got.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(want));
        assert!(of("?prefix=%ff").is_err());
    }
}
