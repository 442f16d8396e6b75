//! `watch`: the change feed as a pipe shows it, over restarts of the reader.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::fixture::{Stage, alone, binary};
use support::{port::Port, process};

fn set(stage: &Stage, name: &str, on: i64) {
    let name = format!("name={name}");
    let on = format!("on={on}");
    stage.run(&["mutate", "-f", "shop", "-t", "flags", "--set", &name, "--set", &on, "--set", "raw=0x00ff"]).ok();
}

/// A watch that runs, and what it prints.
struct Watching {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(stage: &Stage, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["watch", "--reader", &stage.process.reader_url()]).args(arguments);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process::spawn(command);
        let lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }

    fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Waits for the end, and gives the exit code and standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let said = std::io::read_to_string(self.child.stderr.take().expect("stderr is a pipe")).expect("text");
        (self.child.wait().expect("wait for the command").code(), said)
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }
}

#[test]
fn changes_are_printed_as_they_come_until_there_were_enough() {
    let stage = Stage::furnished();
    stage.caught_up();
    set(&stage, "before", 0);
    stage.caught_up();
    // Begun in the past, so that nothing can come too early to be seen.
    let mut watch = Watching::start(&stage, &["-f", "shop", "-t", "flags", "--since", "2", "--rows", "--count", "3"]);
    set(&stage, "one", 1);
    assert_eq!(watch.line(), "3\tupsert\tshop\tflags\tone\t{\"name\":\"one\",\"on\":1,\"raw\":\"AP8=\"}");
    stage.run(&["mutate", "-f", "shop", "-t", "flags", "--delete", "--set", "name=one"]).ok();
    assert_eq!(watch.line(), "4\tdelete\tshop\tflags\tone\tnull");
    stage.run(&["add-fields", "-f", "shop", "-t", "flags", "--field", "note:text"]).ok();
    assert_eq!(watch.line(), "5\taltered\tshop\tflags\t");
    assert!(watch.lines.next().is_none(), "three changes were asked for");
    assert_eq!(watch.end(), (Some(0), String::new()));
}

#[test]
fn json_has_what_a_program_needs_to_go_on() {
    let stage = Stage::furnished();
    stage.caught_up();
    let mut watch = Watching::start(&stage, &["--json", "--count", "1"]);
    let start = watch.json();
    assert_eq!((&start["event"], &start["data"]["ledgerSeq"]), (&json!("start"), &json!(1)));
    set(&stage, "one", 1);
    let change = watch.json();
    assert_eq!((&change["event"], &change["data"]["op"]), (&json!("change"), &json!("upsert")));
    assert_eq!(change["data"]["key"][0]["value"], "one");
    watch.end();
    set(&stage, "two", 2);
    stage.caught_up();
    let mut resumed = Watching::start(&stage, &["--since", change["id"].as_str().expect("an id"), "--count", "1"]);
    assert_eq!(resumed.line(), "3\tupsert\tshop\tflags\ttwo");
}

#[test]
fn bytes_in_a_key_are_hex() {
    let stage = Stage::furnished();
    let table = ["--field", "id:bytestring", "--field", "n:integer", "--key-field", "id", "--key-field", "n", "blobs"];
    stage.run(&[&["create-table", "-f", "shop"], &table[..]].concat()).ok();
    stage.caught_up();
    let mut watch = Watching::start(&stage, &["--since", "2", "--count", "1"]);
    stage.run(&["mutate", "-f", "shop", "-t", "blobs", "--set", "id=0x00ff", "--set", "n=17"]).ok();
    assert_eq!(watch.line(), "3\tupsert\tshop\tblobs\t0x00ff, 17");
}

#[test]
fn a_restart_of_the_reader_loses_nothing_and_is_told() {
    let port = Port::claim();
    let bind = format!("127.0.0.1:{}", port.number);
    let mut stage = Stage::with(|node| node.set("reader.bind", bind.as_str())).furnish();
    stage.caught_up();
    let mut watch = Watching::start(&stage, &["--since", "1"]);
    set(&stage, "one", 1);
    assert!(watch.line().starts_with("2\tupsert\t"));
    stage.process.kill9();
    stage.process = stage.node.start();
    for (name, line) in [("two", "3\tupsert\tshop\tflags\ttwo"), ("three", "4\tupsert\tshop\tflags\tthree")] {
        set(&stage, name, 2);
        assert_eq!(watch.line(), line);
    }
    watch.signal("-INT");
    let (code, said) = watch.end();
    assert_eq!(code, Some(130), "{said}");
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("ctlstore: the reader at ") && said[0].ends_with("; trying again"), "{said:?}");
    assert!(said[1].starts_with("ctlstore: connected to the reader at ") && said[1].ends_with(" again"), "{said:?}");
    assert!(said[2].starts_with("ctlstore: stopped by a signal; --since "), "{said:?}");
}

#[test]
fn what_is_not_known_is_told_loudly() {
    let stage = Stage::furnished();
    stage.caught_up();
    let unknown = format!("{}-7", "0".repeat(32));
    let mut watch = Watching::start(&stage, &["--since", &unknown]);
    let reason = "the position is not one of this history";
    assert_eq!(watch.line(), format!("1\tresync\t-\t-\t{reason}"));
    watch.signal("-TERM");
    let (code, said) = watch.end();
    assert_eq!(code, Some(130));
    assert!(said.starts_with(&format!("ctlstore: resync at ledger seq 1: {reason}\n")), "{said}");
}

#[test]
fn mistakes_end_it_with_a_line() {
    let away = alone(&["watch", "--reader", "127.0.0.1:1"]).fails(5);
    assert!(away.starts_with("the reader at http://127.0.0.1:1 can't be reached: Connection refused"), "{away}");
    assert_eq!(alone(&["watch", "-t", "flags"]).code, Some(2));
    assert_eq!(alone(&["watch", "--count", "0"]).code, Some(2));
    let stage = Stage::furnished();
    let (reader, executive) = (stage.process.reader_url(), stage.process.executive_url());
    let bad = stage.run(&["watch", "--reader", &reader, "--since", "yesterday"]).fails(4);
    assert!(bad.starts_with("since is no event id and no seq (400 Bad Request from GET "), "{bad}");
    let other = stage.run(&["watch", "--reader", &executive]).fails(1);
    assert!(other.starts_with("what answers there is no reader (404 Not Found from GET "), "{other}");
}
