//! The reader's HTTP routes against what such a server does without a database,
//! and against the same scan without a server.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctlstore::ldb::read::{LdbReader, Limits};
use ctlstore::schema::TableRef;

use super::client::{Load, load, median};
use super::constant::ConstantServer;
use super::data;
use super::process::cpu;
use super::report::Report;

const CONNECTIONS: usize = 64;
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

/// A kind of request with what it gave.
struct Contender {
    sets: Arc<Vec<Vec<Vec<u8>>>>,
    status: u16,
    loads: Vec<Load>,
    cpu: Duration,
}

impl Contender {
    fn new(requests: Vec<Vec<u8>>, status: u16) -> Self {
        Self { sets: Arc::new(vec![requests]), status, loads: Vec::new(), cpu: Duration::ZERO }
    }

    async fn round(&mut self, reader: &str, pid: u32) {
        let (before, awake) = (cpu(pid), tokio::spawn(stay_awake()));
        self.loads.push(load(reader, CONNECTIONS, &self.sets, self.status, ROUND).await);
        awake.abort();
        self.cpu += cpu(pid) - before;
    }

    /// Microseconds of the node's CPU for one request.
    fn cpu_per_request(&self) -> f64 {
        let requests: f64 = self.loads.iter().map(|load| load.per_second * ROUND.as_secs_f64()).sum();
        self.cpu.as_secs_f64() * 1e6 / requests
    }
}

/// Keeps this thread from sleeping: whoever sends to a thread that sleeps also wakes it,
/// which between the cores of a virtual machine takes as long as reading a row, and is no
/// cost of a server whose clients are on other machines.
async fn stay_awake() {
    loop {
        tokio::task::yield_now().await;
    }
}

/// Point reads against the same requests answered without a database.
pub async fn points(report: &mut Report, reader: &str, pid: u32) {
    let mut points = Contender::new(data::point_reads(), 200);
    let mut constant = Contender::new(data::point_reads(), 200);
    let server = ConstantServer::start();
    for _ in 0..ROUNDS {
        points.round(reader, pid).await;
        constant.round(&server.address, server.pid()).await;
    }
    let (row, bytes) = (median(points.loads.clone()), median(constant.loads.clone()));
    let what = "the same POST, constant answer";
    report.ratio("point read, 64 connections", row.per_second, (what, bytes.per_second), "req/s", "≥ 0.75");
    let micros = |load: Load| load.p99.as_secs_f64() * 1e6;
    report.ratio("point read, p99", micros(row), (what, micros(bytes)), "µs", "≤ 2");
    let (ours, theirs) = (points.cpu_per_request(), constant.cpu_per_request());
    report.ratio("point read, CPU of the node", ours, (what, theirs), "µs/req", "");
}

/// Rows by prefix against the same scan on one thread, without a server.
pub async fn prefix(report: &mut Report, reader: &str, pid: u32, ldb: &Path) {
    let mut groups = Contender::new(data::group_reads(), 200);
    let mut in_process = Vec::new();
    for _ in 0..ROUNDS {
        groups.round(reader, pid).await;
        in_process.push(scan_in_process(ldb));
    }
    in_process.sort_by(f64::total_cmp);
    let scans = in_process[ROUNDS / 2];
    report.figure("prefix of 100 rows, CPU of the node", format!("{:.0} µs/req", groups.cpu_per_request()), "");
    let prefix = median(groups.loads);
    report.ratio("prefix of 100 rows, 64 connections", prefix.per_second, ("in-process", scans), "req/s", "≥ 0.7");
}

/// Nothing but point reads for `time`.
pub async fn point_reads(reader: &str, time: Duration) -> Load {
    load(reader, CONNECTIONS, &Arc::new(vec![data::point_reads()]), 200, time).await
}

/// The same scans per second, on this thread.
fn scan_in_process(ldb: &Path) -> f64 {
    let table = TableRef::parse("bench", "groups").expect("a table's name");
    let limits = Limits { max_rows: None, max_bytes: 64 << 20 };
    let keys: Vec<String> = (0..data::ROWS / data::GROUP).map(data::id).collect();
    let (mut reader, mut scans, start) = (LdbReader::new(ldb), 0u32, Instant::now());
    while start.elapsed() < ROUND {
        for key in &keys {
            let mut out = Vec::with_capacity(4096);
            let rows = reader.scan_json(&table, key, limits, &mut out).expect("the ldb is read");
            assert_eq!(rows, data::GROUP as u64);
            scans += 1;
        }
    }
    f64::from(scans) / start.elapsed().as_secs_f64()
}
