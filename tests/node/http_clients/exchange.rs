//! One connection, byte by byte: it sends exactly the test's bytes and reads answers by their framing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer takes less, even on a machine that compiles at the same time.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// An answer, with its head in lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `127.0.0.1:PORT` of a URL.
pub fn address(url: &str) -> &str {
    url.strip_prefix("http://").expect("a plain url")
}

impl Connection {
    pub fn to(url: &str) -> Self {
        let stream = TcpStream::connect(address(url)).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a time-out");
        stream.set_nodelay(true).expect("set no delay");
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(text.as_ref()).expect("send");
    }

    /// The next answer with its body. It is not for HEAD.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let chunked = answer.header("transfer-encoding") == Some("chunked");
        match answer.header("content-length").map(|length| length.parse().expect("a length")) {
            Some(length) => {
                answer.body = vec![0; length];
                self.stream.read_exact(&mut answer.body).expect("the whole body");
            }
            None if chunked => while self.chunk(&mut answer.body) {},
            None => {
                self.stream.read_to_end(&mut answer.body).expect("the body up to the end");
            }
        }
        answer
    }

    /// Appends the next chunk; false at the last one.
    pub fn chunk(&mut self, body: &mut Vec<u8>) -> bool {
        let size = usize::from_str_radix(self.line().trim(), 16).expect("a chunk's size");
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).expect("a chunk");
        assert_eq!(chunk.split_off(size), b"\r\n");
        body.extend(chunk);
        size > 0
    }

    /// The next answer's head.
    pub fn head(&mut self) -> Answer {
        let line = self.line();
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_ascii_lowercase()));
        }
        Answer { version, status, headers, body: Vec::new() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        assert!(line.ends_with("\r\n"), "cut short: {line:?}");
        line
    }

    /// Everything until the server closes the connection.
    pub fn rest(mut self) -> String {
        let mut rest = Vec::new();
        // A server that closes a connection with unread bytes resets it.
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Closes the sending side.
    pub fn end(&mut self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).expect("close the sending side");
    }
}
