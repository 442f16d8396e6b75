//! A caught-up node with little to do: how soon a row is readable, what it costs,
//! and how fast the node is back after a restart.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{Connection, address, percentile, send_all};
use super::data;
use super::process::cpu;
use super::report::Report;
use support::{Node, NodeProcess};

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

/// Writes a mark and waits until it is readable, so that all rows before it are readable too.
pub async fn until_all_is_readable(executive: &str, reader: &str) {
    let mut executive = Connection::open(executive).await.expect("the executive takes connections");
    let mut reader = Connection::open(reader).await.expect("the reader takes connections");
    until_readable(&mut executive, &mut reader, 0).await;
}

/// Times of [`until_readable`], and of bare flushes in `directory` of which one follows each: a
/// commit can't take less than the disk takes at that moment.
struct Readable {
    rows: Vec<Duration>,
    flushes: Vec<Duration>,
}

impl Readable {
    async fn measure(executive: &str, reader: &str, directory: &Path) -> Self {
        let mut executive = Connection::open(executive).await.expect("the executive takes connections");
        let mut reader = Connection::open(reader).await.expect("the reader takes connections");
        let path = directory.join("flushed");
        let file = File::create(&path).expect("make a file to flush");
        flush(&file);
        let (mut rows, mut flushes) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
        for n in 0..SAMPLES {
            // At no fixed distance, so that no timer of the node is always met at the same moment.
            tokio::time::sleep(Duration::from_millis(10 + (n as u64 * 7) % 23)).await;
            rows.push(until_readable(&mut executive, &mut reader, n + 1).await);
            flushes.push(flush(&file));
        }
        std::fs::remove_file(&path).expect("remove what was flushed");
        rows.sort_unstable();
        flushes.sort_unstable();
        Self { rows, flushes }
    }

    fn report(&self, report: &mut Report, what: &str, target: &'static str) {
        let both = |times: &[Duration]| {
            let ms = |percent| percentile(times, percent).as_secs_f64() * 1e3;
            format!("{:.2} / {:.2} ms", ms(50), ms(99))
        };
        report.figure(&format!("{what}, p50 / p99"), both(&self.rows), target);
        report.figure("a bare flush of 4 KiB after each of them, p50 / p99", both(&self.flushes), "");
    }
}

/// Overwrites 4 KiB and flushes them, as a commit does with its part of the WAL.
fn flush(file: &File) -> Duration {
    let start = Instant::now();
    file.write_all_at(&[1; 4096], 0).expect("write to the disk");
    file.sync_data().expect("flush to the disk");
    start.elapsed()
}

pub async fn latency(report: &mut Report, executive: &str, reader: &str, directory: &Path) {
    let readable = Readable::measure(executive, reader, directory).await;
    readable.report(report, "answer to readable row", "p99 < 5 ms");
}

/// One node writes to the ctldb at `url`, another follows it, which looks every [`POLL`].
pub async fn across(report: &mut Report, url: &str) {
    let writer = data::roomy(Node::new()).roles(&["executive"]).ctldb(url).start();
    send_all(address(&writer.executive_url()), &data::schema(), 1).await;
    let host = Node::new().roles(&["reflector", "reader"]).ctldb(url);
    // Without chance the longest interval is the one that is stated.
    let host = host.set("reflector.poll_interval", POLL).set("reflector.poll_jitter", 0.0);
    let running = host.start();
    let (executive, reader) = (writer.executive_url(), running.reader_url());
    let readable = Readable::measure(address(&executive), address(&reader), &host.data_dir()).await;
    readable.report(report, &format!("answer to readable row on another node, polled every {POLL}"), "p99 < 120 ms");
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
