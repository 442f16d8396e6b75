//! Clients that come and go, and too many of them.

use std::net::TcpStream;

use super::watch::{Moved, Watch, until};
use support::Node;

pub fn more_connections_than_there_may_be(moved: &Moved) {
    let process = Node::new().open_files(700, 700).set("reader.workers", 1).start();
    let watch = Watch::new(process.ops_url(), moved);
    watch.wait_ready();
    watch.begins("a limit of open files", &["ctlstore_http_connections_max{server=\"executive\"}"]);
    let url = process.executive_url();
    let connect = || TcpStream::connect(url.strip_prefix("http://").expect("a url")).expect("connect");
    let open = "ctlstore_http_connections{server=\"executive\"}";
    let one = watch.event("a client that comes", &[open], connect);
    watch.event("a client that goes", &[open], || drop(one));
    let cut = "ctlstore_http_connections_cut_total{server=\"executive\",reason=\"idle\"}";
    let most = watch.now("ctlstore_http_connections_max{server=\"executive\"}");
    let most: usize = most.as_str().and_then(|text| text.parse().ok()).expect("a number");
    let clients = watch.event("more clients than there may be", &[cut], || {
        let clients: Vec<TcpStream> = (0..most + 5).map(|_| connect()).collect();
        clients
    });
    let is_within =
        || watch.now(open).as_str().and_then(|text| text.parse().ok()).is_some_and(|now: usize| now <= most);
    until("as many stay as may", || is_within().then_some(()));
    drop(clients);
}
