//! Scenarios with an executive on a server that it shares with others: connections are cut, others hold locks or
//! leave schema changes unfinished, answers are lost.

use super::fixture::{lines, ready};
use super::watch::{DEADLINE, Moved, Watch};
use support::client::upserts;
use support::ctldb::proxy::{Cut, Proxy};
use support::wait::wait_for_async;
use support::{Client, Flavour, Node, PrivateServer, wait_until};

/// Statements of other sessions that have run for so long that they must be waiting.
const WAITING: &str = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'ctldb' \
                       AND command = 'Query' AND id <> CONNECTION_ID() AND time_ms > 50";

fn executive(url: &str) -> Node {
    Node::new().roles(&["executive"]).ctldb(url)
}

pub fn troubles_that_are_put_right(moved: &Moved) {
    let server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    let direct = server.url("ctldb");
    let proxy = Proxy::to(server.port());
    let (process, watch) = ready(&executive(&proxy.url(&direct)), moved);
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);

    a_deadlock(&direct, &client, &watch);

    let lost = ["ctlstore_executive_lost_commits_total", "/executive/details/lost_commits"];
    watch.event("an answer to a commit that is lost", &lost, || {
        proxy.cut(Cut::AfterCommit);
        client.upsert("fam", "tab", &[(4, "its answer is lost")])
    });
    assert!(proxy.has_cut());
    half_a_schema_change(&direct, &client, &watch);
    drop(process);
    a_server_that_is_away(server, moved);
}

/// Another transaction holds the row and then waits for the ledger lock, which the executive holds by then.
fn a_deadlock(url: &str, client: &Client, watch: &Watch<'_>) {
    use mysql_async::prelude::Queryable;
    let retried = ["ctlstore_executive_retries_total{reason=\"contention\"}"];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    watch.event("a deadlock", &retried, || {
        let request = runtime.block_on(async {
            let mut stranger = mysql_async::Conn::from_url(url).await.expect("connect");
            // It has done more than the executive's transaction, so the executive's is the deadlock's victim.
            stranger.query_drop("CREATE TABLE weight (id INTEGER PRIMARY KEY)").await.expect("make a table");
            stranger.query_drop("BEGIN").await.expect("begin");
            let many = (0..500).map(|id| format!("({id})")).collect::<Vec<_>>().join(",");
            stranger.query_drop(format!("INSERT INTO weight VALUES {many}")).await.expect("insert");
            stranger.query_drop("UPDATE fam___tab SET value = 'theirs' WHERE id = 1").await.expect("lock the row");
            let writer = client.clone();
            let request = std::thread::spawn(move || writer.try_mutate("fam", &upserts("tab", &[(1, "ours")])));
            let looker = &mut mysql_async::Conn::from_url(url).await.expect("connect");
            wait_for_async("the executive waits for the row", DEADLINE, async || {
                (looker.query_first::<u64, _>(WAITING).await.expect("look") == Some(1)).then_some(())
            })
            .await;
            stranger.query_drop("UPDATE locks SET clock = clock WHERE id = 'ledger'").await.expect("the lock");
            stranger.query_drop("ROLLBACK").await.expect("roll back");
            stranger.disconnect().await.expect("disconnect");
            request
        });
        request.join().expect("the request ends").expect("an answer").expect(200);
    });
}

fn half_a_schema_change(url: &str, client: &Client, watch: &Watch<'_>) {
    let dying = executive(url).env("CTLSTORE_FAILPOINT", "ddl-after-ddl");
    let mut dying = dying.start();
    let theirs = Client::new(dying.executive_url());
    theirs.wait_until_serving();
    let body = r#"{"fields":[["id","integer"]],"keyFields":["id"]}"#;
    let table = theirs.url("/families/fam/tables/halfway");
    assert!(support::http::exchange("POST", &table, &[], body).is_err());
    assert!(!dying.wait_exit(DEADLINE).success());
    let finished = ["ctlstore_executive_intents_finished_total", "/executive/details/intents_finished"];
    watch.event("a schema change that was left half done", &finished, || client.upsert("fam", "tab", &[(5, "five")]));
}

fn a_server_that_is_away(mut server: PrivateServer, moved: &Moved) {
    let (process, watch) = ready(&executive(&server.url("ctldb")), moved);
    let client = Client::registered(process.executive_url());
    let away = [
        "ctlstore_errors_total{component=\"executive\",kind=\"unavailable\"}",
        "ctlstore_executive_retries_total{reason=\"unavailable\"}",
        "/executive/details/retries",
        "/executive/state",
        "/executive/not_ready",
    ];
    watch.event("a server that is away", &away, || {
        server.stop();
        client.try_mutate("fam", &upserts("tab", &[(6, "six")])).expect("an answer").expect(503);
    });
    let failures = watch.now("/executive/details/failures").as_u64();
    wait_until("it looks for the server by itself", DEADLINE, || {
        watch.now("/executive/details/failures").as_u64() >= failures.map(|count| count + 2)
    });
    assert!((1..=4).contains(&lines(&process, &["the ctldb failed"]).len()), "{}", process.log());
    server.start_again();
    // It is ready again without any request.
    watch.wait_ready();
    client.upsert("fam", "tab", &[(7, "seven")]);
}
