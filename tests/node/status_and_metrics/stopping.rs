//! What a node shows while it stops.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::fixture::ready;
use super::watch::{DEADLINE, Moved, until};
use support::{Node, http};

const TWO_LOOKS: Duration = Duration::from_millis(2_500);

pub fn a_node_that_stops(moved: &Moved) {
    let node = Node::new().set("node.shutdown_timeout", "1m").set("heartbeat.interval", "100ms");
    let (mut process, watch) = ready(&node, moved);
    let ops = process.ops_url();
    assert_eq!(http::get(&format!("{ops}/healthz")).expect(200).text(), "alive\n");
    // A request whose body does not come keeps the executive's server from ending; without a writer's name it
    // would be answered before its body.
    let executive = process.executive_url();
    let address = executive.strip_prefix("http://").expect("a url");
    let mut open = TcpStream::connect(address).expect("connect");
    let credentials = "ctlstore-writer: writer\r\nctlstore-secret: secret";
    write!(
        open,
        "POST /families/fam/mutations HTTP/1.1\r\nHost: {address}\r\n{credentials}\r\nContent-Length: 9\r\n\r\n123"
    )
    .expect("send half a request");
    // Whoever comes later is answered, so the server has taken this one, too.
    http::get(&format!("{executive}/status")).expect(200);
    let stopping = Instant::now();
    watch.event("a stop", &["/ready", "/heartbeat/state"], || process.signal(libc::SIGTERM));
    assert_eq!(http::get(&format!("{ops}/readyz")).expect(503).text(), "the node is stopping\n");
    assert_eq!(http::get(&format!("{ops}/readyz/reader")).expect(503).text(), "the node is stopping\n");
    until("the heartbeat has ended", || (watch.now("/heartbeat/state") == "stopped").then_some(()));
    assert_eq!(http::get(&format!("{ops}/healthz")).expect(200).text(), "alive\n");
    // That was not just the moment before its end: servers look once a second whether they have any left.
    until("it has looked for its executive's end", || (stopping.elapsed() > TWO_LOOKS).then_some(()));
    assert_eq!(http::get(&format!("{ops}/healthz")).expect(200).text(), "alive\n");
    // Nobody waits for a client that has gone.
    drop(open);
    assert!(process.wait_exit(DEADLINE).success());
}
