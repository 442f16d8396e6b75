//! The reader's HTTP routes against what such a server does without a database,
//! and against the same scan without a server.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::{AnswerLimits, LdbReader};

use super::client::{Load, load, median};
use super::constant::{self, Way};
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

    async fn round(&mut self, server: &str, pid: u32, clients: Clients) {
        let before = cpu(pid);
        let awake = (clients == Clients::Awake).then(|| tokio::spawn(stay_awake()));
        self.loads.push(load(server, CONNECTIONS, &self.sets, self.status, ROUND).await);
        if let Some(awake) = awake {
            awake.abort();
        }
        self.cpu += cpu(pid) - before;
    }

    /// Microseconds of the node's CPU for one request.
    fn cpu_per_request(&self) -> f64 {
        let requests: f64 = self.loads.iter().map(|load| load.per_second * ROUND.as_secs_f64()).sum();
        self.cpu.as_secs_f64() * 1e6 / requests
    }
}

/// What the thread of the clients does when it has nothing to do. Whoever sends to a
/// thread that sleeps also wakes it, which between the cores of a virtual machine takes
/// nearly as long as reading a row, and is no cost of a server whose clients are on other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clients {
    Awake,
    Asleep,
}

async fn stay_awake() {
    loop {
        tokio::task::yield_now().await;
    }
}

/// Point reads against the same requests answered without a database.
pub async fn points(report: &mut Report, reader: &str, pid: u32) {
    let (router, shortcut) = (constant::start(Way::Router), constant::start(Way::FastPath));
    let contender = || Contender::new(data::point_reads(), 200);
    let [mut points, mut constant, mut short, mut to_asleep, mut constant_to_asleep] =
        std::array::from_fn(|_| contender());
    for _ in 0..ROUNDS {
        points.round(reader, pid, Clients::Awake).await;
        constant.round(&router.address, router.pid(), Clients::Awake).await;
        short.round(&shortcut.address, shortcut.pid(), Clients::Awake).await;
        to_asleep.round(reader, pid, Clients::Asleep).await;
        constant_to_asleep.round(&router.address, router.pid(), Clients::Asleep).await;
    }
    let rate = |contender: &Contender| median(contender.loads.clone()).per_second;
    let p99 = |contender: &Contender| median(contender.loads.clone()).p99.as_secs_f64() * 1e6;
    let what = "the same POST, constant answer";
    report.ratio("point read, 64 connections", rate(&points), (what, rate(&constant)), "req/s", "≥ 0.75");
    report.ratio("point read, p99", p99(&points), (what, p99(&constant)), "µs", "≤ 2");
    let (ours, theirs) = (points.cpu_per_request(), constant.cpu_per_request());
    report.ratio("point read, CPU of the node", ours, (what, theirs), "µs/req", "");
    let against = ("constant answer that passes the router by", rate(&short));
    report.ratio("point read, 64 connections", rate(&points), against, "req/s", "");
    let against = (what, rate(&constant_to_asleep));
    report.ratio("point read, clients that sleep", rate(&to_asleep), against, "req/s", "");
    let against = (what, p99(&constant_to_asleep));
    report.ratio("point read, clients that sleep, p99", p99(&to_asleep), against, "µs", "");
}

/// Rows by prefix against the same scan on one thread, without a server.
pub async fn prefix(report: &mut Report, reader: &str, pid: u32, ldb: &Path) {
    let mut groups = Contender::new(data::group_reads(), 200);
    let mut in_process = Vec::new();
    for _ in 0..ROUNDS {
        groups.round(reader, pid, Clients::Awake).await;
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
    let limits = AnswerLimits { max_rows: None, max_bytes: 64 << 20 };
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
