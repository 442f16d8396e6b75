//! A ctldb that takes no writes: a server is read-only or refuses this user, or a disk is full. The executive is not
//! ready, writes are 503 with the reason, no outcome is unknown, and the log has it once.

use std::time::Duration;

use support::client::{role_status, upserts};
use support::server::MYSQL56_VARIABLE;
use support::{Client, Flavour, Node, NodeProcess, PrivateServer, SmallDisk, http, sql, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
const IS_BACK: &str = "the ctldb is back";

fn flavours() -> Vec<Flavour> {
    let mysql56 = std::env::var_os(MYSQL56_VARIABLE).map(|_| Flavour::MySql56);
    [Some(Flavour::MariaDb), mysql56].into_iter().flatten().collect()
}

/// A server with a database, and a user with all rights in that database only: read_only does not bind root.
fn server(flavour: Flavour) -> (PrivateServer, String) {
    let server = PrivateServer::start(flavour);
    server.execute("CREATE DATABASE ctldb");
    server.execute("CREATE USER 'ctl'@'127.0.0.1' IDENTIFIED BY 'pw'");
    server.execute("GRANT ALL ON ctldb.* TO 'ctl'@'127.0.0.1'");
    let url = server.url("ctldb").replace("root@", "ctl:pw@");
    (server, url)
}

/// Ends the connections of the executive's user, so that new rights and settings count from now on.
fn kill_connections(server: &PrivateServer) {
    for row in server.execute("SELECT id FROM information_schema.processlist WHERE user = 'ctl'") {
        // A connection that has just ended is fine, too.
        let _ = sql::query(&server.url("mysql"), &format!("KILL {}", row[0].as_deref().expect("an id")));
    }
}

fn executive(url: &str) -> (NodeProcess, Client) {
    let node = Node::new().roles(&["executive"]).ctldb(url).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "before")]);
    (node, client)
}

fn failures(node: &NodeProcess) -> u64 {
    role_status(&node.ops_url(), "executive")["details"]["failures"].as_u64().expect("a count")
}

fn is_ready(node: &NodeProcess) -> bool {
    http::is_ok(&format!("{}/readyz/executive", node.ops_url()))
}

/// The number of log lines with this text.
fn said(node: &NodeProcess, what: &str) -> usize {
    node.log().lines().filter(|line| line.contains(what)).count()
}

/// Checks every kind of request, until the ctldb takes writes again.
fn refuses_with(node: &NodeProcess, client: &Client, reason: &str) {
    let write = || client.try_mutate("fam", &upserts("tab", &[(2, "refused")])).expect("an answer");
    let refused = write();
    let text = refused.text();
    assert_eq!(refused.status, 503, "{text}");
    assert!(text.contains("takes no writes") && text.contains(reason) && !text.contains("unknown"), "{text}");
    assert!(refused.header("retry-after").is_some());
    wait_until("the executive is not ready", DEADLINE, || !is_ready(node));
    let shown = http::get(&format!("{}/readyz/executive", node.ops_url())).text();
    assert!(shown.contains(reason), "{shown}");
    let before = failures(node);
    wait_until("it has asked again and again", DEADLINE, || {
        // Reads work, but do not make the executive ready.
        http::get(&client.url("/schema/table/fam/tab")).expect(200);
        assert_eq!(write().status, 503);
        assert_eq!(http::get(&client.url("/status")).status, 503);
        assert!(!is_ready(node), "it says that it is ready");
        failures(node) >= before + 3
    });
    assert_eq!((said(node, IS_BACK), said(node, "the ctldb failed")), (0, 1), "{}", node.log());
}

#[test]
fn without_the_lock_s_row_an_executive_that_nobody_writes_to_is_not_ready_either() {
    let embedded = support::sqlite();
    let mariadb = PrivateServer::start(Flavour::MariaDb);
    mariadb.execute("CREATE DATABASE ctldb");
    for url in [embedded.url.clone(), mariadb.url("ctldb")] {
        let (node, _client) = executive(&url);
        wait_until("it is ready", DEADLINE, || is_ready(&node));
        sql::query(&url, "DELETE FROM locks").expect("take the row away");
        wait_until("it is not ready", DEADLINE, || !is_ready(&node));
        let shown = http::get(&format!("{}/readyz/executive", node.ops_url())).text();
        assert!(shown.contains("table locks has no row 'ledger'"), "{shown}");
        sql::query(&url, "INSERT INTO locks (id, clock) VALUES ('ledger', 0)").expect("put it back");
        wait_until("it is ready again", DEADLINE, || is_ready(&node));
    }
}

fn is_back(node: &NodeProcess, client: &Client, value: &str) {
    wait_until("the executive is ready", DEADLINE, || is_ready(node));
    client.upsert("fam", "tab", &[(3, value)]);
    assert_eq!(said(node, IS_BACK), 1, "{}", node.log());
}

#[test]
fn a_server_that_is_read_only_makes_the_executive_not_ready_with_the_reason_once() {
    for flavour in flavours() {
        let (server, url) = server(flavour);
        let (node, client) = executive(&url);
        server.execute("SET GLOBAL read_only = 1");
        refuses_with(&node, &client, "read-only");
        server.execute("SET GLOBAL read_only = 0");
        is_back(&node, &client, "after");
        let rows = server.execute("SELECT COUNT(*) FROM ctldb.fam___tab");
        assert_eq!(rows, [[Some("2".to_owned())]], "{flavour:?}");
    }
}

#[test]
fn groups_that_a_read_only_server_refuses_are_not_said_to_be_perhaps_written() {
    let (server, url) = server(Flavour::MariaDb);
    let (node, client) = executive(&url);
    // Directly one after the other, so that the next one goes as one batch with its COMMIT.
    for round in 0..20 {
        client.upsert("fam", "tab", &[(round, "x")]);
    }
    server.execute("SET GLOBAL read_only = 1");
    refuses_with(&node, &client, "read-only");
    let lost = role_status(&node.ops_url(), "executive")["details"]["lost_commits"].clone();
    assert_eq!(lost, serde_json::json!(0));
}

#[test]
fn an_executive_that_nobody_writes_to_finds_out_that_its_server_is_read_only() {
    let (server, url) = server(Flavour::MariaDb);
    let (node, _client) = executive(&url);
    server.execute("SET GLOBAL read_only = 1");
    wait_until("the executive is not ready", DEADLINE, || !is_ready(&node));
    assert_eq!((said(&node, IS_BACK), said(&node, "the ctldb failed")), (0, 1), "{}", node.log());
}

#[test]
fn rights_that_were_taken_away_and_sessions_that_only_read_are_told_as_what_they_are() {
    for flavour in flavours() {
        for (change, back, reason) in [
            ("SET GLOBAL tx_read_only = 1", "SET GLOBAL tx_read_only = 0", "READ ONLY transaction"),
            (
                "REVOKE INSERT, UPDATE ON ctldb.* FROM 'ctl'@'127.0.0.1'",
                "GRANT ALL ON ctldb.* TO 'ctl'@'127.0.0.1'",
                "denied",
            ),
        ] {
            let (server, url) = server(flavour);
            let (node, client) = executive(&url);
            server.execute(change);
            kill_connections(&server);
            refuses_with(&node, &client, reason);
            server.execute(back);
            kill_connections(&server);
            is_back(&node, &client, "after");
        }
    }
}

#[test]
fn an_executive_that_starts_on_a_read_only_server_says_why_it_does_not_serve() {
    let (server, url) = server(Flavour::MariaDb);
    server.execute("SET GLOBAL read_only = 1");
    let node = Node::new().roles(&["executive"]).ctldb(&url).start();
    let client = Client::new(node.executive_url());
    wait_until("a request is told the reason", DEADLINE, || {
        let answer = client.try_mutate("fam", &upserts("tab", &[(1, "x")])).expect("an answer");
        assert_eq!(answer.status, 503);
        answer.text().contains("read-only")
    });
    server.execute("SET GLOBAL read_only = 0");
    client.wait_until_serving();
}

#[test]
fn a_full_disk_under_an_embedded_ctldb_makes_the_executive_not_ready_with_the_reason_once() {
    let disk = SmallDisk::mount("16m");
    let (node, client) = executive(&format!("sqlite:{}", disk.path("ctldb.db").display()));
    let ballast = disk.fill();
    let large = "x".repeat(400_000);
    let refused = client.try_mutate("fam", &upserts("tab", &[(2, &large)])).expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(!refused.text().contains("unknown"), "{}", refused.text());
    refuses_with_full_disk(&node, &client);
    std::fs::remove_file(ballast).expect("make room");
    is_back(&node, &client, &large);
}

fn refuses_with_full_disk(node: &NodeProcess, client: &Client) {
    wait_until("the executive is not ready", DEADLINE, || !is_ready(node));
    let before = failures(node);
    wait_until("it has asked again and again", DEADLINE, || {
        let answer = client.try_mutate("fam", &upserts("tab", &[(2, "small")])).expect("an answer");
        assert!(answer.status == 503 && answer.text().contains("takes no writes"), "{}", answer.text());
        assert_eq!(http::get(&client.url("/status")).status, 503);
        assert!(!is_ready(node), "it says that it is ready");
        failures(node) >= before + 3
    });
    assert_eq!(said(node, IS_BACK), 0, "{}", node.log());
    // SQLite's error of the write, and the free room.
    assert!(said(node, "the ctldb failed") <= 2, "{}", node.log());
}
