//! The original's role commands, run as an operator runs them: a whole host of them, mistakes, and this program's own
//! commands against an executive that answers as the original's does.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::{NodeProcess, scratch_dir, wait::wait_until};

use super::fixture::{Cli, DEADLINE, Ran, Stage, alone, binary};

/// Starts one of the original's commands in a directory, with nothing in its environment.
fn spawn(directory: &std::path::Path, arguments: &[&str]) -> NodeProcess {
    let mut command = std::process::Command::new(binary());
    command.current_dir(directory).env_clear().args(arguments);
    NodeProcess::spawn(command, Arc::new(scratch_dir()))
}

#[test]
fn a_host_of_the_original_s_commands_on_an_embedded_ledger() {
    // The executive of the original has no embedded ctldb, so one of ours writes it.
    let stage = Stage::furnished();
    let line = r#"{"table":"flags","values":{"name":"k1","on":1,"raw":null}}"#;
    stage.cli().args(&["mutate", "-f", "shop"]).input(line).run().ok();
    let ctldb = stage.node.data_dir().join("ctldb.db");
    let home = scratch_dir();
    let arguments = ["reflector", "-ldb-path", "ldb.db", "-changelog-path=changelog", "-upstream-driver", "sqlite3"];
    let dsn = format!("-upstream-dsn={}", ctldb.display());
    let mut reflector = spawn(home.path(), &[&arguments[..], &[&dsn, "-busy-timeout-ms", "5"]].concat());
    reflector.wait_ready();
    let mut sidecar = spawn(home.path(), &["sidecar", "-ldb-path=ldb.db", "--bind-addr=127.0.0.1:0", "-max-rows=5"]);
    sidecar.wait_ready();
    let url = format!("{}/get-row-by-key/shop/flags", sidecar.reader_url());
    let key = json!({"Key": [{"Value": "k1"}]}).to_string();
    wait_until("the sidecar has the row", DEADLINE, || support::http::post(&url, &key).status == 200);
    let row = json!(["k1"]).to_string();
    let read = ["ldb-read-key", "-ldb-path", "ldb.db", "-family", "shop", "-table=flags", "-key-json"];
    let run = |more: &[&str]| Cli::new(binary(), home.path()).args(&[&read[..], more].concat()).run();
    assert_eq!(run(&[&row]).json(), json!({"name": "k1", "on": 1, "raw": null}));
    assert_eq!(run(&[r#"["none"]"#]).fails(3), "no such row in table shop___flags");
    assert!(run(&[r#"["a","b"]"#]).fails(2).contains("the key of table"), "too many values");
    assert!(run(&["k1"]).fails(2).starts_with("ldb-read-key: -key-json is no JSON array"));
    let log = reflector.log();
    assert!(log.contains("-busy-timeout-ms"), "what has no meaning is said: {log}");
    assert!(log.contains("-ledger-latency") && log.contains("/readyz"), "so is the attribute that is not set: {log}");
    assert_eq!(sidecar.stop(Duration::from_secs(30)).code(), Some(0), "a sidecar heeds SIGTERM");
    assert_eq!(reflector.stop(Duration::from_secs(30)).code(), Some(0));
}

#[test]
fn a_supervisor_publishes_and_a_heartbeat_beats() {
    let stage = Stage::furnished();
    let home = scratch_dir();
    let executive = stage.process.executive_url();
    // Without a scheme, as the original's example has it.
    let executive = executive.trim_start_matches("http://");
    let mut heartbeat = spawn(
        home.path(),
        &["heartbeat", "-executive-url", executive, "-heartbeat-interval=100ms", "-writer-secret", "a-secret"],
    );
    let url = format!("{}/get-row-by-key/ctlstore/heartbeats", stage.process.reader_url());
    let key = json!({"Key": [{"Value": "heartbeat"}]}).to_string();
    wait_until("a beat is read", DEADLINE, || support::http::post(&url, &key).status == 200);
    let dsn = format!("-reflector.upstream-dsn={}", stage.node.data_dir().join("ctldb.db").display());
    let snapshot = home.path().join("snapshots/snapshot.db");
    let to = format!("-snapshot-url=file://{}", snapshot.display());
    let publishing = ["supervisor", "-snapshot-interval=1s", &to, "-reflector.ldb-path=data/ldb.db"];
    let following = ["-reflector.upstream-driver=sqlite3", &dsn];
    let mut supervisor = spawn(home.path(), &[&publishing[..], &following].concat());
    wait_until("a snapshot is published", DEADLINE, || snapshot.exists());
    let read = stage.cli().unset("CTLSTORE_LDB").args(&["rows", "-f", "ctlstore", "-t", "heartbeats", "-l"]);
    let rows = read.args(&[snapshot.to_str().unwrap()]).run().ok();
    assert!(rows.starts_with("heartbeat\t"), "the snapshot is an LDB: {rows}");
    for process in [&mut heartbeat, &mut supervisor] {
        assert_eq!(process.stop(Duration::from_secs(30)).code(), Some(0), "{}", process.log());
    }
}

#[test]
fn two_services_on_one_host_share_no_port() {
    let home = scratch_dir();
    let ldb = home.path().join("ldb.db").display().to_string();
    let arguments = ["sidecar", "-bind-addr=127.0.0.1:0", "-ldb-path", &ldb];
    let mut one = spawn(home.path(), &arguments);
    one.wait_ready();
    // A port that is taken does not keep a service from its work, as in the original.
    let taken = one.ops_url().replace("http://", "");
    let mut command = std::process::Command::new(binary());
    command.current_dir(home.path()).env_clear().env("CTLSTORE__OPS__BIND", &taken).args(arguments);
    let mut other = NodeProcess::spawn(command, Arc::new(scratch_dir()));
    other.wait_ready();
    assert_ne!(one.ops_url(), other.ops_url());
    assert!(other.log().contains(&taken), "the port that could not be had is said: {}", other.log());
}

#[test]
fn an_executive_makes_no_directory() {
    let home = scratch_dir();
    let mut executive = spawn(home.path(), &["executive", "-bind=127.0.0.1:0", "-ctldb=nobody@tcp(127.0.0.1:1)/none"]);
    executive.wait_ready();
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "what it keeps is in the ctldb");
}

#[test]
fn mistakes_end_with_2_and_a_line() {
    assert_eq!(
        alone(&["reflector", "-ldb-path=x", "-poll-intervall", "1s"]).fails(2),
        "reflector: no flag -poll-intervall, did you mean -poll-interval? -help lists them"
    );
    assert!(alone(&["heartbeat"]).fails(2).starts_with("heartbeat: -writer-secret is missing"));
    assert!(
        alone(&["multi-reflector", "-multi-reflector.ldb-paths=/a", "-upstream-driver=mysql", "-upstream-dsn=/x"])
            .err
            .contains("multi-reflector needs at least 2 paths")
    );
    let help = alone(&["reflector", "--help"]).ok();
    assert!(help.contains("-ldb-path PATH") && help.contains("ctlstore config --as reflector"), "{help}");
    assert!(alone(&["sidecar", "-h"]).ok().contains("[0.0.0.0:1331]"));
}

/// Answers as the original's executive does to what the tests ask: lists without members are `null`, JSON has no line
/// end, keys are in column order, and routes that it has not are 404 or 405 without a body.
struct GoExecutive {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl GoExecutive {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut request) = (client.unwrap(), Vec::new());
                let mut piece = [0; 4096];
                while !is_whole(&request) {
                    let length = client.read(&mut piece).unwrap();
                    assert_ne!(length, 0, "a whole request");
                    request.extend_from_slice(&piece[..length]);
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let line = text.lines().next().unwrap().rsplit_once(' ').unwrap().0.to_owned();
                let (status, content_type, body) = answer(&line);
                heard.lock().unwrap().push(line);
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}");
                client.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        let directory = scratch_dir();
        Cli::new(binary(), directory.path())
            .env("CTLSTORE_EXECUTIVE", &self.url)
            .env("CTLSTORE_SECRET", "a-secret")
            .env("CTLSTORE_NEW_SECRET", "another")
            .args(arguments)
            .run()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
    });
    body.len() >= length.unwrap_or(0)
}

const PAIRS: &str =
    r#"{"family":"shop","name":"pairs","fields":[["a","string"],["b","integer"],["c","text"]],"keyFields":["a","b"]}"#;
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

fn answer(line: &str) -> (&'static str, &'static str, String) {
    match line {
        "GET /limits/tables" => {
            ("200 OK", TEXT, r#"{"global":{"max-size":104857600,"warn-size":52428800},"tables":null}"#.to_owned())
        }
        "GET /limits/writers" => {
            ("200 OK", TEXT, r#"{"global":{"amount":1000,"period":60000000000},"writers":null}"#.to_owned())
        }
        "GET /schema/family/empty" => ("200 OK", JSON, "null".to_owned()),
        "GET /schema/family/shop" => ("200 OK", JSON, format!("[{PAIRS}]")),
        "GET /schema/table/shop/pairs" => ("200 OK", JSON, PAIRS.to_owned()),
        "POST /families/shop" => ("409 Conflict", TEXT, "Family already exists".to_owned()),
        "POST /families/shop/tables/pairs" => ("409 Conflict", TEXT, "Table already exists".to_owned()),
        "PUT /writers/loader" | "DELETE /writers/loader" => ("405 Method Not Allowed", TEXT, String::new()),
        _ => ("404 Not Found", TEXT, "404 page not found\n".to_owned()),
    }
}

#[test]
fn lists_without_members_are_null_there() {
    let executive = GoExecutive::start();
    assert_eq!(executive.run(&["table-limits", "read"]).ok(), "warn: 52428800 bytes\nmax : 104857600 bytes\n");
    assert_eq!(executive.run(&["writer-limits", "read"]).ok(), "default: 1000 rows per 1m\n");
    assert_eq!(executive.run(&["writer-limits", "read", "--json"]).json()["writers"], json!([]));
    assert_eq!(executive.run(&["schema", "show", &executive.url, "-f", "empty"]).json(), json!([]));
}

#[test]
fn keys_in_column_order_are_no_conflict() {
    let executive = GoExecutive::start();
    let fields = ["--field", "a:string", "--field", "b:integer", "--field", "c:text"];
    let create = |keys: [&str; 2]| {
        let table = ["create-table", "-f", "shop"];
        let keys = ["--key-field", keys[0], "--key-field", keys[1], "pairs"];
        executive.run(&[&table[..], &fields, &keys].concat())
    };
    for keys in [["a", "b"], ["b", "a"]] {
        assert_eq!(create(keys).ok(), "table shop___pairs exists already\n", "{keys:?}");
    }
    assert!(create(["a", "c"]).code != Some(0), "another key is a conflict");
    let directory = scratch_dir();
    let wanted = PAIRS.replace(r#""keyFields":["a","b"]"#, r#""keyFields":["b","a"]"#);
    let file = directory.path().join("shop.json");
    std::fs::write(&file, format!("[{wanted}]")).unwrap();
    let diff = executive.run(&["schema", "diff", file.to_str().unwrap(), "--check"]);
    assert_eq!(diff.ok(), "", "the order of a key can't be told apart there");
    let shown = executive.run(&["schema", "show", &executive.url, "-f", "shop"]);
    assert!(shown.err.contains("in column order"), "{shown:?}");
    assert_eq!(executive.run(&["schema", "show", &executive.url, "-f", "empty"]).err, "");
}

#[test]
fn what_only_ours_can_is_said_of_the_original() {
    let executive = GoExecutive::start();
    let said = executive.run(&["writer", "rotate", "loader"]).fails(4);
    assert_eq!(
        said,
        format!(
            "the executive at {} is the Go program's, which can't give a writer another secret: ask one of ours",
            executive.url
        )
    );
    assert!(executive.run(&["writer", "remove", "loader"]).fails(4).contains("which can't forget a writer"));
}

#[test]
fn a_slash_at_the_end_of_a_url_is_no_part_of_the_path() {
    let executive = GoExecutive::start();
    let slashed = format!("{}/", executive.url);
    executive.run(&["table-limits", "read", "-e", &slashed]).ok();
    assert_eq!(executive.asked.lock().unwrap().last().map(String::as_str), Some("GET /limits/tables"));
    // The Go program's own command line makes two slashes of it; ours tells it the path without them.
    let stage = Stage::new();
    let url = stage.process.executive_url();
    let mut client = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    client
        .write_all(
            b"POST //families/shop?x=1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nlocation: /families/shop?x=1\r\n"), "{answer}");
}
