//! Loads against the real binary. Each figure stands beside a reference of the same run, because figures of two
//! machines, or of two hours on one machine, do not compare. Everything is on loopback and bounded in time and count;
//! it takes about three minutes.
//!
//! `cargo bench --bench load` measures everything; `-- points`, `-- prefix`, `-- strangers`, `-- steady`, `-- sqlite`,
//! `-- mariadb`, `-- ledger` or `-- gigabyte` measures a part. A missing MariaDB fails its part; `make bench` installs it.

mod client;
mod commits;
mod constant;
mod data;
mod direct;
mod ledger;
mod other;
mod plain;
mod process;
mod reads;
mod report;
mod steady;
mod strangers;
mod writes;

use client::address;
use process::{Peak, anonymous_memory};
use report::Report;
use support::port::Port;
use support::{Flavour, Node, PrivateServer, scratch_dir, sql};

const PARTS: [&str; 8] = ["points", "prefix", "steady", "strangers", "sqlite", "mariadb", "ledger", "gigabyte"];
/// The server's defaults, which the tests' servers do not run with.
const DURABLE: [&str; 2] = ["--innodb-flush-log-at-trx-commit=1", "--performance-schema=0"];
const SERVER_SETTINGS: &str = "SELECT CONCAT('MariaDB ', @@version, ', innodb_flush_log_at_trx_commit=', \
    @@innodb_flush_log_at_trx_commit, ', innodb_buffer_pool_size=', @@innodb_buffer_pool_size, \
    ', innodb_log_file_size=', @@innodb_log_file_size, ', log_bin=', @@log_bin)";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some(constant::ARGUMENT) => return constant::run(),
        Some(plain::ARGUMENT) => return plain::run(),
        Some(strangers::ARGUMENT) => return strangers::run(),
        _ => {}
    }
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|part| !PARTS.contains(&part.as_str())) {
        eprintln!("{unknown} is none of {}", PARTS.join(", "));
        std::process::exit(2);
    }
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|name| name == part);
    // One thread: the other core is the node's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut report = Report::default();
    if ["points", "prefix", "steady"].into_iter().any(wanted) {
        runtime.block_on(whole_node(&mut report, wanted));
    }
    if wanted("strangers") {
        runtime.block_on(strangers::measure(&mut report));
    }
    if wanted("sqlite") {
        let directory = scratch_dir();
        let [ours, theirs] = ["ours", "theirs"].map(|name| format!("sqlite:{}/{name}.db", directory.path().display()));
        runtime.block_on(writes::measure(&mut report, "SQLite", &ours, &theirs, None));
    }
    if wanted("mariadb") || wanted("ledger") {
        on_mariadb(&mut report, &runtime, wanted("mariadb"), wanted("ledger"));
    }
    if wanted("gigabyte") {
        let directory = scratch_dir();
        let url = format!("sqlite:{}/ctldb.db", directory.path().display());
        let port = Port::claim();
        runtime.block_on(ledger::gigabyte(&mut report, &url, &format!("127.0.0.1:{}", port.number)));
    }
    report.print();
}

/// What needs a server: writes to it, and hosts that follow its ledger.
fn on_mariadb(report: &mut Report, runtime: &tokio::runtime::Runtime, writes: bool, ledger: bool) {
    let server = PrivateServer::start_with(Flavour::MariaDb, &DURABLE);
    for row in server.execute(SERVER_SETTINGS) {
        println!("{}", row.into_iter().flatten().collect::<String>());
    }
    let database = |name: &str| {
        server.execute(&format!("CREATE DATABASE {name}"));
        server.url(name)
    };
    if writes {
        let (ours, theirs) = (database("ours"), database("theirs"));
        runtime.block_on(writes::measure(report, "MariaDB", &ours, &theirs, Some(server.pid())));
    }
    if ledger {
        runtime.block_on(steady::across(report, &database("across")));
        let directory = scratch_dir();
        let sqlite = format!("sqlite:{}/ctldb.db", directory.path().display());
        runtime.block_on(ledger::from_both(report, &sqlite, &database("followed")));
    }
}

/// Every role on an embedded database, with one thread that answers reads.
async fn whole_node(report: &mut Report, wanted: impl Fn(&str) -> bool) {
    let port = Port::claim();
    let reader = format!("127.0.0.1:{}", port.number);
    let node = data::roomy(Node::new()).set("reader.workers", 1).set("reader.bind", reader.as_str());
    let mut running = node.start();
    let idle = anonymous_memory(running.pid());
    let peak = Peak::of(running.pid());
    data::fill(address(&running.executive_url())).await;
    steady::until_all_is_readable(address(&running.executive_url()), &reader).await;
    print_settings(&node);
    if wanted("points") {
        reads::points(report, &reader, running.pid()).await;
    }
    if wanted("prefix") {
        reads::prefix(report, &reader, running.pid(), &node.ldb_path()).await;
    }
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    report.figure("RssAnon, all roles, just started", megabytes(idle), "< 40 MB");
    report.figure("RssAnon, highest while filled and read", megabytes(peak.end()), "< 150 MB");
    if wanted("steady") {
        steady::latency(report, address(&running.executive_url()), &reader, &node.data_dir()).await;
        steady::cpu_use(report, address(&running.executive_url()), running.pid()).await;
        running = steady::starts(report, &node, running, &reader).await;
        report.figure("RssAnon, started on this LDB", megabytes(anonymous_memory(running.pid())), "< 40 MB");
    }
}

/// What the files themselves tell; the settings of a connection are its own.
fn print_settings(node: &Node) {
    let ctldb = node.data_dir().join("ctldb.db");
    for (name, path) in [("ldb", node.ldb_path()), ("ctldb", ctldb)] {
        let value = |pragma: &str| {
            let rows = sql::query(&format!("sqlite:{}", path.display()), &format!("PRAGMA {pragma}"));
            rows.ok().and_then(|mut rows| rows.pop()?.pop()?).unwrap_or_default()
        };
        let (pages, journal) = (value("page_size"), value("journal_mode"));
        println!("{name}: SQLite {}, page_size={pages}, journal_mode={journal}", rusqlite::version());
    }
    println!("ldb and ctldb write with synchronous=FULL; reader: 1 worker, mmap_size=2 GiB, cache_size=2 MiB");
}
