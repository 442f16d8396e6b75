//! A consumer of the change feed: a program that caches a table and follows `/changes` over a plain
//! socket, without code of ctlstore.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::wait_for_value;
use crate::{Client, Node, NodeProcess, http};

/// The longest time of a stop, and of waiting for an event.
pub const STOP: Duration = Duration::from_secs(60);
/// The time for which a test waits that expects no event.
pub const SOON: Duration = Duration::from_millis(300);
/// The simple table's path in the reader's routes.
pub const TABLE: &str = "fam/tab";

/// An executive, a reflector and a reader.
pub fn node() -> Node {
    Node::new().roles(&["executive", "reflector", "reader"]).set("reflector.poll_interval", "50ms")
}

/// A node with an empty simple table.
pub fn with_table(node: &Node) -> (NodeProcess, Client) {
    let process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(0, "zero")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 0, "zero");
    (process, client)
}

/// A stream that is not refused.
#[track_caller]
pub fn open(base: &str, query: &str, last: &str) -> Stream {
    Stream::open(base, query, last).expect("an answer").expect("a stream")
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: String,
    pub event: String,
    pub data: Value,
}

/// A response instead of a stream.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub head: String,
}

/// An open stream of events.
pub struct Stream {
    body: BufReader<Chunked>,
    line: String,
    event: String,
    data: String,
    /// The last id, of an event or alone.
    pub last_id: String,
    pub heartbeats: u64,
}

impl Stream {
    /// `base` as `http://host:port`, `query` with its question mark or empty.
    pub fn open(base: &str, query: &str, last_event_id: &str) -> io::Result<Result<Self, Refused>> {
        let address = base.strip_prefix("http://").expect("a plain URL");
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let last = if last_event_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_event_id}\r\n") };
        write!(socket, "GET /changes{query} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{last}\r\n")?;
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status != 200 {
            return Ok(Err(Refused { status, head: head.to_ascii_lowercase() }));
        }
        assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
        Ok(Ok(Self {
            body: BufReader::new(Chunked { reader, left: 0 }),
            line: String::new(),
            event: String::new(),
            data: String::new(),
            last_id: last_event_id.to_owned(),
            heartbeats: 0,
        }))
    }

    /// The next event; `None` at the stream's orderly end. If nothing came within `patience`, an error of
    /// the kind `WouldBlock`.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<Event>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.body.get_ref().reader.get_ref().set_read_timeout(Some(left))?;
            if self.body.read_line(&mut self.line)? == 0 {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.line);
            let line = line.trim_end_matches('\n');
            match line.split_once(": ") {
                _ if line.is_empty() && self.data.is_empty() => self.event.clear(),
                _ if line.is_empty() => {
                    let data = serde_json::from_str(&std::mem::take(&mut self.data)).expect("json");
                    let event = std::mem::take(&mut self.event);
                    return Ok(Some(Event { id: self.last_id.clone(), event, data }));
                }
                Some(("id", id)) => self.last_id = id.to_owned(),
                Some(("event", event)) => self.event = event.to_owned(),
                Some(("data", data)) => self.data.push_str(data),
                Some(("", "heartbeat")) => self.heartbeats += 1,
                Some(("retry", _)) => {}
                _ => panic!("a line that is no field: {line:?}"),
            }
        }
    }

    /// The next event, which must come within a minute.
    #[track_caller]
    pub fn expect(&mut self) -> Event {
        self.next(Duration::from_secs(60)).expect("an event in time").expect("an event before the end")
    }
}

/// A chunked body.
struct Chunked {
    reader: BufReader<TcpStream>,
    /// Bytes of the chunk that are not read yet.
    left: usize,
}

impl Read for Chunked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            // It only peeks, so a time-out in the middle of a size loses no byte of it.
            let length = loop {
                let seen = self.reader.fill_buf()?;
                if seen.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if seen.starts_with(b"\r\n") {
                    self.reader.consume(2);
                    continue;
                }
                if let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") {
                    let size =
                        std::str::from_utf8(&seen[..end]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
                    self.reader.consume(end + 2);
                    break size.expect("a chunk's size");
                }
                // The size is split between two reads, so it is read byte by byte.
                let mut size = String::new();
                self.reader.read_line(&mut size)?;
                let size = size.trim();
                if size.is_empty() {
                    continue;
                }
                break usize::from_str_radix(size, 16).expect("a chunk's size");
            };
            if length == 0 {
                return Ok(0);
            }
            self.left = length;
        }
        let most = out.len().min(self.left);
        let read = self.reader.read(&mut out[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}

/// A cache of one simple table `(id, value)`, and its position in the feed.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Cache {
    pub rows: BTreeMap<i64, String>,
    pub position: String,
    pub resyncs: u64,
    pub events: u64,
}

impl Cache {
    /// Applies one event. Rows that an event does not have are read from `base`.
    pub fn take(&mut self, base: &str, table: &str, event: &Event) -> Result<(), ureq::Error> {
        match event.event.as_str() {
            "start" if self.position.is_empty() => self.rows = rows(base, table)?,
            "start" => {}
            "change" => {
                self.events += 1;
                let id = event.data["key"][0]["value"].as_i64().expect("an id");
                let value = match event.data.get("row") {
                    Some(Value::Null) => None,
                    Some(row) => Some(row["value"].as_str().expect("a value").to_owned()),
                    None => row(base, table, id)?,
                };
                match value {
                    Some(value) => drop(self.rows.insert(id, value)),
                    None => drop(self.rows.remove(&id)),
                }
            }
            "table" => match event.data["change"].as_str() {
                Some("cleared" | "dropped") => self.rows.clear(),
                _ => self.rows = rows(base, table)?,
            },
            "resync" => {
                self.resyncs += 1;
                self.rows = rows(base, table)?;
            }
            other => panic!("an event called {other}"),
        }
        self.position.clone_from(&event.id);
        Ok(())
    }
}

/// All rows of a simple table, as the reader has them now.
pub fn rows(base: &str, table: &str) -> Result<BTreeMap<i64, String>, ureq::Error> {
    let answer = http::exchange("POST", &format!("{base}/get-rows-by-key-prefix/{table}"), &[], "{}")?;
    if answer.status == 404 {
        return Ok(BTreeMap::new());
    }
    let rows = answer.expect(200).json();
    let of = |row: &Value| (row["id"].as_i64().expect("an id"), row["value"].as_str().unwrap_or_default().to_owned());
    Ok(rows.as_array().expect("rows").iter().map(of).collect())
}

fn row(base: &str, table: &str, id: i64) -> Result<Option<String>, ureq::Error> {
    let body = json!({ "Key": [{ "Value": id }] }).to_string();
    let answer = http::exchange("POST", &format!("{base}/get-row-by-key/{table}"), &[], body)?;
    Ok((answer.status == 200).then(|| answer.json()["value"].as_str().expect("a text").to_owned()))
}
