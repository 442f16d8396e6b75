//! An executive on a server: the server is away, or has tables that another program made.

use std::time::Duration;

use serde_json::{Value, json};

use ctlstore::actors::executive::ExecutiveOptions;
use ctlstore::messages::status::RoleState;
use support::http::{self, get};
use support::in_process::hold::Hold;
use support::in_process::replay::{assert_contiguous, ledger, replay, rows};
use support::in_process::{Executive, row};
use support::server::{Flavour, PrivateServer};
use support::{TestDatabase, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn every_server() -> Vec<(&'static str, TestDatabase)> {
    support::every_ctldb().into_iter().filter(|(_, database)| database.is_mysql()).collect()
}

/// A table as the original makes it, with its row in the ledger.
const MADE_BY_THE_ORIGINAL: [&str; 3] = [
    "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'",
    "CREATE TABLE fam___old (`id` VARCHAR(191), `n` BIGINT, `v` MEDIUMTEXT, PRIMARY KEY(`id`, `n`)) \
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "INSERT INTO ctlstore_dml_ledger (seq, statement) SELECT COALESCE(MAX(seq), 0) + 1, \
     'CREATE TABLE fam___old (\"id\" VARCHAR(191), \"n\" INTEGER, \"v\" TEXT, PRIMARY KEY(\"id\",\"n\"));' \
     FROM ctlstore_dml_ledger",
];

fn old(delete: bool, id: &str, n: impl Into<Value>, v: &str) -> Value {
    json!({"table": "old", "delete": delete, "values": {"id": id, "n": n.into(), "v": v}})
}

/// The rows by their keys, in the ctldb and in the ledger's replay.
fn assert_rows(kind: &str, database: &TestDatabase, want: &[(&str, i64, &str)]) {
    let text = |column: &str| format!("HEX({column})");
    let sql = format!("SELECT {}, n, {} FROM fam___old ORDER BY {}, n", text("id"), text("v"), text("id"));
    let want: Vec<Vec<Option<String>>> = want
        .iter()
        .map(|(id, n, v)| [hex::encode_upper(id), n.to_string(), hex::encode_upper(v)].map(Some).to_vec())
        .collect();
    assert_eq!(database.query(&sql), want, "{kind}: the ctldb");
    let replayed = rows(&replay(&ledger(database, 0)), &sql);
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Text(text) => Some(text),
        rusqlite::types::Value::Integer(integer) => Some(integer.to_string()),
        other => panic!("{other:?}"),
    };
    let replayed: Vec<Vec<_>> = replayed.into_iter().map(|row| row.into_iter().map(text).collect()).collect();
    assert_eq!(replayed, want, "{kind}: the ledger's replay");
}

#[test]
fn keys_that_an_old_table_would_merge_are_409_and_both_are_named() {
    for (kind, database) in every_server() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        for statement in MADE_BY_THE_ORIGINAL {
            database.query(statement);
        }
        let write = |mutations: Vec<Value>| executive.mutate(&json!({"mutations": mutations}));
        write(vec![old(false, "key", 1, "first")]).expect(200);
        write(vec![old(false, "key", 1, "second")]).expect(200);
        for other in ["KEY", "Key", "key ", "kéy", "kËy"] {
            for delete in [false, true] {
                let answer = write(vec![old(delete, other, 1, "merged")]).expect(409);
                let text = answer.text();
                assert!(text.contains(&format!("('{other}',1)")) && text.contains("('key',1)"), "{kind}: {text}");
            }
        }
        // Another key in its other column is another row; a boolean is the number that it stands for.
        write(vec![old(false, "KEY", 0, "other")]).expect(200);
        write(vec![old(false, "KEY", false, "again")]).expect(200);
        write(vec![old(true, "NONE", 1, "")]).expect(200);
        assert_rows(kind, &database, &[("KEY", 0, "again"), ("key", 1, "second")]);
        // An earlier mutation of the same request counts.
        write(vec![old(false, "b", 1, "x"), old(false, "B", 1, "y")]).expect(409);
        write(vec![old(true, "key", 1, ""), old(false, "KEY", 1, "third")]).expect(200);
        write(vec![row(7, "new table"), old(false, "c", 1, "x"), old(false, "c", 1, "y")]).expect(200);
        assert_rows(kind, &database, &[("KEY", 0, "again"), ("KEY", 1, "third"), ("c", 1, "y")]);
        assert_contiguous(&ledger(&database, 0));
    }
}

#[test]
fn merging_requests_in_a_group_see_what_those_before_them_wrote() {
    for (kind, database) in every_server() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        for statement in MADE_BY_THE_ORIGINAL {
            database.query(statement);
        }
        let requests = [old(false, "a", 1, "1"), old(false, "A", 1, "2"), row(1, "x"), old(false, "á", 1, "3")];
        let answers = grouped(&executive, &database, &requests);
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        // One of the three is written first. The server would merge the other two with it.
        assert_eq!(statuses, [200, 200, 409, 409], "{kind}");
        let stored = database.query("SELECT id FROM fam___old");
        assert_eq!(stored.len(), 1, "{kind}");
        assert_eq!(rows(&replay(&ledger(&database, 0)), "SELECT id FROM fam___old").len(), 1, "{kind}");
    }
}

/// Sends requests of one mutation, which wait together while another client holds the ledger lock.
fn grouped(executive: &Executive, database: &TestDatabase, mutations: &[Value]) -> Vec<http::Answer> {
    let hold = Hold::on(&database.url);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| executive.mutate(&json!({"mutations": [row(0, "first")]})));
        executive.wait_until_committing(1);
        let send = |mutation: &Value| {
            let body = json!({"mutations": [mutation]});
            scope.spawn(move || executive.mutate(&body))
        };
        let others: Vec<_> = mutations.iter().map(send).collect();
        wait_until("all others wait", DEADLINE, || executive.status().details["waiting"] == json!(mutations.len()));
        hold.release();
        first.join().unwrap().expect(200);
        others.into_iter().map(|other| other.join().unwrap()).collect()
    })
}

#[test]
fn what_the_server_refuses_is_that_requests_400_and_the_rest_of_its_group_is_written() {
    for (kind, database) in every_server() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        // Narrower than any text that the executive's own checks refuse.
        database.query("ALTER TABLE fam___tab MODIFY v VARCHAR(5)");
        let answers = grouped(&executive, &database, &[row(1, "short"), row(2, "much longer"), row(3, "short")]);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 400, 200], "{kind}: {}", answers[1].text());
        let stored = database.query("SELECT id FROM fam___tab ORDER BY id");
        assert_eq!(stored, [["0"], ["1"], ["3"]].map(|row| row.map(|id| Some(id.to_owned())).to_vec()), "{kind}");
        let ledger = ledger(&database, 0);
        assert_contiguous(&ledger);
        assert_eq!(ledger.len(), 4, "{kind}");
        assert_eq!(database.value("SELECT SUM(amount) FROM writer_usage").as_deref(), Some("3"), "{kind}");
    }
}

#[test]
fn a_ledger_that_cannot_hold_a_statement_takes_nothing_from_the_rest_of_its_group() {
    for (kind, database) in every_server() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        for statement in MADE_BY_THE_ORIGINAL {
            database.query(statement);
        }
        // As if the database was made with an older character set than its tables.
        database.query("ALTER TABLE ctlstore_dml_ledger MODIFY statement MEDIUMTEXT CHARACTER SET utf8 NOT NULL");
        let requests =
            [old(false, "a", 1, "\u{1f600}"), old(false, "b", 1, "plain"), row(1, "\u{1f600}"), row(2, "plain")];
        for requests in [&requests[..2], &requests[2..], &[requests[0].clone(), requests[3].clone()]] {
            let answers = grouped(&executive, &database, requests);
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [400, 200], "{kind}: {} {}", answers[0].text(), answers[1].text());
        }
        assert_rows(kind, &database, &[("b", 1, "plain")]);
        let stored = database.query("SELECT id FROM fam___tab ORDER BY id");
        assert_eq!(stored, [["0"], ["2"]].map(|row| row.map(|id| Some(id.to_owned())).to_vec()), "{kind}");
        let replayed = rows(&replay(&ledger(&database, 0)), "SELECT id FROM fam___tab ORDER BY id");
        assert_eq!(replayed.len(), stored.len(), "{kind}");
        assert_contiguous(&ledger(&database, 0));
    }
}

#[test]
fn a_limit_is_taken_from_the_writer_of_exactly_that_name() {
    for (kind, database) in every_server() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        // As the original makes the table.
        database.query("ALTER TABLE max_writer_rates CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci");
        http::post(&executive.at("/limits/writers/writer"), r#"{"amount":5,"period":"1m"}"#).expect(200);
        let delete = |name| http::request("DELETE", &executive.at(&format!("/limits/writers/{name}")), &[], "");
        assert_eq!(delete("WRITER").status, 404, "{kind}");
        assert_eq!(delete("writer").status, 200, "{kind}");
    }
}

#[test]
fn an_executive_comes_up_while_its_server_is_away_and_serves_when_it_is_back() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE away");
    let url = server.url("away");
    server.stop();
    let executive = Executive::start(&url, ExecutiveOptions::default());
    let unavailable = |answer: http::Answer| {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    };
    unavailable(get(&executive.at("/status")));
    unavailable(http::post(&executive.at("/families/fam"), ""));
    wait_until("the status tells the failure", DEADLINE, || executive.status().last_error.is_some());
    let status = executive.status();
    assert_eq!(status.state, RoleState::Retrying);
    assert!(status.not_ready.is_some());

    server.start_again();
    let alive = executive.at("/status");
    wait_until("the executive serves", DEADLINE, || http::is_ok(&alive));
    executive.furnish();
    executive.mutate(&json!({"mutations": [row(1, "x")]})).expect(200);
    assert_eq!(executive.status().state, RoleState::Running);

    server.kill9();
    unavailable(executive.mutate(&json!({"mutations": [row(2, "x")]})));
    unavailable(get(&executive.at("/status")));
    assert_eq!(executive.status().state, RoleState::Retrying);

    // No request is sent: the executive's own check finds it.
    server.start_again();
    wait_until("the executive is ready again", DEADLINE, || executive.status().not_ready.is_none());
    executive.mutate(&json!({"mutations": [row(3, "x")]})).expect(200);
}

#[test]
fn tables_that_the_server_cannot_hold_are_400_and_leave_nothing_behind() {
    for (kind, database) in every_server() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        let strings = |count: usize| -> Vec<Value> { (0..count).map(|n| json!([format!("s{n}"), "string"])).collect() };
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("s{n}")).collect() };
        let url = executive.at("/families/fam/tables/big");
        // First a row that is too long, then a key that is too long.
        for (columns, key) in [(200, 1), (20, 20)] {
            let table = json!({"fields": strings(columns), "keyFields": names(key)}).to_string();
            let answer = http::post(&url, table).expect(400);
            assert!(answer.text().len() > 10, "{kind}: no reason: {}", answer.text());
            get(&executive.at("/schema/table/fam/big")).expect(404);
        }
        // The table can hold some more columns, but not all of these.
        let table = json!({"fields": strings(80), "keyFields": ["s0"]}).to_string();
        http::post(&url, table).expect(200);
        let more: Vec<Value> = (80..90).map(|n| json!([format!("s{n}"), "string"])).collect();
        let answer = http::request("PUT", &url, &[], json!({"fields": more}).to_string()).expect(400);
        let done = answer.text().split("done: ").nth(1).unwrap().split(';').next().unwrap().split(", ").count();
        let schema = get(&executive.at("/schema/table/fam/big")).expect(200).json();
        assert_eq!(schema["fields"].as_array().unwrap().len(), 80 + done, "{kind}: {}", answer.text());
        let ledger = ledger(&database, 0);
        assert_contiguous(&ledger);
        assert_eq!(ledger.len(), 2 + done, "{kind}");
        assert_eq!(database.value("SELECT COUNT(*) FROM ctlstore_ddl_intent").as_deref(), Some("0"), "{kind}");
    }
}
