//! The tests' own servers and databases work as the other tests expect.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::wait::{wait_for, wait_until};
use support::{Flavour, PrivateServer, every_ctldb, http, mariadb, process};

#[test]
fn every_ctldb_takes_statements_and_gives_rows_back() {
    for (name, database) in every_ctldb() {
        database.query("CREATE TABLE t (a INTEGER, b TEXT)");
        database.query("INSERT INTO t VALUES (1, 'one'), (2, NULL)");
        let rows = database.query("SELECT a, b FROM t ORDER BY a");
        let expected = vec![vec![Some("1".to_owned()), Some("one".to_owned())], vec![Some("2".to_owned()), None]];
        assert_eq!(rows, expected, "{name}");
        assert_eq!(database.value("SELECT COUNT(*) FROM t").as_deref(), Some("2"), "{name}");
    }
}

#[test]
fn a_database_is_gone_after_its_test() {
    let first = mariadb();
    let name = first.url.rsplit('/').next().expect("a database in the url").to_owned();
    let listed = format!("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{name}'");
    let second = mariadb();
    assert_eq!(second.value(&listed).as_deref(), Some("1"));
    drop(first);
    assert_eq!(second.value(&listed).as_deref(), Some("0"));
}

#[test]
fn a_private_server_keeps_its_data_and_port_when_stopped_killed_and_started_again() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    let port = server.port();
    server.execute("CREATE DATABASE kept");
    server.execute("CREATE TABLE kept.t (a INTEGER PRIMARY KEY)");
    server.execute("INSERT INTO kept.t VALUES (1)");
    server.restart();
    server.execute("INSERT INTO kept.t VALUES (2)");
    server.kill9();
    assert!(support::sql::query(&server.url("kept"), "SELECT 1").is_err(), "a killed server answers nothing");
    server.start_again();
    assert_eq!(server.port(), port);
    assert_eq!(server.execute("SELECT COUNT(*) FROM kept.t"), vec![vec![Some("2".to_owned())]]);
}

#[test]
fn nothing_outlives_a_test_binary_that_is_killed() {
    const REPORT: &str = "CTLSTORE_TEST_REPORT_TO";
    if let Some(report) = std::env::var_os(REPORT) {
        return hold_a_process_and_a_directory(Path::new(&report));
    }
    let directory = support::scratch_dir();
    let report = directory.path().join("report");
    let mut binary = support::one_test(concat!(module_path!(), "::nothing_outlives_a_test_binary_that_is_killed"));
    binary.env(REPORT, &report);
    let mut binary = process::spawn(binary);
    let held = wait_for("the inner binary reports", Duration::from_secs(30), || {
        let text = std::fs::read_to_string(&report).ok()?;
        text.strip_suffix('\n')
            .and_then(|line| line.split_once(' '))
            .map(|(pid, path)| (pid.to_owned(), path.to_owned()))
    });
    let (process_entry, held_directory) = (Path::new("/proc").join(held.0), Path::new(&held.1));
    assert!(process_entry.exists() && held_directory.exists());
    binary.kill().expect("kill the inner binary");
    binary.wait().expect("reap the inner binary");
    wait_until("process and directory are gone", Duration::from_secs(20), || {
        !held_directory.exists() && !is_running(&process_entry)
    });
}

fn hold_a_process_and_a_directory(report: &Path) {
    let directory = support::scratch_dir();
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut child = process::spawn(command);
    std::fs::write(report, format!("{} {}\n", child.id(), directory.path().display())).expect("report");
    child.wait().expect("the child sleeps until this process is killed");
}

/// A killed orphan may stay a zombie if no process reaps it, as in a container without an init.
fn is_running(process_entry: &Path) -> bool {
    std::fs::read_to_string(process_entry.join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn an_exchange_with_nobody_is_an_error_and_not_an_answer() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
    assert!(http::exchange("GET", &format!("http://127.0.0.1:{port}/"), &[], "").is_err());
}
