//! A node with few open files, and with more clients than it has files.

use std::fs;
use std::net::TcpStream;

use super::exchange::{DEADLINE, address};
use support::client::{role_status, wait_for_value};
use support::{Client, Node, NodeProcess, http, wait_until};

/// Raises the test's own limit, because many shells have a lower one than the test needs.
fn raise_own_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a struct of the right type, which outlives them.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    assert!(raised && limit.rlim_cur >= 8192, "the test needs 8,192 open files");
}

fn soft_limit(node: &NodeProcess) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.pid())).expect("the node runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    line.split_whitespace().nth(3).expect("a number").to_owned()
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one_and_told() {
    let node = Node::new().open_files(256, 2048).start();
    assert_eq!(soft_limit(&node), "2048");
    let log = node.log();
    assert!(log.contains("limit of open files was raised"), "{log}");
    assert!(log.contains("few open files: clients get fewer connections"), "{log}");
    let bounds = http::get(&format!("{}/status", node.ops_url())).expect(200).json()["bounds"].clone();
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let connections = &bounds["connections"];
    let all = ["executive", "reader", "ops"].map(|name| number(&connections[name]));
    assert_eq!(number(&bounds["open_files"]), 2048);
    assert!(number(&bounds["reserved_files"]) + all.iter().sum::<u64>() <= 2048, "{bounds}");
    let metrics = http::get(&format!("{}/metrics", node.ops_url())).text();
    for (name, most) in ["executive", "reader", "ops"].into_iter().zip(all) {
        let line = format!("ctlstore_http_connections_max{{server=\"{name}\"}} {most}");
        assert!(metrics.lines().any(|l| l == line), "no {line}");
    }
}

#[test]
fn what_needs_more_open_files_than_there_are_is_named_at_the_start() {
    for (node, name) in [
        (Node::new().set("reader.workers", 500), "reader.workers = 500: needs "),
        (Node::new().set("reader.workers", 1000).roles(&["reader"]), "reader.workers = 1000: needs "),
    ] {
        let mut process = node.open_files(1024, 1024).spawn();
        assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
        let log = process.log();
        assert!(log.contains(name) && log.contains("the limit is 1024") && !log.contains("panicked"), "{log}");
    }
    let mut process = Node::new().open_files(100, 100).spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    assert!(process.log().contains("open files, the limit is 100"), "{}", process.log());
}

/// Hundreds of clients that send nothing, or that follow changes.
fn crowd(url: &str, count: usize, first: &str) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(address(url)).expect("connect");
            // A write fails if the server has closed the connection already.
            let _ = std::io::Write::write_all(&mut stream, first.as_bytes());
            stream
        })
        .collect()
}

#[test]
fn two_thousand_idle_clients_and_as_many_streams_take_no_file_that_the_node_needs() {
    raise_own_limit();
    let node = Node::new()
        .open_files(1024, 1024)
        .set("snapshotter.interval", "200ms")
        .set("changes.max_clients", 2000)
        .start();
    let executive = node.executive_url();
    let reader = node.reader_url();
    let ops = node.ops_url();
    let client = Client::registered(executive.clone());
    client.create_simple_table("fam", "tab");
    let mut clients = Vec::new();
    for (round, url) in [&reader, &executive, &ops].into_iter().enumerate() {
        clients.extend(crowd(url, 1000, ""));
        let changes = format!("GET /changes HTTP/1.1\r\nHost: {}\r\n\r\n", address(&reader));
        clients.extend(crowd(&reader, 400, &changes));
        let id = round as i64;
        client.upsert("fam", "tab", &[(id, "written")]);
        wait_for_value(&reader, "fam", "tab", id, "written");
        let snapshots = || role_status(&ops, "snapshotter")["details"]["snapshots"].as_u64().expect("a number");
        let before = snapshots();
        wait_until("a snapshot is published", DEADLINE, || snapshots() > before);
    }
    for role in ["applier", "snapshotter", "reader", "executive", "poller"] {
        assert!(role_status(&ops, role)["last_error"].is_null(), "{}", role_status(&ops, role));
    }
    let log = node.log();
    assert!(!log.contains("ERROR") && !log.contains("unable to open") && !log.contains("oo many open files"), "{log}");
    drop(clients);
}

#[test]
fn files_that_run_out_all_the_same_are_named_and_everything_goes_on_when_there_are_some_again() {
    let node = Node::new().set("snapshotter.interval", "100ms").start();
    let executive = node.executive_url();
    let reader = node.reader_url();
    let ops = node.ops_url();
    let client = Client::registered(executive);
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&reader, "fam", "tab", 1, "one");
    let set = |limit: usize| {
        let output = std::process::Command::new("prlimit")
            .args(["--pid", &node.pid().to_string(), &format!("--nofile={limit}:")])
            .output()
            .expect("prlimit");
        assert!(output.status.success(), "{output:?}");
    };
    // Files that are opened from now on have higher numbers.
    set(8);
    wait_until("the snapshotter says what it lacks", DEADLINE, || node.log().contains("oo many open files"));
    assert!(!node.log().contains("unable to open"), "{}", node.log());
    set(4096);
    let snapshots = || role_status(&ops, "snapshotter")["details"]["snapshots"].as_u64().unwrap_or_default();
    let before = snapshots();
    wait_until("a snapshot is published again", DEADLINE, || snapshots() > before);
    client.upsert("fam", "tab", &[(2, "two")]);
    wait_for_value(&reader, "fam", "tab", 2, "two");
}
