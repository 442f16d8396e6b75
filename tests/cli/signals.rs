//! Ctrl-C of commands that take long: they end in good order with 130, and what they leave is whole.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::fixture::{DEADLINE, Stage, binary, flags};
use support::web::Manners;
use support::{Web, process, wait_until};

fn start(stage: &Stage, variables: &[(&str, &str)], arguments: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(stage.directory.path()).env_clear().envs(variables.iter().copied());
    command.env("CTLSTORE_LDB", stage.node.ldb_path()).env("CTLSTORE_EXECUTIVE", stage.process.executive_url());
    command.env("CTLSTORE_WRITER", "loader").env("CTLSTORE_SECRET", "a-secret");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    process::spawn(command)
}

/// Reads standard error up to a line that begins so.
fn until(child: &mut Child, begin: &str) -> impl BufRead + use<> {
    let mut lines = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
    let mut line = String::new();
    while !line.starts_with(begin) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("text"), 0, "it ended before it said {begin:?}");
    }
    lines
}

/// Sends SIGINT, and gives the exit code and the last line on standard error.
fn interrupt(mut child: Child, rest: impl BufRead) -> (Option<i32>, String) {
    process::signal(&child, libc::SIGINT);
    let last = rest.lines().last().map(|line| line.expect("text"));
    (child.wait().expect("wait for the command").code(), last.unwrap_or_default())
}

/// The files besides locks, which stay.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("list the directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("utf-8"));
    names.filter(|name| !name.ends_with(".lock")).collect()
}

const STOPPED: &str = "ctlstore: stopped by a signal";

/// A node whose LDB has 20 MB in it.
fn large() -> Stage {
    let stage = Stage::furnished();
    let raw = "A".repeat(400 * 1024);
    let line = |i| json!({"table": "flags", "values": {"name": format!("k{i}"), "on": i, "raw": raw}}).to_string();
    let lines: Vec<String> = (0..64).map(line).collect();
    stage.cli().input(lines.join("\n")).args(&["mutate", "-f", "shop"]).run().ok();
    stage.caught_up();
    stage
}

#[test]
fn a_take_that_is_interrupted_publishes_nothing_or_all() {
    let stage = large();
    let data = stage.node.ldb_path().parent().expect("a directory").to_owned();
    // A store that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let variables = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
    ];
    let before = names(&data);
    let mut child = start(&stage, &variables, &["snapshot", "take", "--to", "s3://bucket/s.db"]);
    silent.accept().expect("the store is asked");
    let rest = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
    assert_eq!(interrupt(child, rest), (Some(130), STOPPED.to_owned()));
    assert_eq!(names(&data), before);

    for phase in ["copying the ldb", "checking the snapshot", "hashing the snapshot", "publishing the snapshot"] {
        fs::create_dir(stage.path("out")).expect("make a directory");
        let mut child = start(&stage, &[], &["snapshot", "take", "--to", "file:out/s.db.zst"]);
        let rest = until(&mut child, phase);
        let (code, last) = interrupt(child, rest);
        let left = names(&stage.path("out"));
        match code {
            Some(0) => drop(stage.run(&["snapshot", "inspect", "file:out/s.db.zst"]).ok()),
            _ => assert_eq!((code, last.as_str()), (Some(130), STOPPED), "{phase}"),
        }
        // A reader of this path must find a complete snapshot.
        let whole = stage.run(&["snapshot", "inspect", "file:out/s.db.zst"]).code;
        assert_eq!(whole, Some(if left.contains("s.db.zst") { 0 } else { 3 }), "{phase}: {left:?}");
        assert!(!left.iter().any(|name| name.contains(".tmp")), "{phase}: {left:?}");
        fs::remove_dir_all(stage.path("out")).expect("remove the directory");
    }
    assert_eq!(names(&data), before);
}

#[test]
fn a_download_that_is_interrupted_leaves_nothing() {
    let stage = large();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    let web = Web::start();
    let url = web.put("s.db", fs::read(stage.path("s.db")).expect("the snapshot"));
    web.behave(Manners { slow: Some(256 * 1024), ..Manners::default() });
    fs::create_dir(stage.path("here")).expect("make a directory");
    let fetch = ["snapshot", "fetch", &url, "--to", "here/copy.db"];
    let inspect = ["snapshot", "inspect", &url, "--temp-dir", "here"];
    for arguments in [&fetch[..], &inspect] {
        let mut child = start(&stage, &[], arguments);
        let rest = until(&mut child, "fetching the snapshot");
        wait_until("something was downloaded", DEADLINE, || !names(&stage.path("here")).is_empty());
        assert_eq!(interrupt(child, rest), (Some(130), STOPPED.to_owned()), "{arguments:?}");
        assert_eq!(names(&stage.path("here")), BTreeSet::new(), "{arguments:?}");
    }
}

#[test]
fn a_place_that_fails_for_a_while_is_asked_again() {
    let stage = Stage::furnished();
    stage.caught_up();
    stage.run(&["snapshot", "take", "--to", "file:s.db"]).ok();
    let web = Web::start();
    let url = web.put("s.db", fs::read(stage.path("s.db")).expect("the snapshot"));
    web.behave(Manners { fail: u64::MAX, status: 503, ..Manners::default() });
    let mut child = start(&stage, &[], &["snapshot", "fetch", &url, "--to", "copy.db"]);
    let mut said = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
    let waiting = said.by_ref().map(|line| line.expect("text")).find(|line| line.contains("; next try in "));
    assert!(waiting.expect("it says that it waits").starts_with(&format!("ctlstore: {url}")));
    web.behave(Manners::default());
    assert_eq!(child.wait().expect("wait for the command").code(), Some(0));
    assert!(stage.path("copy.db").exists());
    // A signal ends the waiting too.
    web.behave(Manners { fail: u64::MAX, status: 503, ..Manners::default() });
    let mut child = start(&stage, &[], &["snapshot", "inspect", &url]);
    let mut rest = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
    let mut line = String::new();
    while !line.contains("; next try in ") {
        line.clear();
        assert_ne!(rest.read_line(&mut line).expect("text"), 0, "it gave up at once");
    }
    assert_eq!(interrupt(child, rest), (Some(130), STOPPED.to_owned()));
}

#[test]
fn a_mutate_that_is_interrupted_says_what_is_written_and_how_to_go_on() {
    let stage = Stage::furnished();
    let run = |arguments: &[&str], wanted: i64| {
        let mut child = start(&stage, &[], &[&["mutate", "-f", "shop"], arguments].concat());
        // It stays open, so the command waits for more.
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        stdin.write_all(flags(230).as_bytes()).expect("feed the command");
        wait_until("two requests are written", DEADLINE, || stage.last_seq() == wanted);
        let rest = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let ended = interrupt(child, rest);
        drop(stdin);
        ended
    };
    let (code, said) = run(&["--resume"], 205);
    let written = "ctlstore: stopped by a signal: 200 rows are written; the same command";
    assert_eq!((code, said), (Some(130), format!("{written} goes on behind them")));
    let rest = stage.cli().input(flags(230)).args(&["mutate", "-f", "shop", "--resume", "--json"]).run().json();
    assert_eq!((&rest["rows"], &rest["skipped"]), (&json!(30), &json!(200)));
    let (code, said) = run(&[], 205 + 32 + 204);
    assert_eq!((code, said), (Some(130), format!("{written} begins anew, with --resume it could go on")));
}
