//! `mutate` with many rows: batches, and resuming an earlier run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::fixture::{DEADLINE, Stage, binary, flags};
use support::{http, process, wait_until};

fn count(stage: &Stage) -> usize {
    stage.caught_up();
    stage.run(&["rows", "-f", "shop", "-t", "flags"]).ok().lines().count()
}

#[test]
fn lines_are_written_in_requests_of_at_most_100() {
    let stage = Stage::furnished();
    stage.run(&["cookie", "set", "mine"]).ok();
    let mutate = stage.cli().input(flags(250)).args(&["mutate", "-f", "shop"]).run().ok();
    assert_eq!(mutate, "wrote 250 rows in 3 requests, up to seq 257\n");
    assert_eq!(count(&stage), 250);
    assert_eq!(stage.run(&["cookie", "get"]).ok(), "mine");
    let deletes = "\n{\"delete\":true,\"values\":{\"name\":\"k7\"}}\n\n{\"delete\":true,\"values\":{\"name\":\"k8\"}}";
    stage.write("deletes.ndjson", deletes);
    let deleted = stage.run(&["mutate", "-f", "shop", "-t", "flags", "--input", "deletes.ndjson", "--json"]).json();
    assert_eq!(deleted["rows"], 2);
    assert_eq!(count(&stage), 248);
    assert_eq!(stage.cli().args(&["mutate", "-f", "shop"]).run().ok(), "wrote 0 rows in 0 requests\n");
}

#[test]
fn large_rows_share_a_request_only_as_far_as_its_body_goes() {
    let stage = Stage::furnished();
    let large = "A".repeat(400 * 1024);
    let line = |i| json!({"table": "flags", "values": {"name": format!("k{i}"), "on": 1, "raw": large}}).to_string();
    let lines: Vec<String> = (0..5).map(line).collect();
    let written = stage.cli().input(lines.join("\n")).args(&["mutate", "-f", "shop", "--json"]).run().json();
    assert_eq!((&written["rows"], &written["requests"]), (&json!(5), &json!(3)));
}

#[test]
fn a_run_goes_on_where_the_last_one_ended_and_notices_another_input() {
    let stage = Stage::furnished();
    let run = |lines: &str| stage.cli().input(lines).args(&["mutate", "-f", "shop", "--resume", "--json"]).run();
    let first = run(&flags(150)).json();
    assert_eq!(first, json!({"rows": 150, "requests": 2, "skipped": 0, "seq": 155}));
    assert!(stage.run(&["cookie", "get"]).ok().starts_with("ctlstore-mutate 1 lines=150 sha256="));
    let second = run(&flags(160)).json();
    assert_eq!(second, json!({"rows": 10, "requests": 1, "skipped": 150, "seq": 167}));
    let again = run(&flags(160)).json();
    assert_eq!(again, json!({"rows": 0, "requests": 0, "skipped": 160, "seq": null}));
    let other = "the writer's cookie says that 160 rows of another input are written";
    for input in [flags(170).replace("\"k3\"", "\"K3\""), flags(100)] {
        assert!(run(&input).fails(4).starts_with(other));
    }
    assert_eq!(stage.last_seq(), 167);
    stage.run(&["cookie", "set", "begin anew"]).ok();
    assert_eq!(run(&flags(100)).json()["rows"], 100);
}

#[test]
fn a_run_that_was_killed_is_resumed_without_a_row_twice() {
    let stage = Stage::furnished();
    let mut command = Command::new(binary());
    command.args(["mutate", "-f", "shop", "--resume", "--writer", "loader", "--secret", "a-secret"]);
    command.args(["-e", &stage.process.executive_url()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = process::spawn(command);
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // Two requests' worth and a part of the third, which stays in the command.
    let part: String = flags(230);
    stdin.write_all(part.as_bytes()).expect("feed the command");
    wait_until("two requests are written", DEADLINE, || stage.last_seq() == 205);
    child.kill().expect("kill the command");
    child.wait().expect("wait for the command");
    let resumed = stage.cli().input(flags(250)).args(&["mutate", "-f", "shop", "--resume", "--json"]).run().json();
    assert_eq!(resumed, json!({"rows": 50, "requests": 1, "skipped": 200, "seq": 257}));
    assert_eq!(count(&stage), 250);
}

/// Between a client and the executive: forwards everything, but breaks the connection off
/// instead of handing on the answer to the `lost`th mutation request.
fn losing(executive: &str, lost: usize) -> String {
    let upstream = executive.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    let address = listener.local_addr().expect("a bound address").to_string();
    let answers = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&upstream).expect("reach the executive");
            let mut from = client.try_clone().unwrap();
            let mut to = server.try_clone().unwrap();
            std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || {
                let mut server = server;
                let mut client = client;
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = server.read(&mut piece) {
                    let is_written = String::from_utf8_lossy(&piece[..length]).contains("ctlstore-seq: ");
                    if is_written && answers.fetch_add(1, Ordering::SeqCst) + 1 == lost {
                        break;
                    }
                    client.write_all(&piece[..length]).expect("answer the client");
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn a_request_whose_answer_was_lost_is_found_to_be_written() {
    let stage = Stage::furnished();
    let address = losing(&stage.process.executive_url(), 2);
    let mutate = ["mutate", "-f", "shop", "--resume", "--json", "-e", &address];
    let ran = stage.cli().input(flags(300)).args(&mutate).run();
    assert!(ran.err.contains("100 rows written, next try in"), "{ran:?}");
    let summary = ran.json();
    assert_eq!((&summary["rows"], &summary["requests"]), (&json!(300), &json!(3)));
    // One create, and three transactions of 100 rows with their markers: none was written twice.
    assert_eq!(stage.last_seq(), 307);
    assert_eq!(count(&stage), 300);
}

#[test]
fn a_writer_over_its_limit_is_waited_for_as_long_as_that_helps() {
    let limited = |rows: u64| {
        let limit = |node: support::Node| {
            node.set("executive.writer_limit.rows", rows).set("executive.writer_limit.period", "1s")
        };
        Stage::with(limit).furnish()
    };
    let stage = limited(100);
    let written = stage.cli().input(flags(300)).args(&["mutate", "-f", "shop"]).run().ok();
    assert_eq!(written, "wrote 300 rows in 3 requests, up to seq 307\n");
    // A request of more rows than the limit has never comes to its turn, so it is not tried again.
    let stage = limited(99);
    let ran = stage.cli().input(flags(300)).args(&["mutate", "-f", "shop"]).run();
    assert_eq!((ran.code, ran.out.as_str()), (Some(4), ""), "{ran:?}");
    let said = ran.err.lines().last().unwrap();
    let why = "100 rows in one request can never pass: writer \"loader\" is limited to 99 rows in 1 s";
    assert!(said.starts_with(&format!("ctlstore: rows 1 to 100: {why}")), "{said}");
}

#[test]
fn a_line_that_is_no_mutation_ends_the_run_with_its_number() {
    let stage = Stage::furnished();
    let run = |lines: &str| stage.cli().input(lines).args(&["mutate", "-f", "shop"]).run();
    let good = "{\"table\":\"flags\",\"values\":{\"name\":\"a\",\"on\":1,\"raw\":null}}\n";
    let cases =
        [("{", "line 2: it ends too early"), ("{\"values\":{}}", "line 2: names no table, and neither does --table")];
    for (bad, why) in cases {
        let said = run(&format!("{good}{bad}")).fails(4);
        assert!(said.starts_with(why), "{said}");
    }
    let refused = run(&format!("{}{}", flags(100), good.replace("\"on\":1", "\"on\":\"x\""))).fails(4);
    assert!(
        refused.starts_with("rows 101 to 101: table shop___flags: field on: text is not a whole number"),
        "{refused}"
    );
    assert!(refused.ends_with("; the 100 before are written"), "{refused}");
    stage.run(&["mutate", "-f", "shop", "--input", "nowhere"]).fails(3);
}

#[test]
fn an_executive_that_is_restarted_meanwhile_costs_no_row_and_writes_none_twice() {
    let stage = Stage::furnished();
    let limit = json!({ "amount": 1_000_000, "period": "1m" }).to_string();
    http::post(&format!("{}/limits/writers/loader", stage.process.executive_url()), limit).expect(200);
    let executive = stage.process.executive_url();
    let address = executive.strip_prefix("http://").unwrap().to_owned();
    let Stage { node, mut process, directory } = stage;

    let mut command = Command::new(binary());
    command.args(["mutate", "-f", "shop", "--resume", "--json", "--writer", "loader", "--secret", "a-secret"]);
    command.args(["-e", &executive]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process::spawn(command);
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(flags(250).as_bytes()).expect("feed the command");
    let ctldb = format!("sqlite:{}", node.data_dir().join("ctldb.db").display());
    // The second one is sent when the first one is answered; a command without any answer gives up at once.
    wait_until("two requests are written", DEADLINE, || {
        support::sql::query(&ctldb, "SELECT MAX(seq) FROM ctlstore_dml_ledger").unwrap()[0][0].as_deref() == Some("205")
    });
    process.kill9();
    stdin.write_all(&flags(300).as_bytes()[flags(250).len()..]).expect("feed the command");
    drop(stdin);
    // The node comes back only once the command has noticed that it is away.
    let mut notices = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
    let notice = notices.next().expect("a line").expect("text");
    assert!(notice.contains("00 rows written, next try in") && notice.contains("can't be reached"), "{notice}");
    let process = node.set("executive.bind", address).start();
    let output = child.wait_with_output().expect("wait for the command");
    assert!(output.status.success(), "{output:?}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!((&summary["rows"], &summary["requests"]), (&json!(300), &json!(3)));
    drop((process, directory));
    // One create, and three transactions of 100 rows with their markers.
    let last = support::sql::query(&ctldb, "SELECT MAX(seq) FROM ctlstore_dml_ledger").unwrap();
    assert_eq!(last[0][0].as_deref(), Some("307"));
}
