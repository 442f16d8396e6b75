//! A caught-up node with little to do: how soon a row is readable, what it costs,
//! and how fast the node is back after a restart.

use std::time::{Duration, Instant};

use super::client::{Connection, address, percentile, send_all};
use super::data;
use super::process::cpu;
use super::report::Report;
use super::support::{Node, NodeProcess};

const SAMPLES: usize = 300;
const DEADLINE: Duration = Duration::from_secs(20);
const WATCHED: Duration = Duration::from_secs(10);
const STARTS: usize = 5;
/// How often a node looks at the ledger of another.
const POLL: &str = "100ms";

/// Writes the mark and waits until it is readable; the time between the answer and that.
pub async fn until_readable(executive: &mut Connection, reader: &mut Connection, n: usize) -> Duration {
    let (status, body) = executive.exchange(&data::write_mark(n)).await.expect("the executive answers");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
    let (read, want, answered) = (data::read_mark(), format!(r#""n":{n},"#), Instant::now());
    loop {
        let (status, body) = reader.exchange(&read).await.expect("the reader answers");
        if status == 200 && String::from_utf8_lossy(body).contains(&want) {
            return answered.elapsed();
        }
        assert!(answered.elapsed() < DEADLINE, "the row is not readable after {DEADLINE:?}");
    }
}

/// Median and 99th percentile of [`until_readable`].
async fn readable(executive: &str, reader: &str) -> (Duration, Duration) {
    let mut executive = Connection::open(executive).await.expect("the executive takes connections");
    let mut reader = Connection::open(reader).await.expect("the reader takes connections");
    let mut times = Vec::with_capacity(SAMPLES);
    for n in 0..SAMPLES {
        // At no fixed distance, so that no timer of the node is always met at the same moment.
        tokio::time::sleep(Duration::from_millis(10 + (n as u64 * 7) % 23)).await;
        times.push(until_readable(&mut executive, &mut reader, n + 1).await);
    }
    times.sort_unstable();
    (percentile(&times, 50), percentile(&times, 99))
}

pub async fn latency(report: &mut Report, executive: &str, reader: &str) {
    let (p50, p99) = readable(executive, reader).await;
    report.figure("answer to readable row, p50 / p99", format!("{p50:.2?} / {p99:.2?}"), "p99 < 5 ms");
}

/// One node writes to the ctldb at `url`, another follows it, which looks every [`POLL`].
pub async fn across(report: &mut Report, url: &str) {
    let writer = super::roomy(Node::new()).roles(&["executive"]).ctldb(url).start();
    send_all(address(&writer.executive_url()), &data::schema(), 1).await;
    let host = Node::new().roles(&["reflector", "reader"]).ctldb(url);
    // Without chance the longest interval is the one that is stated.
    let host = host.set("reflector.poll_interval", POLL).set("reflector.poll_jitter", 0.0).start();
    let (p50, p99) = readable(address(&writer.executive_url()), address(&host.reader_url())).await;
    let what = format!("answer to readable row on another node, polled every {POLL}, p50 / p99");
    report.figure(&what, format!("{p50:.1?} / {p99:.1?}"), "p99 < 120 ms");
}

/// CPU with nothing to do, and with one mutation a second.
pub async fn cpu_use(report: &mut Report, executive: &str, pid: u32) {
    for (what, writes) in [("CPU of the whole node, idle", false), ("CPU, one mutation a second", true)] {
        // Opened for each: a connection on which no request comes is closed after a while.
        let mut executive = Connection::open(executive).await.expect("the executive takes connections");
        let (before, start) = (cpu(pid), Instant::now());
        let mut n = SAMPLES;
        while start.elapsed() < WATCHED {
            if writes {
                n += 1;
                let (status, _) = executive.exchange(&data::write_mark(n)).await.expect("the executive answers");
                assert_eq!(status, 200);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let share = (cpu(pid) - before).as_secs_f64() / start.elapsed().as_secs_f64();
        report.figure(what, format!("{:.2} % of a core", share * 100.0), "< 1 %");
    }
}

/// Stops and starts the node on its LDB: from the start of the process to the first row read over HTTP.
pub async fn starts(report: &mut Report, node: &Node, mut running: NodeProcess, reader: &str) -> NodeProcess {
    let read = data::read_mark();
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        assert!(running.stop(DEADLINE).success(), "the node stops in order");
        let start = Instant::now();
        running = node.spawn();
        while !answers(reader, &read).await {
            assert!(start.elapsed() < DEADLINE, "the node serves no reads after {DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let bytes = std::fs::metadata(node.ldb_path()).map_or(0, |file| file.len());
    let what = format!("start to first read, LDB of {} MB, median of {STARTS}", bytes / 1_000_000);
    report.figure(&what, format!("{:.0?}", times[STARTS / 2]), "< 200 ms");
    running.wait_ready();
    running
}

async fn answers(reader: &str, read: &[u8]) -> bool {
    let Ok(mut connection) = Connection::open(reader).await else { return false };
    matches!(connection.exchange(read).await, Ok((200, _)))
}
