//! Start and stop of a node: with every useful combination of roles, while another process holds what
//! it needs, and in the middle of its work.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use support::client::{read_value, role_status, upserts, wait_for_value};
use support::in_process::hold::Hold;
use support::{Client, Node, NodeProcess, http, wait_until};

const STOP: Duration = Duration::from_secs(60);

#[test]
fn the_first_screen_of_the_readme_works_as_written() {
    let node = Node::new().start();
    let readme = include_str!("../../README.md");
    let block = readme.split("```").find(|block| block.contains("curl")).expect("a block with curl");
    let script: Vec<&str> = block.lines().filter(|line| !line.starts_with("E=") && !line.starts_with("R=")).collect();
    let (writes, read) =
        script.join("\n").trim_end().rsplit_once('\n').map(|(w, r)| (w.to_owned(), r.to_owned())).unwrap();
    let run = |script: &str| {
        let urls = format!("set -e\nE={}\nR={}\n", node.executive_url(), node.reader_url());
        // Without -f curl exits with 0 for an error of HTTP.
        let script = format!("{urls}{}", script.replace("curl ", "curl -sSf "));
        Command::new("bash").arg("-c").arg(script).output().expect("bash runs")
    };
    let written = run(&writes);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    wait_until("the row is readable", STOP, || run(&read).status.success());
    let answer = String::from_utf8(run(&read).stdout).unwrap();
    assert!(readme.contains(&format!("answers `{}`", answer.trim())), "the README does not say {answer}");
}

#[test]
fn every_sensible_combination_of_roles_starts_stops_and_starts_again() {
    let everything = Node::new();
    // An LDB and a ctldb for roles that need another process to make one.
    let mut first = everything.start();
    let client = Client::registered(first.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&first.reader_url(), "fam", "tab", 1, "one");
    assert!(first.stop(STOP).success());

    let combinations: [&[&str]; 9] = [
        &["executive"],
        &["reflector"],
        &["reader"],
        &["executive", "reflector"],
        &["reflector", "reader"],
        &["reflector", "snapshotter"],
        &["executive", "heartbeat"],
        &["reflector", "reader", "snapshotter"],
        &["executive", "reflector", "reader", "snapshotter", "heartbeat"],
    ];
    for roles in combinations {
        // A reader alone gets no new rows, so its lag is no reason to wait.
        let node = everything.clone().roles(roles).set("reader.ready_max_lag", "0s");
        for _ in 0..2 {
            let mut process = node.start();
            let ready = format!("{}/readyz", process.ops_url());
            wait_until(&format!("{roles:?} are ready"), STOP, || http::is_ok(&ready));
            if roles.contains(&"reader") {
                assert_eq!(read_value(&process.reader_url(), "fam", "tab", 1).as_deref(), Some("one"));
            }
            let status = process.stop(STOP);
            assert!(status.success(), "{roles:?} ended with {status}");
            assert!(!process.log().contains("did not stop in time"), "{roles:?} did not stop in time");
        }
    }
}

#[test]
fn a_stop_in_a_write_storm_loses_nothing_that_was_acknowledged() {
    let node = Node::new();
    let mut process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let client = client.clone();
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for id in (writer * 1_000_000).. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match client.try_mutate("fam", &upserts("tab", &[(id, "written")])) {
                        Ok(answer) if answer.status == 200 => acknowledged.push(id),
                        Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                        Err(_) => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    wait_until("the storm is on", STOP, || read_value(&process.reader_url(), "fam", "tab", 3_000_020).is_some());
    let status = process.stop(STOP);
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<i64> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    assert!(status.success(), "ended with {status}");
    assert!(acknowledged.len() > 20);

    let process = node.start();
    for id in acknowledged {
        wait_for_value(&process.reader_url(), "fam", "tab", id, "written");
    }
}

#[test]
fn a_taken_port_fails_the_start_by_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["executive.bind", "reader.bind", "ops.bind"] {
        let mut process = Node::new().set(key, address.clone()).spawn();
        let status = process.wait_exit(STOP);
        assert_eq!(status.code(), Some(1), "{key}");
        let log = process.log();
        assert!(log.contains(key) && log.contains(&address), "{key}: {log}");
    }
}

#[test]
fn files_in_use_fail_the_start_and_name_the_holder() {
    let node = Node::new();
    let mut holder = node.start();
    for roles in [&["executive"], &["reflector"]] {
        let mut second = node.clone().roles(roles).spawn();
        assert_eq!(second.wait_exit(STOP).code(), Some(1), "{roles:?}");
        let pid = format!("pid {}", holder.pid());
        assert!(second.log().contains(&pid), "{roles:?}: {}", second.log());
    }
    assert!(holder.stop(STOP).success());
}

#[test]
fn an_interrupt_stops_the_node_as_a_termination_does() {
    let mut process = Node::new().start();
    process.signal(libc::SIGINT);
    assert!(process.wait_exit(STOP).success());
}

#[test]
fn a_request_that_is_cut_short_by_a_stop_leaves_time_for_all_that_stops_after_it() {
    // The body does not come, which keeps its request open for a while.
    let node = Node::new().set("node.shutdown_timeout", "2s");
    let mut process = node.start();
    let open = half_a_request(&process.executive_url());
    let status = process.stop(STOP);
    drop(open);
    assert!(status.success(), "ended with {status}");
    let log = process.log();
    let late = log.lines().filter(|line| line.contains("did not stop in time"));
    assert!(late.clone().all(|line| line.contains("executive http")), "{:?}", late.collect::<Vec<_>>());
    for step in ["executive", "poller", "applier", "snapshotter", "reader", "ops"] {
        assert!(log.contains(&format!("stopped step=\"{step}\"")), "{step} has not stopped");
    }
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    let node = Node::new().set("node.shutdown_timeout", "1h");
    let mut process = node.start();
    let (hold, request) = waiting_request(&node, &process);
    process.signal(libc::SIGTERM);
    wait_until("the stop has begun", STOP, || process.log().contains("stopping"));
    process.signal(libc::SIGTERM);
    assert_eq!(process.wait_exit(STOP).code(), Some(130));
    hold.release();
    request.join().unwrap();
}

/// A complete write request that waits for the ctldb's lock, and the hold on that lock.
fn waiting_request(node: &Node, process: &NodeProcess) -> (Hold, JoinHandle<()>) {
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let hold = Hold::on(&format!("sqlite:{}", node.data_dir().join("ctldb.db").display()));
    let request = thread::spawn(move || drop(client.try_mutate("fam", &upserts("tab", &[(1, "waits")]))));
    let is_waiting = || role_status(&process.ops_url(), "executive")["details"]["committing"] == 1;
    wait_until("the write waits for the lock", STOP, is_waiting);
    (hold, request)
}

/// A request whose body the server has asked for, and which never comes.
fn half_a_request(executive: &str) -> TcpStream {
    let address = executive.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("POST /families/fam/mutations HTTP/1.1\r\nHost: {address}\r\nContent-Length: 10\r\n");
    write!(stream, "{head}Expect: 100-continue\r\n\r\n").unwrap();
    let mut go_on = [0; 12];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    stream
}
