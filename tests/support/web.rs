//! A web server for a few objects in memory, which can behave badly: it fails, closes connections early, hangs, or does
//! not know ranges. It counts what it sends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that are sent at once; a connection can be closed early between two such pieces.
const CHUNK: usize = 16 * 1024;

/// The server; it runs until the test's process ends.
pub struct Web {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Arc<Vec<u8>>, u64)>,
    versions: u64,
    manners: Manners,
    requests: Vec<Request>,
}

/// How it answers requests for objects that exist.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// How many more requests get this status.
    pub fail: u64,
    pub status: u16,
    /// How many more answers end early, after so many bytes of their body.
    pub breaks: u64,
    pub break_after: usize,
    /// Sends the head of an answer and nothing more.
    pub hangs: bool,
    /// Sends the whole object even if the request is for a part.
    pub ignores_ranges: bool,
    /// Sends no etag, and ignores the request's.
    pub no_etags: bool,
    /// How many more answers, except for manifests, have one bit of their body flipped.
    pub flips: u64,
    /// Bytes a second; `None` is as fast as possible.
    pub slow: Option<usize>,
    /// How an answer tells its body's length.
    pub length: Length,
    /// Redirects every request, permanently, to the same path of this server.
    pub redirect: Option<String>,
    /// The `Authorization` that a request needs; 401 without it.
    pub authorization: Option<String>,
}

/// How a client learns the end of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Length {
    #[default]
    Told,
    /// By chunks, as in HTTP/1.1.
    Chunked,
    /// By the end of the connection, as in HTTP/1.0.
    Closed,
}

/// One request that was answered for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    /// The first byte of the requested part.
    pub offset: Option<usize>,
    /// Bytes of the body that were sent.
    pub sent: usize,
    pub authorization: Option<String>,
}

impl Web {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(answer(stream, &state)));
            }
        });
        Self { url, state }
    }

    /// Puts an object at `/name`; returns its URL.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> String {
        let state = &mut *self.lock();
        state.versions += 1;
        state.objects.insert(format!("/{name}"), (Arc::new(bytes), state.versions));
        format!("{}/{name}", self.url)
    }

    pub fn remove(&self, name: &str) {
        self.lock().objects.remove(&format!("/{name}"));
    }

    pub fn behave(&self, manners: Manners) {
        self.lock().manners = manners;
    }

    /// Its behaviour now. Numbers of further times count down.
    pub fn manners(&self) -> Manners {
        self.lock().manners.clone()
    }

    /// The requests for the object at `/name` so far.
    pub fn requests(&self, name: &str) -> Vec<Request> {
        let path = format!("/{name}");
        self.lock().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut method = String::new();
    let mut path = String::new();
    let mut offset = None::<usize>;
    let mut if_match = None;
    let mut authorization = None::<String>;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if method.is_empty() {
            let mut words = line.split(' ').map(str::to_owned);
            (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "range" => offset = value.trim_start_matches("bytes=").split('-').next().and_then(|n| n.parse().ok()),
                "if-match" => if_match = Some(value.to_owned()),
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let (object, manners) = {
        let state = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
        let object = state.objects.get(&path).cloned();
        let manners = state.manners.clone();
        if object.is_some() {
            state.manners.fail = manners.fail.saturating_sub(1);
        }
        (object, manners)
    };
    if let Some(to) = &manners.redirect {
        return redirect(stream, &format!("{to}{path}"));
    }
    let Some((bytes, version)) = object else { return plain(stream, 404) };
    if manners.authorization.is_some() && manners.authorization != authorization {
        return plain(stream, 401);
    }
    if manners.fail > 0 {
        return plain(stream, manners.status);
    }
    let etag = format!("\"v{version}\"");
    if !manners.no_etags && if_match.is_some_and(|wanted| wanted != etag) {
        return plain(stream, 412);
    }
    let bytes = if manners.flips > 0 && method == "GET" && !path.ends_with(".json") {
        state.lock().unwrap_or_else(PoisonError::into_inner).manners.flips -= 1;
        let mut flipped = bytes.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        Arc::new(flipped)
    } else {
        bytes
    };
    let offset = if manners.ignores_ranges { None } else { offset };
    let from = offset.unwrap_or(0).min(bytes.len());
    let status = match offset {
        Some(from) => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        None => "200 OK".to_owned(),
    };
    let etag = if manners.no_etags { String::new() } else { format!("ETag: {etag}\r\n") };
    let (version_of_http, length) = match manners.length {
        Length::Told => ("HTTP/1.1", format!("Content-Length: {}\r\n", bytes.len() - from)),
        Length::Chunked => ("HTTP/1.1", "Transfer-Encoding: chunked\r\n".to_owned()),
        Length::Closed => ("HTTP/1.0", String::new()),
    };
    write!(
        stream,
        "{version_of_http} {status}\r\n{length}{etag}Last-Modified: Thu, 01 Jan 2026 00:00:{:02} GMT\r\n\
         Connection: close\r\n\r\n",
        version % 60
    )?;
    let sent = if method == "HEAD" { 0 } else { body(&mut stream, &bytes[from..], &manners, state) };
    state.lock().unwrap_or_else(PoisonError::into_inner).requests.push(Request { path, offset, sent, authorization });
    stream.shutdown(Shutdown::Both)
}

/// Sends as much as its behaviour allows and the client takes.
fn body(stream: &mut TcpStream, bytes: &[u8], manners: &Manners, state: &Mutex<State>) -> usize {
    if manners.hangs {
        // Until the client closes the connection.
        let _ = stream.set_read_timeout(None);
        let _ = std::io::Read::read(stream, &mut [0]);
        return 0;
    }
    let breaks = manners.breaks > 0 && manners.break_after < bytes.len();
    if breaks {
        state.lock().unwrap_or_else(PoisonError::into_inner).manners.breaks -= 1;
    }
    let wanted = if breaks { &bytes[..manners.break_after] } else { bytes };
    let mut sent = 0;
    let is_chunked = manners.length == Length::Chunked;
    for chunk in wanted.chunks(CHUNK) {
        let framed = if is_chunked {
            [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()
        } else {
            chunk.to_vec()
        };
        if stream.write_all(&framed).is_err() {
            break;
        }
        sent += chunk.len();
        if let Some(rate) = manners.slow {
            // The pace of the link; it waits for no event.
            std::thread::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64));
        }
    }
    if is_chunked && sent == bytes.len() {
        let _ = stream.write_all(b"0\r\n\r\n");
    }
    sent
}

fn redirect(mut stream: TcpStream, to: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    stream.shutdown(Shutdown::Both)
}

fn plain(mut stream: TcpStream, status: u16) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Said So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    stream.shutdown(Shutdown::Both)
}
