//! A node whose MySQL-family server goes away and comes back.

use std::time::Duration;

use support::client::{read_value, role_status, upserts, wait_for_value};
use support::{Client, Flavour, Node, PrivateServer, http, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn node_on(server: &PrivateServer) -> Node {
    Node::new().ctldb(&server.url("ctldb")).set("executive.request_timeout", "3s")
}

#[test]
fn a_server_that_stops_and_starts_costs_writes_and_no_reads() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    let node = node_on(&server).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "before")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "before");

    for (round, kill) in [(2, false), (3, true)] {
        if kill {
            server.kill9()
        } else {
            server.stop()
        }
        let refused = client.try_mutate("fam", &upserts("tab", &[(round, "while away")])).expect("an answer");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
        assert_eq!(http::get(&client.url("/status")).status, 503);
        assert_eq!(read_value(&node.reader_url(), "fam", "tab", 1).as_deref(), Some("before"));
        wait_until("the poller says so", DEADLINE, || role_status(&node.ops_url(), "poller")["state"] == "retrying");
        assert_eq!(read_value(&node.reader_url(), "fam", "tab", 1).as_deref(), Some("before"));

        server.start_again();
        client.wait_until_serving();
        wait_until("it is written again", DEADLINE, || {
            client.try_mutate("fam", &upserts("tab", &[(round, "after")])).is_ok_and(|answer| answer.status == 200)
        });
        wait_for_value(&node.reader_url(), "fam", "tab", round, "after");
        wait_until("all is well", DEADLINE, || http::is_ok(&format!("{}/readyz", node.ops_url())));
    }
}

#[test]
fn a_node_starts_while_its_server_is_away_and_serves_when_it_is_back() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    server.stop();
    let node = node_on(&server).start();
    assert_eq!(http::get(&format!("{}/status", node.executive_url())).status, 503);
    server.start_again();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "one");
}

#[test]
fn a_server_that_hangs_is_answered_for_in_time() {
    let server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    let node = node_on(&server).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "before")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "before");
    server.signal(libc::SIGSTOP);
    let refused = client.try_mutate("fam", &upserts("tab", &[(2, "while hanging")])).expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(read_value(&node.reader_url(), "fam", "tab", 1).as_deref(), Some("before"));
    server.signal(libc::SIGCONT);
    client.wait_until_serving();
    client.upsert("fam", "tab", &[(3, "after")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 3, "after");
}
