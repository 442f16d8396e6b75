//! The log: the form of its lines, which lines are written, and that no secret is in them.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use support::client::{role_status, wait_for_value};
use support::wait::{wait_for, wait_until};
use support::{Client, Flavour, Node, NodeProcess, PrivateServer, http, sql};

const DEADLINE: Duration = Duration::from_secs(60);

/// A node that writes and reads, with its own SQLite ctldb.
fn node(format: &str, level: &str) -> Node {
    Node::new()
        .set("log.format", format)
        .set("log.level", level)
        .set("reflector.poll_interval", "50ms")
        .set("heartbeat.interval", "100ms")
}

fn ctldb(node: &Node) -> String {
    format!("sqlite:{}", node.data_dir().join("ctldb.db").display())
}

/// Makes the applier fail at a statement; returns its seq.
fn break_the_ledger(node: &Node, process: &NodeProcess, statement: &str) -> i64 {
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let quoted = statement.replace('\'', "''");
    let insert = format!("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('{quoted}') RETURNING seq");
    let rows = sql::query(&ctldb(node), &insert).expect("append to the ledger");
    wait_until("the applier fails", DEADLINE, || role_status(&process.ops_url(), "applier")["state"] == "retrying");
    rows[0][0].as_ref().expect("a seq").parse().expect("a number")
}

/// Every line as JSON.
#[track_caller]
fn json_lines(log: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
    log.lines().map(line).collect()
}

#[test]
fn json_logs_are_one_object_a_line_with_the_fields_at_its_top() {
    let node = node("json", "info");
    let mut process = node.start();
    let seq = break_the_ledger(&node, &process, "REPLACE INTO fam___tab (\"nosuch\") VALUES(1)");
    assert!(process.stop(DEADLINE).success());
    let lines = json_lines(&process.log());
    let failure = lines.iter().find(|line| line["level"] == "ERROR").expect("a line of the failure");
    assert_eq!(
        (&failure["role"], &failure["target"]),
        (&Value::from("applier"), &Value::from("ctlstore::actors::applier"))
    );
    assert!(failure["error"].as_str().expect("a text").starts_with(&format!("ledger row {seq} ")), "{failure}");
    assert!(failure["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{failure}");
    assert!(failure["message"].as_str().is_some_and(|message| message.contains("can't apply")), "{failure}");
    let steps: Vec<&str> = lines.iter().filter_map(|line| line["step"].as_str()).collect();
    assert!(steps.starts_with(&["heartbeat", "executive http", "executive", "poller", "applier"]), "{steps:?}");
}

#[test]
fn a_start_that_fails_is_a_line_of_json_where_logs_are() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("an address").to_string();
    let mut process = node("json", "info").set("ops.bind", address.clone()).spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    let lines = json_lines(&process.log());
    let error = lines.last().expect("a line")["error"].as_str().expect("an error").to_owned();
    assert!(error.contains("ops.bind") && error.contains(&address), "{error}");
}

#[test]
fn text_logs_have_no_escape_codes_in_a_file() {
    let node = node("text", "info");
    let mut process = node.start();
    break_the_ledger(&node, &process, "REPLACE INTO fam___tab (\"nosuch\") VALUES(1)");
    assert!(process.stop(DEADLINE).success());
    let log = process.log();
    assert!(log.lines().any(|line| line.contains(" ERROR ") && line.contains("role=\"applier\"")), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
    // Each line begins with its time, so no other program wrote it.
    for line in log.lines() {
        assert!(line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T'), "{line:?}");
    }
}

#[test]
fn the_level_is_said_for_all_and_for_single_modules() {
    let count = |level: &str| {
        let node = node("json", level);
        let mut process = node.start();
        break_the_ledger(&node, &process, "REPLACE INTO fam___tab (\"nosuch\") VALUES(1)");
        let ops = process.ops_url();
        // Only a debug line tells of the second failure.
        let failures = || role_status(&ops, "applier")["details"]["failures"].as_u64();
        wait_until("it fails again", DEADLINE, || failures() >= Some(2));
        assert!(process.stop(DEADLINE).success());
        let lines = json_lines(&process.log());
        let of = |level: &str, module: &str| {
            let is = |line: &&Value| line["level"] == level && line["target"].as_str().unwrap().starts_with(module);
            lines.iter().filter(is).count()
        };
        let applier = "ctlstore::actors::applier";
        (of("ERROR", applier), of("DEBUG", applier), of("INFO", ""), of("DEBUG", "") + of("TRACE", ""))
    };
    let (errors, of_applier, infos, details) = count("warn,ctlstore::actors::applier=debug");
    assert_eq!((errors, infos), (1, 0));
    assert!(of_applier >= 1 && details == of_applier);
    let (errors, _, infos, details) = count("info");
    assert!(errors == 1 && infos > 5 && details == 0);
    let (errors, ..) = count("off");
    assert_eq!(errors, 0);
}

/// Secrets. They are words that occur nowhere else.
const HEARTBEAT_SECRET: &str = "Quastenflosser-Kaleidoskop";
const WRITER_SECRET: &str = "Zwetschgen-Zeppelin";
const WRONG_SECRET: &str = "Falschgold-Fagott";
const VALUE: &str = "Haselmaus-Horizont";
const COOKIE: &str = "Kugelblitz-Kontrabass";
const PASSWORD: &str = "Perlmutt-Posaune";

/// Asserts that a node's log, status and metrics hold none of the secrets.
#[track_caller]
fn assert_silent(process: &NodeProcess) {
    let mut said = process.log() + &process.stdout().concat();
    for path in ["/status", "/metrics", "/readyz"] {
        said += &http::get(&format!("{}{path}", process.ops_url())).text();
    }
    for secret in [HEARTBEAT_SECRET, WRITER_SECRET, WRONG_SECRET, VALUE, COOKIE, PASSWORD] {
        let at = said.find(secret);
        assert!(at.is_none(), "{secret} in {:?}", &said[at.unwrap_or(0).saturating_sub(300)..]);
    }
}

#[test]
fn secrets_and_values_are_said_nowhere_at_any_level() {
    let node = node("text", "trace").set("heartbeat.secret", HEARTBEAT_SECRET);
    let process = node.start();
    let executive = process.executive_url();
    let reader = process.reader_url();
    let ops = process.ops_url();
    wait_until("the heartbeat has written", DEADLINE, || role_status(&ops, "heartbeat")["details"]["beats"] != 0);
    let client = Client::registered(&executive);
    client.create_simple_table("fam", "tab");
    client.create_table("fam", "keys", &[("key", "string"), ("value", "text")], 1).expect(200);
    http::post(&client.url("/writers/other"), WRITER_SECRET).expect(200);

    // Answers may name what is wrong, but not the secret.
    let refused = http::post(&client.url("/writers/other"), WRONG_SECRET).expect(409).text();
    assert!(!refused.contains(WRONG_SECRET) && !refused.contains(WRITER_SECRET), "{refused}");
    let send = |secret: &str, path: &str, body: &str| {
        let headers = [("ctlstore-writer", "other"), ("ctlstore-secret", secret)];
        http::request("POST", &client.url(path), &headers, body)
    };
    let row = format!(r#"{{"mutations":[{{"table":"tab","values":{{"id":1,"value":"{VALUE}"}}}}]}}"#);
    let unfit = format!(r#"{{"mutations":[{{"table":"tab","values":{{"id":"{VALUE}","value":"x"}}}}]}}"#);
    send(WRITER_SECRET, "/families/fam/mutations", &row).expect(200);
    assert!(!send(WRONG_SECRET, "/families/fam/mutations", &row).expect(401).text().contains(WRONG_SECRET));
    send(WRITER_SECRET, "/families/fam/mutations", &unfit).expect(400);
    send(WRITER_SECRET, "/cookie", COOKIE).expect(200);
    wait_for_value(&reader, "fam", "tab", 1, VALUE);
    let key = format!(r#"{{"Key":[{{"Value":"{VALUE}"}}]}}"#);
    http::post(&format!("{reader}/get-row-by-key/fam/keys"), &key).expect(404);
    http::post(&format!("{reader}/get-row-by-key/fam/nosuch"), &key).expect(404);

    // Statements that fail with each of SQLite's messages.
    let statements = [
        format!("REPLACE INTO fam___tab (\"id\",\"nosuch\") VALUES(1,'{VALUE}')"),
        format!("REPLACE INTO fam___tab (\"id\",\"value\") VALUES(1,'{VALUE}'"),
        format!("REPLACE INTO fam___tab (\"id\",\"value\") VALUES(1,'{VALUE}','{VALUE}')"),
        format!("INSERT INTO fam___tab (\"id\",\"value\") VALUES(1,'{VALUE}') {VALUE}"),
        format!("INSERT INTO fam___tab (\"id\",\"value\") VALUES(1,\"{VALUE}\")"),
        format!("INSERT INTO fam___tab SELECT json('{VALUE}'), abs('{VALUE}'), raise_{}('x')", VALUE.replace('-', "_")),
        format!("'{VALUE}"),
    ];
    let ledger = ctldb(&node);
    let applier = || role_status(&ops, "applier");
    for statement in &statements {
        let quoted = statement.replace('\'', "''");
        let insert = format!("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('{quoted}') RETURNING seq");
        let seq = sql::query(&ledger, &insert).expect("append to the ledger")[0][0].clone().expect("a seq");
        let names_it = format!("ledger row {seq} (");
        wait_until("the applier fails at it", DEADLINE, || {
            applier()["last_error"]["message"].as_str().is_some_and(|message| message.contains(&names_it))
        });
        let update = format!("UPDATE ctlstore_dml_ledger SET statement = 'DELETE FROM fam___keys' WHERE seq = {seq}");
        sql::query(&ledger, &update).expect("put it right");
        wait_until("the applier goes on", DEADLINE, || applier()["state"] == "running");
    }
    assert!(process.log().contains(" TRACE "), "nothing was said at the last level");
    assert_silent(&process);
}

#[test]
fn a_ctldbs_password_is_said_nowhere_when_connections_fail() {
    let server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    server.execute("CREATE USER 'app'@'127.0.0.1' IDENTIFIED BY 'another one'");
    server.execute("GRANT ALL ON ctldb.* TO 'app'@'127.0.0.1'");
    let url = format!("mysql://app:{PASSWORD}@127.0.0.1:{}/ctldb", server.port());
    let process = node("text", "trace").ctldb(&url).start();
    let ops = process.ops_url();
    for role in ["executive", "poller"] {
        let error = wait_for("the connection fails", DEADLINE, || {
            role_status(&ops, role)["last_error"]["message"].as_str().map(str::to_owned)
        });
        assert!(error.contains("Access denied"), "{role}: {error}");
    }
    assert!(!http::get(&format!("{}/status", process.executive_url())).expect(503).text().contains(PASSWORD));
    assert_silent(&process);

    // Now the password is right.
    server.execute(&format!("ALTER USER 'app'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"));
    wait_until("the node is ready", DEADLINE, || http::is_ok(&format!("{ops}/readyz")));
    assert_silent(&process);

    // A server that does not exist.
    let nowhere = format!("mysql://app:{PASSWORD}@127.0.0.1:1/ctldb");
    let process = node("text", "trace").ctldb(&nowhere).start();
    let ops = process.ops_url();
    wait_until("the connection fails", DEADLINE, || !role_status(&ops, "poller")["last_error"].is_null());
    assert_silent(&process);
}
