//! Point reads beside other clients of the same worker: idle connections, unfinished bodies, and streams of changes that
//! catch up. Entry points: [`measure`], and [`run`] in the process of the other clients. That process does little work,
//! so the node and the measured client have the cores: a stream takes its bytes at a fixed pace.
//!
//! Every latency is compared with the same read alone, in the same run by turns.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::client::{Connection, address, percentile, request};
use super::data;
use super::other::OtherProcess;
use super::process::cpu;
use super::report::Report;
use super::steady::until_all_is_readable;
use support::{Node, NodeProcess, http, wait_until};

/// The first argument of the other clients' process; their kind and the reader's address follow.
pub const ARGUMENT: &str = "strangers-process";

/// Rows of the table: enough changes that no stream comes to their end within a round.
const ROWS: usize = 20_000;
const ROUNDS: usize = 3;
/// Reads of one round over one connection.
const KEPT_READS: usize = 2_000;
/// Reads of one round with a new connection each.
const NEW_READS: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(30);

/// One stream takes so many bytes at a time, with this pause: 64 KiB a second.
const TAKEN_BYTES: usize = 4 << 10;
const TAKING_PAUSE: Duration = Duration::from_millis(62);
/// The receive buffer of a stream's client; the kernel doubles it.
const STREAM_BUFFER: u32 = 32 << 10;
/// The pause before a connection that the server closed is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// The other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strangers {
    Idle,
    Bodies,
    Streams,
}

impl Strangers {
    const ALL: [Self; 3] = [Self::Idle, Self::Bodies, Self::Streams];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Bodies => "bodies",
            Self::Streams => "streams",
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Idle => 2_000,
            Self::Bodies => 1_000,
            Self::Streams => 256,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Idle => "beside 2,000 idle connections",
            Self::Bodies => "beside 1,000 unfinished bodies",
            Self::Streams => "beside 256 streams with rows that catch up",
        }
    }

    fn request(self) -> Vec<u8> {
        match self {
            Self::Idle => request("GET", "/ping", "", ""),
            Self::Bodies => {
                let head = "POST /get-row-by-key/bench/points HTTP/1.1\r\nHost: localhost\r\n";
                format!("{head}Content-Length: 1000\r\n\r\n{{").into_bytes()
            }
            Self::Streams => request("GET", "/changes?since=1&rows=true", "", ""),
        }
    }
}

/// The latencies of each round, sorted.
#[derive(Default)]
struct Rounds(Vec<Vec<Duration>>);

impl Rounds {
    /// The median of the rounds' percentiles, in microseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let mut all: Vec<Duration> = self.0.iter().map(|round| percentile(round, percent)).collect();
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64() * 1e6
    }

    fn add(&mut self, mut round: Vec<Duration>) {
        round.sort_unstable();
        self.0.push(round);
    }
}

/// Both kinds of point reads.
#[derive(Default)]
struct Reads {
    kept: Rounds,
    new: Rounds,
}

impl Reads {
    async fn round(&mut self, reader: &str, requests: &[Vec<u8>]) {
        let mut connection = Connection::open(reader).await.expect("the reader takes connections");
        let mut kept = Vec::with_capacity(KEPT_READS);
        for (n, request) in requests.iter().cycle().take(KEPT_READS).enumerate() {
            pause(n).await;
            let start = Instant::now();
            read(&mut connection, request).await;
            kept.push(start.elapsed());
        }
        drop(connection);
        let mut new = Vec::with_capacity(NEW_READS);
        for (n, request) in requests.iter().cycle().take(NEW_READS).enumerate() {
            pause(n).await;
            let start = Instant::now();
            let mut connection = Connection::open(reader).await.expect("the reader takes connections");
            read(&mut connection, request).await;
            new.push(start.elapsed());
        }
        self.kept.add(kept);
        self.new.add(new);
    }
}

async fn read(connection: &mut Connection, request: &[u8]) {
    let answer = timeout(DEADLINE, connection.exchange(request)).await.expect("an answer in time");
    let (status, body) = answer.expect("the reader answers");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
}

/// The client is not busy between two reads, and reads come at no fixed distance.
async fn pause(n: usize) {
    sleep(Duration::from_micros(200 + (n as u64 * 613) % 1_500)).await;
}

pub async fn measure(report: &mut Report) {
    let node = data::roomy(Node::new()).set("reader.workers", 1).start();
    let executive_url = node.executive_url();
    let reader_url = node.reader_url();
    let reader = address(&reader_url);
    data::fill_points(address(&executive_url), ROWS).await;
    until_all_is_readable(address(&executive_url), reader).await;
    let requests = data::point_reads_among(ROWS);

    let mut alone = Reads::default();
    let mut beside = Strangers::ALL.map(|kind| (kind, Reads::default()));
    for _ in 0..ROUNDS {
        alone.round(reader, &requests).await;
        for (kind, reads) in &mut beside {
            let strangers = OtherProcess::start(&[ARGUMENT, kind.name(), reader]);
            let watched = Watched::begin(&node, *kind);
            reads.round(reader, &requests).await;
            watched.end(report);
            drop(strangers);
            wait_until("the strangers are gone", DEADLINE, || connections(&node) <= 1.0);
        }
    }
    let both = |rounds: &Rounds| format!("{:.0} / {:.0} µs", rounds.percentile(50), rounds.percentile(99));
    report.figure("point read alone, kept connection, p50 / p99", both(&alone.kept), "");
    report.figure("point read alone, new connection each, p50 / p99", both(&alone.new), "");
    for (kind, reads) in &beside {
        for (how, ours, reference) in [("kept", &reads.kept, &alone.kept), ("new", &reads.new, &alone.new)] {
            for (percent, target) in [(50, ""), (99, "< 2")] {
                let what = format!("point read {}, {how} connection, p{percent}", kind.described());
                let against = ("alone", reference.percentile(percent));
                report.ratio(&what, ours.percentile(percent), against, "µs", target);
            }
        }
    }
}

/// The events that the node sends to the other clients in one round, and its CPU time.
struct Watched<'a> {
    node: &'a NodeProcess,
    kind: Strangers,
    start: Instant,
    cpu: Duration,
    events: f64,
}

impl<'a> Watched<'a> {
    fn begin(node: &'a NodeProcess, kind: Strangers) -> Self {
        let events = metric(node, "ctlstore_reader_changes_events_total");
        Self { node, kind, start: Instant::now(), cpu: cpu(node.pid()), events }
    }

    /// The clients must still be there.
    fn end(self, report: &mut Report) {
        let seconds = self.start.elapsed().as_secs_f64();
        let share = (cpu(self.node.pid()) - self.cpu).as_secs_f64() / seconds;
        let events = (metric(self.node, "ctlstore_reader_changes_events_total") - self.events) / seconds;
        let count = self.kind.count() as f64;
        // Bodies that do not come are cut after a while, and sent again.
        wait_until("the strangers are connected", DEADLINE, || connections(self.node) >= count);
        if self.kind == Strangers::Streams {
            assert_eq!(metric(self.node, "ctlstore_reader_changes_clients"), count, "clients of the feed");
            let work = format!("{events:.0} events/s, {:.0} % of a core", share * 100.0);
            report.figure("256 streams with rows in one round: sent, and CPU of the node", work, "");
        }
    }
}

fn connections(node: &NodeProcess) -> f64 {
    metric(node, "ctlstore_http_connections{server=\"reader\"}")
}

/// One value of `/metrics`; 0 if it is missing.
fn metric(node: &NodeProcess, series: &str) -> f64 {
    let text = http::get(&format!("{}/metrics", node.ops_url())).expect(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or(0.0)
}

/// In the other clients' process: opens all connections, prints a line, and keeps them until it is killed.
pub fn run() {
    let mut arguments = std::env::args().skip(2);
    let name = arguments.next().expect("a kind of clients");
    let address = arguments.next().expect("the reader's address");
    let kind = Strangers::ALL.into_iter().find(|kind| kind.name() == name).expect("a known kind of clients");
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (ready, mut all_ready) = mpsc::channel(kind.count());
        for n in 0..kind.count() {
            // Spread over the pause, so that not all streams take bytes at the same moment.
            let offset = TAKING_PAUSE.mul_f64(n as f64 / kind.count() as f64);
            tokio::spawn(keep_open(kind, address.clone(), ready.clone(), offset));
        }
        for _ in 0..kind.count() {
            all_ready.recv().await.expect("the tasks run");
        }
        println!("ready");
        std::future::pending::<()>().await;
    });
}

/// Opens the connection again each time that the server closes it.
async fn keep_open(kind: Strangers, address: String, ready: mpsc::Sender<()>, offset: Duration) {
    sleep(offset).await;
    let mut ready = Some(ready);
    loop {
        // An error ends a connection as the server's close does.
        let _ = one_connection(kind, &address, &mut ready).await;
        sleep(RECONNECT_PAUSE).await;
    }
}

async fn one_connection(kind: Strangers, address: &str, ready: &mut Option<mpsc::Sender<()>>) -> std::io::Result<()> {
    let mut stream = connect(kind, address).await?;
    stream.write_all(&kind.request()).await?;
    let mut taken = [0; TAKEN_BYTES];
    if kind != Strangers::Bodies && stream.read(&mut taken).await? == 0 {
        return Ok(());
    }
    if let Some(ready) = ready.take() {
        let _ = ready.send(()).await;
    }
    while stream.read(&mut taken).await? > 0 {
        sleep(TAKING_PAUSE).await;
    }
    Ok(())
}

async fn connect(kind: Strangers, address: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if kind == Strangers::Streams {
        socket.set_recv_buffer_size(STREAM_BUFFER)?;
    }
    socket.connect(address.parse().map_err(std::io::Error::other)?).await
}

/// Many shells allow fewer open files than this process needs.
fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a struct of the right type, which outlives them.
    let is_raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    assert!(is_raised, "the limit of open files can't be raised");
}
