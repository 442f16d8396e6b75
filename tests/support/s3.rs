//! A real S3-compatible server on loopback, one for each test binary; each test has a bucket of its own. [`Front`] is a
//! proxy in front of it that can misbehave.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::http::{self, Answer};
use super::port::Port;
use super::{process, wait};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// The server accepts any signature. A request without one counts as anonymous.
const SIGNED: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
);

static SERVER: LazyLock<S3Server> = LazyLock::new(S3Server::start);
static BUCKETS: AtomicUsize = AtomicUsize::new(0);

struct S3Server {
    port: Port,
    /// The kernel kills it at the end of this process.
    _child: Child,
    _scratch: TempDir,
}

impl S3Server {
    fn start() -> Self {
        let port = Port::claim();
        let scratch = process::scratch_dir();
        let log = File::create(scratch.path().join("s3.log")).expect("make the server's log");
        let mut command = Command::new(program());
        command.args(["-H", "127.0.0.1", "-p", &port.number.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("clone the log")).stderr(log);
        let child = process::spawn(command);
        let url = format!("http://127.0.0.1:{}/moto-api/", port.number);
        wait::wait_until("the S3 server answers", START_DEADLINE, || http::is_ok(&url));
        Self { port, _child: child, _scratch: scratch }
    }
}

fn program() -> PathBuf {
    let installed =
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/s3-server/bin/moto_server"));
    let program = std::env::var_os("CTLSTORE_TEST_S3_SERVER").map_or_else(installed, PathBuf::from);
    assert!(program.is_file(), "no S3 server at {}: run `make test` or tools/install-s3-server", program.display());
    program
}

/// A new, empty bucket.
pub struct Bucket {
    pub name: String,
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new()
    }
}

impl Bucket {
    pub fn new() -> Self {
        let name = format!("bucket-{}", BUCKETS.fetch_add(1, Ordering::Relaxed));
        http::request("PUT", &format!("{}/{name}", endpoint()), &[SIGNED], "").expect(200);
        Self { name }
    }

    /// The URL of an object in it.
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// Sends a request to the server directly, without code of ctlstore.
    pub fn ask(&self, method: &str, key_and_query: &str) -> Answer {
        http::request(method, &format!("{}/{}{key_and_query}", endpoint(), self.name), &[SIGNED], "")
    }

    /// Puts an object that everyone can read.
    pub fn put_public(&self, key: &str, bytes: &[u8]) {
        let url = format!("{}/{}{key}", endpoint(), self.name);
        http::request("PUT", &url, &[SIGNED, ("x-amz-acl", "public-read")], bytes).expect(200);
    }

    /// The keys in it, in order.
    pub fn keys(&self) -> Vec<String> {
        let listing = self.ask("GET", "?list-type=2").expect(200).text();
        let keys = listing.split("<Key>").skip(1);
        keys.map(|rest| rest.split("</Key>").next().unwrap_or_default().to_owned()).collect()
    }

    /// The number of multipart uploads that were begun and neither completed nor aborted.
    pub fn unfinished_uploads(&self) -> usize {
        self.ask("GET", "?uploads").expect(200).text().matches("<Upload>").count()
    }
}

/// The server's address. The first call starts it.
pub fn endpoint() -> String {
    format!("http://127.0.0.1:{}", SERVER.port.number)
}

/// The environment with which a store reaches `endpoint`.
pub fn variables(endpoint: &str) -> Vec<(String, String)> {
    let pairs = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// How a [`Front`] treats its clients.
#[derive(Clone, PartialEq, Eq)]
pub enum Manner {
    /// It passes all requests on to the server.
    Pass,
    /// It passes requests on to the server, except for copies within the store and conditional puts, which are 501.
    Plain,
    /// It accepts connections, reads, and never answers.
    Silent,
    /// It answers every request with this status.
    Answer { status: &'static str, body: &'static str },
}

/// A proxy in front of the S3 server, which can change its manner.
pub struct Front {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    sent: Arc<AtomicU64>,
}

struct State {
    manner: Manner,
    connections: Vec<TcpStream>,
}

impl Front {
    pub fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind the front");
        let endpoint = format!("http://{}", listener.local_addr().expect("the front's address"));
        let state = Arc::new(Mutex::new(State { manner, connections: Vec::new() }));
        let shared = Arc::clone(&state);
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().expect("the front's state");
                state.connections.push(client.try_clone().expect("clone a connection"));
                let manner = state.manner.clone();
                let sent = Arc::clone(&counted);
                thread::spawn(move || serve(client, manner, &sent));
            }
        });
        Self { endpoint, state, sent }
    }

    /// Changes the manner and closes open connections.
    pub fn behave(&self, manner: Manner) {
        let mut state = self.state.lock().expect("the front's state");
        state.manner = manner;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// The bytes of answers that it has passed on.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The number of connections since its manner last changed.
    pub fn connections(&self) -> usize {
        self.state.lock().expect("the front's state").connections.len()
    }
}

fn serve(mut client: TcpStream, manner: Manner, sent: &Arc<AtomicU64>) {
    match manner {
        Manner::Pass => {
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, SERVER.port.number)).expect("reach the server");
            let mut from_server = server.try_clone().expect("clone");
            let mut to_client = client.try_clone().expect("clone");
            let sent = Arc::clone(sent);
            thread::spawn(move || {
                let mut chunk = [0; 16 << 10];
                while let Ok(count @ 1..) = from_server.read(&mut chunk) {
                    sent.fetch_add(count as u64, Ordering::Relaxed);
                    if to_client.write_all(&chunk[..count]).is_err() {
                        break;
                    }
                }
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let _ = std::io::copy(&mut client, &mut server);
            let _ = server.shutdown(Shutdown::Both);
        }
        Manner::Plain => {
            let head = read_head(&mut client);
            let lower = head.to_ascii_lowercase();
            let is_put = lower.starts_with("put ");
            if is_put && ["x-amz-copy-source:", "if-none-match:", "if-match:"].iter().any(|name| lower.contains(name)) {
                answer(&mut client, "501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>");
                return;
            }
            // Each connection has one request: its body, then the whole answer.
            let length = lower.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
            let length = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, SERVER.port.number)).expect("reach the server");
            let _ = server.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes());
            let _ = std::io::copy(&mut (&mut client).take(length), &mut server);
            let _ = std::io::copy(&mut server, &mut client);
            let _ = client.shutdown(Shutdown::Both);
        }
        Manner::Silent => drop(std::io::copy(&mut client, &mut std::io::sink())),
        Manner::Answer { status, body } => {
            // Only the head needs a change: the connection ends with the answer.
            read_head(&mut client);
            answer(&mut client, status, body);
        }
    }
}

fn read_head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn answer(client: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = client.write_all(answer.as_bytes());
    let _ = client.shutdown(Shutdown::Write);
    let _ = std::io::copy(client, &mut std::io::sink());
}
