//! Scenarios with a node that stops, and with a log that is not read.

use std::time::{Duration, Instant};

use super::fixture::ready;
use super::watch::{DEADLINE, Moved, until};
use support::client::upserts;
use support::in_process::hold::Hold;
use support::{Client, Node, http};

const TWO_LOOKS: Duration = Duration::from_millis(2_500);

pub fn a_node_that_stops(moved: &Moved) {
    // The heartbeat writes once at the start, and not while the lock is held: that would make the node not ready.
    let node = Node::new().set("node.shutdown_timeout", "1m").set("heartbeat.interval", "10m");
    let (mut process, watch) = ready(&node, moved);
    let ops = process.ops_url();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    assert_eq!(http::get(&format!("{ops}/healthz")).expect(200).text(), "alive\n");
    // A write that waits for the lock keeps the executive's server from ending.
    let hold = Hold::on(&format!("sqlite:{}", node.data_dir().join("ctldb.db").display()));
    let request = std::thread::spawn(move || client.try_mutate("fam", &upserts("tab", &[(1, "waits")])));
    until("the write waits", || (watch.now("/executive/details/committing") == 1).then_some(()));
    let stopping = Instant::now();
    watch.event("a stop", &["/ready", "/heartbeat/state"], || process.signal(libc::SIGTERM));
    assert_eq!(http::get(&format!("{ops}/readyz")).expect(503).text(), "the node is stopping\n");
    assert_eq!(http::get(&format!("{ops}/readyz/reader")).expect(503).text(), "the node is stopping\n");
    until("the heartbeat has ended", || (watch.now("/heartbeat/state") == "stopped").then_some(()));
    assert_eq!(http::get(&format!("{ops}/healthz")).expect(200).text(), "alive\n");
    // Servers check once a second whether requests are left, so the node has not ended a moment later either.
    until("it has looked for its executive's end", || (stopping.elapsed() > TWO_LOOKS).then_some(()));
    assert_eq!(http::get(&format!("{ops}/healthz")).expect(200).text(), "alive\n");
    hold.release();
    request.join().expect("the request ends").expect("an answer");
    assert!(process.wait_exit(DEADLINE).success());
}

pub fn a_log_that_nobody_reads(moved: &Moved) {
    let (process, watch) = ready(&Node::new().unread_log().set("log.level", "trace"), moved);
    let url = format!("{}/healthz", process.ops_url());
    watch.event("lines that are lost", &["/log_lines_dropped", "ctlstore_log_lines_dropped_total"], || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..300).for_each(|_| drop(http::get(&url))));
            }
        });
    });
}
