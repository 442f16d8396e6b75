//! Requests over keep-alive connections, written beforehand so that this side takes
//! as little of the cores as it can. Knows HTTP/1.1 as far as the node answers it:
//! every answer states its length.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No single answer takes longer; a load that hangs ends.
const GRACE: Duration = Duration::from_secs(20);
const MAX_ANSWER: usize = 64 << 20;

/// `address` of `http://address`.
pub fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

pub fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// The answer's status and body.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (mut head, mut end) = (0, usize::MAX);
        while self.buffer.len() < end {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if end == usize::MAX
                && let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n")
            {
                head = at + 4;
                end = head + body_length(&self.buffer[..at])?;
            }
        }
        let status = self.buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        let status = status.and_then(|digits| digits.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        Ok((status, &self.buffer[head..]))
    }
}

fn body_length(head: &[u8]) -> Result<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.filter(|length| *length <= MAX_ANSWER).ok_or_else(|| Error::other("the answer states no length"))
}

/// What a load gave.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// Sends on every connection one request after the other for `time`; connection `i` takes the requests of
/// `sets[i % sets.len()]` in turn, each from another place on.
///
/// # Panics
/// When an answer has another status than `status`, or none comes.
pub async fn load(
    address: &str,
    connections: usize,
    sets: &Arc<Vec<Vec<Vec<u8>>>>,
    status: u16,
    time: Duration,
) -> Load {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(address).await.expect("the node takes connections"));
    }
    let start = Instant::now();
    let end = start + time;
    let tasks = open.into_iter().enumerate().map(|(i, connection)| {
        let sets = Arc::clone(sets);
        tokio::spawn(tokio::time::timeout(time + GRACE, one_after_the_other(connection, i, sets, status, end)))
    });
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await.expect("the load runs").expect("answers come in time"));
    }
    let took = start.elapsed();
    latencies.sort_unstable();
    let (p50, p99) = (percentile(&latencies, 50), percentile(&latencies, 99));
    Load { per_second: latencies.len() as f64 / took.as_secs_f64(), p50, p99 }
}

async fn one_after_the_other(
    mut connection: Connection,
    i: usize,
    sets: Arc<Vec<Vec<Vec<u8>>>>,
    status: u16,
    end: Instant,
) -> Vec<Duration> {
    let set = &sets[i % sets.len()];
    let mut latencies = Vec::new();
    for request in set.iter().cycle().skip(i * 7_919 % set.len()) {
        let start = Instant::now();
        if start >= end {
            break;
        }
        let (found, body) = connection.exchange(request).await.expect("the node answers");
        assert_eq!(found, status, "{}", String::from_utf8_lossy(body));
        latencies.push(start.elapsed());
    }
    latencies
}

/// Of sorted values.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(((sorted.len() * percent) / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The load with the median rate.
pub fn median(mut loads: Vec<Load>) -> Load {
    loads.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    loads[loads.len() / 2]
}

/// Sends each request once, spread over connections.
///
/// # Panics
/// Unless all answers are 200.
pub async fn send_all(address: &str, requests: &[Vec<u8>], connections: usize) {
    let share = requests.len().div_ceil(connections);
    let tasks: Vec<_> = requests
        .chunks(share)
        .map(|chunk| {
            let (address, chunk) = (address.to_owned(), chunk.to_vec());
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await.expect("the node takes connections");
                for request in chunk {
                    let (status, body) = connection.exchange(&request).await.expect("the node answers");
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("all requests succeed");
    }
}
