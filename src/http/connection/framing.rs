//! Finds the beginning and the end of each request in the bytes of a client, as RFC 9112 frames it.
//! Entry point: [`Framing::take`]. It edits heads in place. This node upgrades no connection, so it
//! blanks out `Upgrade` and its option in `Connection`, as RFC 9110 allows. A request that can't be
//! framed with certainty is the last one of its connection. Refusals are left to the HTTP library.

use memchr::memchr;

/// The longest head, in bytes. The HTTP library answers 431 to a longer one.
pub const MAX_HEAD: usize = 128 * 1024;

/// The longest request target, in bytes.
pub const MAX_TARGET: usize = 8 * 1024;

/// How much of a longer target is kept. That is still too long, even after a scheme and a host.
const KEPT_TARGET: usize = MAX_TARGET + 1024;

/// Where in a request the next byte of one connection is.
#[derive(Debug, Default)]
pub struct Framing {
    next: Next,
    /// Whether the present request is the last one.
    is_last: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Next {
    #[default]
    Head,
    /// This many bytes of a body.
    Body(u64),
    Chunk(Chunk),
    /// No further byte is part of a request.
    Nothing,
}

/// The states of a chunked body, byte by byte; the number is the chunk's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size(Option<u64>),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

/// The bytes that [`Framing::take`] found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that belong to the request.
    pub length: usize,
    /// Whether its head is among them.
    pub begins: bool,
    /// Whether it ends with them.
    pub ends: bool,
}

impl Framing {
    /// Whether the next byte begins a request.
    pub fn is_between(&self) -> bool {
        self.next == Next::Head
    }

    /// Whether no further byte is part of a request.
    pub fn is_over(&self) -> bool {
        self.next == Next::Nothing
    }

    /// Finds the bytes at the beginning of `bytes` that belong to one request. A head is found whole
    /// or not at all.
    pub fn take(&mut self, bytes: &mut [u8]) -> Taken {
        let mut taken = Taken::default();
        if self.is_between() {
            let Some(head) = Head::find(bytes) else {
                if bytes.len() >= MAX_HEAD {
                    self.next = Next::Nothing;
                    return Taken { length: bytes.len(), begins: true, ends: true };
                }
                return taken;
            };
            taken = Taken { length: head.length, begins: true, ends: false };
            self.is_last = head.is_last;
            self.next = head.body;
        }
        let rest = &bytes[taken.length..];
        match self.next {
            Next::Head | Next::Nothing => taken.ends = taken.begins,
            Next::Body(left) => {
                let length = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                taken.length += length;
                self.next = Next::Body(left - length as u64);
                taken.ends = left == length as u64;
            }
            Next::Chunk(chunk) => match chunk.follow(rest) {
                Ok(Followed::More(chunk)) => {
                    taken.length += rest.len();
                    self.next = Next::Chunk(chunk);
                }
                Ok(Followed::End(length)) => {
                    taken.length += length;
                    taken.ends = true;
                }
                // The HTTP library meets the same byte and refuses the request.
                Err(NotChunked) => {
                    taken.length += rest.len();
                    taken.ends = true;
                    self.is_last = true;
                }
            },
        }
        if taken.ends {
            self.next = if self.is_last || self.is_over() { Next::Nothing } else { Next::Head };
        }
        taken
    }
}

/// The framing that a head asks for.
struct Head {
    length: usize,
    body: Next,
    is_last: bool,
}

/// The fields of a head that frame its request.
#[derive(Default)]
struct Fields {
    content_length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
    /// Whether the HTTP library refuses the request for its framing.
    is_malformed: bool,
}

impl Head {
    /// The head at the beginning of `bytes`, edited; `None` if it is not whole yet.
    fn find(bytes: &mut [u8]) -> Option<Self> {
        let mut start = 0;
        // Empty lines before a request are ignored.
        while let Some(b'\r' | b'\n') = bytes.get(start) {
            start += 1;
        }
        let mut end = start + memchr(b'\n', bytes.get(start..)?)?;
        let line = start..end;
        let mut fields = Fields::default();
        loop {
            let from = end + 1;
            end = from + memchr(b'\n', bytes.get(from..)?)?;
            let mut field = &mut bytes[from..end];
            if let [rest @ .., b'\r'] = field {
                field = rest;
            }
            match field.first() {
                None => break,
                Some(b'c' | b'C' | b'u' | b'U' | b't' | b'T') => fields.read(field),
                // A folded line may continue any of these fields.
                Some(b' ' | b'\t') => fields.is_malformed = true,
                Some(_) => {}
            }
        }
        let line = shorten_target(&mut bytes[line]);
        let is_old = line.ends_with(b"HTTP/1.0");
        // The bytes after it are not HTTP, and no route accepts it.
        let is_tunnel = line.starts_with(b"CONNECT ");
        let is_unsure = fields.is_malformed || (fields.is_chunked && (fields.content_length.is_some() || is_old));
        let body = match fields.content_length {
            _ if is_unsure || is_tunnel => Next::Nothing,
            _ if fields.is_chunked => Next::Chunk(Chunk::Size(None)),
            Some(0) | None => Next::Head,
            Some(length) => Next::Body(length),
        };
        Some(Self { length: end + 1, body, is_last: fields.closes || (is_old && !fields.keeps_alive) })
    }
}

impl Fields {
    fn read(&mut self, field: &mut [u8]) {
        let Some(colon) = memchr(b':', field) else { return };
        let (name, value) = field.split_at_mut(colon);
        let value = &mut value[1..];
        if name.eq_ignore_ascii_case(b"connection") {
            self.connection(value);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            value.fill(b' ');
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = value.trim_ascii();
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
            self.is_malformed |= length.is_none() || self.content_length.is_some();
            self.content_length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_malformed |= self.is_chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.is_chunked = true;
        }
    }

    fn connection(&mut self, value: &mut [u8]) {
        for option in value.split_mut(|byte| *byte == b',') {
            let name = option.trim_ascii();
            if name.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if name.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps_alive = true;
            } else if name.eq_ignore_ascii_case(b"upgrade") {
                option.fill(b' ');
            }
        }
    }
}

/// Shortens a target that is far too long, and turns the rest into a field that nothing parses.
/// Gives the request line without its end.
fn shorten_target(line: &mut [u8]) -> &[u8] {
    const NAME: &[u8] = b"\r\nrest:";
    let version_of = |line: &[u8]| line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().map(<[u8]>::to_vec);
    if line.len() > KEPT_TARGET + 64
        && let Some(target) = memchr(b' ', &line[..64])
        && let Some(version) = version_of(line).filter(|version| version.starts_with(b"HTTP/1.") && version.len() == 8)
    {
        let cut = target + KEPT_TARGET;
        let ending = [b" ", version.as_slice(), NAME].concat();
        line[cut..cut + ending.len()].copy_from_slice(&ending);
        return line[..cut + 1 + version.len()].trim_ascii_end();
    }
    line.trim_ascii_end()
}

/// The body is not chunked as RFC 9112 says.
struct NotChunked;

enum Followed {
    More(Chunk),
    /// The body ends after this many bytes.
    End(usize),
}

impl Chunk {
    /// Follows a chunked body, by the same rules as the HTTP library.
    fn follow(mut self, bytes: &[u8]) -> Result<Followed, NotChunked> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Self::Data(left) = self {
                let length = (bytes.len() - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                at += length;
                self = match left - length as u64 {
                    0 => Self::DataCr,
                    left => Self::Data(left),
                };
                continue;
            }
            at += 1;
            match self.step(*byte)? {
                Some(next) => self = next,
                None => return Ok(Followed::End(at)),
            }
        }
        Ok(Followed::More(self))
    }

    /// The state after one byte; `None` at the end of the body.
    fn step(self, byte: u8) -> Result<Option<Self>, NotChunked> {
        let next = match (self, byte) {
            (Self::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                let size = size.unwrap_or_default().checked_mul(16).ok_or(NotChunked)?;
                Self::Size(Some(size | u64::from(digit)))
            }
            (Self::Size(Some(size)) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Size(Some(size)), b' ' | b'\t' | b';') => Self::Extension(size),
            (Self::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => Self::Extension(size),
            (Self::SizeLf(0), b'\n') => Self::TrailerStart,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(None),
            (Self::TrailerStart, b'\r') => Self::EndLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::TrailerStart | Self::Trailer, _) => Self::Trailer,
            (Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::EndLf, b'\n') => return Ok(None),
            _ => return Err(NotChunked),
        };
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests that are found in `text`, the same in pieces of any size.
    fn requests(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let least = text.len() / 1000 + 1;
        for size in [1, 2, 3, 7, 64, text.len()].map(|size| size.max(least)) {
            let mut framing = Framing::default();
            let mut held = Vec::new();
            let mut one = Vec::new();
            let mut all = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                held.extend_from_slice(piece);
                loop {
                    let taken = framing.take(&mut held);
                    one.extend(held.drain(..taken.length));
                    if taken.ends {
                        all.push(String::from_utf8(std::mem::take(&mut one)).unwrap());
                    }
                    if taken == Taken::default() || framing.is_over() || held.is_empty() {
                        break;
                    }
                }
            }
            if size > least {
                assert_eq!(all, found, "in pieces of {size}");
            }
            found = all;
        }
        found
    }

    #[test]
    fn requests_end_where_their_heads_say() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\n\r\nGET /";
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n1A \r\n\
                       abcdefghijklmnopqrstuvwxyz\r\n0\r\nconnection: close\r\n\r\n";
        let bare = "GET / HTTP/1.1\nhost: a\n\n";
        assert_eq!(requests(&[get, post, chunked, bare, get].concat()), [get, post, chunked, bare, get]);
    }

    #[test]
    fn nothing_after_the_last_request_is_taken() {
        for last in [
            "GET / HTTP/1.1\r\nconnection: a, Close\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab",
            "POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: +2\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 2, 2\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nx: a\r\n content-length: 5\r\n\r\n",
        ] {
            let after = "GET /after HTTP/1.1\r\nhost: a\r\n\r\n";
            assert_eq!(requests(&format!("{last}{after}")), [last], "{last:?}");
        }
        let kept = "GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n";
        assert_eq!(requests(&[kept, kept].concat()), [kept, kept]);
    }

    #[test]
    fn an_upgrade_is_blanked_out_and_nothing_else() {
        let asked = "GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings,upgrade\r\n\
                     HTTP2-Settings: AAMAAABkAAQ\r\nupgrade-insecure-requests: 1\r\nx: upgrade\r\n\r\n";
        let seen = "GET / HTTP/1.1\r\nUpgrade:    \r\nConnection:        , HTTP2-Settings,       \r\n\
                    HTTP2-Settings: AAMAAABkAAQ\r\nupgrade-insecure-requests: 1\r\nx: upgrade\r\n\r\n";
        assert_eq!(requests(asked), [seen]);
        let body = "POST / HTTP/1.1\r\ncontent-length: 21\r\n\r\nconnection: upgrade\r\n";
        assert_eq!(requests(body), [body]);
    }

    #[test]
    fn a_target_that_is_too_long_stays_too_long() {
        for (length, kept) in [(MAX_TARGET + 1, MAX_TARGET + 1), (70_000, KEPT_TARGET), (120_000, KEPT_TARGET)] {
            let text = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(length - 1));
            let seen = requests(&text);
            let line = seen[0].split("\r\n").next().unwrap();
            let target = line.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1")).unwrap();
            assert!((kept - 8..=kept).contains(&target.len()), "{}", target.len());
            assert_eq!(seen[0].len(), text.len());
        }
    }
}
