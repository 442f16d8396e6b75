//! `status` and `tail-ledger`: they print the state of a node and of its ctldb.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::fixture::{Stage, alone, binary};
use support::{process, sql};

#[test]
fn status_shows_every_actor_once_in_a_pipe() {
    let stage = Stage::furnished();
    stage.caught_up();
    let status = stage.run(&["status"]).ok();
    let roles: Vec<Vec<&str>> = status.lines().map(|line| line.split('\t').collect()).collect();
    let names: Vec<&str> = roles.iter().map(|role| role[0]).collect();
    assert_eq!(names, ["executive", "poller", "applier", "reader"]);
    assert!(roles.iter().all(|role| role.len() == 5 && role[1] == "running"), "{status}");
    let json = stage.run(&["status", "--json"]).json();
    assert_eq!((&json["ready"], json["roles"].as_array().unwrap().len()), (&true.into(), 4));
    let away = alone(&["status", "--ops", "127.0.0.1:1"]).fails(5);
    assert!(away.starts_with("the node at http://127.0.0.1:1 can't be reached: Connection refused"), "{away}");
}

#[test]
fn the_ledger_s_last_rows_are_printed_from_settings_or_a_url() {
    let stage = Stage::furnished();
    let row = |name: &str| {
        let name = format!("name={name}");
        stage.run(&["mutate", "-f", "shop", "-t", "flags", "--set", &name, "--set", "on=1", "--null", "raw"]).ok();
    };
    row("one\ttwo");
    row("three");
    let ctldb = stage.ctldb_url();
    let tail = |arguments: &[&str]| stage.run(&[&["tail-ledger", "--ctldb", &ctldb], arguments].concat()).ok();
    let lines = tail(&[]);
    let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.iter().map(|line| line[0]).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(lines[0][2].starts_with("CREATE TABLE shop___flags ("), "{lines:?}");
    assert_eq!(lines[1][2], r#"REPLACE INTO shop___flags ("name","on","raw") VALUES('one\ttwo',1,NULL)"#);
    assert_eq!(tail(&["-n", "1"]).lines().count(), 1);
    assert_eq!(tail(&["--after", "1"]).lines().count(), 2);
    let last = tail(&["-n", "2", "--json"]);
    let first: serde_json::Value = serde_json::from_str(last.lines().next().unwrap()).unwrap();
    assert_eq!(first["statement"], "REPLACE INTO shop___flags (\"name\",\"on\",\"raw\") VALUES('one\ttwo',1,NULL)");

    stage.write("node.toml", &format!("ctldb.url = {ctldb:?}\n"));
    assert_eq!(stage.run(&["tail-ledger", "--config", "node.toml", "-n", "1"]).ok(), tail(&["-n", "1"]));
    let away = stage.run(&["tail-ledger", "--ctldb", "sqlite:nowhere.db"]).fails(5);
    assert!(away.starts_with("ctldb is not available: nowhere.db: "), "{away}");
    sql::query(&format!("sqlite:{}", stage.path("other.db").display()), "CREATE TABLE t (a)").unwrap();
    let other = stage.run(&["tail-ledger", "--ctldb", "sqlite:other.db"]).fails(3);
    assert_eq!(other, "ctldb has no ledger table ctlstore_dml_ledger");
    let bad = stage.run(&["tail-ledger", "--ctldb", "postgres://x"]).fails(2);
    assert_eq!(bad, "--ctldb: neither sqlite:PATH nor mysql://user:password@host:port/database");
}

#[test]
fn the_ledger_of_a_server_is_followed_as_it_grows() {
    let database = support::mariadb();
    let stage = Stage::with(|node| node.ctldb(&database.url)).furnish();
    let mut command = Command::new(binary());
    command.args(["tail-ledger", "--ctldb", &database.url, "--after", "0", "-f"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = process::spawn(command);
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert!(next().contains("CREATE TABLE shop___flags"));
    for name in ["one", "two"] {
        let set = format!("name={name}");
        stage.run(&["mutate", "-f", "shop", "-t", "flags", "--set", &set, "--set", "on=1", "--null", "raw"]).ok();
        assert!(next().contains(name));
    }
    child.kill().expect("end the command");
    child.wait().expect("wait for the command");
}
