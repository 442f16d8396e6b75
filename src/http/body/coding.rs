//! The coding of a request's body, which `Content-Encoding` names: none, or gzip. Entry points:
//! [`Coding::of`] and [`gunzip`].

use std::io::Read;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use flate2::bufread::MultiGzDecoder;

use crate::http::error::HttpError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// 415 for any other coding, and for several.
    pub fn of(headers: &HeaderMap) -> Result<Self, HttpError> {
        let mut coding = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                coding = match (coding, name) {
                    (coding, b"") => coding,
                    (coding, name) if name.eq_ignore_ascii_case(b"identity") => coding,
                    (Self::Identity, name)
                        if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") =>
                    {
                        Self::Gzip
                    }
                    _ => return Err(unsupported()),
                };
            }
        }
        Ok(coding)
    }
}

fn unsupported() -> HttpError {
    let message = "the request body's Content-Encoding is not known here; send it as it is, or by gzip";
    HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).with_header("accept-encoding", "gzip, identity")
}

/// Unpacks `packed`; `None` if that gives more than `max` bytes.
pub fn gunzip(packed: &[u8], max: usize) -> Result<Option<Vec<u8>>, HttpError> {
    let mut bytes = Vec::new();
    let mut unpacked = MultiGzDecoder::new(packed).take(max as u64 + 1);
    unpacked
        .read_to_end(&mut bytes)
        .map_err(|error| HttpError::bad_request(format!("the request body is not gzip: {error}")))?;
    bytes.shrink_to_fit();
    Ok((bytes.len() <= max).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use actix_web::ResponseError;
    use actix_web::http::header::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn one_gzip_is_accepted_and_no_other_coding() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            Coding::of(&headers).map_err(|error| error.status_code().as_u16())
        };
        for values in [&[][..], &[""], &["identity"], &["Identity, "]] {
            assert_eq!(of(values), Ok(Coding::Identity), "{values:?}");
        }
        for values in [&["gzip"][..], &["GZIP"], &["x-gzip"], &["identity", "gzip"]] {
            assert_eq!(of(values), Ok(Coding::Gzip), "{values:?}");
        }
        for values in [&["br"][..], &["deflate"], &["gzip, gzip"], &["gzip", "br"], &["zstd"], &["gzip;q=1"]] {
            assert_eq!(of(values), Err(415), "{values:?}");
        }
    }

    #[test]
    fn a_body_that_unpacks_to_more_than_the_bound_is_refused() {
        assert_eq!(gunzip(&packed(&[b'x'; 100]), 100).unwrap().unwrap(), vec![b'x'; 100]);
        assert!(gunzip(&packed(&[b'x'; 101]), 100).unwrap().is_none());
        assert!(gunzip(&packed(&vec![0; 64 << 20]), 1 << 20).unwrap().is_none());
        let two = [packed(b"ab"), packed(b"cd")].concat();
        assert_eq!(gunzip(&two, 100).unwrap().unwrap(), b"abcd");
        let whole = packed(b"abcd");
        let cut = &whole[..whole.len() - 1];
        for bad in [&b""[..], b"{}", cut, &[&whole[..], b"rest"].concat()] {
            assert_eq!(gunzip(bad, 100).unwrap_err().status_code().as_u16(), 400, "{bad:?}");
        }
    }
}
