//! A node with clients and surroundings that behave badly: it keeps its bounds, and its status stays
//! true.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use support::client::{read_value, role_status, wait_for_value};
use support::{Client, Node, NodeProcess, http, process, scratch_dir, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn address(url: &str) -> &str {
    url.strip_prefix("http://").expect("a plain url")
}

/// A line of /proc/PID/status, in kB.
fn memory_kb(node: &NodeProcess, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("the node runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

fn sockets(node: &NodeProcess) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("the node runs");
    let target = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).unwrap_or_default();
    entries.flatten().map(target).filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_fresh_node_that_says_ready_takes_writes_and_has_nothing_to_complain_of() {
    let node = Node::new().start();
    http::post(&format!("{}/families/shop", node.executive_url()), "").expect(200);
    wait_until("the heart has beaten", DEADLINE, || role_status(&node.ops_url(), "heartbeat")["state"] == "running");
    let log = node.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_node() {
    let home = Arc::new(scratch_dir());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    command.arg("node").current_dir(home.path()).stdin(Stdio::null()).stdout(Stdio::null());
    for bind in ["EXECUTIVE", "READER"] {
        command.env(format!("CTLSTORE__{bind}__BIND"), "127.0.0.1:0");
    }
    let port = support::port::Port::claim();
    let ops = format!("127.0.0.1:{}", port.number);
    command.env("CTLSTORE__OPS__BIND", &ops);
    command.stderr(File::options().write(true).open("/dev/full").expect("open /dev/full"));
    let mut child = process::spawn(command);
    let ops = format!("http://{ops}");
    wait_until("the node is ready", DEADLINE, || http::is_ok(&format!("{ops}/readyz")));
    // If nothing is wrong, a node's first line after its start is about a snapshot.
    wait_until("a snapshot was logged", DEADLINE, || role_status(&ops, "snapshotter")["details"]["snapshots"] == 1);
    process::signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().expect("wait for the node").code(), Some(0));
}

#[test]
fn what_is_not_http_is_answered_and_not_logged() {
    let node = Node::new().start();
    for url in [node.executive_url(), node.reader_url(), node.ops_url()] {
        let mut client = TcpStream::connect(address(&url)).expect("connect");
        client.write_all(b"\x16\x03\x01 what is this?\r\n\r\n").expect("send");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer, then the end");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let log = node.log();
    assert!(!log.contains("ERROR"), "{log}");
}

/// Sends the head of a request with a body of 1 MiB, and most of that body, as far as the server takes it.
fn begin_large_request(executive: &str) -> TcpStream {
    let mut client = TcpStream::connect(address(executive)).expect("connect");
    client.set_write_timeout(Some(Duration::from_millis(20))).expect("set a time-out");
    let head = "POST /families/fam/mutations HTTP/1.1\r\nhost: localhost\r\nctlstore-writer: nobody\r\n\
                ctlstore-secret: wrong\r\ncontent-length: 1048576\r\n\r\n";
    client.write_all(head.as_bytes()).expect("send the head");
    match client.write_all(&vec![b' '; 1_000_000]) {
        // It was taken, it waits, or it was refused already.
        Ok(()) => client,
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => client,
            _ => panic!("{error}"),
        },
    }
}

#[test]
fn many_large_bodies_that_never_end_take_bounded_memory_and_leave_room_for_others() {
    let node = Node::new().roles(&["executive"]).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    let idle = sockets(&node);
    let slow: Vec<TcpStream> = (0..800).map(|_| begin_large_request(&node.executive_url())).collect();
    client.upsert("fam", "tab", &[(1, "small requests pass")]);
    drop(slow);
    wait_until("their connections are closed", DEADLINE, || sockets(&node) <= idle);
    let large = "x".repeat(300_000);
    client.upsert("fam", "tab", &[(2, &large)]);
    let most = memory_kb(&node, "VmHWM:");
    assert!(most < 500_000, "{most} kB were in use");
}

#[test]
fn a_write_to_a_ctldb_that_was_deleted_is_not_acknowledged() {
    let node = Node::new();
    let mut process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");

    let path = node.data_dir().join("ctldb.db");
    let aside = node.data_dir().join("aside.db");
    std::fs::rename(&path, &aside).expect("move the ctldb away");
    let answer = client.try_mutate("fam", &support::client::upserts("tab", &[(1, "two")])).expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("ctldb.db was deleted or replaced"), "{}", answer.text());
    http::get(&client.url("/status")).expect(503);
    assert_eq!(role_status(&process.ops_url(), "executive")["state"], "retrying");
    assert_eq!(read_value(&process.reader_url(), "fam", "tab", 1).as_deref(), Some("one"));

    std::fs::rename(&aside, &path).expect("move the ctldb back");
    client.upsert("fam", "tab", &[(1, "three")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "three");
    assert!(process.stop(DEADLINE).success());
}

#[test]
fn a_start_that_fails_says_its_cause_once() {
    let node = Node::new().set("node.data_dir", "/dev/null/data");
    let mut process = node.spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    let log = process.log();
    assert_eq!(log.matches("os error").count(), 1, "{log}");

    let node = Node::new();
    std::fs::create_dir(node.data_dir()).expect("make the data directory");
    std::fs::write(node.data_dir().join("ctldb.db"), [b'x'; 4096]).expect("write what is no database");
    let mut process = node.spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    assert!(process.log().contains("ctldb.db: file is not a database"), "{}", process.log());
}

#[test]
fn a_ctldb_that_cannot_be_reached_is_named_once() {
    let nobody = support::port::Port::claim();
    let url = format!("mysql://somebody:geheim@127.0.0.1:{}/db", nobody.number);
    let node = Node::new().ctldb(&url).roles(&["executive", "reflector"]).start();
    for role in ["executive", "poller"] {
        wait_until("the role says what is wrong", DEADLINE, || {
            role_status(&node.ops_url(), role)["state"] == "retrying"
        });
        let message = role_status(&node.ops_url(), role)["last_error"]["message"].to_string();
        let want = format!("127.0.0.1:{}: Connection refused", nobody.number);
        assert!(message.contains(&want) && message.matches("rror").count() == 1, "{role}: {message}");
    }
    assert!(!node.log().contains("geheim"), "{}", node.log());
}
