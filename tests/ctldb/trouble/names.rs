//! Names, secrets and sizes that some database or header can't have are 400 on every ctldb, and write nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use ctlstore::actors::executive::ExecutiveOptions;

use support::http::{get, post, request};
use support::in_process::replay::{ledger, replay};
use support::in_process::{Executive, row};
use support::{Node, every_ctldb, scratch_dir, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn table(fields: &[(&str, &str)], key: &[&str]) -> String {
    json!({"fields": fields, "keyFields": key}).to_string()
}

#[test]
fn names_that_sqlite_keeps_for_itself_are_400_on_every_ctldb() {
    for (kind, database) in every_ctldb() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        for family in ["sqlite", "SQLITE", "sqlite_stat", "sqlite_x_y"] {
            let answer = post(&executive.at(&format!("/families/{family}")), "").expect(400);
            assert!(answer.text().contains("reserved"), "{kind}: {}", answer.text());
            let url = executive.at(&format!("/families/{family}/tables/stat"));
            post(&url, table(&[("a", "string")], &["a"])).expect(400);
            let many = json!([{"family": family, "name": "stat", "fields": [["a", "string"]], "keyFields": ["a"]}]);
            post(&executive.at("/tables"), many.to_string()).expect(400);
        }
        for family in ["sqlite3", "my_sqlite"] {
            post(&executive.at(&format!("/families/{family}")), "").expect(200);
            let url = executive.at(&format!("/families/{family}/tables/stat"));
            post(&url, table(&[("a", "string")], &["a"])).expect(200);
        }
        replay(&ledger(&database, 0));
    }
}

#[test]
fn fields_that_innodb_keeps_for_itself_are_400_with_the_name_on_every_ctldb() {
    for (kind, database) in every_ctldb() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        for field in ["db_row_id", "DB_TRX_ID", "db_roll_ptr", "fts_doc_id", "db_row_hash_1"] {
            let lower = field.to_lowercase();
            let url = executive.at("/families/fam/tables/other");
            let made = post(&url, table(&[("a", "string"), (field, "integer")], &["a"])).expect(400);
            let more = json!({"fields": [["fine", "text"], [field, "text"]]}).to_string();
            let added = request("PUT", &executive.at("/families/fam/tables/tab"), &[], more).expect(400);
            for answer in [made, added] {
                assert!(answer.text().contains(&lower), "{kind}: {}", answer.text());
            }
        }
        // Names that only look like these are accepted, and so are SQLite's names for a row's number.
        let fields = [("a", "string"), ("row_id", "text"), ("rowid", "text"), ("oid", "integer"), ("trx_id", "text")];
        post(&executive.at("/families/fam/tables/other"), table(&fields, &["a"])).expect(200);
        let reserved_words = [("select", "string"), ("table", "text"), ("order", "text"), ("row_start", "integer")];
        post(&executive.at("/families/fam/tables/words"), table(&reserved_words, &["select"])).expect(200);
        assert_eq!(ledger(&database, 0).len(), 3, "{kind}");
        replay(&ledger(&database, 0));
    }
}

#[test]
fn a_table_that_no_ldb_could_write_rows_to_is_400_and_leaves_nothing() {
    for (kind, database) in every_ctldb() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        // A delete names each key field, and SQLite's expressions are at most 1,000 deep.
        let names: Vec<String> = (0..1_200).map(|n| format!("f{n}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "integer")).collect();
        let key: Vec<&str> = names.iter().map(String::as_str).collect();
        let url = executive.at("/families/fam/tables/wide");
        let answer = post(&url, table(&fields, &key)).expect(400);
        assert!(answer.text().len() > 10, "{kind}: {}", answer.text());
        let wider: Vec<String> = (0..2_100).map(|n| format!("f{n}")).collect();
        let fields: Vec<(&str, &str)> = wider.iter().map(|name| (name.as_str(), "integer")).collect();
        post(&url, table(&fields, &["f0"])).expect(400);
        get(&executive.at("/schema/table/fam/wide")).expect(404);
        assert_eq!(ledger(&database, 0).len(), 1, "{kind}");
    }
}

#[test]
fn settings_that_name_what_no_ldb_can_hold_are_refused_at_the_start() {
    let refused = [
        ("heartbeat.family", "sqlite"),
        ("heartbeat.family", "sqlite_beats"),
        ("heartbeat.writer", "wri\tter"),
        ("heartbeat.writer", "writer "),
        ("heartbeat.secret", "se\ncret"),
        ("heartbeat.secret", " secret"),
        ("ctldb.ledger_table", "sqlite_ledger"),
        ("ctldb.ledger_table", "shop___flags"),
        ("ctldb.ledger_table", "Mutators"),
    ];
    for (key, value) in refused {
        let mut node = Node::new().set(key, value).spawn();
        let status = node.wait_exit(DEADLINE);
        assert!(!status.success() && node.log().contains(key), "{key} = {value:?}: {}", node.log());
    }
}

#[test]
fn secrets_and_names_that_a_header_can_not_carry_are_400_and_nobody_is_locked_out() {
    for (kind, database) in every_ctldb() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        let url = executive.at("/writers/other");
        let bad: [&[u8]; 10] = [
            b"abc\n",
            b"abc\r\n",
            b"\nabc",
            b"a\tbc",
            b" abc",
            b"abc ",
            b"a\0bc",
            b"abc\x7f",
            b"abc\xff",
            "abc\u{85}".as_bytes(),
        ];
        for secret in bad {
            let answer = post(&url, secret).expect(400);
            assert!(answer.text().starts_with("the secret "), "{kind}: {}", answer.text());
            let rotated = request("PUT", &executive.at("/writers/writer"), &[("ctlstore-secret", "secret")], secret);
            rotated.expect(400);
        }
        for name in ["wri%0Ater", "writer%20", "%09writer", "wr%00iter"] {
            post(&executive.at(&format!("/writers/{name}")), "secret").expect(400);
        }
        executive.mutate(&json!({"mutations": [row(1, "x")]})).expect(200);
        // Every accepted secret can be shown again.
        for secret in ["a b", "p\u{e4}ssw\u{f6}rd", "~!@#$%^&*()", "100%"] {
            let name = format!("writer-{}", secret.len());
            post(&executive.at(&format!("/writers/{name}")), secret).expect(200);
            assert_eq!(cookie_status(&executive, &name, secret.as_bytes()), 200, "{kind}: {secret}");
        }
    }
}

/// Asks for the cookie. The header has the secret's bytes unchanged.
fn cookie_status(executive: &Executive, writer: &str, secret: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(executive.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("GET /cookie HTTP/1.1\r\nhost: test\r\nconnection: close\r\nctlstore-writer: {writer}\r\n");
    let request = [head.as_bytes(), b"ctlstore-secret: ", secret, b"\r\n\r\n"].concat();
    stream.write_all(&request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_command_line_takes_a_files_last_line_end_away_and_refuses_what_is_left_bad() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, ExecutiveOptions::default());
    executive.furnish();
    let directory = scratch_dir();
    let register = |name: &str, secret: &str| {
        std::fs::write(directory.path().join("secret"), secret).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
        command.current_dir(directory.path()).env("CTLSTORE_EXECUTIVE", &executive.url);
        command.args(["writer", "register", "--secret-file", "secret", name]);
        command.output().expect("run the binary")
    };
    let output = register("from-file", "p\u{e4}ss word\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cookie_status(&executive, "from-file", "p\u{e4}ss word".as_bytes()), 200);
    for bad in ["abc\n\n", "a\nbc", " abc", "abc \n"] {
        let output = register("refused", bad);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("the secret "), "{bad:?}: {told}");
    }
    let registered = database.query("SELECT writer FROM mutators ORDER BY writer");
    assert_eq!(registered.len(), 2, "{registered:?}");
}

#[test]
fn a_heartbeat_with_letters_beyond_ascii_in_its_secret_beats() {
    let node = Node::new().set("heartbeat.secret", "p\u{e4}ssw\u{f6}rd").set("heartbeat.interval", "200ms").start();
    let status = format!("{}/readyz/heartbeat", node.ops_url());
    wait_until("the heartbeat beats", DEADLINE, || support::http::is_ok(&status));
}

#[test]
fn a_request_that_its_writers_limit_never_lets_pass_is_413_and_names_the_limit() {
    for (kind, database) in every_ctldb() {
        let mut settings = ExecutiveOptions::default();
        settings.rules.writer_limit.amount = 5;
        // A period that does not end within the test.
        settings.rules.writer_limit.period = Duration::from_secs(1_000_000_000);
        let executive = Executive::serving(&database, settings);
        executive.furnish();
        let rows = |count: i64| json!({"mutations": (1..=count).map(|id| row(id, "x")).collect::<Vec<_>>()});
        let answer = executive.mutate(&rows(6)).expect(413);
        assert_eq!(answer.header("retry-after"), None, "{kind}");
        let text = answer.text();
        assert!(
            text.starts_with("6 rows in one request can never pass") && text.contains("limited to 5 rows"),
            "{text}"
        );
        // No usage is counted, and credentials are checked first.
        executive.mutate_as("writer", "wrong", &rows(6)).expect(401);
        executive.mutate(&rows(5)).expect(200);
        // A request that could pass later gets a Retry-After; one that never can does not.
        assert!(executive.mutate(&rows(1)).expect(429).header("retry-after").is_some());
        executive.mutate(&rows(100)).expect(413);
    }
}
