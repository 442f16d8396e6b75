//! A reflector reads the ledger on a read replica that lags: it waits, reports why, and goes on. A restored ctldb is still
//! refused.

use std::time::Duration;

use support::client::{role_status, wait_for_value};
use support::server::MYSQL56_VARIABLE;
use support::{Client, Flavour, Node, NodeProcess, PrivateServer, http, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// A primary and a replica of it, with the database `ctldb` on both.
fn replicated(flavour: Flavour) -> (PrivateServer, PrivateServer) {
    let primary = PrivateServer::start_with(flavour, &["--server-id=1", "--log-bin=binlog", "--binlog-format=ROW"]);
    let replica = PrivateServer::start_with(flavour, &["--server-id=2"]);
    primary.execute("CREATE USER 'repl'@'127.0.0.1' IDENTIFIED BY 'pw'");
    primary.execute("GRANT REPLICATION SLAVE ON *.* TO 'repl'@'127.0.0.1'");
    let status = primary.execute("SHOW MASTER STATUS").remove(0);
    let (file, position) = (status[0].clone().expect("a file"), status[1].clone().expect("a position"));
    replica.execute(&format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'repl', MASTER_PASSWORD = 'pw', \
         MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {position}",
        primary.port()
    ));
    replica.execute("SET GLOBAL read_only = 1");
    replica.execute("START SLAVE");
    primary.execute("CREATE DATABASE ctldb");
    (primary, replica)
}

fn last_seq(server: &PrivateServer) -> i64 {
    let rows = support::sql::query(&server.url("ctldb"), "SELECT MAX(seq) FROM ctlstore_dml_ledger");
    let seq = rows.ok().and_then(|rows| rows[0][0].clone());
    seq.and_then(|seq| seq.parse().ok()).unwrap_or(0)
}

fn host(server: &PrivateServer) -> Node {
    at(Node::new().roles(&["reflector", "reader"]).set("reader.workers", 1), server)
}

fn at(node: Node, server: &PrivateServer) -> Node {
    node.ctldb(&server.url("ctldb"))
}

fn waits_for(node: &NodeProcess, what: &str) {
    wait_until(&format!("the poller says {what:?}"), DEADLINE, || {
        let status = role_status(&node.ops_url(), "poller");
        status["not_ready"].as_str().is_some_and(|why| why.contains(what))
    });
}

#[test]
fn a_reflector_waits_for_a_replica_that_lags_and_refuses_a_ctldb_that_was_restored() {
    let mysql56 = std::env::var_os(MYSQL56_VARIABLE).map(|_| Flavour::MySql56);
    for flavour in [Some(Flavour::MariaDb), mysql56].into_iter().flatten() {
        let (primary, replica) = replicated(flavour);
        let executive = Node::new().roles(&["executive"]).ctldb(&primary.url("ctldb")).start();
        let client = Client::registered(executive.executive_url());
        client.create_simple_table("fam", "tab");
        client.upsert("fam", "tab", &[(1, "both")]);
        wait_until("the replica has the row", DEADLINE, || last_seq(&replica) == 2);
        replica.execute("STOP SLAVE SQL_THREAD");
        client.upsert("fam", "tab", &[(1, "primary only")]);

        let host = host(&primary);
        let mut process = host.start();
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "primary only");
        process.stop(DEADLINE);

        let mut process = at(host.clone(), &replica).start();
        waits_for(&process, "a replica that lags behind its primary (its replication is stopped)");
        assert!(!process.log().contains("restored"), "{flavour:?}: {}", process.log());
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "primary only");
        // It goes on without help, with the rows that come after.
        replica.execute("START SLAVE SQL_THREAD");
        wait_until("the poller is ready", DEADLINE, || http::is_ok(&format!("{}/readyz/poller", process.ops_url())));
        client.upsert("fam", "tab", &[(1, "through the replica")]);
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "through the replica");
        process.stop(DEADLINE);

        // The same server with an older state and without a primary is a restored ctldb.
        replica.execute("STOP SLAVE");
        replica.execute("RESET SLAVE ALL");
        replica.execute("SET GLOBAL read_only = 0");
        let delete = "DELETE FROM ctldb.ctlstore_dml_ledger WHERE seq > 2";
        replica.execute(delete);
        let process = at(host, &replica).start();
        waits_for(&process, "the ctldb was restored or is another one");
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "through the replica");
    }
}
